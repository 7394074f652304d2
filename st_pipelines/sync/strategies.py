"""Decides for each kind of endpoint what a load reads, how it reads it, and how the rows merge.

There is one class per kind: `WindowedList` (a list with a date filter), `KeylessWindow` (such a
list without a key), `ExportFeed` (an export without a list), `DailyAggregate` (figures of one day),
`AggregateOfEach` (the same for each record of a list), `Snapshot` (a list without a usable date
filter), `forecast.Forecast` (figures of the days around today), `child_lists.ChildList` (a list
that needs the ids of a parent), and `DailyReport` and `WholeReport` (reports with and without days,
which `report_strategy` reads). How an endpoint is read is decided only here. The warehouse tests
for a key, for `by_day` or for a parent only to choose its SQL, and the checks to choose which of
them apply. To add a kind, add a subclass of `strategy.Strategy` here, or in a module of its own,
and a value to `catalog.model.Kind`. If it needs POST requests, the class overrides `read`.

Imports neither DuckDB nor requests, because Dagster's definitions import it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta, timezone
from typing import TYPE_CHECKING, ClassVar

from st_pipelines.catalog.model import Endpoint, Kind
from st_pipelines.catalog.registry import packaged_catalog
from st_pipelines.servicetitan.http.model import ReadStats
from st_pipelines.sync.child_lists import ChildList
from st_pipelines.sync.forecast import Forecast
from st_pipelines.sync.report_strategy import ReportStrategy
from st_pipelines.sync.strategy import EARLIER, PlannedRead, ReadPart, Strategy
from st_pipelines.warehouse.load_spec import MergeMode
from st_pipelines.windows import Coverage, Days, Window, local_day, midnight

if TYPE_CHECKING:
    from st_pipelines.servicetitan.http.client import Client


class WindowedList(Strategy):
    """A list with a date filter whose records have a key.

    A record that changes moves to a later window, so a window never shows what was deleted: loads
    only insert and update, and reconciling reads everything.
    """

    load_mode: ClassVar[MergeMode] = MergeMode.UPSERT

    @property
    def description(self) -> str:
        """By the local day of the cursor."""
        return f"Read by the local day of `{self.endpoint.cursor}`."

    def plan(self, days: Days | None, clock: Callable[[], datetime]) -> Iterator[PlannedRead]:
        """One read of all days, and of the hours before them, or of the catalog's look-back."""
        if days is None:
            raise ValueError(f"{self.endpoint.table} is loaded by days: name them")
        window, midnight = days.window(clock()), None
        if window.start is not None:
            midnight = window.start
            earlier = max(EARLIER, timedelta(days=self.endpoint.look_back_days))
            window = dataclasses.replace(window, start=midnight - earlier)
        yield PlannedRead(
            window=window,
            mode=self.load_mode,
            default_date=days.last,
            midnight=midnight,
            until=days.end,
        )

    def plan_reconcile(self, clock: Callable[[], datetime]) -> Iterator[PlannedRead]:
        """One read of everything, which marks all rows it lacks."""
        yield PlannedRead(window=None, mode=MergeMode.REPLACE_ALL)

    def plan_verify(
        self, last_days: int | None, first_loaded: date | None, now: datetime, timezone: str
    ) -> Iterator[PlannedRead]:
        """One read of the days, or of everything up to now."""
        today = local_day(now, timezone)
        first = today if last_days is None else today - timedelta(days=last_days - 1)
        days = Days(first=first, last=today, timezone=timezone, open_start=last_days is None)
        yield PlannedRead(window=days.window(now), mode=self.load_mode)


class KeylessWindow(WindowedList):
    """A list with a date filter whose records only their whole content identifies.

    A record that changes looks like a new one, so a window that was read completely replaces what
    the table has of it.
    """

    load_mode = MergeMode.REPLACE_SCOPE

    def plan_reconcile(self, clock: Callable[[], datetime]) -> Iterator[PlannedRead]:
        """One read of everything up to now, which marks the rows it lacks."""
        now = clock()
        yield PlannedRead(
            window=Window(start=None, end=now),
            mode=MergeMode.REPLACE_SCOPE,
            until=datetime.max.replace(tzinfo=timezone.utc),
        )


class ExportFeed(WindowedList):
    """An export feed without a list: every record from a day on, up to the present.

    It serves inactive and deleted records too, so there is nothing to follow up.
    """

    @property
    def can_follow_up(self) -> bool:
        """Never: the feed itself is the read."""
        return False

    @property
    def description(self) -> str:
        """From the feed, by the local day of the cursor."""
        return f"Read from its export feed, by the local day of `{self.endpoint.cursor}`."

    def plan_reconcile(self, clock: Callable[[], datetime]) -> Iterator[PlannedRead]:
        """One read of the whole feed."""
        yield PlannedRead(window=None, mode=MergeMode.UPSERT)

    def read(self, client: Client, window: Window | None) -> Iterator[ReadPart]:
        """Yields the feed from the window's first day on."""
        from st_pipelines.servicetitan.reading.export_feed import read_feed

        stats = ReadStats()
        start = window.start if window else None
        pages = read_feed(client.session(stats), self.endpoint, start)
        yield ReadPart(stats=stats, pages=pages)


