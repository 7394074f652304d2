"""Keeps the requests of one tenant and app under ServiceTitan's limit, over all threads.

The vendor allows 60 data requests a second for each app and tenant (developer FAQ).
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable

from pydantic import SecretStr

from st_pipelines.servicetitan.http.cancellation import Cancellation
from st_pipelines.servicetitan.http.retry import nap

# Requests that leave evenly spaced do not arrive so, and the server's second is not ours.
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
        """Start with nothing spent.

        Args:
            per_second: at most so many requests in any second; above 0.
            clock: seconds, never going back.
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
        """The limit; assigning another acts from the next request on."""
        return self._per_second

    @per_second.setter
    def per_second(self, per_second: float) -> None:
        if not per_second > 0:
            raise ValueError(f"requests per second must be above 0, not {per_second}")
        self._per_second = per_second

    def acquire(self, cancelled: Cancellation | None = None) -> None:
        """Wait until one request may leave.

        Args:
            cancelled: when it is set, the wait ends.

        Raises:
            Cancelled: `cancelled` was set.
        """
        while (wait := self._take()) > 0:
            # Afterwards ask again: meanwhile a 429 may have paused the whole tenant.
            nap(wait, self._sleep, cancelled)

    def pause_until(self, moment: float) -> None:
        """Hold back every request of every thread.

        Args:
            moment: on this limiter's `clock`.
        """
        with self._lock:
            self._next = max(self._next, moment)

    def _take(self) -> float:
        with self._lock:
            now = self.clock()
            if self._next > now:
                return self._next - now
            self._next = now + 1 / (self._per_second * _MARGIN)
            return 0.0


_limiters: dict[tuple[str, bytes], RateLimiter] = {}
_limiters_lock = threading.Lock()


def limiter_for(tenant_id: str, app_key: SecretStr, per_second: float) -> RateLimiter:
    """The one limiter that this process has for a tenant and app.

    Args:
        tenant_id: ServiceTitan's number of the tenant.
        app_key: the app; only a digest of it is kept.
        per_second: the limit; where two callers differ, the later one holds for both.

    Returns:
        The same object for the same tenant and app.
    """
    digest = hashlib.sha256(app_key.get_secret_value().encode()).digest()
    with _limiters_lock:
        limiter = _limiters.setdefault((tenant_id, digest), RateLimiter(per_second))
        limiter.per_second = per_second
        return limiter
