"""Sends a request for every operation that reads, made from the vendor's documents alone.

Ids come from the lists of the parents, as a client that explores the API would find them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import requests

from st_pipelines.sandbox.server import Sandbox
from st_pipelines_tests.deadlines import DEADLINE
from st_pipelines_tests.judges.documents import Operation, find_operation, read_operations

TENANT = "{tenant}"
PARENTS: Mapping[str, str] = {
    "/crm/v2/tenant/{tenant}/booking-provider": "/crm/v2/tenant/{tenant}/booking-provider-tags",
    "/forms/v2/tenant/{tenant}/jobs": "/jpm/v2/tenant/{tenant}/jobs",
    "/jpm/v2/tenant/{tenant}/work-breakdown-structure/projects": "/jpm/v2/tenant/{tenant}/projects",
    "/payroll/v2/tenant/{tenant}/jobs": "/jpm/v2/tenant/{tenant}/jobs",
    "/payroll/v2/tenant/{tenant}/technicians": "/settings/v2/tenant/{tenant}/technicians",
    "/payroll/v2/tenant/{tenant}/employees": "/settings/v2/tenant/{tenant}/employees",
    "/reporting/v2/tenant/{tenant}/report-category": (
        "/reporting/v2/tenant/{tenant}/report-categories"
    ),
    "/sales/v2/tenant/{tenant}/status/estimates": "/sales/v2/tenant/{tenant}/estimates",
    "/schedulingpro/v2/tenant/{tenant}/routers": "/schedulingpro/v2/tenant/{tenant}/schedulers",
    "/customer-interactions/v2/tenant/{tenant}/technician-rating/technician": (
        "/settings/v2/tenant/{tenant}/technicians"
    ),
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
        """Send a request; return None if there is no parent to ask about."""
        path = self._fill(operation.path)
        if path is None:
            return None
        needed = {n: _example(n) for n, p in operation.parameters.items() if p.get("required")}
        return self.get(path, {**needed, **query})

    def get(self, path: str, query: Mapping[str, str]) -> requests.Response:
        """Send a GET request."""
        url = self.sandbox.url + path.replace(TENANT, self.sandbox.tenant_id)
        return self.session.get(url, params=query, allow_redirects=False, timeout=DEADLINE)

    def _fill(self, path: str) -> str | None:
        start, *parts = re.split(r"(\{[^}]+\})", path)
        filled = template = start
        for part in parts:
            if part.startswith("{") and part != TENANT:
                found = self._find_id(template.rstrip("/"), filled.rstrip("/"))
                if found is None:
                    return None
                filled += str(found)
            else:
                filled += part
            template += part
        return filled

    def _find_id(self, template: str, filled: str) -> Any:
        """Return the id of the first record of the list at a path."""
        own = find_operation("GET", filled) is not None
        path = filled if own and template not in PARENTS else PARENTS.get(template)
        if path is None:
            return None
        if path not in self._ids:
            self._ids[path] = [*self._list_ids(path)]
        return next(iter(self._ids[path]), None)

    def _list_ids(self, path: str) -> Iterator[Any]:
        response = self.get(path, {})
        if response.status_code != 200:
            return
        body = response.json()
        rows = body["data"] if isinstance(body, dict) else body
        yield from (row["id"] for row in rows or () if isinstance(row, dict) and "id" in row)


def list_reads() -> list[Operation]:
    """Return all operations that read with GET, in alphabetical order."""
    return sorted((o for o in read_operations() if o.method == "GET"), key=lambda o: o.path)


def _example(name: str) -> str:
    return VALUES.get(name, "true")
