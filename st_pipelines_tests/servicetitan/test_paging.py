"""Lists that do not move: which pages are requested, and when the reading ends."""

from __future__ import annotations

import threading
from time import monotonic, sleep

import pytest

from st_pipelines.catalog.model import DateFilter
from st_pipelines.servicetitan.errors.errors import (
    BadRequest,
    ReadingMoved,
    ServiceUnavailable,
    UnexpectedResponse,
    Unreachable,
)
from st_pipelines.servicetitan.http.model import ReadStats
from st_pipelines.servicetitan.http.retry import RetryPolicy
from st_pipelines.servicetitan.reading.lookup import Controls, look_up
from st_pipelines.servicetitan.reading.read import read
from st_pipelines.windows import Window
from st_pipelines_tests.deadlines import DEADLINE
from st_pipelines_tests.servicetitan.fake_server import Canned
from st_pipelines_tests.servicetitan.read_results import ENDED, ids, last_reading


def test_a_hundred_thousand_rows_cost_at_most_25_requests_and_one_token(server, endpoint):
    server.fill(100_000)
    stats = ReadStats()
    assert len(ids(server.client(), endpoint(), stats=stats, concurrency=8)) == 100_000
    assert stats.requests == len(server.seen) <= 25
    assert stats.token_requests == len(server.forms) == 1
    assert (stats.readings, stats.total, stats.records) == (1, 100_000, 100_000)
    assert stats.bytes > 100_000 * 20


def test_an_endpoint_without_rows_costs_one_request_and_yields_an_empty_page(server, endpoint):
    pages = list(read(server.client(), endpoint(), ENDED, stats=ReadStats()))
    assert [(page.reading, page.records, page.count) for page in pages] == [(1, b"[]", 0)]
    assert len(server.seen) == 1


def test_a_single_page_costs_one_request(server, endpoint):
    server.fill(3)
    assert ids(server.client(), endpoint()) == {1: 1, 2: 1, 3: 1}
    assert len(server.seen) == 1


def test_the_query_has_filter_sort_total_page_and_the_endpoints_own_parameters(server, endpoint):
    ids(server.client(), endpoint(params={"active": "Any"}, max_page_size=500))
    assert server.seen[0].path == "/jpm/v2/tenant/4711/jobs"
    assert server.seen[0].query == {
        "active": "Any",
        "modifiedOnOrAfter": "2026-01-02T05:00:00Z",
        "modifiedBefore": "2026-01-03T05:00:00Z",
        "sort": "+Id",
        "includeTotal": "true",
        "page": "1",
        "pageSize": "500",
    }
    assert "sort=%2BId" in server.seen[0].raw_query


@pytest.mark.parametrize(
    ("takes_it", "guid", "sent"),
    [(True, "a-guid", "a-guid"), (True, None, None), (False, "a-guid", None)],
)
def test_the_application_of_external_data_is_named_where_the_list_takes_it(
    server, endpoint, takes_it, guid, sent
):
    """Without it, ServiceTitan leaves `externalData` empty; other lists may refuse it."""
    client = server.client(external_data_app_guid=guid)
    listed = endpoint(external_data=takes_it, ids=True)
    ids(client, listed)
    list(look_up(client.session(ReadStats()), listed, [1], controls=Controls()))
    assert [seen.query.get("externalDataApplicationGuid") for seen in server.seen] == [sent, sent]


def test_the_connections_page_size_is_requested_where_the_endpoint_allows_it(server, endpoint):
    ids(server.client(page_size=20), endpoint())
    assert server.seen[0].page_size == 20


def test_a_page_capped_by_the_server_does_not_end_the_reading(server, endpoint):
    server.fill(95)
    server.cap = 10
    assert len(ids(server.client(), endpoint())) == 95


def test_an_empty_page_in_the_middle_does_not_end_the_reading(server, endpoint):
    """A page without rows says that more follow; the pages after it must be read."""
    server.fill(60)
    server.empty_pages = {3}
    client = server.client(page_size=10)
    with pytest.raises(ReadingMoved):  # ten rows are missing, so the reading is not accepted
        ids(client, endpoint(sort=None))
    assert max(seen.page for seen in server.seen) >= 6


