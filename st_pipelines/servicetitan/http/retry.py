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
    QuotaUsedUp,
    RateLimited,
    ServiceTitanError,
    ServiceUnavailable,
    UnexpectedResponse,
    Unreachable,
)
from st_pipelines.servicetitan.http.server_clock import parse_http_date

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
_SECONDS = re.compile(
    r"(?<![\d,.])(\d{1,12}(?:,\d{3}){0,3}(?:\.\d{1,9})?)\s{0,3}seconds?\b", re.IGNORECASE | re.ASCII
)
# "Quota will be replenished in 05:30:00." (Azure API Management; .NET writes days as "1.05:30:00")
_TIME_SPAN = re.compile(r"\bin (?:(\d{1,4})\.)?(\d{1,4}):(\d\d):(\d\d)\b", re.ASCII)
# A header that came twice is joined by a comma, which a date has too.
_RETRY_AFTER = re.compile(r"[A-Za-z]{3,9},[^,]{1,40}|[^,]{1,100}")
_NUMBER = re.compile(r"\d{1,100}(?:\.\d{0,100})?", re.ASCII)
_MAX_HEADER_LENGTH = 250
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

    def retries(self, error: BaseException) -> bool:
        """Whether another attempt is worth its wait.

        A quota that comes back in an hour is not: retrying early only uses up the attempts.
        """
        if isinstance(error, QuotaUsedUp) and error.retry_after is not None:
            return is_retryable(error) and error.retry_after <= self.max_retry_after_seconds
        return is_retryable(error)

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

    True for 429, a quota that is used up, most of 5xx, 408, 421, 423, 425, maintenance, lost
    connections, cut bodies and a 200 that is not the expected JSON. False for 400, 401 (the client
    has renewed the token already), 403, 404, 501, 505, a bad certificate, and for an error that an
    inner retry has given up on.
    """
    if not isinstance(error, ServiceTitanError) or error.exhausted:
        return False
    if isinstance(error, Unreachable):
        return error.retryable
    return isinstance(error, RateLimited | ServiceUnavailable | UnexpectedResponse)


def parse_retry_after(headers: Mapping[str, str], text: str, now: datetime) -> float | None:
    """Return the seconds that a response asks to wait, or None if it does not.

    Reads `Retry-After` (seconds, possibly fractional, or a date; of several the longest), then the
    last "... 5 seconds" or "in 00:05:00" in the text: public clients found the number only at the
    end of the 429's title. What is negative, or beyond the calendar, counts for nothing.

    Args:
        headers: case-insensitive.
        text: of the error body.
        now: aware; used for a date where the response has no `Date` of its own.
    """
    header = headers.get("Retry-After", "")
    # Relative to the server's own clock, so that a wrong clock here does not matter.
    since = parse_http_date(headers.get("Date", "")) or now
    parts = _RETRY_AFTER.findall(header) if len(header) <= _MAX_HEADER_LENGTH else []
    waits = [wait for part in parts if (wait := _parse_wait(part.strip(), since)) is not None]
    if waits:
        return max(waits)
    numbers = _SECONDS.findall(text)
    if numbers:
        return float(numbers[-1].replace(",", ""))
    spans = _TIME_SPAN.findall(text)
    if not spans:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in spans[-1])
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)


def _parse_wait(text: str, since: datetime) -> float | None:
    if _NUMBER.fullmatch(text):
        return float(text)
    moment = parse_http_date(text)
    return None if moment is None else max(0.0, (moment - since).total_seconds())


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
            retry=retry_if_exception(policy.retries),
            before_sleep=announce,
            reraise=True,
        )(attempt)
    except ServiceTitanError as error:
        error.exhausted = True
        raise


def _get_error(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None
