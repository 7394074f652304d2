"""Ranges of local days as UTC windows, and what a coverage says about a moment."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone

import pytest

from st_pipelines.windows import Coverage, Days, Window, describe_days, local_day, midnight

ZONE = "America/New_York"


def utc(day: int, hour: int = 0, minute: int = 0) -> datetime:
    return datetime(2026, 3, day, hour, minute, tzinfo=timezone.utc)


def days(first: int, last: int, **changes: bool) -> Days:
    return Days(first=date(2026, 3, first), last=date(2026, 3, last), timezone=ZONE, **changes)


def test_a_window_may_be_empty_but_not_naive_at_either_end() -> None:
    assert Window(start=utc(2), end=utc(2)).start == utc(2)
    with pytest.raises(ValueError, match="aware"):
        Window(start=datetime(2026, 3, 2), end=utc(3))


def test_a_day_on_which_the_clocks_change_has_23_hours() -> None:
    window = days(8, 8).window(utc(20))
    assert window == Window(start=utc(8, 5), end=utc(9, 4))


def test_a_window_ends_now_at_the_latest_and_in_whole_seconds() -> None:
    now = utc(10, 15, 30) + timedelta(microseconds=7)
    assert days(9, 10).window(now) == Window(start=utc(9, 4), end=utc(10, 15, 30))


def test_a_day_that_begins_now_has_not_begun() -> None:
    with pytest.raises(ValueError, match="has not begun"):
        days(10, 10).window(utc(10, 4))
    assert days(10, 10).window(utc(10, 4) + timedelta(seconds=1)).end > utc(10, 4)


def test_only_the_first_day_of_a_range_keeps_its_open_start() -> None:
    each = list(days(9, 11, open_start=True))
    assert [day.first.day for day in each] == [9, 10, 11]
    assert all(day.first == day.last for day in each)
    assert [day.open_start for day in each] == [True, False, False]
    assert each[0].window(utc(20)).start is None
    assert not any(day.open_start for day in days(9, 11))
    with pytest.raises(ValueError, match="before the first"):
        days(11, 10)


def test_coverage_ends_before_a_moment_only_if_something_between_was_not_read() -> None:
    coverage = Coverage([Window(start=None, end=utc(3)), Window(start=utc(5), end=utc(7))])
    assert coverage.end_before(utc(4)) == utc(3)
    assert coverage.end_before(utc(5)) == utc(3)
    assert coverage.end_before(utc(8)) == utc(7)
    assert coverage.end_before(utc(3)) is None, "everything right before it was read"
    assert coverage.end_before(utc(6)) is None
    assert Coverage().end_before(utc(6)) is None
    assert Coverage(coverage.windows[1:]).end_before(utc(5)) is None


def test_coverage_contains_nothing_that_begins_before_it() -> None:
    coverage = Coverage([Window(start=utc(5), end=utc(7))])
    assert coverage.contains(utc(5), utc(7))
    assert not coverage.contains(utc(4, 23), utc(7))
    assert not coverage.contains(None, utc(6))


def test_local_days_begin_at_local_midnight() -> None:
    assert midnight(date(2026, 3, 9), ZONE) == utc(9, 4)
    assert local_day(utc(9, 3), ZONE) == date(2026, 3, 8)


def test_days_are_described_by_their_number_and_bounds() -> None:
    assert describe_days([date(2026, 3, 9)]) == "2026-03-09"
    some = [date(2026, 3, 9), date(2026, 3, 2)]
    assert describe_days(some) == "2 days from 2026-03-02 to 2026-03-09"