@pytest.mark.parametrize("totals", [True, False])
@pytest.mark.parametrize("sort", ["+Id", None])
def test_a_page_that_is_empty_by_mistake_is_requested_again(server, endpoint, sort, totals):
    """The page is empty in every reading, so two readings that lack it would agree."""
    server.fill(60)
    server.totals = totals
    slip = Canned(body={"hasMore": True, "totalCount": 60 if totals else None, "data": []})

    def slips(seen):
        before = server.seen[-2].page if len(server.seen) > 1 else 0
        return slip if seen.page == 3 != before else None

    server.rule = slips
    stats = ReadStats()
    facts = endpoint(sort=sort)
    assert len(ids(server.client(page_size=10), facts, stats=stats, concurrency=1)) == 60
    assert stats.readings == (1 if sort or totals else 2)


def test_an_empty_page_in_the_middle_is_harmless_if_nothing_is_missing(server, endpoint):
    def with_gap(seen):
        data = {1: [1, 2], 2: [], 3: [3]}[seen.page] if seen.page_size > 1 else [1]
        has_more = seen.page < 3
        return Canned(
            body={"hasMore": has_more, "totalCount": 3, "data": [{"id": one} for one in data]}
        )

    server.rule = with_gap
    assert ids(server.client(page_size=2), endpoint()) == {1: 1, 2: 1, 3: 1}


def test_null_data_is_refused_after_the_retries(server, endpoint):
    server.rule = lambda seen: Canned(body={"hasMore": False, "totalCount": 0, "data": None})
    with pytest.raises(UnexpectedResponse, match="null instead of records"):
        list(read(server.client(), endpoint(), ENDED, stats=ReadStats()))


def test_endless_has_more_with_the_same_page_ends_in_a_clear_error(server, endpoint):
    server.fill(10)
    server.honors_page = False
    with pytest.raises(UnexpectedResponse, match="hasMore is still true"):
        ids(server.client(page_size=5), endpoint())
    assert len(server.seen) < 20


def test_endless_has_more_with_empty_pages_ends_in_a_clear_error(server, endpoint):
    server.rule = lambda seen: Canned(body={"hasMore": True, "data": []})
    with pytest.raises(UnexpectedResponse, match="no new record"):
        ids(server.client(), endpoint())
    assert len(server.seen) < 20


def test_a_page_without_has_more_is_not_taken_for_the_last(server, endpoint):
    server.fill(30)
    server.rule = lambda seen: Canned(body={"data": [{"id": 11}]}) if seen.page == 2 else None
    with pytest.raises(UnexpectedResponse, match="page 2 does not say"):
        ids(server.client(page_size=10), endpoint())


def test_an_endpoint_that_counts_from_zero_is_read_from_page_zero(server, endpoint):
    def from_zero(seen):
        begin = seen.page * seen.page_size
        rows = [{"id": one} for one in range(25)][begin : begin + seen.page_size]
        more = begin + seen.page_size < 25
        return Canned(body={"hasMore": more, "totalCount": 25, "data": rows})

    server.rule = from_zero
    assert sorted(ids(server.client(page_size=10), endpoint(first_page=0))) == list(range(25))
    assert server.seen[0].page == 0


def test_an_endpoint_without_pages_is_requested_once_and_without_a_page_number(server, endpoint):
    server.envelope = "data"
    server.fill(4)
    facts = endpoint(paged=False, envelope="data", includes_total=False, sort=None)
    assert len(ids(server.client(), facts)) == 4
    assert [set(seen.query) for seen in server.seen] == [{"modifiedOnOrAfter", "modifiedBefore"}]


def test_an_endpoint_without_pages_that_has_more_is_an_error(server, endpoint):
    server.fill(60)
    with pytest.raises(UnexpectedResponse, match="no pages to request"):
        ids(server.client(), endpoint(paged=False))


