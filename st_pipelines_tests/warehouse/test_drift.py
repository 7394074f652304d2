"""Whatever a record turns into, it can be put together again from its columns and `_extra`."""

from __future__ import annotations

import copy
import functools
import json
import re
import tempfile
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from st_pipelines.catalog.model import DataType, Endpoint, Field, ListOf, StructOf
from st_pipelines.catalog.registry import load_catalog
from st_pipelines.sandbox.collections import load_collections
from st_pipelines.sandbox.server import Sandbox
from st_pipelines.warehouse.errors import MalformedRecords
from st_pipelines.warehouse.staging import json_path
from st_pipelines_tests.churn_reader import list_records
from st_pipelines_tests.warehouse.factories import Place, endpoint, record

ALPHABET = st.characters(codec="utf-8")
NAMES = st.one_of(
    st.sampled_from(
        [
            "a.b",
            "a",
            "[0]",
            "x[1].y",
            'say "hi"',
            "back\\slash",
            "",
            " ",
            "größe",
            "日本",
            "_extra",
            "(invalid text)",
            "\x01extra",
            "rowid",
            "a\nb",
            "'",
            ".",
            "[]",
            '["a"]',
            "Id",
            "ID",
            "NAME",
            "modified_on",
            "MODIFIEDON",
            "null",
            "select",
        ]
    ),
    st.text(ALPHABET, max_size=6),
)
NUMBERS = st.one_of(
    st.integers(),
    st.sampled_from(
        [
            0,
            -1,
            2**53 + 1,
            2**63 - 1,
            2**63,
            -(2**63) - 1,
            2**64,
            10**20,
            10**28 - 1,
            10**28,
            10**40,
        ]
    ),
    st.sampled_from(
        [
            "1.5",
            "0.1",
            "2.50",
            "-0.0",
            "1e5",
            "1E-12",
            "1e400",
            "-1e-400",
            "1e99999999999999999999",
            "0.33333333333333333333",
            "12345678901234567.891",
            "0." + "0" * 400 + "1",
            "99999999999999999999999999999.5",
        ]
    ).map(lambda text: Number(text)),
)
DAY = "2026-01-02"
TIMES = [
    DAY,
    "2026-02-30",
    "20260102",
    "infinity",
    "epoch",
    f"{DAY}T03:04:05.1234567Z",
    f"{DAY}T03:04:05",
    f"{DAY} 03:04:05Z",
    f"{DAY}T24:00:00Z",
    f"{DAY}T03:04:60Z",
    f"{DAY}T03:04:05+05:30",
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59.9999999-14:00",
    f"{DAY}T03:04:05.12345678901Z",
    f"{DAY}t03:04:05z",
    f"{DAY}T03:04Z",
    f"{DAY}T03:04:05+0530",
    f"{DAY}T03:04:05,5Z",
    f"{DAY}T03:04:05+99:00",
    f"{DAY}T00:00:00Z",
    f"{DAY}T00:00:00.0000001",
]
TEXTS = st.one_of(
    st.text(ALPHABET, max_size=8),
    st.sampled_from(
        [
            "",
            "n/a",
            "true",
            "TRUE",
            "12.50",
            "007",
            "4_2",
            "+5",
            " 5",
            "１２",
            "NaN",
            "Infinity",
            "1e5",
            "9" * 30,
            "\x00",
            "\ufffd",
            *TIMES,
        ]
    ),
)
SCALARS = st.none() | st.booleans() | NUMBERS | TEXTS
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)
SPOTS = st.lists(st.integers(0, 2**16), min_size=1, max_size=6)


class Number(str):
    """A JSON number written in a way of its own."""


def text_of(value: Any) -> str:
    """JSON with numbers as they were written."""
    match value:
        case Number() | Decimal():
            return str(value)
        case dict():
            return "{" + ",".join(f"{json.dumps(k)}:{text_of(v)}" for k, v in value.items()) + "}"
        case list():
            return "[" + ",".join(map(text_of, value)) + "]"
        case int() if not isinstance(value, bool):
            return str(value)
    return json.dumps(value)


read = functools.partial(json.loads, parse_float=Number, parse_int=Number)


@st.composite
def mutations(draw: st.DrawFn) -> list[tuple[list[int], str, str, Any]]:
    return draw(
        st.lists(
            st.tuples(SPOTS, st.sampled_from(["add", "replace", "drop"]), NAMES, VALUES),
            min_size=1,
            max_size=4,
        )
    )


def mutated(record: dict[str, Any], changes: list[tuple[list[int], str, str, Any]]) -> dict:
    record = copy.deepcopy(record)
    for spots, kind, name, value in changes:
        mutate(record, spots, kind, name, value)
    return record


def mutate(holder: Any, spots: list[int], kind: str, name: str, value: Any) -> None:
    """Walks down as far as the spots lead, and changes what is there."""
    for spot in spots:
        places = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        if not places:
            break
        place = places[spot % len(places)]
        if spot == spots[-1] or not isinstance(holder[place], dict | list):
            break
        holder = holder[place]
    else:
        place = None
    if isinstance(holder, dict) and (kind == "add" or not holder):
        holder[name] = value
    elif not holder:
        holder.append(value)
    elif kind == "drop" and isinstance(holder, dict):
        del holder[place]
    elif place is not None:
        holder[place] = value


