"""Lists that move while they are read: no record that stayed is missing, or the reading fails."""

from __future__ import annotations

import dataclasses
import itertools
import random

import msgspec
import pytest

from st_pipelines.servicetitan.errors.errors import ReadingMoved
from st_pipelines.servicetitan.http.model import ReadStats
from st_pipelines.servicetitan.reading.completeness import (
    CompletenessProof,
    PagingStrategy,
    ReadingSummary,
)
from st_pipelines.servicetitan.reading.envelope import ParsedPage
from st_pipelines.servicetitan.reading.overlap import Coverage
from st_pipelines_tests.servicetitan.fake_server import Canned
from st_pipelines_tests.servicetitan.read_results import ENDED, ids, not_ended


@pytest.mark.parametrize("sort", ["+Id", None])
@pytest.mark.parametrize("rising", [True, False])
def test_48_of_2000_records_that_leave_during_the_reading_hide_no_others(
    server, endpoint, sort, rising
):
    """The classic trap: 1,952 rows arrive, the final total is 1,952, yet other rows are missing."""
    server.fill(2000)
    leaving = [(number if rising else 2001 - number) for number in range(1, 49)]

    def leave(number, seen):
        if 2 <= number < 14:
            server.remove(*leaving[4 * (number - 2) : 4 * (number - 1)])

    server.before_page = leave
    stats = ReadStats()
    got = ids(server.client(page_size=100), endpoint(sort=sort), stats=stats)
    assert set(range(1, 2001)) - set(leaving) <= set(got)
    assert (stats.readings == 1) is (sort == "+Id"), (
        "without a sort, a move requires a second reading"
    )
    assert stats.total == 1952


@pytest.mark.parametrize("at_once", [1, 20])
def test_a_sorted_reading_survives_records_that_leave_at_every_request(server, endpoint, at_once):
    """The changes never pause, so no two readings agree, and more records leave than pages overlap.

    One page at a time, as the order of pages in flight would decide how often the list moves.
    """
    server.fill(1000)
    server.before_page = lambda number, seen: server.remove(
        *(record["id"] for record in server.records[:at_once])
    )
    stats = ReadStats()
    got = ids(server.client(page_size=100), endpoint(), stats=stats, concurrency=1)
    assert {record["id"] for record in server.records} <= set(got)
    assert max(got.values()) == 1
    assert stats.readings == 1


def test_an_unsorted_list_that_moves_during_every_reading_raises_reading_moved(server, endpoint):
    server.fill(1000)
    server.before_page = lambda number, seen: server.remove(server.records[-1]["id"])
    stats = ReadStats()
    with pytest.raises(ReadingMoved, match=r"totals from \d+ to \d+") as caught:
        ids(server.client(page_size=100), endpoint(sort=None), stats=stats)
    assert stats.readings == 6
    assert all(f"reading {number}: " in str(caught.value) for number in range(1, 7))
    assert not caught.value.permanent


def test_an_unmoved_window_is_read_once_even_without_a_sort(server, endpoint):
    server.fill(30)
    stats = ReadStats()
    assert len(ids(server.client(page_size=10), endpoint(sort=None), stats=stats)) == 30
    assert (stats.readings, stats.requests) == (1, 4)


def test_equal_totals_with_a_record_missing_are_not_accepted(server, endpoint):
    """An order that differs between requests repeats one record and omits another."""
    server.fill(40)

    def shuffled(seen):
        begin = (seen.page - 1) * seen.page_size
        rows = server.records[begin : begin + seen.page_size]
        if seen.page == 2:
            rows[5] = server.records[0]
        more = begin + seen.page_size < 40
        return Canned(body={"hasMore": more, "totalCount": 40, "data": rows})

    server.rule = shuffled
    with pytest.raises(ReadingMoved, match="40 records, 39 distinct, total 40"):
        ids(server.client(page_size=10), endpoint(sort=None))


def test_records_that_enter_a_window_while_others_leave_hide_none(server, endpoint):
    """The total stays the same, and plain pages would return as many distinct records."""
    server.records = [{"id": number} for number in range(100, 300)]
    stayed = set(range(100, 300))

    def swap(number, seen):
        leaving = server.records[number]["id"]
        server.remove(leaving)
        stayed.discard(leaving)
        server.records.append({"id": 1000 + number})

    server.before_page = swap
    stats = ReadStats()
    got = ids(server.client(page_size=20), endpoint(), stats=stats)
    assert stayed <= set(got)
    assert stats.readings == 1


