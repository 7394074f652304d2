"""The rate limit holds in every second, and a pause holds back every request."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from pydantic import SecretStr

from st_pipelines.servicetitan.http.rate_limit import RateLimiter, limiter_for
from st_pipelines.servicetitan.http.retry import Cancellation, Cancelled


class Time:
    """A clock that moves only when someone sleeps."""

    def __init__(self):
        self.now = 0.0
        self._lock = threading.Lock()

    def clock(self):
        return self.now

    def sleep(self, seconds):
        with self._lock:
            self.now += seconds


def limiter(per_second):
    time = Time()
    return time, RateLimiter(per_second, clock=time.clock, sleep=time.sleep)


def test_no_second_sees_more_requests_than_allowed():
    time, limit = limiter(60)
    moments = []
    for _ in range(300):
        limit.acquire()
        moments.append(time.now)
    busiest = max(sum(1 for other in moments if 0 <= other - one < 1) for one in moments)
    assert 50 <= busiest < 60


def test_idle_time_does_not_allow_a_burst():
    time, limit = limiter(10)
    limit.acquire()
    time.now = 100.0
    for _ in range(5):
        limit.acquire()
    assert time.now > 100.4


def test_threads_share_the_limit():
    time, limit = limiter(100)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: limit.acquire(), range(200)))
    assert time.now >= 199 / 100


def test_a_pause_holds_back_every_request():
    time, limit = limiter(60)
    limit.acquire()
    limit.pause_until(30.0)
    limit.acquire()
    assert time.now == pytest.approx(30.0)


def test_a_shorter_pause_does_not_end_a_longer_one():
    time, limit = limiter(60)
    limit.pause_until(30.0)
    limit.pause_until(10.0)
    limit.acquire()
    assert time.now >= 30.0


def test_a_pause_also_holds_back_a_thread_that_is_waiting():
    time = Time()
    paused = []

    def sleep(seconds):
        if not paused:
            paused.append(True)
            limit.pause_until(50.0)
        time.sleep(seconds)

    limit = RateLimiter(60, clock=time.clock, sleep=sleep)
    limit.acquire()
    limit.acquire()
    assert time.now >= 50.0


def test_cancellation_ends_the_wait():
    _, limit = limiter(60)
    limit.pause_until(1000.0)
    cancelled = Cancellation()
    cancelled.set()
    with pytest.raises(Cancelled):
        limit.acquire(cancelled)


def test_each_tenant_and_app_has_one_limiter():
    key = SecretStr("ak1.limits")
    one = limiter_for("t1", key, 60)
    assert limiter_for("t1", SecretStr("ak1.limits"), 60) is one
    assert limiter_for("t2", key, 60) is not one
    assert limiter_for("t1", SecretStr("ak1.other"), 60) is not one


def test_a_changed_limit_applies_to_every_user():
    key = SecretStr("ak1.changed")
    one = limiter_for("t1", key, 60)
    limiter_for("t1", key, 20)
    assert one.per_second == 20


@pytest.mark.parametrize("nonsense", [0, -1, float("nan")])
def test_a_limit_must_be_positive(nonsense):
    with pytest.raises(ValueError, match="above 0"):
        RateLimiter(nonsense)
