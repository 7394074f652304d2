"""Every value lands exactly, or is kept beside; nothing is rounded, dropped or guessed."""

from __future__ import annotations

import json
from datetime import date, datetime, timezone
from decimal import Decimal
from typing import Any

import pytest

from st_pipelines.catalog.registry import load_catalog
from st_pipelines.warehouse.errors import MalformedRecords
from st_pipelines.warehouse.tables.staged_records import staged_records
from st_pipelines_tests.warehouse.factories import Place, endpoint, record


def landed(place: Place, column: str) -> Any:
    return place.query(f"SELECT {column} FROM abc.things")[0][0]


def extra(place: Place) -> dict[str, Any] | None:
    text = landed(place, "_extra")
    return None if text is None else json.loads(text)


def test_a_record_lands_with_the_types_of_the_catalog(place: Place) -> None:
    loaded, staging = place.load([record()])
    assert place.query(
        "SELECT * EXCLUDE (_loaded_at, _run_id, _read_sequence) FROM abc.things"
    ) == [
        (
            1,
            "Müller",
            Decimal("12.5000000000"),
            0.25,
            True,
            date(2026, 1, 2),
            datetime(2026, 1, 2, 3, 4, 5, 123456, tzinfo=timezone.utc),
            '{"a":[1,"x"]}',
            [1, 2],
            [{"sku_id": 7, "unit_price": Decimal("3.5000000000"), "from": {"zip_code": "0815"}}],
            "1",
            date(2026, 1, 1),
            None,
            None,
        )
    ]
    assert loaded.counts.inserted == 1
    assert not staging.drift.counts


@pytest.mark.parametrize(
    ("field", "text", "expected"),
    [
        ("total", "1234567.891", Decimal("1234567.8910000000")),
        ("total", "999999999999.99", Decimal("999999999999.9900000000")),
        ("total", "12345678901234567.89", Decimal("12345678901234567.8900000000")),
        ("total", '"12345678901234567.89"', Decimal("12345678901234567.8900000000")),
        ("total", "1234567890123456789012345678.5", Decimal("1234567890123456789012345678.5")),
        ("total", "25.1700000000000000000", Decimal("25.1700000000")),
        ("total", "1e-7", Decimal("0.0000001000")),
        ("total", "-0.01", Decimal("-0.0100000000")),
        ("rate", "12", 12.0),
        ("rate", "1E-05", 0.00001),
        ("id", "9007199254740993", 9007199254740993),
        ("id", '"42"', 42),
        ("id", "5.0", 5),
        ("name", "0", "0"),
        ("name", "1.50", "1.5"),
        ("name", "12345678901234567.89", "12345678901234567.89"),
        ("name", "true", "true"),
        ("name", '"\\u0000x"', "\x00x"),
        ("active", '"False"', False),
        ("dueDate", '"2026-03-04"', date(2026, 3, 4)),
        ("dueDate", '"2026-03-04T00:00:00Z"', date(2026, 3, 4)),
        ("modifiedOn", '"2026-01-02T03:04:05"', datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)),
        ("modifiedOn", '"0001-01-03T00:00:00Z"', datetime(1, 1, 3, tzinfo=timezone.utc)),
        (
            "modifiedOn",
            '"2026-01-02T03:04:05+0200"',
            datetime(2026, 1, 2, 1, 4, 5, tzinfo=timezone.utc),
        ),
        ("modifiedOn", '"2026-01-02"', datetime(2026, 1, 2, tzinfo=timezone.utc)),
        (
            "modifiedOn",
            '"2026-01-02T03:04:05.9999999Z"',
            datetime(2026, 1, 2, 3, 4, 5, 999999, tzinfo=timezone.utc),
        ),
        ("open", "null", None),
        ("tagIds", "[1, null]", [1, None]),
        ("items", "[null]", [None]),
        ("items", "[]", []),
    ],
)
def test_a_value_that_fits_lands_exactly(
    place: Place, field: str, text: str, expected: Any
) -> None:
    raw = json.dumps(record()).replace(json.dumps(record()[field]), text, 1)
    place.load(f"[{raw}]".encode())
    column = {"dueDate": "due_date", "modifiedOn": "modified_on", "tagIds": "tag_ids"}.get(
        field, field
    )
    assert landed(place, column) == expected
    assert extra(place) is None


