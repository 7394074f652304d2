"""The contract of the reporting API: lists, descriptions, pages, limits and both ways to run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests

from st_pipelines_tests.sandbox.report_client import (
    ALWAYS,
    REPORTING,
    Clock,
    ReportClient,
    open_reports,
    rename_field,
)

PROBLEM = {"type", "title", "status", "traceId", "errors", "data"}


@pytest.fixture(scope="module")
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
def shared_reports(clock: Clock) -> Iterator[ReportClient]:
    with open_reports(clock, tenants=2) as client:
        yield client


@pytest.fixture
def client(shared_reports: ReportClient, clock: Clock) -> ReportClient:
    """A client whose sandbox has no runs in the last minute, and the settings of the start."""
    clock.seconds += 10_000
    settings = shared_reports.sandbox.reports.settings
    settings.interval_seconds, settings.running_seconds, settings.slots = 60, 0, 3
    settings.maintenance = settings.as_observed = False
    return shared_reports


def list_reports(client: ReportClient, category: str) -> list[dict[str, Any]]:
    return client.get(f"{REPORTING}/report-category/{category}/reports").json()["data"]


def assert_problem(response: requests.Response, status: int) -> None:
    assert response.status_code == status
    assert set(response.json()) == PROBLEM
    assert response.json()["status"] == status


def test_categories_have_slugs_that_paths_contain(client: ReportClient) -> None:
    rows = client.get(f"{REPORTING}/report-categories", pageSize=3, includeTotal="true").json()
    more = client.get(f"{REPORTING}/report-categories", pageSize=3, page=2).json()

    assert rows["totalCount"] == 6
    categories = {row["id"]: row["name"] for row in rows["data"] + more["data"]}
    assert categories["business-unit-dashboard"] == "Business Unit Dashboard"
    assert sum(len(list_reports(client, slug)) for slug in categories) == 4


def test_the_list_of_a_category_has_pages_of_50_and_reports_with_ids(client: ReportClient) -> None:
    body = client.get(f"{REPORTING}/report-category/operations/reports").json()

    assert (body["page"], body["pageSize"], body["hasMore"]) == (1, 50, False)
    assert body["totalCount"] is None
    row, _ = body["data"]
    assert set(row) == {"id", "name", "description"}
    assert type(row["id"]) is int


def test_ids_of_reports_differ_between_tenants(client: ReportClient) -> None:
    other = ReportClient(client.sandbox, tenant=1)

    mine, theirs = list_reports(client, "operations"), list_reports(other, "operations")

    assert [each["name"] for each in mine] == [each["name"] for each in theirs]
    assert not {each["id"] for each in mine} & {each["id"] for each in theirs}
    assert_problem(other.post(client.find_report("Calls"), ALWAYS), 404)


def test_a_description_names_parameters_and_fields(client: ReportClient) -> None:
    report = client.find_report("Revenue")
    body = client.get(client.path_of(report)).json()

    assert set(body) == {"id", "name", "description", "modifiedOn", "parameters", "fields"}
    parameters = {each["name"]: each for each in body["parameters"]}
    assert parameters["From"] == {
        "name": "From",
        "label": "From",
        "dataType": "Date",
        "isArray": False,
        "isRequired": True,
        "acceptValues": None,
    }
    units = parameters["BusinessUnitIds"]
    assert (units["dataType"], units["isArray"], units["isRequired"]) == ("Number", True, False)
    assert units["acceptValues"]["dynamicSetId"] == "business-units"
    assert {each["dataType"] for each in body["fields"]} == {"Date", "String", "Number"}
    assert set(body["fields"][0]) == {"name", "label", "dataType"}


def test_a_dynamic_value_set_lists_what_a_parameter_accepts(client: ReportClient) -> None:
    path = f"{REPORTING}/dynamic-value-sets/business-units"
    units = client.read_rows("settings.business_units", active="True")

    body = client.get(path, pageSize=2, includeTotal="true").json()
    everything = client.get(path).json()

    assert [len(body["data"]), body["hasMore"], body["totalCount"]] == [2, True, len(units)]
    assert sorted(everything["data"]) == sorted([unit["id"], unit["name"]] for unit in units)
    assert [set(each) for each in body["fields"]] == [{"name", "label"}] * 2
    assert_problem(client.get(f"{REPORTING}/dynamic-value-sets/nothing"), 404)


@pytest.mark.parametrize(
    ("category", "change"), [("accounting", 0), ("sales", 0), ("operations", 1)]
)
def test_a_wrong_category_or_id_is_a_404(client: ReportClient, category: str, change: int) -> None:
    right = client.find_report("Calls")
    path = f"{REPORTING}/report-category/{category}/reports/{right.id + change}"

    assert_problem(client.get(path), 404)
    assert_problem(client.session.post(client.url(f"{path}/data"), json={"parameters": []}), 404)
    assert_problem(
        client.session.post(client.url(f"{path}/data/query"), json={"parameters": []}), 404
    )


def test_an_unknown_category_has_no_list(client: ReportClient) -> None:
    assert_problem(client.get(f"{REPORTING}/report-category/sales/reports"), 404)
    assert list_reports(client, "accounting") == []


def test_rows_are_arrays_in_the_order_of_the_fields(client: ReportClient) -> None:
    report = client.find_report("Calls")
    body = client.post(report, ALWAYS).json()

    assert set(body) == {"page", "pageSize", "hasMore", "totalCount", "data", "fields"}
    assert [each["name"] for each in body["fields"]] == [each.name for each in report.fields]
    assert all(set(each) == {"name", "label"} for each in body["fields"])
    assert {len(row) for row in body["data"]} == {len(report.fields)}


def test_pages_are_chosen_in_the_query_string(client: ReportClient, clock: Clock) -> None:
    report = client.find_report("Calls")
    whole = client.post(report, ALWAYS, pageSize=25_000, includeTotal="true").json()
    pages, size = [], len(whole["data"]) * 2 // 5
    for page in (1, 2, 3):
        clock.seconds += 60
        pages.append(client.post(report, ALWAYS, page=page, pageSize=size).json())

    assert (whole["page"], whole["pageSize"], whole["hasMore"]) == (1, 25_000, False)
    assert whole["totalCount"] == len(whole["data"]) > 100
    assert [page["hasMore"] for page in pages] == [True, True, False]
    assert [page["page"] for page in pages] == [1, 2, 3]
    assert [row for page in pages for row in page["data"]] == whole["data"]
    assert pages[0]["totalCount"] is None


def test_page_size_is_1000_without_a_query_and_the_body_cannot_change_it(
    client: ReportClient,
) -> None:
    report = client.find_report("Calls")
    body = {
        "parameters": [{"name": name, "value": value} for name, value in ALWAYS.items()],
        "page": 2,
        "pageSize": 3,
        "includeTotal": True,
    }
    answer = client.session.post(client.url(client.path_of(report) + "/data"), json=body).json()

    assert (answer["page"], answer["pageSize"], answer["totalCount"]) == (1, 1000, None)
    assert len(answer["data"]) > 3


@pytest.mark.parametrize("query", [False, True])
@pytest.mark.parametrize(
    "paging",
    [{"pageSize": 0}, {"pageSize": 25_001}, {"page": -1}, {"page": "x"}, {"includeTotal": "x"}],
)
def test_an_invalid_page_is_a_400_and_no_run(
    client: ReportClient, paging: dict[str, Any], query: bool
) -> None:
    report = client.find_report("Technician")

    refused = client.post(report, ALWAYS, query=query, **paging)

    assert_problem(refused, 400)
    assert list(refused.json()["errors"]) == list(paging)
    assert client.post(report, ALWAYS).status_code == 200


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"To": "2026-01-01"}, "From"),
        ({"From": "2026-01-01", "To": None}, "To"),
        ({"From": "January", "To": "2026-01-01"}, "From"),
        ({**ALWAYS, "BusinessUnitIds": ["HVAC"]}, "BusinessUnitIds"),
        ({**ALWAYS, "BusinessUnitIds": [True]}, "BusinessUnitIds"),
        ({**ALWAYS, "IncludeInactive": "perhaps"}, "IncludeInactive"),
    ],
)
def test_a_missing_or_wrong_parameter_is_a_400_and_no_run(
    client: ReportClient, values: dict[str, Any], name: str
) -> None:
    report = client.find_report("Revenue")

    refused = client.post(report, values)

    assert_problem(refused, 400)
    assert list(refused.json()["errors"]) == [name]
    assert client.post(report, ALWAYS).status_code == 200


@pytest.mark.parametrize("body", [{}, {"parameters": {}}, {"parameters": [{"value": 1}]}, []])
def test_a_body_without_a_list_of_named_parameters_is_a_400(
    client: ReportClient, body: Any
) -> None:
    path = client.path_of(client.find_report("Revenue")) + "/data"
    assert_problem(client.session.post(client.url(path), json=body), 400)


def test_numbers_may_come_as_text_and_unknown_parameters_are_ignored(client: ReportClient) -> None:
    report = client.find_report("Revenue")
    unit = client.read_rows("settings.business_units", active="True")[0]

    rows = client.read_rows_of(report, BusinessUnitIds=str(unit["id"]), Odd=1)

    assert {row["Name"] for row in rows} == {unit["name"]}


def read_date_types(client: ReportClient) -> dict[str, int]:
    rows = client.get(f"{REPORTING}/dynamic-value-sets/job-date-filter-type").json()["data"]
    return {name: number for number, name in rows}


@pytest.mark.parametrize("tenant", [0, 1])
def test_the_numbers_of_date_types_are_the_tenants_own(client: ReportClient, tenant: int) -> None:
    own = ReportClient(client.sandbox, tenant=tenant)
    completion = read_date_types(own)["Job Completion Date"]
    first, last = "2025-10-01", "2026-02-28"

    rows = own.read_rows_of(own.find_report("Jobs"), DateType=completion, From=first, To=last)

    assert len(rows) > 5
    assert all(first <= row["CompletionDate"] <= last for row in rows)
    assert read_date_types(own) != read_date_types(ReportClient(own.sandbox, tenant=1 - tenant))


def test_an_unknown_date_type_is_a_400(client: ReportClient) -> None:
    refused = client.post(client.find_report("Jobs"), {**ALWAYS, "DateType": 9})
    assert_problem(refused, 400)
    assert list(refused.json()["errors"]) == ["DateType"]


def test_a_report_runs_once_a_minute_and_says_how_long_to_wait(
    client: ReportClient, clock: Clock
) -> None:
    report, another = client.find_report("Calls"), client.find_report("Technician")
    other = ReportClient(client.sandbox, tenant=1)

    assert client.post(report, ALWAYS).status_code == 200
    clock.seconds += 18.5
    refused = client.post(report, ALWAYS, page=2)
    assert refused.status_code == 429
    assert refused.headers["Retry-After"] == "42"
    assert refused.json()["title"].endswith("Try again in 42 seconds.")
    assert client.post(report, ALWAYS, query=True).status_code == 429
    assert client.post(another, ALWAYS).status_code == 200
    assert other.post(other.find_report("Calls"), ALWAYS).status_code == 200
    clock.seconds += 41.4
    assert client.post(report, ALWAYS).status_code == 429
    clock.seconds += 0.1
    assert client.post(report, ALWAYS).status_code == 200
    assert client.post(report, ALWAYS).status_code == 429


def test_descriptions_lists_and_sets_are_not_runs(client: ReportClient) -> None:
    report = client.find_report("Calls")
    client.post(report, ALWAYS)

    for _ in range(3):
        assert client.get(client.path_of(report)).status_code == 200
        assert list_reports(client, report.category)
        assert client.get(f"{REPORTING}/dynamic-value-sets/technicians").status_code == 200


def test_maintenance_is_a_409_and_no_run(client: ReportClient) -> None:
    report, settings = client.find_report("Calls"), client.sandbox.reports.settings
    settings.maintenance = True

    for query in (False, True):
        refused = client.post(report, ALWAYS, query=query)
        assert_problem(refused, 409)
        assert "suspended for maintenance" in refused.json()["title"]
    settings.maintenance = False
    assert client.post(report, ALWAYS).status_code == 200


def test_a_quick_query_is_answered_with_its_rows(client: ReportClient, clock: Clock) -> None:
    report = client.find_report("Calls")
    expected = client.post(report, ALWAYS, page=2, pageSize=20).json()
    clock.seconds += 60
    client.sandbox.reports.settings.running_seconds = 10

    answer = client.post(report, ALWAYS, query=True, page=2, pageSize=20, notifyWhenReady="false")

    assert (answer.status_code, answer.json()) == (200, expected)


def test_a_slow_query_is_polled_with_its_token(client: ReportClient, clock: Clock) -> None:
    report = client.find_report("Calls")
    expected = client.post(report, ALWAYS, page=2, pageSize=20).json()
    clock.seconds += 60
    client.sandbox.reports.settings.running_seconds = 25

    started = client.post(report, ALWAYS, query=True, page=2, pageSize=20)
    token = started.json()["token"]
    clock.seconds += 24
    pending = client.poll(token)
    clock.seconds += 1
    ready = client.poll(token)

    assert (started.status_code, started.json()["status"]) == (202, "NotStarted")
    assert set(started.json()) == {"status", "token"}
    assert (pending.status_code, pending.json()) == (202, {"status": "InProgress", "token": token})
    assert (ready.status_code, ready.json()) == (200, expected)
    assert client.poll(token).json() == expected


def test_a_canceled_query_is_gone(client: ReportClient) -> None:
    client.sandbox.reports.settings.running_seconds = 25
    token = client.post(client.find_report("Calls"), ALWAYS, query=True).json()["token"]

    canceled = client.cancel(token)

    assert (canceled.status_code, canceled.content) == (204, b"")
    assert_problem(client.poll(token), 404)
    assert_problem(client.cancel(token), 404)


def test_a_token_belongs_to_its_tenant(client: ReportClient) -> None:
    client.sandbox.reports.settings.running_seconds = 25
    token = client.post(client.find_report("Calls"), ALWAYS, query=True).json()["token"]
    other = ReportClient(client.sandbox, tenant=1)

    assert_problem(other.poll(token), 404)
    assert_problem(other.cancel(token), 404)
    assert client.poll(token).status_code == 202


def test_slots_are_limited_and_become_free(client: ReportClient, clock: Clock) -> None:
    settings, other = client.sandbox.reports.settings, ReportClient(client.sandbox, tenant=1)
    settings.running_seconds, settings.slots, settings.interval_seconds = 40, 2, 0
    report = client.find_report("Calls")

    def start(which: ReportClient = client) -> requests.Response:
        return which.post(which.find_report("Calls"), ALWAYS, query=True)

    tokens = [start().json()["token"] for _ in range(2)]
    clock.seconds += 15
    refused = start()
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "25")
    assert start(other).status_code == 202
    assert client.post(report, ALWAYS).status_code == 200, "the other contract needs no slot"
    client.cancel(tokens[0])
    assert [start().status_code for _ in range(2)] == [202, 429]
    clock.seconds += 25
    assert client.poll(tokens[1]).status_code == 200
    assert start().status_code == 202, "a finished run has freed its slot"


def test_a_query_may_be_answered_as_it_was_seen_rather_than_documented(
    client: ReportClient, clock: Clock
) -> None:
    report, settings = client.find_report("Calls"), client.sandbox.reports.settings
    expected = client.post(report, ALWAYS).json()
    clock.seconds += 60
    settings.as_observed, settings.running_seconds = True, 25

    token = client.post(report, ALWAYS, query=True, page=2, pageSize=20).json()["token"]
    clock.seconds += 25
    seen = client.poll(token).json()

    assert set(seen) == {
        "Page",
        "PageSize",
        "HasMore",
        "TotalCount",
        "Fields",
        "Data",
        "TimeZone",
    }
    assert seen["Data"] == expected["data"]
    assert [each["Name"] for each in seen["Fields"]] == [e["name"] for e in expected["fields"]]
    assert (seen["Page"], seen["HasMore"]) == (1, False)
    assert seen["PageSize"] == seen["TotalCount"] == len(expected["data"])


def test_an_edited_report_answers_with_its_new_fields(client: ReportClient, clock: Clock) -> None:
    report, reports = client.find_report("Calls"), client.sandbox.reports
    client.post(report, ALWAYS)
    clock.seconds += 60

    reports.add(client.credentials.tenant_id, rename_field(report, "Calls", "Anrufe"))
    names = [each["name"] for each in client.post(report, ALWAYS).json()["fields"]]
    reports.remove(client.credentials.tenant_id, report.id)
    gone = client.post(report, ALWAYS)
    reports.add(client.credentials.tenant_id, report)

    assert "Anrufe" in names
    assert "Calls" not in names
    assert_problem(gone, 404)


def test_another_process_changes_the_settings_and_skips_the_wait(client: ReportClient) -> None:
    report, control = client.find_report("Calls"), f"{client.sandbox.url}/_sandbox/reports"
    client.post(report, ALWAYS)

    assert client.post(report, ALWAYS).status_code == 429
    changed = requests.post(control, json={"skip_seconds": 60, "slots": 1})
    assert changed.json()["slots"] == client.sandbox.reports.settings.slots == 1
    assert client.post(report, ALWAYS).status_code == 200
    assert requests.post(control, json={"interval": 1}).status_code == 400


@pytest.mark.parametrize("scope", ["tn.rpr.reports:r", "tn.rpr.dynamicvaluesets:r"])
def test_reports_and_sets_need_their_scopes(scope: str) -> None:
    with open_reports(Clock(), scopes=[scope]) as client:
        report, with_reports = client.find_report("Calls"), scope == "tn.rpr.reports:r"
        run = client.post(report, ALWAYS)
        answers = [
            client.get(client.path_of(report)),
            client.get(f"{REPORTING}/report-category/operations/reports"),
            client.post(client.find_report("Revenue"), ALWAYS, query=True),
        ]
        dynamic = client.get(f"{REPORTING}/dynamic-value-sets/technicians")

        assert {each.status_code for each in (run, *answers)} == {200 if with_reports else 403}
        assert dynamic.status_code == (403 if with_reports else 200)
        assert client.poll("x").status_code == (404 if with_reports else 403)


def test_faults_break_reports_like_any_other_response() -> None:
    with open_reports(Clock(), faults={"409": 1.0}) as client:
        assert client.post(client.find_report("Calls"), ALWAYS).status_code == 409
