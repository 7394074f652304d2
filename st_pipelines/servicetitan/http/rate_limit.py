"""Keeps the requests of one tenant and app below ServiceTitan's limits, across all threads.

The vendor allows 60 data requests a second for each app and tenant (developer FAQ). Of the same
report it allows one run a minute for each tenant (help center), and elsewhere it says five
(developer FAQ); each page of the data is a run. Other processes and programs count against the same
limits: then ServiceTitan answers 429, and says how long to wait.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable

from pydantic import SecretStr

from st_pipelines.servicetitan.http.retry import Cancellation, sleep_unless_cancelled

# Requests that leave evenly spaced arrive less evenly, and the server's second is not ours.
_MARGIN = 0.95


class RateLimiter:
    """Lets requests through one by one, evenly spaced, so that no second sees a burst."""

    def __init__(
        self,
        per_second: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Start idle.

        Args:
            per_second: requests allowed in any second; above 0.
            clock: monotonic, in seconds.
            sleep: waits that many seconds of `clock`.

        Raises:
            ValueError: `per_second` is not above 0.
        """
        self.clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._next = clock()
        self.per_second = per_second

    @property
    def per_second(self) -> float:
        """The limit; a new value applies from the next request on."""
        return self._per_second

    @per_second.setter
    def per_second(self, per_second: float) -> None:
        if not per_second > 0:
            raise ValueError(f"requests per second must be above 0, not {per_second}")
        self._per_second = per_second

    def acquire(self, cancelled: Cancellation | None = None) -> None:
        """Wait until one request may leave.

        Raises:
            Cancelled: `cancelled` was set during the wait.
        """
        while (wait := self._take()) > 0:
            # Check again afterwards: meanwhile a 429 may have paused the whole tenant.
            sleep_unless_cancelled(wait, self._sleep, cancelled)

    def pause_until(self, moment: float) -> None:
        """Hold back every request of every thread until a moment of this limiter's `clock`."""
        with self._lock:
            self._next = max(self._next, moment)

    def _take(self) -> float:
        """Reserve the next slot; return the seconds to wait where it is not due yet."""
        with self._lock:
            now = self.clock()
            if self._next > now:
                return self._next - now
            self._next = now + 1 / (self._per_second * _MARGIN)
            return 0.0


_limiters: dict[tuple[str, bytes], RateLimiter] = {}
_limiters_lock = threading.Lock()


def limiter_for(tenant_id: str, app_key: SecretStr, per_second: float) -> RateLimiter:
    """Return the limiter that this process shares for a tenant and app.

    Args:
        app_key: only a digest of it is kept.
        per_second: applies to every user of the limiter; the last caller wins.
    """
    digest = hashlib.sha256(app_key.get_secret_value().encode()).digest()
    with _limiters_lock:
        limiter = _limiters.get((tenant_id, digest))
        if limiter is None:
            limiter = _limiters[tenant_id, digest] = RateLimiter(per_second)
        limiter.per_second = per_second
        return limiter


_REPORT_MARGIN = 1.02
"""Runs that leave evenly spaced arrive less evenly."""


class ReportPacer:
    """Lets the runs of each report start one after the other, with a pause in between.

    Attributes:
        interval_seconds: between the starts of two runs of one report; 0 for no pause. A new value
            applies from the next run on.
    """

    def __init__(
        self,
        interval_seconds: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Start idle.

        Args:
            clock: monotonic, in seconds.
            sleep: waits that many seconds of `clock`.
        """
        self.interval_seconds = interval_seconds
        self.clock = clock
        self.sleep = sleep
        self._lock = threading.Lock()
        self._started: dict[int, float] = {}

    def start_run(self, report_id: int, cancelled: Cancellation | None = None) -> None:
        """Wait until a report may run, and count the run.

        Raises:
            Cancelled: `cancelled` was set during the wait.
        """
        while (wait := self._take(report_id)) > 0:
            sleep_unless_cancelled(wait, self.sleep, cancelled)

    def undo_run(self, report_id: int) -> None:
        """Take back a run that ServiceTitan refused, which does not count."""
        with self._lock:
            self._started.pop(report_id, None)

    def _take(self, report_id: int) -> float:
        """Count a run, or return the seconds to wait where it is not due yet."""
        with self._lock:
            now = self.clock()
            last = self._started.get(report_id)
            due = now if last is None else last + self.interval_seconds * _REPORT_MARGIN
            if due > now:
                return due - now
            self._started[report_id] = now
            return 0.0


_pacers: dict[tuple[str, str], ReportPacer] = {}
_pacers_lock = threading.Lock()


def pacer_for(tenant_id: str, api_url: str, interval_seconds: float) -> ReportPacer:
    """Return the pacer that this process shares for a tenant; the last interval wins."""
    with _pacers_lock:
        pacer = _pacers.setdefault((tenant_id, api_url), ReportPacer(interval_seconds))
        pacer.interval_seconds = interval_seconds
        return pacer
