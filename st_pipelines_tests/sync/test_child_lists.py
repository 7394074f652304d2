"""Child lists: which parents a load reads, and what their tables hold afterwards."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import duckdb
import pytest
from starlette.requests import Request
from starlette.responses import Response

from st_pipelines.catalog.registry import load_catalog
from st_pipelines.sandbox.responses import build_json_response
from st_pipelines.sandbox.server import Sandbox
from st_pipelines.servicetitan.errors.errors import (
    BadRequest,
    PermissionDenied,
    UnexpectedResponse,
    WrongPath,
)
from st_pipelines.servicetitan.http.retry import NO_WAIT
from st_pipelines.sync import children, sync
from st_pipelines.sync.context import SyncContext
from st_pipelines.sync.sync import extract_load, reconcile
from st_pipelines.sync.verify import verify_table
from st_pipelines.warehouse.errors import ParentNotLoaded, TooManyDeletions
from st_pipelines_tests.children_reader import ALL, ChildReader, load_with_parents, with_parents
from st_pipelines_tests.churn_reader import build_context, comparable, query, table_rows
from st_pipelines_tests.crash_harness import Server

CATALOG = load_catalog()
CHILDREN = [endpoint.table for endpoint in CATALOG if endpoint.parent]
NOTES = CATALOG["crm.customers_notes"]
PATH = "/crm/v2/tenant/{tenant}/customers/{id}/notes"
LIVE = "_deleted_at IS NULL"


@pytest.fixture(scope="module")
def company() -> Iterator[Sandbox]:
    """A small company that nothing changes."""
    now = datetime(2026, 3, 10, 15, 30, tzinfo=timezone.utc)
    with Sandbox(customers=12, now=now, requests_per_second=1e9) as running:
        yield running


@pytest.fixture(scope="module")
def loaded(company: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A warehouse with all child lists and their parents."""
    file = tmp_path_factory.mktemp("children") / "x.duckdb"
    context, done = build_context(company, file), set[str]()
    for table in CHILDREN:
        for endpoint in with_parents(table):
            if endpoint.table not in done:
                extract_load(context, endpoint, ALL if endpoint.partitioned else None)
                done.add(endpoint.table)
    return file


@pytest.fixture
def context(own_sandbox: Sandbox, tmp_path: Path) -> SyncContext:
    return build_context(own_sandbox, tmp_path / "x.duckdb", policy=NO_WAIT)


def count_requests(sandbox: Sandbox, load: Callable[[], object]) -> dict[str, int]:
    """Requests for notes during a load, by the id of the customer."""
    before = len(sandbox.seen)
    load()
    found: dict[str, int] = {}
    for request in list(sandbox.seen)[before:]:
        parts = request.path.split("/")
        if parts[-1] == "notes":
            found[parts[-2]] = found.get(parts[-2], 0) + 1
    return found


def serve(sandbox: Sandbox, bodies: dict[int, Any]) -> None:
    """Serves these notes for these customers; a number is a status."""

    def answer(request: Request) -> Response | None:
        parts = request.url.path.split("/")
        if parts[-1] != "notes" or int(parts[-2]) not in bodies:
            return None
        body = bodies[int(parts[-2])]
        if isinstance(body, int):
            return build_json_response({"title": "no", "status": body}, body)
        page = {"page": 1, "pageSize": 50, "hasMore": False, "totalCount": len(body), "data": body}
        return build_json_response(page)

    sandbox.interceptors[:] = [answer]


def customers(sandbox: Sandbox) -> list[int]:
    """Ids of customers, the latest change first."""
    found = sandbox.world.records("crm.customers")
    found.sort(key=lambda record: (record["modifiedOn"], record["id"]), reverse=True)
    return [record["id"] for record in found]


@pytest.mark.parametrize("table", CHILDREN)
def test_every_child_list_is_loaded_value_by_value(
    company: Sandbox, loaded: Path, table: str
) -> None:
    endpoint = CATALOG[table]
    expected = ChildReader(company).expected_rows(loaded, endpoint)
    assert expected, "the sandbox serves none"
    assert comparable(table_rows(loaded, endpoint, LIVE)) == comparable(expected)


def test_the_ids_of_the_parent_are_columns_and_part_of_the_key() -> None:
    for table in CHILDREN:
        endpoint = CATALOG[table]
        assert endpoint.parent is not None
        assert {*endpoint.parent.ids} <= {field.name for field in endpoint.columns}
        assert not endpoint.key or {*endpoint.parent.ids} <= {*endpoint.key}


