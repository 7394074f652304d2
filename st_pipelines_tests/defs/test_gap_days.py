"""When a day counts as due again, and how days become the ranges of runs."""

from __future__ import annotations

import itertools
from collections import Counter
from datetime import date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from st_pipelines.defs.sensors.gaps import Gap, _Tries, group_days

TRIED = datetime(2026, 3, 5, 4, tzinfo=timezone.utc)
DAY = timedelta(days=1)
FIRST = date(2026, 1, 1)
TABLES = st.frozensets(st.sampled_from(["a", "b"]))


def is_due(count: int, minutes: float, loaded_minutes: float | None = None) -> bool:
    """Whether a day is due some minutes after its last try, and perhaps another day's load."""
    loaded = None if loaded_minutes is None else TRIED + timedelta(minutes=loaded_minutes)
    return _Tries(count, TRIED).is_due(TRIED + timedelta(minutes=minutes), loaded)


@pytest.mark.parametrize(("count", "delay"), [(1, 30), (2, 120), (3, 480)])
def test_a_day_is_tried_again_after_growing_delays(count: int, delay: int) -> None:
    assert not is_due(count, delay - 1)
    assert is_due(count, delay)
    assert not is_due(count, delay - 1, loaded_minutes=1), "that another day came is no reason"


@pytest.mark.parametrize("count", [4, 5])
def test_after_the_last_try_a_day_waits_until_another_day_was_loaded(count: int) -> None:
    assert not is_due(count, 100_000)
    assert not is_due(count, 100_000, loaded_minutes=-1)
    assert not is_due(count, 100_000, loaded_minutes=0)
    assert not is_due(count, 29, loaded_minutes=1)
    assert is_due(count, 30, loaded_minutes=1)


@given(st.lists(TABLES, max_size=80))
def test_every_missing_day_of_every_table_is_in_one_range(tables: list[frozenset[str]]) -> None:
    missing = {FIRST + n * DAY: names for n, names in enumerate(tables)}
    gaps = list(group_days(missing))
    found = Counter((day, table) for gap in gaps for day in gap for table in gap.tables)
    assert found == Counter((day, table) for day, names in missing.items() for table in names)
    assert all(gap.tables and gap.last - gap.first < 31 * DAY for gap in gaps)
    for later, earlier in itertools.pairwise(gaps):
        assert later.first > earlier.last
        if earlier.last + DAY == later.first and earlier.tables == later.tables:
            assert later.last - later.first == 30 * DAY, "one run could have loaded both"


def test_days_of_a_range_follow_one_another() -> None:
    days = {FIRST: frozenset("a"), FIRST + 2 * DAY: frozenset("a")}
    assert list(group_days(days)) == [
        Gap(first=FIRST + 2 * DAY, last=FIRST + 2 * DAY, tables=frozenset("a")),
        Gap(first=FIRST, last=FIRST, tables=frozenset("a")),
    ]
    assert list(group_days({})) == list(group_days({FIRST: frozenset()})) == []


@pytest.mark.parametrize(
    ("days", "tables", "text"),
    [
        (1, ("jpm.jobs",), "2026-01-01 of jpm.jobs"),
        (3, ("jpm.jobs",), "2026-01-01 to 2026-01-03 of jpm.jobs"),
        (1, ("jpm.jobs", "crm.leads"), "2026-01-01 of 2 tables"),
    ],
)
def test_a_range_names_its_days_and_its_tables(
    days: int, tables: tuple[str, ...], text: str
) -> None:
    gap = Gap(first=FIRST, last=FIRST + (days - 1) * DAY, tables=frozenset(tables))
    assert str(gap) == text
    assert list(gap) == [FIRST + n * DAY for n in range(days)]
