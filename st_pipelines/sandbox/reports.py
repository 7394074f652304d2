"""Serves reports as ServiceTitan's reporting API does: both contracts, limits and maintenance.

`report_definitions` says which reports there are. A request for a page of data is a run of its
report. docs/sandbox.md lists what is not documented, and what the sandbox does in these cases.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from st_pipelines.sandbox import records, responses
from st_pipelines.sandbox.computed import (
    Call,
    Operation,
    Refusal,
    TooEarly,
    build_page,
)
from st_pipelines.sandbox.control_body import COUNT, FLAG, SECONDS, answers_bad_values, read_body
from st_pipelines.sandbox.parameters import BadRequest
from st_pipelines.sandbox.report_definitions import DYNAMIC_SETS, Report, build_reports
from st_pipelines.sandbox.report_parameters import describe, list_fields, read_values
from st_pipelines.sandbox.stories.reporting import CATEGORIES
from st_pipelines.sandbox.world import World

READ_REPORTS = "tn.rpr.reports:r"
READ_SETS = "tn.rpr.dynamicvaluesets:r"

LARGEST_PAGE = 25_000
LARGEST_LIST = 5_000
INLINE_SECONDS = 10
"""A report that takes longer is answered with 202 and a token."""

MAINTENANCE = "The service is suspended for maintenance. Please try again later."
_BASE = "/reporting/v2/tenant/{tenant}"
_REPORTS = f"{_BASE}/report-category/{{report_category}}/reports"


@dataclass(kw_only=True)
class ReportSettings:
    """How reports behave. Assign to a member, or send `POST /_sandbox/reports`.

    Attributes:
        interval_seconds: after a run, the same report is refused for so long.
        running_seconds: how long a run takes. Only the asynchronous contract shows it.
        slots: how many asynchronous runs of a tenant may be in progress.
        maintenance: whether reports are suspended for maintenance.
        as_observed: whether the asynchronous contract answers as two clients have seen it in 2026,
            rather than as documented: members in PascalCase, and all rows on one page.
    """

    interval_seconds: float = 60
    running_seconds: float = 0
    slots: int = 3
    maintenance: bool = False
    as_observed: bool = False


_SETTINGS = {
    "interval_seconds": SECONDS,
    "running_seconds": SECONDS,
    "slots": COUNT,
    "maintenance": FLAG,
    "as_observed": FLAG,
}
"""What another process may assign to the members of `ReportSettings`."""


@dataclass(frozen=True, kw_only=True)
class Query:
    """An asynchronous run: its tenant, when it is ready, and its result."""

    tenant: str
    ready_at: float
    body: bytes


class Reports:
    """The reports of all tenants.

    Attributes:
        settings: may be changed at any time.

    Args:
        worlds: the tenants' records.
        clock: returns real time in seconds, for limits and the length of runs.
    """

    def __init__(
        self, worlds: Mapping[str, World], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.settings = ReportSettings()
        self._clock = clock
        self._skipped = 0.0
        self._reports = {
            tenant: {report.id: report for report in build_reports(world)}
            for tenant, world in worlds.items()
        }
        self._last_runs: dict[tuple[str, int], float] = {}
        self._queries: dict[str, Query] = {}

    def list(self, tenant: str) -> Sequence[Report]:
        """Return a tenant's reports."""
        return list(self._reports[tenant].values())

    def add(self, tenant: str, report: Report) -> None:
        """Add a report to a tenant, or replace the one with the same id."""
        self._reports[tenant][report.id] = report

    def remove(self, tenant: str, identity: int) -> None:
        """Remove a report. Requests for it get a 404."""
        del self._reports[tenant][identity]

    def skip(self, seconds: float) -> None:
        """Let time pass for the limits and for runs in progress, without waiting."""
        self._skipped += seconds

    def build_operations(self) -> tuple[Operation, ...]:
        """Build the operations of the API."""
        report, queries = f"{_REPORTS}/{{reportId}}", f"{_BASE}/data-queries/{{token}}"
        sets = f"{_BASE}/dynamic-value-sets/{{dynamicSetId}}"
        return (
            _operate("GET", _REPORTS, self._list_reports),
            _operate("GET", report, self._describe_report),
            _operate("POST", f"{report}/data", self._run),
            _operate("POST", f"{report}/data/query", self._start),
            _operate("GET", queries, self._poll),
            _operate("DELETE", queries, self._cancel),
            _operate("GET", sets, _list_dynamic_set, READ_SETS),
        )

    def build_routes(self) -> tuple[Route, ...]:
        """Build the control route, which ServiceTitan does not have. It needs no token."""
        endpoint = answers_bad_values(self._change_settings)
        return (Route("/_sandbox/reports", endpoint, methods=["POST"]),)

    async def _change_settings(self, request: Request) -> Response:
        body = await read_body(request, {**_SETTINGS, "skip_seconds": SECONDS})
        self.skip(body.pop("skip_seconds", 0))
        for name, value in body.items():
            setattr(self.settings, name, value)
        return responses.build_json_response(asdict(self.settings))

    def _list_reports(self, call: Call) -> Response:
        category = _read_category(call)
        rows = [
            {"id": report.id, "name": report.name, "description": report.description}
            for report in self._reports[call.tenant].values()
            if report.category == category
        ]
        page = build_page(call, rows, default_size=50, largest_size=LARGEST_LIST)
        return responses.build_json_response(page)

    def _describe_report(self, call: Call) -> Response:
        return responses.build_json_response(describe(self._find(call)))

    def _find(self, call: Call) -> Report:
        category, identity = _read_category(call), call.path["reportId"]
        if not identity.isdecimal():
            raise BadRequest("reportId", f"The value '{identity}' is not valid.")
        report = self._reports[call.tenant].get(int(identity))
        if report is None or report.category != category:
            raise Refusal(404, f"There is no report {identity} in the category '{category}'.")
        return report

    def _now(self) -> float:
        return self._clock() + self._skipped

    def _run(self, call: Call) -> Response:
        """Answer the synchronous contract."""
        report, rows = self._compute(call)
        return responses.build_json_response(_build_body(call, report, rows))

    def _compute(self, call: Call) -> tuple[Report, list[Sequence[Any]]]:
        """Run a report once, unless that is refused. Return it with all its rows."""
        self._refuse_maintenance()
        report = self._find(call)
        values = read_values(report, call.read_body())
        _build_body(call, report, ())  # an invalid page is refused before the run counts
        self._count_run(call.tenant, report)
        empty = {each.name: 0 if each.data_type == "Number" else None for each in report.fields}
        rows = report.compute(call.world, values)
        return report, [[row.get(name, value) for name, value in empty.items()] for row in rows]

    def _refuse_maintenance(self) -> None:
        if self.settings.maintenance:
            raise Refusal(409, MAINTENANCE)

    def _count_run(self, tenant: str, report: Report) -> None:
        """Count a run of a report, unless it is too early for one."""
        now, key = self._now(), (tenant, report.id)
        last = self._last_runs.get(key, -math.inf)
        if now - last < self.settings.interval_seconds:
            raise TooEarly(last + self.settings.interval_seconds - now)
        self._last_runs[key] = now

    def _start(self, call: Call) -> Response:
        """Answer the start of the asynchronous contract."""
        call.read_flag("notifyWhenReady")  # the sandbox sends no webhooks
        self._refuse_without_slot(call.tenant)
        report, rows = self._compute(call)
        observed = self.settings.as_observed
        body = _build_observed_body(report, rows) if observed else _build_body(call, report, rows)
        if self.settings.running_seconds <= INLINE_SECONDS:
            return responses.build_json_response(body)
        token, ready_at = uuid4().hex, self._now() + self.settings.running_seconds
        self._queries[token] = Query(tenant=call.tenant, ready_at=ready_at, body=body)
        return _build_pending("NotStarted", token)

    def _refuse_without_slot(self, tenant: str) -> None:
        now = self._now()
        queries = self._queries.values()
        waits = [query.ready_at - now for query in queries if query.tenant == tenant]
        if len(running := [wait for wait in waits if wait > 0]) >= self.settings.slots:
            raise TooEarly(min(running, default=1))

    def _find_query(self, call: Call) -> Query:
        query = self._queries.get(call.path["token"])
        if query is None or query.tenant != call.tenant:
            raise Refusal(404, "There is no such report data query.")
        return query

    def _poll(self, call: Call) -> Response:
        self._refuse_maintenance()
        query = self._find_query(call)
        if query.ready_at > self._now():
            return _build_pending("InProgress", call.path["token"])
        return responses.build_json_response(query.body)

    def _cancel(self, call: Call) -> Response:
        self._find_query(call)
        del self._queries[call.path["token"]]
        return Response(status_code=204)


