"""Hosts with several editions of the catalog load one table, and no value leaves its column."""

from __future__ import annotations

import json
import shutil
from typing import Any

import pytest

from st_pipelines.catalog.model import DataType, Endpoint, Export, Field, ListOf, Scalar, StructOf
from st_pipelines.warehouse.store import scratch
from st_pipelines_tests.warehouse.factories import FIELDS, Place, endpoint

TEXT, NUMBER, FLOAT, MOMENT = (Scalar(t) for t in ("VARCHAR", "BIGINT", "DOUBLE", "TIMESTAMPTZ"))


def of(type_: DataType, **changes: Any) -> Endpoint:
    return endpoint(cursor=None, columns=(FIELDS[0], Field("poNumber", type_)), **changes)


def load(place: Place, type_: DataType, id_: int, value: Any, **changes: Any) -> tuple[int, ...]:
    counts = place.load([{"id": id_, "poNumber": value}], of(type_), **changes)[0].counts
    return counts.inserted, counts.updated, counts.unchanged


def rows(place: Place) -> list[tuple]:
    return place.query("SELECT id, po_number, _extra FROM abc.things ORDER BY id")


def columns(place: Place) -> list[str]:
    found = place.query("DESCRIBE abc.things")
    return [row[0] for row in found if row[0].startswith("po_number")]


def test_editions_in_turns_share_the_type_that_holds_both(place: Place) -> None:
    """The column was emptied each time, and the days that were not loaded stayed complete."""
    load(place, TEXT, 1, "A-7")
    load(place, NUMBER, 2, 12)
    load(place, TEXT, 3, "13")
    assert load(place, NUMBER, 2, 12) == (0, 0, 1)
    assert load(place, TEXT, 2, "12") == (0, 0, 1)
    assert rows(place) == [(1, "A-7", None), (2, "12", None), (3, "13", None)]
    assert columns(place) == ["po_number"]


def test_a_member_of_a_struct_has_the_type_that_holds_both(place: Place) -> None:
    lists = [ListOf(StructOf((Field("orderId", type_),))) for type_ in (NUMBER, TEXT)]
    load(place, lists[0], 1, [{"orderId": 7}])
    load(place, lists[1], 2, [{"orderId": "A-7"}])
    load(place, lists[0], 3, [{"orderId": 8}])
    found = [row[1] for row in rows(place)]
    assert found == [[{"order_id": "7"}], [{"order_id": "A-7"}], [{"order_id": "8"}]]


def test_a_new_column_is_filled_with_what_fits_it(place: Place) -> None:
    load(place, FLOAT, 1, 7)
    load(place, FLOAT, 2, 7.5)
    load(place, NUMBER, 3, 8)
    assert rows(place) == [(1, 7, None), (2, None, '{"poNumber":7.5}'), (3, 8, None)]
    assert columns(place) == ["po_number_before_1", "po_number"]


def test_a_value_that_does_not_fit_is_kept_although_another_value_has_its_name(
    place: Place,
) -> None:
    """A member of an unknown object was taken for it, and the value was lost."""
    other = {"other": {"poNumber": 1}}
    place.load([{"id": 1, "poNumber": 7.5, **other}], of(FLOAT))
    load(place, NUMBER, 2, 8)
    place.load([{"id": 3, "poNumber": 8.5, **other}], of(FLOAT))
    extra = [json.loads(row[2] or "{}") for row in rows(place)]
    assert extra == [{"poNumber": 7.5, **other}, {}, {"poNumber": 8.5, **other}]


def test_a_number_with_more_digits_than_its_column_stays_exact_when_it_is_set_aside(
    place: Place,
) -> None:
    """The column has it rounded, and `_extra` as it was served."""
    load(place, Scalar("DECIMAL"), 1, "1.12345678901234")
    load(place, Scalar("DATE"), 2, "2026-01-02")
    assert rows(place)[0] == (1, None, '{"poNumber":"1.12345678901234"}')


