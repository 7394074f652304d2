"""A load that would delete much of a table is rolled back, unless a second read or a person agrees.

An empty list once marked all rows of a table as deleted, and the load reported success.
"""

from __future__ import annotations

import dataclasses
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from st_pipelines.catalog.model import Field, Scalar
from st_pipelines.warehouse.errors import TooManyDeletions
from st_pipelines.warehouse.load_spec import MergeMode
from st_pipelines.warehouse.tables.deletion_guard import Approval
from st_pipelines.warehouse.tables.load import FollowUp
from st_pipelines_tests.warehouse.factories import Place, endpoint, record

LIST = endpoint(kind="snapshot", cursor=None, date_filter=None)
KEYLESS = endpoint(name="keyless", key=())
BY_DAY = endpoint(name="by_day", key=(), cursor=None, by_day=True)
BILLS = endpoint(
    name="bills",
    columns=(Field("id", Scalar("BIGINT")), Field("billType", Scalar("VARCHAR"))),
    kind="snapshot",
    cursor=None,
    date_filter=None,
    variants=({"billType": "Bought"}, {"billType": "Made"}),
)
WHOLE: dict[str, Any] = {"mode": MergeMode.REPLACE_ALL, "window_end": None}
DAY: dict[str, Any] = {"mode": MergeMode.REPLACE_DAY, "default_date": date(2026, 3, 1)}
WINDOW: dict[str, Any] = {
    "mode": MergeMode.REPLACE_SCOPE,
    "window_start": datetime(2026, 1, 1, tzinfo=timezone.utc),
}
ACCEPTED = Approval(everything=True)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def things(*ids: int, **changes: Any) -> list[dict[str, Any]]:
    return [record(id=id_, **changes) for id_ in ids]


def named(first: int, last: int, **changes: Any) -> list[dict[str, Any]]:
    return [record(name=str(number), **changes) for number in range(first, last)]


def live(place: Place, table: str = "things") -> int:
    return place.query(f"SELECT count(*) FROM abc.{table} WHERE _deleted_at IS NULL")[0][0]


def refuse(place: Place, records: list[dict[str, Any]], of: Any, **changes: Any) -> tuple[int, ...]:
    """Loads what must be refused; returns the digests of the rows it would have deleted."""
    with pytest.raises(TooManyDeletions) as raised:
        place.load(records, of, **changes)
    return raised.value.missing


@pytest.mark.parametrize(
    ("rows", "deleted", "refused"),
    [
        (20, 20, False),
        (21, 21, True),
        (100, 20, False),
        (100, 21, True),
        (210, 21, False),
        (209, 21, True),
        (1000, 100, False),
        (1000, 101, True),
    ],
)
def test_more_than_20_rows_and_more_than_a_tenth_are_refused(
    place: Place, rows: int, deleted: int, refused: bool
) -> None:
    place.load(things(*range(rows)), LIST, **WHOLE)
    left = things(*range(deleted, rows))
    if refused:
        assert len(refuse(place, left, LIST, **WHOLE)) == deleted
        assert live(place) == rows
    else:
        place.load(left, LIST, **WHOLE)
        assert live(place) == rows - deleted


def test_a_small_table_is_emptied_by_two_reads_alone(place: Place) -> None:
    place.load(things(1), LIST, **WHOLE)
    missing = refuse(place, [], LIST, approval=Approval(), **WHOLE)
    place.load([], LIST, approval=Approval(missing=missing), **WHOLE)
    assert live(place) == 0


def test_a_person_may_accept_all_deletions(place: Place) -> None:
    place.load(things(*range(50)), LIST, **WHOLE)
    place.load([], LIST, approval=ACCEPTED, **WHOLE)
    assert live(place) == 0


def test_nothing_is_changed_by_a_load_that_is_refused(place: Place) -> None:
    place.load(things(*range(50)), LIST, history=True, **WHOLE)
    tables = ("abc.things", "history.abc_things", "_st.loads", "_st.feeds")
    before = [place.query(f"FROM {table} ORDER BY ALL") for table in tables]
    refuse(place, things(*range(30, 60), name="new"), LIST, history=True, **WHOLE)
    assert [place.query(f"FROM {table} ORDER BY ALL") for table in tables] == before


def test_accepted_deletions_close_the_versions_of_the_history(place: Place) -> None:
    place.load(things(*range(50)), LIST, history=True, **WHOLE)
    place.load(things(*range(10)), LIST, history=True, approval=ACCEPTED, **WHOLE)
    found = place.query("SELECT count(*) FROM history.abc_things WHERE valid_to IS NOT NULL")
    assert found == [(40,)]


