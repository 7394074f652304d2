"""The API: one request in, one answer out. Every data request passes through `Api.data`."""

from __future__ import annotations

import random
import re
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import Response

from st_pipelines.catalog.model import Catalog, Endpoint
from st_pipelines.sandbox import feed, records, responses
from st_pipelines.sandbox.access import Gate, RateLimit, Refused
from st_pipelines.sandbox.churn import Churn
from st_pipelines.sandbox.credentials import Credentials
from st_pipelines.sandbox.faults import Faults
from st_pipelines.sandbox.portal import Portal
from st_pipelines.sandbox.selection import BadRequest, read_selection, select
from st_pipelines.sandbox.world import World

Fault = Callable[[Request], Response | None]
"""Looks at a request before anything else does, and may answer it."""

REQUIRED: Mapping[str, tuple[str, ...]] = {
    "settings.business_units_intacct": ("page", "pageSize", "includeTotal"),
    "equipment_systems.installed_equipment_custom_field_types": ("page", "pageSize", "descending"),
    "inventory.return_types": ("activeOnly",),
}
"""Parameters without which a list answers 400, besides dates (facts 3.4, 5.6)."""

ROWS_OF_AN_AGGREGATE = 12
_TENANT = re.compile(r"(?<=/tenant/)[^/]+")
_TEMPLATE = "{tenant}"


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A request that was answered.

    Attributes:
        path: with `{tenant}` in the place of the id.
        query: its parameters.
        status: of the answer.
        tenant: the tenant id in the path, empty where there is none.
    """

    path: str
    query: Mapping[str, str]
    status: int
    tenant: str = ""


@dataclass(frozen=True, kw_only=True)
class Manners:
    """How the server treats its clients.

    Attributes:
        requests_per_second: per tenant; more are answered 429.
        token_seconds: life of a token in real time.
        export_batch: records in one answer of an export; the real number is unknown.
        gzip_level: 0 never packs. Level 1 costs some 10 ms a megabyte.
        live: let the worlds' time pass as the clock's does.
        clock: real time in seconds, for the rate limit and for `live`.
    """

    requests_per_second: float = 60.0
    token_seconds: float = 900
    export_batch: int = 5000
    gzip_level: int = 0
    live: bool = False
    clock: Callable[[], float] = time.monotonic


@dataclass
class Log:
    """What was asked for so far."""

    seen: deque[Seen] = field(default_factory=lambda: deque(maxlen=100_000))
    counts: Counter[str] = field(default_factory=Counter)

    def note(self, seen: Seen) -> None:
        """Count a request."""
        self.seen.append(seen)
        self.counts[seen.path] += 1


class Api:
    """Answers for all tenants of one app."""

    def __init__(
        self, *, catalog: Catalog, worlds: Mapping[str, World],
        tenants: Mapping[str, Credentials], scopes: tuple[str, ...], manners: Manners,
        played: Faults, churn: Churn, portal: Portal | None = None,
    ) -> None:  # fmt: skip
        self.worlds = worlds
        self.log = Log()
        self.faults: list[Fault] = []
        self.gate = Gate(tenants, scopes, manners.token_seconds, portal)
        self._portal = portal or Portal()
        self.limit = RateLimit(manners.requests_per_second, manners.clock)
        self._manners = manners
        self.played = played
        self.churn = churn
        self._moved = manners.clock()
        self._lists: dict[str, list[Endpoint]] = {}
        self._feeds: dict[str, Endpoint] = {}
        for endpoint in catalog:
            self._register(endpoint)

    def _register(self, endpoint: Endpoint) -> None:
        if endpoint.is_feed:
            self._feeds[endpoint.path] = endpoint
            return
        self._lists.setdefault(endpoint.path, []).append(endpoint)
        if endpoint.export:
            self._feeds[endpoint.export.path] = endpoint

    async def token(self, request: Request) -> Response:
        """POST /connect/token."""
        play = self.played.draw(token=True)
        response = self._fault(request) or await self._token(request)
        if play is not None:
            response = play(request, response)
        self._date(response)
        self.log.note(Seen(path="/connect/token", query={}, status=response.status_code))
        return response

    async def _token(self, request: Request) -> Response:
        kind = request.headers.get("content-type", "")
        if not kind.startswith("application/x-www-form-urlencoded"):
            return responses.json_response({"error": "invalid_request"}, 400)
        form = dict(parse_qsl((await request.body()).decode()))
        try:
            issued = self.gate.issue(form, request.headers.get("authorization", ""))
        except Refused as refused:
            return responses.json_response({"error": refused.message}, refused.status)
        return responses.json_response(issued, headers={"Cache-Control": "no-store"})

    async def data(self, request: Request) -> Response:
        """Any other request."""
        path = request.url.path
        match = _TENANT.search(path)
        tenant = match.group() if match else ""
        template = _TENANT.sub(_TEMPLATE, path, count=1)
        query = dict(request.query_params)
        play = self.played.draw(token=False)
        response = self._fault(request) or self._answer(request, template, tenant, query)
        if play is None:
            accepted = request.headers.get("accept-encoding", "")
            response = responses.packed(response, accepted, self._manners.gzip_level)
        else:
            response = play(request, response)
        self._date(response)
        self.log.note(Seen(path=template, query=query, status=response.status_code, tenant=tenant))
        return response

    def _date(self, response: Response) -> None:
        if date := self._portal.date:
            response.headers["Date"] = date

    def _fault(self, request: Request) -> Response | None:
        answered = (fault(request) for fault in self.faults)
        return next((answer for answer in answered if answer is not None), None)

    def _answer(
        self, request: Request, template: str, tenant: str, query: Mapping[str, str]
    ) -> Response:
        known = template in self._feeds or template in self._lists
        if request.method != "GET" or not known or tenant not in self.worlds:
            return responses.gateway(404, responses.NO_OPERATION)
        headers = request.headers
        try:
            scopes = self.gate.check(
                headers.get("authorization", ""), headers.get("st-app-key", ""), tenant
            )
        except Refused as refused:
            return responses.gateway(refused.status, refused.message or responses.NO_OPERATION)
        wait = self.limit.wait(tenant)
        if wait > 0:
            return responses.too_many(wait)
        try:
            return self._serve(template, tenant, query, scopes)
        except BadRequest as error:
            return responses.bad_request(error)

    def _serve(
        self, template: str, tenant: str, query: Mapping[str, str], scopes: frozenset[str]
    ) -> Response:
        of_feed = self._feeds.get(template)
        endpoint = of_feed or self._choose(self._lists[template], query)
        if endpoint.scope not in scopes:
            # Seen without a body (facts 1.10).
            return Response(status_code=403)
        if self._manners.live:
            self._let_time_pass()
        world = self.worlds[tenant]
        self.churn.stir(world, endpoint)
        with world.lock:
            if of_feed:
                batch = self._manners.export_batch
                table = world.table(endpoint.table)
                return responses.json_response(feed.answer(table, query, world.now_ticks, batch))
            raws = _aggregate(world, endpoint, query) if endpoint.by_day else _list(
                world, endpoint, query
            )  # fmt: skip
            return responses.json_response(responses.listed(endpoint, query, raws, tenant))

    @staticmethod
    def _choose(endpoints: list[Endpoint], query: Mapping[str, str]) -> Endpoint:
        """The endpoint of a path that several share, by the parameter that tells them apart."""
        if len(endpoints) == 1:
            return endpoints[0]
        for endpoint in endpoints:
            if all(query.get(name) == value for name, value in endpoint.params.items()):
                return endpoint
        name = next(iter(endpoints[0].params))
        raise BadRequest(name, f"The {name} field is required.")

    def _let_time_pass(self) -> None:
        passed = self._manners.clock() - self._moved
        if passed < 1:
            return
        self._moved += passed
        for world in self.worlds.values():
            world.move(timedelta(seconds=passed))


def _list(world: World, endpoint: Endpoint, query: Mapping[str, str]) -> list[bytes]:
    for name in REQUIRED.get(endpoint.table, ()):
        if name not in query:
            raise BadRequest(name, f"The {name} field is required.")
    table = world.table(endpoint.table)
    selection = read_selection(endpoint, query)
    return table.cached(
        ("raws", selection), lambda: [table.raws[at] for at in select(table, selection)]
    )


def _aggregate(world: World, endpoint: Endpoint, query: Mapping[str, str]) -> list[bytes]:
    """Rows that sum up the window that is asked for: the same for the same window."""
    asked = endpoint.date_filter
    window = [] if asked is None else [asked.lower, asked.upper]
    for name in window:
        if name not in query:
            raise BadRequest(name, f"The {name} field is required.")
    read_selection(endpoint, query)
    seed = ":".join(query[name] for name in window)
    filler = world.filler(endpoint, random.Random(f"{world.seed}:{endpoint.table}:{seed}"))
    rows = filler.dicts(endpoint.columns, ROWS_OF_AN_AGGREGATE)
    return [records.encode(row) for row in rows]