def test_a_bare_array_is_the_records(server, endpoint):
    server.envelope = "array"
    server.fill(4)
    facts = endpoint(envelope="array", paged=False, kind="snapshot", date_filter=None)
    pages = list(read(server.client(), facts, None, stats=ReadStats()))
    assert len(last_reading(pages)) == 4
    assert pages[0].records.startswith(b"[{")


@pytest.mark.parametrize("rows", [0, 3])
def test_a_short_list_without_has_more_costs_at_most_two_requests(server, endpoint, rows):
    server.envelope = "data"
    server.fill(rows)
    assert len(ids(server.client(), endpoint(envelope="data"))) == rows
    assert len(server.seen) == min(rows, 1) + 1


def test_a_list_without_has_more_that_ignores_the_page_is_read_once(server, endpoint):
    server.envelope = "data"
    server.honors_page = False
    server.fill(3)
    assert ids(server.client(), endpoint(envelope="data")) == {1: 1, 2: 1, 3: 1}
    assert len(server.seen) == 2


def test_a_paged_array_is_read_to_the_first_empty_page_and_must_agree_twice(server, endpoint):
    server.envelope = "array"
    server.fill(25)
    stats = ReadStats()
    assert len(ids(server.client(page_size=10), endpoint(envelope="array"), stats=stats)) == 25
    assert stats.readings == 2


def test_an_open_start_is_left_out_unless_the_endpoint_requires_one(server, endpoint):
    open_start = Window(start=None, end=ENDED.end)
    ids(server.client(), endpoint(), open_start)
    required = DateFilter(lower="fromUtc", upper="toUtc", required=True)
    ids(server.client(), endpoint(date_filter=required), open_start)
    assert "modifiedOnOrAfter" not in server.seen[0].query
    assert server.seen[1].query["fromUtc"] == "1970-01-01T00:00:00Z"
    assert server.seen[1].query["toUtc"] == "2026-01-03T05:00:00Z"


def test_a_page_size_that_is_refused_is_halved_and_remembered(server, endpoint):
    def limited(seen):
        if seen.page_size <= 500:
            return None
        errors = {"PageSize": ["must be between 1 and 500"]}
        return Canned(status=400, body={"title": "Invalid", "errors": errors})

    server.rule = limited
    server.fill(700)
    client, stats = server.client(), ReadStats()
    assert len(ids(client, endpoint(), stats=stats)) == 700
    assert stats.page_size == 312
    before = len(server.seen)
    ids(client, endpoint())
    assert server.seen[before].page_size == 312


def test_any_other_bad_request_does_not_shrink_the_page(server, endpoint):
    server.rule = lambda seen: Canned(status=400, body={"title": "wrong date"})
    with pytest.raises(BadRequest, match="wrong date"):
        ids(server.client(), endpoint())
    assert [seen.page_size for seen in server.seen][1:] == [1, 1], (
        "a page of one row is refused as well, with `sort` and without it"
    )


@pytest.mark.parametrize("fault", ["hang", "500"])
def test_a_page_that_overloads_the_server_is_halved(server, endpoint, fault):
    """Page numbers change meaning with the size, so the reading starts over."""

    def overloaded(seen):
        if seen.page_size <= 100 or seen.page == 1:
            return None
        return Canned(fault="hang") if fault == "hang" else Canned(status=500)

    server.rule = overloaded
    server.fill(450)
    stats = ReadStats()
    client = server.client(page_size=200, timeout=0.15)
    assert len(ids(client, endpoint(), stats=stats, concurrency=2)) == 450
    assert (stats.readings, stats.page_size) == (2, 100)


def test_a_server_that_is_down_does_not_shrink_the_page(server, endpoint):
    server.rule = lambda seen: Canned(status=503, body="<html>down</html>")
    with pytest.raises(ServiceUnavailable):
        ids(server.client(), endpoint())
    assert {seen.page_size for seen in server.seen} == {5000, 1}


