"""When what is run by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeAlias

import dagster as dg

from st_pipelines.config import connection as connecting
from st_pipelines.config.environments import EnvironmentName
from st_pipelines.config.settings import EnvironmentSettings
from st_pipelines.defs.jobs import DAILY, INTRADAY, SNAPSHOTS, Job, JobKeys
from st_pipelines.defs.run_state import Unfinished, unfinished
from st_pipelines.windows import local_day, utc_now

Tick: TypeAlias = "dg.RunRequest | dg.SkipReason"

LATE = timedelta(hours=12)
"""A tick that comes later than that makes up for an outage; what is read whole is not repeated."""


@dataclass(frozen=True, kw_only=True)
class Schedules:
    """Makes the schedules of an environment.

    Each skips while the environment is not configured, with the name of what is missing, and
    while the run that it would start is not over. Cron expressions are in the environment's time
    zone; Dagster runs a time that a change of the clock leaves out once, right after the change,
    and one that comes twice once.

    Attributes:
        environment: whose.
        of: its settings.
        keys: the assets of each job.
        status: whether they run without being turned on.
        clock: tells the time, aware.
    """

    environment: EnvironmentName
    of: EnvironmentSettings
    keys: JobKeys
    status: dg.DefaultScheduleStatus
    clock: Callable[[], datetime] = utc_now

    def all(self, jobs: Mapping[str, Job], reconcile: Job) -> list[dg.ScheduleDefinition]:
        """The schedules of the jobs that there are."""
        made = {
            DAILY: (self.of.daily_cron, self._daily, "Yesterday of everything, then snapshots."),
            INTRADAY: (self.of.intraday_cron, self._intraday, "Today, so far."),
            SNAPSHOTS: (self.of.snapshots_cron, self._snapshots, "What is read whole, once more."),
        }
        found = [
            self._schedule(name, jobs[name], *rest) for name, rest in made.items() if name in jobs
        ]
        says = "Marks what is gone, and finds changes that moved no time of modification."
        weekly = self._schedule("weekly_reconcile", reconcile, "0 3 * * 0", self._weekly, says)
        return [*found, weekly]

    def _schedule(
        self,
        name: str,
        job: Job,
        cron: str,
        request: Callable[[datetime, Unfinished], Tick],
        says: str,
    ) -> dg.ScheduleDefinition:
        @dg.schedule(
            name=name,
            job=job,
            cron_schedule=cron,
            execution_timezone=self.of.timezone,
            default_status=self.status,
            description=says,
        )
        def schedule(context: dg.ScheduleEvaluationContext) -> Tick:
            if reason := connecting.why_incomplete(self.environment):
                return dg.SkipReason(reason)
            busy = unfinished(context.instance, self.environment, self.keys, self.clock())
            return request(context.scheduled_execution_time, busy)

        return schedule

    def _daily(self, due: datetime, busy: Unfinished) -> Tick:
        yesterday = local_day(due, self.of.timezone) - timedelta(days=1)
        if yesterday < self.of.start_date:
            return dg.SkipReason(f"{yesterday} is before the start date {self.of.start_date}")
        partition = yesterday.isoformat()
        if run := busy.run_of(DAILY, partition):
            return _not_over(run)
        late = self.clock() - due > LATE
        chosen = sorted(self.keys.get(INTRADAY, ()), key=str) if late else None
        if late and not chosen:
            return dg.SkipReason("late, and nothing has partitions")
        return dg.RunRequest(partition_key=partition, asset_selection=chosen)

    def _intraday(self, due: datetime, busy: Unfinished) -> Tick:
        if self.clock() - due > LATE:
            return dg.SkipReason("this day is over: the daily run loads it")
        if run := busy.run_of(INTRADAY):
            return _not_over(run)
        return dg.RunRequest(partition_key=local_day(due, self.of.timezone).isoformat())

    def _snapshots(self, due: datetime, busy: Unfinished) -> Tick:
        if self.clock() - due > LATE:
            return dg.SkipReason("too late: the next one reads the same")
        run = busy.run_of(SNAPSHOTS)
        return _not_over(run) if run else dg.RunRequest()

    def _weekly(self, due: datetime, busy: Unfinished) -> Tick:
        run = busy.run_of("reconcile")
        return _not_over(run) if run else dg.RunRequest()


def _not_over(run: dg.DagsterRun) -> dg.SkipReason:
    return dg.SkipReason(f"run {run.run_id[:8]} of {run.job_name} is not over")
