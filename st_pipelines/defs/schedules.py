"""Builds the schedules: daily, intraday, snapshots, weekly_reconcile, and one for each report.

| schedule | requests |
|---|---|
| `daily` | yesterday's partition of every asset, then the snapshots |
| `intraday` | today's partition of every partitioned asset |
| `snapshots` | the assets without partitions, once more |
| `weekly_reconcile` | the job `reconcile`, on Sundays at 3:00 |
| `report_<name>` | a report: yesterday and its look-back days, or all of it |

Cron expressions are in the environment's time zone. Dagster runs a time that a change of the clocks
skips once, right after the change, and a time that comes twice once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeAlias

import dagster as dg

from st_pipelines.catalog.report import API as REPORTS
from st_pipelines.catalog.report import NO_SCHEDULE, Report
from st_pipelines.defs.environment import (
    DAILY,
    INTRADAY,
    RECONCILE,
    SNAPSHOTS,
    WEEKLY_RECONCILE,
    EnvironmentDefs,
    report_schedule_name,
)
from st_pipelines.defs.jobs import Job
from st_pipelines.defs.run_state import UnfinishedWork, range_tags, read_unfinished_work
from st_pipelines.windows import local_day

Tick: TypeAlias = "dg.RunRequest | dg.SkipReason"

LATE_AFTER = timedelta(hours=12)
"""A later tick makes up for an outage. It loads missed partitions, but repeats no snapshots."""

_WEEKLY_CRON = "0 3 * * 0"


def build_schedules(
    env: EnvironmentDefs, jobs: Mapping[str, Job], reconcile: Job
) -> list[dg.ScheduleDefinition]:
    """Returns the schedules of the jobs that exist.

    Args:
        jobs: by name without prefix, as `jobs.build_asset_jobs` returns them.
    """
    schedules = _Schedules(env=env)
    cron = env.settings
    specs = {
        DAILY: (cron.daily_cron, schedules.daily, "Yesterday of everything, then snapshots."),
        INTRADAY: (cron.intraday_cron, schedules.intraday, "Today, up to now."),
        SNAPSHOTS: (cron.snapshots_cron, schedules.snapshots, "Snapshots, once more."),
    }
    built = [
        schedules.build(name, jobs[name], *spec) for name, spec in specs.items() if name in jobs
    ]
    weekly = schedules.build(
        WEEKLY_RECONCILE,
        reconcile,
        _WEEKLY_CRON,
        schedules.weekly_reconcile,
        "Marks deleted rows, and finds changes that moved no time of modification.",
    )
    return [*built, weekly]


@dataclass(frozen=True, kw_only=True)
class _Schedules:
    """Decides for each schedule what a tick requests.

    Every schedule skips while the environment is not configured, naming the missing settings, and
    while the run that it would request is unfinished.
    """

    env: EnvironmentDefs

    def build(
        self,
        name: str,
        job: Job,
        cron: str,
        request: Callable[[datetime, UnfinishedWork], Tick],
        description: str,
    ) -> dg.ScheduleDefinition:
        """Returns a schedule whose ticks call `request` with the scheduled time."""

        @dg.schedule(
            name=self.env.name(name),
            job=job,
            cron_schedule=cron,
            execution_timezone=self.env.settings.timezone,
            default_status=self.env.schedule_status,
            description=description,
        )
        def schedule(context: dg.ScheduleEvaluationContext) -> Tick:
            if reason := self.env.why_incomplete():
                return dg.SkipReason(reason)
            unfinished = read_unfinished_work(context.instance, self.env, self.env.clock())
            return request(context.scheduled_execution_time, unfinished)

        return schedule

    def daily(self, scheduled: datetime, unfinished: UnfinishedWork) -> Tick:
        settings = self.env.settings
        yesterday = local_day(scheduled, settings.timezone) - timedelta(days=1)
        if yesterday < settings.start_date:
            return dg.SkipReason(f"{yesterday} is before the start date {settings.start_date}")
        partition = yesterday.isoformat()
        if run := unfinished.find_run(self.env.name(DAILY), partition):
            return _skip_unfinished(run)
        if not self._is_late(scheduled):
            return dg.RunRequest(partition_key=partition)
        partitioned = sorted(self.env.job_keys.get(INTRADAY, ()), key=str)
        if not partitioned:
            return dg.SkipReason("late, and no asset has partitions")
        return dg.RunRequest(partition_key=partition, asset_selection=partitioned)

    def intraday(self, scheduled: datetime, unfinished: UnfinishedWork) -> Tick:
        if self._is_late(scheduled):
            return dg.SkipReason("this day is over: the daily run loads it")
        if run := unfinished.find_run(self.env.name(INTRADAY)):
            return _skip_unfinished(run)
        today = local_day(scheduled, self.env.settings.timezone)
        return dg.RunRequest(partition_key=today.isoformat())

    def snapshots(self, scheduled: datetime, unfinished: UnfinishedWork) -> Tick:
        if self._is_late(scheduled):
            return dg.SkipReason("too late: the next tick reads the same")
        run = unfinished.find_run(self.env.name(SNAPSHOTS))
        return _skip_unfinished(run) if run else dg.RunRequest()

    def weekly_reconcile(self, scheduled: datetime, unfinished: UnfinishedWork) -> Tick:
        run = unfinished.find_run(self.env.name(RECONCILE))
        return _skip_unfinished(run) if run else dg.RunRequest()

    def _is_late(self, scheduled: datetime) -> bool:
        return self.env.clock() - scheduled > LATE_AFTER


def _skip_unfinished(run: dg.DagsterRun) -> dg.SkipReason:
    return dg.SkipReason(f"run {run.run_id[:8]} of {run.job_name} is unfinished")


def build_report_schedules(env: EnvironmentDefs, job: Job) -> list[dg.ScheduleDefinition]:
    """Returns the schedules of an environment's reports.

    Args:
        job: has the assets of all reports.
    """
    return [_build(env, job, report) for report in env.reports if report.schedule != NO_SCHEDULE]


def _build(env: EnvironmentDefs, job: Job, report: Report) -> dg.ScheduleDefinition:
    days = "Yesterday and its look-back days" if report.by_day else "All"

    @dg.schedule(
        name=env.name(report_schedule_name(report)),
        job=job,
        cron_schedule=report.schedule or env.settings.daily_cron,
        execution_timezone=env.settings.timezone,
        default_status=env.schedule_status,
        description=f"{days} of the report {report.name}.",
    )
    def schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        if reason := env.why_incomplete():
            return dg.SkipReason(reason)
        key = env.asset_keys[f"{REPORTS}.{report.name}"]
        now = env.clock()
        if run := read_unfinished_work(context.instance, env, now).find_run_of(key):
            return dg.SkipReason(f"run {run.run_id[:8]} of the report is unfinished")
        if not report.by_day:
            is_late = now - context.scheduled_execution_time > LATE_AFTER
            late = dg.SkipReason("too late: the next tick reads the same")
            return late if is_late else dg.RunRequest(asset_selection=[key])
        last = local_day(context.scheduled_execution_time, env.settings.timezone)
        last -= timedelta(days=1)
        first = max(last - timedelta(days=report.look_back_days), env.settings.start_date)
        if last < first:
            return dg.SkipReason(f"{last} is before the start date {env.settings.start_date}")
        if first == last:
            return dg.RunRequest(asset_selection=[key], partition_key=last.isoformat())
        tags = range_tags(first.isoformat(), last.isoformat())
        return dg.RunRequest(asset_selection=[key], tags=tags)

    return schedule