def test_the_page_size_is_never_halved_below_fifty(server, endpoint):
    server.rule = lambda seen: Canned(status=500) if seen.page_size > 1 else None
    with pytest.raises(ServiceUnavailable):
        ids(server.client(page_size=120), endpoint())
    assert {seen.page_size for seen in server.seen} == {120, 60, 50, 1}


def test_a_reset_connection_does_not_shrink_the_page(server, endpoint):
    client = server.client()
    client.session(ReadStats()).get("/anything")
    server.rule = lambda seen: Canned(fault="reset")
    with pytest.raises(Unreachable):
        ids(client, endpoint())
    assert {seen.page_size for seen in server.seen[1:]} == {5000}


def test_closing_the_iterator_leaves_no_thread_and_no_further_request(server, endpoint):
    server.fill(1000)
    before = set(threading.enumerate())
    pages = read(server.client(page_size=10), endpoint(), ENDED, stats=ReadStats(), concurrency=4)
    assert [next(pages).count, next(pages).count] == [10, 8]
    pages.close()
    left = [one for one in set(threading.enumerate()) - before if "servicetitan" in one.name]
    assert left == []
    assert len(server.seen) <= 12


def test_closing_the_iterator_ends_the_waits_of_pages_that_are_being_retried(server, endpoint):
    """A 503 with a wait of five minutes must not hold up a cancelled run."""
    server.fill(1000)
    busy = Canned(status=503, headers={"Retry-After": "300"})
    server.rule = lambda seen: busy if seen.page > 2 else None
    client = server.client(page_size=10, policy=RetryPolicy(sleep=lambda seconds: sleep(0.002)))
    pages = read(client, endpoint(), ENDED, stats=ReadStats(), concurrency=3)
    assert [next(pages).count, next(pages).count] == [10, 8]
    begun = monotonic()
    pages.close()
    assert monotonic() - begun < 1.5


def test_closing_the_iterator_aborts_hanging_pages(server, endpoint):
    """Ctrl-C must not wait for the timeout of every page in flight."""
    server.fill(1000)
    server.rule = lambda seen: Canned(fault="hang") if seen.page > 2 else None
    client = server.client(page_size=10, timeout=DEADLINE)
    pages = read(client, endpoint(), ENDED, stats=ReadStats(), concurrency=3)
    assert [next(pages).count, next(pages).count] == [10, 8]
    begun = monotonic()
    pages.close()
    assert monotonic() - begun < DEADLINE / 2


def test_the_concurrency_limits_how_many_pages_are_fetched_ahead(server, endpoint):
    """A slow consumer must not fill the memory."""
    server.fill(1000)
    client = server.client(page_size=10)
    pages = read(client, endpoint(), ENDED, stats=ReadStats(), concurrency=3)
    assert [next(pages).count, next(pages).count] == [10, 8]
    for _ in range(40):  # time enough for the threads to run ahead
        client.session(ReadStats()).get("/other")
    pages.close()
    assert len([seen for seen in server.seen if seen.path != "/other"]) <= 1 + 3


def test_records_that_are_not_objects_are_an_error(server, endpoint):
    server.rule = lambda seen: Canned(body={"hasMore": False, "data": [1, 2]})
    with pytest.raises(UnexpectedResponse, match="not the expected"):
        ids(server.client(), endpoint())


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({"data": []}, "neither records nor hasMore nor totalCount"),
        ({"data": None}, "null instead of"),
    ],
)
def test_a_body_without_any_information_is_not_an_empty_list(server, endpoint, body, problem):
    server.rule = lambda seen: Canned(body=body)
    with pytest.raises(UnexpectedResponse, match=problem):
        ids(server.client(), endpoint())


def test_null_without_any_information_is_not_an_empty_list(server, endpoint):
    """A snapshot without rows would mark everything deleted."""
    server.rule = lambda seen: Canned(body={"data": None})
    facts = endpoint(envelope="data", paged=False, kind="snapshot", date_filter=None)
    with pytest.raises(UnexpectedResponse, match="null instead of records"):
        ids(server.client(), facts, None)


