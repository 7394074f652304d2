"""Values that are known to mean nothing are NULL, kept in `_extra`, and not reported as drift."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from typing import Any

import duckdb
import pytest

from st_pipelines.catalog.model import Scalar
from st_pipelines.warehouse.adopt.inference import read_path_values
from st_pipelines_tests.warehouse.factories import Place, endpoint, record

NO_TIMES = [
    "0001-01-01T00:00:00Z",
    "0001-01-01T00:00:00",
    "0001-01-01T00:00:00.0000000",
    "0001-01-01T00:00:00.0000000Z",
    "0001-01-01T00:00:00+00:00",
    "0001-01-01T00:00:00-07:00",
    "0001-01-01T00:00:00+14:00",
    "0001-01-01T00:00:00+0530",
    "0001-01-01T05:00:00Z",
    "0001-01-01T23:59:59.9999999Z",
    "0001-01-02T00:00:00+10:00",
    "0001-01-01 00:00:00",
    "0001-01-01",
]


@pytest.mark.parametrize("text", NO_TIMES)
@pytest.mark.parametrize(
    ("field", "column"), [("modifiedOn", "modified_on"), ("dueDate", "due_date")]
)
def test_the_first_day_of_the_year_1_means_no_time(
    place: Place, text: str, field: str, column: str
) -> None:
    """A row's day was in 1 BC, which no program could read from the warehouse."""
    _, staging = place.load([record(id=2), record(**{field: text})])
    row = place.query(f"SELECT {column}, _extra FROM abc.things WHERE id = 1")
    assert row == [(None, f'{{"{field}":"{text}"}}')]
    assert not staging.drift.counts


@pytest.mark.parametrize("zone", ["America/New_York", "Pacific/Kiritimati", "Etc/GMT+12"])
def test_no_row_is_in_a_partition_before_the_year_1(place: Place, zone: str) -> None:
    place.timezone = zone
    times = [*NO_TIMES, "0001-01-02T00:00:00Z", "0001-01-02T00:00:00+14:00", "0000-12-31T23:00:00Z"]
    place.load([record(id=n, modifiedOn=time) for n, time in enumerate(times)])
    days = place.query("SELECT DISTINCT _partition_date FROM abc.things ORDER BY 1")
    assert all(day >= date(1, 1, 1) for (day,) in days)
    assert len(days) == 2  # the day of the load, and the one real time


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "+Infinity", "infinity", "∞"])
@pytest.mark.parametrize("field", ["total", "rate"])
def test_a_metric_that_is_no_number_is_known(place: Place, field: str, text: str) -> None:
    _, staging = place.load([record(**{field: text})])
    assert place.query(f"SELECT {field} FROM abc.things") == [(None,)]
    assert json.loads(place.query("SELECT _extra FROM abc.things")[0][0]) == {field: text}
    assert not staging.drift.counts


@pytest.mark.parametrize(
    ("number", "column"),
    [
        ("0.33333333333333333333", Decimal("0.3333333333")),
        ('"0.33333333333333333333"', Decimal("0.3333333333")),
        ("1e-12", Decimal(0)),
        ("-2.00000000005e3", Decimal("-2000.00000005")),
        ("9999999999999999999999999999.99999999999", None),
    ],
)
def test_a_decimal_with_more_places_than_its_column_is_not_drift(
    place: Place, number: str, column: Decimal | None
) -> None:
    raw = json.dumps(record()).replace('"12.50"', number, 1)
    _, staging = place.load(f"[{raw}]".encode())
    assert place.query("SELECT total FROM abc.things") == [(column,)]
    assert staging.drift.counts == ({"total": 1} if column is None else {})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("modifiedOn", "0001-01-01T25:00:00Z"),
        ("modifiedOn", "n/a"),
        ("name", ["Infinity"]),
        ("id", "Infinity"),
        ("total", "infinite"),
        ("rate", "NaN%"),
        ("surprise", "0001-01-01T00:00:00Z"),
    ],
)
def test_other_values_that_do_not_fit_are_drift(place: Place, field: str, value: Any) -> None:
    _, staging = place.load([record(**{field: value})], endpoint(key=("name",)))
    assert staging.drift.counts == {field: 1}


def test_no_time_as_text_is_text(place: Place) -> None:
    place.load([record(name="0001-01-01T00:00:00Z")])
    assert place.query("SELECT name, _extra FROM abc.things") == [("0001-01-01T00:00:00Z", None)]


def test_adopting_proposes_nothing_for_known_values(place: Place) -> None:
    """`--widen` turned a column of money into text because of one "NaN"."""
    known = {"total": "NaN", "rate": "Infinity", "modifiedOn": NO_TIMES[0], "dueDate": NO_TIMES[0]}
    place.load([record(**known), record(id=2, total="0.33333333333"), record(id=3, total="n/a")])
    with duckdb.connect(str(place.file), read_only=True) as connection:
        values = read_path_values(connection, ["abc.things"], endpoint())
    assert {path: seen.rows for path, seen in values.items()} == {"total": 1}


def test_an_unknown_field_with_times_and_no_time_becomes_a_column_of_times(place: Place) -> None:
    times = ["2026-01-02T03:04:05Z", NO_TIMES[0]]
    place.load([record(id=n, soldOn=time) for n, time in enumerate(times)])
    with duckdb.connect(str(place.file), read_only=True) as connection:
        values = read_path_values(connection, ["abc.things"], endpoint())
    assert values["soldOn"].shape.infer_type() == Scalar("TIMESTAMPTZ")
