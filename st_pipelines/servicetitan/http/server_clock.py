"""Estimates the server's clock from the `Date` headers of its responses.

A window must not end later than the server's own time, whatever this machine's clock says: a record
that is written afterwards would belong to a window that was read already. So the estimate is never
ahead of the server: `Date` is the moment at which the response was made, cut to a second, and only
the time that has passed here since the response arrived is added.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime

_EARLIEST = datetime(2020, 1, 1, tzinfo=timezone.utc)
_LATEST = datetime(2100, 1, 1, tzinfo=timezone.utc)
# Hosts behind one name differ by less; what differs more must be confirmed by a second response.
_TOLERANCE = timedelta(minutes=1)
# "Wed, 21 Oct 2026 07:28:00 GMT" has 29; twice as long are two headers, joined by a comma.
_MAX_DATE_LENGTH = 45


def measure_elapsed() -> float:
    """Return seconds on a clock that nobody sets, and that also runs while the machine sleeps."""
    for name in ("CLOCK_BOOTTIME", "CLOCK_MONOTONIC"):  # Linux; macOS
        if hasattr(time, name):
            return time.clock_gettime(getattr(time, name))
    return time.monotonic()


def parse_http_date(text: str) -> datetime | None:
    """Parse the date of a header; None if it is not exactly one date of the calendar.

    Returns:
        In UTC; a date without a zone is taken for UTC, as HTTP knows no other.
    """
    if len(text) > _MAX_DATE_LENGTH:
        return None
    try:
        moment = parsedate_to_datetime(text)
        return moment.replace(tzinfo=moment.tzinfo or timezone.utc).astimezone(timezone.utc)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None


class ServerClock:
    """Tells the time of a server. Threads can share it.

    Of several responses the latest counts. One that contradicts the others by more than a minute
    counts once the next one confirms it: then the server's clock was set, and it was not a single
    host or proxy whose clock is wrong.
    """

    def __init__(
        self,
        *,
        elapsed: Callable[[], float] = measure_elapsed,
        wall_clock: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
    ) -> None:
        """Start without knowing the time.

        Args:
            elapsed: monotonic, in seconds.
            wall_clock: this machine's; aware.
        """
        self._elapsed = elapsed
        self._wall_clock = wall_clock
        self._lock = threading.Lock()
        self._observed_at = float("-inf")
        # Each is the server's time at the moment at which `elapsed` was 0.
        self._origin: datetime | None = None
        self._doubtful: datetime | None = None

    def observe(self, headers: Mapping[str, str], received_at: float) -> None:
        """Learn from a response that is known to be the server's own.

        A response with an `Age` comes from a cache, and its `Date` says when it got there.

        Args:
            headers: case-insensitive.
            received_at: when they arrived, on the clock `elapsed`.
        """
        date = parse_http_date(headers.get("Date", ""))
        if date is None or not _EARLIEST <= date < _LATEST or "Age" in headers:
            return
        origin = date - timedelta(seconds=received_at)
        with self._lock:
            if received_at < self._observed_at:
                return  # another thread was faster with a later response
            self._observed_at = received_at
            known = [moment for moment in (self._origin, self._doubtful) if moment is not None]
            if self._origin is None or any(abs(origin - one) <= _TOLERANCE for one in known):
                self._origin, self._doubtful = origin, None
            else:
                self._doubtful = origin

    def now(self) -> datetime | None:
        """Return the server's time in UTC, never ahead of it; None if no response told it."""
        with self._lock:
            origin = self._origin
        return None if origin is None else origin + timedelta(seconds=self._elapsed())

    def offset(self) -> timedelta | None:
        """Return how far this machine's clock is ahead of the server's, to about a second."""
        now = self.now()
        return None if now is None else self._wall_clock() - now
