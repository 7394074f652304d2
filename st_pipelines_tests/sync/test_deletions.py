"""Loads find what a window does not show: deleted, inactive, moved and revived records."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request

from st_pipelines.catalog.additions import extend_catalog, read
from st_pipelines.catalog.model import Endpoint
from st_pipelines.catalog.registry import load_catalog, packaged_catalog
from st_pipelines.sandbox import responses
from st_pipelines.sandbox.server import Sandbox
from st_pipelines.servicetitan.http.retry import NO_WAIT
from st_pipelines.sync.sync import LoadReport, SyncContext, extract_load, reconcile
from st_pipelines.warehouse.adopt.adopt import adopt
from st_pipelines.warehouse.store.duckdb_file import DuckDBFile
from st_pipelines_tests.churn_reader import build_context, days, query

JOBS = load_catalog()["jpm.jobs"]
DAY = days("2026-03-10", "2026-03-10")
ALL = days("2026-03-01", "2026-03-10", open_start=True)


@pytest.fixture
def context(own_sandbox: Sandbox, tmp_path: Path) -> Iterator[SyncContext]:
    context = build_context(own_sandbox, tmp_path / "w.duckdb", NO_WAIT)
    yield context
    context.client.close()


def rows(context: SyncContext, columns: str, where: str, table: str = "jpm.jobs") -> list[tuple]:
    sql = f"SELECT {columns} FROM {table} WHERE {where} ORDER BY ALL"
    return query(context.warehouse.name, sql)


TABLES_WITH_EXPORT_ONLY_COLUMNS = [
    endpoint.table for endpoint in load_catalog() if endpoint.export and endpoint.export.adds
]


def state(context: SyncContext, id_: int, table: str = "jpm.jobs") -> str:
    found = rows(context, "_deleted_at IS NOT NULL", f"id = {id_}", table)
    return {(): "absent", (False,): "there", (True,): "deleted"}[found[0] if found else ()]


def last_ids(sandbox: Sandbox, table: str, number: int) -> list[int]:
    return [record["id"] for record in sandbox.world.records(table)][-number:]


def load_and_deactivate(sandbox: Sandbox, context: SyncContext) -> int:
    """Loads all jobs, then deactivates one that changes no more; returns its id."""
    job_id = sandbox.world.create("jpm.jobs")
    sandbox.world.move(timedelta(minutes=5))
    extract_load(context, JOBS, ALL)
    sandbox.world.move(timedelta(minutes=5))
    sandbox.world.deactivate("jpm.jobs", job_id)
    return job_id


def requests_to(sandbox: Sandbox, part: str) -> list[dict[str, str]]:
    return [dict(seen.query) for seen in sandbox.seen if part in seen.path]


def test_a_deleted_record_is_marked_when_its_window_is_loaded_again(
    own_sandbox: Sandbox, context: SyncContext
) -> None:
    extract_load(context, JOBS, ALL)
    deleted_id, kept_id = last_ids(own_sandbox, "jpm.jobs", 2)
    own_sandbox.world.delete("jpm.jobs", deleted_id)
    report = extract_load(context, JOBS, ALL)
    assert (state(context, deleted_id), state(context, kept_id)) == ("deleted", "there")
    assert report.loaded.counts.deleted == 1
    assert extract_load(context, JOBS, ALL).loaded.counts.deleted == 0


def test_a_record_that_comes_back_is_unmarked(own_sandbox: Sandbox, context: SyncContext) -> None:
    extract_load(context, JOBS, ALL)
    (id_,) = last_ids(own_sandbox, "jpm.jobs", 1)
    own_sandbox.world.delete("jpm.jobs", id_)
    extract_load(context, JOBS, ALL)
    own_sandbox.world.revive("jpm.jobs", id_)
    extract_load(context, JOBS, ALL)
    assert state(context, id_) == "there"


def test_a_record_that_moved_to_a_later_window_is_loaded_in_its_present_version(
    own_sandbox: Sandbox, context: SyncContext
) -> None:
    customers = load_catalog()["crm.customers"]
    extract_load(context, customers, ALL)
    (moved,) = last_ids(own_sandbox, "crm.customers", 1)
    own_sandbox.world.move(timedelta(days=3))
    own_sandbox.world.change("crm.customers", moved, name="Moved on")
    report = extract_load(context, customers, ALL)
    found = rows(context, "name, _partition_date::VARCHAR", f"id = {moved}", "crm.customers")
    assert found == [("Moved on", "2026-03-13")]
    assert (report.loaded.counts.updated, report.loaded.counts.deleted) == (1, 0)


def test_a_record_that_only_the_export_serves_as_inactive_stays_inactive(
    own_sandbox: Sandbox, context: SyncContext
) -> None:
    job_id = load_and_deactivate(own_sandbox, context)
    extract_load(context, JOBS, DAY)
    assert rows(context, "active", f"id = {job_id}") == [(False,)]
    assert state(context, job_id) == "there", "the list still serves it"
    again = extract_load(context, JOBS, ALL)
    assert rows(context, "active", f"id = {job_id}") == [(False,)]
    counts = again.loaded.counts
    assert (counts.inserted, counts.updated, counts.deleted) == (0, 0, 0)


def test_what_the_feed_serves_after_its_bookmark_is_loaded_whatever_day_it_is_of(
    own_sandbox: Sandbox, context: SyncContext
) -> None:
    """The bookmark moves on with this load, so that no later one would read it again."""
    job_id = load_and_deactivate(own_sandbox, context)
    own_sandbox.world.move(timedelta(days=3))
    extract_load(context, JOBS, days("2026-03-13", "2026-03-13"))
    assert rows(context, "active", f"id = {job_id}") == [(False,)]


def test_an_inactive_record_that_the_list_hides_is_marked(
    own_sandbox: Sandbox, context: SyncContext
) -> None:
    job_id = load_and_deactivate(own_sandbox, context)
    own_sandbox.interceptors.append(without(own_sandbox, {job_id}))
    extract_load(context, JOBS, DAY)
    assert rows(context, "active, _deleted_at IS NULL", f"id = {job_id}") == [(False, False)]


def test_records_that_only_the_export_serves_are_kept_and_marked(
    own_sandbox: Sandbox, context: SyncContext
) -> None:
    """With the first load already: what the list served then is the control of the lookup."""
    (job_id,) = last_ids(own_sandbox, "jpm.jobs", 1)
    own_sandbox.world.deactivate("jpm.jobs", job_id)
    own_sandbox.interceptors.append(without(own_sandbox, {job_id}))
    extract_load(context, JOBS, ALL)
    assert rows(context, "active, _deleted_at IS NULL", f"id = {job_id}") == [(False, False)]
    reconcile(context, JOBS)
    assert rows(context, "active, _deleted_at IS NULL", f"id = {job_id}") == [(False, False)]


def test_a_reading_of_everything_needs_no_lookup_of_what_only_its_feed_serves(
    own_sandbox: Sandbox, context: SyncContext
) -> None:
    (job_id,) = last_ids(own_sandbox, "jpm.jobs", 1)
    own_sandbox.world.deactivate("jpm.jobs", job_id)
    own_sandbox.interceptors.append(without(own_sandbox, {job_id}))
    reconcile(context, JOBS)
    assert rows(context, "active, _deleted_at IS NULL", f"id = {job_id}") == [(False, False)]
    assert not [seen for seen in own_sandbox.seen if "ids" in seen.query]


def test_the_first_window_takes_no_rows_of_earlier_days_from_the_feed(
    own_sandbox: Sandbox, context: SyncContext
) -> None:
    """The feed is read from a day before; its rows lack what only the list serves."""
    job_id = load_and_deactivate(own_sandbox, context)  # on March 10
    own_sandbox.world.move(timedelta(days=1))
    elsewhere = dataclasses.replace(
        context, warehouse=DuckDBFile(uri=f"{context.warehouse.name}.other.duckdb")
    )
    extract_load(elsewhere, JOBS, days("2026-03-11", "2026-03-11"))
    assert rows(context, "id", f"id = {job_id}") == [(job_id,)]
    assert rows(elsewhere, "id", f"id = {job_id}") == []
    extract_load(elsewhere, JOBS, DAY)
    assert rows(elsewhere, "active, job_number IS NULL", f"id = {job_id}") == [(False, False)]


@pytest.mark.parametrize("table", TABLES_WITH_EXPORT_ONLY_COLUMNS)
def test_what_only_the_export_serves_is_present_after_the_first_load(
    own_sandbox: Sandbox, context: SyncContext, table: str
) -> None:
    """`active` was NULL until the first reconcile, and `WHERE active` returned nothing."""
    endpoint = load_catalog()[table]
    extract_load(context, endpoint, DAY)
    for days_ in (days("2026-03-08", "2026-03-09"), days("2026-03-06", "2026-03-07"), ALL):
        extract_load(context, endpoint, days_)
        assert rows(context, "count(*)", "active IS NULL", table) == [(0,)]
    assert rows(context, "count(*)", "active", table)[0][0] > 0


@pytest.mark.parametrize("table", TABLES_WITH_EXPORT_ONLY_COLUMNS)
def test_what_only_the_export_serves_of_a_record_committed_late_arrives_with_its_window(
    own_sandbox: Sandbox, context: SyncContext, table: str
) -> None:
    """It lies before the feed's bookmark, so `active` stayed NULL for good."""
    endpoint, world = load_catalog()[table], own_sandbox.world
    extract_load(context, endpoint, ALL)
    world.move(timedelta(minutes=50))
    world.create(table)
    extract_load(context, endpoint, DAY)
    late = world.create(table, modifiedOn=world.now - timedelta(minutes=40))
    extract_load(context, endpoint, DAY)
    assert rows(context, "active", f"id = {late}", table) == [(True,)]
    before = len(requests_to(own_sandbox, "/export/"))
    extract_load(context, endpoint, DAY)
    assert len(requests_to(own_sandbox, "/export/")) == before + 1, "nothing is missing any more"