def _operate(
    method: str, path: str, answer: Callable[[Call], Response], scope: str = READ_REPORTS
) -> Operation:
    return Operation(method=method, path=path, scope=scope, answer=answer)


def _read_category(call: Call) -> str:
    category = call.path["report_category"]
    if category not in CATEGORIES:
        raise Refusal(404, f"There is no report category '{category}'.")
    return category


def _build_body(call: Call, report: Report, rows: Sequence[Sequence[Any]]) -> bytes:
    page = build_page(call, rows, default_size=1000, largest_size=LARGEST_PAGE)
    return records.encode({**page, "fields": list_fields(report)})


def _build_observed_body(report: Report, rows: Sequence[Sequence[Any]]) -> bytes:
    """Build what two clients have seen: PascalCase, all rows on one page, and a time zone."""
    listed = [{"Name": each.name, "Label": each.label} for each in report.fields]
    body = {"Page": 1, "PageSize": len(rows), "HasMore": False, "Fields": listed, "Data": rows}
    return records.encode({**body, "TotalCount": len(rows), "TimeZone": "America/New_York"})


def _build_pending(status: str, token: str) -> Response:
    return responses.build_json_response({"status": status, "token": token}, 202)


def _list_dynamic_set(call: Call) -> Response:
    identity = call.path["dynamicSetId"]
    if identity not in DYNAMIC_SETS:
        raise Refusal(404, f"There is no dynamic value set '{identity}'.")
    dynamic_set = DYNAMIC_SETS[identity]
    rows = dynamic_set.list(call.world)
    page = build_page(call, rows, default_size=50, largest_size=LARGEST_LIST)
    return responses.build_json_response({**page, "fields": dynamic_set.describe()})