class Accounts:
    """Compares a served record with its row, and takes from `_extra` what it accounts for."""

    def __init__(self, extra: dict[str, Any]) -> None:
        self.extra = {json_path.parse_steps(path): value for path, value in extra.items()}
        assert len(self.extra) == len(extra)

    def struct(self, value: dict, row: dict | None, fields: tuple[Field, ...], at: tuple) -> None:
        assert row is not None, at
        types = {f.name: f for f in fields}
        for name, member in value.items():
            where = (*at, name)
            if name in types:
                self.value(member, row[types[name].column], types[name].type, where)
            else:
                assert json_equal(self.extra.pop(where), member), where
        for name in types.keys() - value.keys():
            assert row[types[name].column] is None

    def value(self, value: Any, row: Any, type_: DataType, at: tuple) -> None:
        if at in self.extra:
            assert json_equal(self.extra.pop(at), value), at
        elif value is None:
            assert row is None, at
        elif isinstance(type_, StructOf):
            self.struct(value, row, type_.fields, at)
        elif isinstance(type_, ListOf):
            assert len(value) == len(row)
            for index, (member, got) in enumerate(zip(value, row, strict=True)):
                self.value(member, got, type_.item, (*at, index))
        else:
            assert SAME[type_.name](value, row), (at, value, row)


def json_equal(kept: Any, value: Any) -> bool:
    """Whether they are one JSON value, whatever the digits of its numbers look like."""
    if isinstance(value, Number | Decimal | int) and not isinstance(value, bool):
        if isinstance(kept, bool | dict | list | None):
            return False
        text = str(value) if isinstance(value, str) else text_of(value)
        try:
            return Decimal(kept) == Decimal(text)
        except ArithmeticError:
            return kept == text
    if isinstance(value, dict):
        return (
            isinstance(kept, dict)
            and kept.keys() == value.keys()
            and all(json_equal(kept[name], value[name]) for name in value)
        )
    if isinstance(value, list):
        return (
            isinstance(kept, list)
            and len(kept) == len(value)
            and all(json_equal(*pair) for pair in zip(kept, value, strict=True))
        )
    return type(kept) is type(value) and kept == value and not isinstance(kept, Number)


def same_number(value: Any, row: Any) -> bool:
    if isinstance(value, bool) or row is None:
        return False
    text = text_of(value) if not isinstance(value, str) else value
    try:
        return Decimal(text.strip().replace("_", "")) == Decimal(row)
    except ArithmeticError:
        return text == row


def same_text(value: Any, row: Any) -> bool:
    if isinstance(value, Number | int) and not isinstance(value, bool):
        return same_number(value, row)
    return row == (value if isinstance(value, str) else json.dumps(value))


def same_time(value: Any, row: Any) -> bool:
    match = re.fullmatch(
        r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|.\d\d:?\d\d)?)?", value
    )
    assert match, value
    zone = (match[4] or "Z").replace("Z", "+00:00")
    moment = datetime.fromisoformat(f"{match[1]}T{match[2] or '00:00:00'}{zone}")
    moment += timedelta(microseconds=int((match[3] or "0").ljust(6, "0")[:6]))
    return moment.astimezone(timezone.utc) == row


def same_boolean(value: Any, row: Any) -> bool:
    return value is row or (isinstance(value, str) and value.lower() == str(row).lower())


def same_double(value: Any, row: Any) -> bool:
    if isinstance(value, bool) or row is None:
        return False
    return float(text_of(value) if not isinstance(value, str) else value) == row


SAME = {
    "BIGINT": same_number,
    "DECIMAL": same_number,
    "DOUBLE": same_double,
    "BOOLEAN": same_boolean,
    "VARCHAR": same_text,
    "TIMESTAMPTZ": same_time,
    "DATE": lambda value, row: (
        re.fullmatch(rf"{row}(T00:00:00(\.0*)?(Z|\+00:00)?)?", value) is not None
    ),
    "JSON": lambda value, row: json_equal(read(row), value),
}


def account(of: Endpoint, records: list[dict], folder: Path) -> None:
    """Loads records and accounts for every value of each."""
    place = Place(folder)
    page = "[" + ",".join(map(text_of, records)) + "]"
    keyless = endpoint(
        api=of.api, name=of.name, columns=of.row_fields, key=(), cursor=None, kind="snapshot"
    )
    place.load(page.encode(), keyless)
    names = [f.column for f in of.row_fields]
    rows = place.query(f"SELECT * FROM {of.api}.{of.name} ORDER BY rowid")
    assert len(rows) == len(records)
    for given_, row in zip(records, rows, strict=True):
        accounts = Accounts(read(row[-1] or "{}"))
        accounts.struct(given_, dict(zip(names, row[: len(names)], strict=True)), of.row_fields, ())
        assert not accounts.extra


