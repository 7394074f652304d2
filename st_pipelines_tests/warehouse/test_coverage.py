"""What the load log says about which times a table has been read for."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import duckdb
import pytest

from st_pipelines.warehouse.load_spec import MergeMode
from st_pipelines.warehouse.tables.coverage import read_coverage, read_loaded_tables
from st_pipelines.warehouse.tables.load_log import read_windows
from st_pipelines.windows import Coverage, Window
from st_pipelines_tests.warehouse.factories import Place, endpoint

NOW = datetime(2026, 3, 20, tzinfo=timezone.utc)
DAY = timedelta(days=1)
AGGREGATE: dict[str, Any] = {"cursor": None, "key": (), "by_day": True}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def utc(day: int, hour: int = 0) -> datetime:
    return datetime(2026, 3, day, hour, tzinfo=timezone.utc)


def load(place: Place, start: datetime | None, end: datetime | None, **changes: Any) -> None:
    changes = {"loaded_at": NOW - DAY, **changes}
    place.load([], window_start=start, window_end=end, **changes)


def covered(place: Place, *, now: datetime = NOW, **changes: Any) -> list[tuple]:
    of = endpoint(**changes)
    with duckdb.connect(str(place.file), read_only=True) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        found = read_coverage(connection, [of], environment="sandbox", tenant_id="1", now=now)
    return [(window.start, window.end) for window in found[of.table].windows]


def windows(place: Place) -> set[tuple]:
    with duckdb.connect(str(place.file), read_only=True) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        return set(read_windows(connection, endpoint(), environment="sandbox", tenant_id="1"))


def test_windows_in_any_order_add_up_and_leave_their_holes(place: Place) -> None:
    for start, end in ((utc(5), utc(6)), (utc(2), utc(4)), (utc(3), utc(5)), (utc(8), utc(9))):
        load(place, start, end)
    assert covered(place) == [(utc(2), utc(6)), (utc(8), utc(9))]
    load(place, None, utc(2))
    assert covered(place) == [(None, utc(6)), (utc(8), utc(9))]
    load(place, utc(3), utc(8))
    assert covered(place) == [(None, utc(9))]


def test_a_window_within_an_earlier_one_ends_nothing(place: Place) -> None:
    load(place, None, utc(9))
    load(place, utc(2), utc(3))
    load(place, utc(9), utc(10))
    assert covered(place) == [(None, utc(10))]


def test_a_load_of_everything_covers_the_time_before_it(place: Place) -> None:
    load(place, None, None, mode=MergeMode.REPLACE_ALL, loaded_at=utc(10, 5))
    assert covered(place) == [(None, utc(10, 4))], "an hour may still be being committed"


def test_a_window_closed_at_its_own_load_covers_an_hour_less(place: Place) -> None:
    """A record of its last minutes may be committed after the load has read them."""
    load(place, utc(2), utc(2, 21), loaded_at=utc(2, 21))
    assert covered(place) == [(utc(2), utc(2, 20))]
    load(place, utc(2), utc(3), loaded_at=utc(3) + timedelta(minutes=30))
    assert covered(place) == [(utc(2), utc(3))]


def test_loads_from_the_future_cover_nothing(place: Place) -> None:
    load(place, None, utc(10), loaded_at=utc(11))
    assert covered(place, now=utc(10, 23)) == []
    assert covered(place, now=utc(11)) == [(None, utc(10))]


def test_loads_of_other_tenants_and_tables_do_not_count(place: Place) -> None:
    load(place, None, utc(10), tenant_id="2")
    assert covered(place) == []
    assert covered(place, name="others") == []


def test_the_days_of_an_aggregate_are_not_added_up(place: Place) -> None:
    """Twelve hours and the other twelve are two aggregates, and none of the day."""
    for start, end in ((utc(2), utc(3)), (utc(3), utc(3, 12)), (utc(3, 12), utc(4))):
        load(place, start, end)
    found = covered(place, **AGGREGATE)
    coverage = Coverage([Window(start=start, end=end) for start, end in found])
    assert coverage.has_day(utc(2), utc(3))
    assert not coverage.has_day(utc(3), utc(4))


def test_only_the_last_load_of_a_day_says_how_much_of_an_aggregate_the_table_has(
    place: Place,
) -> None:
    """A load replaces the rows of its day: after a shorter one the day is no longer complete."""
    load(place, utc(2), utc(3))
    load(place, utc(3), utc(4))
    load(place, utc(2), utc(2, 12))
    assert covered(place, **AGGREGATE) == [(utc(2), utc(2, 12)), (utc(3), utc(4))]
    assert windows(place) == {(utc(2), utc(2, 12)), (utc(3), utc(4))}
    load(place, utc(2), utc(3))
    assert covered(place, **AGGREGATE) == [(utc(2), utc(3)), (utc(3), utc(4))]
    assert windows(place) == {(utc(2), utc(3)), (utc(3), utc(4))}
    load(place, utc(3), utc(4), loaded_at=NOW + DAY)
    assert covered(place, **AGGREGATE) == [(utc(2), utc(3))], "its clock was ahead"


def test_the_same_day_in_another_zone_replaces_the_rows_of_the_first(place: Place) -> None:
    """March 3 begins at 4 in New York and at 15 the day before in Tokyo."""
    load(place, utc(2, 4), utc(3, 4))
    load(place, utc(3, 4), utc(4, 4))
    load(place, utc(2, 15), utc(3, 15))
    assert covered(place, **AGGREGATE) == [(utc(2, 15), utc(3, 15))]
    load(place, utc(3, 4), utc(4, 4))
    assert covered(place, **AGGREGATE) == [(utc(3, 4), utc(4, 4))]


def test_the_days_of_a_file_without_numbers_are_read_in_the_order_of_its_lines(
    place: Place,
) -> None:
    load(place, utc(2), utc(3))
    load(place, utc(2), utc(2, 12))
    with duckdb.connect(str(place.file)) as connection:
        connection.execute("ALTER TABLE _st.loads DROP COLUMN sequence")
    assert covered(place, **AGGREGATE) == [(utc(2), utc(2, 12))]
    assert windows(place) == {(utc(2), utc(2, 12))}


def test_a_coverage_contains_what_one_of_its_windows_contains() -> None:
    both = Coverage([Window(start=None, end=utc(3)), Window(start=utc(4), end=utc(6))])
    assert both.contains(None, utc(3))
    assert both.contains(utc(1), utc(3))
    assert both.contains(utc(4), utc(6))
    assert not both.contains(utc(2), utc(4))
    assert not both.contains(None, utc(5))
    assert not both.contains(utc(4), utc(6, 1))
    assert both.from_the_beginning
    assert not Coverage(both.windows[1:]).from_the_beginning
    assert not Coverage().contains(utc(1), utc(2))


def test_a_table_is_unbroken_if_its_loads_reach_back_to_the_beginning_without_a_hole(
    place: Place,
) -> None:
    def loaded(tenant_id: str = "1") -> dict[str, bool]:
        with duckdb.connect(str(place.file), read_only=True) as connection:
            connection.execute("SET TimeZone = 'UTC'")
            return read_loaded_tables(connection, tenant_id)

    load(place, utc(5), utc(6))
    assert loaded() == {"abc.things": False}
    load(place, None, utc(4))
    assert loaded() == {"abc.things": False}
    load(place, utc(4), utc(5))
    assert loaded() == {"abc.things": True}
    assert loaded("2") == {}


def test_loads_of_a_table_that_was_dropped_since_cover_nothing(place: Place) -> None:
    load(place, None, utc(9))
    load(place, utc(2), utc(3), of=endpoint(**AGGREGATE, name="figures"))
    assert covered(place)
    assert covered(place, **AGGREGATE, name="figures")

    with duckdb.connect(str(place.file)) as connection:
        connection.execute(f"DROP TABLE {endpoint().table}")
        connection.execute(f"DROP TABLE {endpoint(name='figures').table}")

    assert covered(place) == []
    assert covered(place, **AGGREGATE, name="figures") == []
    with duckdb.connect(str(place.file), read_only=True) as connection:
        assert read_loaded_tables(connection, "1") == {}

    load(place, utc(4), utc(5))
    assert covered(place) == [(utc(4), utc(5))]
