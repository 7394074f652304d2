"""Settings and warehouses that change while Dagster's partitions stay green."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest

from st_pipelines_tests.daemon import Daemon, at
from st_pipelines_tests.defs.test_assets import count
from st_pipelines_tests.defs.test_keeping_fresh import data_requests, days_of

JOBS = dg.AssetKey(["production", "jpm", "jobs"])


@pytest.fixture
def jobs_daemon(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> Daemon:
    """An environment with one table, which `gaps` and `daily` have loaded up to March 9."""
    monkeypatch.setenv("SERVICETITAN_SELECT", "jpm.jobs")
    monkeypatch.setenv("SERVICETITAN_GAP_DAYS", "3")
    daemon.restart()
    load(daemon, "2026-03-02", "2026-03-04")
    for day in range(5, 10):
        daemon.sleep_until(at(day + 1, 0, 30))
        daemon.tick_schedule("daily", at(day + 1, 0, 30))
    daemon.sleep_until(at(10, 4))
    return daemon


def load(daemon: Daemon, first: str, last: str) -> None:
    tags = {
        "dagster/asset_partition_range_start": first,
        "dagster/asset_partition_range_end": last,
    }
    result = daemon.execute("daily", dg.RunRequest(asset_selection=[JOBS], tags=tags))
    assert result.success


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "data" / "production.duckdb"


def requested(daemon: Daemon, *, run: bool = True) -> list[list[str]]:
    """Returns the days that one tick of `gaps` requests, run by run."""
    daemon.sleep_until(daemon.now + timedelta(minutes=10))
    return [days_of(request) for request in daemon.tick_sensor("gaps", run=run)]


def march(first: int, last: int) -> list[str]:
    return [f"2026-03-{day:02}" for day in range(first, last + 1)]


def live_rows(daemon: Daemon) -> int:
    there = daemon.sandbox.world.table("jpm.jobs")
    return len(there.keys) - len(there.deleted)


def test_nothing_is_requested_where_the_warehouse_has_what_dagster_shows(
    jobs_daemon: Daemon,
) -> None:
    assert requested(jobs_daemon) == []
    assert jobs_daemon.told["gaps"] == ["the last 3 days are complete"]


def test_a_lost_warehouse_is_loaded_again(jobs_daemon: Daemon, file: Path) -> None:
    """Every partition was green, so every sensor called an empty warehouse complete."""
    before = count(file, "jpm.jobs", "_deleted_at IS NULL")
    file.unlink()
    assert requested(jobs_daemon) == [march(2, 9)]
    assert count(file, "jpm.jobs", "_deleted_at IS NULL") == before == live_rows(jobs_daemon)
    assert requested(jobs_daemon) == []


def test_days_after_a_backup_are_loaded_again(jobs_daemon: Daemon, file: Path) -> None:
    backup = shutil.copy(file, file.with_name("backup"))
    for day in range(10, 18):
        jobs_daemon.sandbox.world.set_now(at(day, 12))
        jobs_daemon.sandbox.world.create("jpm.jobs")
        jobs_daemon.sleep_until(at(day + 1, 0, 30))
        jobs_daemon.tick_schedule("daily", at(day + 1, 0, 30))
    jobs_daemon.sleep_until(at(18, 4))
    assert requested(jobs_daemon) == []
    shutil.copy(backup, file)
    assert requested(jobs_daemon) == [march(10, 17)], "also what is older than three days"
    assert count(file, "jpm.jobs", "_deleted_at IS NULL") == live_rows(jobs_daemon)


def test_another_warehouse_is_filled(
    jobs_daemon: Daemon, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ST_WAREHOUSE_DIR", str(tmp_path / "elsewhere"))
    jobs_daemon.restart()
    assert requested(jobs_daemon) == [march(2, 9)]
    other = tmp_path / "elsewhere" / "production.duckdb"
    assert count(other, "jpm.jobs", "_deleted_at IS NULL") == live_rows(jobs_daemon)


def test_a_lost_day_that_cannot_be_loaded_is_tried_four_times(
    jobs_daemon: Daemon, file: Path
) -> None:
    file.unlink()
    jobs_daemon.sandbox.set_faults({"401": 1.0})
    for _ in range(6 * 14):
        requested(jobs_daemon)
    assert len(jobs_daemon.asked["gaps"]) == 4
    assert "given up after 4 tries" in jobs_daemon.told["gaps"][-1]


def test_a_start_date_that_moves_later_makes_its_day_the_beginning(
    jobs_daemon: Daemon, monkeypatch: pytest.MonkeyPatch, file: Path
) -> None:
    """Its partition was green as an ordinary day, and what is older had never been loaded."""
    file.unlink()
    load(jobs_daemon, "2026-03-05", "2026-03-09")
    assert count(file, "jpm.jobs", "_deleted_at IS NULL") < live_rows(jobs_daemon)
    monkeypatch.setenv("SERVICETITAN_START_DATE", "2026-03-05")
    jobs_daemon.restart()
    assert requested(jobs_daemon) == [march(5, 5)]
    assert count(file, "jpm.jobs", "_deleted_at IS NULL") == live_rows(jobs_daemon)
    assert requested(jobs_daemon) == []


def test_a_new_time_zone_leaves_no_hours_unread(
    jobs_daemon: Daemon, monkeypatch: pytest.MonkeyPatch, file: Path
) -> None:
    monkeypatch.setenv("SERVICETITAN_TIMEZONE", "America/Los_Angeles")
    jobs_daemon.zone = "America/Los_Angeles"
    jobs_daemon.restart()
    jobs_daemon.sleep_until(at(10, 7))  # 4:00 there
    assert requested(jobs_daemon) == [march(7, 9)], "the days begin and end later"
    assert requested(jobs_daemon) == []
    wrong = "_partition_date <> timezone('America/Los_Angeles', modified_on)::DATE"
    assert count(file, "jpm.jobs", "true") > count(file, "jpm.jobs", wrong) == 0


def rows_check(daemon: Daemon) -> tuple[bool, str]:
    """Returns the latest result of the check `rows`, and its rule `in_warehouse`."""
    key = dg.AssetCheckKey(JOBS, "rows")
    [record] = daemon.instance.event_log_storage.get_asset_check_execution_history(key, limit=1)
    assert record.event
    evaluation = record.event.dagster_event.asset_check_evaluation_data  # pyright: ignore
    return evaluation.passed, str(evaluation.metadata["in_warehouse"].value)


def test_a_check_fails_until_lost_days_are_loaded_again(jobs_daemon: Daemon, file: Path) -> None:
    assert rows_check(jobs_daemon) == (True, "no earlier day is known to be missing")
    file.unlink()
    load(jobs_daemon, "2026-03-09", "2026-03-09")
    lost = "7 days from 2026-03-02 to 2026-03-08 that Dagster shows as loaded are not in the"
    for day in (9, 8):
        load(jobs_daemon, f"2026-03-{day:02}", f"2026-03-{day:02}")
        passed, text = rows_check(jobs_daemon)
        assert not passed
        assert text.startswith(lost if day == 9 else lost.replace("7", "6").replace("08", "07"))
    assert requested(jobs_daemon) == [march(2, 7)]
    assert rows_check(jobs_daemon)[0]


def test_gaps_says_how_the_warehouse_differs_from_what_dagster_recorded(
    jobs_daemon: Daemon, file: Path
) -> None:
    backup = shutil.copy(file, file.with_name("backup"))
    load(jobs_daemon, "2026-03-09", "2026-03-10")
    shutil.copy(backup, file)
    requested(jobs_daemon)
    assert "was restored from a backup: it lacks the last loads of" in jobs_daemon.told["gaps"][-1]
    load(jobs_daemon, "2026-03-09", "2026-03-10")
    requested(jobs_daemon)
    assert jobs_daemon.told["gaps"][-1] == "the last 3 days are complete"


def test_another_tenant_is_refused_before_it_is_read(
    jobs_daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All its partitions were green: they were the former tenant's."""
    monkeypatch.setenv("SERVICETITAN_TENANT_ID", "4712")
    jobs_daemon.restart()
    before = data_requests(jobs_daemon)
    request = dg.RunRequest(asset_selection=[JOBS], partition_key="2026-03-10")
    result = jobs_daemon.execute("daily", request)
    [failure] = result.get_step_failure_events()
    text = str(failure.step_failure_data.user_failure_data.description)  # pyright: ignore
    assert "DAGSTER_HOME has loads of tenant" in text
    assert "give each tenant its own DAGSTER_HOME" in text
    assert data_requests(jobs_daemon) == before