@pytest.fixture(scope="session")
def plain_records(sandbox: Sandbox) -> dict[str, list[dict[str, Any]]]:
    """Some served records of each table, numbers as they are written."""
    return {
        of.table: [read(text_of(kept)) for kept in list_records(sandbox, of)[:3]] or [{}]
        for of in load_catalog()
        if of.table in load_collections() and not of.by_day
    }


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_record_that_drifted_can_be_reconstructed(
    plain_records: dict[str, list[dict[str, Any]]], data: st.DataObject
) -> None:
    of = load_catalog()[data.draw(st.sampled_from(sorted(plain_records)))]
    plain = data.draw(st.sampled_from(plain_records[of.table]))
    changed = [mutated(plain, data.draw(mutations())) for _ in range(12)]
    with tempfile.TemporaryDirectory() as folder:
        account(of, [plain, *changed], Path(folder))


@given(st.lists(NAMES | st.integers(0, 99), max_size=5))
def test_a_path_is_parsed_back_to_its_steps(steps: list[str | int]) -> None:
    assert json_path.parse_steps(json_path.format_steps(tuple(steps))) == tuple(steps)


@pytest.mark.parametrize(
    ("text", "name", "kept"),
    [
        (r"\ud800", "\ufffd", True),
        (r"x\uDC00\uD800y", "x\ufffd\ufffdy", True),
        (r"\ud83d\ude00", "\U0001f600", False),
        (r"\\ud800", r"\ud800", False),
    ],
)
def test_a_lone_surrogate_does_not_stop_a_load_and_is_kept_as_served(
    place: Place, text: str, name: str, kept: bool
) -> None:
    raw = json.dumps(record(), ensure_ascii=False).replace("Müller", text)
    loaded, _ = place.load(f" [{json.dumps(record(id=2))},\n {raw} ] ".encode())
    assert loaded.counts.inserted == 2
    (row,) = place.query("SELECT name, _extra FROM abc.things WHERE id = 1")
    assert row[0] == name
    assert json.loads(row[1] or "{}") == ({"(lone surrogates)": raw} if kept else {})
    assert place.query("SELECT name, _extra FROM abc.things WHERE id = 2") == [("Müller", None)]


def test_a_lone_surrogate_in_a_member_name_does_not_stop_a_load(place: Place) -> None:
    place.load(rb'[{"id":1,"items":[{"\ud800":5}]}]')
    kept = json.loads(place.query("SELECT _extra FROM abc.things")[0][0])
    assert kept["items[0].\ufffd"] == 5
    assert r'"\ud800"' in kept["(lone surrogates)"]


def test_a_history_under_another_name_is_drift(place: Place) -> None:
    _, report = place.load(b'[{"jobId":7,"events":[{"id":1}]}]', load_catalog()["jpm.job_history"])
    assert report.drift.counts == {"events": 1}


def test_a_lone_surrogate_in_a_history_is_kept_with_each_event(place: Place) -> None:
    of = load_catalog()["jpm.job_history"]
    place.load(rb'[{"jobId":7,"history":[{"id":1,"eventType":"\ud800"},{"id":2}]}]', of)
    rows = place.query("SELECT id, event_type, _extra FROM jpm.job_history ORDER BY 1")
    assert [row[:2] for row in rows] == [(1, "\ufffd"), (2, None)]
    assert all(r"\ud800" in json.loads(row[2])["(lone surrogates)"] for row in rows)


@pytest.mark.parametrize("page", [rb'[{"a":"\ud800"}', rb'[{"a":"\ud800"},]', rb'{"a":"\ud800"}'])
def test_a_truncated_page_with_a_lone_surrogate_is_refused(place: Place, page: bytes) -> None:
    with pytest.raises(MalformedRecords):
        place.load(page)
    assert not place.file.exists()


def test_an_integer_of_thousands_of_digits_is_kept(place: Place) -> None:
    digits = "1" + "0" * 5000
    place.load(f'[{{"id":1,"total":{digits}}}]'.encode())
    assert place.query("SELECT _extra FROM abc.things") == [(f'{{"total":{digits}}}',)]


def test_members_that_look_alike_have_different_paths(place: Place) -> None:
    changed = {"a.b": 1, "a": {"b": 2}, "items[0]": 3, "": 4}
    _, staging = place.load([record(**changed, items=[{"x[7]": 5}])])
    kept = json.loads(place.query("SELECT _extra FROM abc.things")[0][0])
    assert kept == {
        '["a.b"]': 1,
        "a": {"b": 2},
        '["items[0]"]': 3,
        '[""]': 4,
        'items[0]["x[7]"]': 5,
    }
    assert 'items[]["x[7]"]' in staging.drift.counts


def test_times_beyond_pythons_years_are_kept(place: Place) -> None:
    late = "9999-12-31T23:59:59.9999999-14:00"
    place.load([record(modifiedOn=late)])
    rows = place.query("SELECT modified_on, _extra FROM abc.things")
    assert rows == [(None, f'{{"modifiedOn":"{late}"}}')]
