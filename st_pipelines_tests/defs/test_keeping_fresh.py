"""Schedules and sensors on a real instance, through weeks that pass in seconds."""

from __future__ import annotations

import itertools
import json
from datetime import date, timedelta, timezone
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._core.test_utils import freeze_time
from dagster._utils.schedules import schedule_execution_time_iterator
from starlette.requests import Request
from starlette.responses import Response

from st_pipelines.catalog.registry import load_catalog, select
from st_pipelines.definitions import build_definitions
from st_pipelines.defs import run_lock
from st_pipelines.sandbox.server import Sandbox
from st_pipelines.servicetitan.http import auth
from st_pipelines_tests.daemon import TABLES, Daemon, at, build_production
from st_pipelines_tests.defs.test_assets import count


def unfinished_run(daemon: Daemon, job: str, **tags: str) -> dg.DagsterRun:
    """Returns a run that has started and does not end."""
    return daemon.start_run(job, **{"st_pipelines/environment": "production", **tags})


def test_after_a_weekend_of_outage_and_a_shorter_day_each_day_is_loaded_completely_once(
    daemon: Daemon, tmp_path: Path
) -> None:
    daemon.live_until(at(5, 23), timedelta(hours=4))
    daemon.restart()
    daemon.sandbox.world.create("jpm.jobs")
    daemon.live_until(at(6, 18), timedelta(hours=4))
    daemon.sandbox.world.create("jpm.jobs")
    daemon.sleep_until(at(9, 8))  # the clocks went forward on Sunday
    daemon.live_until(at(10, 4), timedelta(minutes=25))
    days = [date(2026, 3, day) for day in range(2, 10)]
    for table in TABLES:
        found = {day: daemon.complete_loads(table, day) for day in days}
        assert found == dict.fromkeys(days, 1)
    there = daemon.sandbox.world.table("jpm.jobs")
    file = tmp_path / "data" / "production.duckdb"
    assert count(file, "jpm.jobs", "_deleted_at IS NULL") == len(there.keys) - len(there.deleted)
    asked = [r.partition_key for r in daemon.asked["daily"]]
    assert asked == ["2026-03-05", "2026-03-08", "2026-03-09"], "of the missed ticks the last"
    found = [days_of(request) for request in daemon.asked["gaps"]]
    assert found == [[f"2026-03-{day:02}" for day in days] for days in ([2, 3, 4], [6, 7])]


