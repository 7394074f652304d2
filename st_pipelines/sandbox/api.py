"""Answers requests. Start at `Api.handle_data` and `Api.handle_token`.

Records come from `world`, bodies from `responses` and `feed`, faults from `faults`.
"""

from __future__ import annotations

import random
import re
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import Response

from st_pipelines.catalog.model import Catalog, Endpoint
from st_pipelines.sandbox import capacity, feed, records, responses
from st_pipelines.sandbox.access import AccessControl, RateLimit, Refused
from st_pipelines.sandbox.churn import Churn
from st_pipelines.sandbox.computed import Call, ComputedOperations, Operation
from st_pipelines.sandbox.credentials import Credentials
from st_pipelines.sandbox.faults import Faults
from st_pipelines.sandbox.portal import Portal
from st_pipelines.sandbox.selection import BadRequest, read_selection, select
from st_pipelines.sandbox.world import World

Interceptor = Callable[[Request], Response | None]
"""Called with a request before the sandbox answers it. A response it returns is sent instead."""

REQUIRED: Mapping[str, tuple[str, ...]] = {
    "settings.business_units_intacct": ("page", "pageSize", "includeTotal"),
    "equipment_systems.installed_equipment_custom_field_types": ("page", "pageSize", "descending"),
    "inventory.return_types": ("activeOnly",),
}
"""Parameters, apart from dates, without which a list responds with 400."""

AGGREGATE_ROWS = 12
_TENANT = re.compile(r"(?<=/tenant/)[^/]+")
_TEMPLATE = "{tenant}"


@dataclass(frozen=True, kw_only=True)
class AnsweredRequest:
    """A request and the status of its response.

    Attributes:
        path: the path, with `{tenant}` instead of the id.
        query: the query parameters.
        status: the HTTP status of the response.
        tenant: the tenant id in the path; empty if the path has none.
    """

    path: str
    query: Mapping[str, str]
    status: int
    tenant: str = ""


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """Limits and options of the server.

    Attributes:
        requests_per_second: limit per tenant; requests beyond it get a 429.
        token_seconds: lifetime of a token, in real time.
        export_batch: records per export response; ServiceTitan's number is not known.
        gzip_level: compression level; 0 turns gzip off, 1 costs about 10 ms per megabyte.
        live: whether simulated time passes as `clock` does.
        simulated_date: whether the `Date` header tells the simulated time instead of the real one.
        clock: returns real time in seconds, for the rate limit and for `live`.
    """

    requests_per_second: float = 60.0
    token_seconds: float = 900
    export_batch: int = 5000
    gzip_level: int = 0
    live: bool = False
    simulated_date: bool = False
    clock: Callable[[], float] = time.monotonic


@dataclass
class RequestLog:
    """The requests answered so far."""

    seen: deque[AnsweredRequest] = field(default_factory=lambda: deque(maxlen=100_000))
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, request: AnsweredRequest) -> None:
        """Add a request and count it."""
        self.seen.append(request)
        self.counts[request.path] += 1