def test_the_database_of_a_load_with_other_types_is_kept_for_the_next_load(place: Place) -> None:
    load(place, TEXT, 1, "A-7")
    scratch._close_pool()
    load(place, NUMBER, 2, 12)
    assert len(scratch._pool) == 1


def test_an_older_edition_does_not_set_the_newer_column_aside(place: Place) -> None:
    load(place, FLOAT, 1, 7)
    for number in (2, 4):
        load(place, NUMBER, number, number)
        load(place, FLOAT, number + 1, number + 1.5)
    load(place, FLOAT, 6, 6)
    assert columns(place) == ["po_number_before_1", "po_number"]
    assert [row[1] for row in rows(place)] == [7, 2, None, 4, None, 6]
    assert [row[2] for row in rows(place)][2] == '{"poNumber":3.5}'
    assert load(place, FLOAT, 3, 3.5) == (0, 0, 1)


def test_rows_before_and_after_a_column_becomes_text_have_the_same_text(place: Place) -> None:
    """Those before had strings in quotes, and decimals with ten places."""
    for type_, values in ((Scalar("JSON"), ("x", {"a": 1}, 7)), (Scalar("DECIMAL"), (12.5,))):
        shutil.rmtree(place.folder)
        place.folder.mkdir()
        for number, value in enumerate(values):
            load(place, type_, number, value)
        load(place, TEXT, 9, "y")
        before = [row[1:] for row in rows(place)]
        for number, value in enumerate(values):
            load(place, type_, 10 + number, value)
        assert [row[1:] for row in rows(place)] == before + before[:-1]


@pytest.mark.parametrize("name", ["größe", "it's"])
def test_a_value_in_extra_is_under_the_name_that_was_served(place: Place, name: str) -> None:
    for type_, value in ((FLOAT, 7.5), (NUMBER, 7)):
        columns = (FIELDS[0], Field(name, type_))
        place.load([{"id": int(2 * value), name: value}], endpoint(cursor=None, columns=columns))
    [extra] = place.query("SELECT _extra FROM abc.things WHERE _extra IS NOT NULL")[0]
    assert extra == f'{{"{name}":7.5}}'


def test_times_that_were_text_become_times(place: Place) -> None:
    load(place, TEXT, 1, "2026-01-02T03:04:05Z")
    load(place, TEXT, 2, "soon")
    load(place, MOMENT, 3, "2026-01-03T00:00:00Z")
    found = rows(place)
    assert [row[2] for row in found] == [None, '{"poNumber":"soon"}', None]
    assert [f"{row[1]:%d %H}" if row[1] else None for row in found] == ["02 03", None, "03 00"]


def test_a_row_of_the_feed_whose_value_does_not_fit_the_table_keeps_it(place: Place) -> None:
    """It was rounded where the rows of the feed were not converted."""
    load(place, FLOAT, 1, 7)
    load(place, NUMBER, 2, 8)
    exported = of(FLOAT, export=Export(path="/export"))
    place.load_with_feed([], [{"id": 3, "poNumber": 8.5}], exported)
    assert rows(place)[2] == (3, None, '{"(export)":{"poNumber":8.5}}')


def test_records_without_a_key_are_equal_in_every_edition(place: Place) -> None:
    for type_, value in ((TEXT, "A"), (TEXT, "7"), (NUMBER, 7)):
        place.load([{"id": None, "poNumber": value}], of(type_, key=()))
    assert len(rows(place)) == 2


@pytest.mark.parametrize("history", [True, False])
def test_the_kept_versions_share_the_types_too(place: Place, history: bool) -> None:
    load(place, TEXT, 1, "A-7", history=history)
    load(place, NUMBER, 1, 8, history=True)
    load(place, TEXT, 1, "8", history=True)
    found = place.query("SELECT po_number FROM history.abc_things ORDER BY valid_from, valid_to")
    assert [row[0] for row in found] == (["A-7", "8"] if history else ["8"])
