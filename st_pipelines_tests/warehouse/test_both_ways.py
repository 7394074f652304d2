"""A value lands in the same way, whichever way its page takes and whatever else the page holds.

Most pages are read as they came; others are taken apart by `conform`. The way must not show.
"""

from __future__ import annotations

import typing
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from st_pipelines.catalog.model import (
    DataType,
    Endpoint,
    Field,
    ListOf,
    Scalar,
    ScalarName,
    StructOf,
)
from st_pipelines.warehouse.staging.stage import Staging
from st_pipelines.warehouse.tables.staged_records import StagedRecords
from st_pipelines_tests.warehouse.factories import Place, endpoint
from st_pipelines_tests.warehouse.value_spellings import SPELLINGS, in_every_place

SCALARS: tuple[ScalarName, ...] = typing.get_args(ScalarName)
PLAIN = b'{"number":-1}'
REFUSED = b'{"number":-1,"at":"2026-01-02t03:04:05z"}'
NEIGHBORS = [
    PLAIN,
    REFUSED,
    b'{"number":-1,"surprise":1}',
    b'{"number":-1,"at":"0001-01-01T00:00:00Z"}',
    b'{"number":-1,"money":0.33333333333333333333}',
    b'{"number":-1,"money":NaN}',
    b'{"number":-1,"text":"\\ud800"}',
    b'{"number":-1,"number":-1}',
    b'{"number":-1,"text":"\xff"}',
]
Rows = dict[int, tuple[Any, ...]]


def endpoint_of(scalar: ScalarName) -> Endpoint:
    type_: DataType = Scalar(scalar)
    nested = StructOf((Field("v", type_),))
    columns = (
        Field("number", Scalar("BIGINT")),
        Field("v", type_),
        Field("s", nested),
        Field("l", ListOf(type_)),
        Field("ls", ListOf(nested)),
        Field("at", Scalar("TIMESTAMPTZ")),
        Field("money", Scalar("DECIMAL")),
        Field("text", Scalar("VARCHAR")),
    )
    return endpoint(columns=columns, key=(), cursor=None)


def records() -> list[bytes]:
    """Two records for every spelling: as a column, and in all other places."""
    members = [part for spelling in SPELLINGS for part in in_every_place(spelling)]
    members += [b'"unknown":%b' % spelling for spelling in SPELLINGS[::7]]
    return [b'{"number":%d,%b}' % pair for pair in enumerate(members)]


def page(*texts: bytes) -> bytes:
    return b"[" + b",".join(texts) + b"]"


def land(place: Place, of: Endpoint, pages: Iterable[bytes]) -> tuple[Rows, Counter[str]]:
    """Types the pages; returns the rows but the neighbors', and the drift."""
    with place.staged(of, place.what()) as (staging, typed):
        for one in pages:
            typed.add(staging.add(one))
        typed.finish()
        for file, drift in typed.refitted.items():
            staging.replace_drift(file, drift)
        rows = typed.connection.execute(
            "SELECT number, v::VARCHAR, s::VARCHAR, l::VARCHAR, ls::VARCHAR, _extra::VARCHAR "
            "FROM staged WHERE number >= 0 ORDER BY rowid"
        ).fetchall()
        return {number: tuple(row) for number, *row in rows}, staging.drift.counts


def test_there_are_hundreds_of_spellings() -> None:
    assert len(set(SPELLINGS)) >= 300


@pytest.mark.parametrize("scalar", SCALARS)
def test_both_ways_land_the_same_values(
    place: Place, scalar: ScalarName, monkeypatch: pytest.MonkeyPatch
) -> None:
    """12 of 1,448 values differed, `+0200` and 1e-11 among them."""
    of, texts = endpoint_of(scalar), records()
    alone, drift = land(place, of, map(page, texts))
    assert alone.keys() == set(range(len(texts)))
    together, drift_together = land(place, of, [page(*texts)])
    monkeypatch.setattr(Staging, "_count_if_fitting", lambda *_: None)
    carefully, drift_carefully = land(place, of, [page(*texts)])
    for number, text in enumerate(texts):
        assert alone[number] == carefully[number] == together[number], text[:200]
    assert drift == drift_carefully == drift_together


@pytest.mark.parametrize("scalar", SCALARS)
def test_neighbors_of_every_kind_change_no_value(place: Place, scalar: ScalarName) -> None:
    of, texts = endpoint_of(scalar), records()
    alone, _ = land(place, of, [page(*texts)])
    size = 25
    pages = [
        page(*texts[start : start + size], NEIGHBORS[start // size % len(NEIGHBORS)])
        for start in range(0, len(texts), size)
    ]
    beside, _ = land(place, of, pages)
    for number, text in enumerate(texts):
        assert alone[number] == beside[number], text[:200]


@pytest.mark.parametrize("scalar", SCALARS)
def test_many_spellings_take_the_fast_way(place: Place, scalar: ScalarName) -> None:
    """Otherwise the tests above would compare the careful way with itself."""
    with place.staged(endpoint_of(scalar), place.what()) as (staging, typed):
        fast = [text for text in records() if staging._count_if_fitting(page(text))]
        for text in fast:
            typed.add(staging.add(page(text)))
        typed.finish()
        assert len(fast) - len(typed.refitted) >= (6 if scalar == "BOOLEAN" else 10)


@pytest.mark.parametrize("scalar", ["BIGINT", "VARCHAR"])
def test_a_record_has_a_row_whatever_its_key_is(place: Place, scalar: ScalarName) -> None:
    """And the rows of equal keys are versions of one record, whichever way they came."""
    of = replace(endpoint_of(scalar), key=("v",))
    texts = [text for text in records() if b'"v":' in text]
    for pages in ([page(text) for text in texts], [page(*texts)]):
        with place.staged(of, place.what()) as (staging, typed):
            for one in pages:
                typed.add(staging.add(one))
            records_ = StagedRecords(endpoint=of, spec=place.what(), staging=staging, rows=typed)
            records_.finish()
            rows = typed.connection.execute(
                "SELECT count(*), count(v), count(DISTINCT v) FROM staged"
            ).fetchall()
            assert rows[0][0] + typed.dropped == len(texts)
            assert rows[0][1] == rows[0][2]
