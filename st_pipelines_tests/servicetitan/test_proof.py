"""Reading lists that move: nothing that stayed may be missing, and what is unproven fails."""

from __future__ import annotations

import random

import pytest

from st_pipelines.servicetitan.envelope import Served
from st_pipelines.servicetitan.errors import ReadingMoved
from st_pipelines.servicetitan.proof import Course, Proof, Tally
from st_pipelines.servicetitan.usage import ReadStats
from st_pipelines_tests.servicetitan.reading import ENDED, ids, not_ended
from st_pipelines_tests.servicetitan.server import Canned


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
    assert stats.readings > 1
    assert stats.total == 1952


def test_records_that_leave_during_every_reading_do_not_harm_a_descending_one(server, endpoint):
    """Without a pause in the changes no two readings agree; sorted and backwards is complete."""
    server.fill(1000)
    server.before_page = lambda number, seen: server.remove(server.records[0]["id"])
    stats = ReadStats()
    got = ids(server.client(page_size=100), endpoint(), stats=stats)
    assert {record["id"] for record in server.records} <= set(got)
    assert stats.readings == 2


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


def test_a_record_that_leaves_after_the_last_page_is_noticed_by_the_closing_request(
    server, endpoint
):
    server.fill(30)

    def leave(number, seen):
        if number == 4:
            assert seen.page_size == 1
            server.remove(1)

    server.before_page = leave
    stats = ReadStats()
    ids(server.client(page_size=10), endpoint(), stats=stats)
    assert stats.readings == 2


def test_a_window_that_stands_still_is_read_once_even_without_a_sort(server, endpoint):
    server.fill(30)
    stats = ReadStats()
    assert len(ids(server.client(page_size=10), endpoint(sort=None), stats=stats)) == 30
    assert (stats.readings, stats.requests) == (1, 4)


def test_equal_totals_with_a_record_missing_are_not_accepted(server, endpoint):
    """An order that differs between requests repeats one record and omits another."""
    server.fill(40)

    def shuffled(seen):
        if seen.page == 2 and seen.page_size == 10:
            rows = [{"id": number} for number in (31, *range(29, 20, -1))]
            return Canned(body={"hasMore": True, "totalCount": 40, "data": rows})
        return None

    server.rule = shuffled
    with pytest.raises(ReadingMoved, match="40 records, 39 distinct, total 40"):
        ids(server.client(page_size=10), endpoint(sort=None))


def test_a_descending_reading_in_which_the_total_rises_is_not_accepted(server, endpoint):
    """A record that enters at the front pushes others from unread pages onto read ones."""
    server.records = [{"id": number} for number in range(100, 200)]
    entered = []

    def enter(number, seen):
        if number == 4:
            server.remove(199)
        if seen.page == 5 and seen.page_size == 10 and not entered and number > 14:
            entered.append(number)
            server.records.insert(0, {"id": 1})

    server.before_page = enter
    stats = ReadStats()
    got = ids(server.client(page_size=10), endpoint(), stats=stats)
    assert entered
    assert {record["id"] for record in server.records} <= set(got)
    assert stats.readings == 3


def served(ids, total, has_more, ascending=True):
    return Served(records=b"", keys=list(ids), ascending=ascending, has_more=has_more, total=total)


@pytest.mark.parametrize(
    ("last", "first", "accepted"),
    [
        (served(range(11, 21), 20, False), served(range(1, 11), 20, True), True),
        (served(range(11, 21), 20, False), served(range(2, 12), 19, True), True),
        (served(range(11, 21), 19, False), served(range(1, 11), 20, True), False),  # rose
        (served(range(11, 21), 20, True), served(range(1, 11), 20, True), False),  # not the last
        (served(range(11, 21), 20, False, False), served(range(1, 11), 20, True), False),
        (served(range(12, 21), 20, False), served(range(1, 11), 20, True), False),  # too few
    ],
)
def test_a_descending_reading_is_accepted_only_under_all_of_its_conditions(
    endpoint, last, first, accepted
):
    tally = Tally(course=Course.DESCENDING)
    tally.add(last)
    tally.add(first)
    assert Proof(endpoint(), None).accepts(tally, lambda: None) is accepted


def test_a_sort_that_the_server_ignores_is_not_relied_upon(server, endpoint):
    """Newest first in spite of sort=+Id: reading backwards would prove nothing."""
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
    sizes_of_ten = [seen.page for seen in server.seen if seen.page_size == 10]
    assert sorted(sizes_of_ten[-10:]) == list(range(1, 11))
    assert stats.readings == 2


@pytest.mark.parametrize("window", [None, ENDED])
def test_a_sorted_snapshot_is_read_backwards_once(server, endpoint, window):
    """Also when a window is given, which a list without a date filter cannot honour."""
    server.fill(35)
    snapshot = endpoint(kind="snapshot", date_filter=None)
    stats = ReadStats()
    assert len(ids(server.client(page_size=10), snapshot, window, stats=stats)) == 35
    assert [seen.page for seen in server.seen] == [1, 4, 3, 2, 1]
    assert stats.readings == 1


def test_the_last_page_is_found_by_the_size_of_the_pages_that_the_server_makes(server, endpoint):
    """Asked for 5,000 it serves 10; by the asked size the first page would be the last."""
    server.fill(35)
    server.cap = 10
    snapshot = endpoint(kind="snapshot", date_filter=None)
    assert len(ids(server.client(), snapshot, None)) == 35
    assert [seen.page for seen in server.seen] == [1, 4, 3, 2, 1]


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
def test_an_unsorted_snapshot_of_several_pages_is_read_until_two_readings_agree(
    server, endpoint, totals
):
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
    assert sorted(got) == [*range(1, 39), 40, 41]
    assert stats.readings == 3


def test_a_window_that_has_not_ended_needs_two_readings_that_agree(server, endpoint):
    server.fill(40)
    stats = ReadStats()
    ids(server.client(page_size=10), endpoint(), not_ended(), stats=stats)
    assert stats.readings == 2


def test_guid_keys_are_read_until_two_readings_agree(server, endpoint):
    """The server's order of GUIDs is its own, so that "backwards" cannot be checked."""
    server.records = [{"id": f"{number:032x}"} for number in range(30)]
    snapshot = endpoint(kind="snapshot", date_filter=None)
    stats = ReadStats()
    assert len(ids(server.client(page_size=10), snapshot, None, stats=stats)) == 30
    assert stats.readings == 2


def test_a_list_without_totals_is_read_one_page_after_the_other_and_must_agree(server, endpoint):
    server.fill(35)
    stats = ReadStats()
    facts = endpoint(includes_total=False)
    assert len(ids(server.client(page_size=10), facts, stats=stats)) == 35
    assert [seen.page for seen in server.seen] == [1, 2, 3, 4] * 2
    assert "includeTotal" not in server.seen[0].query


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
    assert stats.readings == 2


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
    assert not ids(server.client(page_size=10), endpoint(), ENDED)
