"""A run whose process is gone is told from one that is being executed, by a lock of the kernel."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run_iterator
from dagster._core.test_utils import freeze_time

from st_pipelines.defs import run_lock
from st_pipelines_tests.daemon import Daemon, at
from st_pipelines_tests.deadlines import DEADLINE

HOLD = """
import sys
import dagster as dg
from st_pipelines.defs import run_lock
instance = dg.DagsterInstance.local_temp(sys.argv[1])
with run_lock.held(instance, sys.argv[2], whole_run=sys.argv[3] == "whole"):
    print("held", flush=True)
    input()
"""
DAILY = {"st_pipelines/environment": "production", "dagster/partition": "2026-03-04"}


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        yield instance


def lock_file(instance: dg.DagsterInstance, run_id: str = "run") -> Path:
    return Path(instance.root_directory) / "st_pipelines" / "runs" / run_id


def start_holder(instance: dg.DagsterInstance, extent: str) -> subprocess.Popen[str]:
    """Returns a process that holds the lock of a run."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, instance.root_directory, "run", extent],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    return process


@pytest.mark.parametrize(("extent", "then"), [("whole", "gone"), ("step", "unknown")])
def test_a_process_that_was_killed_is_gone_at_once(
    instance: dg.DagsterInstance, extent: str, then: str
) -> None:
    """Between two steps of the multiprocess executor no process holds the lock."""
    assert run_lock.find_process(instance, "run") == "no lock"
    process = start_holder(instance, extent)
    try:
        assert run_lock.find_process(instance, "run") == "alive"
    finally:
        process.kill()
        process.communicate(timeout=DEADLINE)
    assert run_lock.find_process(instance, "run") == then


@pytest.mark.parametrize(
    ("host", "boot", "whole_run", "state"),
    [
        ("here", "before", True, "gone"),
        ("here", "before", False, "gone"),  # no process outlives its kernel
        ("here", "now", False, "unknown"),
        ("another container", "now", True, "gone"),
        ("elsewhere", "another", True, "unknown"),
        ("elsewhere", "another", False, "unknown"),
    ],
)
def test_a_released_lock_counts_on_the_machine_of_its_holder_alone(
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
    host: str,
    boot: str,
    whole_run: bool,
    state: str,
) -> None:
    monkeypatch.setattr(run_lock, "_this_machine", lambda: {"host": host, "boot": boot})
    with run_lock.held(instance, "run", whole_run=whole_run):
        pass
    monkeypatch.setattr(run_lock, "_this_machine", lambda: {"host": "here", "boot": "now"})
    assert run_lock.find_process(instance, "run") == state


def test_a_step_does_not_end_the_lock_of_its_run(instance: dg.DagsterInstance) -> None:
    with run_lock.held(instance, "run"):
        with run_lock.held(instance, "run", whole_run=False):
            pass
        assert run_lock.find_process(instance, "run") == "alive"
    assert run_lock.find_process(instance, "run") == "gone"