def test_a_load_reads_the_parents_that_have_changed_and_no_others(
    own_sandbox: Sandbox, context: SyncContext
) -> None:
    first = count_requests(own_sandbox, lambda: load_with_parents(context, NOTES.table))
    ids = customers(own_sandbox)
    assert first == {str(id_): 1 for id_ in ids}
    assert count_requests(own_sandbox, lambda: load_with_parents(context, NOTES.table)) == {}

    own_sandbox.world.move(timedelta(minutes=1))
    changed = [ids[3], ids[7]]
    for id_ in changed:
        own_sandbox.world.change("crm.customers", id_, name="New name")
    again = count_requests(own_sandbox, lambda: load_with_parents(context, NOTES.table))
    assert again == {str(id_): 1 for id_ in changed}


def test_parents_that_were_deleted_are_not_due(own_sandbox: Sandbox, context: SyncContext) -> None:
    extract_load(context, CATALOG["crm.customers"], ALL)
    [deleted, *others] = customers(own_sandbox)
    own_sandbox.world.delete("crm.customers", deleted)
    reconcile(context, CATALOG["crm.customers"])
    first = count_requests(own_sandbox, lambda: extract_load(context, NOTES, None))
    assert first == {str(id_): 1 for id_ in others}


def test_a_parent_without_an_id_is_not_requested(
    own_sandbox: Sandbox, context: SyncContext, tmp_path: Path
) -> None:
    extract_load(context, CATALOG["crm.customers"], ALL)
    [nameless, *others] = customers(own_sandbox)
    with duckdb.connect(str(tmp_path / "x.duckdb")) as connection:
        connection.execute("UPDATE crm.customers SET id = NULL WHERE id = ?", [nameless])
    first = count_requests(own_sandbox, lambda: extract_load(context, NOTES, None))
    assert first == {str(id_): 1 for id_ in others}


def test_each_tenant_has_parents_of_its_own(tmp_path: Path) -> None:
    """Also those with the same ids as parents of the other tenant."""
    now = datetime(2026, 3, 10, 15, 30, tzinfo=timezone.utc)
    file = tmp_path / "x.duckdb"
    with Sandbox(customers=8, now=now, tenants=2, requests_per_second=1e9) as sandbox:
        for tenant in sandbox.tenants:
            own = Server.from_sandbox(sandbox)
            own = dataclasses.replace(
                own,
                tenant_id=tenant.tenant_id,
                client_id=tenant.client_id,
                client_secret=tenant.client_secret,
            )
            context = build_context(own, file)
            load = lambda c=context: load_with_parents(c, NOTES.table)  # noqa: E731
            world = sandbox.worlds[tenant.tenant_id]
            ids = [str(record["id"]) for record in world.records("crm.customers")]
            assert count_requests(sandbox, load) == dict.fromkeys(ids, 1)
            assert count_requests(sandbox, load) == {}


def test_lists_of_one_parent_do_not_mark_it_as_read_for_each_other(
    own_sandbox: Sandbox, context: SyncContext
) -> None:
    tables = ("crm.locations_notes", "crm.locations_preferred_technicians")
    extract_load(context, CATALOG["crm.locations"], ALL)
    number = len(own_sandbox.world.records("crm.locations"))
    one = dataclasses.replace(context, max_child_requests=1)
    for limited, read, remaining in ((one, 1, number - 1), (context, number - 1, 0), (one, 0, 0)):
        for table in tables:
            report = extract_load(limited, CATALOG[table], None)
            assert report.parents is not None
            assert (report.parents.read, report.parents.remaining) == (read, remaining)


