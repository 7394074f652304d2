"""Loads of one table by other versions of this package, and with other catalogs."""

from __future__ import annotations

import dataclasses
import shutil
from datetime import datetime, timezone
from typing import Any

import duckdb
import pytest

from st_pipelines.catalog.model import Export, Field, Scalar
from st_pipelines.warehouse.errors import Overtaken, WarehouseReplaced
from st_pipelines.warehouse.load_spec import MergeMode
from st_pipelines.warehouse.tables import load_log
from st_pipelines.warehouse.tables.load import FollowUp
from st_pipelines.warehouse.tables.table_state import begin_read
from st_pipelines_tests.warehouse.factories import FIELDS, Place, endpoint, record

LATER, LATEST = "2026-01-05T00:00:00Z", "2026-01-09T00:00:00Z"
COLORED = endpoint(columns=(*FIELDS, Field("color", Scalar("VARCHAR"))))
YESTERDAY: dict[str, Any] = {"window_end": datetime(2026, 1, 1, tzinfo=timezone.utc)}
WHOLE: dict[str, Any] = {"window_end": None, "mode": MergeMode.REPLACE_ALL}


def remove_numbers(place: Place) -> None:
    """Turns the file into one that a version without numbers has written."""
    with duckdb.connect(str(place.file)) as connection:
        connection.execute("ALTER TABLE abc.things DROP COLUMN _read_sequence")
        connection.execute("ALTER TABLE _st.loads DROP COLUMN sequence")
        connection.execute("ALTER TABLE _st.feeds DROP COLUMN sequence")
        connection.execute("COMMENT ON TABLE _st.endpoints IS 'of another version'")


def test_a_warehouse_without_numbers_gets_them_with_its_next_load(place: Place) -> None:
    place.load([record(name="a"), record(id=2)])
    remove_numbers(place)
    counts = place.load([record(name="b")], **WHOLE)[0].counts
    assert (counts.updated, counts.deleted) == (1, 1)
    assert place.query("SELECT sequence FROM _st.loads ORDER BY ALL") == [(1,), (None,)]
    assert place.query("SELECT DISTINCT _read_sequence FROM abc.things") == [(1,)]