def test_a_record_that_changes_before_its_lookup_has_what_only_the_export_serves(
    own_sandbox: Sandbox, context: SyncContext
) -> None:
    """The export was read before, so the newer version came with `active` NULL.

    What else it serves by then is left to the load that lists it.
    """
    (job_id,) = last_ids(own_sandbox, "jpm.jobs", 1)
    world = own_sandbox.world
    world.move(timedelta(minutes=90))
    world.deactivate("jpm.jobs", job_id)  # after the end of the window, which the clock decides
    behind = dataclasses.replace(context, clock=lambda: world.now - timedelta(hours=1))
    created = list[int]()

    def change_before_lookup(request: Request) -> None:
        if "ids" in request.query_params:
            world.move(timedelta(seconds=1))
            world.change("jpm.jobs", job_id, jobNumber="changed")
            created.append(world.create("jpm.jobs"))

    own_sandbox.interceptors.append(change_before_lookup)
    extract_load(behind, JOBS, ALL)
    assert rows(context, "job_number, active", f"id = {job_id}") == [("changed", False)]
    assert {state(context, id_) for id_ in created} == {"absent"}


@pytest.mark.parametrize("deactivated", [True, False])
def test_a_record_committed_late_that_a_lookup_finds_has_what_only_the_export_serves(
    own_sandbox: Sandbox, context: SyncContext, deactivated: bool
) -> None:
    """It lies before the feed's bookmark, and kept `active` of its former version for good."""
    world = own_sandbox.world
    records = sorted(world.export_records("jpm.jobs"), key=lambda job: job["modifiedOn"])
    job = next(job for job in records if job["active"] and job["modifiedOn"] > "2026-03-05")
    day = job["modifiedOn"][:10]
    extract_load(context, JOBS, ALL)
    world.set_now(datetime(2026, 3, 11, 20, tzinfo=timezone.utc))
    world.create("jpm.jobs")
    world.move(timedelta(minutes=1))
    extract_load(context, JOBS, days("2026-03-11", "2026-03-11"))
    world.move(timedelta(minutes=20))
    late = world.now - timedelta(minutes=40)
    world.change("jpm.jobs", job["id"], active=not deactivated, modifiedOn=late)
    extract_load(context, JOBS, days(day, day))
    found = rows(context, "active, modified_on::VARCHAR", f"id = {job['id']}")
    assert found == [(not deactivated, "2026-03-11 19:41:00+00")]


