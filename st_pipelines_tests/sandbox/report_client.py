"""Runs reports over HTTP, on a sandbox whose clock the test moves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import requests

from st_pipelines.sandbox.report_definitions import Report
from st_pipelines.sandbox.server import Sandbox
from st_pipelines_tests.sandbox.client import Client
from st_pipelines_tests.sandbox.conftest import NO_LIMIT, NOW

REPORTING = "/reporting/v2/tenant/{tenant}"
ALWAYS = {"From": "2020-01-01", "To": "2030-12-31"}


class ReportClient(Client):
    """A client of one tenant. `seconds` is the time of the sandbox's clock."""

    def __init__(self, sandbox: Sandbox, tenant: int = 0) -> None:
        super().__init__(sandbox)
        self.credentials = sandbox.tenants[tenant]
        token = self.request_token(
            client_id=self.credentials.client_id, client_secret=self.credentials.client_secret
        )
        self.session.headers["Authorization"] = token.json()["access_token"]

    def url(self, path: str) -> str:
        return self.sandbox.url + path.replace("{tenant}", self.credentials.tenant_id)

    def find_report(self, name: str) -> Report:
        """Find a report by the beginning of its name."""
        reports = self.sandbox.reports.list(self.credentials.tenant_id)
        return next(report for report in reports if report.name.startswith(name))

    def path_of(self, report: Report) -> str:
        return f"{REPORTING}/report-category/{report.category}/reports/{report.id}"

    def post(
        self, report: Report, values: dict[str, Any], *, query: bool = False, **paging: Any
    ) -> requests.Response:
        """Run a report; `query` chooses the asynchronous contract."""
        path = self.path_of(report) + ("/data/query" if query else "/data")
        body = {"parameters": [{"name": n, "value": v} for n, v in values.items()]}
        return self.session.post(self.url(path), params=paging, json=body)

    def poll(self, token: str) -> requests.Response:
        return self.get(f"{REPORTING}/data-queries/{token}")

    def cancel(self, token: str) -> requests.Response:
        return self.session.delete(self.url(f"{REPORTING}/data-queries/{token}"))

    def read_rows_of(self, report: Report, **values: Any) -> list[dict[str, Any]]:
        """Run a report and name the values of its rows."""
        response = self.post(report, {**ALWAYS, **values}, pageSize=25_000)
        assert response.status_code == 200, response.text
        body = response.json()
        assert not body["hasMore"]
        names = [each["name"] for each in body["fields"]]
        return [dict(zip(names, row, strict=True)) for row in body["data"]]


class Clock:
    """The time that the sandbox's limits see."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@contextmanager
def open_reports(clock: Clock, *, tenants: int = 1, **options: Any) -> Iterator[ReportClient]:
    """Start a small sandbox and connect to its first tenant."""
    given = {"customers": 40, "now": NOW, "requests_per_second": NO_LIMIT, **options}
    with Sandbox(**given, tenants=tenants, clock=clock) as sandbox:
        yield ReportClient(sandbox)


def rename_field(report: Report, old: str, new: str) -> Report:
    """Return a report whose column has another name, as after an edit in ServiceTitan."""
    fields = tuple(replace(f, name=new) if f.name == old else f for f in report.fields)
    return replace(report, fields=fields)
