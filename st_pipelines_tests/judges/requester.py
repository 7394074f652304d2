"""Sends a request for every operation that reads, made from the vendor's documents alone.

Ids come from the lists of the parents, as a client that explores the API would find them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from itertools import islice, repeat
from typing import Any

import requests

from st_pipelines.sandbox.server import Sandbox
from st_pipelines_tests.deadlines import DEADLINE
from st_pipelines_tests.judges.documents import Operation, find_operation, read_operations

TENANT = "{tenant}"
MAX_PARENTS = 40
"""So many records of a list are tried until one has children."""
PARENTS: Mapping[str, str] = {
    "/crm/v2/tenant/{tenant}/booking-provider": "/crm/v2/tenant/{tenant}/booking-provider-tags",
    "/crm/v2/tenant/{tenant}/contacts/relationships": (
        "/crm/v2/tenant/{tenant}/contacts/{id}/relationships"
    ),
    "/forms/v2/tenant/{tenant}/jobs": "/jpm/v2/tenant/{tenant}/jobs",
    "/forms/v2/tenant/{tenant}/jobs/attachment": "/forms/v2/tenant/{tenant}/jobs/{id}/attachments",
    "/memberships/v2/tenant/{tenant}/invoice-templates": (
        "/memberships/v2/tenant/{tenant}/export/invoice-templates"
    ),
    "/jpm/v2/tenant/{tenant}/work-breakdown-structure/projects": "/jpm/v2/tenant/{tenant}/projects",
    "/payroll/v2/tenant/{tenant}/jobs": "/jpm/v2/tenant/{tenant}/jobs",
    "/payroll/v2/tenant/{tenant}/technicians": "/settings/v2/tenant/{tenant}/technicians",
    "/payroll/v2/tenant/{tenant}/employees": "/settings/v2/tenant/{tenant}/employees",
    "/reporting/v2/tenant/{tenant}/report-category": (
        "/reporting/v2/tenant/{tenant}/report-categories"
    ),
    "/sales/v2/tenant/{tenant}/status/estimates": "/sales/v2/tenant/{tenant}/estimates",
    "/schedulingpro/v2/tenant/{tenant}/routers": "/schedulingpro/v2/tenant/{tenant}/schedulers",
}
"""Lists of the parents of operations whose path names a parent that it has no list for."""

VALUES: Mapping[str, str] = {
    "fromUtc": "2026-03-01T00:00:00Z",
    "from": "2026-03-01T00:00:00Z",
    "sessionCreatedOnOrAfter": "2026-03-01T00:00:00Z",
    "toUtc": "2026-03-10T00:00:00Z",
    "to": "2026-03-10T00:00:00Z",
    "sessionCreatedBefore": "2026-03-10T00:00:00Z",
    "performanceSegmentationType": "Campaign",
    "ids": "1,2",
    "codes": "A",
    "page": "1",
    "pageSize": "50",
    "technicianId": "1",
    "appointmentId": "1",
}
"""Values of required parameters."""

VALUE_SETS = "/reporting/v2/tenant/{tenant}/dynamic-value-sets"
REPORT = "/reporting/v2/tenant/{tenant}/report-category/{report_category}/reports/{reportId}"

FILES: Mapping[str, str] = {
    "/equipmentsystems/v2/tenant/{tenant}/installed-equipment/attachments": (
        "/equipmentsystems/v2/tenant/{tenant}/installed-equipment"
    ),
    "/findings/v2/tenant/{tenant}/assets": "/findings/v2/tenant/{tenant}/location-findings",
    "/pricebook/v2/tenant/{tenant}/images": "/pricebook/v2/tenant/{tenant}/services",
}
"""Lists whose records name the files that an operation serves."""

ONE_OF: Mapping[str, Mapping[str, str]] = {
    f"/crm/v2/tenant/{{tenant}}/{parent}/contacts": {"modifiedOnOrAfter": "2020-01-01T00:00:00Z"}
    for parent in ("customers", "locations")
}
"""What lists need that require one of several parameters."""


class Requester:
    """Sends requests to a sandbox, and remembers the ids that its lists show."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self._ids: dict[str, list[Any]] = {}

    @cached_property
    def session(self) -> requests.Session:
        session = requests.Session()
        form = {
            "grant_type": "client_credentials",
            "client_id": self.sandbox.client_id,
            "client_secret": self.sandbox.client_secret,
        }
        response = requests.post(f"{self.sandbox.url}/connect/token", data=form, timeout=DEADLINE)
        session.headers["ST-App-Key"] = self.sandbox.app_key
        session.headers["Authorization"] = response.json()["access_token"]
        return session

    def send(self, operation: Operation, **query: str) -> requests.Response | None:
        """Send a request; return None if there is no parent to ask about.

        Not every record has what some operations serve, such as a recording: those answer 404.
        """
        needed = {n: _example(n) for n, p in operation.parameters.items() if p.get("required")}
        needed = {**needed, **ONE_OF.get(operation.path, {}), **query}
        response = None
        for path in islice(self._fill(operation.path), MAX_PARENTS):
            for file in self._find_files(operation):
                response = self.get(path, {**needed, **file})
                if response.status_code != 404:
                    return response
        return response

    def get(self, path: str, query: Mapping[str, str]) -> requests.Response:
        """Send a GET request."""
        url = self.sandbox.url + path.replace(TENANT, self.sandbox.tenant_id)
        return self.session.get(url, params=query, allow_redirects=False, timeout=DEADLINE)

    def _fill(self, path: str) -> Iterator[str]:
        """Yield the paths with the ids of existing records in place of the parameters."""
        start, *parts = re.split(r"(\{[^}]+\})", path)
        template = start
        ways: Iterator[str] = iter([start])
        for part in parts:
            if part.startswith("{") and part != TENANT:
                ways = self._extend(ways, template.rstrip("/"))
            else:
                ways = (way + text for way, text in zip(ways, repeat(part)))
            template += part
        return ways

    def _extend(self, ways: Iterator[str], template: str) -> Iterator[str]:
        for way in ways:
            if template == VALUE_SETS:
                yield from (f"{way}{found}" for found in self._find_value_sets())
                return
            if template in PARENTS:
                lists = self._fill(PARENTS[template])
            elif find_operation("GET", template.replace("{", "").replace("}", "")):
                lists = iter([way.rstrip("/")])
            else:
                return
            for path in islice(lists, MAX_PARENTS):
                for found in islice(self.read_ids(path), MAX_PARENTS):
                    yield f"{way}{found}"

    def _find_files(self, operation: Operation) -> Iterator[dict[str, str]]:
        """Yield the parameter that names a file, from records that have files."""
        if "path" not in operation.parameters:
            yield {}
            return
        body = self.get(FILES[operation.path], {"pageSize": "500"}).text
        for found in islice(re.finditer(r'"(?:url|path|alias|fileName)":"([^"]+)"', body), 60):
            yield {"path": found.group(1)}
        yield {"path": "made-up.pdf"}

    def _find_value_sets(self) -> Iterator[str]:
        """Yield the ids of the sets that the reports' parameters name."""
        for path in islice(self._fill(REPORT), MAX_PARENTS):
            yield from re.findall(r'"dynamicSetId":"([^"]+)"', self.get(path, {}).text)

    def read_ids(self, path: str) -> list[Any]:
        """Return the ids of the records of a list."""
        if path not in self._ids:
            self._ids[path] = [*self._list_ids(path)]
        return self._ids[path]

    def _list_ids(self, path: str) -> Iterator[Any]:
        response = self.get(path, {})
        if response.status_code != 200:
            return
        body = response.json()
        rows = body["data"] if isinstance(body, dict) else body
        for row in rows or ():
            if isinstance(row, dict) and ("id" in row or "name" in row):
                yield row.get("id", row.get("name"))


def list_reads() -> list[Operation]:
    """Return all operations that read with GET, in alphabetical order."""
    return sorted((o for o in read_operations() if o.method == "GET"), key=lambda o: o.path)


def _example(name: str) -> str:
    return VALUES.get(name, "true")