def test_a_record_that_is_reactivated_before_its_lookup_is_active(
    own_sandbox: Sandbox, context: SyncContext
) -> None:
    """The feed has nothing new of it when it is read, as the list hides inactive records."""
    job_id, world = load_and_deactivate(own_sandbox, context), own_sandbox.world
    extract_load(context, JOBS, DAY)
    own_sandbox.interceptors.append(without(own_sandbox, {job_id}))
    world.move(timedelta(minutes=5))

    def reactivate(request: Request) -> None:
        if "ids" in request.query_params:
            own_sandbox.interceptors.clear()
            world.change("jpm.jobs", job_id, active=True)

    own_sandbox.interceptors.insert(0, reactivate)
    extract_load(context, JOBS, DAY)
    assert rows(context, "active", f"id = {job_id}") == [(True,)]


def test_a_record_that_a_lookup_only_compares_with_keeps_its_version(
    own_sandbox: Sandbox, context: SyncContext
) -> None:
    """It came without what only the export serves, if it changed after it was listed."""
    extract_load(context, JOBS, ALL)
    world = own_sandbox.world
    *_, control, gone = sorted(last_ids(own_sandbox, "jpm.jobs", 4))
    world.delete("jpm.jobs", gone)
    before = rows(context, "job_number, active, modified_on", f"id = {control}")

    def change_control(request: Request) -> None:
        if "ids" in request.query_params:
            world.move(timedelta(seconds=1))
            world.change("jpm.jobs", control, jobNumber="changed", active=False)

    own_sandbox.interceptors.append(change_control)
    world.move(timedelta(minutes=5))
    extract_load(context, JOBS, ALL)
    assert str(control) in requests_to(own_sandbox, "/jobs")[-1]["ids"].split(",")
    assert rows(context, "job_number, active, modified_on", f"id = {control}") == before