def test_records_that_enter_at_the_front_hide_no_others(server, endpoint):
    server.records = [{"id": number} for number in range(100, 200)]

    def enter(number, seen):
        server.records[:0] = [{"id": 100 - 3 * number + one} for one in range(3)]

    server.before_page = enter
    assert set(range(100, 200)) <= set(ids(server.client(page_size=10), endpoint()))


def page_of(ids, total=20, has_more=True, ascending=True):
    rows = [msgspec.Raw(b'{"id":%d}' % one) for one in ids]
    return ParsedPage(
        rows=rows, keys=list(ids), ascending=ascending, has_more=has_more, total=total
    )


def is_accepted(proof, coverage, first, last):
    """Whether a reading of two pages of 11 rows is accepted."""
    summary = ReadingSummary(paging=PagingStrategy.OVERLAPPING)
    for page in (coverage.link(first, at_start=True), coverage.link(last)):
        if page is not None:
            summary.add(page)
    return proof.is_complete(summary, coverage, 11)


@pytest.mark.parametrize(
    ("first", "last", "accepted"),
    [
        (page_of(range(1, 12)), page_of(range(11, 21), has_more=False), True),
        (page_of(range(1, 12)), page_of(range(12, 22), has_more=False), False),  # do not touch
        (page_of(range(1, 12)), page_of(range(11, 21), has_more=True), False),  # not the last
        (
            page_of(range(1, 12)),
            page_of([*range(11, 20), 5], has_more=False, ascending=False),
            False,
        ),
        (page_of(range(1, 12), 30), page_of(range(11, 21), 30, has_more=False), False),  # too few
        (page_of(range(1, 12), 30), page_of(range(11, 21), 20, has_more=False), True),
        (page_of(range(1, 12), 20), page_of(range(11, 21), 30, has_more=False), True),
        (page_of(range(1, 12), None), page_of(range(11, 21), None, has_more=False), True),
        (page_of(range(1, 12)), page_of([], has_more=False), False),  # behind the end
    ],
)
def test_a_sorted_reading_is_accepted_only_under_all_of_its_conditions(
    endpoint, first, last, accepted
):
    assert is_accepted(CompletenessProof(endpoint()), Coverage(by_id=True), first, last) is accepted


@pytest.mark.parametrize(
    ("first", "last", "accepted"),
    [
        (page_of(range(20, 9, -1)), page_of(range(10, 0, -1), has_more=False), True),
        (page_of(range(20, 9, -1)), page_of(range(9, -1, -1), has_more=False), False),
        (page_of(range(20, 9, -1)), page_of(range(10, 0, -1)), False),
        (page_of(range(20, 9, -1), 21), page_of(range(10, 0, -1), 20, has_more=False), False),
        (page_of(range(20, 9, -1), 21), page_of(range(10, 0, -1), 21, has_more=False), False),
        (page_of(range(20, 9, -1), None), page_of(range(10, 0, -1), None, has_more=False), False),
    ],
)
def test_an_unsorted_reading_is_accepted_only_under_all_of_its_conditions(
    endpoint, first, last, accepted
):
    assert (
        is_accepted(CompletenessProof(endpoint(sort=None)), Coverage(by_id=False), first, last)
        is accepted
    )


def test_a_changed_record_does_not_link_two_pages_of_an_unsorted_list():
    """If the order depends on the time of change, the record may have come from anywhere."""
    first, changed = page_of(range(20, 9, -1)), page_of(range(10, 0, -1), has_more=False)
    other = msgspec.Raw(b'{"id":10,"name":"new"}')
    changed = dataclasses.replace(changed, rows=[other, *changed.rows[1:]])
    coverage = Coverage(by_id=False)
    coverage.link(first, at_start=True)
    assert coverage.link(changed) is None


def test_a_sort_that_the_server_ignores_proves_nothing(server, endpoint):
    """The list is newest first despite sort=+Id, so only the contents can prove anything."""
    server.fill(100)
    rows = list(server.records)

    def ignore_sort(seen):
        if len(server.seen) == 3:
            rows.remove({"id": 100, "name": "n100"})
        begin, newest_first = (seen.page - 1) * seen.page_size, rows[::-1]
        data = newest_first[begin : begin + seen.page_size]
        more = begin + seen.page_size < len(rows)
        return Canned(body={"hasMore": more, "totalCount": len(rows), "data": data})

    server.rule = ignore_sort
    stats = ReadStats()
    assert len(ids(server.client(page_size=10), endpoint(), stats=stats)) == 99
    assert stats.readings == 2