def test_days_that_failed_in_an_outage_of_the_api_are_loaded_after_it(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVICETITAN_START_DATE", "2026-03-05")
    daemon.restart()
    daemon.sleep_until(at(6, 0))
    daemon.sandbox.set_faults({"503": 1.0})
    daemon.tick_schedule("daily", at(6, 0, 30))
    daemon.live_until(at(6, 4), timedelta(minutes=30), ["gaps"])
    assert len(daemon.asked["gaps"]) == 2, "at 3:00 and 3:30; before, the daily run has its time"
    assert daemon.complete_loads("jpm.jobs", date(2026, 3, 5)) == 0
    daemon.sandbox.set_faults({})
    daemon.live_until(at(6, 8), timedelta(minutes=30), ["gaps"])
    assert len(daemon.asked["gaps"]) == 3, "at 5:30"
    assert daemon.complete_loads("jpm.jobs", date(2026, 3, 5)) == 1
    assert daemon.told["gaps"][-1] == "the last 14 days are complete"


def test_a_gap_that_keeps_failing_is_given_up_and_named(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVICETITAN_START_DATE", "2026-03-05")
    daemon.restart()
    daemon.sandbox.set_faults({"401": 1.0})
    daemon.sleep_until(at(6, 4))
    daemon.tick_sensor("gaps")
    for hours in (0.6, 2.1, 8.1, 2):
        daemon.sleep_until(daemon.now + timedelta(hours=hours))
        daemon.tick_sensor("gaps")
        assert f"no tick for {hours:.1f} hours" in daemon.told["gaps"][-1]
        daemon.tick_sensor("gaps", run=False)
    assert [days_of(request) for request in daemon.asked["gaps"]] == [["2026-03-05"]] * 4
    assert "given up after 4 tries: accounting.invoice_items 2026-03-05" in daemon.told["gaps"][-1]
    daemon.sandbox.set_faults({})
    daemon.tick_schedule("daily", at(7, 0, 30))  # another day can be loaded: the cause is gone
    daemon.sleep_until(at(7, 4))
    daemon.tick_sensor("gaps")
    (request,) = daemon.tick_sensor("gaps")
    assert days_of(request) == ["2026-03-05", "2026-03-06"], "that day was loaded before its end"


def test_a_day_in_a_run_or_a_backfill_is_not_a_gap(daemon: Daemon) -> None:
    daemon.sleep_until(at(6, 4))
    run = unfinished_run(
        daemon,
        "daily",
        **{
            "dagster/asset_partition_range_start": "2026-03-02",
            "dagster/asset_partition_range_end": "2026-03-05",
        },
    )
    assert not daemon.tick_sensor("gaps")
    assert "they are being loaded" in daemon.told["gaps"][-1]
    daemon.instance.report_run_canceled(run)
    keys = [dg.AssetKey(["production", *table.split(".")]) for table in TABLES]
    daemon.instance.add_backfill(
        PartitionBackfill(
            backfill_id="b",
            status=BulkActionStatus.REQUESTED,
            from_failure=False,
            tags={},
            backfill_timestamp=daemon.now.timestamp(),
            asset_selection=keys[:1],
        )
    )
    (request,) = daemon.tick_sensor("gaps", run=False)
    assert list(request.asset_selection) == keys[1:]


def test_a_run_of_another_machine_that_went_down_blocks_others_for_a_day_only(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    with freeze_time(daemon.now):
        unfinished_run(daemon, "intraday", **{"dagster/partition": "2026-03-05"})
        unfinished_run(daemon, "intraday", **{"dagster/sensor_name": "changes"})
    daemon.close()
    monkeypatch.setattr(run_lock, "_this_machine", lambda: {"host": "other", "boot": "other"})
    daemon.sleep_until(daemon.now + timedelta(hours=23))
    assert not daemon.tick_schedule("intraday", daemon.now, run=False)
    assert not daemon.tick_sensor("changes", run=False)
    daemon.sleep_until(daemon.now + timedelta(hours=2))
    assert daemon.tick_schedule("intraday", daemon.now, run=False)
    assert daemon.tick_sensor("changes", run=False)


def test_a_day_is_not_a_gap_before_its_daily_run_has_had_its_time(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVICETITAN_START_DATE", "2026-03-05")
    monkeypatch.setenv("SERVICETITAN_DAILY_CRON", "0 5 * * *")
    daemon.restart()
    daemon.sleep_until(at(6, 7, 29))
    assert not daemon.tick_sensor("gaps", run=False)
    daemon.sleep_until(at(6, 7, 31))
    assert daemon.tick_sensor("gaps", run=False)


def test_an_api_that_is_down_does_not_stop_probes_of_the_others(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVICETITAN_SELECT", "accounting,jpm.jobs")
    daemon.restart()
    key = ["production", "jpm", "jobs"]
    daemon.tick_schedule("intraday", at(5, 9))
    daemon.sandbox.interceptors.append(
        lambda request: Response("down", 503) if "/accounting/" in request.url.path else None
    )
    daemon.sleep_until(daemon.now + timedelta(minutes=1))
    daemon.sandbox.world.create("jpm.jobs")
    daemon.sleep_until(daemon.now + timedelta(minutes=1))
    for _ in range(3):
        if requests := daemon.tick_sensor("changes", run=False):
            break
    assert [asset.path for asset in requests[0].asset_selection] == [key]
    daemon.tick_sensor("changes", run=False)
    assert "answered 503" in daemon.told["changes"][-1]


def test_a_schedule_never_starts_a_run_that_is_unfinished(daemon: Daemon) -> None:
    unfinished_run(daemon, "intraday", **{"dagster/partition": "2026-03-05"})
    run = unfinished_run(daemon, "daily", **{"dagster/partition": "2026-03-04"})
    assert not daemon.tick_schedule("intraday", at(5, 9))
    assert not daemon.tick_schedule("daily", at(5, 0, 30))
    assert daemon.told["daily"] == [f"run {run.run_id[:8]} of daily is unfinished"]
    assert daemon.tick_schedule("daily", at(4, 0, 30), run=False)[0].partition_key == "2026-03-03"


@pytest.mark.parametrize(
    ("month", "day", "cron", "moments"),
    [
        (3, 8, "30 2 * * *", ["2026-03-08T07:00:00"]),  # 2:30 does not exist
        (11, 1, "30 1 * * *", ["2026-11-01T06:30:00"]),  # 1:30 comes twice
        (11, 1, "30 0 * * *", ["2026-11-01T04:30:00"]),
    ],
)
def test_a_change_of_the_clock_neither_skips_nor_repeats_a_day(
    month: int, day: int, cron: str, moments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVICETITAN_TIMEZONE", "America/New_York")
    monkeypatch.setenv("SERVICETITAN_DAILY_CRON", cron)
    daily = build_definitions("production").resolve_schedule_def("daily")
    times = schedule_execution_time_iterator(
        at(day, 0, month=month).timestamp(),
        daily.cron_schedule,
        daily.execution_timezone,
        ascending=True,
    )
    found = itertools.takewhile(lambda moment: moment.date() == date(2026, month, day), times)
    assert [f"{m.astimezone(timezone.utc):%Y-%m-%dT%H:%M:%S}" for m in found] == moments


def test_an_idle_hour_costs_one_request_per_endpoint_and_starts_no_run(daemon: Daemon) -> None:
    daemon.tick_sensor("changes")
    assert len(daemon.asked["changes"]) == 1, "nothing was loaded yet"
    before = data_requests(daemon)
    for _ in range(12):
        daemon.told["changes"] = []
        assert not daemon.tick_sensor("changes")
        assert daemon.told["changes"] == ["nothing changed: asked 2 of 2 endpoints, 2 requests"]
    assert data_requests(daemon) - before <= 12 * 2 + 1, "a feed is read to its end once"


def test_a_change_loads_the_partition_of_today_of_just_that_endpoint(
    daemon: Daemon, tmp_path: Path
) -> None:
    daemon.tick_sensor("changes")
    daemon.tick_sensor("changes")
    daemon.restart()
    daemon.sleep_until(daemon.now + timedelta(seconds=30))
    key = daemon.sandbox.world.create("jpm.jobs", summary="A new one")
    daemon.sleep_until(daemon.now + timedelta(seconds=30))
    (request,) = daemon.tick_sensor("changes")
    assert dg.AssetKey(["production", "jpm", "jobs"]) in request.asset_selection
    assert request.partition_key == "2026-03-05"
    file = tmp_path / "data" / "production.duckdb"
    assert count(file, "jpm.jobs", f"id = {key} AND summary = 'A new one'") == 1
    assert not daemon.tick_sensor("changes")


def test_changes_sends_no_request_while_its_last_run_is_unfinished(daemon: Daemon) -> None:
    run = unfinished_run(daemon, "intraday", **{"dagster/sensor_name": "changes"})
    before = data_requests(daemon)
    assert not daemon.tick_sensor("changes")
    assert daemon.told["changes"][0].startswith(f"run {run.run_id[:8]}")
    assert data_requests(daemon) == before


def test_an_error_that_concerns_all_endpoints_ends_the_tick_with_the_reason(
    daemon: Daemon,
) -> None:
    daemon.tick_sensor("changes")
    daemon.sandbox.set_faults({"429": 1.0})
    assert not daemon.tick_sensor("changes")
    assert "stopped, as the others would fail alike" in daemon.told["changes"][-1]
    assert "429" in daemon.told["changes"][-1]


def test_a_token_that_is_refused_at_once_fails_the_tick(daemon: Daemon) -> None:
    daemon.tick_sensor("changes")
    daemon.sandbox.set_faults({"401": 1.0})
    with pytest.raises(dg.Failure, match="a token that was just issued was refused"):
        daemon.tick_sensor("changes")


def test_a_change_that_cannot_be_loaded_is_requested_with_growing_delays(daemon: Daemon) -> None:
    daemon.sandbox.interceptors.append(
        lambda request: Response(b"{}", 404) if request.url.path.endswith("/jobs") else None
    )
    for _ in range(24):
        daemon.tick_sensor("changes")
        daemon.sleep_until(daemon.now + timedelta(minutes=5))
    asked = [r for r in daemon.asked["changes"] if "jobs" in str(r.asset_selection)]
    assert len(asked) == 4, "at once, and after 5, 25 and 105 minutes"


def test_an_environment_that_is_not_configured_skips_with_the_missing_settings(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SERVICETITAN_APP_KEY")
    for name in ("changes", "gaps"):
        assert not daemon.tick_sensor(name)
    for name in ("daily", "intraday", "weekly_reconcile"):
        assert not daemon.tick_schedule(name, at(5, 9))
    told = [text for texts in daemon.told.values() for text in texts]
    assert len(told) == 5
    assert all("production is not configured: set SERVICETITAN_APP_KEY" in text for text in told)


def test_production_is_automated_and_integration_is_stopped() -> None:
    for environment, status in (("production", "RUNNING"), ("integration", "STOPPED")):
        repository = build_definitions(environment).get_repository_def()  # pyright: ignore
        found = [*repository.schedule_defs, *repository.sensor_defs]
        assert {one.name for one in found} == {
            "daily",
            "intraday",
            "snapshots",
            "weekly_reconcile",
            "changes",
            "gaps",
            "alerts",
        }
        assert {one.default_status.value for one in found} == {status}


def test_a_reexecution_from_failure_repeats_only_the_failed_steps(daemon: Daemon) -> None:
    def refused(request: Request) -> Response | None:
        return Response(b"{}", 404) if request.url.path.endswith("/jobs") else None

    daemon.sandbox.interceptors.append(refused)
    job, instance = dg.reconstructable(daily_of_production), daemon.instance
    of_a_day = {"dagster/partition": "2026-03-04"}
    with dg.execute_job(job, instance, tags=of_a_day, raise_on_error=False) as first:
        assert [event.step_key for event in first.get_step_failure_events()] == [
            "production__jpm__jobs"
        ]
        failures = [e for e in first.all_events if e.event_type_value == "STEP_RESTARTED"]
        assert not failures, "a wrong path is wrong the second time, too"
    daemon.sandbox.interceptors.remove(refused)
    again = dg.ReexecutionOptions.from_failure(first.run_id, instance)
    with dg.execute_job(job, instance, reexecution_options=again, tags=of_a_day) as second:
        assert second.success
        started = [e.step_key for e in second.all_events if e.event_type_value == "STEP_START"]
    assert started == ["production__jpm__jobs"]


def daily_of_production() -> dg.JobDefinition:
    return build_definitions("production").resolve_job_def("daily")


def test_jobs_take_their_assets_from_the_catalog() -> None:
    repository = build_definitions("production").get_repository_def()
    catalog = select(load_catalog(), [])
    sizes = {
        name: len(repository.get_job(name).asset_layer.selected_asset_keys)
        for name in ("daily", "intraday", "snapshots", "full_refresh", "pricebook")
    }
    by_day = sum(endpoint.partitioned for endpoint in catalog)
    assert sizes["daily"] == sizes["full_refresh"] == len(catalog)
    assert (sizes["intraday"], sizes["snapshots"]) == (by_day, len(catalog) - by_day)
    assert sizes["pricebook"] == sum(endpoint.api == "pricebook" for endpoint in catalog)
    for api in load_catalog().apis:
        assert repository.has_job(api)


def days_of(request: dg.RunRequest) -> list[str]:
    first = request.partition_key or request.tags["dagster/asset_partition_range_start"]
    last = request.partition_key or request.tags["dagster/asset_partition_range_end"]
    return [f"2026-03-{day:02}" for day in range(int(first[-2:]), int(last[-2:]) + 1)]


def data_requests(daemon: Daemon) -> int:
    counts = daemon.sandbox.requests
    return sum(count for name, count in counts.items() if "token" not in name)


def test_a_load_of_older_days_does_not_make_today_look_unloaded(daemon: Daemon) -> None:
    daemon.tick_schedule("intraday", at(5, 9))
    daemon.tick_schedule("daily", at(5, 0, 30))  # later, and of yesterday
    daemon.sleep_until(daemon.now + timedelta(minutes=5))
    assert not daemon.tick_sensor("changes")


def test_a_quiet_tick_over_all_endpoints_sends_at_most_one_request_to_each(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SERVICETITAN_SELECT")
    daemon.restart()
    asked = [e for e in load_catalog() if e.partitioned and not e.by_day]
    until = dg.MetadataValue.timestamp(daemon.now + timedelta(seconds=1))
    for endpoint in asked:
        daemon.instance.report_runless_asset_event(
            dg.AssetMaterialization(
                ["production", endpoint.api, endpoint.name],
                partition="2026-03-05",
                metadata={"window_end": until},
            )
        )
    daemon.sleep_until(daemon.now + timedelta(seconds=2))
    daemon.tick_sensor("changes")  # finds where the feeds end
    before = data_requests(daemon)
    requests = daemon.tick_sensor("changes", run=False)
    assert not requests, requests[0].asset_selection
    assert data_requests(daemon) - before == len(asked)
    assert daemon.told["changes"][-1] == (
        f"nothing changed: asked {len(asked)} of {len(asked)} endpoints, {len(asked)} requests"
    )


def test_a_change_in_a_feed_is_requested_again_if_its_load_fails(daemon: Daemon) -> None:
    daemon.tick_sensor("changes")
    daemon.tick_sensor("changes")
    daemon.sleep_until(daemon.now + timedelta(minutes=1))
    daemon.sandbox.world.create("accounting.invoice_items")
    daemon.sleep_until(daemon.now + timedelta(minutes=1))
    (lost,) = daemon.tick_sensor("changes", run=False)  # the run never comes about
    assert dg.AssetKey(["production", "accounting", "invoice_items"]) in lost.asset_selection
    daemon.sleep_until(daemon.now + timedelta(minutes=5))
    (again,) = daemon.tick_sensor("changes")
    assert dg.AssetKey(["production", "accounting", "invoice_items"]) in again.asset_selection
    assert not daemon.tick_sensor("changes")


def test_a_refused_credential_fails_the_tick_and_keeps_the_cursor(daemon: Daemon) -> None:
    """It was a grey "nothing changed", so that nobody noticed that no change was looked for."""
    daemon.tick_sensor("changes")
    daemon.tick_sensor("changes")
    cursor = daemon.cursors["changes"]
    auth._sources.clear()
    daemon.sandbox.rotate("cs1.another")
    with pytest.raises(dg.Failure, match=r"was refused .* invalid_client.*typing errors"):
        daemon.tick_sensor("changes")
    assert daemon.cursors["changes"] == cursor


def test_a_wrong_setting_fails_the_tick_and_a_missing_one_skips_it(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVICETITAN_API_ENVIRONMENT", "integration")
    with pytest.raises(dg.Failure, match="these credentials are not production's"):
        daemon.tick_sensor("changes")
    monkeypatch.delenv("SERVICETITAN_API_ENVIRONMENT")
    monkeypatch.delenv("SERVICETITAN_APP_KEY")
    daemon.tick_sensor("changes")
    assert "production is not configured" in daemon.told["changes"][-1]


def test_a_since_in_the_future_is_corrected_by_the_server_s_time(daemon: Daemon) -> None:
    """One load with a clock a day ahead hid the changes of a whole day."""
    daemon.tick_sensor("changes")
    daemon.tick_sensor("changes")
    ahead = (daemon.now + timedelta(days=1)).astimezone(timezone.utc).isoformat()
    cursor = json.loads(daemon.cursors["changes"] or "")
    for poll in cursor["places"].values():
        poll["since"] = ahead
        poll["tries"] = 0
        poll.pop("until", None)
    daemon.cursors["changes"] = json.dumps(cursor)
    daemon.sandbox.world.create("jpm.jobs")
    daemon.sleep_until(daemon.now + timedelta(minutes=30))
    (request,) = daemon.tick_sensor("changes", run=False)
    assert dg.AssetKey(["production", "jpm", "jobs"]) in request.asset_selection


def test_changes_request_and_loads_name_the_day_and_clock_of_the_server(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half an hour ahead at 23:50: tomorrow's partition would be loaded, and today's stay."""
    with Sandbox(
        customers=8,
        history_days=20,
        now=at(5, 23, 50),
        requests_per_second=1e9,
        simulated_date=True,
    ) as sandbox:
        for name, value in sandbox.environment().items():
            monkeypatch.setenv(name, value)
        daemon.sandbox = sandbox
        daemon.build = lambda _: build_production(lambda: sandbox.world.now + timedelta(minutes=30))
        daemon.restart()
        (request,) = daemon.tick_sensor("changes", run=False)
        assert request.partition_key == "2026-03-05"
        result = daemon.execute("changes", request)
        assert result.success
        [event] = result.asset_materializations_for_node("production__jpm__jobs")
    said = event.metadata["clock"].value
    assert said.startswith("this machine's clock is 30 min ahead of ServiceTitan's: synchronize")
