"""Every filter that twenty lists declare selects some of the sandbox's records, and not all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain, islice
from typing import Any

import pytest

from st_pipelines.sandbox.server import Sandbox
from st_pipelines_tests.conftest import NOW
from st_pipelines_tests.judges.documents import Operation, find_operation, needs_documents
from st_pipelines_tests.judges.filter_values import (
    EVERYTHING,
    MAX_VALUES,
    choose_values,
    list_filters,
)
from st_pipelines_tests.judges.requester import Requester

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

REFERENCES: Mapping[str, str] = {
    "technicianId": "/settings/v2/tenant/{tenant}/technicians",
    "jobId": "/jpm/v2/tenant/{tenant}/jobs",
    "appointmentId": "/jpm/v2/tenant/{tenant}/appointments",
    "projectId": "/jpm/v2/tenant/{tenant}/projects",
    "invoiceId": "/accounting/v2/tenant/{tenant}/invoices",
}
"""Lists with the ids of filters that compare other records than the list's own."""

NOT_YET: Mapping[str, str] = {
    "/accounting/v2/tenant/{tenant}/ap-bills": (
        "billNumber customField.Fields purchaseOrderNumber purchaseOrderTypes"
        " threeWayMatchDiscrepancy"
    ),
    "/accounting/v2/tenant/{tenant}/invoices": "statuses batchId batchNumber customField.Fields",
    "/accounting/v2/tenant/{tenant}/payments": (
        "activeState appliedToInvoiceIds batchId batchNumber customField.Fields statuses"
        " transactionType"
    ),
    "/crm/v2/tenant/{tenant}/customers": "country phone",
    "/crm/v2/tenant/{tenant}/leads": (
        "isProspect customerCity customerState customerZip isCaptureSourceForm"
    ),
    "/crm/v2/tenant/{tenant}/locations": "country",
    "/inventory/v2/tenant/{tenant}/vendors": "customField.Fields",
    "/jpm/v2/tenant/{tenant}/appointments": "unused",
    "/jpm/v2/tenant/{tenant}/jobs": "hasUnusedAppointments",
    # Its jobs are not among the values that are tried.
    "/jpm/v2/tenant/{tenant}/projects": "appointmentId invoiceId jobId",
    "/memberships/v2/tenant/{tenant}/memberships": "active",
    "/pricebook/v2/tenant/{tenant}/services": "searchText",
    # Estimates of the company are offered outside of its projects.
    "/sales/v2/tenant/{tenant}/estimates": "projectId soldById soldByEmployeeId status active",
    "/settings/v2/tenant/{tenant}/technicians": "active",
}
"""By list, filters that no value splits yet, mostly for lack of different records.

Remove what works; add nothing."""


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


def is_split(requester: Requester, operation: Operation, name: str, rows: list[Any]) -> bool:
    """Return whether some value of a filter selects some records, and not all."""
    others = map(str, requester.read_ids(REFERENCES[name])) if name in REFERENCES else ()
    values = islice(chain(choose_values(operation, name, rows), others), MAX_VALUES)
    return any(0 < len(read(requester, operation, {name: v})) < len(rows) for v in values)


@pytest.mark.parametrize("path", LISTS)
def test_every_declared_filter_splits_the_records(requester: Requester, path: str) -> None:
    operation = find_operation("GET", path)
    assert operation
    rows = read(requester, operation, {})
    assert len(rows) > 1
    unsplit = {n for n in list_filters(operation) if not is_split(requester, operation, n, rows)}
    assert unsplit - {*NOT_YET.get(path, "").split()} == set()