def test_ids_that_are_sorted_as_text_are_linked_by_content_in_the_second_reading(server, endpoint):
    """The first page rises, 10 to 19. A later one falls from 24 to 5."""
    rows = [{"id": id_} for id_ in sorted(range(5, 25), key=str)]

    def sort_as_text(seen):
        begin = (seen.page - 1) * seen.page_size
        more = begin + seen.page_size < len(rows)
        data = rows[begin : begin + seen.page_size]
        return Canned(body={"hasMore": more, "totalCount": len(rows), "data": data})

    server.rule = sort_as_text
    stats = ReadStats()
    assert {*ids(server.client(page_size=10), endpoint(), stats=stats)} == {*range(5, 25)}
    assert stats.readings == 2


@pytest.mark.parametrize("window", [None, ENDED, not_ended()])
@pytest.mark.parametrize("sort", ["+Id", None])
def test_an_unmoved_list_is_read_once_in_overlapping_pages(server, endpoint, window, sort):
    """The same holds for a snapshot, and for a window that has not ended."""
    server.fill(35)
    facts = endpoint(sort=sort, **({"date_filter": None} if window is None else {}))
    stats = ReadStats()
    assert len(ids(server.client(page_size=10), facts, window, stats=stats)) == 35
    ranges = sorted(((s.page - 1) * s.page_size, s.page * s.page_size) for s in server.seen)
    assert ranges[0] == (0, 10)
    assert ranges[-1][1] >= 35
    assert all(later[0] < earlier[1] for earlier, later in itertools.pairwise(ranges))
    assert (stats.readings, stats.requests) == (1, 5)


def test_the_overlap_follows_the_page_size_that_the_server_serves(server, endpoint):
    """It serves 10 rows instead of 5,000; by the latter, the first page would be the last."""
    server.fill(35)
    server.cap = 10
    assert len(ids(server.client(), endpoint(kind="snapshot", date_filter=None), None)) == 35
    assert len(server.seen) == 5


def test_a_server_with_a_fixed_page_size_is_read_until_two_readings_agree(server, endpoint):
    rows = [{"id": number} for number in range(45)]

    def fixed(seen):
        begin = (seen.page - 1) * 10
        more = begin + 10 < len(rows)
        return Canned(body={"hasMore": more, "totalCount": 45, "data": rows[begin : begin + 10]})

    server.rule = fixed
    stats = ReadStats()
    assert len(ids(server.client(), endpoint(), stats=stats)) == 45
    assert stats.readings == 3


def test_a_snapshot_that_gains_and_loses_a_record_is_complete_despite_equal_totals(
    server, endpoint
):
    """The total stays 40 throughout; an ascending reading would miss a record."""
    server.fill(40)

    def swap(number, seen):
        if number == 3:
            server.remove(1)
            server.records.append({"id": 41})

    server.before_page = swap
    got = ids(server.client(page_size=10), endpoint(kind="snapshot", date_filter=None), None)
    assert set(range(2, 41)) <= set(got)


@pytest.mark.parametrize("totals", [True, False])
def test_an_unsorted_snapshot_that_moves_is_read_again(server, endpoint, totals):
    server.fill(40)
    server.totals = totals

    def swap(number, seen):
        if number == 3:
            server.remove(39)
            server.records.append({"id": 41})

    server.before_page = swap
    snapshot = endpoint(kind="snapshot", date_filter=None, sort=None)
    stats = ReadStats()
    got = ids(server.client(page_size=10), snapshot, None, stats=stats, concurrency=1)
    assert {*range(1, 39), 40} <= set(got)
    assert stats.readings == (1 if totals else 3), "without totals two must agree"


def test_pages_with_guid_keys_are_linked_by_the_contents_of_records(server, endpoint):
    """The server has its own order of GUIDs; it only has to stay the same."""
    server.records = [{"id": f"{number:032x}"} for number in range(30)]
    snapshot = endpoint(kind="snapshot", date_filter=None)
    stats = ReadStats()
    assert len(ids(server.client(page_size=10), snapshot, None, stats=stats)) == 30
    assert stats.readings == 1