def test_a_version_that_the_export_never_serves_is_looked_for_in_windows_only(
    own_sandbox: Sandbox, context: SyncContext
) -> None:
    """Each reconcile would read the feed from there on."""
    extract_load(context, JOBS, ALL)
    own_sandbox.world.move(timedelta(minutes=5))
    job_id = own_sandbox.world.create("jpm.jobs")
    own_sandbox.interceptors.append(leave_out_of_export(own_sandbox, job_id))
    for load, requests in ((DAY, 2), (DAY, 2), (None, 1)):
        before = len(requests_to(own_sandbox, "/export/jobs"))
        extract_load(context, JOBS, load) if load else reconcile(context, JOBS)
        assert len(requests_to(own_sandbox, "/export/jobs")) == before + requests


def test_older_windows_do_not_read_the_feed_from_a_day_earlier_each_time(
    own_sandbox: Sandbox, context: SyncContext
) -> None:
    for day in range(9, 1, -1):
        extract_load(context, JOBS, days(f"2026-03-{day:02}", f"2026-03-{day:02}"))
    starts = [query.get("from", "") for query in requests_to(own_sandbox, "/export/jobs")]
    dates = [start for start in starts if start.startswith("2026-")]
    assert dates == sorted(dates, reverse=True)
    assert len(dates) == 1, "from the first on, it reached back far enough for the others"


def test_the_feed_continues_from_its_bookmark(own_sandbox: Sandbox, context: SyncContext) -> None:
    extract_load(context, JOBS, DAY)
    first = requests_to(own_sandbox, "/export/jobs")
    (bookmark,) = query(context.warehouse.name, "SELECT continue_from, since FROM _st.feeds")
    extract_load(context, JOBS, DAY)
    second = requests_to(own_sandbox, "/export/jobs")[len(first) :]
    assert [q["from"] for q in second] == [bookmark[0]]
    assert bookmark[1] is not None, "the feed was not read from its beginning"


def test_an_expired_continuation_token_is_replaced_by_a_date(
    own_sandbox: Sandbox, context: SyncContext
) -> None:
    extract_load(context, JOBS, ALL)
    refused_tokens: list[str] = []

    def refuse_tokens(request: Request) -> Any:
        text = request.query_params.get("from", "")
        if "/export/" in request.url.path and not text.startswith("20"):
            refused_tokens.append(text)
            return responses.build_json_response(
                {"title": "The continuation token is not valid."}, 400
            )
        return None

    own_sandbox.interceptors.append(refuse_tokens)
    extract_load(context, JOBS, DAY)
    assert refused_tokens
    assert requests_to(own_sandbox, "/export/jobs")[-1]["from"].startswith("20")


