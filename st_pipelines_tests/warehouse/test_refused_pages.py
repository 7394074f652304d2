"""A page that DuckDB refuses is made to fit by itself: the others stay as they were served."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from st_pipelines.warehouse.staging import typed_rows
from st_pipelines.warehouse.tables.staged_records import StagedRecords
from st_pipelines_tests.warehouse.factories import Place, endpoint, record

ODD = "2026-01-02t03:04:05z"
"""A time that the check accepts and that DuckDB refuses."""


@contextmanager
def staged(place: Place) -> Iterator[StagedRecords]:
    of, what = endpoint(), place.what()
    with place.staged(of, what) as (staging, typed):
        yield StagedRecords(endpoint=of, spec=what, staging=staging, rows=typed)


def add(records: StagedRecords, *pages: list[dict]) -> None:
    """Adds pages, which are typed in one statement or in several."""
    files = [file for page in pages for file in records.staging.add(json.dumps(page).encode())]
    records.rows.add(files)


def test_only_the_refused_page_is_taken_apart(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before, one odd value sent all 300 pages of a table through the slow path."""
    fitted: list[bytes] = []
    fit_page = typed_rows.fit_page
    monkeypatch.setattr(
        typed_rows, "fit_page", lambda page, of: fitted.append(page) or fit_page(page, of)
    )
    with staged(place) as records:
        add(records, *([record(id=n)] for n in range(8)), [record(id=8, modifiedOn=ODD)])
        add(records, [record(id=9)])
        records.finish()
        rows = records.rows.connection.execute("SELECT id, _extra FROM staged").fetchall()
        assert len(fitted) == 1
        assert rows == [(n, f'{{"modifiedOn":"{ODD}"}}' if n == 8 else None) for n in range(10)]
        assert records.staging.drift.counts == {"modifiedOn": 1}


def test_the_later_of_equal_versions_wins_although_the_earlier_page_was_refused(
    place: Place,
) -> None:
    with staged(place) as records:
        first = [record(id=1, name="old"), record(id=2, modifiedOn=ODD)]
        add(records, first, [record(id=1, name="new")])
        records.finish()
        names = records.rows.connection.execute("SELECT name FROM staged WHERE id = 1").fetchall()
    assert names == [("new",)]


def test_the_drift_of_pages_that_are_read_again_is_not_counted_twice(place: Place) -> None:
    with staged(place) as records:
        add(records, [record(id=1, modifiedOn=ODD, new=1)])
        mark = records.staging.mark()
        add(records, [record(id=2, modifiedOn=ODD, new=1)])
        records.rows.wait()
        records.return_to(mark)
        add(records, [record(id=2, new=1)])
        records.finish()
        assert records.staging.drift.counts == {"modifiedOn": 1, "new": 2}