def test_rows_that_two_reads_lack_are_deleted(place: Place) -> None:
    place.load(things(*range(50)), LIST, **WHOLE)
    missing = refuse(place, things(*range(25)), LIST, **WHOLE)
    place.load(things(*range(25)), LIST, approval=Approval(missing=missing), **WHOLE)
    assert live(place) == 25


@pytest.mark.parametrize(("new", "refused"), [(20, False), (21, True)])
def test_the_limit_applies_to_the_rows_that_only_the_second_read_lacks(
    place: Place, new: int, refused: bool
) -> None:
    """Two different halves of a list do not agree."""
    place.load(things(*range(100)), LIST, **WHOLE)
    missing = refuse(place, things(*range(50)), LIST, **WHOLE)
    second, approval = things(*range(50 - new)), Approval(missing=missing)
    if refused:
        refuse(place, second, LIST, approval=approval, **WHOLE)
        assert live(place) == 100
    else:
        place.load(second, LIST, approval=approval, **WHOLE)
        assert live(place) == 50 - new


@pytest.mark.parametrize("served", [[], things(*range(1000, 1100))], ids=["nothing", "others"])
def test_two_reads_prove_nothing_where_nothing_is_left(place: Place, served: list[Any]) -> None:
    """An empty list, and the list of another tenant."""
    place.load(things(*range(50)), LIST, **WHOLE)
    missing = refuse(place, served, LIST, **WHOLE)
    refuse(place, served, LIST, approval=Approval(missing=missing), **WHOLE)
    assert live(place) == 50


def test_two_reads_prove_nothing_where_no_inactive_record_is_left(place: Place) -> None:
    """A server that ignores `active=Any` serves the active records alone, every time."""
    active, inactive = things(*range(900)), things(*range(900, 921), active=False)
    place.load(active + inactive, LIST, **WHOLE)
    missing = refuse(place, active, LIST, **WHOLE)
    approval = Approval(missing=missing)
    refuse(place, active, LIST, approval=approval, **WHOLE)
    place.load(active + inactive[:1], LIST, approval=approval, **WHOLE)
    assert live(place) == 901


def test_lookups_prove_what_two_reads_do_not_prove_of_a_part(place: Place) -> None:
    of = endpoint(ids=True)
    active, inactive = things(*range(900)), things(*range(900, 930), active=False)
    place.load(active + inactive, of)
    gone = FollowUp(deleted_ids=frozenset(range(900, 930)))
    missing = refuse(place, active, of, follow_up=gone)
    approval = Approval(missing=missing)
    refuse(place, active, of, follow_up=gone, approval=approval)
    gone = dataclasses.replace(gone, sample_gone=True)
    place.load(active, of, follow_up=gone, approval=approval)
    assert live(place) == 900


def test_twenty_inactive_records_may_go(place: Place) -> None:
    active, inactive = things(*range(900)), things(*range(900, 920), active=False)
    place.load(active + inactive, LIST, **WHOLE)
    place.load(active, LIST, **WHOLE)
    assert live(place) == 900


def test_two_reads_prove_nothing_where_a_variant_is_empty(place: Place) -> None:
    bought = [{"id": id_, "billType": "Bought"} for id_ in range(100)]
    made = [{"id": id_, "billType": "Made"} for id_ in range(100, 150)]
    place.load(bought + made, BILLS, **WHOLE)
    missing = refuse(place, bought, BILLS, **WHOLE)
    refuse(place, bought, BILLS, approval=Approval(missing=missing), **WHOLE)
    assert live(place, "bills") == 150


def test_a_list_with_ids_needs_lookups_besides_a_second_read(place: Place) -> None:
    of = endpoint(kind="snapshot", cursor=None, date_filter=None, ids=True)
    place.load(things(*range(50)), of, **WHOLE)
    approval = Approval(missing=refuse(place, things(*range(25)), of, **WHOLE))
    refuse(place, things(*range(25)), of, approval=approval, **WHOLE)
    confirmed = FollowUp(sample_gone=True)
    place.load(things(*range(25)), of, approval=approval, follow_up=confirmed, **WHOLE)
    assert live(place) == 25


def test_ids_that_are_no_longer_served_count_like_missing_rows(place: Place) -> None:
    of = endpoint(ids=True)
    place.load(things(*range(30)), of)
    gone = FollowUp(deleted_ids=frozenset(range(21)), sample_gone=True)
    missing = refuse(place, things(*range(21, 30)), of, follow_up=gone)
    place.load(things(*range(21, 30)), of, follow_up=gone, approval=Approval(missing=missing))
    assert live(place) == 9


def test_rows_that_the_same_load_inserts_do_not_count(place: Place) -> None:
    of = endpoint(ids=True)
    place.load(things(*range(300)), of)
    gone = FollowUp(deleted_ids=frozenset(range(500, 540)))
    place.load(things(*range(500, 540)), of, follow_up=gone)
    assert live(place) == 300


