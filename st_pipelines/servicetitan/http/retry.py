"""Decides whether a failed request is worth retrying, and how long to wait before it.

Transient failures (429, 5xx, 408, maintenance, lost connections, broken or invalid bodies) are
retried with exponential backoff, or after the wait that the server asks for. A `Cancellation` ends
the waits, and also calls that are blocked and cannot check it.
"""

from __future__ import annotations

import logging
import math
import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt

from st_pipelines.servicetitan.errors.errors import (
    RateLimited,
    ServiceTitanError,
    ServiceUnavailable,
    UnexpectedResponse,
    Unreachable,
)
from st_pipelines.servicetitan.http.server_clock import parse_http_date

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
_SECONDS = re.compile(r"(\d[\d,]*(?:\.\d+)?)\s*seconds?\b", re.IGNORECASE | re.ASCII)
_CANCELLATION_CHECK_SECONDS = 0.2


class Cancelled(Exception):
    """Nobody wants the response any more. Does not leave this package."""


class Cancellation(threading.Event):
    """An event that also aborts calls that are blocked and cannot check it."""

    def __init__(self) -> None:
        super().__init__()
        self._aborts: list[Callable[[], None]] = []
        self._guard = threading.Lock()

    def set(self) -> None:
        """Set the event, and abort everything in progress under it."""
        with self._guard:
            super().set()
            aborts = list(self._aborts)
        for abort in aborts:
            abort()

    @contextmanager
    def aborting(self, abort: Callable[[], None]) -> Iterator[None]:
        """Call a function if the event is set while the context lasts.

        Args:
            abort: called from the thread that sets the event; must not block.

        Raises:
            Cancelled: the event was set already.
        """
        with self._guard:
            if self.is_set():
                raise Cancelled
            self._aborts.append(abort)
        try:
            yield
        finally:
            with self._guard:
                self._aborts.remove(abort)


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """How often a request is sent, and how long to wait in between.

    Attributes:
        attempts: requests in total. Public clients had to go beyond the usual three, because
            ServiceTitan's 500s and 429s last.
        backoff: seconds before the second attempt; doubled for each further one.
        max_backoff: the longest backoff, in seconds.
        max_retry_after_seconds: the longest wait that a 429 or 503 may impose.
        sleep: waits that many seconds.
    """

    attempts: int = 6
    backoff: float = 1.0
    max_backoff: float = 30.0
    max_retry_after_seconds: float = 300.0
    sleep: Callable[[float], None] = time.sleep

    def wait(self, error: BaseException | None, attempt: int) -> float:
        """Return the seconds to wait after a failed attempt.

        That is what the server asked for, or else exponential backoff. Half of the backoff is
        random, so that threads which failed together do not come back together. Once the server's
        own wait has not helped, the backoff applies where it is longer.

        Args:
            error: what failed; may carry the server's `retry_after`, in seconds.
            attempt: 1 for the first.
        """
        longest = min(self.max_backoff, self.backoff * 2 ** (attempt - 1))
        backoff = longest * random.uniform(0.5, 1)
        seconds = getattr(error, "retry_after", None)
        if seconds is None:
            return backoff
        wait = seconds if attempt == 1 else max(seconds, backoff)
        return min(wait, self.max_retry_after_seconds)


NO_WAIT = RetryPolicy(backoff=0, max_backoff=0, max_retry_after_seconds=0)
"""Retries without waiting, for tests."""


def is_retryable(error: BaseException) -> bool:
    """Whether sending the same request again could plausibly succeed.

    True for 429, 5xx, 408, maintenance, lost connections, cut bodies and a 200 that is not the
    expected JSON. False for 400, 401 (the client has renewed the token already), 403, 404, a bad
    certificate, and for an error that an inner retry has given up on.
    """
    if not isinstance(error, ServiceTitanError) or error.exhausted:
        return False
    if isinstance(error, Unreachable):
        return error.retryable
    return isinstance(error, RateLimited | ServiceUnavailable | UnexpectedResponse)


def parse_retry_after(headers: Mapping[str, str], text: str, now: datetime) -> float | None:
    """Return the seconds that a response asks to wait, or None if it does not.

    Reads `Retry-After` (seconds, possibly fractional, or a date), then the last "... 5 seconds" in
    the text: public clients found the number only at the end of the 429's title.

    Args:
        headers: case-insensitive.
        text: of the error body.
        now: aware; used for a date where the response has no `Date` of its own.
    """
    header = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"\d+(\.\d*)?", header, re.ASCII):
        return float(header)
    moment = parse_http_date(header)
    if moment is not None:
        # Relative to the server's own clock, so that a wrong clock here does not matter.
        since = parse_http_date(headers.get("Date", "")) or now
        return max(0.0, (moment - since).total_seconds())
    numbers = _SECONDS.findall(text)
    return float(numbers[-1].replace(",", "")) if numbers else None


def sleep_unless_cancelled(
    seconds: float, sleep: Callable[[float], None], cancelled: Cancellation | None
) -> None:
    """Sleep, checking for cancellation five times a second.

    Raises:
        Cancelled: `cancelled` is set.
    """
    if cancelled is None:
        sleep(seconds)
        return
    for _ in range(max(1, math.ceil(seconds / _CANCELLATION_CHECK_SECONDS))):
        if cancelled.is_set():
            raise Cancelled
        sleep(min(seconds, _CANCELLATION_CHECK_SECONDS))
        seconds -= _CANCELLATION_CHECK_SECONDS


def call_with_retries(
    policy: RetryPolicy,
    attempt: Callable[[], _T],
    *,
    cancelled: Cancellation | None = None,
    before_wait: Callable[[ServiceTitanError, float], None] = lambda error, wait: None,
) -> _T:
    """Call `attempt` until it succeeds, fails permanently or runs out of attempts.

    Args:
        attempt: raises a `ServiceTitanError` when it fails.
        cancelled: ends the waits.
        before_wait: called with the error and the seconds before each wait.

    Raises:
        ServiceTitanError: the last one, marked as exhausted.
        Cancelled: `cancelled` was set.
    """

    def announce(state: RetryCallState) -> None:
        error, wait = _get_error(state), state.upcoming_sleep
        _log.info("%s Retrying in %.1f s.", error, wait)
        if isinstance(error, ServiceTitanError):
            before_wait(error, wait)

    try:
        return Retrying(
            sleep=partial(sleep_unless_cancelled, sleep=policy.sleep, cancelled=cancelled),
            stop=stop_after_attempt(policy.attempts),
            wait=lambda state: policy.wait(_get_error(state), state.attempt_number),
            retry=retry_if_exception(is_retryable),
            before_sleep=announce,
            reraise=True,
        )(attempt)
    except ServiceTitanError as error:
        error.exhausted = True
        raise


def _get_error(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None
