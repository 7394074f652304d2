"""Plays Dagster's daemon on a real instance, with a clock that the test moves."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, TypeAlias
from zoneinfo import ZoneInfo

import dagster as dg
from dagster._core.test_utils import freeze_time
from dagster._utils.schedules import schedule_execution_time_iterator

from st_pipelines.definitions import build_definitions
from st_pipelines.defs import run_lock
from st_pipelines.defs.run_state import loaded_until
from st_pipelines.sandbox.server import Sandbox
from st_pipelines.windows import midnight

ZONE = ZoneInfo("America/New_York")
TABLES = ("jpm.jobs", "accounting.invoice_items")
MAX_CATCH_UP = 1
"""Missed ticks of a schedule that Dagster makes up for."""

Build: TypeAlias = Callable[[Callable[[], datetime]], dg.Definitions]
"""Builds the definitions of a code location with a clock."""


def at(day: int, hour: int, minute: int = 0, month: int = 3) -> datetime:
    return datetime(2026, month, day, hour, minute, tzinfo=ZONE)


def one_event_log(folder: Path) -> dict[str, Any]:
    """Stores the events of all runs in one file; creating one per run takes a second each."""
    return {
        "event_log_storage": {
            "module": "dagster._core.storage.event_log",
            "class": "ConsolidatedSqliteEventLogStorage",
            "config": {"base_dir": str(folder / "events")},
        }
    }


def build_production(clock: Callable[[], datetime]) -> dg.Definitions:
    return build_definitions("production", clock=clock)


class Daemon:
    """Schedules and sensors of one code location. Runs execute as soon as they are requested."""

    def __init__(
        self,
        instance: dg.DagsterInstance,
        sandbox: Sandbox,
        zone: str = "America/New_York",
        build: Build = build_production,
    ) -> None:
        self.instance = instance
        self.sandbox = sandbox
        self.zone = zone
        self.build = build
        self.cursors: dict[str, str | None] = {}
        self.told: dict[str, list[str]] = defaultdict(list)
        self.asked: dict[str, list[dg.RunRequest]] = defaultdict(list)
        self._ticked: dict[str, datetime] = {}
        self._processes = ExitStack()
        self.restart()

    def close(self) -> None:
        """Ends the processes of unfinished runs."""
        self._processes.close()

    @property
    def now(self) -> datetime:
        return self.sandbox.world.now

    def restart(self) -> None:
        """Loads the code anew; only what Dagster stores survives."""
        self.definitions = self.build(lambda: self.now)
        self.repository = self.definitions.get_repository_def()

    def sleep_until(self, moment: datetime) -> None:
        """Moves the clock without a tick."""
        self.sandbox.world.set_now(moment)

    def live_until(
        self,
        moment: datetime,
        step: timedelta,
        ticking: Sequence[str] = ("daily", "intraday", "gaps"),
    ) -> None:
        """Moves the clock in steps; schedules and sensors tick."""
        while self.now < moment:
            self.sandbox.world.set_now(min(moment, self.now + step))
            for name in ticking:
                if self.repository.has_sensor_def(name):
                    self.tick_sensor(name)
                else:
                    self._catch_up(self.repository.get_schedule_def(name))

    def tick_schedule(
        self, name: str, moment: datetime, *, run: bool = True
    ) -> Sequence[dg.RunRequest]:
        context = dg.build_schedule_context(
            self.instance, scheduled_execution_time=moment, repository_def=self.repository
        )
        # left open, it names its instance to later tests whenever it is collected as garbage
        with freeze_time(self.now), context:
            data = self.repository.get_schedule_def(name).evaluate_tick(context)
        return self._do(name, data.run_requests or (), data.skip_message, run=run)

    def tick_sensor(self, name: str, *, run: bool = True) -> Sequence[dg.RunRequest]:
        context = dg.build_sensor_context(
            instance=self.instance,
            cursor=self.cursors.get(name),
            repository_def=self.repository,
            sensor_name=name,
        )
        with freeze_time(self.now), context:
            data = self.repository.get_sensor_def(name).evaluate_tick(context)
        self.cursors[name] = data.cursor or self.cursors.get(name)
        return self._do(name, data.run_requests or (), data.skip_message, run=run)

    def start_run(
        self, job: str, *, selection: Collection[dg.AssetKey] = (), lock: bool = True, **tags: str
    ) -> dg.DagsterRun:
        """Returns a run that has started and does not end.

        Args:
            job: its name.
            selection: the assets; by default those of the job.
            lock: whether a process holds the lock of the run.
            **tags: of the run, besides the environment's.
        """
        definition = self.repository.get_job(job)
        if selection:
            definition = definition.get_subset(asset_selection=set(selection))
        run = self.instance.create_run_for_job(
            definition,
            status=dg.DagsterRunStatus.STARTED,
            asset_selection=frozenset(selection) or None,
            tags=tags,
        )
        if lock:
            self._processes.enter_context(run_lock.held(self.instance, run.run_id))
        return run

    def complete_loads(self, table: str, day: date) -> int:
        """Returns the number of loads that covered a day to its end."""
        key = dg.AssetKey(["production", *table.split(".")])
        wanted = dg.AssetRecordsFilter(asset_key=key, asset_partitions=[day.isoformat()])
        found = self.instance.fetch_materializations(wanted, limit=100).records
        untils = [loaded_until(record.asset_materialization) for record in found]
        end = midnight(day + timedelta(days=1), self.zone)
        return sum(until is not None and until >= end for until in untils)

    def _catch_up(self, schedule: dg.ScheduleDefinition) -> None:
        due = [*self._due(schedule)]
        self._ticked[schedule.name] = self.now
        for moment in due[-MAX_CATCH_UP:]:
            self.tick_schedule(schedule.name, moment)

    def _due(self, schedule: dg.ScheduleDefinition) -> Iterator[datetime]:
        since = self._ticked.setdefault(schedule.name, self.now)
        zone = schedule.execution_timezone
        times = schedule_execution_time_iterator(
            since.timestamp(), schedule.cron_schedule, zone, ascending=True
        )
        for moment in times:
            if moment > self.now:
                return
            if moment > since:
                yield moment.astimezone(timezone.utc)

    def _do(
        self, name: str, requests: Sequence[dg.RunRequest], told: str | None, *, run: bool = True
    ) -> Sequence[dg.RunRequest]:
        if told:
            self.told[name].append(told)
        for request in requests:
            self.asked[name].append(request)
            if run:
                self.execute(name, request)
        return requests

    def execute(self, name: str, request: dg.RunRequest) -> dg.ExecuteInProcessResult:
        """Runs what was requested."""
        kind = self.repository.has_sensor_def(name)
        found = (self.repository.get_sensor_def if kind else self.repository.get_schedule_def)(name)
        job = self.repository.get_job(request.job_name or found.job_name)
        with freeze_time(self.now):
            return job.execute_in_process(
                instance=self.instance,
                partition_key=request.partition_key,
                asset_selection=request.asset_selection,
                tags=dict(request.tags),
                raise_on_error=False,
            )
