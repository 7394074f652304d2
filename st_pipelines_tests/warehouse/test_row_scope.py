"""Which rows of a table a load compares with its reading, and which it leaves alone."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime, timezone
from typing import Any

import pytest

from st_pipelines.catalog.model import Endpoint, Export
from st_pipelines.warehouse.errors import WarehouseUnusable
from st_pipelines.warehouse.load_spec import MergeMode
from st_pipelines.warehouse.store.duckdb_file import DuckDBFile
from st_pipelines.warehouse.tables.load_log import ExportBookmark
from st_pipelines.warehouse.tables.staged_records import StagedRecords
from st_pipelines.warehouse.tables.table_state import (
    ReadStart,
    TableState,
    begin_read,
    read_table_state,
)
from st_pipelines.windows import Window
from st_pipelines_tests.warehouse.factories import FIELDS, Place, endpoint, record

LISTED = endpoint(ids=True)
DAY: dict[str, Any] = {
    "window_start": datetime(2026, 1, 2, tzinfo=timezone.utc),
    "window_end": datetime(2026, 1, 3, tzinfo=timezone.utc),
}
BEFORE, AT_START, WITHIN, AT_END = (
    "2026-01-01T23:59:59.999999Z",
    "2026-01-02T00:00:00Z",
    "2026-01-02T12:00:00Z",
    "2026-01-03T00:00:00Z",
)
MOMENTS = (BEFORE, AT_START, WITHIN, AT_END)


def look(
    place: Place, records: Iterable[dict[str, Any]], of: Endpoint = LISTED, **changes: Any
) -> TableState:
    """Compares a reading with the table and loads nothing."""
    what = place.what(**changes)
    with place.staged(of, what) as (staging, typed):
        typed.add(staging.add(json.dumps(list(records)).encode()))
        staged = StagedRecords(endpoint=of, spec=what, staging=staging, rows=typed)
        staged.finish()
        return read_table_state(staged, place.warehouse)


def at(moment: str, *ids: int) -> list[dict[str, Any]]:
    return [record(id=id_, modifiedOn=moment) for id_ in ids]


def test_a_window_replaces_only_its_own_rows_without_a_key(place: Place) -> None:
    """From its start, which belongs to it, to its end, which does not."""
    of = endpoint(key=())
    place.load([record(name=moment, modifiedOn=moment) for moment in MOMENTS], of)
    loaded, _ = place.load([], of, mode=MergeMode.REPLACE_SCOPE, **DAY)
    assert loaded.counts.deleted == 2
    kept = place.query("SELECT name FROM abc.things WHERE _deleted_at IS NULL ORDER BY name")
    assert kept == [(BEFORE,), (AT_END,)]


def test_a_window_lacks_only_its_own_rows(place: Place) -> None:
    place.load([record(id=id_, modifiedOn=moment) for id_, moment in enumerate(MOMENTS)])
    state = look(place, [], **DAY)
    assert [part.ids for part in state.missing] == [(1, 2)]
    assert state.live == 2
    open_start = look(place, [], window_end=DAY["window_end"])
    assert [part.ids for part in open_start.missing] == [(0, 1, 2)]


def test_rows_that_are_deleted_or_of_another_tenant_are_not_missing(place: Place) -> None:
    place.load(at(WITHIN, 1, 2))
    place.load(at(WITHIN, 2), mode=MergeMode.REPLACE_ALL, window_end=None)
    place.load(at(WITHIN, 3), tenant_id="2")
    state = look(place, [], **DAY)
    assert ([part.ids for part in state.missing], state.live) == ([(2,)], 1)


def test_nothing_is_missing_where_there_is_no_table(place: Place) -> None:
    assert look(place, at(WITHIN, 1)) == TableState()
    place.load([], endpoint(name="others"))
    assert look(place, at(WITHIN, 1)) == TableState()


def test_ids_on_both_sides_need_none_of_other_days(place: Place) -> None:
    place.load([*at(BEFORE, 10, 40, 90), *at(WITHIN, 20, 30, 50, 60, 70)])
    [part] = look(place, at(WITHIN, 20, 70, 15, 80), **DAY).missing  # 15 and 80 are new
    assert (part.ids, part.served, part.elsewhere) == ((30, 50, 60), (20, 70), ())


@pytest.mark.parametrize(
    ("read", "missing", "elsewhere"),
    [
        ((20, 30, 50), (60, 70), (10, 40, 90)),
        ((50, 60, 70), (20, 30), (10, 40, 90)),
        ((), (20, 30, 50, 60, 70), (10, 40, 90)),
        ((30,), (20, 50, 60, 70), (10, 40, 90)),
    ],
    ids=["none above", "none below", "none at all", "one between"],
)
def test_a_side_without_ids_takes_some_of_other_days(
    place: Place, read: tuple[int, ...], missing: tuple[int, ...], elsewhere: tuple[int, ...]
) -> None:
    """Those around what is missing, and between: they show how many ids a lookup serves."""
    place.load([*at(BEFORE, 10, 40, 90), *at(WITHIN, 20, 30, 50, 60, 70)])
    [part] = look(place, at(WITHIN, *read), **DAY).missing
    assert (part.ids, part.served, part.elsewhere) == (missing, read, elsewhere)


def test_ids_of_other_days_are_the_nearest_ones_that_may_exist(place: Place) -> None:
    """Not those that are marked as deleted, of another tenant, or of the reading itself."""
    place.load([*at(BEFORE, *range(100), *range(300, 400), 98, 301), *at(WITHIN, 200)])
    place.load(
        [*at(BEFORE, *range(99), *range(301, 400)), *at(WITHIN, 200)],
        mode=MergeMode.REPLACE_ALL,
        window_end=None,
    )  # 99 and 300 are gone
    place.load(at(BEFORE, 199, 201), tenant_id="2")
    [part] = look(place, at(WITHIN, 98), **DAY).missing
    assert part.ids == (200,)
    assert part.elsewhere == (*range(74, 98), *range(301, 325))


def test_ids_that_were_read_show_the_first_and_the_last_of_many(place: Place) -> None:
    place.load(at(WITHIN, *range(2_500), 9_000))
    [part] = look(place, at(WITHIN, *range(2_500)), **DAY).missing
    assert part.ids == (9_000,)
    assert (part.served[0], part.served[-1]) == (0, 2_499)
    assert 1_000 <= len(part.served) <= 1_500


def test_a_feed_that_shows_inactive_records_gets_controls_though_nothing_is_missing(
    place: Place,
) -> None:
    of = endpoint(ids=True, export=Export(path="/export"))
    place.load([*at(BEFORE, 10, 40, 90), *at(WITHIN, 20, 30)], of)
    [part] = look(place, at(WITHIN, 20, 30), of, **DAY).missing
    assert (part.ids, part.served) == ((), (20, 30))
    assert part.elsewhere == (10, 40, 90), "too few were read to surround any id"
    whole = {"mode": MergeMode.REPLACE_ALL, "window_end": None}
    everything = [*at(BEFORE, 10, 40, 90), *at(WITHIN, 20, 30)]
    assert look(place, everything, of, **whole).missing == ()


def test_the_bookmark_of_the_feed_is_read_with_the_state(place: Place) -> None:
    of = endpoint(export=Export(path="/export"), columns=FIELDS)
    bookmark = ExportBookmark(
        since=DAY["window_start"], continue_from="token", loaded_at=DAY["window_end"]
    )
    place.load_with_feed(at(WITHIN, 1), [], of, bookmark=bookmark)
    place.load_with_feed(
        [],
        [],
        of,
        bookmark=ExportBookmark(since=None, continue_from="x", loaded_at=DAY["window_end"]),
        tenant_id="2",
    )
    assert look(place, [], of).bookmark == bookmark
    assert look(place, [], endpoint(export=Export(path="/export"), ids=True)).bookmark == bookmark
    assert look(place, [], LISTED).bookmark is None


def test_a_read_does_not_begin_where_its_rows_cannot_be_written(place: Place) -> None:
    """The reading of a whole history would be lost."""
    store = DuckDBFile(uri=str(place.folder / "what?" / "test.duckdb"))
    with pytest.raises(WarehouseUnusable, match="question mark"):
        begin_read(store, LISTED, place.what())


def test_a_read_knows_the_loads_of_its_table_and_tenant(place: Place) -> None:
    later = datetime(2027, 2, 1, tzinfo=timezone.utc)
    what = place.what(loaded_at=later)
    assert begin_read(place.warehouse, LISTED, what) == ReadStart(sequence=1)
    for _ in range(3):
        place.load([], loaded_at=later)
    place.load([], endpoint(name="others"))
    start = begin_read(place.warehouse, LISTED, what)
    assert start.sequence == 4
    assert start.coverage.windows == (Window(start=None, end=what.window_end),)
    assert start.identity is not None
    assert begin_read(place.warehouse, endpoint(name="others"), what).sequence == 2
    snapshot = endpoint(kind="snapshot", cursor=None, date_filter=None)
    assert begin_read(place.warehouse, snapshot, what).coverage.windows == ()
    other = begin_read(place.warehouse, LISTED, place.what(tenant_id="2"))
    assert (other.sequence, other.coverage.windows, other.identity) == (1, (), None)
