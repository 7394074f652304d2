"""The sensor `gaps`: requests past days that are incomplete: never loaded, or loaded too early.

Each tick looks at the last `gap_days` days whose scheduled daily run should have finished by now. A
day of a table is complete once its latest successful load read up to its end (see `run_state`), and
the loads in the warehouse cover it (`sync.completeness`). Older days are requested if Dagster shows
them as loaded and the warehouse lacks them: it was lost, replaced or restored from a backup. So are
all days of a table that the selection has got since the sensor's first tick.
Incomplete days are requested newest first. Consecutive days of the same tables share one run of the
job `daily`, which selects just those assets. At most `MAX_ACTIVE_RUNS` such runs are active at
once. A day of a table is requested at most `MAX_TRIES` times, with growing delays; the tick's
message then names it, and it is tried again once other days of the table load. Days in a run or a
backfill are left alone.

The cursor stores the days that Dagster shows as complete (a tick asks only about the others), how
often and when each incomplete day was requested, and the time of the last tick: after an outage,
scheduled runs take precedence.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

import dagster as dg
import msgspec

from st_pipelines.defs.dagster_internals import schedule_execution_time_iterator
from st_pipelines.defs.environment import GAPS, EnvironmentDefs
from st_pipelines.defs.jobs import Job
from st_pipelines.defs.run_state import (
    UnfinishedWork,
    range_tags,
    read_complete_days,
    read_last_load_times,
    read_state,
    read_unfinished_work,
    report_lost_runs,
    write_state,
)
from st_pipelines.defs.warehouse_record import compare_in_tick
from st_pipelines.sync.explain import shorten_list
from st_pipelines.windows import Days, local_day, midnight

if TYPE_CHECKING:  # it loads DuckDB, which loading the definitions must not
    from st_pipelines.sync.completeness import WarehouseState

MAX_ACTIVE_RUNS = 3
"""Runs that this sensor keeps in flight."""
MAX_TRIES = 4
"""Requests for a day of a table. The delays between them outlast an outage of some hours."""

INTERVAL = timedelta(minutes=10)
GRACE = timedelta(hours=2.5)
"""Time that a daily run has after it was due, before its day counts as a gap."""

_FIRST_RETRY_DELAY = timedelta(minutes=30)
_MAX_RANGE_DAYS = 31
_MAX_MISSED_INTERVALS = 3
"""After a longer pause the schedules first make up for the ticks that they missed."""


class _Tries(msgspec.Struct):
    """How often a day of a table was requested, and when last."""

    count: int
    at: datetime

    def is_due(self, now: datetime, loaded: datetime | None) -> bool:
        """Whether to request the day again.

        It is due after a delay. After the last try, it is due once another day was loaded since.
        """
        if self.count >= MAX_TRIES:
            return loaded is not None and loaded > self.at and now >= self.at + _FIRST_RETRY_DELAY
        return now >= self.at + _FIRST_RETRY_DELAY * 4 ** (self.count - 1)


class _State(msgspec.Struct, omit_defaults=True):
    """What the cursor keeps.

    Attributes:
        at: time of the last tick.
        whole: days of which Dagster shows all tables as complete; `complete` does not repeat them,
            as the cursor is stored with every tick.
        selected: the tables that `whole` covers, so that another selection is checked again.
        new: tables that were selected since the first tick, until all their days are loaded.
        complete: by day, the tables that Dagster shows as complete.
        tries: by day and table.
    """

    at: datetime | None = None
    whole: set[date] = set()
    selected: set[str] = set()
    new: set[str] = set()
    complete: dict[date, set[str]] = {}
    tries: dict[date, dict[str, _Tries]] = {}


@dataclass(frozen=True, kw_only=True)
class Gap:
    """Consecutive days, `last` included, that the same tables lack."""

    first: date
    last: date
    tables: frozenset[str]

    def __iter__(self) -> Iterator[date]:
        """Yields the days in order."""
        return (self.first + timedelta(n) for n in range((self.last - self.first).days + 1))

    def __str__(self) -> str:
        """Returns days and tables for a log line."""
        days = f"{self.first}" if self.first == self.last else f"{self.first} to {self.last}"
        what = next(iter(self.tables)) if len(self.tables) == 1 else f"{len(self.tables)} tables"
        return f"{days} of {what}"


def build_gaps_sensor(env: EnvironmentDefs, job: Job) -> dg.SensorDefinition:
    """Returns the sensor.

    Args:
        job: loads partitions of the partitioned assets; of those, a run selects what lacks a day.
    """

    @dg.sensor(
        name=env.name(GAPS),
        job=job,
        minimum_interval_seconds=int(INTERVAL.total_seconds()),
        default_status=env.sensor_status,
        description=f"Loads what the last {env.settings.gap_days} days lack or hold incompletely.",
    )
    def gaps(context: dg.SensorEvaluationContext) -> list[dg.RunRequest] | dg.SkipReason:
        if reason := env.why_incomplete():
            return dg.SkipReason(reason)
        now, state = env.clock(), read_state(context, _State)
        report_lost_runs(context.instance, env)
        unfinished = read_unfinished_work(context.instance, env, now)
        compared = compare_in_tick(context.instance, env, now)
        if compared is None:
            return dg.SkipReason("loads hold the warehouse: the next tick looks again")
        tick = _Tick(env=env, state=state, unfinished=unfinished, now=now, warehouse=compared.state)
        found = tick.find_gaps(context.instance)
        write_state(context, state)
        difference = compared.difference
        if difference:
            context.log.warning(difference)
        if isinstance(found, str):
            return dg.SkipReason(f"{found}; {difference}" if difference else found)
        context.log.info(f"requested {', '.join(map(str, found))}")
        return [tick.request(gap) for gap in found]

    return gaps


@dataclass(frozen=True, kw_only=True)
class _Tick:
    """One evaluation of the sensor. It updates `state`."""

    env: EnvironmentDefs
    state: _State
    unfinished: UnfinishedWork
    now: datetime
    warehouse: WarehouseState

    def find_gaps(self, instance: dg.DagsterInstance) -> list[Gap] | str:
        """Returns the gaps to request, or why there are none."""
        last_tick, self.state.at = self.state.at, self.now
        if last_tick and self.now - last_tick > INTERVAL * _MAX_MISSED_INTERVALS:
            hours = (self.now - last_tick).total_seconds() / 3600
            return f"no tick for {hours:.1f} hours: the schedules make up for theirs first"
        active = self.unfinished.requested_by(self.env.name(GAPS))
        if len(active) >= MAX_ACTIVE_RUNS:
            return f"{len(active)} requested runs are unfinished"
        days = self._days()
        incomplete = self._read_unfinished(instance, days)
        self._add_missing(instance, days, incomplete)
        self._forget_tries(incomplete)
        loaded = self._read_load_times(instance)
        due = {day: self._due(day, tables, loaded) for day, tables in incomplete.items()}
        gaps = list(group_days(due))[: MAX_ACTIVE_RUNS - len(active)]
        self._note_requests(gaps)
        return gaps or self._explain_none(incomplete)

    def request(self, gap: Gap) -> dg.RunRequest:
        """Returns the run that loads a gap."""
        first, last = gap.first.isoformat(), gap.last.isoformat()
        return dg.RunRequest(
            asset_selection=[self.env.asset_keys[table] for table in sorted(gap.tables)],
            partition_key=first if first == last else None,
            tags={} if first == last else range_tags(first, last),
        )

    @property
    def _tables(self) -> frozenset[str]:
        return frozenset(endpoint.table for endpoint in self.env.partitioned)

    def _days(self) -> list[date]:
        """Returns the days to check, newest first, and drops all others from the state."""
        settings = self.env.settings
        last = local_day(self.now, settings.timezone) - timedelta(days=1)
        if self.now < self._settled_at(last):
            last -= timedelta(days=1)
        days = [last - timedelta(days=n) for n in range(settings.gap_days)]
        for day in [day for day in self.state.complete if day not in days]:
            del self.state.complete[day]
        return [day for day in days if day >= settings.start_date]

    def _settled_at(self, day: date) -> datetime:
        """Returns when a day's daily run has had its time. Before, the day is not a gap."""
        settings = self.env.settings
        end = midnight(day + timedelta(days=1), settings.timezone)
        scheduled = schedule_execution_time_iterator(
            end.timestamp(), settings.daily_cron, settings.timezone, ascending=True
        )
        return min(next(scheduled), end + timedelta(days=1)) + GRACE

    def _read_unfinished(
        self, instance: dg.DagsterInstance, days: list[date]
    ) -> dict[date, frozenset[str]]:
        """Returns by day the tables whose latest load did not reach the end of the day."""
        state, all_tables = self.state, self._tables
        if state.selected != all_tables:
            state.new |= all_tables - state.selected if state.selected else set()
            state.whole, state.selected = set(), set(all_tables)
        state.new &= all_tables
        state.whole &= set(days)
        days = [day for day in days if day not in state.whole]
        for endpoint in self.env.partitioned:
            table = endpoint.table
            open_days = [d for d in days if table not in state.complete.setdefault(d, set())]
            if open_days:
                key, zone = self.env.asset_keys[table], self.env.settings.timezone
                for day in read_complete_days(instance, key, open_days, zone):
                    state.complete[day].add(table)
        incomplete = {day: all_tables - state.complete[day] for day in days}
        for day in [day for day, tables in incomplete.items() if not tables]:
            state.whole.add(day)
            del state.complete[day], incomplete[day]
        return incomplete

    def _add_missing(
        self,
        instance: dg.DagsterInstance,
        days: list[date],
        incomplete: dict[date, frozenset[str]],
    ) -> None:
        """Adds what the warehouse lacks of the days, and of all days that Dagster calls loaded.

        Of a table that was selected later, it adds all days.
        """
        if not days:
            return
        settings = self.env.settings
        all_days = Days(
            first=settings.start_date, last=days[0], timezone=settings.timezone, open_start=True
        )
        for endpoint in self.env.partitioned:
            missing = self.warehouse.find_missing_days(endpoint, all_days)
            if not missing:
                self.state.new.discard(endpoint.table)
            if endpoint.table not in self.state.new and any(day < days[-1] for day in missing):
                loaded = instance.get_materialized_partitions(self.env.asset_keys[endpoint.table])
                missing = [d for d in missing if d >= days[-1] or d.isoformat() in loaded]
            for day in missing:
                incomplete[day] = incomplete.get(day, frozenset()) | {endpoint.table}

    def _forget_tries(self, incomplete: Mapping[date, frozenset[str]]) -> None:
        """Forgets the tries of days that are complete, so that lost ones start over."""
        kept = {
            day: {table: tries for table, tries in by_table.items() if table in incomplete[day]}
            for day, by_table in self.state.tries.items()
            if day in incomplete
        }
        self.state.tries = {day: by_table for day, by_table in kept.items() if by_table}

    def _read_load_times(self, instance: dg.DagsterInstance) -> dict[str, datetime]:
        """Returns when each table that has used up its tries was last loaded, in UTC."""
        exhausted = {
            self.env.asset_keys[table]
            for by_table in self.state.tries.values()
            for table, tries in by_table.items()
            if tries.count >= MAX_TRIES and table in self._tables
        }
        times = read_last_load_times(instance, exhausted)
        return {self.env.tables[key]: time for key, time in times.items()}

    def _due(
        self, day: date, tables: Iterable[str], loaded: Mapping[str, datetime]
    ) -> frozenset[str]:
        tries, partition = self.state.tries.get(day, {}), day.isoformat()
        return frozenset(
            table
            for table in tables
            if not self.unfinished.is_loading(self.env.asset_keys[table], partition)
            and (table not in tries or tries[table].is_due(self.now, loaded.get(table)))
        )

    def _note_requests(self, gaps: Iterable[Gap]) -> None:
        for gap in gaps:
            for day in gap:
                tries = self.state.tries.setdefault(day, {})
                for table in gap.tables:
                    count = tries[table].count if table in tries else 0
                    tries[table] = _Tries(count + 1, self.now)

    def _explain_none(self, incomplete: Mapping[date, frozenset[str]]) -> str:
        if not incomplete:
            return f"the last {self.env.settings.gap_days} days are complete"
        given_up = [
            f"{table} {day}"
            for day, by_table in sorted(self.state.tries.items(), reverse=True)
            for table, tries in sorted(by_table.items())
            if tries.count >= MAX_TRIES and table in incomplete.get(day, ())
        ]
        text = f"{sum(map(len, incomplete.values()))} days of tables are incomplete:"
        text += " they are being loaded, or wait for their next try"
        if given_up:
            examples = shorten_list(given_up)
            text += f"; given up after {MAX_TRIES} tries: {examples}; load them by hand"
        return text


def group_days(tables_by_day: Mapping[date, frozenset[str]]) -> Iterator[Gap]:
    """Yields consecutive days that lack the same tables as one gap, newest first.

    Every day of every table is yielded once. A gap has at most `_MAX_RANGE_DAYS` days, and a day
    without tables separates gaps.
    """
    gap: Gap | None = None
    for day in sorted(tables_by_day, reverse=True):
        tables = tables_by_day[day]
        follows = gap and gap.tables == tables and gap.first - day == timedelta(days=1)
        if gap and follows and (gap.last - day).days < _MAX_RANGE_DAYS:
            gap = replace(gap, first=day)
            continue
        if gap and gap.tables:
            yield gap
        gap = Gap(first=day, last=day, tables=tables)
    if gap and gap.tables:
        yield gap
