"""A day of an aggregate is replaced only by as much of that day, or more."""

from __future__ import annotations

from datetime import date, datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from st_pipelines.warehouse.errors import DayUnfinished, Overtaken
from st_pipelines.warehouse.load_spec import MergeMode
from st_pipelines_tests.warehouse.factories import Place, endpoint

AGGREGATE = endpoint(cursor=None, key=(), by_day=True, date_filter=None)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def utc(day: int, hour: int = 0) -> datetime:
    return datetime(2026, 3, day, hour, tzinfo=timezone.utc)


START, NOON, END = utc(10, 4), utc(10, 16), utc(11, 4)
"""Of March 10 in New York."""


def load(place: Place, name: str, end: datetime, **changes: Any) -> None:
    facts: dict[str, Any] = {
        "window_start": START,
        "window_end": end,
        "mode": MergeMode.REPLACE_DAY,
        "default_date": date(2026, 3, 10),
        "loaded_at": end,
        "server_time": utc(12),
    }
    place.load([{"name": name}], AGGREGATE, **(facts | changes))


def names(place: Place) -> list[str]:
    return [row[0] for row in place.query("SELECT name FROM abc.things")]


def test_a_part_of_a_day_does_not_replace_more_of_it(place: Place) -> None:
    load(place, "whole", END)
    with pytest.raises(DayUnfinished, match="read it up to 2026-03-11 04:00:00 UTC"):
        load(place, "part", NOON)
    with pytest.raises(DayUnfinished):
        load(place, "part", NOON, server_time=None)
    assert names(place) == ["whole"]
    load(place, "again", END)
    assert names(place) == ["again"]


def test_more_of_a_day_replaces_a_part_of_it(place: Place) -> None:
    load(place, "part", NOON)
    load(place, "the same part", NOON)
    load(place, "whole", END)
    assert names(place) == ["whole"]


def test_a_load_that_was_overtaken_by_more_of_the_day_reads_again(place: Place) -> None:
    load(place, "whole", END)
    with pytest.raises(Overtaken):
        load(place, "whole", NOON, sequence=1)
    assert place.query("SELECT count(*) FROM _st.loads") == [(1,)]


def test_what_a_fast_clock_has_read_from_the_future_does_not_count(place: Place) -> None:
    load(place, "ahead", END)
    load(place, "today", NOON, server_time=NOON)
    assert names(place) == ["today"]


def test_a_day_that_is_shorter_in_another_zone_is_whole_all_the_same(place: Place) -> None:
    """On March 8 the clocks change in Denver, but not in Phoenix: both days begin at 7."""
    start = utc(8, 7)
    for zone, end in (("America/Phoenix", utc(9, 7)), ("America/Denver", utc(9, 6))):
        load(place, zone, end, window_start=start, timezone=zone, default_date=date(2026, 3, 8))
    assert names(place) == ["America/Denver"]