def test_an_unsorted_list_without_totals_is_read_until_two_readings_agree(server, endpoint):
    server.fill(35)
    stats = ReadStats()
    facts = endpoint(includes_total=False, sort=None)
    assert len(ids(server.client(page_size=10), facts, stats=stats)) == 35
    assert [seen.page for seen in server.seen] == [1, 2, 3, 4] * 2
    assert "includeTotal" not in server.seen[0].query


def test_a_sorted_list_without_totals_is_read_once(server, endpoint):
    server.fill(35)
    assert len(ids(server.client(page_size=10), endpoint(includes_total=False))) == 35
    assert len(server.seen) == 5


def test_a_full_page_without_total_and_has_more_must_be_confirmed(server, endpoint):
    """Page 2 may be empty because one record left page 1 and another took its place."""
    server.fill(11)
    server.envelope = "data"
    server.before_page = lambda number, seen: server.remove(5) if number == 2 else None
    facts = endpoint(envelope="data", sort=None, includes_total=False)
    got = ids(server.client(page_size=10), facts)
    assert set(got) == {*range(1, 5), *range(6, 12)}


def test_a_single_page_without_totals_is_complete(server, endpoint):
    server.fill(5)
    server.totals = False
    assert len(ids(server.client(), endpoint())) == 5
    assert len(server.seen) == 1


def test_a_single_page_with_a_different_total_is_read_again(server, endpoint):
    server.fill(2)
    server.canned.append(Canned(body={"hasMore": False, "totalCount": 2, "data": [{"id": 1}]}))
    assert sorted(ids(server.client(), endpoint())) == [1, 2]


def test_a_single_page_whose_total_never_matches_is_not_accepted(server, endpoint):
    server.rule = lambda seen: Canned(body={"hasMore": False, "totalCount": 9, "data": [{"id": 1}]})
    with pytest.raises(ReadingMoved, match="1 records, 1 distinct, total 9"):
        ids(server.client(), endpoint())
    assert len(server.seen) == 6


def test_records_without_a_key_are_distinguished_by_their_contents(server, endpoint):
    server.records = [{"id": 7, "name": f"n{number}"} for number in range(30)]
    got = ids(server.client(page_size=10), endpoint(key=(), sort=None))
    assert got == {7: 30}


def test_equal_records_without_a_key_are_accepted_when_two_readings_agree(server, endpoint):
    server.records = [{"id": 7}] * 30
    stats = ReadStats()
    got = ids(server.client(page_size=10), endpoint(key=(), sort=None), stats=stats)
    assert got == {7: 30}
    assert stats.readings == 3, "equal records cannot show whether pages touch"


def test_records_are_distinguished_by_a_composite_key(server, endpoint):
    server.records = [{"id": number // 2, "type": number % 2} for number in range(30)]
    stats = ReadStats()
    got = ids(server.client(page_size=10), endpoint(key=("id", "type")), stats=stats)
    assert sum(got.values()) == 30
    assert stats.readings == 1


@pytest.mark.parametrize("seed", range(24))
def test_an_accepted_reading_lacks_no_record_that_stayed_whatever_moved(server, endpoint, seed):
    """Records leave at random moments; in a list without a window, new ones enter."""
    chance = random.Random(seed)
    server.fill(chance.randrange(60, 150))
    stayed = {record["id"] for record in server.records}
    window = chance.choice([ENDED, None])
    moves = chance.randrange(1, 25)

    def move(number, seen):
        if number <= moves and chance.random() < 0.6:
            leaving = {chance.choice(server.records)["id"] for _ in range(chance.randrange(1, 4))}
            server.remove(*leaving)
            stayed.difference_update(leaving)
            if window is None and chance.random() < 0.7:
                server.records.append({"id": 1000 + number})

    server.before_page = move
    changes = {"sort": chance.choice(["+Id", None]), "includes_total": chance.random() < 0.7}
    if window is None:
        changes |= {"kind": "snapshot", "date_filter": None}
    try:
        got = ids(server.client(page_size=chance.choice([7, 10, 25])), endpoint(**changes), window)
    except ReadingMoved:
        assert moves > 6
    else:
        assert stayed <= set(got)


def test_a_later_reading_without_rows_still_voids_the_earlier_ones(server, endpoint):
    server.fill(30)
    server.before_page = lambda number, seen: server.records.clear() if number == 3 else None
    assert not ids(server.client(page_size=10), endpoint(sort=None), ENDED)