@pytest.mark.parametrize("loaded", [True, False], ids=["after a day", "as the first load"])
@pytest.mark.parametrize("table", ["jpm.jobs", "crm.customers"])
def test_reconcile_reads_the_whole_feed_only_once(
    own_sandbox: Sandbox, context: SyncContext, table: str, loaded: bool
) -> None:
    """Whether or not the feed adds columns, for which a load reads it from before its window."""
    endpoint, path = load_catalog()[table], table.replace(".", "/").partition("/")[2]
    if loaded:
        extract_load(context, endpoint, DAY)
    before = len(requests_to(own_sandbox, f"/export/{path}"))
    reconcile(context, endpoint)
    assert rows(context, "count(*)", "active IS NULL AND _deleted_at IS NULL", table) == [(0,)]
    whole = requests_to(own_sandbox, f"/export/{path}")
    assert not whole[before].get("from"), "from its beginning"
    reconcile(context, endpoint)
    again = requests_to(own_sandbox, f"/export/{path}")[len(whole) :]
    assert all(q.get("from") for q in again)
    assert query(context.warehouse.name, "SELECT since FROM _st.feeds") == [(None,)]


@pytest.mark.parametrize(
    "table",
    [
        "payroll.activity_codes",
        "crm.locations_contacts",
        "marketing_ads.attributed_leads",
        "settings.user_roles",
        "payroll.locations_rates",
    ],
)
def test_reconcile_marks_deleted_records_that_no_other_load_can_find(
    own_sandbox: Sandbox, context: SyncContext, table: str
) -> None:
    endpoint = load_catalog()[table]
    load_all(context, endpoint)
    collection = own_sandbox.world.table(table)
    own_sandbox.world.delete(table, collection.keys[-1])
    report = reconcile(context, endpoint)
    assert report is not None
    assert report.loaded.counts.deleted == 1
    assert rows(context, "count(*)", "_deleted_at IS NULL", table) == [(len(collection.keys) - 1,)]
    again = reconcile(context, endpoint)
    assert again is not None
    counts = again.loaded.counts
    assert (counts.deleted, counts.inserted, counts.updated) == (0, 0, 0)


def test_reconcile_finds_a_change_that_did_not_move_the_cursor(
    own_sandbox: Sandbox, context: SyncContext
) -> None:
    extract_load(context, JOBS, ALL)
    record = own_sandbox.world.records("jpm.jobs")[0]
    own_sandbox.world.change("jpm.jobs", record["id"], summary="!", modifiedOn=record["modifiedOn"])
    reconcile(context, JOBS)
    assert rows(context, "summary", f"id = {record['id']}") == [("!",)]


def test_the_look_back_finds_a_late_change(own_sandbox: Sandbox, context: SyncContext) -> None:
    table = "memberships.memberships"
    extract_load(context, load_catalog()[table], ALL)
    record = max(own_sandbox.world.records(table), key=lambda r: r["modifiedOn"])
    moved = record["modifiedOn"]
    own_sandbox.world.change(table, record["id"], memo="late", modifiedOn=moved)
    day = date.fromisoformat(moved[:10]) + timedelta(days=3)
    extract_load(context, load_catalog()[table], days(str(day), str(day)))
    assert rows(context, "memo", f"id = {record['id']}", table) == [("late",)]


def test_a_server_that_ignores_ids_marks_nothing_as_deleted(
    own_sandbox: Sandbox, context: SyncContext
) -> None:
    extract_load(context, JOBS, ALL)
    deleted_id = last_ids(own_sandbox, "jpm.jobs", 1)[0]
    own_sandbox.world.delete("jpm.jobs", deleted_id)

    def ignore_ids(request: Request) -> Any:
        if "ids" not in request.query_params:
            return None
        some = own_sandbox.world.raw("jpm.jobs")[:5]
        return page_of(some)

    own_sandbox.interceptors.append(ignore_ids)
    assert extract_load(context, JOBS, ALL).loaded.counts.deleted == 0
    own_sandbox.interceptors[:] = [lambda r: page_of([]) if "ids" in r.query_params else None]
    assert extract_load(context, JOBS, ALL).loaded.counts.deleted == 0, "the control is missing too"
    own_sandbox.interceptors[:] = [lambda r: page_of([]) if r.url.path.endswith("/jobs") else None]
    assert extract_load(context, JOBS, ALL).loaded.counts.deleted == 0, "nothing is served at all"
    own_sandbox.interceptors.clear()
    assert extract_load(context, JOBS, ALL).loaded.counts.deleted == 1