@pytest.mark.parametrize(
    ("field", "value", "column", "rest", "kept"),
    [
        ("total", True, "total", None, {"total": True}),
        ("total", "", "total", None, {"total": ""}),
        ("total", "n/a", "total", None, {"total": "n/a"}),
        ("total", [1], "total", None, {"total": [1]}),
        ("rate", "fast", "rate", None, {"rate": "fast"}),
        ("active", 1, "active", None, {"active": 1}),
        ("dueDate", "", "due_date", None, {"dueDate": ""}),
        (
            "dueDate",
            "2026-01-02T03:00:00",
            "due_date",
            date(2026, 1, 2),
            {"dueDate": "2026-01-02T03:00:00"},
        ),
        ("dueDate", "2026-02-30", "due_date", None, {"dueDate": "2026-02-30"}),
        ("modifiedOn", "", "modified_on", None, {"modifiedOn": ""}),
        ("modifiedOn", 5, "modified_on", None, {"modifiedOn": 5}),
        ("tagIds", [1, 2.5], "tag_ids", [1, None], {"tagIds[1]": 2.5}),
        ("tagIds", {"a": 1}, "tag_ids", None, {"tagIds": {"a": 1}}),
        ("items", ["x"], "items", [None], {"items[0]": "x"}),
        ("name", {"value": "x"}, "name", None, {"name": {"value": "x"}}),
        ("surprise", {"b": None}, "id", 1, {"surprise": {"b": None}}),
        ("Name", "y", "name", "Müller", {"Name": "y"}),
        (
            "items",
            [{"skuId": 7, "color": "red", "from": {"zipCode": "1", "more": 2}}],
            "items",
            [{"sku_id": 7, "unit_price": None, "from": {"zip_code": "1"}}],
            {"items[0].color": "red", "items[0].from.more": 2},
        ),
    ],
)
def test_a_value_that_does_not_fit_is_kept_in_extra_and_the_load_goes_on(
    place: Place, field: str, value: Any, column: str, rest: Any, kept: dict[str, Any]
) -> None:
    loaded, staging = place.load([record(id=2, name="plain"), record(**{field: value})])
    assert loaded.counts.inserted == 2
    got = place.query(f"SELECT {column}, _extra FROM abc.things WHERE id = 1")[0]
    assert got[0] == rest
    assert json.loads(got[1]) == kept
    assert place.query("SELECT _extra FROM abc.things WHERE id = 2") == [(None,)]
    assert sum(staging.drift.counts.values()) == len(kept)


def test_integers_that_are_not_or_too_large_are_never_rounded(place: Place) -> None:
    of = endpoint(key=("name",))
    place.load(
        [record(id=1.5, name="a"), record(id=2**63, name="b"), record(id=True, name="c")], of
    )
    rows = place.query("SELECT id, _extra->>'id' FROM abc.things ORDER BY name")
    assert rows == [(None, "1.5"), (None, "9223372036854775808"), (None, "true")]


def test_a_decimal_finer_than_its_column_is_rounded_there_and_exact_in_extra(place: Place) -> None:
    raw = json.dumps(record()).replace('"12.50"', "0.33333333333333333333", 1)
    place.load(f"[{raw}]".encode())
    assert landed(place, "total") == Decimal("0.3333333333")
    assert landed(place, "_extra") == '{"total":0.33333333333333333333}'


def test_long_numbers_inside_json_are_kept_digit_by_digit(place: Place) -> None:
    raw = json.dumps(record()).replace('{"a": [1, "x"]}', '{"a": 12345678901234567.891}', 1)
    place.load(f"[{raw}]".encode())
    assert landed(place, "open") is None
    assert landed(place, "_extra") == '{"open":{"a":12345678901234567.891}}'


