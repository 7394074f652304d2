"""The sensor `gaps`: loads the days that are missing, failed, or were loaded before they ended."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta

import dagster as dg
import msgspec

from st_pipelines.catalog.model import Catalog
from st_pipelines.config import connection as connecting
from st_pipelines.config.environments import EnvironmentName
from st_pipelines.config.settings import EnvironmentSettings
from st_pipelines.defs.assets import asset_key
from st_pipelines.defs.dagster_internals import schedule_execution_time_iterator
from st_pipelines.defs.jobs import Job, JobKeys
from st_pipelines.defs.run_state import (
    Unfinished,
    complete_days,
    last_loads,
    range_tags,
    unfinished,
)
from st_pipelines.defs.sensors.cursor import remember, remembered
from st_pipelines.windows import local_day, midnight, utc_now

NAME = "gaps"
MOST_RUNS = 3
"""So many are asked for at a time, and not over."""
MOST_TRIES = 4
"""For a day of a table. The waits between them outlast an outage of some hours."""

INTERVAL = timedelta(minutes=10)
GRACE = timedelta(hours=2.5)
"""After the daily run of a day was due: it comes first."""

_PAUSE = timedelta(minutes=30)
_LONGEST_RANGE = 31
_ASLEEP = 3  # intervals without a tick: schedules make up for what they missed first


class _Tries(msgspec.Struct):
    """How often a day of a table was asked for, and when last."""

    count: int
    at: datetime

    def is_due(self, now: datetime, loaded: datetime | None) -> bool:
        """Whether to ask again: after a pause, or once other days of the table were loaded."""
        if self.count >= MOST_TRIES:
            return loaded is not None and loaded > self.at and now >= self.at + _PAUSE
        return now >= self.at + _PAUSE * 4 ** (self.count - 1)


class _State(msgspec.Struct, omit_defaults=True):
    """When the last tick was; by day, the tables that are complete, and those asked for.

    A day of which all tables are complete is only in `whole`: the cursor is kept with every tick.
    `tables` are how many that was, so that another selection is looked at anew.
    """

    at: datetime | None = None
    whole: set[date] = set()
    tables: int = 0
    complete: dict[date, set[str]] = {}
    tries: dict[date, dict[str, _Tries]] = {}


@dataclass(frozen=True, kw_only=True)
class Gap:
    """Consecutive days that the same tables lack.

    Attributes:
        first: the earliest day.
        last: the latest day.
        tables: which lack all of them.
    """

    first: date
    last: date
    tables: frozenset[str]

    def __iter__(self) -> Iterator[date]:
        """Its days, in order."""
        return (self.first + timedelta(n) for n in range((self.last - self.first).days + 1))

    def __str__(self) -> str:
        """For messages."""
        days = f"{self.first}" if self.first == self.last else f"{self.first} to {self.last}"
        what = next(iter(self.tables)) if len(self.tables) == 1 else f"{len(self.tables)} tables"
        return f"{days} of {what}"


def gaps_sensor(
    environment: EnvironmentName,
    of: EnvironmentSettings,
    catalog: Catalog,
    job: Job,
    jobs: JobKeys,
    *,
    status: dg.DefaultSensorStatus,
    clock: Callable[[], datetime] = utc_now,
) -> dg.SensorDefinition:
    """Looks at the days that are over and have had their daily run.

    What is not complete is asked for, newest days first, consecutive days of the same tables in
    one run, a few runs at a time, and each day of a table at most `MOST_TRIES` times with growing
    waits. What is in a run or a backfill is left alone.

    Args:
        environment: whose.
        of: its settings.
        catalog: its endpoints.
        job: loads partitions; of its assets those that lack a day are asked for.
        jobs: the assets of each job of the environment.
        status: whether it runs without being turned on.
        clock: tells the time, aware.
    """
    keys = {e.table: asset_key(environment, e) for e in catalog if e.partitioned}

    @dg.sensor(
        name=NAME,
        job=job,
        minimum_interval_seconds=int(INTERVAL.total_seconds()),
        default_status=status,
        description=f"Loads what is missing or incomplete of the last {of.gap_days} days.",
    )
    def gaps(context: dg.SensorEvaluationContext) -> list[dg.RunRequest] | dg.SkipReason:
        if reason := connecting.why_incomplete(environment):
            return dg.SkipReason(reason)
        now, state = clock(), remembered(context, _State)
        busy = unfinished(context.instance, environment, jobs, now)
        look = _Look(keys=keys, of=of, state=state, busy=busy, now=now)
        result = look.at(context.instance)
        remember(context, state)
        if isinstance(result, str):
            return dg.SkipReason(result)
        context.log.info(f"asked for {', '.join(map(str, result))}")
        return [look.request(gap) for gap in result]

    return gaps


@dataclass(frozen=True, kw_only=True)
class _Look:
    """One tick."""

    keys: Mapping[str, dg.AssetKey]
    of: EnvironmentSettings
    state: _State
    busy: Unfinished
    now: datetime

    def at(self, instance: dg.DagsterInstance) -> list[Gap] | str:
        """What to ask for, or why nothing."""
        slept_since, self.state.at = self.state.at, self.now
        if slept_since and self.now - slept_since > INTERVAL * _ASLEEP:
            hours = (self.now - slept_since).total_seconds() / 3600
            return f"no tick for {hours:.1f} hours: the schedules make up for theirs first"
        waiting = self.busy.requested_by(NAME)
        if len(waiting) >= MOST_RUNS:
            return f"{len(waiting)} runs that were asked for are not over"
        lacking = self._lacking(instance, self._days())
        loaded = self._loaded(instance)
        due = {day: self._due(day, tables, loaded) for day, tables in lacking.items()}
        chosen = list(grouped(due))[: MOST_RUNS - len(waiting)]
        self._note(chosen)
        return chosen or self._why_none(lacking)

    def _days(self) -> list[date]:
        """Newest first: those that are over, and for which the daily run has had its time."""
        last = local_day(self.now, self.of.timezone) - timedelta(days=1)
        if self.now < self._settled(last):
            last -= timedelta(days=1)
        days = [last - timedelta(days=n) for n in range(self.of.gap_days)]
        for known in (self.state.complete, self.state.tries):
            for day in [day for day in known if day not in days]:
                del known[day]
        return [day for day in days if day >= self.of.start_date]

    def _lacking(self, instance: dg.DagsterInstance, days: list[date]) -> dict[date, set[str]]:
        complete, state = self.state.complete, self.state
        if state.tables != len(self.keys):
            state.whole, state.tables = set(), len(self.keys)
        state.whole &= set(days)
        days = [day for day in days if day not in state.whole]
        for table, key in self.keys.items():
            open_days = [day for day in days if table not in complete.setdefault(day, set())]
            if open_days:
                for day in complete_days(instance, key, open_days, self.of.timezone):
                    complete[day].add(table)
        lacking = {day: self.keys.keys() - complete[day] for day in days}
        for day in [day for day, tables in lacking.items() if not tables]:
            state.whole.add(day)
            del complete[day], lacking[day]
            state.tries.pop(day, None)
        return lacking

    def _settled(self, day: date) -> datetime:
        """From when on a day is looked at: its daily run was due and has had its time."""
        end = midnight(day + timedelta(days=1), self.of.timezone)
        due = schedule_execution_time_iterator(
            end.timestamp(), self.of.daily_cron, self.of.timezone, ascending=True
        )
        return min(next(due), end + timedelta(days=1)) + GRACE

    def _loaded(self, instance: dg.DagsterInstance) -> dict[str, datetime]:
        """When each table that was given up was loaded last, UTC."""
        given_up = {
            table
            for tries in self.state.tries.values()
            for table, tried in tries.items()
            if tried.count >= MOST_TRIES and table in self.keys
        }
        tables = {self.keys[table]: table for table in given_up}
        return {tables[key]: at for key, at in last_loads(instance, tables).items()}

    def _due(
        self, day: date, tables: Iterable[str], loaded: Mapping[str, datetime]
    ) -> frozenset[str]:
        tries, partition = self.state.tries.get(day, {}), day.isoformat()
        return frozenset(
            table
            for table in tables
            if not self.busy.loads(self.keys[table], partition)
            and (table not in tries or tries[table].is_due(self.now, loaded.get(table)))
        )

    def _note(self, gaps: Iterable[Gap]) -> None:
        for gap in gaps:
            for day in gap:
                tries = self.state.tries.setdefault(day, {})
                for table in gap.tables:
                    count = tries[table].count if table in tries else 0
                    tries[table] = _Tries(count + 1, self.now)

    def request(self, gap: Gap) -> dg.RunRequest:
        """The run that loads a gap."""
        first, last = gap.first.isoformat(), gap.last.isoformat()
        return dg.RunRequest(
            asset_selection=[self.keys[table] for table in sorted(gap.tables)],
            partition_key=first if first == last else None,
            tags={} if first == last else range_tags(first, last),
        )

    def _why_none(self, lacking: Mapping[date, set[str]]) -> str:
        if not lacking:
            return f"the last {self.of.gap_days} days are complete"
        given_up = [
            f"{table} {day}"
            for day, tries in sorted(self.state.tries.items(), reverse=True)
            for table, tried in sorted(tries.items())
            if tried.count >= MOST_TRIES and table in lacking.get(day, ())
        ]
        text = f"{sum(map(len, lacking.values()))} days of tables are incomplete:"
        text += " they are being loaded, or wait for their next try"
        if given_up:
            some = ", ".join(given_up[:5]) + (", ..." if len(given_up) > 5 else "")
            text += f"; given up after {MOST_TRIES} tries: {some}; load them by hand"
        return text


def grouped(lacking: Mapping[date, frozenset[str]]) -> Iterator[Gap]:
    """Consecutive days that the same tables lack, newest first.

    Args:
        lacking: the tables of each day; a day without any is a border.

    Yields:
        Every day of every table once, at most `_LONGEST_RANGE` days at a time.
    """
    gap: Gap | None = None
    for day in sorted(lacking, reverse=True):
        tables = lacking[day]
        follows = gap and gap.tables == tables and gap.first - day == timedelta(days=1)
        if gap and follows and (gap.last - day).days < _LONGEST_RANGE:
            gap = replace(gap, first=day)
            continue
        if gap and gap.tables:
            yield gap
        gap = Gap(first=day, last=day, tables=tables)
    if gap and gap.tables:
        yield gap