def test_an_empty_page_with_a_total_is_not_the_whole_list(server, endpoint):
    server.rule = lambda seen: Canned(body={"data": [], "totalCount": 180})
    with pytest.raises(ReadingMoved):
        ids(server.client(), endpoint(date_filter=None, kind="snapshot"), None)


def test_a_server_that_ignores_the_page_is_not_trusted_if_its_total_is_larger(server, endpoint):
    rows = [{"id": number} for number in range(50)]
    server.rule = lambda seen: Canned(body={"data": rows, "totalCount": 180})
    with pytest.raises(ReadingMoved):
        ids(server.client(), endpoint())


def test_a_negative_total_is_ignored(server, endpoint):
    rows = [{"id": number} for number in range(180)]

    def page(seen):
        start = (seen.page - 1) * 50
        more = start + 50 < len(rows)
        return Canned(body={"data": rows[start : start + 50], "hasMore": more, "totalCount": -1})

    server.rule = page
    assert len(ids(server.client(), endpoint(max_page_size=50))) == 180


def test_numbers_and_booleans_as_text_mean_the_same(server, endpoint):
    body = {"data": [{"id": 1}], "hasMore": "false", "totalCount": "1"}
    server.rule = lambda seen: Canned(body=body)
    assert ids(server.client(), endpoint()) == {1: 1}


def test_each_record_with_a_null_key_counts(server, endpoint):
    rows = [{"id": None, "name": str(number)} for number in range(2)] + [{"id": 1}, {"id": 2}]

    def page(seen):
        start = (seen.page - 1) * 2
        more = start + 2 < len(rows)
        return Canned(body={"data": rows[start : start + 2], "hasMore": more, "totalCount": 4})

    server.rule = page
    pages = read(server.client(), endpoint(max_page_size=2), ENDED, stats=ReadStats())
    assert len(last_reading(pages)) == 4


REFUSED = pytest.mark.parametrize("status", [400, 404])


def refuses_after_the_end(server, status):
    """Refuse pages after the last, instead of serving them empty."""

    def rule(seen):
        beyond = (seen.page - 1) * min(seen.page_size, server.cap) >= max(len(server.records), 1)
        return Canned(status=status, body={"title": "no such page"}) if beyond else None

    server.rule = rule


@REFUSED
@pytest.mark.parametrize("sort", ["+Id", None])
def test_a_page_after_the_end_may_be_refused(server, endpoint, status, sort):
    server.fill(1200)
    refuses_after_the_end(server, status)

    def leave(number, seen):
        if number == 2:
            server.remove(*range(1100, 1201))

    server.before_page = leave
    assert set(ids(server.client(page_size=100), endpoint(sort=sort))) >= set(range(1, 1100))


@REFUSED
def test_a_list_without_has_more_may_end_with_a_refusal(server, endpoint, status):
    server.envelope = "data"
    server.fill(250)
    refuses_after_the_end(server, status)
    assert len(ids(server.client(page_size=100), endpoint(includes_total=False))) == 250


def test_a_list_without_has_more_and_total_ends_with_an_empty_page(server, endpoint):
    server.envelope = "data"
    server.fill(250)
    assert len(ids(server.client(page_size=100), endpoint(includes_total=False))) == 250


@REFUSED
def test_a_refused_page_in_the_middle_is_not_taken_for_the_end(server, endpoint, status):
    server.fill(1000)
    refused = Canned(status=status, body={"title": "no page 3"})
    server.rule = lambda seen: refused if seen.page >= 3 else None
    with pytest.raises(ReadingMoved, match="no page 3"):
        ids(server.client(page_size=100), endpoint(sort=None))


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_large_page_may_be_refused_in_any_wording(server, endpoint, status):
    server.fill(1200)
    refused = Canned(status=status, body={"title": "at most 500 records in a request"})
    server.rule = lambda seen: refused if seen.page_size > 500 else None
    client = server.client(page_size=2000)
    assert len(ids(client, endpoint())) == 1200
    assert client.page_limits == {endpoint().table: 500}