def test_children_that_are_gone_are_marked_and_only_those_of_parents_that_were_read(
    own_sandbox: Sandbox, context: SyncContext, tmp_path: Path
) -> None:
    load_with_parents(context, NOTES.table)
    ids = customers(own_sandbox)
    kept = {"id": 7, "text": "kept", "isPinned": False, "createdById": 1}
    empty, partly, unchanged = ids[:3]
    before = query(tmp_path / "x.duckdb", f"SELECT count(*) FROM {NOTES.table} WHERE {LIVE}")[0][0]
    of_two = query(
        tmp_path / "x.duckdb",
        f"SELECT count(*) FROM {NOTES.table} WHERE customer_id IN ({empty}, {partly})",
    )[0][0]
    serve(own_sandbox, {empty: [], partly: [kept], unchanged: []})
    own_sandbox.world.move(timedelta(minutes=1))
    for id_ in (empty, partly):
        own_sandbox.world.change("crm.customers", id_, name="New name")

    report = load_with_parents(context, NOTES.table)

    assert report.loaded.counts.deleted == of_two
    assert report.loaded.counts.inserted == 1
    live = query(tmp_path / "x.duckdb", f"SELECT id FROM {NOTES.table} WHERE {LIVE}")
    assert len(live) == before - of_two + 1
    assert (7,) in live


def test_children_come_back(own_sandbox: Sandbox, context: SyncContext, tmp_path: Path) -> None:
    load_with_parents(context, NOTES.table)
    before = table_rows(tmp_path / "x.duckdb", NOTES, LIVE)
    [first, *_] = customers(own_sandbox)
    serve(own_sandbox, {first: []})
    for bodies in ({first: []}, {}):
        serve(own_sandbox, bodies)
        own_sandbox.world.move(timedelta(minutes=1))
        own_sandbox.world.change("crm.customers", first, name="New name")
        load_with_parents(context, NOTES.table)
    assert comparable(table_rows(tmp_path / "x.duckdb", NOTES, LIVE)) == comparable(before)


def test_a_parent_without_a_list_is_a_state_and_no_failure(
    own_sandbox: Sandbox, context: SyncContext, tmp_path: Path
) -> None:
    load_with_parents(context, NOTES.table)
    [gone, *_] = customers(own_sandbox)
    serve(own_sandbox, {gone: 404})
    own_sandbox.world.move(timedelta(minutes=1))
    own_sandbox.world.change("crm.customers", gone, name="New name")

    report = load_with_parents(context, NOTES.table)

    assert report.parents is not None
    assert (report.parents.read, report.parents.not_found) == (1, 1)
    state = f"SELECT found FROM _st.child_reads WHERE parent_key = '{gone}'"
    assert query(tmp_path / "x.duckdb", state) == [(False,)]
    live = f"SELECT 1 FROM {NOTES.table} WHERE customer_id = {gone} AND {LIVE}"
    assert query(tmp_path / "x.duckdb", live) == []
    assert count_requests(own_sandbox, lambda: load_with_parents(context, NOTES.table)) == {}


def test_a_parent_that_had_no_list_proves_nothing_about_the_path(
    own_sandbox: Sandbox, context: SyncContext
) -> None:
    """It changed last of those that are not due, and would be requested as a control."""
    [changed, gone, *_] = customers(own_sandbox)
    serve(own_sandbox, {gone: 404})
    load_with_parents(context, NOTES.table)
    serve(own_sandbox, {gone: 404, changed: 404})
    own_sandbox.world.move(timedelta(minutes=1))
    own_sandbox.world.change("crm.customers", changed, name="New name")
    report = load_with_parents(context, NOTES.table)
    assert report.parents is not None
    assert (report.parents.read, report.parents.not_found) == (1, 1)


def test_only_404_and_410_say_that_a_parent_is_gone(
    own_sandbox: Sandbox, context: SyncContext, tmp_path: Path
) -> None:
    """A redirect says that the path is wrong, and nothing about the parent."""
    load_with_parents(context, NOTES.table)
    before = table_rows(tmp_path / "x.duckdb", NOTES, LIVE)
    [changed, *_] = customers(own_sandbox)
    serve(own_sandbox, {changed: 301})
    own_sandbox.world.move(timedelta(minutes=1))
    own_sandbox.world.change("crm.customers", changed, name="New name")
    with pytest.raises(WrongPath):
        load_with_parents(context, NOTES.table)
    assert comparable(table_rows(tmp_path / "x.duckdb", NOTES, LIVE)) == comparable(before)

    serve(own_sandbox, {changed: 410})
    report = load_with_parents(context, NOTES.table)
    assert report.parents is not None
    assert report.parents.not_found == 1


