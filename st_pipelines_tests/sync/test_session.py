"""`st_pipelines.connect`: loads, reconciles, verifies and queries from a script."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timezone
from pathlib import Path

import pytest

import st_pipelines
from st_pipelines.sandbox.server import Sandbox
from st_pipelines.sync.session import Session
from st_pipelines.windows import local_day

NOW = datetime(2026, 3, 10, 15, 30, tzinfo=timezone.utc)


@pytest.fixture
def running() -> Iterator[Sandbox]:
    with Sandbox(customers=20, history_days=40, now=NOW, requests_per_second=1e9) as sandbox:
        yield sandbox


@pytest.fixture
def session(running: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    for name, value in running.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SERVICETITAN_TIMEZONE", "America/New_York")
    monkeypatch.setenv("SERVICETITAN_START_DATE", "2026-03-01")
    with st_pipelines.connect("production") as opened:
        yield opened


def find_days_since(sandbox: Sandbox, moment: datetime) -> dict[int, str]:
    """The local day of each job that changed at or after `moment`, by its id."""
    changed = {
        job["id"]: datetime.fromisoformat(job["modifiedOn"])
        for job in sandbox.world.records("jpm.jobs")
    }
    return {
        id_: local_day(at, "America/New_York").isoformat()
        for id_, at in changed.items()
        if at >= moment
    }


@pytest.mark.parametrize("first", ["2026-03-09", date(2026, 3, 9)])
def test_days_are_loaded_into_the_warehouse_of_the_environment(
    session: Session, running: Sandbox, first: str | date
) -> None:
    one, another = running.world.table("jpm.jobs").keys[:2]
    running.world.change("jpm.jobs", one, modifiedOn="2026-03-09T16:00:00Z")
    running.world.change("jpm.jobs", another, modifiedOn="2026-03-10T15:00:00Z")
    report = session.load("jpm.jobs", first, "2026-03-10")
    assert report.loaded.counts.inserted == report.loaded.rows_read > 0
    assert Path("data/production.duckdb").exists()
    frame = session.query("SELECT id, _partition_date::VARCHAR AS day, _run_id FROM jpm.jobs")
    # Three hours of the day before are read too.
    expected = find_days_since(running, datetime(2026, 3, 9, 1, tzinfo=timezone.utc))
    assert dict(zip(frame["id"], frame["day"], strict=True)) == expected
    assert {"2026-03-09", "2026-03-10"} <= set(expected.values())
    assert frame["_run_id"].str.startswith("session-").all()


def test_a_range_from_the_start_date_on_includes_everything_older(
    session: Session, running: Sandbox
) -> None:
    later = session.load("jpm.jobs", "2026-03-02", "2026-03-10").loaded.rows_read
    whole = session.load("jpm.jobs", "2026-03-01", "2026-03-10").loaded.rows_read
    assert later < whole == len(running.world.records("jpm.jobs"))


def test_a_snapshot_is_loaded_whole(session: Session, running: Sandbox) -> None:
    session.load("settings.user_roles")
    frame = session.query("FROM settings.user_roles")
    assert len(frame) == len(running.world.records("settings.user_roles"))


def test_a_whole_table_is_reconciled_and_verified(session: Session, running: Sandbox) -> None:
    session.load("jpm.jobs", "2026-03-01", "2026-03-10")
    assert session.verify("jpm.jobs").same
    running.world.delete("jpm.jobs", running.world.table("jpm.jobs").keys[0])
    assert session.verify("jpm.jobs").count("extra") == 1
    report = session.reconcile("jpm.jobs")
    assert report is not None
    assert report.loaded.counts.deleted == 1
    assert session.verify("jpm.jobs", deep=True).same


def test_an_aggregate_by_day_is_loaded_and_has_nothing_to_reconcile(session: Session) -> None:
    table = "marketing_ads.performance_by_campaign"
    report = session.load(table, "2026-03-01", "2026-03-09")
    assert session.reconcile(table) is None
    assert report.window is not None
    assert report.window.start == datetime(2026, 3, 1, 5, tzinfo=timezone.utc)
    assert report.window.end == datetime(2026, 3, 10, 4, tzinfo=timezone.utc)
    days = session.query(f"SELECT count(DISTINCT _partition_date) AS n FROM {table}")["n"][0]
    assert report.read.requests >= days == len(report.loaded.table_rows_by_date) > 1
    rows = session.query(f"SELECT count(*) AS n FROM {table}")["n"][0]
    assert report.loaded.rows_read == report.loaded.counts.inserted == rows
    assert report.loaded.table_rows == rows


def test_history_keeps_the_versions_of_the_tables_it_names(
    running: Sandbox, monkeypatch: pytest.MonkeyPatch, session: Session
) -> None:
    monkeypatch.setenv("ST_HISTORY", "settings.user_roles")
    with st_pipelines.connect("production") as with_history:
        with_history.load("settings.user_roles")
        versions = with_history.query("SELECT count(*) AS n FROM history.settings_user_roles")
    assert versions["n"][0] == len(running.world.records("settings.user_roles"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("jpm.job", "2026-03-09", "2026-03-10"), "no table 'jpm.job': did you mean jpm.jobs"),
        (("jpm.jobs",), "jpm.jobs is loaded by days: give the first and the last"),
        (("jpm.jobs", "2026-03-09"), "jpm.jobs is loaded by days: give the first and the last"),
        (("settings.user_roles", "2026-03-09"), "settings.user_roles is always loaded whole"),
        (("jpm.jobs", "2026-03-10", "2026-03-09"), "2026-03-09 is before the first 2026-03-10"),
        (("jpm.jobs", "March 9", "2026-03-10"), "'March 9' is not a date: write it as YYYY-MM-DD"),
    ],
)
def test_arguments_that_do_not_suit_a_table_are_refused(
    session: Session, arguments: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        session.load(*arguments)
    assert not Path("data/production.duckdb").exists()


def test_a_missing_setting_is_named() -> None:
    with pytest.raises(st_pipelines.SettingsError, match="SERVICETITAN_CLIENT_ID"):
        st_pipelines.connect("production")


def test_an_unknown_environment_is_refused() -> None:
    with pytest.raises(st_pipelines.SettingsError, match="unknown environment 'prod'"):
        st_pipelines.connect("prod")


def test_a_query_before_the_first_load_says_that_there_is_no_warehouse(session: Session) -> None:
    with pytest.raises(st_pipelines.WarehouseError, match="does not exist yet"):
        session.query("SELECT 1")
