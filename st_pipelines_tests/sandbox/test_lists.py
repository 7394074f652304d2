"""Lists: pages, sorting, and filters."""

from __future__ import annotations

from datetime import timedelta

import pytest

from st_pipelines_tests.sandbox.client import CATALOG, FAR_AHEAD, LONG_AGO, Client, get_ids


def test_a_page_has_fifty_records_by_default(shared: Client) -> None:
    body = shared.request_list("jpm.jobs").json()

    assert len(body["data"]) == 50
    assert (body["page"], body["pageSize"], body["hasMore"]) == (1, 50, True)


def test_the_newest_records_come_first_by_default(shared: Client) -> None:
    found = get_ids(shared.read_rows("jpm.jobs"))

    assert found == sorted(found, reverse=True)


def test_all_pages_together_contain_every_record_once(shared: Client) -> None:
    pages = list(shared.read_pages("jpm.jobs", pageSize=150, sort="+Id"))

    found = [row["id"] for page in pages for row in page["data"]]
    assert len(pages) > 3
    assert found == sorted(get_ids(shared.sandbox.world.records("jpm.jobs")))
    assert all(page["data"] for page in pages)


def test_a_full_last_page_has_no_more(shared: Client) -> None:
    total = len(shared.sandbox.world.records("jpm.jobs"))

    assert shared.request_list("jpm.jobs", pageSize=total).json()["hasMore"] is False
    assert shared.request_list("jpm.jobs", pageSize=total - 1).json()["hasMore"] is True


def test_a_page_past_the_end_is_empty(shared: Client) -> None:
    body = shared.request_list("jpm.jobs", page=999).json()

    assert (body["data"], body["hasMore"]) == ([], False)


def test_the_total_is_null_unless_requested(shared: Client) -> None:
    total = len(shared.sandbox.world.records("jpm.jobs"))

    assert shared.request_list("jpm.jobs").json()["totalCount"] is None
    assert shared.request_list("jpm.jobs", includeTotal="true").json()["totalCount"] == total


def test_a_list_whose_document_allows_no_null_always_says_its_total(shared: Client) -> None:
    total = len(shared.sandbox.world.records("pricebook.materialsmarkup"))

    assert shared.request_list("pricebook.materialsmarkup").json()["totalCount"] == total


@pytest.mark.parametrize(
    ("table", "maximum"),
    [("jpm.jobs", 5000), ("accounting.journal_entries", 500), ("inventory.return_types", 500)],
)
def test_a_page_size_above_the_endpoints_maximum_is_rejected(
    shared: Client, table: str, maximum: int
) -> None:
    required = {"activeOnly": "false"}

    assert shared.request_list(table, pageSize=maximum, **required).status_code == 200
    rejected = shared.request_list(table, pageSize=maximum + 1, **required)
    assert rejected.status_code == 400
    assert "pageSize" in rejected.json()["errors"]


def test_page_zero_is_the_first_on_most_lists(shared: Client) -> None:
    assert (
        shared.request_list("jpm.jobs", page=0).json()["data"]
        == shared.request_list("jpm.jobs").json()["data"]
    )


def test_page_zero_is_rejected_for_custom_fields_of_jobs(shared: Client) -> None:
    assert shared.request_list("jpm.jobs_custom_fields", page=0).status_code == 400


def test_intacct_business_units_start_at_page_zero(shared: Client) -> None:
    path = "settings.business_units_intacct"
    first = shared.request_list(path, page=0, pageSize=2, includeTotal="true").json()
    second = shared.request_list(path, page=1, pageSize=2, includeTotal="true").json()

    assert first["hasMore"]
    assert not set(get_ids(first["data"])) & set(get_ids(second["data"]))
    assert shared.request_list(path, page=0, pageSize=5).status_code == 400


@pytest.mark.parametrize(("sort", "descending"), [("+ModifiedOn", False), ("-modifiedon", True)])
def test_sort_accepts_a_sign_and_a_field_in_any_case(
    shared: Client, sort: str, descending: bool
) -> None:
    world = shared.sandbox.world
    times = dict(zip(world.table("jpm.jobs").keys, world.table("jpm.jobs").modified, strict=True))

    found = [times[row["id"]] for row in shared.read_rows("jpm.jobs", sort=sort)]

    assert found == sorted(found, reverse=descending)


def test_sort_by_any_field_puts_nulls_at_one_end(shared: Client) -> None:
    found = [row["completedOn"] for row in shared.read_rows("jpm.jobs", sort="+completedOn")]

    empty = found.count(None)
    assert empty > 0
    assert found[:empty] == [None] * empty


def test_unknown_parameters_are_ignored(shared: Client) -> None:
    plain = shared.request_list("jpm.jobs").json()

    assert shared.request_list("jpm.jobs", updatedSince=FAR_AHEAD, continueFrom="x").json() == plain


def test_a_window_includes_its_lower_bound_only(client: Client) -> None:
    world = client.sandbox.world
    job = world.create("jpm.jobs")
    at = world.now.strftime("%Y-%m-%dT%H:%M:%SZ")

    assert get_ids(client.read_rows("jpm.jobs", modifiedOnOrAfter=at)) == [job]
    assert job not in get_ids(client.read_rows("jpm.jobs", modifiedBefore=at))
    assert get_ids(client.read_rows("jpm.jobs", createdOnOrAfter=at)) == [job]


def test_filters_are_combined(shared: Client) -> None:
    world = shared.sandbox.world
    month_ago = (world.now - timedelta(days=30)).isoformat()
    changed = shared.read_rows("jpm.jobs", modifiedOnOrAfter=month_ago)
    created = shared.read_rows("jpm.jobs", createdOnOrAfter=month_ago)

    both = shared.read_rows("jpm.jobs", modifiedOnOrAfter=month_ago, createdBefore=month_ago)

    assert get_ids(both) == [job for job in get_ids(changed) if job not in get_ids(created)]
    assert both


