"""The load log belongs to one environment, and its lines to one table and tenant each."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any, TypeVar

import duckdb

from st_pipelines.catalog.model import Export
from st_pipelines.warehouse.load_spec import LoadSpec
from st_pipelines.warehouse.tables.coverage import read_loaded_tables
from st_pipelines.warehouse.tables.load_log import (
    ExportBookmark,
    read_bookmark,
    read_future_loads,
    read_overtakers,
    read_sequences,
)
from st_pipelines.warehouse.tables.table_load import TableLoad
from st_pipelines_tests.warehouse.factories import Place, endpoint, record

_T = TypeVar("_T")

OTHERS = endpoint(name="others")
OWNER: dict[str, Any] = {"environment": "sandbox", "tenant_id": "1"}
SOURCE: dict[str, Any] = {"window_start": None, "window_end": None}


def utc(day: int, hour: int = 0) -> datetime:
    return datetime(2026, 3, day, hour, tzinfo=timezone.utc)


def read(place: Place, function: Callable[..., _T], *values: Any, **named: Any) -> _T:
    """Calls a function of the log with a connection to the warehouse itself."""
    with duckdb.connect(str(place.file)) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        return function(connection, *values, **named)


def remove_numbers(place: Place) -> None:
    """Turns the log into one of a version that did not number its loads."""
    with duckdb.connect(str(place.file)) as connection:
        connection.execute("ALTER TABLE _st.loads DROP COLUMN sequence")


def test_a_file_without_a_log_has_no_loaded_table(place: Place) -> None:
    assert read(place, read_loaded_tables, "1") == {}
    assert read(place, read_sequences, **OWNER) == {}
    assert read(place, read_future_loads, **OWNER, now=utc(1)) == {}


def test_each_loaded_table_says_whether_it_has_a_hole(place: Place) -> None:
    place.load([], window_start=None, window_end=utc(5), loaded_at=utc(6))
    place.load([], OTHERS, window_start=utc(2), window_end=utc(5), loaded_at=utc(6))
    place.load([], endpoint(name="foreign"), tenant_id="2")
    assert read(place, read_loaded_tables, "1") == {"abc.things": True, "abc.others": False}
    place.load([], OTHERS, window_start=None, window_end=utc(2), loaded_at=utc(7))
    assert read(place, read_loaded_tables, "1") == {"abc.things": True, "abc.others": True}


def test_loads_are_numbered_by_table_and_tenant(place: Place) -> None:
    for _ in range(3):
        place.load([record()])
    place.load([record()], OTHERS)
    place.load([record()], tenant_id="2")
    assert read(place, read_sequences, **OWNER) == {"abc.things": 3, "abc.others": 1}
    assert read(place, read_sequences, environment="production", tenant_id="1") == {}
    place.load([], OTHERS)
    assert read(place, read_sequences, **OWNER) == {"abc.things": 3, "abc.others": 2}


def test_loads_of_a_version_that_did_not_number_them_have_zero(place: Place) -> None:
    place.load([record()])
    remove_numbers(place)
    assert read(place, read_sequences, **OWNER) == {"abc.things": 0}


def test_the_latest_moment_of_loads_from_the_future_is_reported(place: Place) -> None:
    """A load is from the future by its clock, or by the end of its window."""
    for latest in (8, 9, 7):
        place.load([], window_end=utc(5), loaded_at=utc(latest, 12))
    place.load([], OTHERS, window_end=utc(8), loaded_at=utc(6))
    place.load([], endpoint(name="past"), window_end=utc(5), loaded_at=utc(6))
    place.load([], endpoint(name="whole"), window_end=None, loaded_at=utc(7, 1))
    place.load([], endpoint(name="foreign"), loaded_at=utc(9), tenant_id="2")
    assert read(place, read_future_loads, **OWNER, now=utc(7)) == {
        "abc.others": utc(8),
        "abc.things": utc(9, 12),
        "abc.whole": utc(7, 1),
    }
    assert read(place, read_future_loads, **OWNER, now=utc(9, 12)) == {}
    other = {"environment": "production", "tenant_id": "1"}
    assert read(place, read_future_loads, **other, now=utc(1)) == {}


def overtakers(place: Place, spec: LoadSpec) -> list[tuple]:
    with duckdb.connect() as connection, place.warehouse.attach(connection, "a look"):
        connection.execute("SET TimeZone = 'UTC'")
        return sorted(read_overtakers(TableLoad(connection, endpoint(), spec)))


def test_all_later_loads_of_the_same_table_and_tenant_overtake(place: Place) -> None:
    """Those of other windows too: the export and lookups find rows anywhere."""
    windows = [(2, 4), (4, 6), (6, 8), (8, 9)]
    for first, last in windows:
        place.load([], window_start=utc(first), window_end=utc(last))
    place.load([], OTHERS)
    place.load([], tenant_id="2")
    spec = place.what(window_start=utc(4), window_end=utc(8), sequence=1)
    assert overtakers(place, spec) == [(utc(one), utc(other)) for one, other in windows]
    assert overtakers(place, replace(spec, sequence=4)) == [(utc(8), utc(9))]
    assert overtakers(place, replace(spec, sequence=5)) == []
    place.load([], **SOURCE)
    assert overtakers(place, replace(spec, sequence=5)) == [(None, None)]


def test_a_bookmark_replaces_that_of_its_table_and_tenant_only(place: Place) -> None:
    of, other = (endpoint(name=name, export=Export(path="/e")) for name in ("things", "others"))

    def token(**changes: Any) -> str | None:
        with duckdb.connect() as connection, place.warehouse.attach(connection, "a look"):
            mark = read_bookmark(
                TableLoad(connection, changes.pop("of", of), place.what(**changes))
            )
        return mark and mark.continue_from

    def load(continue_from: str, of_: Any = of, **changes: Any) -> None:
        mark = ExportBookmark(since=None, continue_from=continue_from, loaded_at=utc(1))
        place.load_with_feed([], [], of_, bookmark=mark, **changes)

    load("first")
    load("of the other tenant", tenant_id="2")
    load("of the other table", other)
    load("second")
    assert token() == "second"
    assert token(tenant_id="2") == "of the other tenant"
    assert token(of=other) == "of the other table"
    assert token(tenant_id="3") is None
    assert place.query("SELECT count(*) FROM _st.feeds") == [(3,)]


def test_a_line_of_the_log_holds_what_was_loaded(place: Place) -> None:
    place.load([record(id=1), record(id=2)])
    place.load_with_feed(
        [record(id=1, name="b")],
        [record(id=3)],
        endpoint(export=Export(path="/e")),
        window_start=utc(2),
        window_end=utc(3),
        loaded_at=utc(4),
    )
    [line] = place.query(
        "SELECT * EXCLUDE (environment, api, endpoint, tenant_id, run_id) "
        "FROM _st.loads WHERE sequence = 2"
    )
    assert line == (utc(2), utc(3), 2, 1, 1, 0, 0, 1, 2, 0.5, utc(4), 3, 2)


def test_the_log_describes_the_catalog_of_the_last_load(place: Place) -> None:
    place.load([])
    described = (
        "SELECT api, endpoint, table_name, kind, path, export_path, key, cursor FROM _st.endpoints"
    )
    assert place.query(described) == [
        ("abc", "things", "abc.things", "window", endpoint().path, None, ["id"], "modifiedOn")
    ]
    place.load([], endpoint(export=Export(path="/e"), cursor=None, key=("id", "name")))
    [row] = place.query(described)
    assert row[5:] == ("/e", ["id", "name"], None)
    [(columns,)] = place.query("SELECT columns FROM _st.endpoints")
    assert json.loads(columns)
    with duckdb.connect(str(place.file)) as connection:
        connection.execute("UPDATE _st.endpoints SET path = 'marked'")
    place.load([], endpoint(export=Export(path="/e"), cursor=None, key=("id", "name")))
    assert place.query("SELECT path FROM _st.endpoints") == [("marked",)], "not written each time"


def test_a_log_of_an_earlier_version_gets_the_columns_that_it_lacks(place: Place) -> None:
    place.load([record()])
    with duckdb.connect(str(place.file)) as connection:
        connection.execute("ALTER TABLE _st.loads DROP COLUMN table_rows")
        connection.execute("ALTER TABLE _st.feeds DROP COLUMN since")
        connection.execute("COMMENT ON TABLE _st.endpoints IS 'of another version'")
    place.load([], loaded_at=utc(4) + timedelta(hours=1))
    assert place.query("SELECT table_rows FROM _st.loads ORDER BY rowid") == [(None,), (1,)]
    assert place.query("SELECT since FROM _st.feeds") == []
