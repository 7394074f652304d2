"""Decides for each kind of endpoint what a load reads, how it reads it, and how the rows merge.

There is one class per kind: `WindowedList` (a list with a date filter), `KeylessWindow` (such a
list without a key), `ExportFeed` (an export without a list), `DailyAggregate` (figures of one day)
and `Snapshot` (a list without a usable date filter). Everything else asks an endpoint's strategy
instead of testing its `kind`, its `by_day` or whether it has a key. To add a kind, add a subclass
of `Strategy` here and a value to `catalog.model.Kind`. If it needs POST requests, or one request
per parent id, the class overrides `read`.

Imports neither DuckDB nor requests, because Dagster's definitions import it.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, ClassVar

from st_pipelines.catalog.model import Endpoint, Kind
from st_pipelines.servicetitan.http.model import ReadStats
from st_pipelines.warehouse.load_spec import MergeMode
from st_pipelines.windows import Coverage, Days, Window, local_day, midnight

if TYPE_CHECKING:
    from st_pipelines.servicetitan.http.client import Client
    from st_pipelines.servicetitan.reading.page_source import Page

EARLIER = timedelta(hours=3)
"""A window begins this long before its first midnight: a record may be committed minutes after its
`modifiedOn`, or two clocks may differ, and then the load of the day before has missed it."""

MAX_HOLE = timedelta(hours=36)
"""A shorter hole that ends at a window's midnight is read along with the window. A longer one is
reported, as it may take hours to read."""

PAGES_IN_FLIGHT = 4
"""A page of 5,000 invoices has 17 MB; more pages at once are not faster."""


@dataclass(frozen=True, kw_only=True)
class PlannedRead:
    """A read that is loaded in one transaction.

    Attributes:
        window: what to read, UTC; None reads everything.
        mode: how its rows merge into the table.
        default_date: `_partition_date` of rows without cursor; None is the local day of the load.
        midnight: where its days begin, UTC: the window begins earlier, and `after` may let it begin
            earlier still. None where the window stays as it is.
    """

    window: Window | None
    mode: MergeMode
    default_date: date | None = None
    midnight: datetime | None = None

    def after(self, coverage: Coverage) -> PlannedRead:
        """The same read, from `EARLIER` before a short hole that ends at its midnight.

        Such a hole is what an intraday load left that no daily load followed, or the hours between
        the midnights of two time zones.

        Args:
            coverage: what earlier loads of the table have read.
        """
        if self.midnight is None or self.window is None or self.window.start is None:
            return self
        until = coverage.end_before(self.window.start)
        if until is None or self.midnight - until >= MAX_HOLE:
            return self
        window = dataclasses.replace(self.window, start=until - EARLIER)
        return dataclasses.replace(self, window=window)


@dataclass(frozen=True, kw_only=True)
class ReadPart:
    """A part of a read that ServiceTitan serves, and that is proven complete, on its own.

    Attributes:
        stats: filled while the pages are consumed.
        pages: at least one; a page with a higher `reading` makes the part's earlier ones void.
    """

    stats: ReadStats
    pages: Iterator[Page]


@dataclass(frozen=True)
class Strategy(ABC):
    """How one endpoint is read and merged.

    Attributes:
        partitioned: loads are of days; otherwise of everything.
        can_reconcile: reading everything can find rows that no longer exist.
        can_probe: a small request can tell whether something changed since a moment.
    """

    endpoint: Endpoint
    partitioned: ClassVar[bool] = True
    can_reconcile: ClassVar[bool] = True
    can_probe: ClassVar[bool] = True

    @property
    @abstractmethod
    def description(self) -> str:
        """How it is read, in a sentence for the asset's description."""

    @property
    def can_follow_up(self) -> bool:
        """Whether an export feed or lookups by id can tell more than the reading did."""
        return self.endpoint.export is not None or self.endpoint.can_look_up

    @abstractmethod
    def plan(self, days: Days | None, clock: Callable[[], datetime]) -> Iterator[PlannedRead]:
        """Yields the reads of a load, each planned at the moment it starts.

        Args:
            days: the days to load; ignored where loads are of everything.
            clock: the current time, aware; windows are closed at it.

        Raises:
            ValueError: the days have not begun.
        """

    @abstractmethod
    def plan_reconcile(self, clock: Callable[[], datetime]) -> Iterator[PlannedRead]:
        """Yields the reads that find every deletion; none where `can_reconcile` is false."""

    @abstractmethod
    def plan_verify(
        self, last_days: int | None, first_loaded: date | None, now: datetime, timezone: str
    ) -> Iterator[PlannedRead]:
        """Yields the reads to compare with the table.

        Args:
            last_days: the number of local days to compare, today included; None compares all.
            first_loaded: the first `_partition_date` in the table; None for an empty one.
            now: aware.
            timezone: IANA name.
        """

    def is_covered(self, coverage: Coverage, days: Days) -> bool:
        """Whether loads have read all of these days; with `open_start`, everything older too."""
        start = None if days.open_start else midnight(days.first, days.timezone)
        end = midnight(days.last + timedelta(days=1), days.timezone)
        return coverage.contains(start, end)

    def read(self, client: Client, window: Window | None) -> Iterator[ReadPart]:
        """Yields the parts of a read: the list, once for each variant where it has several.

        Args:
            client: sends the requests.
            window: None reads everything.
        """
        from st_pipelines.servicetitan.reading.read import read

        for variant in self.endpoint.variants or ({},):
            params = {**self.endpoint.params, **variant}
            endpoint = dataclasses.replace(self.endpoint, params=params)
            stats = ReadStats()
            pages = read(client, endpoint, window, stats=stats, concurrency=PAGES_IN_FLIGHT)
            yield ReadPart(stats=stats, pages=pages)

    def extend_to(self, window: Window | None, now: datetime) -> Window | None:
        """A window of `plan_verify`, up to now: a record that changed since has moved beyond it."""
        return dataclasses.replace(window, end=now) if window else None


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
            window=window, mode=self.load_mode, default_date=days.last, midnight=midnight
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
        yield PlannedRead(window=Window(start=None, end=clock()), mode=MergeMode.REPLACE_SCOPE)


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
        """Whether each day was read as a whole: two halves are no aggregate of it."""
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
            window=day.window(now), mode=MergeMode.REPLACE_DAY, default_date=day.last
        )


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


_BY_KIND: dict[Kind, type[Strategy]] = {
    "window": WindowedList,
    "feed": ExportFeed,
    "snapshot": Snapshot,
}


def strategy_for(endpoint: Endpoint) -> Strategy:
    """The strategy of an endpoint."""
    if endpoint.by_day:
        return DailyAggregate(endpoint)
    if endpoint.kind == "window" and not endpoint.key:
        return KeylessWindow(endpoint)
    return _BY_KIND[endpoint.kind](endpoint)
