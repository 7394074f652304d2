"""Looking up ids: an absent record counts as gone only if its neighbors in the request came.

A server may cut off `ids` without a word; then everything beyond looked deleted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from st_pipelines.catalog.model import Endpoint
from st_pipelines.servicetitan.http.model import ReadStats
from st_pipelines.servicetitan.reading.lookup import MAX_IDS, Controls, look_up
from st_pipelines_tests.servicetitan.fake_server import Canned, ScriptedServer, Seen
from st_pipelines_tests.warehouse.factories import endpoint

THINGS = endpoint(ids=True)
GONE = (30, 40, 50)


def serve(
    server: ScriptedServer, existing: Iterable[int], cut: Callable[[list[int]], list[int]]
) -> None:
    """Serves existing ids, of those that the server looks at."""
    there = {*existing}

    def answer(seen: Seen) -> Canned:
        ids = cut([int(id_) for id_ in seen.query["ids"].split(",")])
        data = [{"id": id_} for id_ in ids if id_ in there]
        return Canned(body={"data": data, "hasMore": False, "totalCount": len(data), "page": 1})

    server.rule = answer


def gone(server: ScriptedServer, ids: Iterable[int], **controls: Any) -> set[int]:
    session = server.client().session(ReadStats())
    results = look_up(session, THINGS, [*ids], controls=Controls(**controls))
    return {id_ for result in results for id_ in result.gone}


def requested(server: ScriptedServer) -> list[list[int]]:
    return [[int(id_) for id_ in seen.query["ids"].split(",")] for seen in server.seen]


CUTS = {
    "the first": lambda n: lambda ids: ids[:n],
    "the last": lambda n: lambda ids: ids[-n:],
}


@pytest.mark.parametrize("which", CUTS)
@pytest.mark.parametrize(
    "controls",
    [
        {"known": (10, 60)},
        {"known": (10, 20)},
        {"known": (60, 70)},
        {"known": (35, 45)},
        {"unverified": (10, 60)},
        {"known": (10,), "unverified": (20, 60)},
    ],
    ids=str,
)
def test_ids_that_a_server_cuts_off_are_not_gone(
    server: ScriptedServer, which: str, controls: dict[str, tuple[int, ...]]
) -> None:
    known = {id_ for ids in controls.values() for id_ in ids}
    for number in range(1, 6):
        serve(server, {*known, *GONE}, CUTS[which](number))
        assert gone(server, GONE, **controls) == set()
    serve(server, known, lambda ids: ids)
    found = gone(server, GONE, **controls)
    # two known ids on one side prove that two may be requested: each alone with one of them
    assert found == {*GONE}


def test_batches_have_the_nearest_known_ids_on_both_sides(server: ScriptedServer) -> None:
    serve(server, range(0, 1000, 100), lambda ids: ids)
    ids = [id_ for id_ in range(101, 500) if id_ % 100]
    assert gone(server, ids, known=tuple(range(0, 1000, 100))) == {*ids}
    for batch in requested(server):
        assert len(batch) <= MAX_IDS
        assert batch[0] % 100 == batch[-1] % 100 == 0
        assert batch[0] == batch[1] // 100 * 100
        assert batch[-1] == (batch[-2] // 100 + 1) * 100


def test_without_an_id_that_is_served_nothing_is_gone(server: ScriptedServer) -> None:
    serve(server, [], lambda ids: ids)
    assert gone(server, GONE) == set()
    assert gone(server, GONE, known=(10, 60)) == set()
    assert gone(server, GONE, unverified=(10, 60)) == set()


def test_one_known_id_beside_the_others_proves_nothing(server: ScriptedServer) -> None:
    """That one id is served does not tell whether two are."""
    serve(server, [10], lambda ids: ids)
    assert gone(server, [30], known=(10,)) == set()


def test_an_id_between_known_ones_is_gone_whatever_is_beyond_them(server: ScriptedServer) -> None:
    """One id on the other side must not take the proof from those in between."""
    of = dataclasses.replace(THINGS, variants=({"type": "a"}, {"type": "b"}))
    types = {10: "a", 45: "a", 99: "b"}

    def answer(seen: Seen) -> Canned:
        ids = {int(id_) for id_ in seen.query["ids"].split(",")}
        data = [{"id": i} for i, t in types.items() if i in ids and t == seen.query["type"]]
        return Canned(body={"data": data, "hasMore": False, "page": 1})

    server.rule = answer
    session = server.client().session(ReadStats())
    controls = Controls(known=(10, 45), others=(99,))
    results = look_up(session, of, GONE, controls=controls)
    assert {id_ for result in results for id_ in result.gone} == {30, 40}


def test_a_batch_is_no_larger_than_what_the_server_has_shown_to_serve(
    server: ScriptedServer,
) -> None:
    known = tuple(range(1, 31))
    serve(server, known, lambda ids: ids[:30])
    ids = [*range(100, 200)]
    assert gone(server, ids, known=known) == {*ids}
    assert max(map(len, requested(server))) == 30


def test_a_server_that_ignores_ids_proves_nothing(server: ScriptedServer) -> None:
    serve(server, [10, 20, 60], lambda _: [10, 20, 60])
    assert gone(server, GONE, known=(10, 60)) == set()
    assert gone(server, GONE, known=(10,), unverified=(10, 20)) == set()


def test_a_page_that_is_not_the_last_proves_nothing(server: ScriptedServer) -> None:
    data = [{"id": 10}, {"id": 60}]
    server.rule = lambda _: Canned(body={"data": data, "hasMore": True, "page": 1})
    assert gone(server, GONE, known=(10, 60)) == set()


@pytest.mark.parametrize(("total", "expected"), [(3, set()), (2, {*GONE}), (None, set())])
def test_a_page_that_does_not_say_whether_more_follow_is_the_last_if_its_total_says_so(
    server: ScriptedServer, total: int | None, expected: set[int]
) -> None:
    data = [{"id": 10}, {"id": 60}]
    server.rule = lambda _: Canned(body={"data": data, "totalCount": total, "page": 1})
    assert gone(server, GONE, known=(10, 60)) == expected


def test_a_list_without_pages_serves_everything_at_once(server: ScriptedServer) -> None:
    of = dataclasses.replace(THINGS, paged=False)
    server.rule = lambda _: Canned(body={"data": [{"id": 10}, {"id": 60}]})
    results = look_up(server.session(), of, GONE, controls=Controls(known=(10, 60)))
    assert {id_ for result in results for id_ in result.gone} == {*GONE}


def test_no_ids_take_no_request(server: ScriptedServer) -> None:
    assert gone(server, [], known=(10, 60), unverified=(70,)) == set()
    assert server.seen == []


def test_every_part_of_a_list_has_a_known_id_in_each_request(server: ScriptedServer) -> None:
    """One variant that answers with nothing must not look like deleted records."""
    of = dataclasses.replace(THINGS, variants=({"type": "a"}, {"type": "b"}))
    types = {10: "a", 60: "a", 99: "b"}
    broken = set[str]()

    def answer(seen: Seen) -> Canned:
        ids = {int(id_) for id_ in seen.query["ids"].split(",")}
        type_ = seen.query["type"]
        data = [{"id": i} for i, t in types.items() if i in ids and t == type_]
        return Canned(body={"data": [] if type_ in broken else data, "hasMore": False, "page": 1})

    server.rule = answer
    controls = Controls(known=(10, 60), others=(99,))
    for broken_type, expected in ((None, {*GONE}), ("a", set()), ("b", set())):
        broken.clear()
        broken |= {broken_type} if broken_type else set()
        session = server.client().session(ReadStats())
        results = look_up(session, of, GONE, controls=controls)
        assert {id_ for result in results for id_ in result.gone} == expected


@pytest.mark.parametrize("includes_total", [True, False])
def test_a_lookup_asks_for_the_total_where_the_list_takes_that_parameter(
    server: ScriptedServer, includes_total: bool
) -> None:
    """The list of Intacct's business units answers 400 without it."""
    things = dataclasses.replace(THINGS, includes_total=includes_total)
    request_once(server, things)
    assert ("includeTotal=true" in server.seen[0].raw_query) == includes_total


@pytest.mark.parametrize(
    ("repeated", "sent"), [(False, "ids=10%2C30%2C60&"), (True, "ids=10&ids=30&ids=60&")]
)
def test_ids_are_sent_as_the_list_takes_them(
    server: ScriptedServer, repeated: bool, sent: str
) -> None:
    request_once(server, dataclasses.replace(THINGS, ids_repeated=repeated))
    assert sent in server.seen[0].raw_query


def request_once(server: ScriptedServer, things: Endpoint) -> None:
    """Looks up an id between two that exist."""
    server.rule = lambda _: Canned(body={"data": [{"id": 10}, {"id": 60}], "hasMore": False})
    session = server.client().session(ReadStats())
    results = [*look_up(session, things, [30], controls=Controls(known=(10, 60)))]
    assert [id_ for result in results for id_ in result.gone] == [30]