class DailyAggregate(Strategy):
    """An aggregate over the window of its request, whose rows carry no day of their own.

    Each day is a request of its own and replaces that day's rows.
    """

    can_reconcile = False
    can_probe = False

    @property
    def description(self) -> str:
        """A local day at a time."""
        return "Read a local day at a time, as an aggregate over that day."

    def plan(self, days: Days | None, clock: Callable[[], datetime]) -> Iterator[PlannedRead]:
        """One read a day; nothing older than the first day."""
        if days is None:
            raise ValueError(f"{self.endpoint.table} is loaded by days: name them")
        for day in dataclasses.replace(days, open_start=False):
            yield self._read(day, clock())

    def plan_reconcile(self, clock: Callable[[], datetime]) -> Iterator[PlannedRead]:
        """No read: a day that is loaded again replaces its rows."""
        return iter(())

    def plan_verify(
        self, last_days: int | None, first_loaded: date | None, now: datetime, timezone: str
    ) -> Iterator[PlannedRead]:
        """One read for each loaded day up to yesterday, as today's aggregate is not final."""
        today = local_day(now, timezone)
        first = first_loaded or today - timedelta(days=last_days or 0)
        first = max(first, today - timedelta(days=last_days)) if last_days else first
        last = today - timedelta(days=1)
        if first <= last:
            for day in Days(first=first, last=last, timezone=timezone):
                yield self._read(day, now)

    def is_covered(self, coverage: Coverage, days: Days) -> bool:
        """Whether each day was read as a whole: two halves do not add up to its aggregate."""
        return all(
            coverage.has_day(
                midnight(day.first, day.timezone),
                midnight(day.first + timedelta(days=1), day.timezone),
            )
            for day in days
        )

    def extend_to(self, window: Window | None, now: datetime) -> Window | None:
        """The same window: another one would be another aggregate."""
        return window

    def _read(self, day: Days, now: datetime) -> PlannedRead:
        return PlannedRead(
            window=day.window(now),
            mode=MergeMode.REPLACE_DAY,
            default_date=day.last,
            until=day.end,
        )


class AggregateOfEach(DailyAggregate):
    """An aggregate over a window for each record of a list, such as each scheduler."""

    @property
    def description(self) -> str:
        """A local day at a time."""
        return (
            "Read a local day at a time, as an aggregate over that day, for each row of "
            f"`{self.endpoint.each_of}`."
        )

    def read(self, client: Client, window: Window | None) -> Iterator[ReadPart]:
        """Yields the aggregates of all records that the list has now."""
        from st_pipelines.servicetitan.reading.each import read_each

        assert self.endpoint.each_of is not None
        listed, stats = packaged_catalog()[self.endpoint.each_of], ReadStats()
        pages = read_each(client, self.endpoint, listed, window, stats=stats)
        yield ReadPart(stats=stats, pages=pages)


class Snapshot(Strategy):
    """A list without a usable date filter: every load reads it whole and replaces the table."""

    partitioned = False
    can_probe = False

    @property
    def description(self) -> str:
        """Whole."""
        return "Read whole with every load: ServiceTitan offers no usable date filter."

    def plan(self, days: Days | None, clock: Callable[[], datetime]) -> Iterator[PlannedRead]:
        """One read of everything, whatever the days."""
        yield PlannedRead(window=None, mode=MergeMode.REPLACE_ALL)

    def plan_reconcile(self, clock: Callable[[], datetime]) -> Iterator[PlannedRead]:
        """The same as a load."""
        return self.plan(None, clock)

    def plan_verify(
        self, last_days: int | None, first_loaded: date | None, now: datetime, timezone: str
    ) -> Iterator[PlannedRead]:
        """One read of everything, whatever the number of days."""
        return self.plan(None, lambda: now)


class DailyReport(ReportStrategy, DailyAggregate):
    """A report with date parameters: a run for each local day, which replaces that day's rows."""


class WholeReport(ReportStrategy, Snapshot):
    """A report without date parameters, or with dates that are computed: read whole."""

    can_reconcile = False

    def plan(self, days: Days | None, clock: Callable[[], datetime]) -> Iterator[PlannedRead]:
        """One read of everything that replaces all rows: each request computes them."""
        yield PlannedRead(window=None, mode=MergeMode.REPLACE_DAY)

    def plan_reconcile(self, clock: Callable[[], datetime]) -> Iterator[PlannedRead]:
        """No read: every load replaces the rows."""
        return iter(())


_BY_KIND: dict[Kind, type[Strategy]] = {
    "window": WindowedList,
    "feed": ExportFeed,
    "snapshot": Snapshot,
    "child": ChildList,
    "forecast": Forecast,
}


def strategy_for(endpoint: Endpoint) -> Strategy:
    """The strategy of an endpoint."""
    if endpoint.report:
        return DailyReport(endpoint) if endpoint.by_day else WholeReport(endpoint)
    if endpoint.by_day:
        return AggregateOfEach(endpoint) if endpoint.each_of else DailyAggregate(endpoint)
    if endpoint.kind == "window" and not endpoint.key:
        return KeylessWindow(endpoint)
    return _BY_KIND[endpoint.kind](endpoint)
