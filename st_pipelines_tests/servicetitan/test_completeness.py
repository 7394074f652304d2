"""Reading lists that move: nothing that stayed may be missing, and what is unproven fails."""

from __future__ import annotations

import dataclasses
import itertools
import random

import msgspec
import pytest

from st_pipelines.servicetitan.errors.errors import ReadingMoved
from st_pipelines.servicetitan.reading.completeness import (
    CompletenessProof,
    PagingStrategy,
    ReadingSummary,
)
from st_pipelines.servicetitan.reading.envelope import ParsedPage
from st_pipelines.servicetitan.reading.overlap import Coverage
from st_pipelines.servicetitan.reading.stats import ReadStats
from st_pipelines_tests.servicetitan.fake_server import Canned
from st_pipelines_tests.servicetitan.read_results import ENDED, ids, not_ended


@pytest.mark.parametrize("sort", ["+Id", None])
@pytest.mark.parametrize("rising", [True, False])
def test_48_of_2000_records_that_leave_while_being_read_take_no_other_with_them(
    server, endpoint, sort, rising
):
    """The classic trap: 1,952 rows arrive, the final total is 1,952, and other rows are missing."""
    server.fill(2000)
    leaving = [(number if rising else 2001 - number) for number in range(1, 49)]

    def leave(number, seen):
        if 2 <= number < 14:
            server.remove(*leaving[4 * (number - 2) : 4 * (number - 1)])

    server.before_page = leave
    stats = ReadStats()
    got = ids(server.client(page_size=100), endpoint(sort=sort), stats=stats)
    assert set(range(1, 2001)) - set(leaving) <= set(got)
    assert (stats.readings == 1) is (sort == "+Id"), "without a sort a movement needs another"
    assert stats.total == 1952


@pytest.mark.parametrize("at_once", [1, 20])
def test_records_that_leave_at_every_request_do_not_harm_a_sorted_reading(
    server, endpoint, at_once
):
    """Without a pause in the changes no two readings agree; more leave than pages overlap.

    One page at a time: the order of pages in flight would decide how often the list has moved.
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


def test_records_that_leave_during_every_unsorted_reading_are_reported_as_movement(
    server, endpoint
):
    server.fill(1000)
    server.before_page = lambda number, seen: server.remove(server.records[-1]["id"])
    stats = ReadStats()
    with pytest.raises(ReadingMoved, match=r"totals from \d+ to \d+") as caught:
        ids(server.client(page_size=100), endpoint(sort=None), stats=stats)
    assert stats.readings == 6
    assert "reading 6" in str(caught.value)
    assert not caught.value.permanent


def test_a_window_that_stands_still_is_read_once_even_without_a_sort(server, endpoint):
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
    """The total stays the same, and so does the number of distinct records of plain pages."""
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


def test_records_that_enter_at_the_front_push_no_other_out_of_sight(server, endpoint):
    server.records = [{"id": number} for number in range(100, 200)]

    def enter(number, seen):
        server.records[:0] = [{"id": 100 - 3 * number + one} for one in range(3)]

    server.before_page = enter
    assert set(range(100, 200)) <= set(ids(server.client(page_size=10), endpoint()))


def served(ids, total=20, has_more=True, ascending=True):
    rows = [msgspec.Raw(b'{"id":%d}' % one) for one in ids]
    return ParsedPage(
        rows=rows, keys=list(ids), ascending=ascending, has_more=has_more, total=total
    )


def proven(proof, coverage, first, last):
    """Whether a reading of two pages of 11 rows is accepted."""
    summary = ReadingSummary(paging=PagingStrategy.OVERLAPPING)
    for page in (coverage.link(first, at_start=True), coverage.link(last)):
        if page is not None:
            summary.add(page)
    return proof.is_complete(summary, coverage, 11)


@pytest.mark.parametrize(
    ("first", "last", "accepted"),
    [
        (served(range(1, 12)), served(range(11, 21), has_more=False), True),
        (served(range(1, 12)), served(range(12, 22), has_more=False), False),  # do not touch
        (served(range(1, 12)), served(range(11, 21), has_more=True), False),  # not the last
        (served(range(1, 12)), served([*range(11, 20), 5], has_more=False, ascending=False), False),
        (served(range(1, 12), 30), served(range(11, 21), 30, has_more=False), False),  # too few
        (served(range(1, 12), 30), served(range(11, 21), 20, has_more=False), True),
        (served(range(1, 12), 20), served(range(11, 21), 30, has_more=False), True),
        (served(range(1, 12), None), served(range(11, 21), None, has_more=False), True),
        (served(range(1, 12)), served([], has_more=False), False),  # behind the end
    ],
)
def test_a_sorted_reading_is_accepted_only_under_all_of_its_conditions(
    endpoint, first, last, accepted
):
    assert proven(CompletenessProof(endpoint()), Coverage(by_id=True), first, last) is accepted


@pytest.mark.parametrize(
    ("first", "last", "accepted"),
    [
        (served(range(20, 9, -1)), served(range(10, 0, -1), has_more=False), True),
        (served(range(20, 9, -1)), served(range(9, -1, -1), has_more=False), False),
        (served(range(20, 9, -1)), served(range(10, 0, -1)), False),
        (served(range(20, 9, -1), 21), served(range(10, 0, -1), 20, has_more=False), False),
        (served(range(20, 9, -1), 21), served(range(10, 0, -1), 21, has_more=False), False),
        (served(range(20, 9, -1), None), served(range(10, 0, -1), None, has_more=False), False),
    ],
)
def test_an_unsorted_reading_is_accepted_only_under_all_of_its_conditions(
    endpoint, first, last, accepted
):
    assert (
        proven(CompletenessProof(endpoint(sort=None)), Coverage(by_id=False), first, last)
        is accepted
    )


def test_a_record_that_was_changed_does_not_link_two_pages_of_an_unsorted_list():
    """Where the order goes by the time of change, it may have come from anywhere."""
    first, changed = served(range(20, 9, -1)), served(range(10, 0, -1), has_more=False)
    other = msgspec.Raw(b'{"id":10,"name":"new"}')
    changed = dataclasses.replace(changed, rows=[other, *changed.rows[1:]])
    coverage = Coverage(by_id=False)
    coverage.link(first, at_start=True)
    assert coverage.link(changed) is None


def test_a_sort_that_the_server_ignores_is_not_relied_upon(server, endpoint):
    """Newest first in spite of sort=+Id: ids then prove nothing, and contents must."""
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


@pytest.mark.parametrize("window", [None, ENDED, not_ended()])
@pytest.mark.parametrize("sort", ["+Id", None])
def test_a_list_that_stands_still_is_read_once_in_pages_that_overlap(
    server, endpoint, window, sort
):
    """Also a snapshot, and a window that has not ended."""
    server.fill(35)
    facts = endpoint(sort=sort, **({"date_filter": None} if window is None else {}))
    stats = ReadStats()
    assert len(ids(server.client(page_size=10), facts, window, stats=stats)) == 35
    asked = sorted(((s.page - 1) * s.page_size, s.page * s.page_size) for s in server.seen)
    assert asked[0] == (0, 10)
    assert asked[-1][1] >= 35
    assert all(later[0] < earlier[1] for earlier, later in itertools.pairwise(asked))
    assert (stats.readings, stats.requests) == (1, 5)


def test_the_pages_overlap_by_the_size_of_the_pages_that_the_server_makes(server, endpoint):
    """Asked for 5,000 it serves 10; by the asked size the first page would be the last."""
    server.fill(35)
    server.cap = 10
    assert len(ids(server.client(), endpoint(kind="snapshot", date_filter=None), None)) == 35
    assert len(server.seen) == 5


def test_a_server_that_knows_one_page_size_only_is_read_until_two_readings_agree(server, endpoint):
    rows = [{"id": number} for number in range(45)]

    def fixed(seen):
        begin = (seen.page - 1) * 10
        more = begin + 10 < len(rows)
        return Canned(body={"hasMore": more, "totalCount": 45, "data": rows[begin : begin + 10]})

    server.rule = fixed
    stats = ReadStats()
    assert len(ids(server.client(), endpoint(), stats=stats)) == 45
    assert stats.readings == 3


def test_a_snapshot_that_gains_and_loses_a_record_is_complete_in_spite_of_equal_totals(
    server, endpoint
):
    """The total stays 40 all the while; an ascending reading would miss a record."""
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


def test_guid_keys_are_linked_by_what_the_records_say(server, endpoint):
    """The server's order of GUIDs is its own; that it is the same all the while is enough."""
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


