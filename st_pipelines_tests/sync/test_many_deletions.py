"""A load that would delete a large part of a table reads again, looks ids up, or asks a person.

One empty or halved response once deleted a table, and the load reported success.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from starlette.requests import Request
from starlette.responses import Response
from typer.testing import CliRunner

from st_pipelines.catalog.model import Catalog, Endpoint
from st_pipelines.catalog.registry import load_catalog
from st_pipelines.cli.app import app
from st_pipelines.definitions import build_definitions
from st_pipelines.sandbox import responses
from st_pipelines.sandbox.server import Sandbox
from st_pipelines.servicetitan.reading.lookup import MAX_IDS
from st_pipelines.sync import deletions
from st_pipelines.sync.session import connect
from st_pipelines.sync.sync import LoadReport, SyncContext, extract_load, reconcile
from st_pipelines.warehouse.errors import TooManyDeletions
from st_pipelines.warehouse.store.duckdb_file import DuckDBFile
from st_pipelines.warehouse.tables import deletion_guard
from st_pipelines_tests.churn_reader import build_context, days, query
from st_pipelines_tests.servicetitan.fake_server import Canned, ScriptedServer, Seen
from st_pipelines_tests.warehouse.factories import endpoint, record

NOW = datetime(2026, 1, 10, tzinfo=timezone.utc)
ALL = days("2026-01-01", "2026-01-09", open_start=True)
LIST = endpoint(ids=True)
WITHOUT_IDS = endpoint(name="others")
HALF = (*range(1, 100, 2), 100)


class Source:
    """A server whose list and lookups can be wrong.

    Attributes:
        there: the ids that exist.
        lists: what the next readings of the list serve; then it serves what exists.
        looked_up: the ids of each lookup.
        inactive: those of the ids that exist that are inactive.
        hides_inactive: ignores `active=Any`, in the list as in lookups.
        looks_at: of the ids of a lookup, those that the server looks at.
    """

    def __init__(self, server: ScriptedServer) -> None:
        self.there: set[int] = set()
        self.lists: list[Iterable[int]] = []
        self.readings = 0
        self.looked_up: list[list[int]] = []
        self.inactive: set[int] = set()
        self.hides_inactive = False
        self.looks_at: Callable[[list[int]], list[int]] = lambda ids: ids
        server.rule = self._answer

    def _answer(self, seen: Seen) -> Canned:
        if "ids" in seen.query:
            self.looked_up.append([int(id_) for id_ in seen.query["ids"].split(",")])
            served = self.there & {*self.looks_at(self.looked_up[-1])}
        else:
            self.readings += 1
            served = self.lists.pop(0) if self.lists else self.there
        served = {*served} - (self.inactive if self.hides_inactive else set())
        data = [record(id=id_, active=id_ not in self.inactive) for id_ in sorted(served)]
        return Canned(body={"data": data, "hasMore": False, "totalCount": len(data), "page": 1})


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    server = ScriptedServer()
    yield server
    server.close()


@pytest.fixture
def source(server: ScriptedServer) -> Source:
    source = Source(server)
    source.there = {*range(1, 101)}
    return source


@pytest.fixture
def context(server: ScriptedServer, source: Source, tmp_path: Path) -> Iterator[SyncContext]:
    client = server.client()
    context = SyncContext(
        client=client,
        warehouse=DuckDBFile(uri=str(tmp_path / "w.duckdb"), wait_seconds=5),
        timezone="America/New_York",
        run_id="test",
        catalog=Catalog({of.table: of for of in (LIST, WITHOUT_IDS)}),
        clock=lambda: NOW,
    )
    for of in (LIST, WITHOUT_IDS):
        extract_load(context, of, ALL)
    source.readings, source.looked_up = 0, []
    yield context
    client.close()


def live(context: SyncContext, of: Endpoint = LIST) -> set[int]:
    rows = query(
        Path(context.warehouse.name), f"SELECT id FROM {of.table} WHERE _deleted_at IS NULL"
    )
    return {row[0] for row in rows}


def refuse(context: SyncContext, of: Endpoint = LIST) -> str:
    before = query(Path(context.warehouse.name), "FROM _st.loads ORDER BY ALL")
    with pytest.raises(TooManyDeletions) as raised:
        reconcile(context, of)
    assert live(context, of) == {*range(1, 101)}
    assert query(Path(context.warehouse.name), "FROM _st.loads ORDER BY ALL") == before
    return str(raised.value)


def must(report: LoadReport | None) -> LoadReport:
    assert report is not None
    return report


def test_a_list_that_is_empty_once_deletes_nothing(context: SyncContext, source: Source) -> None:
    source.lists = [()]
    report = must(reconcile(context, LIST))
    assert (report.loaded.counts.deleted, source.readings) == (0, 2)
    assert live(context) == source.there


def test_few_deletions_take_one_read_and_one_lookup(context: SyncContext, source: Source) -> None:
    source.there -= {*range(41, 61)}
    reconcile(context, LIST)
    assert (source.readings, source.looked_up) == (1, [[*range(40, 62)]])
    assert live(context) == source.there


def test_few_rows_that_a_list_lacks_stay_if_their_ids_are_served(
    context: SyncContext, source: Source
) -> None:
    source.lists = [range(1, 81)]
    source.there -= {90}
    report = must(reconcile(context, LIST))
    assert (source.readings, report.loaded.counts.deleted) == (1, 1)
    assert live(context) == source.there


@pytest.mark.parametrize("readings", [1, 2])
def test_a_small_table_is_emptied_only_by_two_reads(
    context: SyncContext, source: Source, readings: int
) -> None:
    source.there = {1, 2, 3}
    accepting = dataclasses.replace(context, accept_deletions=True)
    reconcile(accepting, WITHOUT_IDS)
    source.lists = [()] * readings
    reconcile(context, WITHOUT_IDS)
    assert live(context, WITHOUT_IDS) == ({1, 2, 3} if readings == 1 else set())


@pytest.mark.parametrize("of", [LIST, WITHOUT_IDS], ids=["with ids", "without ids"])
def test_deletions_that_two_reads_and_lookups_confirm_are_made(
    context: SyncContext, source: Source, of: Endpoint
) -> None:
    source.there = {*HALF}
    reconcile(context, of)
    assert live(context, of) == source.there
    assert source.readings == 2
    if of is LIST:
        [ids] = source.looked_up
        assert len(ids) == MAX_IDS
        assert {ids[0], ids[-1]} <= source.there
        assert len(source.there & {*ids}) == 2


@pytest.mark.parametrize("of", [LIST, WITHOUT_IDS], ids=["with ids", "without ids"])
def test_two_different_halves_do_not_agree(
    context: SyncContext, source: Source, of: Endpoint
) -> None:
    source.lists = [range(1, 51), range(51, 101)]
    source.there = set()  # the lookups would confirm it
    assert "A first read still had 50 of them" in refuse(context, of) or of is LIST


def test_a_missing_row_that_is_served_by_its_id_stops_the_load(
    context: SyncContext, source: Source
) -> None:
    source.lists = [range(1, 51), range(1, 51)]
    source.there = {*range(1, 51), 75}
    assert "1 are still served by their ids" in refuse(context)


@pytest.mark.parametrize("of_them", ["all are served", "one is served", "none is served"])
def test_of_more_rows_than_are_looked_up_a_sample_is(
    context: SyncContext, source: Source, monkeypatch: pytest.MonkeyPatch, of_them: str
) -> None:
    """They are few of the table, so that one read was believed."""
    for module in (deletions, deletion_guard):
        monkeypatch.setattr(module, "MAX_LOOKUPS", 5)
    missing = {*range(50, 58)}
    listed = source.there - missing
    served = {"all are served": missing, "one is served": {52}, "none is served": set()}[of_them]
    source.there = listed | served
    source.lists = [listed] * 2
    if served:
        assert f"{len(served)} are still served by their ids" in refuse(context)
    else:
        reconcile(context, LIST)
        assert (live(context), source.readings) == (listed, 1)


@pytest.mark.parametrize(
    "looks_at",
    [lambda ids: ids[:2], lambda ids: [], lambda ids: ids[:1] if 60 in ids else ids],
    ids=["the first two", "none", "the first one where 60 is among them"],
)
def test_a_server_that_does_not_answer_for_each_id_confirms_nothing(
    context: SyncContext, source: Source, looks_at: Callable[[list[int]], list[int]]
) -> None:
    """A half of the sample that was confirmed once passed for all of it."""
    source.there, source.looks_at = {*HALF}, looks_at
    assert "lookups by id did not confirm it" in refuse(context)


def test_a_server_that_cuts_off_ids_is_asked_for_fewer_at_a_time(
    context: SyncContext, source: Source
) -> None:
    source.there = {*HALF}
    source.looks_at = lambda ids: ids[:30]
    reconcile(context, LIST)
    assert live(context) == source.there
    assert [len(asked) for asked in source.looked_up] == [50, 26, 26]


def test_rows_beyond_all_served_ones_are_looked_up_in_batches_that_the_server_can_serve(
    context: SyncContext, source: Source
) -> None:
    source.there = {*range(1, 31)}
    reconcile(context, LIST)
    assert live(context) == source.there
    assert source.looked_up[0] == [*range(1, 31)]
    assert max(map(len, source.looked_up)) == 30


@pytest.mark.parametrize("of", [LIST, WITHOUT_IDS], ids=["with ids", "without ids"])
@pytest.mark.parametrize("served", [(), range(500, 600)], ids=["empty", "of another tenant"])
def test_a_list_that_has_nothing_of_the_table_needs_a_person(
    context: SyncContext, source: Source, of: Endpoint, served: Iterable[int]
) -> None:
    source.there = {*served}
    assert "Nothing of it would be left" in refuse(context, of)
    assert source.readings == 2
    reconcile(dataclasses.replace(context, accept_deletions=True), of)
    assert live(context, of) == source.there


def test_a_window_whose_rows_are_gone_is_read_and_looked_up_twice(
    context: SyncContext, source: Source
) -> None:
    source.there = {*HALF}
    report = extract_load(context, LIST, ALL)
    assert report.loaded.counts.deleted == 49
    assert source.readings == 2
    assert live(context) == source.there


def test_inactive_rows_are_not_gone_where_lookups_serve_no_inactive_record(
    context: SyncContext, source: Source
) -> None:
    """A server that ignores `active=Any` would have hidden them, and active controls not."""
    source.inactive = {*range(81, 101)}
    extract_load(context, LIST, ALL)
    source.hides_inactive = True
    source.there -= {50, 90}
    assert extract_load(context, LIST, ALL).loaded.counts.deleted == 1
    assert live(context) == {*range(1, 101)} - {50}
    source.hides_inactive = False
    assert extract_load(context, LIST, ALL).loaded.counts.deleted == 1
    assert live(context) == source.there


def test_an_empty_window_of_a_server_that_knows_no_ids_deletes_nothing(
    context: SyncContext, source: Source
) -> None:
    source.there = set()
    report = extract_load(context, LIST, ALL)
    assert report.loaded.counts.deleted == 0
    assert live(context) == {*range(1, 101)}


def test_a_session_accepts_deletions_call_by_call(
    own_sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in own_sandbox.environment().items():
        monkeypatch.setenv(name, value)
    with connect("production") as session:
        session.load(ROLES)
        own_sandbox.interceptors.append(empty)
        for call in (session.load, session.reconcile):
            with pytest.raises(TooManyDeletions):
                call(ROLES)
        report = must(session.reconcile(ROLES, accept_deletions=True))
    assert report.loaded.counts.deleted > 20


def test_a_short_window_is_filled_by_lookups(context: SyncContext, source: Source) -> None:
    source.lists = [range(1, 51)]
    report = extract_load(context, LIST, ALL)
    assert report.loaded.counts.deleted == 0
    assert live(context) == source.there


JOBS, ROLES = load_catalog()["jpm.jobs"], "settings.user_roles"


class TestSandbox:
    """A whole environment whose lists turn empty."""

    @pytest.fixture
    def file(self, own_sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """The warehouse of an environment with all jobs and roles."""
        for name, value in own_sandbox.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("SERVICETITAN_TIMEZONE", "America/New_York")
        monkeypatch.setenv("SERVICETITAN_START_DATE", "2026-03-06")
        monkeypatch.setenv("SERVICETITAN_SELECT", f"jpm.jobs,{ROLES}")
        monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
        (tmp_path / "home").mkdir()
        monkeypatch.setattr("st_pipelines.cli.load.utc_now", lambda: own_sandbox.world.now)
        assert run("load").exit_code == 0
        return tmp_path / "data" / "production.duckdb"

    @pytest.fixture
    def instance(self, tmp_path: Path) -> Iterator[dg.DagsterInstance]:
        with dg.DagsterInstance.local_temp(str(tmp_path / "home")) as instance:
            yield instance

    def test_a_feed_keeps_its_bookmark_when_the_load_is_refused(
        self, own_sandbox: Sandbox, tmp_path: Path
    ) -> None:
        context = build_context(own_sandbox, tmp_path / "w.duckdb")
        extract_load(context, JOBS, days("2026-03-01", "2026-03-10", open_start=True))
        tables = ("jpm.jobs", "_st.feeds", "_st.loads")
        before = [query(tmp_path / "w.duckdb", f"FROM {table} ORDER BY ALL") for table in tables]
        own_sandbox.interceptors.append(empty)
        with pytest.raises(TooManyDeletions):
            reconcile(context, JOBS)
        assert [
            query(tmp_path / "w.duckdb", f"FROM {table} ORDER BY ALL") for table in tables
        ] == before
        context.client.close()

    def test_a_feed_that_calls_many_records_inactive_is_confirmed_like_other_deletions(
        self, own_sandbox: Sandbox, tmp_path: Path
    ) -> None:
        """The list and its lookups serve none of them, so they are marked; twice is sure enough."""
        context = build_context(own_sandbox, tmp_path / "w.duckdb")
        extract_load(context, JOBS, days("2026-03-01", "2026-03-10", open_start=True))
        rows = count(tmp_path / "w.duckdb", "jpm.jobs")
        own_sandbox.world.move(timedelta(minutes=5))
        ids = [job["id"] for job in own_sandbox.world.records("jpm.jobs")][10:50]
        for id_ in ids:
            own_sandbox.world.deactivate("jpm.jobs", id_)
        requests = list[str]()

        def hide(request: Request) -> Response | None:
            requests.append(str(request.url))
            if not request.url.path.endswith("/jobs") or "/export/" in request.url.path:
                return None
            jobs = [r for r in own_sandbox.world.records("jpm.jobs") if r["id"] not in ids]
            if wanted := request.query_params.get("ids"):
                jobs = [job for job in jobs if job["id"] in map(int, wanted.split(","))]
            page = {"page": 1, "hasMore": False, "totalCount": len(jobs), "data": jobs}
            return responses.build_json_response(json.dumps(page).encode())

        own_sandbox.interceptors.append(hide)
        report = extract_load(context, JOBS, days("2026-03-10", "2026-03-10"))
        assert report.loaded.counts.deleted == len(ids)
        assert count(tmp_path / "w.duckdb", "jpm.jobs") == rows - len(ids)
        assert sum("/export/" in url for url in requests) == 2
        context.client.close()

    def test_the_commands_name_their_flag_and_take_it(
        self, own_sandbox: Sandbox, file: Path
    ) -> None:
        own_sandbox.interceptors.append(empty)
        for command, table in (("reconcile", "jpm.jobs"), ("load", ROLES)):
            rows = count(file, table)
            assert rows > 20
            refused = run(command, "--select", table)
            assert refused.exit_code == 1
            assert f"{rows} of {rows} live rows" in refused.stdout
            assert "--accept-deletions" in refused.stdout
            assert count(file, table) == rows
            done = run(command, "--select", table, "--accept-deletions")
            assert done.exit_code == 0, done.output
            assert count(file, table) == 0

    def test_a_materialization_takes_the_flag_from_its_run_config(
        self, own_sandbox: Sandbox, file: Path, instance: dg.DagsterInstance
    ) -> None:
        own_sandbox.interceptors.append(empty)
        rows = count(file, ROLES)
        definitions = build_definitions("production")
        job, key = definitions.resolve_implicit_global_asset_job_def(), asset_key(ROLES)
        results = [
            job.execute_in_process(
                instance=instance, asset_selection=[key], run_config=config, raise_on_error=False
            )
            for config in ({}, ACCEPTING)
        ]
        assert [result.success for result in results] == [False, True]
        [failure] = results[0].get_step_failure_events()
        data = failure.step_failure_data.user_failure_data
        assert data
        assert f"{rows} of {rows} live rows" in str(data.description)
        assert count(file, ROLES) == 0

    def test_the_job_reconcile_evaluates_the_checks_of_its_assets(
        self, own_sandbox: Sandbox, file: Path, instance: dg.DagsterInstance
    ) -> None:
        job = build_definitions("production").resolve_job_def("reconcile")
        selected = {"ops": {"tables": {"config": {"select": [ROLES]}}}}

        def evaluate(config: dict[str, Any]) -> tuple[bool, bool, str, str]:
            done = job.execute_in_process(
                instance=instance, run_config=selected | config, raise_on_error=False
            )
            key = dg.AssetCheckKey(asset_key(ROLES), "rows")
            summary = instance.event_log_storage.get_latest_asset_check_execution_by_key([key])
            event = summary[key].event
            assert event
            assert event.dagster_event
            found = event.dagster_event.asset_check_evaluation_data
            assert event.run_id == done.run_id
            return done.success, found.passed, found.severity.value, found.description or ""

        assert evaluate({})[:2] == (True, True)
        own_sandbox.interceptors.append(empty)
        refused = evaluate({})
        assert refused[:3] == (False, False, "ERROR")
        assert "accept_deletions" in refused[3]
        accepted = evaluate(ACCEPTING)
        assert accepted[:3] == (True, False, "ERROR")
        assert "rows were marked as deleted" in accepted[3]
        assert count(file, ROLES) == 0


ACCEPTING: dict[str, Any] = {"resources": {"warehouse": {"config": {"accept_deletions": True}}}}


def run(command: str, *arguments: str) -> Any:
    given = [command, "--environment", "production", *arguments]
    return CliRunner(env={"COLUMNS": "80"}).invoke(app, given)


def count(file: Path, table: str) -> int:
    return query(file, f"SELECT count(*) FROM {table} WHERE _deleted_at IS NULL")[0][0]


def asset_key(table: str) -> dg.AssetKey:
    return dg.AssetKey(["production", *table.split(".")])


def empty(request: Request) -> Response | None:
    """Answers every list with nothing."""
    if "/tenant/" not in request.url.path:
        return None
    page = {"page": 1, "pageSize": 50, "hasMore": False, "totalCount": 0, "data": []}
    export = {"hasMore": False, "continueFrom": "x", "data": []}
    body = export if "/export/" in request.url.path else page
    return responses.build_json_response(json.dumps(body).encode())
