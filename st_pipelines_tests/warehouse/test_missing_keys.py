"""Records that lack their key: which rows they replace, and when there are too many of them."""

from __future__ import annotations

from datetime import date, datetime, timezone
from typing import Any

import duckdb
import pytest

from st_pipelines.catalog.model import Export
from st_pipelines.warehouse.errors import KeysMissing
from st_pipelines.warehouse.load_spec import MergeMode
from st_pipelines_tests.warehouse.factories import Place, endpoint, record

REPLACE_ALL, UTC = MergeMode.REPLACE_ALL, timezone.utc


def outcome(place: Place, *records: dict, **changes: Any) -> tuple[int, int, int, int]:
    counts = place.load(records, **changes)[0].counts
    return counts.inserted, counts.updated, counts.unchanged, counts.deleted


@pytest.mark.parametrize("key", [("id",), ()])
def test_a_record_without_key_and_change_time_is_replaced_within_the_window_that_had_it(
    place: Place, key: tuple[str, ...]
) -> None:
    """It stayed beside its next version, as its change time lay in no window."""
    of, mode = endpoint(key=key), MergeMode.UPSERT if key else MergeMode.REPLACE_SCOPE
    undated: dict[str, Any] = {"id": None, "modifiedOn": "2026-01-02T03:04:61Z"}

    def load(*names: str, first: int | None, last: int) -> tuple[int, int, int, int]:
        start, end = (day and datetime(2026, 1, day, tzinfo=UTC) for day in (first, last + 1))
        records = [record(name=name, **undated) for name in names]
        of_window = {"window_start": start, "window_end": end, "of": of, "mode": mode}
        return outcome(place, *records, default_date=date(2026, 1, last), **of_window)

    assert load("old", first=5, last=9) == (1, 0, 0, 0)
    assert load(first=9, last=9) == (0, 0, 0, 0), "the record may be of an earlier day"
    assert load(first=6, last=12) == (0, 0, 0, 0), "the record may be of the fifth"
    assert load("new", first=5, last=9) == (1, 0, 0, 1)
    assert load("newer", first=None, last=9) == (1, 0, 0, 1), "as the reconcile does"
    assert load("newer", first=8, last=9) == (0, 0, 1, 0)
    assert load(first=8, last=9) == (0, 0, 0, 1), "the last load has seen it in this window"


def test_rows_without_key_and_change_time_of_an_earlier_version_go_with_an_open_window(
    place: Place,
) -> None:
    """They have no number that tells the window of their load."""
    undated: dict[str, Any] = {"id": None, "modifiedOn": None}
    outcome(place, record(name="old", **undated), loaded_at=datetime(2026, 1, 5, tzinfo=UTC))
    with duckdb.connect(str(place.file)) as connection:
        connection.execute("UPDATE abc.things SET _read_sequence = NULL")
    early, late = (datetime(2026, 1, day, tzinfo=UTC) for day in (4, 6))
    assert outcome(place, window_end=early) == (0, 0, 0, 0)
    assert outcome(place, window_start=early, window_end=late) == (0, 0, 0, 0)
    assert outcome(place, window_end=late) == (0, 0, 0, 1)


def test_a_reading_without_its_keys_is_refused(place: Place) -> None:
    """One response whose ids were null doubled the table."""
    keyed = [record(id=id_, name=str(id_)) for id_ in range(50)]
    unkeyed = [item | {"id": None} for item in keyed]
    outcome(place, *keyed)
    for records in (unkeyed, keyed[:25] + unkeyed[25:]):
        with pytest.raises(KeysMissing, match=r"abc\.things: (50|25) of the 50 .* no id") as caught:
            outcome(place, *records)
        assert not caught.value.permanent, "another response may be right"
    whole = {"mode": REPLACE_ALL, "window_end": None}
    with pytest.raises(KeysMissing):
        outcome(place, *unkeyed[:3], **whole)
    assert place.query("SELECT count(*), count(id) FROM abc.things") == [(50, 50)]
    assert outcome(place, *keyed[:30], *unkeyed[30:]) == (20, 0, 30, 0), "fewer than half"
    assert outcome(place, *unkeyed[30:]) == (0, 0, 20, 0), "few enough to be what they seem"


def test_a_reading_of_everything_without_records_lacks_no_key(place: Place) -> None:
    """None of none counted as half, so a list that had become empty was refused for good."""
    outcome(place, record(id=1), record(id=2))
    assert outcome(place, mode=REPLACE_ALL, window_end=None) == (0, 0, 0, 2)


def test_a_feed_without_its_keys_is_refused(place: Place) -> None:
    of = endpoint(export=Export(path="/export", adds=("active",)))
    keyed = [record(id=id_) for id_ in range(30)]
    place.load_with_feed(keyed, keyed, of)
    with pytest.raises(KeysMissing, match="30 of the 30"):
        place.load_with_feed(keyed, [item | {"id": None} for item in keyed], of)


def test_a_table_of_records_without_key_takes_more_of_them(place: Place) -> None:
    unkeyed = [record(id=None, name=str(number)) for number in range(50)]
    assert outcome(place, *unkeyed[:25], record(id=1)) == (26, 0, 0, 0)
    assert outcome(place, *unkeyed) == (25, 0, 25, 0)


def test_a_record_without_key_that_list_and_feed_serve_is_there_once(place: Place) -> None:
    """The two serve different columns, so it was there in two forms."""
    of = endpoint(export=Export(path="/export", adds=("active",)))
    listed, fed = record(id=None, active=None), record(id=None)
    later: dict[str, Any] = {"window_start": datetime(2026, 2, 1, tzinfo=UTC)}
    place.load_with_feed([listed, record(id=2)], [fed, record(id=2)], of)
    for records, window in (([listed], {}), ([], later)):
        loaded = place.load_with_feed([*records, record(id=2)], [fed, record(id=2)], of, **window)
        assert place.query("SELECT count(*) FROM abc.things WHERE id IS NULL") == [(1,)]
        assert (loaded.counts.inserted, loaded.counts.deleted) == (0, 0)
