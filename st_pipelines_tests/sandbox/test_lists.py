from __future__ import annotations

from datetime import timedelta

import pytest

from st_pipelines_tests.sandbox.client import FAR_AHEAD, LONG_AGO, Client, ids


def test_a_page_holds_fifty_records_unless_asked_otherwise(shared: Client) -> None:
    body = shared.list("jpm.jobs").json()

    assert len(body["data"]) == 50
    assert (body["page"], body["pageSize"], body["hasMore"]) == (1, 50, True)


def test_the_newest_come_first_unless_asked_otherwise(shared: Client) -> None:
    found = ids(shared.rows("jpm.jobs"))

    assert found == sorted(found, reverse=True)


def test_all_pages_together_hold_every_record_once(shared: Client) -> None:
    pages = list(shared.pages("jpm.jobs", pageSize=150, sort="+Id"))

    found = [row["id"] for page in pages for row in page["data"]]
    assert len(pages) > 3
    assert found == sorted(ids(shared.sandbox.world.records("jpm.jobs")))
    assert all(page["data"] for page in pages)


def test_there_is_no_more_after_a_last_page_that_is_full(shared: Client) -> None:
    total = len(shared.sandbox.world.records("jpm.jobs"))

    assert shared.list("jpm.jobs", pageSize=total).json()["hasMore"] is False
    assert shared.list("jpm.jobs", pageSize=total - 1).json()["hasMore"] is True


def test_a_page_past_the_end_is_empty(shared: Client) -> None:
    body = shared.list("jpm.jobs", page=999).json()

    assert (body["data"], body["hasMore"]) == ([], False)


def test_the_total_is_null_unless_asked_for(shared: Client) -> None:
    total = len(shared.sandbox.world.records("jpm.jobs"))

    assert shared.list("jpm.jobs").json()["totalCount"] is None
    assert shared.list("jpm.jobs", includeTotal="true").json()["totalCount"] == total


def test_a_list_that_does_not_count_stays_silent(shared: Client) -> None:
    assert (
        shared.list("pricebook.materialsmarkup", includeTotal="true").json()["totalCount"] is None
    )


@pytest.mark.parametrize(
    ("table", "largest"),
    [("jpm.jobs", 5000), ("accounting.journal_entries", 500), ("inventory.return_types", 500)],
)
def test_a_page_may_not_be_larger_than_the_endpoint_allows(
    shared: Client, table: str, largest: int
) -> None:
    required = {"activeOnly": "false"}

    assert shared.list(table, pageSize=largest, **required).status_code == 200
    refused = shared.list(table, pageSize=largest + 1, **required)
    assert refused.status_code == 400
    assert "pageSize" in refused.json()["errors"]


def test_page_zero_is_the_first_on_most_lists(shared: Client) -> None:
    assert shared.list("jpm.jobs", page=0).json()["data"] == shared.list("jpm.jobs").json()["data"]


def test_page_zero_is_refused_by_custom_fields_of_jobs(shared: Client) -> None:
    assert shared.list("jpm.jobs_custom_fields", page=0).status_code == 400


def test_intacct_business_units_start_at_page_zero(shared: Client) -> None:
    path = "settings.business_units_intacct"
    first = shared.list(path, page=0, pageSize=5, includeTotal="true").json()
    second = shared.list(path, page=1, pageSize=5, includeTotal="true").json()

    assert first["hasMore"]
    assert not set(ids(first["data"])) & set(ids(second["data"]))
    assert shared.list(path, page=0, pageSize=5).status_code == 400


@pytest.mark.parametrize(("sort", "descending"), [("+ModifiedOn", False), ("-modifiedon", True)])
def test_sort_takes_a_sign_and_a_field_in_any_case(
    shared: Client, sort: str, descending: bool
) -> None:
    world = shared.sandbox.world
    times = dict(zip(world.table("jpm.jobs").keys, world.table("jpm.jobs").modified, strict=True))

    found = [times[row["id"]] for row in shared.rows("jpm.jobs", sort=sort)]

    assert found == sorted(found, reverse=descending)


def test_sort_by_any_field_puts_nulls_at_one_end(shared: Client) -> None:
    found = [row["completedOn"] for row in shared.rows("jpm.jobs", sort="+completedOn")]

    empty = found.count(None)
    assert empty > 0
    assert found[:empty] == [None] * empty


def test_unknown_parameters_are_ignored(shared: Client) -> None:
    plain = shared.list("jpm.jobs").json()

    assert shared.list("jpm.jobs", updatedSince=FAR_AHEAD, continueFrom="x").json() == plain


def test_a_window_holds_its_lower_end_and_not_its_upper(client: Client) -> None:
    world = client.sandbox.world
    job = world.create("jpm.jobs")
    at = world.now.strftime("%Y-%m-%dT%H:%M:%SZ")

    assert ids(client.rows("jpm.jobs", modifiedOnOrAfter=at)) == [job]
    assert job not in ids(client.rows("jpm.jobs", modifiedBefore=at))
    assert ids(client.rows("jpm.jobs", createdOnOrAfter=at)) == [job]


def test_filters_are_combined(shared: Client) -> None:
    world = shared.sandbox.world
    month_ago = (world.now - timedelta(days=30)).isoformat()
    changed = shared.rows("jpm.jobs", modifiedOnOrAfter=month_ago)
    created = shared.rows("jpm.jobs", createdOnOrAfter=month_ago)

    both = shared.rows("jpm.jobs", modifiedOnOrAfter=month_ago, createdBefore=month_ago)

    assert ids(both) == [job for job in ids(changed) if job not in ids(created)]
    assert both