def test_a_filter_in_the_future_selects_nothing(shared: Client) -> None:
    assert shared.read_rows("jpm.jobs", modifiedOnOrAfter=FAR_AHEAD) == []


def test_a_snapshot_ignores_filters_by_time(shared: Client) -> None:
    assert shared.read_rows("accounting.payment_types", active="Any", modifiedOnOrAfter=FAR_AHEAD)


def test_a_filter_compares_all_seven_digits(client: Client) -> None:
    world = client.sandbox.world
    world.change(
        "jpm.jobs", (job := world.create("jpm.jobs")), modifiedOn="2026-01-02T03:04:05.1234567Z"
    )

    def found(after: str) -> bool:
        return job in get_ids(client.read_rows("jpm.jobs", modifiedOnOrAfter=after))

    assert found("2026-01-02T03:04:05.1234567Z")
    assert not found("2026-01-02T03:04:05.1234568Z")


def test_an_invalid_time_gets_a_400(shared: Client) -> None:
    assert shared.request_list("jpm.jobs", modifiedOnOrAfter="yesterday").status_code == 400


def test_calls_are_filtered_by_the_time_in_the_lead_call(client: Client) -> None:
    world = client.sandbox.world
    key = world.records("telecom.calls")[5]["id"]
    world.move(timedelta(seconds=1))
    world.change("telecom.calls", key, jobNumber="77")

    [call] = client.read_rows("telecom.calls", modifiedOnOrAfter=world.now.isoformat())

    assert (call["id"], call["jobNumber"]) == (key, "77")
    assert call["leadCall"]["modifiedOn"] == "2026-03-10T15:30:01Z"


def test_at_most_fifty_ids_can_be_requested(shared: Client) -> None:
    some = get_ids(shared.read_rows("jpm.jobs"))[100:151]

    assert get_ids(shared.read_rows("jpm.jobs", ids=",".join(map(str, some[:50])))) == some[:50]
    assert shared.request_list("jpm.jobs", ids=",".join(map(str, some))).status_code == 400


@pytest.mark.parametrize(
    ("table", "name", "everything", "only_inactive"),
    [
        ("crm.customers", "active", "Any", "False"),
        ("accounting.invoices", "activeState", "All", "InactiveOnly"),
        ("inventory.return_types", "activeOnly", "false", None),
        ("dispatch.teams", "includeInactive", "true", None),
    ],
)
def test_inactive_records_are_listed_only_on_request(
    client: Client, table: str, name: str, everything: str, only_inactive: str | None
) -> None:
    world = client.sandbox.world
    inactive = world.create(table)
    world.deactivate(table, inactive)
    default = {"activeOnly": "true"} if name == "activeOnly" else {}

    assert inactive not in get_ids(client.read_rows(table, **default))
    assert inactive in get_ids(client.read_rows(table, **{name: everything}))
    if only_inactive:
        assert inactive in get_ids(client.read_rows(table, **{name: only_inactive}))


def test_inactive_jobs_are_listed_without_active(client: Client) -> None:
    world = client.sandbox.world
    world.deactivate("jpm.jobs", job := world.create("jpm.jobs"))

    [row] = [row for row in client.read_rows("jpm.jobs") if row["id"] == job]

    assert "active" not in row


def test_inactive_cancel_reasons_are_listed_by_default(client: Client) -> None:
    world = client.sandbox.world
    world.deactivate("jpm.job_cancel_reasons", key := world.create("jpm.job_cancel_reasons"))

    assert key in get_ids(client.read_rows("jpm.job_cancel_reasons"))


def test_bills_are_of_type_procurement_by_default(shared: Client) -> None:
    def kinds(**query: str) -> set[str]:
        return {row["billType"] for row in shared.read_rows("accounting.ap_bills", **query)}

    assert kinds() == {"Procurement"}
    assert kinds(billType="ApBill") == {"ApBill"}


@pytest.mark.parametrize("table", ["crm.customers_contacts", "marketing_ads.attributed_leads"])
def test_a_missing_required_date_gets_a_400(shared: Client, table: str) -> None:
    date_filter = CATALOG[table].date_filter
    assert date_filter is not None

    assert shared.request_list(table).status_code == 400
    assert shared.request_list(
        table, **{date_filter.lower: LONG_AGO, date_filter.upper: FAR_AHEAD}
    ).ok


def test_performance_requires_a_segmentation_and_depends_on_the_window(shared: Client) -> None:
    table = "marketing_ads.performance_by_campaign"
    window = {"fromUtc": "2026-01-01T00:00:00Z", "toUtc": "2026-01-02T00:00:00Z"}
    by_campaign = {**window, "performanceSegmentationType": "Campaign"}
    other_day = {**by_campaign, "toUtc": "2026-01-03T00:00:00Z"}

    assert shared.request_list(table, **window).status_code == 400
    first = shared.request_list(table, **by_campaign).json()["data"]
    assert first == shared.request_list(table, **by_campaign).json()["data"]
    assert first != shared.request_list(table, **other_day).json()["data"]


def test_a_changed_record_leaves_its_window(client: Client) -> None:
    world = client.sandbox.world
    last_month = {"modifiedOnOrAfter": "2026-02-01", "modifiedBefore": "2026-03-01"}
    before = get_ids(client.read_rows("jpm.jobs", **last_month))
    world.change("jpm.jobs", before[0], priority="Urgent")

    assert get_ids(client.read_rows("jpm.jobs", **last_month)) == before[1:]