@pytest.mark.parametrize("number", ["1.5E-400", "1E+400", "-2E+400"])
def test_numbers_inside_json_beyond_a_double_are_kept(place: Place, number: str) -> None:
    raw = json.dumps(record()).replace('{"a": [1, "x"]}', f'{{"a": {number}}}', 1)
    place.load(f"[{raw}]".encode())
    assert landed(place, "open") is None
    assert landed(place, "_extra") == f'{{"open":{{"a":{number}}}}}'


def test_one_record_that_differs_leaves_the_others_of_its_page_as_served(place: Place) -> None:
    _, staging = place.load([record(id=n) for n in range(50)] + [record(id=99, new=1)])
    assert staging.drift.counts == {"new": 1}
    assert place.query("SELECT count(*) FROM abc.things WHERE _extra IS NULL") == [(50,)]


@pytest.mark.parametrize("page", [b"[1]", b"[null]", b'["x"]', b"{}", b"[{", b""])
def test_a_page_that_is_not_an_array_of_objects_is_refused(place: Place, page: bytes) -> None:
    with pytest.raises(MalformedRecords):
        place.load(page)
    assert not place.file.exists()


def test_a_served_field_with_the_name_of_our_column_is_kept_too(place: Place) -> None:
    place.load([record(_extra="theirs", other=1)])
    assert extra(place) == {"_extra": "theirs", "other": 1}


def test_bytes_that_are_not_text_are_replaced_and_kept(place: Place) -> None:
    raw = json.dumps(record(name="N"), ensure_ascii=False).encode().replace(b'"N"', b'"M\xff"', 1)
    place.load(b"[" + raw + b"]")
    assert landed(place, "name") == "M\ufffd"
    assert '"M\xff"' in (extra(place) or {})["(invalid text)"]


def test_numbers_beyond_any_column_are_kept_and_cost_no_time(place: Place) -> None:
    raw = json.dumps(record()).replace('"12.50"', "1e400000", 1)
    place.load(f"[{raw}]".encode())
    assert landed(place, "total") is None
    assert landed(place, "_extra") == '{"total":1E+400000}'


@pytest.mark.parametrize("text", ["20260102", "2026-W05-1", "2026-01-02t03:04:05z"])
def test_a_time_that_duckdb_cannot_read_is_kept(place: Place, text: str) -> None:
    place.load([record(modifiedOn=text)])
    assert extra(place) == {"modifiedOn": text}


def test_small_decimals_as_text_are_not_rounded_away(place: Place) -> None:
    place.load([record(total="1e-12")])
    assert extra(place) == {"total": "1e-12"}


def test_members_of_a_history_that_are_not_events_are_kept(place: Place) -> None:
    of = load_catalog()["jpm.job_history"]
    place.load([{"jobId": 7, "history": ["x"]}, {"jobId": 8, "history": {"id": 1}}], of)
    rows = place.query("SELECT job_id, id, _extra FROM jpm.job_history ORDER BY 1")
    assert rows == [(7, None, '{"history":"x"}'), (8, 1, None)]


def test_a_history_becomes_a_row_per_event(place: Place) -> None:
    of = load_catalog()["jpm.job_history"]
    events = [
        {
            "id": n,
            "employeeId": None,
            "eventType": "Job Booked",
            "date": "2026-01-02T12:00:00Z",
            "usedSchedulingTool": "None",
        }
        for n in (1, 2)
    ]
    place.load([{"jobId": 7, "history": events}, {"jobId": 8, "history": None}], of)
    assert place.query("SELECT job_id, id FROM jpm.job_history ORDER BY id") == [(7, 1), (7, 2)]


def test_the_staging_folder_is_private_and_removed(place: Place) -> None:
    with staged_records(place.warehouse, endpoint(), place.what()) as records:
        staging, folder = records.staging, records.staging.folder
        staging.add(json.dumps([record()]).encode())
        assert folder.stat().st_mode & 0o077 == 0
        mark = staging.mark()
        staging.add(json.dumps([record(), record()]).encode())
        staging.return_to(mark)
        assert staging.rows == 1
        assert len(list(folder.iterdir())) == 1
    assert not folder.exists()