def test_a_far_future_filter_finds_nothing(shared: Client) -> None:
    assert shared.rows("jpm.jobs", modifiedOnOrAfter=FAR_AHEAD) == []


def test_a_snapshot_has_no_filter_to_offer(shared: Client) -> None:
    assert shared.rows("accounting.payment_types", active="Any", modifiedOnOrAfter=FAR_AHEAD)


def test_seven_digits_count_in_a_filter(client: Client) -> None:
    world = client.sandbox.world
    world.change(
        "jpm.jobs", (job := world.create("jpm.jobs")), modifiedOn="2026-01-02T03:04:05.1234567Z"
    )

    def found(after: str) -> bool:
        return job in ids(client.rows("jpm.jobs", modifiedOnOrAfter=after))

    assert found("2026-01-02T03:04:05.1234567Z")
    assert not found("2026-01-02T03:04:05.1234568Z")


def test_a_time_that_cannot_be_read_is_a_bad_request(shared: Client) -> None:
    assert shared.list("jpm.jobs", modifiedOnOrAfter="yesterday").status_code == 400


def test_calls_are_filtered_by_the_time_inside_the_lead_call(client: Client) -> None:
    world = client.sandbox.world
    key = world.records("telecom.calls")[5]["id"]
    world.move(timedelta(seconds=1))
    world.change("telecom.calls", key, jobNumber="77")

    [call] = client.rows("telecom.calls", modifiedOnOrAfter=world.now.isoformat())

    assert (call["id"], call["jobNumber"]) == (key, "77")
    assert call["leadCall"]["modifiedOn"] == "2026-03-10T15:30:01Z"


def test_at_most_fifty_ids_can_be_asked_for(shared: Client) -> None:
    some = ids(shared.rows("jpm.jobs"))[100:151]

    assert ids(shared.rows("jpm.jobs", ids=",".join(map(str, some[:50])))) == some[:50]
    assert shared.list("jpm.jobs", ids=",".join(map(str, some))).status_code == 400


@pytest.mark.parametrize(
    ("table", "name", "everything", "only_inactive"),
    [
        ("crm.customers", "active", "Any", "False"),
        ("accounting.invoices", "activeState", "All", "InactiveOnly"),
        ("inventory.return_types", "activeOnly", "false", None),
        ("dispatch.teams", "includeInactive", "true", None),
    ],
)
def test_inactive_records_show_only_when_asked_for(
    client: Client, table: str, name: str, everything: str, only_inactive: str | None
) -> None:
    world = client.sandbox.world
    gone = world.create(table)
    world.deactivate(table, gone)
    default = {"activeOnly": "true"} if name == "activeOnly" else {}

    assert gone not in ids(client.rows(table, **default))
    assert gone in ids(client.rows(table, **{name: everything}))
    if only_inactive:
        assert gone in ids(client.rows(table, **{name: only_inactive}))


def test_inactive_jobs_are_listed_without_a_sign(client: Client) -> None:
    world = client.sandbox.world
    world.deactivate("jpm.jobs", job := world.create("jpm.jobs"))

    [row] = [row for row in client.rows("jpm.jobs") if row["id"] == job]

    assert "active" not in row


def test_cancel_reasons_show_inactive_ones_by_default(client: Client) -> None:
    world = client.sandbox.world
    world.deactivate("jpm.job_cancel_reasons", key := world.create("jpm.job_cancel_reasons"))

    assert key in ids(client.rows("jpm.job_cancel_reasons"))


def test_bills_are_procurement_unless_another_type_is_asked_for(shared: Client) -> None:
    def kinds(**query: str) -> set[str]:
        return {row["billType"] for row in shared.rows("accounting.ap_bills", **query)}

    assert kinds() == {"Procurement"}
    assert kinds(billType="ApBill") == {"ApBill"}


@pytest.mark.parametrize("table", ["crm.customers_contacts", "marketing_ads.attributed_leads"])
def test_a_required_date_that_is_missing_is_a_bad_request(shared: Client, table: str) -> None:
    asked = shared.sandbox.world.catalog[table].date_filter
    assert asked is not None

    assert shared.list(table).status_code == 400
    assert shared.list(table, **{asked.lower: LONG_AGO, asked.upper: FAR_AHEAD}).ok


def test_performance_needs_its_segmentation_and_sums_up_the_window(shared: Client) -> None:
    table = "marketing_ads.performance_by_campaign"
    window = {"fromUtc": "2026-01-01T00:00:00Z", "toUtc": "2026-01-02T00:00:00Z"}
    by_campaign = {**window, "performanceSegmentationType": "Campaign"}
    other_day = {**by_campaign, "toUtc": "2026-01-03T00:00:00Z"}

    assert shared.list(table, **window).status_code == 400
    first = shared.list(table, **by_campaign).json()["data"]
    assert first == shared.list(table, **by_campaign).json()["data"]
    assert first != shared.list(table, **other_day).json()["data"]


def test_a_record_that_changes_leaves_its_window(client: Client) -> None:
    world = client.sandbox.world
    last_month = {"modifiedOnOrAfter": "2026-02-01", "modifiedBefore": "2026-03-01"}
    before = ids(client.rows("jpm.jobs", **last_month))
    world.change("jpm.jobs", before[0], priority="Urgent")

    assert ids(client.rows("jpm.jobs", **last_month)) == before[1:]