def test_a_path_that_no_parent_has_is_an_error(
    own_sandbox: Sandbox, context: SyncContext, tmp_path: Path
) -> None:
    """Whether at the first load, or later: then a parent that was served before is asked too."""
    ids = customers(own_sandbox)
    serve(own_sandbox, dict.fromkeys(ids, 404))
    with pytest.raises(WrongPath):
        load_with_parents(context, NOTES.table)
    serve(own_sandbox, {})
    load_with_parents(context, NOTES.table)
    before = table_rows(tmp_path / "x.duckdb", NOTES, LIVE)

    serve(own_sandbox, dict.fromkeys(ids, 404))
    own_sandbox.world.move(timedelta(minutes=1))
    own_sandbox.world.change("crm.customers", ids[0], name="New name")
    with pytest.raises(WrongPath):
        load_with_parents(context, NOTES.table)
    assert comparable(table_rows(tmp_path / "x.duckdb", NOTES, LIVE)) == comparable(before)


def test_a_parent_that_fails_does_not_hold_up_the_others(
    own_sandbox: Sandbox, context: SyncContext
) -> None:
    [broken, *others] = customers(own_sandbox)
    serve(own_sandbox, {broken: 400})
    with pytest.raises(BadRequest):
        load_with_parents(context, NOTES.table)
    serve(own_sandbox, {})
    again = count_requests(own_sandbox, lambda: load_with_parents(context, NOTES.table))
    assert again == {str(broken): 1}
    assert others


def test_what_was_read_before_permission_is_lost_is_kept(
    own_sandbox: Sandbox, context: SyncContext
) -> None:
    ids = customers(own_sandbox)
    serve(own_sandbox, {ids[20]: 403})
    with pytest.raises(PermissionDenied):
        load_with_parents(context, NOTES.table)
    serve(own_sandbox, {})
    again = count_requests(own_sandbox, lambda: load_with_parents(context, NOTES.table))
    assert set(again) == {str(id_) for id_ in ids[20:]}


@pytest.mark.parametrize("requests", [5, 500])
def test_many_failures_end_the_load(
    own_sandbox: Sandbox, context: SyncContext, monkeypatch: pytest.MonkeyPatch, requests: int
) -> None:
    """Within a transaction, and those that would follow."""
    monkeypatch.setattr(children, "REQUESTS_PER_COMMIT", requests)
    ids = customers(own_sandbox)
    serve(own_sandbox, dict.fromkeys(ids, 400))
    with pytest.raises(BadRequest):
        load_with_parents(context, NOTES.table)
    assert len(ids) > 25
    assert own_sandbox.requests[PATH.replace("{id}", str(ids[-1]))] == 0


def test_a_load_stops_at_its_limit_and_the_next_goes_on_with_the_newest(
    own_sandbox: Sandbox, context: SyncContext, tmp_path: Path
) -> None:
    said: list[str] = []
    few = dataclasses.replace(context, max_child_requests=10, announce=said.append)
    ids = customers(own_sandbox)
    load = lambda: load_with_parents(few, NOTES.table)  # noqa: E731
    first = count_requests(own_sandbox, load)
    assert set(first) == {str(id_) for id_ in ids[:10]}
    assert said == [
        f"crm.customers_notes: {len(ids)} of {len(ids)} rows of crm.customers are due; 10 of them "
        "are read now: about 10 requests, 0.0 minutes at 10000 requests a second; "
        f"{len(ids) - 10} are left for later loads (ST_MAX_CHILD_REQUESTS)"
    ]
    report = load()
    assert report.parents is not None
    assert report.parents.remaining == len(ids) - 20
    while load().parents.remaining:  # pyright: ignore[reportOptionalMemberAccess]
        pass
    expected = ChildReader(own_sandbox).expected_rows(tmp_path / "x.duckdb", NOTES)
    assert comparable(table_rows(tmp_path / "x.duckdb", NOTES, LIVE)) == comparable(expected)