def test_changes_loads_today_again_in_a_warehouse_that_lacks_it(
    jobs_daemon: Daemon, file: Path
) -> None:
    """Nothing had changed at ServiceTitan since the last load, so nothing was ever requested."""
    jobs_daemon.tick_sensor("changes")
    jobs_daemon.sleep_until(jobs_daemon.now + timedelta(minutes=5))
    assert not jobs_daemon.tick_sensor("changes")
    file.unlink()
    jobs_daemon.sleep_until(jobs_daemon.now + timedelta(minutes=5))
    [request] = jobs_daemon.tick_sensor("changes")
    assert request.partition_key == "2026-03-10"
    jobs_daemon.sleep_until(jobs_daemon.now + timedelta(minutes=5))
    assert not jobs_daemon.tick_sensor("changes")


def test_a_table_that_is_selected_later_is_loaded_from_the_start_date(
    jobs_daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert requested(jobs_daemon) == []
    monkeypatch.setenv("SERVICETITAN_SELECT", "jpm.jobs,jpm.appointments")
    jobs_daemon.restart()
    assert requested(jobs_daemon) == [march(2, 9)]
    [request] = jobs_daemon.asked["gaps"]
    assert request.asset_selection == [dg.AssetKey(["production", "jpm", "appointments"])]
    assert requested(jobs_daemon) == []


def test_a_zone_that_was_used_before_fails_the_run_before_it_reads(
    jobs_daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    for zone in ("America/Los_Angeles", "America/New_York"):
        monkeypatch.setenv("SERVICETITAN_TIMEZONE", zone)
        jobs_daemon.restart()
        before = data_requests(jobs_daemon)
        request = dg.RunRequest(asset_selection=[JOBS], partition_key="2026-03-09")
        result = jobs_daemon.execute("daily", request)
        assert result.success == (zone == "America/Los_Angeles")
    assert data_requests(jobs_daemon) == before
    [failure] = result.get_step_failure_events()
    text = str(failure.step_failure_data.user_failure_data.description)  # pyright: ignore
    assert "Set SERVICETITAN_TIMEZONE to America/Los_Angeles wherever loads run" in text
