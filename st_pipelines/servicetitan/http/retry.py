"""Would running this again plausibly give another answer, and when?"""

from __future__ import annotations

import logging
import math
import random
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
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
from st_pipelines.servicetitan.http.cancellation import Cancellation, Cancelled

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
_SECONDS = re.compile(r"(\d[\d,]*(?:\.\d+)?)\s*seconds?\b", re.IGNORECASE | re.ASCII)
_SLICE = 0.2  # seconds between two looks at whether the wait is still wanted


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """How often and how patiently a request is repeated.

    Attributes:
        attempts: requests in all. Public clients had to go beyond the usual three, because
            ServiceTitan's 500s and 429s last.
        backoff: seconds before the second attempt; doubled for each further one.
        max_backoff: seconds, the longest wait of our own choosing.
        max_retry_after_seconds: seconds, the longest wait that a 429 or 503 may impose.
        sleep: waits that many seconds.
    """

    attempts: int = 6
    backoff: float = 1.0
    max_backoff: float = 30.0
    max_retry_after_seconds: float = 300.0
    sleep: Callable[[float], None] = time.sleep

    def wait(self, error: BaseException | None, attempt: int) -> float:
        """Seconds to wait after a failed attempt.

        Args:
            error: what failed; its `wait`, where it has one, is what the server told.
            attempt: 1 for the first.

        Returns:
            The told wait, else exponential backoff; half of that is random, so that threads
            which failed together do not come back together. A told wait that was kept and did
            not help is no longer believed to be enough.
        """
        longest = min(self.max_backoff, self.backoff * 2 ** (attempt - 1))
        own = longest * random.uniform(0.5, 1)
        told = getattr(error, "wait", None)
        if told is None:
            return own
        return min(told if attempt == 1 else max(told, own), self.max_retry_after_seconds)


NO_WAIT = RetryPolicy(backoff=0, max_backoff=0, max_retry_after_seconds=0)
"""Repeats without waiting, for tests."""


def worth_retrying(error: BaseException) -> bool:
    """Whether running the same request again would plausibly give another answer.

    True for 429, 5xx, 408, maintenance, lost connections, cut bodies and a 200 that is not the
    expected JSON. False for 400, 401 (the client has already renewed the token), 403, 404, a bad
    certificate, and for what an inner retry has already tried often enough.
    """
    if not isinstance(error, ServiceTitanError) or error.exhausted:
        return False
    if isinstance(error, Unreachable):
        return error.retryable
    return isinstance(error, RateLimited | ServiceUnavailable | UnexpectedResponse)


def retry_after(headers: Mapping[str, str], text: str, now: datetime) -> float | None:
    """Seconds that an answer says to wait.

    Looks at `Retry-After` (seconds, possibly fractional, or a date), then for the last "... 5
    seconds" in the text: public clients found the number only at the end of the 429's title.

    Args:
        headers: of the answer, looked up without regard to case.
        text: what the answer says.
        now: aware; used for a date where the answer has no `Date` of its own.

    Returns:
        Seconds, at least 0; None if the answer does not say.
    """
    header = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"\d+(\.\d*)?", header, re.ASCII):
        return float(header)
    moment = _http_date(header)
    if moment is not None:
        # The server's own clock, so that a wrong clock here does not matter.
        since = _http_date(headers.get("Date", "")) or now
        return max(0.0, (moment - since).total_seconds())
    numbers = _SECONDS.findall(text)
    return float(numbers[-1].replace(",", "")) if numbers else None


def nap(seconds: float, sleep: Callable[[float], None], cancelled: Cancellation | None) -> None:
    """Sleep, but not longer than somebody wants to.

    Args:
        seconds: how long.
        sleep: does the sleeping.
        cancelled: looked at several times a second.

    Raises:
        Cancelled: `cancelled` is set.
    """
    if cancelled is None:
        sleep(seconds)
        return
    for _ in range(max(1, math.ceil(seconds / _SLICE))):
        if cancelled.is_set():
            raise Cancelled
        sleep(min(seconds, _SLICE))
        seconds -= _SLICE


def run(
    policy: RetryPolicy,
    attempt: Callable[[], _T],
    *,
    cancelled: Cancellation | None = None,
    before_wait: Callable[[ServiceTitanError, float], None] = lambda error, wait: None,
) -> _T:
    """Call `attempt` until it succeeds, fails for good or has been tried often enough.

    Args:
        policy: how often and how patiently.
        attempt: raises a `ServiceTitanError` when it fails.
        cancelled: ends the waits.
        before_wait: told of the error and of the seconds before each wait.

    Returns:
        What `attempt` returns.

    Raises:
        ServiceTitanError: the last one, marked as exhausted.
        Cancelled: `cancelled` was set.
    """

    def note(state: RetryCallState) -> None:
        error, wait = _error(state), state.upcoming_sleep
        _log.info("%s Trying again in %.1f s.", error, wait)
        if isinstance(error, ServiceTitanError):
            before_wait(error, wait)

    try:
        return Retrying(
            sleep=partial(nap, sleep=policy.sleep, cancelled=cancelled),
            stop=stop_after_attempt(policy.attempts),
            wait=lambda state: policy.wait(_error(state), state.attempt_number),
            retry=retry_if_exception(worth_retrying),
            before_sleep=note,
            reraise=True,
        )(attempt)
    except ServiceTitanError as error:
        error.exhausted = True
        raise


def _error(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


def _http_date(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
