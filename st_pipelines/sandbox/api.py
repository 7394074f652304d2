"""Answers requests. Start at `Api.handle_data` and `Api.handle_token`.

Lists come from `world`, exports from `feed`, single records and children from `details`, reports
and capacity from `computed`. The request is answered first; a fault then replaces the response.
"""

from __future__ import annotations

import re
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import Response

from st_pipelines.sandbox import capacity, feed, files, responses
from st_pipelines.sandbox.access import AccessControl, RateLimit, Refused
from st_pipelines.sandbox.churn import Churn
from st_pipelines.sandbox.collections import Collection
from st_pipelines.sandbox.computed import Call, ComputedOperations
from st_pipelines.sandbox.credentials import Credentials
from st_pipelines.sandbox.details import Details, NotFound
from st_pipelines.sandbox.faults import Faults
from st_pipelines.sandbox.operations import Route, Router
from st_pipelines.sandbox.parameters import BadRequest, read_query
from st_pipelines.sandbox.portal import Portal
from st_pipelines.sandbox.reports import Reports
from st_pipelines.sandbox.selection import select
from st_pipelines.sandbox.world import World

Interceptor = Callable[[Request], Response | None]
"""Called with a request before the sandbox answers it. A response it returns is sent instead."""

PERFORMANCE = "marketing_ads.performance"
"""Its rows are computed for the window of a request, rather than being records."""

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
        export_timezone: IANA name; a date as `from` of an export is its midnight there. Which time
            zone ServiceTitan takes is not known.
        gzip_level: compression level; 0 turns gzip off, 1 costs about 10 ms per megabyte.
        live: whether simulated time passes as `clock` does.
        simulated_date: whether the `Date` header tells the simulated time instead of the real one.
        clock: returns real time in seconds, for the rate limit and for `live`.
    """

    requests_per_second: float = 60.0
    token_seconds: float = 900
    export_batch: int = 5000
    export_timezone: str = "UTC"
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
        worlds: Mapping[str, World],
        tenants: Mapping[str, Credentials],
        scopes: tuple[str, ...],
        options: ServerOptions,
        faults: Faults,
        churn: Churn,
        portal: Portal | None = None,
    ) -> None:
        self.worlds = worlds
        self.reports = Reports(worlds, options.clock)
        self._computed = ComputedOperations(
            (*capacity.OPERATIONS, *self.reports.build_operations())
        )
        self.log = RequestLog()
        self.interceptors: list[Interceptor] = []
        self.access = AccessControl(tenants, scopes, options.token_seconds, portal)
        self._portal = portal or Portal()
        self.limit = RateLimit(options.requests_per_second, options.clock)
        self._options = options
        self.faults = faults
        self.churn = churn
        self._clock_read = options.clock()
        self._router = Router()
        self._details: dict[str, Details] = {}

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
        response = self._intercept(request) or self._respond(request, template, tenant, body)
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

    def _respond(self, request: Request, template: str, tenant: str, body: bytes) -> Response:
        computed = self._computed.find(request.method, template)
        route = self._router.find(request.method, template)
        found = computed[0] if computed else route and route.operation
        if found is None or tenant not in self.worlds:
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
        if found.scope not in scopes:
            # ServiceTitan's 403 has no body.
            return Response(status_code=403)
        if self._options.live:
            self._follow_clock()
        try:
            if computed:
                operation, path = computed
                query, world = dict(request.query_params), self.worlds[tenant]
                call = Call(tenant=tenant, world=world, path=path, query=query, body=body)
                return self._computed.answer(operation, call)
            assert route is not None
            values = read_query(route.api, route.operation, request.query_params.multi_items())
            return self._serve(route, values, tenant)
        except BadRequest as error:
            return responses.build_bad_request(error)
        except NotFound:
            return responses.build_not_found()

    def _serve(self, route: Route, values: Mapping[str, Any], tenant: str) -> Response:
        world = self.worlds[tenant]
        if route.kind == "collection":
            assert route.collection is not None
            return self._serve_collection(route, route.collection, values, tenant)
        with world.lock:
            details = self._get_details(tenant)
            if route.kind == "file":
                details.find_parent(route)
                return files.answer(route, values, world)
            return details.answer(route, values)

    def _get_details(self, tenant: str) -> Details:
        world = self.worlds[tenant]
        if tenant not in self._details or self._details[tenant].world is not world:
            self._details[tenant] = Details(world, tenant)
        return self._details[tenant]

    def _serve_collection(
        self, route: Route, collection: Collection, values: Mapping[str, Any], tenant: str
    ) -> Response:
        world = self.worlds[tenant]
        if collection.name == PERFORMANCE:
            rows = world.compute_performance(values)
            return responses.build_json_response(
                responses.build_list_body(route.api, route.operation, values, rows, tenant)
            )
        self.churn.perturb(world, collection)
        with world.lock:
            table = world.table(collection.name)
            if route.operation in collection.exports:
                batch, zone = self._options.export_batch, self._options.export_timezone
                return responses.build_json_response(
                    feed.build_body(table, route.operation, values, world.now_ticks, batch, zone)
                )
            positions = select(world.table, table, route.operation, values)
            project = world.find_projection(route.operation.path)

            def render(at: int) -> bytes:
                return project(table.raws[at], active=table.active[at], draw=at)

            return responses.build_json_response(
                responses.build_list_body(
                    route.api, route.operation, values, positions, tenant, render
                )
            )

    def _follow_clock(self) -> None:
        passed = self._options.clock() - self._clock_read
        if passed < 1:
            return
        self._clock_read += passed
        for world in self.worlds.values():
            world.move(timedelta(seconds=passed))
