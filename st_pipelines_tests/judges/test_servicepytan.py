"""A client that nobody here wrote gets from the sandbox what its functions promise.

servicepytan reads its hosts from its connection, so the sandbox's are put there. Its `DataService`
drops the connection it is given, so the tests pass it on.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import requests
import servicepytan
import servicepytan.attachments
import servicepytan.auth
import servicepytan.data
import servicepytan.reports
import servicepytan.summary
import servicepytan.utils

from st_pipelines.sandbox.server import Sandbox
from st_pipelines_tests.conftest import NOW

ZONE = ZoneInfo("America/New_York")
FIRST, LAST = "2026-02-01", "2026-02-20"
START = datetime(2026, 2, 1, tzinfo=ZONE)
END = datetime(2026, 2, 20, tzinfo=ZONE)
JOB_STATUSES = ["Completed", "Scheduled", "InProgress", "Dispatched"]

Connection = dict[str, Any]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(customers=60, history_days=60, now=NOW, requests_per_second=1e9) as running:
        yield running


@pytest.fixture
def connection(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Connection:
    connection = servicepytan.auth.servicepytan_connect(
        app_key=sandbox.app_key,
        tenant_id=sandbox.tenant_id,
        client_id=sandbox.client_id,
        client_secret=sandbox.client_secret,
        timezone="America/New_York",
    )
    connection["api_root"] = connection["auth_root"] = sandbox.url
    endpoint = functools.partial(servicepytan.Endpoint, conn=connection)
    monkeypatch.setattr(servicepytan.data, "Endpoint", endpoint)
    return connection


@pytest.fixture
def data(connection: Connection) -> servicepytan.DataService:
    return servicepytan.DataService(connection)


@pytest.fixture
def jobs(connection: Connection) -> servicepytan.Endpoint:
    return servicepytan.Endpoint("jpm", "jobs", connection)


def ids(records: list[dict[str, Any]]) -> list[Any]:
    return sorted(record["id"] for record in records)


def is_between(text: str | None) -> bool:
    return text is not None and START <= datetime.fromisoformat(_to_microseconds(text)) < END


def _to_microseconds(text: str) -> str:
    whole, dot, fraction = text.removesuffix("Z").partition(".")
    return f"{whole}{dot}{fraction[:6].ljust(6, '0') if dot else ''}+00:00"


def source(sandbox: Sandbox, table: str) -> list[dict[str, Any]]:
    """Returns what a list may show; the documents let only some lists hide inactive records."""
    records = sandbox.world.export_records(table)
    hides = table in ("jpm.appointments", "salestech.estimates")
    return [record for record in records if not hides or record.get("active") is not False]


def test_all_pages_of_a_list_are_read(sandbox: Sandbox, jobs: servicepytan.Endpoint) -> None:
    assert ids(jobs.get_all({"pageSize": 50})) == ids(sandbox.world.records("jpm.jobs"))


def test_one_page_has_at_most_its_size(jobs: servicepytan.Endpoint) -> None:
    page = jobs.get_many({"pageSize": 7, "page": 2})
    assert len(page["data"]) == 7
    assert page["page"] == 2
    assert page["hasMore"] is True


def test_one_record_is_read_by_its_id(jobs: servicepytan.Endpoint) -> None:
    job = jobs.get_many({"pageSize": 1})["data"][0]
    assert jobs.get_one(job["id"]) == job


def test_the_children_of_a_record_are_read(jobs: servicepytan.Endpoint) -> None:
    job = jobs.get_many({"pageSize": 1})["data"][0]
    assert jobs.get_one(job["id"], modifier="history").keys() == {"history"}
    assert jobs.get_all(id=job["id"], modifier="notes") == jobs.get_one(
        job["id"], modifier="notes"
    ).get("data")


def test_an_unknown_id_is_not_found(jobs: servicepytan.Endpoint) -> None:
    with pytest.raises(requests.HTTPError, match="404"):
        jobs.get_one(1)


def test_an_export_is_read_to_its_end(sandbox: Sandbox, jobs: servicepytan.Endpoint) -> None:
    exported = jobs.export_all("jobs")
    assert ids(exported) == ids(source(sandbox, "jpm.jobs"))
    page = jobs.export_one("jobs", "2026-03-01", include_recent_changes=True)
    assert 0 < len(page["data"]) < len(exported)
    assert page["hasMore"] is False


@pytest.mark.parametrize("statuses", [JOB_STATUSES, ["Completed"], ["Canceled"]])
def test_jobs_completed_between(
    sandbox: Sandbox, data: servicepytan.DataService, statuses: list[str]
) -> None:
    found = data.get_jobs_completed_between(FIRST, LAST, statuses)
    expected = [
        job
        for job in source(sandbox, "jpm.jobs")
        if is_between(job["completedOn"]) and job["jobStatus"] in statuses
    ]
    assert ids(found) == ids(expected)
    assert bool(found) == ("Completed" in statuses)


@pytest.mark.parametrize(
    ("read", "table", "field"),
    [
        (servicepytan.DataService.get_jobs_created_between, "jpm.jobs", "createdOn"),
        (servicepytan.DataService.get_jobs_modified_between, "jpm.jobs", "modifiedOn"),
        (
            servicepytan.DataService.get_purchase_orders_created_between,
            "inventory.purchase_orders",
            "createdOn",
        ),
        (servicepytan.DataService.get_sold_estimates_between, "salestech.estimates", "soldOn"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_records_between(
    sandbox: Sandbox,
    data: servicepytan.DataService,
    read: Callable[..., list[dict[str, Any]]],
    table: str,
    field: str,
) -> None:
    found = read(data, FIRST, LAST)
    expected = [r for r in source(sandbox, table) if is_between(r[field])]
    assert ids(found) == ids(expected)
    assert 0 < len(found) < len(source(sandbox, table))


def test_appointments_between(sandbox: Sandbox, data: servicepytan.DataService) -> None:
    found = data.get_appointments_between(FIRST, LAST)
    wanted = ["Scheduled", "Dispatched", "Working", "Done"]
    expected = [
        appointment
        for appointment in source(sandbox, "jpm.appointments")
        if is_between(appointment["start"]) and appointment["status"] in wanted
    ]
    assert ids(found) == ids(expected)
    assert found


def test_total_sales_between(sandbox: Sandbox, data: servicepytan.DataService) -> None:
    sold = [
        estimate
        for estimate in source(sandbox, "salestech.estimates")
        if is_between(estimate["soldOn"])
    ]
    total = sum(item["total"] for estimate in sold for item in estimate["items"])
    assert data.get_total_sales_between(FIRST, LAST) == pytest.approx(total)
    assert total > 0


@pytest.mark.parametrize(
    ("read", "table"),
    [
        (servicepytan.DataService.get_employees, "settings.employees"),
        (servicepytan.DataService.get_technicians, "settings.technicians"),
        (servicepytan.DataService.get_tag_types, "settings.tag_types"),
        (servicepytan.DataService.get_business_units, "settings.business_units"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
@pytest.mark.parametrize("active", ["True", "False", "Any"])
def test_lists_of_the_settings(
    sandbox: Sandbox,
    data: servicepytan.DataService,
    read: Callable[..., list[dict[str, Any]]],
    table: str,
    active: str,
) -> None:
    every = sandbox.world.records(table)
    expected = [r for r in every if active == "Any" or str(r["active"]) == active]
    assert ids(read(data, active)) == ids(expected)


def test_booked_jobs_by_agent_is_unfinished(connection: Connection) -> None:
    """It reads jobs and employees, and returns nothing yet."""
    assert servicepytan.summary.get_booked_jobs_by_agent(FIRST, LAST, connection) is None


def test_files_are_downloaded(connection: Connection, jobs: servicepytan.Endpoint) -> None:
    job = next(
        job["id"]
        for job in jobs.get_all({"pageSize": 500})
        if servicepytan.Endpoint("forms", "jobs", connection).get_all(
            id=job["id"], modifier="attachments"
        )
    )
    [attachment, *_] = servicepytan.Endpoint("forms", "jobs", connection).get_all(
        id=job, modifier="attachments"
    )
    files = servicepytan.Endpoint("forms", "jobs/attachment", connection)
    assert files.download(attachment["id"])


def test_reports_are_listed_described_and_read(connection: Connection) -> None:
    categories = servicepytan.reports.get_report_categories(connection)["data"]
    reports = {
        category["id"]: servicepytan.reports.get_report_list(category["id"], connection)["data"]
        for category in categories
    }
    category, [found, *_] = next((name, of) for name, of in reports.items() if of)
    report: Any = servicepytan.Report(category, found["id"], connection)
    report.show_param_types()
    for parameter in report.metadata["parameters"]:
        if parameter["isRequired"]:
            report.add_params(parameter["name"], FIRST)
            report.update_params(parameter["name"], "2026-02-02")
    assert report.get_params()["parameters"]
    result = report.get_all_data()
    assert [f["name"] for f in result["fields"]] == [f["name"] for f in report.metadata["fields"]]
    assert result["data"]
    assert all(len(row) == len(result["fields"]) for row in result["data"])


def test_values_of_a_parameter_are_listed(connection: Connection) -> None:
    values = servicepytan.reports.get_dynamic_set_list("business-units", connection)
    assert values["data"]


def test_a_429_is_waited_for(
    sandbox: Sandbox, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client reads the seconds from the title."""
    waits: list[int] = []

    def wait(seconds: int) -> None:
        waits.append(seconds)
        sandbox.set_faults({})

    monkeypatch.setattr(servicepytan.utils, "sleep_with_countdown", wait)
    sandbox.set_faults({"429": 1.0})
    url = servicepytan.utils.endpoint_url("jpm", "jobs", conn=connection)
    assert servicepytan.utils.request_json_with_retry(url, conn=connection)["data"]
    assert len(waits) == 1
    assert waits[0] >= 1
