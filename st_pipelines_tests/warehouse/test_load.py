"""Loading any window twice, in any order, ends in the same table."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from datetime import date, datetime, timezone
from pathlib import Path

import duckdb
import pytest

from st_pipelines.catalog.model import Endpoint, Field, ListOf, Scalar, ScalarName, StructOf
from st_pipelines.warehouse.errors import WarehouseBusy, WarehouseFull, WarehouseUnusable
from st_pipelines.warehouse.load_spec import MergeMode
from st_pipelines.warehouse.staging.typed_rows import TypedRows
from st_pipelines.warehouse.store.duckdb_file import DuckDBFile
from st_pipelines.warehouse.store.scratch import limit_memory
from st_pipelines.warehouse.tables.load import commit_load
from st_pipelines.warehouse.tables.staged_records import StagedRecords
from st_pipelines.warehouse.tables.table_load import TableLoad
from st_pipelines_tests.warehouse.factories import (
    COST,
    FIELDS,
    Place,
    catalog_of,
    endpoint,
    record,
)

REPLACE_ALL = MergeMode.REPLACE_ALL
OLD, NEW = "2026-01-02T03:00:00Z", "2026-01-02T03:00:00.0000001Z"
LATER = "2026-01-05T00:00:00Z"


def outcome(place: Place, *records: dict, **changes) -> tuple[int, int, int, int]:
    counts = place.load(records, **changes)[0].counts
    return counts.inserted, counts.updated, counts.unchanged, counts.deleted


def test_loading_twice_changes_nothing(place: Place) -> None:
    records = [record(id=n) for n in range(10)]
    assert outcome(place, *records) == (10, 0, 0, 0)
    rows = "SELECT * EXCLUDE (_read_sequence) FROM abc.things ORDER BY id"
    before = place.query(rows)
    assert outcome(place, *records, loaded_at=datetime(2026, 7, 1, tzinfo=timezone.utc)) == (
        0,
        0,
        10,
        0,
    )
    assert place.query(rows) == before
    assert place.query("SELECT DISTINCT _read_sequence FROM abc.things") == [(2,)]


def test_a_newer_version_replaces_and_an_older_read_does_not(place: Place) -> None:
    outcome(place, record(name="old", modifiedOn=OLD))
    assert outcome(place, record(name="new", modifiedOn=LATER)) == (0, 1, 0, 0)
    assert outcome(place, record(name="old", modifiedOn=OLD), sequence=2) == (0, 0, 1, 0)
    assert place.query("SELECT name, _partition_date FROM abc.things") == [
        ("new", date(2026, 1, 4))
    ]


def test_a_change_that_did_not_move_the_cursor_is_loaded(place: Place) -> None:
    outcome(place, record(name="a"))
    assert outcome(place, record(name="b")) == (0, 1, 0, 0)


def test_the_latest_of_several_versions_in_one_load_wins(place: Place) -> None:
    versions = [record(name="late", modifiedOn=LATER), record(name="early", modifiedOn=OLD)]
    assert outcome(place, *versions, record(id=2, name="a"), record(id=2, name="b")) == (2, 0, 0, 0)
    assert place.query("SELECT name FROM abc.things ORDER BY id") == [("late",), ("b",)]


def test_tenants_do_not_touch_each_other(place: Place) -> None:
    outcome(place, record(name="a"), tenant_id="1")
    assert outcome(place, record(name="b"), tenant_id="2") == (1, 0, 0, 0)
    assert place.query("SELECT _tenant_id, name FROM abc.things ORDER BY 1") == [
        ("1", "a"),
        ("2", "b"),
    ]


def test_a_row_belongs_to_the_local_day_of_its_cursor(place: Place) -> None:
    times = [
        "2026-03-08T04:59:59Z",
        "2026-03-08T05:00:00Z",
        "2026-03-09T03:59:59Z",
        "2026-03-09T04:00:00Z",
        None,
    ]
    loaded, _ = place.load([record(id=n, modifiedOn=t) for n, t in enumerate(times)])
    days = [day for (day,) in place.query("SELECT _partition_date FROM abc.things ORDER BY id")]
    assert days == [
        date(2026, 3, 7),
        date(2026, 3, 8),
        date(2026, 3, 8),
        date(2026, 3, 9),
        date(2026, 12, 31),
    ]
    assert loaded.table_rows_by_date[date(2026, 3, 8)] == 2


def test_a_complete_reading_marks_deleted_rows_and_unmarks_rows_that_come_back(
    place: Place,
) -> None:
    whole = {
        "of": endpoint(kind="snapshot", cursor=None, date_filter=None),
        "mode": REPLACE_ALL,
    }
    assert outcome(place, record(id=1), record(id=2), **whole) == (2, 0, 0, 0)
    assert outcome(place, record(id=2), **whole) == (0, 0, 1, 1)
    gone = place.query("SELECT id, _deleted_at FROM abc.things WHERE _deleted_at IS NOT NULL")
    assert gone == [(1, datetime(2026, 6, 1, tzinfo=timezone.utc))]
    assert outcome(place, record(id=1), record(id=2), **whole) == (0, 1, 1, 0)
    assert place.query("SELECT count(*) FROM abc.things WHERE _deleted_at IS NULL") == [(2,)]


def test_records_without_a_key_are_matched_by_content_and_counted(place: Place) -> None:
    bare = {
        "of": endpoint(key=(), kind="snapshot", cursor=None, date_filter=None),
        "mode": REPLACE_ALL,
    }
    same, other = record(), record(name=None)
    assert outcome(place, same, same, other, **bare) == (3, 0, 0, 0)
    assert outcome(place, same, other, same, **bare) == (0, 0, 3, 0)
    assert outcome(place, same, **bare) == (0, 0, 1, 2)
    assert outcome(place, same, same, other, **bare) == (0, 2, 1, 0)


def test_a_day_that_is_read_again_replaces_only_that_day_of_records_without_a_key(
    place: Place,
) -> None:
    daily = {"of": endpoint(key=(), cursor=None, by_day=True), "mode": MergeMode.REPLACE_DAY}
    outcome(place, record(name="a"), default_date=date(2026, 1, 1), **daily)
    outcome(place, record(name="b"), default_date=date(2026, 1, 2), **daily)
    assert outcome(place, record(name="c"), default_date=date(2026, 1, 2), **daily) == (1, 0, 0, 1)
    assert place.query("SELECT name FROM abc.things ORDER BY 1") == [("a",), ("c",)]


def test_records_without_a_key_are_replaced_within_their_window(place: Place) -> None:
    records = [record(id=None, name="a"), record(id=None, name="b"), record(id=3)]
    assert outcome(place, *records) == (3, 0, 0, 0)
    assert outcome(place, *records) == (0, 0, 3, 0)
    assert outcome(place, record(id=None, name="a")) == (0, 0, 1, 1), "b is gone, 3 may have moved"
    elsewhere = {"window_end": datetime(2025, 1, 1, tzinfo=timezone.utc)}
    assert outcome(place, **elsewhere) == (0, 0, 0, 0)
    assert outcome(place) == (0, 0, 0, 1), "also if no record lacks its key any more"


def test_the_table_grows_with_the_catalog_and_keeps_its_rows(place: Place) -> None:
    outcome(place, record())
    item = StructOf((Field("skuId", Scalar("BIGINT")), Field("newField", Scalar("VARCHAR"))))
    grown = tuple(Field("items", ListOf(item)) if f.name == "items" else f for f in FIELDS)
    of = endpoint(columns=(*grown, Field("colorName", Scalar("VARCHAR"))))
    loaded, _ = place.load(
        [record(id=2, colorName="red", items=[{"skuId": 1, "newField": "x"}])], of
    )
    assert set(loaded.added_columns) == {"color_name", "items"}
    rows = place.query(
        "SELECT id, color_name, items[1].sku_id, items[1].new_field FROM abc.things ORDER BY 1"
    )
    assert rows == [(1, None, 7, None), (2, "red", 1, "x")]
    prices = place.query("SELECT items[1].unit_price FROM abc.things WHERE id = 1")
    assert prices[0][0] == 3.5, "a member that the catalog no longer has is kept"


def test_the_load_log_has_a_line_for_each_load(place: Place) -> None:
    place.load([record(), record(id=2)])
    place.load([record()])
    assert place.query(
        "SELECT api, endpoint, tenant_id, rows_read, rows_inserted, rows_unchanged, requests, "
        "run_id FROM _st.loads ORDER BY rows_read DESC"
    ) == [("abc", "things", "1", 2, 2, 0, 1, "a run"), ("abc", "things", "1", 1, 0, 1, 1, "a run")]
    assert place.query("SELECT table_name, kind, key FROM _st.endpoints") == [
        ("abc.things", "window", ["id"])
    ]


def test_an_empty_load_creates_the_table_and_a_line_in_the_load_log(place: Place) -> None:
    assert outcome(place) == (0, 0, 0, 0)
    assert place.query("SELECT count(*) FROM abc.things") == [(0,)]
    assert place.query("SELECT rows_read FROM _st.loads") == [(0,)]


def test_a_failed_load_leaves_rows_and_load_log_as_they_were(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome(place, record())

    def full(*_: object) -> None:
        raise duckdb.IOException("Could not write: No space left on device")

    monkeypatch.setattr("st_pipelines.warehouse.tables.load_log.write_load_record", full)
    with pytest.raises(WarehouseFull, match="no space left"):
        place.load([record(id=2)])
    assert place.query("SELECT count(*) FROM abc.things") == [(1,)]
    assert place.query("SELECT count(*) FROM _st.loads") == [(1,)]


def test_an_interrupt_of_a_duckdb_query_stays_an_interrupt(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome(place, record())

    def work_for_long(load: TableLoad, *_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        load.connection.execute(
            "SELECT count(*) FROM range(100000) a, range(100000) b WHERE a.range * b.range % 7 = 3"
        )

    monkeypatch.setattr("st_pipelines.warehouse.tables.load_log.write_load_record", work_for_long)
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            place.load([record(id=2)])
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert place.query("SELECT count(*) FROM abc.things") == [(1,)]


def hold(file: Path, *, read_only: bool) -> subprocess.Popen[str]:
    code = (
        f"import duckdb, sys; c = duckdb.connect({str(file)!r}, read_only={read_only}); "
        "print('held', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    return process


@pytest.mark.parametrize("read_only", [True, False])
def test_a_file_that_another_process_holds_is_waited_for_and_its_holder_named(
    place: Place, read_only: bool
) -> None:
    outcome(place, record())
    process = hold(place.file, read_only=read_only)
    impatient = DuckDBFile(uri=str(place.file), wait_seconds=0)
    try:
        with (
            duckdb.connect() as connection,
            pytest.raises(WarehouseBusy, match=rf"held by process {process.pid} \("),
            impatient.attach(connection),
        ):
            pass
    finally:
        process.communicate("")
    assert outcome(place, record(id=2)) == (1, 0, 0, 0)


def test_a_file_of_another_program_is_named_and_left_alone(place: Place) -> None:
    place.file.write_text("id,name\n1,Anna\n")
    with pytest.raises(WarehouseUnusable, match=r"test\.duckdb is not a DuckDB database"):
        place.load([record()])
    assert place.file.read_text() == "id,name\n1,Anna\n"


def test_a_folder_in_place_of_the_file_is_named(place: Place) -> None:
    place.file.mkdir()
    with pytest.raises(WarehouseUnusable, match="is a folder"):
        place.load([record()])


def test_a_file_that_cannot_be_written_is_named_with_its_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    place = Place(tmp_path / "file" / "below")
    with pytest.raises((WarehouseUnusable, OSError)):
        place.load([record()])
    with pytest.raises(WarehouseUnusable, match="ST_WAREHOUSE_DIR"):
        place.warehouse.check()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_named_with_its_setting(place: Place) -> None:
    place.folder.chmod(0o500)
    with pytest.raises(WarehouseUnusable, match="ST_WAREHOUSE_DIR"):
        place.warehouse.check()


def test_pages_that_arrive_after_a_refused_one_are_not_lost(place: Place) -> None:
    of, what = endpoint(), place.what()
    pages = [[record(id=n, total="" if n == 5 else "1.00")] for n in range(20)]
    with place.staged(of, what) as (staging, typed):
        for page in pages:
            typed.add(staging.add(json.dumps(page).encode()))
            typed.wait()
        staged = StagedRecords(endpoint=of, spec=what, staging=staging, rows=typed)
        staged.finish()
        loaded = commit_load(staged, place.warehouse, catalog=catalog_of(of), cost=COST)
    assert loaded.counts.inserted == 20
    assert place.query("SELECT id, total, _extra FROM abc.things WHERE total IS NULL") == [
        (5, None, '{"total":""}')
    ]


def test_a_reading_that_starts_over_drops_the_rows_of_the_first_attempt(place: Place) -> None:
    of, what = endpoint(), place.what()
    with place.staged(of, what) as (staging, typed):
        typed.add(staging.add(json.dumps([record(id=1)]).encode()))
        mark = staging.mark()
        typed.add(staging.add(json.dumps([record(id=2)]).encode()))
        staging.return_to(mark)
        typed.clear()
        typed.add(staging.files)
        typed.add(staging.add(json.dumps([record(id=3)]).encode()))
        staged = StagedRecords(endpoint=of, spec=what, staging=staging, rows=typed)
        staged.finish()
        commit_load(staged, place.warehouse, catalog=catalog_of(of), cost=COST)
    assert place.query("SELECT id FROM abc.things ORDER BY id") == [(1,), (3,)]


def test_rows_beyond_the_memory_limit_for_typing_spill_to_disk(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("st_pipelines.warehouse.staging.typed_rows.MEMORY_LIMIT", "60MB")
    of, what, spilled = endpoint(), place.what(), 0
    with place.staged(of, what) as (staging, typed):
        for first in range(10_000, 22_000, 1_000):
            page = [record(id=n, name=f"{n} " + 6_000 * "x") for n in range(first, first + 1_000)]
            typed.add(staging.add(json.dumps(page).encode()))
            typed.wait()
            spilled += sum("duckdb_temp" in file.name for file in staging.folder.iterdir())
        staged = StagedRecords(endpoint=of, spec=what, staging=staging, rows=typed)
        staged.finish()
        commit_load(staged, place.warehouse, catalog=catalog_of(of), cost=COST)
    assert spilled
    assert place.query(
        "SELECT count(*) FROM abc.things WHERE name = id || ' ' || repeat('x', 6000)"
    ) == [(12_000,)]


def test_rows_that_do_not_fit_the_memory_limit_are_typed_without_it(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("st_pipelines.warehouse.staging.typed_rows.MEMORY_LIMIT", "1MB")
    loaded, _ = place.load(record(id=n, name="x" * 1000 + str(n)) for n in range(5_000))
    assert loaded.counts.inserted == 5_000


def test_the_memory_limit_applies_only_to_typing(place: Place) -> None:
    def limit(connection: duckdb.DuckDBPyConnection) -> str:
        return connection.execute("SELECT current_setting('memory_limit')").fetchall()[0][0]

    with duckdb.connect() as connection:
        limit_memory(connection, limit(connection))  # as text, which is rounded
        default = limit(connection)
    with place.staged(endpoint(), place.what()) as (staging, typed):
        typed.add(staging.add(json.dumps([record(id=1)]).encode()))
        typed.wait()
        assert limit(typed.connection) == "381.4 MiB"
        typed.finish()
        assert limit(typed.connection) == default
        with TypedRows(endpoint(), place.what(), staging.folder, name="export_rows", beside=typed):
            assert limit(typed.connection) == default


@pytest.mark.parametrize("name", ["id=77", "name=x", "_extra=1", "a'b [c]*"])
def test_the_name_of_a_folder_never_becomes_data(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    place = Place(tmp_path / name)
    outcome(place, record())
    assert place.query("SELECT id, name, _extra FROM abc.things") == [(1, "Müller", None)]


def test_records_without_a_key_stay_equal_when_their_struct_is_reordered(place: Place) -> None:
    def of(*names: str) -> Endpoint:
        members = StructOf(tuple(Field(name, Scalar("BIGINT")) for name in names))
        return endpoint(key=(), cursor=None, kind="snapshot", columns=(Field("x", members),))

    row = {"x": {"a": 1, "b": 2}}
    assert outcome(place, row, of=of("a", "b"), mode=REPLACE_ALL) == (1, 0, 0, 0)
    assert outcome(place, row, of=of("b", "a"), mode=REPLACE_ALL) == (0, 0, 1, 0)


def test_a_table_without_columns_keeps_its_records_in_extra(place: Place) -> None:
    bare = {
        "of": endpoint(key=(), cursor=None, kind="snapshot", columns=()),
        "mode": REPLACE_ALL,
    }
    assert outcome(place, {"a": 1}, {}, **bare) == (2, 0, 0, 0)
    assert outcome(place, {"a": 1}, {}, **bare) == (0, 0, 2, 0)
    rows = place.query("SELECT _extra FROM abc.things ORDER BY 1 NULLS LAST")
    assert rows == [('{"a":1}',), (None,)]


@pytest.mark.parametrize(
    ("before", "after", "kept", "column"),
    [
        ("BIGINT", "DECIMAL", None, "7.0000000000"),
        ("BIGINT", "VARCHAR", None, "7"),
        ("DOUBLE", "BIGINT", "7.0", "7"),
        ("TIMESTAMPTZ", "DATE", None, "2026-01-02 03:04:05+00:00"),
        ("VARCHAR", "BIGINT", None, "7"),
        ("JSON", "BIGINT", "7", "7"),
    ],
)
def test_a_column_whose_type_changes_loses_no_value(
    place: Place, before: ScalarName, after: ScalarName, kept: str | None, column: str
) -> None:
    def of(type_: ScalarName) -> Endpoint:
        return endpoint(cursor=None, columns=(FIELDS[0], Field("x", Scalar(type_))))

    outcome(place, {"id": 1, "x": "2026-01-02T03:04:05Z" if "TIME" in before else 7}, of=of(before))
    outcome(place, {"id": 2, "x": None}, of=of(after))
    row = place.query(
        f"SELECT {'x' if kept is None else 'x, x_before_1'} FROM abc.things WHERE id=1"
    )
    assert [str(value) for value in row[0]] == [column] + ([] if kept is None else [kept])


def test_days_are_counted_with_the_records_that_lack_a_key(place: Place) -> None:
    records = [record(id=n) for n in range(5)] + [record(id=None, modifiedOn=LATER)]
    loaded, _ = place.load(records)
    assert loaded.table_rows_by_date == {date(2026, 1, 1): 5, date(2026, 1, 4): 1}


def test_days_with_equal_aggregates_have_a_row_each(place: Place) -> None:
    daily = {"of": endpoint(key=(), cursor=None, by_day=True), "mode": MergeMode.REPLACE_DAY}
    for day in (1, 2, 3):
        assert outcome(place, record(), default_date=date(2026, 1, day), **daily) == (1, 0, 0, 0)
    outcome(place, record(name="b"), default_date=date(2026, 1, 1), **daily)
    days = place.query("SELECT name, _partition_date::VARCHAR FROM abc.things ORDER BY 2")
    assert days == [("b", "2026-01-01"), ("Müller", "2026-01-02"), ("Müller", "2026-01-03")]


def test_a_row_without_key_is_marked_only_when_a_reading_of_everything_lacks_it(
    place: Place,
) -> None:
    whole = {"of": endpoint(kind="snapshot", cursor=None), "mode": REPLACE_ALL}
    records = [record(id=None), record(id=3)]
    outcome(place, *records, **whole)
    assert outcome(place, *records, **whole) == (0, 0, 2, 0)
    assert outcome(place, record(id=3), **whole) == (0, 0, 1, 1)
    assert place.query("SELECT id FROM abc.things WHERE _deleted_at IS NULL") == [(3,)]


def test_a_later_read_wins_whatever_the_clock_says(place: Place) -> None:
    """A loader whose clock was ahead once made every later load ignore the table."""
    ahead, right = (datetime(2026, 6, day, tzinfo=timezone.utc) for day in (9, 1))
    whole = {"of": endpoint(kind="snapshot", cursor=None), "mode": REPLACE_ALL}
    outcome(place, record(name="old"), record(id=2), loaded_at=ahead, **whole)
    later = outcome(place, record(name="new"), record(id=3), loaded_at=right, **whole)
    assert later == (1, 1, 0, 1)
    assert outcome(place, record(id=2), loaded_at=right, **whole) == (0, 1, 0, 2), "2 is back"
    daily = {"of": endpoint(key=(), cursor=None, by_day=True, name="daily")}
    daily |= {"mode": MergeMode.REPLACE_DAY, "default_date": date(2026, 1, 1)}
    outcome(place, record(name="a"), loaded_at=ahead, **daily)
    assert outcome(place, record(name="b"), loaded_at=right, **daily) == (1, 0, 0, 1)


@pytest.mark.parametrize(
    "moment",
    [
        "2025-12-01T00:00:00Z",
        None,
        "0001-01-01T00:00:00Z",
        "2026-01-02T03:04:61Z",
        1_773_000_000,
    ],
    ids=["moved back", "null", "no time", "malformed", "a number"],
)
@pytest.mark.parametrize("mode", [MergeMode.UPSERT, REPLACE_ALL])
def test_a_later_read_wins_whatever_the_change_time_says(
    place: Place, moment: object, mode: MergeMode
) -> None:
    """Loads of a window counted such versions as unchanged."""
    outcome(place, record(name="a"))
    later = {"loaded_at": datetime(2026, 6, 2, tzinfo=timezone.utc), "mode": mode}
    version = record(name="b", modifiedOn=moment)
    assert outcome(place, version, **later) == (0, 1, 0, 0)
    assert place.query("SELECT name FROM abc.things") == [("b",)]
    assert outcome(place, version, **later) == (0, 0, 1, 0)


def test_a_file_of_another_environment_is_refused(place: Place) -> None:
    outcome(place, record())
    with pytest.raises(WarehouseUnusable, match="holds the tables of sandbox: integration needs a"):
        outcome(place, record(id=2), environment="integration")
    assert outcome(place, record()) == (0, 0, 1, 0)
