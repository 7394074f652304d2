"""Ranges of local days, and the UTC windows that they are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta, timezone
from zoneinfo import ZoneInfo


@dataclass(frozen=True, kw_only=True)
class Window:
    """A half-open interval `[start, end)`.

    Attributes:
        start: aware; None is open to the left, so that no record is too old to be read.
        end: aware. Close it at the moment of starting when it would lie in the future, so that
            what is changed during the reading is the next window's.
    """

    start: datetime | None
    end: datetime

    def __post_init__(self) -> None:
        """Refuse what would be a wrong question.

        Raises:
            ValueError: a bound is naive, or the window ends before it starts.
        """
        for bound in (self.start, self.end):
            if bound is not None and bound.tzinfo is None:
                raise ValueError(f"a window needs aware times, not {bound.isoformat()}")
        if self.start is not None and self.start > self.end:
            raise ValueError(f"a window must not end ({self.end}) before it starts ({self.start})")


def utc_now() -> datetime:
    """The time of this machine, aware."""
    return datetime.now(timezone.utc)


@dataclass(frozen=True, kw_only=True)
class Days:
    """Consecutive days in a time zone.

    Attributes:
        first, last: both are part of the range.
        timezone: IANA name.
        open_start: everything before `first` belongs to it too.
    """

    first: date
    last: date
    timezone: str
    open_start: bool = False

    def __post_init__(self) -> None:
        """Raises ValueError when the last day is before the first."""
        if self.last < self.first:
            raise ValueError(f"the last day {self.last} is before the first {self.first}")

    def __iter__(self) -> Iterator[Days]:
        """Each day as a range of its own."""
        for number in range((self.last - self.first).days + 1):
            day = self.first + timedelta(days=number)
            yield replace(self, first=day, last=day, open_start=self.open_start and number == 0)

    def window(self, now: datetime) -> Window:
        """From local midnight to the next local midnight, in UTC: 23 or 25 hours on some days.

        It ends at `now` at the latest, as only a window that has ended can be read completely:
        at its last whole second, for whether filters take fractions is not documented.

        Raises:
            ValueError: the range has not begun.
        """
        start = midnight(self.first, self.timezone)
        ended = now.replace(microsecond=0)
        end = min(midnight(self.last + timedelta(days=1), self.timezone), ended)
        if end <= start:
            raise ValueError(f"{self.first} has not begun in {self.timezone}")
        return Window(start=None if self.open_start else start, end=end)


def midnight(day: date, zone: str) -> datetime:
    """The first moment of a local day, in UTC; where midnight is skipped, the moment after."""
    return datetime.combine(day, time(), ZoneInfo(zone)).astimezone(timezone.utc)


def local_day(moment: datetime, zone: str) -> date:
    """The local day of an aware time."""
    return moment.astimezone(ZoneInfo(zone)).date()