def test_unknown_fields_of_list_and_export_are_kept_side_by_side(
    own_sandbox: Sandbox, context: SyncContext
) -> None:
    extract_load(context, JOBS, ALL)
    (job_id,) = last_ids(own_sandbox, "jpm.jobs", 1)
    own_sandbox.world.move(timedelta(minutes=5))
    own_sandbox.world.change("jpm.jobs", job_id, listedToo=1)
    own_sandbox.interceptors.append(add_to_export(own_sandbox, "jpm.jobs", b'"onlyExported":1.10'))
    extract_load(context, JOBS, DAY)
    own_sandbox.interceptors.clear()
    extract_load(context, JOBS, DAY)
    extra = json.loads(rows(context, "_extra::VARCHAR", f"id = {job_id}")[0][0])
    assert extra["listedToo"] == 1
    assert extra["(export)"]["onlyExported"] == 1.1


def test_unknown_fields_of_the_export_are_adopted_as_fields_of_the_export(
    own_sandbox: Sandbox, context: SyncContext, tmp_path: Path
) -> None:
    extract_load(context, JOBS, ALL)
    job_id, other = last_ids(own_sandbox, "jpm.jobs", 2)
    own_sandbox.world.move(timedelta(minutes=5))
    for changed in (job_id, other):
        own_sandbox.world.change("jpm.jobs", changed, listedToo=1, JobNumber="a second one")
    only = b'"onlyExported":1.10,"customFields":[{"deeper":true}]'
    own_sandbox.interceptors.append(add_to_export(own_sandbox, "jpm.jobs", only))
    extract_load(context, JOBS, DAY)
    file = tmp_path / "st_catalog.json"
    adopted = adopt(context.warehouse, packaged_catalog(), file, select=["jpm.jobs"])
    reasons = {finding.path: finding.reason for finding in adopted.findings}
    assert reasons["(export).onlyExported"] == ""
    assert "column name is already taken by" in reasons["JobNumber"]
    assert json.loads(file.read_text())["jpm.jobs"]["(export)"] == {"onlyExported": "DECIMAL"}

    catalog = extend_catalog(packaged_catalog(), read(file), file)
    jobs = catalog["jpm.jobs"]
    assert jobs.export
    assert "onlyExported" in jobs.export.adds
    where = f"id = {job_id}"
    assert rows(context, "only_exported, listed_too", where) == [(Decimal("1.1"), 1)]
    extra = json.loads(rows(context, "_extra::VARCHAR", where)[0][0])
    assert extra["JobNumber"] == "a second one"
    assert list(extra)[-1] == "(export)"
    # A record with two members of one name is kept as text.
    assert list(extra["(export)"]) == ["(malformed)"]

    own_sandbox.world.move(timedelta(minutes=5))
    own_sandbox.world.change("jpm.jobs", job_id, summary="Once more")
    own_sandbox.interceptors.clear()
    own_sandbox.interceptors.append(add_to_export(own_sandbox, "jpm.jobs", b'"onlyExported":2.5'))
    later = dataclasses.replace(context, catalog=catalog)
    extract_load(later, jobs, DAY)
    assert rows(context, "only_exported, listed_too, summary", where) == [
        (Decimal("2.5"), 1, "Once more")
    ]
    assert rows(context, "only_exported", f"id = {other}") == [(Decimal("2.5"),)]
    assert adopt(context.warehouse, packaged_catalog(), file, select=["jpm.jobs"]).rows == 0


def page_of(raws: list[bytes]) -> Any:
    body = b'{"page":1,"pageSize":50,"hasMore":false,"totalCount":%d,"data":[%b]}' % (
        len(raws),
        b",".join(raws),
    )
    return responses.build_json_response(body)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 500])