class Api:
    """Answers requests for all tenants of one app."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        worlds: Mapping[str, World],
        tenants: Mapping[str, Credentials],
        scopes: tuple[str, ...],
        options: ServerOptions,
        faults: Faults,
        churn: Churn,
        portal: Portal | None = None,
    ) -> None:
        self.worlds = worlds
        self._computed = ComputedOperations(capacity.OPERATIONS)
        self.log = RequestLog()
        self.interceptors: list[Interceptor] = []
        self.access = AccessControl(tenants, scopes, options.token_seconds, portal)
        self._portal = portal or Portal()
        self.limit = RateLimit(options.requests_per_second, options.clock)
        self._options = options
        self.faults = faults
        self.churn = churn
        self._clock_read = options.clock()
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

    async def handle_token(self, request: Request) -> Response:
        """Answer `POST /connect/token`."""
        fault = self.faults.draw(token=True)
        response = self._intercept(request) or await self._issue_token(request)
        if fault is not None:
            response = fault(request, response)
        self._set_date(response)
        self.log.add(AnsweredRequest(path="/connect/token", query={}, status=response.status_code))
        return response

    async def _issue_token(self, request: Request) -> Response:
        content_type = request.headers.get("content-type", "")
        if not content_type.startswith("application/x-www-form-urlencoded"):
            return responses.build_json_response({"error": "invalid_request"}, 400)
        form = dict(parse_qsl((await request.body()).decode()))
        try:
            issued = self.access.issue(form, request.headers.get("authorization", ""))
        except Refused as refused:
            return responses.build_json_response({"error": refused.message}, refused.status)
        return responses.build_json_response(issued, headers={"Cache-Control": "no-store"})

    async def handle_data(self, request: Request) -> Response:
        """Answer any other request."""
        path = request.url.path
        match = _TENANT.search(path)
        tenant = match.group() if match else ""
        template = _TENANT.sub(_TEMPLATE, path, count=1)
        query = dict(request.query_params)
        body = await request.body()
        fault = self.faults.draw(token=False)
        response = self._intercept(request) or self._respond(request, template, tenant, query, body)
        if fault is None:
            accepted = request.headers.get("accept-encoding", "")
            response = responses.compress(response, accepted, self._options.gzip_level)
        else:
            response = fault(request, response)
        self._set_date(response)
        self.log.add(
            AnsweredRequest(path=template, query=query, status=response.status_code, tenant=tenant)
        )
        return response

    def _set_date(self, response: Response) -> None:
        if self._options.simulated_date:
            now = next(iter(self.worlds.values())).now
            response.headers["Date"] = self._portal.render_date(now)
        elif self._portal.clock_offset:
            response.headers["Date"] = self._portal.render_date(datetime.now(timezone.utc))

    def _intercept(self, request: Request) -> Response | None:
        given = (interceptor(request) for interceptor in self.interceptors)
        return next((response for response in given if response is not None), None)

    def _respond(
        self, request: Request, template: str, tenant: str, query: Mapping[str, str], body: bytes
    ) -> Response:
        computed = self._computed.find(request.method, template)
        listed = template in self._feeds or template in self._lists
        served = computed or (listed and request.method == "GET")
        if not served or tenant not in self.worlds:
            return responses.build_gateway_error(404, responses.NO_OPERATION)
        headers = request.headers
        try:
            scopes = self.access.check(
                headers.get("authorization", ""), headers.get("st-app-key", ""), tenant
            )
        except Refused as refused:
            return responses.build_gateway_error(
                refused.status, refused.message or responses.NO_OPERATION
            )
        wait = self.limit.admit(tenant)
        if wait > 0:
            return responses.build_too_many_requests(wait)
        if computed:
            operation, path = computed
            call = Call(tenant=tenant, world=self.worlds[tenant], path=path, query=query, body=body)
            return self._compute(operation, call, scopes)
        try:
            return self._serve(template, tenant, query, scopes)
        except BadRequest as error:
            return responses.build_bad_request(error)

    def _compute(self, operation: Operation, call: Call, scopes: frozenset[str]) -> Response:
        if operation.scope not in scopes:
            return Response(status_code=403)
        if self._options.live:
            self._follow_clock()
        return self._computed.answer(operation, call)

    def _serve(
        self, template: str, tenant: str, query: Mapping[str, str], scopes: frozenset[str]
    ) -> Response:
        feed_endpoint = self._feeds.get(template)
        endpoint = feed_endpoint or self._choose(self._lists[template], query)
        if endpoint.scope not in scopes:
            # ServiceTitan's 403 has no body.
            return Response(status_code=403)
        if self._options.live:
            self._follow_clock()
        world = self.worlds[tenant]
        self.churn.perturb(world, endpoint)
        with world.lock:
            if feed_endpoint:
                batch = self._options.export_batch
                table = world.table(endpoint.table)
                return responses.build_json_response(
                    feed.build_body(table, query, world.now_ticks, batch)
                )
            raws = (
                _aggregate(world, endpoint, query)
                if endpoint.by_day
                else _list_records(world, endpoint, query)
            )
            return responses.build_json_response(
                responses.build_list_body(endpoint, query, raws, tenant)
            )

    @staticmethod
    def _choose(endpoints: list[Endpoint], query: Mapping[str, str]) -> Endpoint:
        """Choose among endpoints that share a path, by the parameter that distinguishes them."""
        if len(endpoints) == 1:
            return endpoints[0]
        for endpoint in endpoints:
            if all(query.get(name) == value for name, value in endpoint.params.items()):
                return endpoint
        name = next(iter(endpoints[0].params))
        raise BadRequest(name, f"The {name} field is required.")

    def _follow_clock(self) -> None:
        passed = self._options.clock() - self._clock_read
        if passed < 1:
            return
        self._clock_read += passed
        for world in self.worlds.values():
            world.move(timedelta(seconds=passed))


def _list_records(world: World, endpoint: Endpoint, query: Mapping[str, str]) -> list[bytes]:
    for name in REQUIRED.get(endpoint.table, ()):
        if name not in query:
            raise BadRequest(name, f"The {name} field is required.")
    table = world.table(endpoint.table)
    selection = read_selection(endpoint, query)
    return table.get_cached(
        ("raws", selection), lambda: [table.raws[at] for at in select(table, selection)]
    )


def _aggregate(world: World, endpoint: Endpoint, query: Mapping[str, str]) -> list[bytes]:
    """Generate rows for the requested window. Equal windows get equal rows."""
    date_filter = endpoint.date_filter
    window = [] if date_filter is None else [date_filter.lower, date_filter.upper]
    for name in window:
        if name not in query:
            raise BadRequest(name, f"The {name} field is required.")
    read_selection(endpoint, query)
    seed = ":".join(query[name] for name in window)
    filler = world.build_filler(endpoint, random.Random(f"{world.seed}:{endpoint.table}:{seed}"))
    rows = filler.generate_rows(endpoint.columns, AGGREGATE_ROWS)
    return [records.encode(row) for row in rows]