@pytest.mark.parametrize(
    ("of", "changes"), [(KEYLESS, WINDOW), (BY_DAY, DAY)], ids=["window", "day"]
)
class TestRowsWithoutKey:
    """Their content tells which rows are lost, and new ones make up for them."""

    def test_an_empty_answer_is_refused(self, place: Place, of: Any, changes: Any) -> None:
        place.load(named(0, 21), of, **changes)
        missing = refuse(place, [], of, **changes)
        refuse(place, [], of, approval=Approval(missing=missing), **changes)
        assert live(place, of.name) == 21
        place.load([], of, approval=ACCEPTED, **changes)
        assert live(place, of.name) == 0

    def test_twenty_rows_may_go(self, place: Place, of: Any, changes: Any) -> None:
        place.load(named(0, 20), of, **changes)
        place.load([], of, **changes)
        assert live(place, of.name) == 0

    def test_rows_that_two_reads_lack_go(self, place: Place, of: Any, changes: Any) -> None:
        place.load(named(0, 50), of, **changes)
        missing = refuse(place, named(0, 25), of, **changes)
        refuse(place, named(25, 50), of, approval=Approval(missing=missing), **changes)
        place.load(named(0, 25), of, approval=Approval(missing=missing), **changes)
        assert live(place, of.name) == 25

    def test_rows_that_all_changed_are_no_loss(self, place: Place, of: Any, changes: Any) -> None:
        place.load(named(0, 50), of, **changes)
        place.load(named(50, 100), of, approval=Approval(), **changes)
        assert live(place, of.name) == 50
        refuse(place, named(200, 229), of, **changes)
        assert live(place, of.name) == 50

    def test_rows_that_change_between_two_reads_are_no_loss(
        self, place: Place, of: Any, changes: Any
    ) -> None:
        place.load(named(0, 200), of, **changes)
        missing = refuse(place, named(100, 200), of, **changes)
        second = named(150, 200) + named(300, 350)
        place.load(second, of, approval=Approval(missing=missing), **changes)
        assert live(place, of.name) == 100

    def test_equal_rows_count_one_by_one(self, place: Place, of: Any, changes: Any) -> None:
        place.load([record()] * 50, of, **changes)
        missing = refuse(place, [record()] * 25, of, **changes)
        refuse(place, [record()] * 3, of, approval=Approval(missing=missing), **changes)
        place.load([record()] * 24, of, approval=Approval(missing=missing), **changes)
        assert live(place, of.name) == 24


def test_other_windows_and_days_are_not_the_scope(place: Place) -> None:
    early = {"window_start": None, "window_end": datetime(2026, 1, 1, tzinfo=timezone.utc)}
    old = named(0, 500, modifiedOn="2025-12-01T00:00:00Z")
    place.load(old, KEYLESS, **{**WINDOW, **early})
    place.load(named(0, 21), KEYLESS, **WINDOW)
    refuse(place, [], KEYLESS, **WINDOW)
    place.load(named(0, 500), BY_DAY, **DAY)
    second = {**DAY, "default_date": date(2026, 3, 2)}
    place.load(named(0, 21), BY_DAY, **second)
    refuse(place, [], BY_DAY, **second)


def test_rows_that_lack_their_key_are_guarded_in_windows_too(place: Place) -> None:
    of = endpoint()
    without_key = named(0, 30, id=None)
    place.load(without_key + things(*range(30)), of)
    missing = refuse(place, [], of)
    refuse(place, [], of, approval=Approval(missing=missing))
    place.load(without_key[:10] + named(100, 120, id=None), of)
    assert live(place) == 60


def test_rows_of_another_tenant_neither_count_nor_go(place: Place) -> None:
    place.load(things(*range(500)), LIST, tenant_id="2", **WHOLE)
    place.load(things(*range(30)), LIST, **WHOLE)
    refuse(place, [], LIST, **WHOLE)
    place.load(things(*range(10)), LIST, **WHOLE)
    assert live(place) == 510


def test_a_row_that_was_marked_before_does_not_count(place: Place) -> None:
    place.load(things(*range(40)), LIST, **WHOLE)
    place.load(things(*range(20)), LIST, approval=ACCEPTED, **WHOLE)
    place.load([], LIST, **WHOLE)
    assert live(place) == 0


def test_the_message_has_the_counts_and_both_ways_to_accept(place: Place) -> None:
    place.load(things(*range(1234)), LIST, **WHOLE)
    with pytest.raises(TooManyDeletions) as raised:
        place.load(things(*range(200)), LIST, **WHOLE)
    text = str(raised.value)
    assert "1,034 of 1,234 live rows of the table" in text
    assert "It read 200 records" in text
    assert "--accept-deletions" in text
    assert "accept_deletions: true" in text
    assert raised.value.permanent