def test_an_expired_continuation_token_does_not_stop_loads(
    own_sandbox: Sandbox, context: SyncContext, status: int
) -> None:
    extract_load(context, JOBS, ALL)
    (bookmark,) = query(context.warehouse.name, "SELECT continue_from FROM _st.feeds")
    own_sandbox.interceptors.append(
        lambda request: (
            responses.build_json_response(b"{}", status)
            if request.query_params.get("from") == bookmark[0]
            else None
        )
    )
    for _ in range(2):
        extract_load(context, JOBS, DAY)
    assert date.fromisoformat(requests_to(own_sandbox, "/export/jobs")[-1]["from"])


def test_a_lone_surrogate_is_loaded_with_the_text_around_it(
    own_sandbox: Sandbox, context: SyncContext
) -> None:
    (job_id,) = last_ids(own_sandbox, "jpm.jobs", 1)

    def cut_off(request: Request) -> Any:
        if not request.url.path.endswith("/jobs") or "/export/" in request.url.path:
            return None
        raws = own_sandbox.world.raw("jpm.jobs")
        cut = b'{"summary":"cut off \\ud83d",'
        return page_of(
            [cut + r[1:] if json.loads(r)["id"] == job_id else r for r in raws if b"summary" in r]
        )

    own_sandbox.interceptors.append(cut_off)
    extract_load(context, JOBS, ALL)
    [(extra,)] = rows(context, "_extra::VARCHAR", f"id = {job_id}")
    assert "(lone surrogates)" in extra
    assert json.loads(extra)["(lone surrogates)"].startswith('{"summary":"cut off \\ud83d",')


def test_a_record_that_moves_between_variants_while_both_are_read_is_not_marked(
    own_sandbox: Sandbox, context: SyncContext
) -> None:
    bills = load_catalog()["accounting.ap_bills"]
    extract_load(context, bills, ALL)
    records = own_sandbox.world.records(bills.table)
    moved, deleted_id = [r["id"] for r in records if r["billType"] == "ApBill"][-2:]
    own_sandbox.world.delete(bills.table, deleted_id)
    requested_types: list[str] = []

    def move_over(request: Request) -> None:
        requested_types.append(request.query_params.get("billType", ""))
        if requested_types.count("ApBill") == 1:  # the Procurement ones have been served
            own_sandbox.world.change(bills.table, moved, billType="Procurement")

    own_sandbox.interceptors.append(move_over)
    report = reconcile(context, bills)
    assert requested_types[:1] == ["Procurement"]
    assert rows(context, "bill_type", f"id = {moved}", bills.table) == [("Procurement",)]
    assert (state(context, moved, bills.table), state(context, deleted_id, bills.table)) == (
        "there",
        "deleted",
    )
    assert report is not None
    assert report.loaded.counts.deleted == 1


def without(sandbox: Sandbox, hidden: set[int]) -> Callable[[Request], Any]:
    """Returns an interceptor whose list of jobs lacks the hidden ones."""

    def respond(request: Request) -> Any:
        if not request.url.path.endswith("/jobs") or "/export/" in request.url.path:
            return None
        kept = [r for r in sandbox.world.raw("jpm.jobs") if json.loads(r)["id"] not in hidden]
        if "ids" in request.query_params:
            wanted = set(map(int, request.query_params["ids"].split(",")))
            kept = [r for r in kept if json.loads(r)["id"] in wanted]
        return page_of(kept)

    return respond


def leave_out_of_export(sandbox: Sandbox, left_out: int) -> Callable[[Request], Any]:
    def respond(request: Request) -> Any:
        if "/export/" not in request.url.path:
            return None
        raws = sandbox.world.export_raw("jpm.jobs")
        kept = [raw for raw in raws if json.loads(raw)["id"] != left_out]
        body = b'{"hasMore":false,"continueFrom":"x","data":[%b]}' % b",".join(kept)
        return responses.build_json_response(body)

    return respond


def add_to_export(sandbox: Sandbox, table: str, member: bytes) -> Callable[[Request], Any]:
    def respond(request: Request) -> Any:
        if "/export/" not in request.url.path:
            return None
        raws = [raw[:-1] + b"," + member + b"}" for raw in sandbox.world.export_raw(table)]
        body = b'{"hasMore":false,"continueFrom":"x","data":[%b]}' % b",".join(raws)
        return responses.build_json_response(body)

    return respond


def load_all(context: SyncContext, endpoint: Endpoint) -> LoadReport:
    return extract_load(context, endpoint, ALL if endpoint.partitioned else None)
