"""`st-pipelines verify` finds no difference after a load, and later exactly what was changed."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import duckdb
import pytest
from starlette.requests import Request
from typer.testing import CliRunner

from st_pipelines.catalog.registry import load_catalog
from st_pipelines.cli.app import app
from st_pipelines.sandbox.server import Sandbox
from st_pipelines.sync.sync import extract_load, reconcile
from st_pipelines.sync.verify import Verified, verify_table
from st_pipelines.windows import local_day
from st_pipelines_tests.churn_reader import TIMEZONE, build_context, days
from st_pipelines_tests.conftest import NOW

CATALOG = load_catalog()
WHOLE = days("2026-03-10", "2026-03-10", open_start=True)


@pytest.fixture(scope="module")
def small() -> Iterator[Sandbox]:
    """A company of a few customers and weeks. Shared: only read from it."""
    with Sandbox(customers=30, history_days=40, now=NOW, requests_per_second=1e9) as running:
        yield running


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Sandbox]:
    """The same company, which the test may change."""
    with Sandbox(customers=30, history_days=40, now=NOW, requests_per_second=1e9) as running:
        yield running


def load(sandbox: Sandbox, file: Path, *tables: str) -> None:
    for table in tables:
        endpoint = CATALOG[table]
        extract_load(
            build_context(sandbox, file), endpoint, WHOLE if endpoint.partitioned else None
        )


def verify(sandbox: Sandbox, file: Path, table: str, *, deep: bool = False) -> Verified:
    return verify_table(build_context(sandbox, file), CATALOG[table], deep=deep)


def tamper(file: Path, sql: str) -> None:
    with duckdb.connect(str(file)) as connection:
        connection.execute(sql)


def identities(verified: Verified) -> list[tuple[Any, ...]]:
    return [d.identity for d in verified.differences]


ALL_FORMS = (
    "jpm.jobs",
    "accounting.ap_bills",
    "telecom.calls",
    "jpm.job_history",
    "settings.user_roles",
    "payroll.locations_rates",
    "customer_interactions.technician_ratings",
    "marketing_reputation.reviews",
    "pricebook.materials_costtypes",
)


@pytest.mark.parametrize("table", ALL_FORMS)
def test_nothing_differs_after_a_load(small: Sandbox, tmp_path: Path, table: str) -> None:
    file = tmp_path / "x.duckdb"
    load(small, file, table)
    verified = verify(small, file, table)
    assert verified.same, verified
    assert verified.rows_here == verified.rows_there > 0
    assert not verified.changed_meanwhile


def test_an_aggregate_by_day_is_compared_up_to_yesterday(tmp_path: Path) -> None:
    file, table = tmp_path / "x.duckdb", "marketing_ads.performance_by_campaign"
    now = datetime.now(timezone.utc)
    today = local_day(now, TIMEZONE)
    last_days = days(str(today - timedelta(days=2)), str(today))
    with Sandbox(customers=30, history_days=40, now=now, requests_per_second=1e9) as sandbox:
        extract_load(build_context(sandbox, file), CATALOG[table], last_days)
        first = verify_table(build_context(sandbox, file), CATALOG[table])
        assert first.same
        assert first.rows_here == first.rows_there > 0
        tamper(file, f"DELETE FROM {table} WHERE _partition_date = '{today}'")
        assert verify(sandbox, file, table).same, "today's figures are not final"
        assert verify_table(
            build_context(sandbox, file), CATALOG[table], days=30, deep=False
        ).same, "only two days were loaded"
        tamper(file, f"DELETE FROM {table} WHERE _partition_date < '{today}'")
        verified = verify_table(build_context(sandbox, file), CATALOG[table], days=2)
    missing = sum(int(str(d.there).split()[0]) for d in verified.differences)
    assert missing == verified.rows_there == first.rows_there


def test_it_finds_exactly_the_rows_that_were_tampered_with(small: Sandbox, tmp_path: Path) -> None:
    file = tmp_path / "x.duckdb"
    load(small, file, "jpm.jobs")
    ids = sorted(record["id"] for record in small.world.records("jpm.jobs"))
    tamper(file, f"DELETE FROM jpm.jobs WHERE id = {ids[0]}")
    tamper(file, f"UPDATE jpm.jobs SET _deleted_at = now() WHERE id = {ids[1]}")
    tamper(file, f"UPDATE jpm.jobs SET summary = 'mine' WHERE id = {ids[2]}")
    tamper(
        file,
        f"INSERT INTO jpm.jobs BY NAME SELECT * REPLACE (9 AS id) FROM jpm.jobs "
        f"WHERE id = {ids[3]}",
    )
    tamper(file, f"INSERT INTO jpm.jobs FROM jpm.jobs WHERE id = {ids[4]}")
    # Rows of another tenant and rows marked as deleted do not count.
    tamper(file, "INSERT INTO jpm.jobs BY NAME SELECT * REPLACE ('x' AS _tenant_id) FROM jpm.jobs")
    tamper(
        file,
        f"INSERT INTO jpm.jobs BY NAME SELECT * REPLACE (8 AS id, now() AS _deleted_at) "
        f"FROM jpm.jobs WHERE id = {ids[3]}",
    )
    verified = verify(small, file, "jpm.jobs")
    assert sorted(identities(verified), key=str) == sorted(
        [
            ("missing", str(ids[0]), None),
            ("missing", str(ids[1]), None),
            ("extra", "9", None),
            ("duplicate", str(ids[4]), None),
            ("differs", str(ids[2]), "summary"),
        ],
        key=str,
    )
    changed = next(d for d in verified.differences if d.kind == "differs")
    records = {record["id"]: record for record in small.world.records("jpm.jobs")}
    assert (changed.here, changed.there) == ("mine", records[ids[2]]["summary"])
    assert changed.here not in repr(verified), "a report that is logged holds no customer's data"
    assert (verified.compared, verified.not_compared) == ("values", ("active",))


def test_rows_without_a_key_are_compared_by_content_and_number(
    small: Sandbox, tmp_path: Path
) -> None:
    file, table = tmp_path / "x.duckdb", "marketing_reputation.reviews"
    load(small, file, table)
    tamper(file, f"DELETE FROM {table} WHERE rowid = 0")
    tamper(file, f"INSERT INTO {table} FROM {table} WHERE rowid = 1")
    verified = verify(small, file, table)
    assert sorted((d.kind, d.here, d.there) for d in verified.differences) == [
        ("extra", "2 rows", "1 rows"),
        ("missing", "0 rows", "1 rows"),
    ]


def test_nested_values_and_unknown_fields_are_compared(own: Sandbox, tmp_path: Path) -> None:
    file, table = tmp_path / "x.duckdb", "telecom.calls"
    key = own.world.records(table)[0]["id"]
    own.world.change(table, key, novel={"a": 1}, modifiedOn=NOW)
    load(own, file, table)
    assert verify(own, file, table).same
    tamper(file, f"UPDATE {table} SET _extra = NULL WHERE id = {key}")
    odd = "struct_update(lead_call, call_type := 'odd')"
    tamper(file, f"UPDATE {table} SET lead_call = {odd} WHERE id <> {key}")
    verified = verify(own, file, table)
    assert ("differs", str(key), "_extra") in identities(verified)
    assert {d.column for d in verified.differences} == {"_extra", "lead_call"}
    assert verified.count("differs") == verified.rows_there


def test_a_change_since_the_last_load_is_reported_as_newer(own: Sandbox, tmp_path: Path) -> None:
    file, table = tmp_path / "x.duckdb", "jpm.jobs"
    load(own, file, table)
    old, deleted = (record["id"] for record in own.world.records(table)[:2])
    own.world.change(table, old, summary="new", modifiedOn=NOW + timedelta(days=2))
    own.world.delete(table, deleted)
    verified = verify(own, file, table)
    assert {(*d.identity, d.newer) for d in verified.differences} == {
        ("differs", str(old), "modified_on", True),
        ("differs", str(old), "summary", True),
        ("extra", str(deleted), None, False),
    }


@pytest.mark.parametrize("table", ["jpm.jobs", "jpm.job_cancel_reasons", "settings.user_roles"])
def test_a_record_that_changes_during_the_comparison_is_not_a_difference(
    own: Sandbox, tmp_path: Path, table: str
) -> None:
    """The second look is a lookup by ids, a second reading of the window, or one of everything."""
    file = tmp_path / "x.duckdb"
    load(own, file, table)
    deleted_id = own.world.records(table)[0]["id"]
    own.world.delete(table, deleted_id)
    requested: list[str] = []

    def revive_after_the_first_reading(request: Request) -> None:
        if "token" not in request.url.path:
            requested.append(request.url.path)
        if len(requested) == 2:
            own.world.revive(table, deleted_id)

    own.interceptors.append(revive_after_the_first_reading)
    verified = verify(own, file, table)
    assert verified.same, verified.differences
    assert verified.changed_meanwhile == 1
    assert len(requested) > 1


def test_lists_whose_members_come_in_another_order_are_counted_and_no_difference(
    own: Sandbox, tmp_path: Path
) -> None:
    file, table = tmp_path / "x.duckdb", "jpm.jobs"
    own.world.change(table, own.world.records(table)[0]["id"], tagTypeIds=[1, 2, 3])
    load(own, file, table)
    tamper(file, f"UPDATE {table} SET tag_type_ids = [3, 1, 2] WHERE tag_type_ids = [1, 2, 3]")
    verified = verify(own, file, table)
    assert verified.same, verified
    assert verified.reordered == 1
    tamper(file, f"UPDATE {table} SET tag_type_ids = [3, 1, 1] WHERE tag_type_ids = [3, 1, 2]")
    assert verify(own, file, table).count("differs") == 1


def test_a_local_day_that_does_not_follow_from_the_cursor_differs(
    small: Sandbox, tmp_path: Path
) -> None:
    file, table = tmp_path / "x.duckdb", "jpm.job_cancel_reasons"
    load(small, file, table)
    tamper(file, f"UPDATE {table} SET _partition_date = _partition_date - 1 WHERE rowid = 0")
    [difference] = verify(small, file, table).differences
    assert (difference.kind, difference.column) == ("differs", "_partition_date")


def test_a_column_that_no_record_has_any_more_differs(own: Sandbox, tmp_path: Path) -> None:
    """A load would empty it, so that the table must not keep the values of the past."""
    file, table = tmp_path / "x.duckdb", "jpm.job_cancel_reasons"
    load(own, file, table)
    for record in own.world.records(table):
        own.world.change(table, record["id"], name=None, modifiedOn=record["modifiedOn"])
    verified = verify(own, file, table)
    assert {difference.column for difference in verified.differences} == {"name"}


def test_only_a_deep_comparison_sees_what_only_the_export_serves(
    small: Sandbox, tmp_path: Path
) -> None:
    file, table = tmp_path / "x.duckdb", "jpm.jobs"
    load(small, file, table)
    reconcile(build_context(small, file), CATALOG[table])
    tamper(file, f"UPDATE {table} SET active = NOT active WHERE rowid = 0")
    assert verify(small, file, table).same
    deep = verify(small, file, table, deep=True)
    assert identities(deep)[0][::2] == ("differs", "active")
    assert len(deep.differences) == 1
    assert (deep.compared, deep.not_compared) == ("values", ())


def test_a_table_without_rows_on_both_sides_states_that_no_values_were_compared(
    own: Sandbox, tmp_path: Path
) -> None:
    file, table = tmp_path / "x.duckdb", "jpm.job_cancel_reasons"
    load(own, file, table)
    tamper(file, f"DELETE FROM {table}")
    for record in own.world.records(table):
        own.world.delete(table, record["id"])
    assert verify(own, file, table).compared == "keys and counts"


def test_a_clock_that_is_behind_hides_no_missing_row(small: Sandbox, tmp_path: Path) -> None:
    """The window of a verify once ended at the loader's own time: a day was not compared."""
    file, table = tmp_path / "x.duckdb", "jpm.jobs"
    load(small, file, table)
    tamper(file, f"DELETE FROM {table}")
    context = dataclasses.replace(
        build_context(small, file), clock=lambda: NOW - timedelta(days=30)
    )
    verified = verify_table(context, CATALOG[table])
    assert verified.count("missing") == len(small.world.records(table))


