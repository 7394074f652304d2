"""Converts ranges of local days to UTC windows, and adds windows up to a coverage.

Everything above works with `Days` (what a user or a partition names), `Window` (what a request
asks for) and `Coverage` (what the loads of a table have read). Which days to load is decided
elsewhere.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta, timezone
from zoneinfo import ZoneInfo


@dataclass(frozen=True, kw_only=True)
class Window:
    """A half-open interval `[start, end)`.

    Attributes:
        start: aware; None if the window has no start, so that it includes the oldest records.
        end: aware. Must not lie in the future: records changed during a read belong to the next
            window.
    """

    start: datetime | None
    end: datetime

    def __post_init__(self) -> None:
        """Validates the bounds.

        Raises:
            ValueError: a bound is naive, or the window ends before it starts.
        """
        for bound in (self.start, self.end):
            if bound is not None and bound.tzinfo is None:
                raise ValueError(f"a window needs aware times, not {bound.isoformat()}")
        if self.start is not None and self.start > self.end:
            raise ValueError(f"a window must not end ({self.end}) before it starts ({self.start})")


@dataclass(frozen=True)
class Coverage:
    """What the loads of a table have read, as windows.

    Attributes:
        windows: sorted by start. Those of an aggregate by day are its days; of other tables they
            neither overlap nor touch.
    """

    windows: Sequence[Window] = ()

    @property
    def from_the_beginning(self) -> bool:
        """Whether the oldest records were read."""
        return bool(self.windows) and self.windows[0].start is None

    def contains(self, start: datetime | None, end: datetime) -> bool:
        """Whether everything from `start` (None: from the beginning) to `end` was read."""
        return any(window.end >= end and _begins_by(window, start) for window in self.windows)

    def has_day(self, start: datetime, end: datetime) -> bool:
        """Whether an aggregate was read over exactly this day."""
        return Window(start=start, end=end) in self._days

    @functools.cached_property
    def _days(self) -> frozenset[Window]:
        return frozenset(self.windows)

    def end_before(self, moment: datetime) -> datetime | None:
        """The end of what was read before a moment, if something between them was not.

        Returns:
            None if nothing was read before the moment, or everything right before it was.
        """
        earlier = [window.end for window in self.windows if not _begins_at_or_after(window, moment)]
        return max(earlier) if earlier and max(earlier) < moment else None


def _begins_by(window: Window, start: datetime | None) -> bool:
    if window.start is None:
        return True
    return start is not None and window.start <= start


def _begins_at_or_after(window: Window, moment: datetime) -> bool:
    return window.start is not None and window.start >= moment


def utc_now() -> datetime:
    """Returns the current time, aware."""
    return datetime.now(timezone.utc)


@dataclass(frozen=True, kw_only=True)
class Days:
    """Consecutive days in a time zone.

    Attributes:
        first, last: both inclusive.
        timezone: IANA name.
        open_start: the range also includes everything before `first`.
    """

    first: date
    last: date
    timezone: str
    open_start: bool = False

    def __post_init__(self) -> None:
        """Raises ValueError if the last day is before the first."""
        if self.last < self.first:
            raise ValueError(f"the last day {self.last} is before the first {self.first}")

    def __iter__(self) -> Iterator[Days]:
        """Yields each day as a range of its own."""
        for number in range((self.last - self.first).days + 1):
            day = self.first + timedelta(days=number)
            yield replace(self, first=day, last=day, open_start=self.open_start and number == 0)

    @property
    def end(self) -> datetime:
        """The midnight that ends the last day, in UTC."""
        return midnight(self.last + timedelta(days=1), self.timezone)

    def window(self, now: datetime) -> Window:
        """Returns the UTC window from local midnight to local midnight.

        A day has 23 or 25 hours when the clocks change. The window ends at `now` at the latest,
        because only a window in the past can be read completely. `now` is cut to whole seconds,
        because the API does not document whether its filters accept fractions.

        Raises:
            ValueError: the range starts in the future.
        """
        start = midnight(self.first, self.timezone)
        latest_end = now.replace(microsecond=0)
        end = min(self.end, latest_end)
        if end <= start:
            raise ValueError(f"{self.first} has not begun in {self.timezone}")
        return Window(start=None if self.open_start else start, end=end)


@functools.lru_cache(maxsize=8192)
def midnight(day: date, zone: str) -> datetime:
    """Returns the first moment of a local day, in UTC.

    Where a clock change skips midnight, that is the moment after the gap.
    """
    return datetime.combine(day, time(), ZoneInfo(zone)).astimezone(timezone.utc)


def local_day(moment: datetime, zone: str) -> date:
    """Returns the local day of an aware time."""
    return moment.astimezone(ZoneInfo(zone)).date()


def describe_days(days: Iterable[date]) -> str:
    """Returns the number of days, the first and the last, for a message."""
    ordered = sorted(days)
    if len(ordered) == 1:
        return f"{ordered[0]}"
    return f"{len(ordered):,} days from {ordered[0]} to {ordered[-1]}"


def parse_days(first: str | date | None, last: str | date | None) -> tuple[date, date] | None:
    """Returns a range of local days, both included; None if no end of it is given.

    Args:
        first, last: as dates or `YYYY-MM-DD`; None for no limit on that side.

    Raises:
        ValueError: one of them is not a date, or the range is empty.
    """
    if first is None and last is None:
        return None
    days = _parse_day(first or date.min), _parse_day(last or date.max)
    if days[0] > days[1]:
        raise ValueError(f"{days[0]} to {days[1]} is not a range: give the earlier day first")
    return days


def _parse_day(day: str | date) -> date:
    try:
        return date.fromisoformat(day) if isinstance(day, str) else day
    except ValueError:
        raise ValueError(f"{day!r} is not a date: write it as YYYY-MM-DD") from None
