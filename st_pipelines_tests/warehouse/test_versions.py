"""`history.<table>` has each version that a load saw, with the time in which it was valid."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from st_pipelines.warehouse.load_spec import MergeMode
from st_pipelines_tests.warehouse.factories import Place, endpoint, record

FIRST, SECOND = (datetime(2026, 1, day, 12, tzinfo=timezone.utc) for day in (2, 3))
NOON = datetime(2026, 6, 1, 12, tzinfo=timezone.utc)
KEPT: dict[str, Any] = {"history": True}
WHOLE: dict[str, Any] = {"mode": MergeMode.REPLACE_ALL, "window_end": None, "history": True}


def version(id_: int, name: str, changed: datetime = FIRST) -> dict[str, Any]:
    return record(id=id_, name=name, modifiedOn=changed.isoformat())


def versions(place: Place, id_: int = 1) -> list[tuple]:
    return place.query(
        "SELECT name, valid_from, valid_to FROM history.abc_things "
        f"WHERE id = {id_} ORDER BY valid_from, valid_to"
    )


def test_a_deleted_row_was_valid_until_the_load_that_missed_it(place: Place) -> None:
    place.load([version(1, "a"), version(2, "b")], **KEPT)
    place.load([version(2, "b")], loaded_at=NOON, **WHOLE)
    assert versions(place) == [("a", FIRST, NOON)]
    assert versions(place, 2) == [("b", FIRST, None)], "it goes on"
    place.load([version(2, "b")], loaded_at=NOON + timedelta(hours=1), **WHOLE)
    assert versions(place) == [("a", FIRST, NOON)]


def test_a_clock_that_is_behind_ends_no_version_before_its_beginning(place: Place) -> None:
    place.load([version(1, "a"), version(2, "b")], **KEPT)
    place.load([version(2, "b")], loaded_at=FIRST - timedelta(days=1), **WHOLE)
    assert versions(place) == [("a", FIRST, FIRST)]


def test_a_row_that_comes_back_is_valid_from_then_on(place: Place) -> None:
    later = NOON + timedelta(hours=1)
    place.load([version(1, "a"), version(2, "b")], **KEPT)
    place.load([version(2, "b")], loaded_at=NOON, **WHOLE)
    place.load([version(1, "a"), version(2, "b")], loaded_at=later, **WHOLE)
    assert versions(place) == [("a", FIRST, NOON), ("a", later, None)]


def test_loads_at_the_same_moment_keep_a_version_each(place: Place) -> None:
    """The clock has only so many digits, and may stand still or be set back."""
    place.load([version(1, "a")], loaded_at=NOON, **KEPT)
    place.load([version(1, "b", SECOND)], loaded_at=NOON, **KEPT)
    assert versions(place) == [("a", FIRST, SECOND), ("b", SECOND, None)]


def test_a_change_while_history_was_off_is_kept_by_the_next_load_of_any_other_row(
    place: Place,
) -> None:
    place.load([version(1, "a"), version(2, "b")], **KEPT)
    later = NOON + timedelta(hours=1)
    place.load([version(1, "meanwhile", SECOND), version(3, "new")], loaded_at=later)
    place.load([version(2, "b")], loaded_at=later + timedelta(hours=1), **KEPT)
    assert versions(place) == [("a", FIRST, SECOND), ("meanwhile", SECOND, None)]
    assert versions(place, 3) == [("new", FIRST, None)]


def test_a_deletion_while_history_was_off_ends_the_version(place: Place) -> None:
    place.load([version(1, "a"), version(2, "b")], **KEPT)
    place.load([version(2, "b")], loaded_at=NOON, **(WHOLE | {"history": False}))
    assert versions(place) == [("a", FIRST, None)]
    place.load([version(2, "b")], loaded_at=NOON + timedelta(days=1), **KEPT)
    assert versions(place) == [("a", FIRST, NOON)]


def test_history_that_is_turned_on_later_begins_with_what_is_live_then(place: Place) -> None:
    place.load([version(1, "a"), version(2, "b"), record(id=None)])
    place.load([version(2, "b")], loaded_at=NOON, **(WHOLE | {"history": False}))
    place.load([version(3, "c")], **KEPT)
    assert place.query("SELECT id, valid_to FROM history.abc_things ORDER BY id") == [
        (2, None),
        (3, None),
    ]


def test_a_version_without_a_change_time_begins_with_its_load(place: Place) -> None:
    of = endpoint(cursor=None, date_filter=None)
    later, last = NOON + timedelta(hours=1), NOON + timedelta(hours=2)
    place.load([record(name="a")], of, loaded_at=NOON, **WHOLE)
    place.load([record(name="b")], of, loaded_at=later, **WHOLE)
    place.load([record(name="c")], of, loaded_at=NOON - timedelta(days=1), **WHOLE)
    place.load([record(name="d")], of, loaded_at=last, **WHOLE)
    assert versions(place) == [
        ("a", NOON, later),
        ("b", later, later),
        ("c", later, last),
        ("d", last, None),
    ], "a clock that was set back does not put versions before earlier ones"


def test_each_tenant_has_versions_of_its_own(place: Place) -> None:
    place.load([version(1, "a")], tenant_id="1", **KEPT)
    place.load([version(1, "x")], tenant_id="2", **KEPT)
    place.load([version(1, "b", SECOND)], tenant_id="1", **KEPT)
    found = place.query(
        "SELECT _tenant_id, name, valid_to FROM history.abc_things ORDER BY _tenant_id, valid_from"
    )
    assert found == [("1", "a", SECOND), ("1", "b", None), ("2", "x", None)]


def test_the_same_content_again_is_no_new_version(place: Place) -> None:
    place.load([version(1, "a"), version(2, "b")], loaded_at=NOON, **KEPT)
    place.load([version(1, "b", SECOND)], loaded_at=NOON + timedelta(hours=1), **KEPT)
    before = place.query("FROM history.abc_things ORDER BY ALL")
    again = [version(1, "b", SECOND), version(2, "b")]
    place.load(again, loaded_at=NOON + timedelta(hours=2), **KEPT)
    assert place.query("FROM history.abc_things ORDER BY ALL") == before


def test_a_change_time_that_has_not_come_yet_begins_no_version(place: Place) -> None:
    """Every later version began at that time too, so the oldest one was valid for ever."""
    never = datetime(9999, 12, 31, tzinfo=timezone.utc)
    times = [NOON + timedelta(days=day) for day in range(4)]
    place.load([version(1, "a")], loaded_at=times[0], **KEPT)
    place.load([version(1, "b", never)], loaded_at=times[1], **KEPT)
    place.load([version(1, "c", times[2])], loaded_at=times[2], **WHOLE)
    place.load([version(1, "d", times[3])], loaded_at=times[3], **KEPT)
    assert versions(place) == [
        ("a", FIRST, times[1]),
        ("b", times[1], times[2]),
        ("c", times[2], times[3]),
        ("d", times[3], None),
    ]
    place.load([version(2, "first", never)], loaded_at=times[3], **KEPT)
    assert versions(place, 2) == [("first", times[3], None)]


def test_history_that_begins_with_a_change_time_in_the_future_begins_with_its_load(
    place: Place,
) -> None:
    place.load([version(1, "a", datetime(9999, 12, 31, tzinfo=timezone.utc))], loaded_at=NOON)
    place.load([version(2, "b")], loaded_at=NOON, **KEPT)
    assert versions(place) == [("a", NOON, None)]


def test_a_clock_that_is_behind_the_servers_takes_no_change_time_for_the_future(
    place: Place,
) -> None:
    behind = {"loaded_at": FIRST - timedelta(days=9), "server_time": NOON}
    place.load([version(1, "a")], **behind, **KEPT)
    place.load([version(1, "b", SECOND)], **behind, **KEPT)
    assert versions(place) == [("a", FIRST, SECOND), ("b", SECOND, None)]
