"""Defines what a strategy is: how one kind of endpoint is read, and how its rows merge.

`PlannedRead` says what one read covers and how it merges, `ReadPart` carries the pages, and
`Strategy` is the base class of the kinds in `strategies`. The code that loads, reconciles and
verifies knows only this.

Imports neither DuckDB nor requests, because Dagster's definitions import it.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, ClassVar

from st_pipelines.catalog.model import Endpoint
from st_pipelines.servicetitan.http.model import ReadStats
from st_pipelines.warehouse.load_spec import LoadSpec, MergeMode
from st_pipelines.windows import Coverage, Days, Window, midnight

if TYPE_CHECKING:
    from st_pipelines.servicetitan.http.client import Client
    from st_pipelines.servicetitan.reading.page_source import Page
    from st_pipelines.warehouse.store.base import Store
    from st_pipelines.warehouse.tables.parents import ParentRead

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
        until: where its days end, UTC: the window ends there, or at the moment the read starts if
            that is earlier. None where the window stays as it is.
    """

    window: Window | None
    mode: MergeMode
    default_date: date | None = None
    midnight: datetime | None = None
    until: datetime | None = None

    def closed_at(self, now: datetime) -> PlannedRead:
        """The same read with the end that it has if it starts now.

        A read that is repeated would otherwise end where the first one did, although more of its
        days is over by then.

        Args:
            now: aware.
        """
        if self.until is None or self.window is None:
            return self
        end = min(self.until, now.replace(microsecond=0))
        if self.window.start is not None and end <= self.window.start:
            return self  # the clock was set back to before the window
        return dataclasses.replace(self, window=dataclasses.replace(self.window, end=end))

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


@dataclass(frozen=True, kw_only=True)
class OpenReading:
    """A read whose columns are known.

    Attributes:
        strategy: reads, and has the endpoint with its columns.
        changes: what differs from the columns of earlier loads, in words.
        facts: about the read, for people, such as its number of pages.
    """

    strategy: Strategy
    changes: tuple[str, ...] = ()
    facts: Mapping[str, str | int] = field(default_factory=dict)


@dataclass(frozen=True)
class Strategy(ABC):
    """How one endpoint is read and merged.

    Attributes:
        partitioned: loads are of days; otherwise of everything.
        can_reconcile: reading everything can find rows that no longer exist.
        can_probe: a small request can tell whether something changed since a moment.
        resumes: reads are so slow that a run which is tried again leaves out those it has loaded.
    """

    endpoint: Endpoint
    partitioned: ClassVar[bool] = True
    can_reconcile: ClassVar[bool] = True
    can_probe: ClassVar[bool] = True
    resumes: ClassVar[bool] = False

    @property
    def parents_read(self) -> Sequence[ParentRead] | None:
        """The parents whose children the last read has served; None where there are no parents."""
        return None

    @property
    @abstractmethod
    def description(self) -> str:
        """How it is read, in a sentence for the asset's description."""

    @property
    def can_follow_up(self) -> bool:
        """Whether an export feed or lookups by id can tell more than the reading did."""
        return self.endpoint.export is not None or self.endpoint.can_look_up

    def choose_days(self, today: date, timezone: str) -> Days | None:
        """The days of a load that was given none; None if it reads everything.

        Args:
            today: the local day.
            timezone: IANA name.
        """
        return None

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

    def open_reading(
        self, client: Client, store: Store, spec: LoadSpec
    ) -> AbstractContextManager[OpenReading]:
        """Returns the read, once it is known which columns it has.

        The catalog knows that for all endpoints but reports, which are read for it.

        Args:
            client: sends the requests.
            store: the warehouse, for columns that earlier loads have found.
            spec: of the load.
        """
        return nullcontext(OpenReading(strategy=self))

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