COMMAND = ["verify", "--environment", "sandbox"]


@pytest.fixture
def configured(small: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Points the environment `sandbox` at the small company; returns its warehouse file."""
    for name, value in small.environment("SERVICETITAN_SANDBOX_").items():
        monkeypatch.setenv(name, value)
    return tmp_path / "data" / "sandbox.duckdb"


def test_the_command_prints_differences_and_exits_with_1(small: Sandbox, configured: Path) -> None:
    load(small, configured, "settings.user_roles", "jpm.project_types")
    select = ["--select", "settings.user_roles,jpm.project_*", "--select", "jpm.project_types"]
    result = CliRunner().invoke(app, [*COMMAND, "--deep", *select, "--format", "json"])
    verified = {entry["table"]: entry for entry in json.loads(result.stdout)}
    assert result.exit_code == 1, "some of them were never loaded"
    assert verified["settings.user_roles"]["same"]
    assert verified["jpm.project_types"]["same"]
    assert verified["jpm.project_notes"]["problem"] == "there is no such table yet: load it first"
    result = CliRunner(env={"COLUMNS": "80"}).invoke(app, [*COMMAND, *select])
    assert result.stdout.count("there is no such table yet: load it first\n") == 1
    assert "failed jpm.project_notes, jpm.project_statuses, jpm.project_sub" in result.stdout
    roles = ["--select", "settings.user_roles"]
    assert CliRunner().invoke(app, [*COMMAND, *roles]).exit_code == 0
    tamper(
        configured,
        "UPDATE settings.user_roles SET name = 'odd' WHERE id = "
        "(SELECT min(id) FROM settings.user_roles)",
    )
    result = CliRunner().invoke(app, [*COMMAND, *roles])
    assert result.exit_code == 1
    assert "settings.user_roles: name differs in 1 row\n" in result.stdout
    assert "1 of 1 table differ" in result.stdout
    as_json = CliRunner().invoke(app, [*COMMAND, *roles, "--format", "json"])
    assert json.loads(as_json.stdout)[0]["columns"] == {"name": 1}
    assert "odd" not in result.output + as_json.output, "values may be customers' data"
    result = CliRunner().invoke(app, [*COMMAND, "--show-values", *roles])
    assert "name differs: 'odd', there" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["verify"], "--environment"),
        (["verify", "--environment", "sandbocks"], "unknown environment 'sandbocks'"),
        ([*COMMAND, "--select", "jpm.job"], "did you mean jpm.jobs"),
        ([*COMMAND, "--format", "xml"], "give one of table, json"),
        (COMMAND, "sandbox.duckdb does not exist yet"),
    ],
)
def test_wrong_arguments_are_reported(configured: Path, arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code
    assert message in f"{result.output} {result.exception}"


def test_a_wrong_history_setting_does_not_stop_verify(
    configured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Verify loads nothing, so it needs no list of tables whose versions are kept."""
    monkeypatch.setenv("ST_HISTORY", "no.such")
    result = CliRunner().invoke(app, COMMAND)
    assert "sandbox.duckdb does not exist yet" in f"{result.output} {result.exception}"


def test_missing_settings_are_named() -> None:
    result = CliRunner().invoke(app, COMMAND)
    assert "SERVICETITAN_SANDBOX_CLIENT_ID" in str(result.exception)


@pytest.mark.parametrize("table", ["jpm.jobs", "settings.business_units", "telecom.calls"])
def test_what_is_older_than_the_loads_is_not_compared(
    small: Sandbox, tmp_path: Path, table: str
) -> None:
    """Thousands of rows were missing here, though nobody had ever loaded their days."""
    file, context = tmp_path / "x.duckdb", build_context(small, tmp_path / "x.duckdb")
    extract_load(context, CATALOG[table], days("2026-03-08", "2026-03-10"))
    partly = verify(small, file, table)
    assert partly.same, partly
    assert partly.since == date(2026, 3, 8)
    assert verify_table(context, CATALOG[table], days=1).since is None
    load(small, file, table)
    whole = verify(small, file, table)
    assert whole.same
    assert whole.since is None
    assert whole.rows_there > partly.rows_there
