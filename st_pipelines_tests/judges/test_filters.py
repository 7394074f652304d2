"""Every filter that twenty lists declare selects some of the sandbox's records, and not all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import pytest

from st_pipelines.sandbox.server import Sandbox
from st_pipelines_tests.conftest import NOW
from st_pipelines_tests.judges.documents import Operation, find_operation, needs_documents
from st_pipelines_tests.judges.filter_values import (
    EVERYTHING,
    MAX_VALUES,
    REFERENCES,
    choose_queries,
    list_filters,
)
from st_pipelines_tests.judges.requester import ONE_OF, Requester

pytestmark = needs_documents
LISTS = (
    "/accounting/v2/tenant/{tenant}/ap-bills",
    "/accounting/v2/tenant/{tenant}/invoices",
    "/accounting/v2/tenant/{tenant}/payments",
    "/crm/v2/tenant/{tenant}/bookings",
    "/crm/v2/tenant/{tenant}/customers",
    "/crm/v2/tenant/{tenant}/leads",
    "/crm/v2/tenant/{tenant}/locations",
    "/dispatch/v2/tenant/{tenant}/appointment-assignments",
    "/dispatch/v2/tenant/{tenant}/non-job-appointments",
    "/inventory/v2/tenant/{tenant}/purchase-orders",
    "/inventory/v2/tenant/{tenant}/vendors",
    "/jpm/v2/tenant/{tenant}/appointments",
    "/jpm/v2/tenant/{tenant}/jobs",
    "/jpm/v2/tenant/{tenant}/projects",
    "/memberships/v2/tenant/{tenant}/memberships",
    "/payroll/v2/tenant/{tenant}/gross-pay-items",
    "/pricebook/v2/tenant/{tenant}/services",
    "/sales/v2/tenant/{tenant}/estimates",
    "/settings/v2/tenant/{tenant}/technicians",
    "/taskmanagement/v2/tenant/{tenant}/tasks",
    "/timesheets/v2/tenant/{tenant}/activities",
)

CANNOT_SPLIT: Mapping[str, Mapping[str, str]] = {
    "/accounting/v2/tenant/{tenant}/payments": {
        "transactionType": "no member of a payment says what it is in the accounting software",
    },
}
"""By list, filters by what no document says of its records, and why. Add nothing else."""


@pytest.fixture(scope="module")
def requester() -> Iterator[Requester]:
    with Sandbox(customers=150, history_days=400, now=NOW, requests_per_second=1e9) as sandbox:
        yield Requester(sandbox)


def read(requester: Requester, operation: Operation, query: Mapping[str, str]) -> list[Any]:
    """Return the records of one large page."""
    size = str(operation.max_page_size)
    everything = {n: v for n, v in EVERYTHING.items() if n in operation.parameters}
    response = requester.get(operation.path, {**everything, "pageSize": size, **query})
    assert response.status_code == 200, f"{operation} {query}: {response.text[:300]}"
    return response.json()["data"]


def read_others(requester: Requester, name: str) -> list[Any]:
    """Return the records of the list that a filter's values come from; none if its own do."""
    path = REFERENCES.get(name, ("", ""))[0]
    operation = find_operation("GET", path)
    return read(requester, operation, ONE_OF.get(path, {})) if operation else []


def is_split(requester: Requester, operation: Operation, name: str, rows: list[Any]) -> bool:
    """Return whether some value of a filter selects some records, and not all."""
    queries = choose_queries(operation, name, rows, read_others(requester, name))
    found = (len(read(requester, operation, query)) for query in islice(queries, MAX_VALUES))
    return any(0 < count < len(rows) for count in found)


@pytest.mark.parametrize("path", LISTS)
def test_every_declared_filter_splits_the_records(requester: Requester, path: str) -> None:
    operation = find_operation("GET", path)
    assert operation
    rows = read(requester, operation, {})
    assert len(rows) > 1
    unsplit = {n for n in list_filters(operation) if not is_split(requester, operation, n, rows)}
    assert unsplit == {*CANNOT_SPLIT.get(path, {})}
