"""The server's time is estimated from its `Date` headers; a senseless one counts for nothing."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from requests.structures import CaseInsensitiveDict

from st_pipelines.servicetitan.errors.errors import UnexpectedResponse
from st_pipelines.servicetitan.http.retry import NO_WAIT
from st_pipelines.servicetitan.http.server_clock import ServerClock, parse_http_date
from st_pipelines_tests.servicetitan.fake_server import Canned

NOON = datetime(2026, 3, 10, 12, tzinfo=timezone.utc)
BEYOND = "Wed, 21 Oct 99999999999999999999 07:28:00 GMT"
NO_DATES = (
    "",
    "soon",
    "5",
    "-1",
    "1e400",
    BEYOND,
    "Wed, 21 Oct 10000 07:28:00 GMT",
    "Sun, 00 Jan 0000 00:00:00 GMT",
    "Fri, 30 Feb 2026 07:28:00 GMT",
    "Wed, 21 Oct 2026 25:61:61 GMT",
    "Fri, 31 Dec 9999 23:59:59 -1200",
    "Wed, 21 Oct 2026 07:28:00 +99999999999",
    "Tue, 10 Mar 2026 12:00:00 GMT, Tue, 10 Mar 2026 12:00:00 GMT",
    "Tue, " * 10_000,
    "\x00\x00",
)


class Machine:
    """A machine whose two clocks the test moves."""

    def __init__(self) -> None:
        self.elapsed = 100.0
        self.wall_clock = NOON

    def server_clock(self) -> ServerClock:
        return ServerClock(elapsed=lambda: self.elapsed, wall_clock=lambda: self.wall_clock)

    def observe(self, clock: ServerClock, date: datetime | str, **more: str) -> None:
        text = date if isinstance(date, str) else format_date(date)
        clock.observe(CaseInsensitiveDict({"date": text, **more}), self.elapsed)


def format_date(moment: datetime) -> str:
    return moment.strftime("%a, %d %b %Y %H:%M:%S GMT")


def test_the_estimate_moves_on_with_the_time_that_passes_here():
    machine = Machine()
    clock = machine.server_clock()
    assert clock.now() is None
    assert clock.offset() is None
    machine.observe(clock, NOON)
    machine.elapsed += 90
    machine.wall_clock += timedelta(days=1)
    assert clock.now() == NOON + timedelta(seconds=90)
    assert clock.offset() == timedelta(days=1) - timedelta(seconds=90)


@pytest.mark.parametrize("text", NO_DATES)
def test_a_date_outside_of_the_calendar_is_as_good_as_none(text):
    """A gateway once sent the year 99999999999999999999, and every load failed."""
    assert parse_http_date(text) is None
    machine = Machine()
    clock = machine.server_clock()
    machine.observe(clock, NOON)
    machine.observe(clock, text)
    assert clock.now() == NOON


@pytest.mark.parametrize("year", [1970, 2019, 2100])
def test_a_year_in_which_no_server_lives_is_as_good_as_none(year):
    machine = Machine()
    clock = machine.server_clock()
    machine.observe(clock, datetime(year, 1, 1))
    assert clock.now() is None


@pytest.mark.parametrize("age", ["0", "3600", "?"])
def test_the_date_of_a_response_from_a_cache_is_as_good_as_none(age):
    machine = Machine()
    clock = machine.server_clock()
    machine.observe(clock, NOON, age=age)
    assert clock.now() is None


def test_one_response_that_contradicts_the_others_is_not_believed():
    machine = Machine()
    clock = machine.server_clock()
    machine.observe(clock, NOON)
    for date in (NOON + timedelta(days=1), NOON, NOON - timedelta(days=1), NOON):
        machine.observe(clock, date)
        assert clock.now() == NOON


def test_two_responses_that_agree_show_that_the_clock_of_the_server_was_set():
    machine = Machine()
    clock = machine.server_clock()
    machine.observe(clock, NOON)
    machine.observe(clock, NOON - timedelta(hours=2))
    machine.elapsed += 5
    machine.observe(clock, NOON - timedelta(hours=2) + timedelta(seconds=5))
    assert clock.now() == NOON - timedelta(hours=2) + timedelta(seconds=5)


def test_an_earlier_response_does_not_replace_a_later_one():
    """A large page is parsed after small pages that were requested later."""
    machine = Machine()
    clock = machine.server_clock()
    machine.observe(clock, NOON)
    clock.observe({"Date": format_date(NOON - timedelta(seconds=10))}, machine.elapsed - 20)
    assert clock.now() == NOON


@pytest.mark.parametrize(
    "text",
    [
        "Tue, 10 Mar 2026 12:00:00 GMT",
        "Tuesday, 10-Mar-26 12:00:00 GMT",
        "Tue Mar 10 12:00:00 2026",
    ],
)
def test_the_three_forms_of_http_are_dates(text):
    assert parse_http_date(text) == NOON


def test_a_client_with_a_cached_token_knows_the_time_of_the_server(server):
    server.date = NOON
    first, second = server.client(), server.client()
    assert second.server_time() is None
    first.sign_in()
    second.sign_in()
    assert len(server.forms) == 1
    time = second.server_time()
    assert time is not None
    assert NOON <= time < NOON + timedelta(minutes=1)


def test_a_data_response_tells_the_time_and_an_error_page_does_not(server):
    server.date = NOON
    server.fill(1)
    session = server.session()
    session.get("/jobs")
    server.date = NOON + timedelta(seconds=30)
    session.get("/jobs")
    time = session.client.server_time()
    assert time is not None
    assert time >= NOON + timedelta(seconds=30)
    server.date = NOON + timedelta(seconds=50)
    server.canned.extend([Canned(body="<html>a sign-in page</html>")] * NO_WAIT.attempts)
    with pytest.raises(UnexpectedResponse):
        session.get("/jobs")
    time = session.client.server_time()
    assert time is not None
    assert time < NOON + timedelta(seconds=50)