def test_the_limit_counts_requests_and_not_parents(
    own_sandbox: Sandbox, context: SyncContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each list has two pages, so half as many parents are read as there may be requests."""
    monkeypatch.setattr(children, "REQUESTS_PER_COMMIT", 5)

    def answer(request: Request) -> Response | None:
        if not request.url.path.endswith("/notes"):
            return None
        number = int(request.query_params["page"])
        size = int(request.query_params["pageSize"])
        first = (number - 1) * size
        ids = range(first, size + 1)[:size]
        page = {"page": number, "pageSize": size, "hasMore": number == 1, "totalCount": size + 1}
        return build_json_response({**page, "data": [{"id": id_} for id_ in ids]})

    own_sandbox.interceptors.append(answer)
    small = build_context(own_sandbox, Path(context.warehouse.uri), page_size=50)
    few = dataclasses.replace(small, max_child_requests=20)
    report = load_with_parents(few, NOTES.table)
    assert report.parents is not None
    assert report.read.requests >= 20
    assert report.parents.read < 20


def test_no_request_is_sent_where_the_limit_is_none(
    own_sandbox: Sandbox, context: SyncContext
) -> None:
    off = dataclasses.replace(context, max_child_requests=0)
    assert count_requests(own_sandbox, lambda: load_with_parents(off, NOTES.table)) == {}


def test_a_list_without_its_parents_says_what_to_load(context: SyncContext) -> None:
    with pytest.raises(ParentNotLoaded, match=r"load crm\.customers first"):
        extract_load(context, NOTES, None)
    extract_load(context, CATALOG["crm.leads"], ALL)
    with pytest.raises(ParentNotLoaded, match=r"load crm\.customers first"):
        extract_load(context, NOTES, None)


def test_parents_that_were_loaded_and_are_none_are_no_error(
    own_sandbox: Sandbox, context: SyncContext
) -> None:
    def answer(request: Request) -> Response | None:
        if not request.url.path.endswith("/customers"):
            return None
        page = {"page": 1, "pageSize": 50, "hasMore": False, "totalCount": 0, "data": []}
        return build_json_response(page)

    own_sandbox.interceptors.append(answer)
    report = load_with_parents(context, NOTES.table)
    assert report.parents is not None
    assert (report.parents.read, report.parents.remaining) == (0, 0)


def test_a_table_that_was_dropped_is_read_again_for_all_parents(
    own_sandbox: Sandbox, context: SyncContext, tmp_path: Path
) -> None:
    """Also where a load reads only some of them, and its successors the others."""
    load_with_parents(context, NOTES.table)
    before = table_rows(tmp_path / "x.duckdb", NOTES, LIVE)
    with duckdb.connect(str(tmp_path / "x.duckdb")) as connection:
        connection.execute(f"DROP TABLE {NOTES.table}")
    few = dataclasses.replace(context, max_child_requests=10)
    remaining = []
    while not remaining or remaining[-1]:
        report = extract_load(few, NOTES, None)
        assert report.parents is not None
        remaining.append(report.parents.remaining)
    number = len(customers(own_sandbox))
    assert remaining == [*range(number - 10, 0, -10), 0]
    assert comparable(table_rows(tmp_path / "x.duckdb", NOTES, LIVE)) == comparable(before)


def test_a_snapshot_of_parents_makes_all_of_them_due_and_so_does_every_load(
    own_sandbox: Sandbox, context: SyncContext
) -> None:
    """A parent without a time of change, and one whose time of change says nothing."""
    for table in (
        "jpm.work_breakdown_structure_segments_items",
        "memberships.membership_types_discounts",
    ):
        first = load_with_parents(context, table)
        assert first.parents is not None
        assert first.parents.read > 1
        again = extract_load(context, CATALOG[table], None)
        assert again.parents is not None
        assert again.parents.read == 0
        after = load_with_parents(context, table)
        assert after.parents == first.parents
        assert after.loaded.counts.unchanged == first.loaded.counts.inserted


def test_reconciling_reads_all_parents_the_longest_unread_first(
    own_sandbox: Sandbox, context: SyncContext, tmp_path: Path
) -> None:
    load_with_parents(context, NOTES.table)
    ids = customers(own_sandbox)
    changed = {"id": 8, "text": "silent", "isPinned": False, "createdById": 1}
    serve(own_sandbox, {ids[4]: [changed]})
    few = dataclasses.replace(context, max_child_requests=len(ids) // 2 + 1)
    once = count_requests(own_sandbox, lambda: reconcile(few, NOTES))
    twice = count_requests(own_sandbox, lambda: reconcile(few, NOTES))
    assert {*once, *twice} == {str(id_) for id_ in ids}
    assert len(once) == len(ids) // 2 + 1
    assert query(
        tmp_path / "x.duckdb",
        f"SELECT id FROM {NOTES.table} WHERE customer_id = {ids[4]} AND {LIVE}",
    ) == [(8,)]


def test_parents_that_are_read_a_second_time_count_once(
    own_sandbox: Sandbox, context: SyncContext, tmp_path: Path
) -> None:
    """So many of their children are gone that a second read has to confirm it."""
    ids = customers(own_sandbox)
    many = [{"id": id_, "text": "x"} for id_ in range(1, 51)]
    serve(own_sandbox, dict.fromkeys(ids[:3], many))
    load_with_parents(context, NOTES.table)
    serve(own_sandbox, dict.fromkeys(ids[:3], many[:1]))
    own_sandbox.world.move(timedelta(minutes=1))
    for id_ in ids[:3]:
        own_sandbox.world.change("crm.customers", id_, name="New name")
    extract_load(context, CATALOG["crm.customers"], ALL)
    reports = []
    seen = count_requests(own_sandbox, lambda: reports.append(extract_load(context, NOTES, None)))
    assert seen == {str(id_): 2 for id_ in ids[:3]}
    assert reports[0].parents.read == 3
    assert reports[0].loaded.counts.deleted == 3 * 49
    reads = query(tmp_path / "x.duckdb", "SELECT count(*) FROM _st.child_reads")
    assert reads == [(len(ids),)]


def test_many_parents_that_lose_everything_are_doubted(
    own_sandbox: Sandbox, context: SyncContext, tmp_path: Path
) -> None:
    load_with_parents(context, NOTES.table)
    before = table_rows(tmp_path / "x.duckdb", NOTES, LIVE)
    ids = customers(own_sandbox)
    serve(own_sandbox, {id_: [] for id_ in ids})
    with pytest.raises(TooManyDeletions):
        reconcile(context, NOTES)
    assert comparable(table_rows(tmp_path / "x.duckdb", NOTES, LIVE)) == comparable(before)
    reconcile(dataclasses.replace(context, accept_deletions=True), NOTES)
    assert table_rows(tmp_path / "x.duckdb", NOTES, LIVE) == []


@pytest.mark.parametrize("texts", [["b"], []], ids=["changed", "deleted"])
def test_a_load_that_another_one_overtakes_undoes_nothing(
    own_sandbox: Sandbox,
    context: SyncContext,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    texts: list[str],
) -> None:
    """The other load commits between the read and the commit of the first, for every parent."""
    load_with_parents(context, NOTES.table)
    [changed, *_] = customers(own_sandbox)
    older, *newer = (
        {"id": 9, "text": text, "isPinned": False, "createdById": 1} for text in ("a", *texts)
    )
    own_sandbox.world.move(timedelta(minutes=1))
    own_sandbox.world.change("crm.customers", changed, name="New name")
    extract_load(context, CATALOG["crm.customers"], ALL)
    serve(own_sandbox, {changed: [older]})
    commit, rivals = sync.commit_load, [newer]

    def commit_later(*args: Any, **more: Any) -> Any:
        if rivals:
            serve(own_sandbox, {changed: rivals.pop()})
            extract_load(context, NOTES, None)
        return commit(*args, **more)

    monkeypatch.setattr(sync, "commit_load", commit_later)
    extract_load(context, NOTES, None)
    held = f"SELECT id, text FROM {NOTES.table} WHERE customer_id = {changed} AND {LIVE}"
    assert query(tmp_path / "x.duckdb", held) == [(9, text) for text in texts]
    expected = ChildReader(own_sandbox).expected_rows(tmp_path / "x.duckdb", NOTES)
    assert comparable(table_rows(tmp_path / "x.duckdb", NOTES, LIVE)) == comparable(expected)


def test_verify_compares_the_children_of_parents_that_are_up_to_date(
    own_sandbox: Sandbox, context: SyncContext, tmp_path: Path
) -> None:
    load_with_parents(context, NOTES.table)
    result = verify_table(context, NOTES)
    assert result.same
    assert result.values
    assert result.rows_here == result.rows_there > 10
    with duckdb.connect(str(tmp_path / "x.duckdb")) as connection:
        connection.execute(f"UPDATE {NOTES.table} SET text = 'wrong' WHERE rowid = 3")
        connection.execute(f"DELETE FROM {NOTES.table} WHERE rowid = 5")
    differing = verify_table(context, NOTES)
    assert {d.kind for d in differing.differences} == {"differs", "missing"}


def test_verify_leaves_out_parents_that_are_due(own_sandbox: Sandbox, context: SyncContext) -> None:
    load_with_parents(context, NOTES.table)
    [changed, *_] = customers(own_sandbox)
    own_sandbox.world.move(timedelta(minutes=1))
    own_sandbox.world.change("crm.customers", changed, name="New name")
    extract_load(context, CATALOG["crm.customers"], ALL)
    serve(own_sandbox, {changed: [{"id": 7, "text": "new"}]})
    assert verify_table(context, NOTES).same


def test_verify_compares_a_sample_of_many_parents(
    own_sandbox: Sandbox, context: SyncContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_with_parents(context, NOTES.table)
    monkeypatch.setattr(children, "PARENTS_TO_VERIFY", 10)
    results = []
    seen = count_requests(own_sandbox, lambda: results.append(verify_table(context, NOTES)))
    assert 5 <= len(seen) <= 10
    assert results[0].parents == (len(seen), len(customers(own_sandbox)))


def test_only_the_last_reading_of_a_list_counts(
    own_sandbox: Sandbox, context: SyncContext, tmp_path: Path
) -> None:
    """A second page that is too large is read again by smaller ones, with other records."""
    [first, *_] = customers(own_sandbox)

    def answer(request: Request) -> Response | None:
        if not request.url.path.endswith(f"/{first}/notes"):
            return None
        number = int(request.query_params["page"])
        size = int(request.query_params["pageSize"])
        if number > 1 and size > 60:
            return build_json_response({"title": "no", "status": 500}, 500)
        begin = 1 if size > 60 else 1001
        ids = range(begin, begin + 150)[(number - 1) * size : number * size]
        page = {"page": number, "pageSize": size, "hasMore": number * size < 150}
        return build_json_response(
            {**page, "totalCount": 150, "data": [{"id": id_, "text": "x"} for id_ in ids]}
        )

    own_sandbox.interceptors.append(answer)
    load_with_parents(
        build_context(own_sandbox, tmp_path / "x.duckdb", policy=NO_WAIT, page_size=120),
        NOTES.table,
    )
    held = query(tmp_path / "x.duckdb", f"SELECT id FROM {NOTES.table} WHERE customer_id = {first}")
    assert sorted(held) == [(id_,) for id_ in range(1001, 1151)]


@pytest.mark.parametrize("wrong", ["more follow", "of another job"])
def test_a_list_by_ids_that_is_not_that_of_the_ids_loads_nothing(
    own_sandbox: Sandbox, context: SyncContext, wrong: str
) -> None:
    def answer(request: Request) -> Response | None:
        if not request.url.path.endswith("/cancel-reasons"):
            return None
        id_ = 1 if wrong == "of another job" else int(request.query_params["ids"].split(",")[0])
        page = {"page": 1, "pageSize": 50, "hasMore": wrong == "more follow", "totalCount": None}
        return build_json_response({**page, "data": [{"jobId": id_, "reasonId": 1}]})

    own_sandbox.interceptors.append(answer)
    with pytest.raises(UnexpectedResponse, match="jobs_cancel_reasons"):
        load_with_parents(context, "jpm.jobs_cancel_reasons")
    with context.warehouse.read_only() as connection:
        found = connection.execute("SELECT count(*) FROM jpm.jobs_cancel_reasons").fetchall()
    assert found == [(0,)]


def test_a_record_keeps_a_field_that_is_named_like_the_id_of_its_parent(
    own_sandbox: Sandbox, context: SyncContext, tmp_path: Path
) -> None:
    [first, second, third, *_] = customers(own_sandbox)
    serve(
        own_sandbox,
        {
            first: [{"id": 1, "customerId": first}],
            second: [{"customerId": 5, "id": 1}, {"id": 2, "customerId": None}],
            third: [{}],
        },
    )
    report = load_with_parents(context, NOTES.table)
    rows = query(
        tmp_path / "x.duckdb",
        f"SELECT customer_id, id, _extra::VARCHAR FROM {NOTES.table} "
        f"WHERE customer_id IN ({first}, {second}, {third}) ORDER BY ALL",
    )
    assert sorted(rows, key=repr) == sorted(
        [
            (first, 1, None),
            (second, 1, json.dumps({"served_customerId": 5}, separators=(",", ":"))),
            (second, 2, None),
            (third, None, None),
        ],
        key=repr,
    )
    assert dict(report.drift.counts) == {"served_customerId": 1}