def test_a_file_system_without_locks_makes_the_state_unknown(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(95, os.strerror(95))

    with monkeypatch.context() as without_locks:
        without_locks.setattr(run_lock.fcntl, "flock", refuse)
        with run_lock.held(instance, "run"):
            assert run_lock.find_process(instance, "run") == "unknown"
    assert run_lock.find_process(instance, "run") == "unknown"


def test_a_file_whose_text_a_power_cut_has_lost_makes_the_state_unknown(
    instance: dg.DagsterInstance,
) -> None:
    with run_lock.held(instance, "run"):
        pass
    lock_file(instance).write_text("")
    assert run_lock.find_process(instance, "run") == "unknown"


def test_a_run_goes_on_without_a_place_for_its_lock(instance: dg.DagsterInstance) -> None:
    Path(instance.root_directory, "st_pipelines").write_text("in the way")
    with run_lock.held(instance, "run"):
        pass


def test_files_are_their_owners_and_old_ones_are_removed(instance: dg.DagsterInstance) -> None:
    old, held = lock_file(instance, "old"), lock_file(instance, "held")
    before = os.umask(0)
    try:
        with run_lock.held(instance, "old"):
            pass
        with run_lock.held(instance, "held"):
            for file in (old, held):
                os.utime(file, times=(time.time(), time.time() - 15 * 86400))
            with run_lock.held(instance, "run"):
                assert stat.S_IMODE(lock_file(instance).stat().st_mode) == 0o600
                assert stat.S_IMODE(lock_file(instance).parent.stat().st_mode) == 0o700
            assert not old.exists()
            assert held.exists()
    finally:
        os.umask(before)


def test_nothing_waits_for_a_run_whose_machine_was_restarted(daemon: Daemon) -> None:
    """Dagster leaves it STARTED; schedules and sensors waited for a day."""
    tags = {"st_pipelines/environment": "production", "dagster/partition": "2026-03-05"}
    daemon.start_run("intraday", **tags)
    daemon.start_run("intraday", **tags, **{"dagster/sensor_name": "changes"})
    assert not daemon.tick_schedule("intraday", at(5, 9), run=False)
    assert not daemon.tick_sensor("changes", run=False)
    daemon.close()
    assert daemon.tick_schedule("intraday", at(5, 9), run=False)
    assert daemon.tick_sensor("changes", run=False)


@pytest.mark.parametrize("sensor", ["changes", "gaps"])
def test_a_run_whose_process_is_gone_is_reported_as_failed_and_frees_its_slot(
    daemon: Daemon, sensor: str
) -> None:
    """Dagster's queue counted it as running, so that a few of them blocked all runs."""
    tags = {"st_pipelines/environment": "production"}
    lost = daemon.start_run("intraday", **tags)
    canceled = daemon.start_run("daily", **tags)
    event = dg.DagsterEvent("PIPELINE_CANCELING", job_name="daily")
    daemon.instance.report_dagster_event(event, canceled.run_id)
    daemon.tick_sensor(sensor, run=False)
    assert [status_of(daemon, run) for run in (lost, canceled)] == ["STARTED", "CANCELING"]
    daemon.close()
    daemon.sleep_until(daemon.now + timedelta(days=3))  # the machine was down that long
    daemon.tick_sensor(sensor, run=False)
    assert [status_of(daemon, run) for run in (lost, canceled)] == ["FAILURE", "CANCELED"]
    [entry] = daemon.instance.all_logs(lost.run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
    assert "process of the run is gone" in (entry.get_dagster_event().message or "")


def test_a_run_that_may_be_executed_elsewhere_is_not_reported(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_lock, "_this_machine", lambda: {"host": "other", "boot": "other"})
    run = daemon.start_run("intraday", **{"st_pipelines/environment": "production"})
    daemon.close()
    monkeypatch.undo()
    daemon.tick_sensor("gaps", run=False)
    assert status_of(daemon, run) == "STARTED"


def test_a_run_that_ended_while_it_was_judged_keeps_its_end(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = daemon.start_run("intraday", **{"st_pipelines/environment": "production"})

    def end_it(instance: dg.DagsterInstance, run_id: str) -> str:
        event = dg.DagsterEvent("PIPELINE_SUCCESS", job_name="intraday")
        instance.report_dagster_event(event, run_id)
        return "gone"

    monkeypatch.setattr(run_lock, "find_process", end_it)
    daemon.tick_sensor("gaps", run=False)
    assert status_of(daemon, run) == "SUCCESS"


def status_of(daemon: Daemon, run: dg.DagsterRun) -> str:
    found = daemon.instance.get_run_by_id(run.run_id)
    assert found
    return found.status.value


def test_a_run_of_ours_without_a_lock_counts_until_it_should_have_one(daemon: Daemon) -> None:
    with freeze_time(daemon.now):
        run = daemon.start_run("daily", lock=False, **DAILY)
        event = dg.DagsterEvent("PIPELINE_START", job_name="daily")
        daemon.instance.report_dagster_event(event, run.run_id)
    daemon.sleep_until(daemon.now + timedelta(seconds=30))
    assert not daemon.tick_schedule("daily", at(5, 0, 30), run=False)
    daemon.sleep_until(daemon.now + timedelta(seconds=31))
    assert daemon.tick_schedule("daily", at(5, 0, 30), run=False)


def test_a_run_that_another_machine_was_to_start_counts_without_a_lock(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    class K8sRunLauncher: ...

    daemon.start_run("daily", lock=False, **DAILY)
    monkeypatch.setattr(type(daemon.instance), "run_launcher", K8sRunLauncher())
    assert not daemon.tick_schedule("daily", at(5, 0, 30), run=False)


def test_the_process_of_a_job_holds_the_lock_beyond_its_last_step(daemon: Daemon) -> None:
    """Dagster calls the run STARTED until it has recorded the end, after the last step."""
    seen: list[str] = []

    @dg.op
    def look(context) -> None:
        seen.append(run_lock.find_process(context.instance, context.run_id))

    @dg.job(executor_def=run_lock.in_process_executor)
    def looking() -> None:
        look()

    run = daemon.instance.create_run_for_job(looking)
    for event in execute_run_iterator(InMemoryJob(looking), run, daemon.instance):
        if event.is_step_success:
            seen.append("done")
    assert seen == ["alive", "done"]
    assert run_lock.find_process(daemon.instance, run.run_id) == "alive"
    assert json.loads(lock_file(daemon.instance, run.run_id).read_text())["whole_run"]