def test_a_full_page_of_a_list_that_tells_nothing_must_be_confirmed(server, endpoint):
    """Page 2 may be empty because a record left page 1, and another took its place."""
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


def test_a_single_page_with_another_total_is_read_again(server, endpoint):
    server.fill(2)
    server.canned.append(Canned(body={"hasMore": False, "totalCount": 2, "data": [{"id": 1}]}))
    assert sorted(ids(server.client(), endpoint())) == [1, 2]


def test_a_single_page_whose_total_never_fits_is_not_accepted(server, endpoint):
    server.rule = lambda seen: Canned(body={"hasMore": False, "totalCount": 9, "data": [{"id": 1}]})
    with pytest.raises(ReadingMoved, match="1 records, 1 distinct, total 9"):
        ids(server.client(), endpoint())
    assert len(server.seen) == 6


def test_records_without_a_key_are_told_apart_by_all_that_they_say(server, endpoint):
    server.records = [{"id": 7, "name": f"n{number}"} for number in range(30)]
    got = ids(server.client(page_size=10), endpoint(key=(), sort=None))
    assert got == {7: 30}


def test_equal_records_without_a_key_are_accepted_when_two_readings_agree(server, endpoint):
    server.records = [{"id": 7}] * 30
    stats = ReadStats()
    got = ids(server.client(page_size=10), endpoint(key=(), sort=None), stats=stats)
    assert got == {7: 30}
    assert stats.readings == 3, "equal records cannot tell whether pages touch"


def test_a_composite_key_tells_records_apart(server, endpoint):
    server.records = [{"id": number // 2, "type": number % 2} for number in range(30)]
    stats = ReadStats()
    got = ids(server.client(page_size=10), endpoint(key=("id", "type")), stats=stats)
    assert sum(got.values()) == 30
    assert stats.readings == 1


@pytest.mark.parametrize("seed", range(24))
def test_whatever_moves_no_record_that_stayed_is_missing_from_an_accepted_reading(
    server, endpoint, seed
):
    """Records leave, and where the list has no window new ones enter, at random moments."""
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


def test_a_later_reading_without_rows_still_makes_the_earlier_ones_void(server, endpoint):
    server.fill(30)
    server.before_page = lambda number, seen: server.records.clear() if number == 3 else None
    assert not ids(server.client(page_size=10), endpoint(sort=None), ENDED)