def test_a_version_without_numbers_cannot_write_into_a_warehouse_with_numbers(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its loads would have no number, so that later ones would not know of them."""
    place.load([record()])
    old = {name: type_ for name, type_ in load_log._LOADS.items() if name != "sequence"}
    places = ", ".join("?" * len(old))
    with duckdb.connect(str(place.file)) as connection, pytest.raises(duckdb.BinderException):
        connection.execute(f"INSERT INTO _st.loads VALUES ({places})", [None] * len(old))


def test_a_column_that_the_catalog_does_not_know_keeps_no_older_value(place: Place) -> None:
    """A host with an older catalog left the old color beside the new one in `_extra`."""
    place.load([record(color="red")], COLORED)
    place.load([record(color="blue", modifiedOn=LATER)])
    colors = "SELECT color, _extra FROM abc.things"
    assert place.query(colors) == [(None, '{"color":"blue"}')]
    place.load([record(color="blue", modifiedOn=LATER)], COLORED)
    assert place.query(colors) == [("blue", None)]
    place.load([], COLORED, **WHOLE)
    place.load([record(color="green", modifiedOn=LATER)], **WHOLE)
    assert place.query(f"{colors} WHERE _deleted_at IS NULL") == [(None, '{"color":"green"}')]


def test_history_keeps_no_older_value_of_an_unknown_column_either(place: Place) -> None:
    place.load([record(color="red")], COLORED, history=True)
    place.load([record(color="blue", modifiedOn=LATER)], history=True)
    found = place.query("SELECT color, _extra FROM history.abc_things ORDER BY valid_from")
    assert found == [("red", None), (None, '{"color":"blue"}')]


@pytest.mark.parametrize("ahead", ["9999-12-31T23:59:59Z", "2026-06-01T02:00:00Z"])
def test_a_change_time_that_has_not_come_yet_hides_no_later_read(place: Place, ahead: str) -> None:
    """One record from a clock that was ahead kept its first version until the next full read."""
    name = "SELECT name, modified_on < '2026-02-01' FROM abc.things"
    place.load([record(name="ahead", modifiedOn=ahead)])
    assert place.load([record(name="now", modifiedOn=LATEST)])[0].counts.updated == 1
    assert place.query(name) == [("now", True)]
    place.load([record(name="older", modifiedOn=LATER)], sequence=2)
    assert place.query(name) == [("now", True)]


@pytest.mark.parametrize(("sequence", "name"), [(2, "now"), (1, "ahead")])
def test_a_change_time_that_has_not_come_yet_hides_no_later_feed(
    place: Place, sequence: int, name: str
) -> None:
    """A feed that was read before the row was committed tells nothing of it."""
    of = endpoint(export=Export(path="/export"))
    place.load([record(name="ahead", modifiedOn="9999-12-31T23:59:59Z")], of)
    fed = [record(name="now", modifiedOn=LATEST)]
    place.load_with_feed([], fed, of, sequence=sequence, **YESTERDAY)
    assert place.query("SELECT name FROM abc.things") == [(name,)]


def test_a_change_time_a_little_ahead_is_a_change_time(place: Place) -> None:
    """ServiceTitan's clock may be ahead of ours; the feed may serve an older version later."""
    of = endpoint(export=Export(path="/export"))
    place.load([record(name="newer", modifiedOn="2026-06-01T00:50:00Z")], of)
    place.load_with_feed([], [record(name="older", modifiedOn=LATEST)], of, **YESTERDAY)
    assert place.query("SELECT name FROM abc.things") == [("newer",)]


def test_an_overtaken_load_writes_nothing_and_says_what_to_do(place: Place) -> None:
    place.load([record(name="a")])
    place.load([record(name="newer")])
    with pytest.raises(Overtaken, match=r"abc\.things: .* 2 rows .* Load it again") as caught:
        place.load([record(name="older"), record(id=2)], sequence=2)
    assert not caught.value.permanent
    assert place.query("SELECT id, name FROM abc.things") == [(1, "newer")]
    assert place.query("SELECT count(*) FROM _st.loads") == [(2,)]


def test_a_row_is_not_inserted_where_a_later_load_has_not_seen_it(place: Place) -> None:
    day: dict[str, Any] = {"window_start": datetime(2026, 1, 1, tzinfo=timezone.utc)}
    day["window_end"] = datetime(2026, 1, 3, tzinfo=timezone.utc)
    place.load([], **day)
    with pytest.raises(Overtaken):
        place.load([record()], sequence=1)
    counts = place.load([record(modifiedOn=LATEST)], sequence=1)[0].counts
    assert counts.inserted == 1, "the other load did not read that day"


def test_a_row_is_not_inserted_where_one_of_several_later_loads_has_not_seen_it(
    place: Place,
) -> None:
    for first, last in ((1, 3), (8, 10)):
        start, end = (datetime(2026, 1, day, tzinfo=timezone.utc) for day in (first, last))
        place.load([], window_start=start, window_end=end)
    for moment in (record()["modifiedOn"], LATEST):
        with pytest.raises(Overtaken):
            place.load([record(modifiedOn=moment)], sequence=1)
    assert place.load([record(modifiedOn=LATER)], sequence=1)[0].counts.inserted == 1


def test_a_read_that_lacks_a_row_contradicts_a_later_load_that_saw_it(place: Place) -> None:
    """Unless the row is marked as deleted, or newer than everything that was read."""
    place.load([record(id=1)])
    place.load([record(id=1), record(id=2)])
    with pytest.raises(Overtaken, match=" 1 rows "):
        place.load([record(id=1)], sequence=2)
    place.load([record(id=1)], **WHOLE)
    place.load([record(id=1)], sequence=3)
    place.load([record(id=1), record(id=3, modifiedOn=LATER)])
    place.load([record(id=1)], sequence=5)
    live = "SELECT id FROM abc.things WHERE _deleted_at IS NULL ORDER BY id"
    assert place.query(live) == [(1,), (3,)]


def test_a_lookup_contradicts_a_later_load_that_saw_the_row(place: Place) -> None:
    records, gone = [record(id=1), record(id=2)], FollowUp(deleted_ids=frozenset({2}))
    place.load(records)
    place.load(records)
    with pytest.raises(Overtaken, match=" 1 rows "):
        place.load([], sequence=2, follow_up=gone, **YESTERDAY)
    place.load(records[:1], **WHOLE)
    counts = place.load([], sequence=3, follow_up=gone, **YESTERDAY)[0].counts
    assert counts.deleted == 0, "the later load has marked it already"


def test_a_record_that_changed_during_a_full_read_keeps_its_newer_version(place: Place) -> None:
    place.load([record(name="a")])
    place.load([record(name="newer", modifiedOn=LATER)])
    counts = place.load([record(name="a")], sequence=2, **WHOLE)[0].counts
    assert counts.unchanged == 1
    assert place.query("SELECT name FROM abc.things") == [("newer",)]


def test_a_feed_contradicts_a_later_load_only_with_what_it_would_change(place: Place) -> None:
    """Rows that a later load has marked, changed, or left as they are, by an earlier read."""
    of = endpoint(export=Export(path="/export", adds=("active",)))
    listed = [record(id=id_, active=None) for id_ in (1, 2)]
    fed = [record(id=id_) for id_ in (1, 2)]
    place.load_with_feed(listed, fed, of)
    place.load_with_feed(listed[1:], fed[1:], of, **WHOLE)
    state = "SELECT id, active, name, _deleted_at IS NULL FROM abc.things ORDER BY id"
    before = place.query(state)
    assert before == [(1, True, "Müller", False), (2, True, "Müller", True)]
    place.load_with_feed([], fed, of, sequence=2, **YESTERDAY)
    assert place.query(state) == before
    for newer in (record(id=1, modifiedOn=LATER), record(id=2, active=False)):
        with pytest.raises(Overtaken):
            place.load_with_feed([], [newer], of, sequence=2, **YESTERDAY)
    assert place.query(state) == before
    newest = record(id=2, active=False, modifiedOn=LATER)
    place.load_with_feed([], [newest], of, sequence=2, **YESTERDAY)
    assert place.query(state)[1] == (2, False, "Müller", True), "newer than what the load saw"


def test_a_feed_inserts_no_row_where_a_later_load_has_not_seen_it(place: Place) -> None:
    """The record was deleted after the feed was read and before the other load read the list."""
    of = endpoint(export=Export(path="/export", adds=("active",)))
    place.load([], of, **WHOLE)
    with pytest.raises(Overtaken):
        place.load_with_feed([], [record()], of, sequence=1, **YESTERDAY)
    counts = place.load_with_feed([], [record()], of, sequence=2, **YESTERDAY).counts
    assert counts.inserted == 1, "no load has committed since"


def test_a_feed_inserts_no_row_where_a_load_of_another_window_has_not_seen_it(
    place: Place,
) -> None:
    of = endpoint(export=Export(path="/export", adds=("active",)))
    start, end = (datetime(2026, 1, day, tzinfo=timezone.utc) for day in (2, 3))
    place.load([], of, window_start=start, window_end=end)
    with pytest.raises(Overtaken):
        place.load_with_feed([], [record()], of, sequence=1, **YESTERDAY)


def test_a_row_that_a_later_load_saw_in_its_feed_contradicts_a_lookup(place: Place) -> None:
    """The feed served the version that the table had, and left no trace of it."""
    of = endpoint(export=Export(path="/export"))
    gone = FollowUp(deleted_ids=frozenset({1}))
    place.load([record()], of)
    place.load_with_feed([], [record(active=False)], of, **YESTERDAY)
    place.load_with_feed([], [record()], of, **YESTERDAY)
    with pytest.raises(Overtaken):
        place.load([], of, sequence=3, follow_up=gone, **YESTERDAY)
    assert place.load([], of, follow_up=gone, **YESTERDAY)[0].counts.deleted == 1
    place.load_with_feed([], [record()], of, **YESTERDAY)
    live = "SELECT count(*) FROM abc.things WHERE _deleted_at IS NULL"
    assert place.query(live) == [(0,)], "feeds may serve deleted records"


def test_a_recent_change_keeps_a_row_only_if_the_table_had_not_seen_it(place: Place) -> None:
    """A feed that serves deleted records kept what had changed within the last hour."""
    of = endpoint(export=Export(path="/export"))
    recent, latest = "2026-05-31T23:50:00Z", "2026-06-01T00:00:01Z"
    known = [record(id=id_, modifiedOn=recent) for id_ in (1, 2, 3)]
    place.load_with_feed(known, known, of)
    moved = [known[1], record(id=3, modifiedOn=latest), record(id=4, modifiedOn=latest)]
    place.load_with_feed(known[:1], [known[0], *moved], of, **WHOLE)
    found = place.query("SELECT id FROM abc.things WHERE _deleted_at IS NULL ORDER BY id")
    assert found == [(1,), (3,), (4,)]


def test_the_bookmark_of_an_overtaken_read_is_not_stored(place: Place) -> None:
    of = endpoint(export=Export(path="/export"))
    place.load([record()], of)
    what = place.what(sequence=1)
    with duckdb.connect() as connection, place.warehouse.attach(connection):
        for number, token in ((3, "new"), (4, "old")):
            spec = dataclasses.replace(what, sequence=number if token == "new" else 2)
            load = load_log.TableLoad(connection, of, spec, number=number)
            load_log.write_bookmark(
                load,
                load_log.ExportBookmark(since=None, continue_from=token, loaded_at=spec.loaded_at),
            )
    assert place.query("SELECT continue_from, sequence FROM _st.feeds") == [("new", 3)]


@pytest.mark.parametrize("loads_since", [0, 1, 2])
def test_a_load_does_not_follow_a_load_that_the_warehouse_has_lost(
    place: Place, loads_since: int
) -> None:
    """Its bookmark would skip what only the lost file had; the number alone may fit again."""
    copy = place.file.with_suffix(".copy")
    place.load([record(id=1)])
    shutil.copy(place.file, copy)
    place.load([record(id=2)], run_id="lost")
    start = begin_read(place.warehouse, endpoint(), place.what())
    shutil.copy(copy, place.file)
    for number in range(loads_since):
        place.load([record(id=3 + number)])
    with pytest.raises(WarehouseReplaced, match="replaced by an older copy"):
        place.load([record(id=9)], sequence=start.sequence, follows=start.follows)
    assert place.query("SELECT count(*) FROM abc.things") == [(1 + loads_since,)]
