"""Export feeds are followed by token to the end, and never in a circle."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from zoneinfo import available_timezones

import pytest

from st_pipelines.catalog.model import Export
from st_pipelines.servicetitan.errors.errors import TokenRepeated, UnexpectedResponse
from st_pipelines.servicetitan.http.model import ReadStats
from st_pipelines.servicetitan.reading.export_feed import read_feed
from st_pipelines.windows import midnight
from st_pipelines_tests.servicetitan.fake_server import Canned, Seen
from st_pipelines_tests.servicetitan.read_results import ENDED, last_reading


@pytest.fixture
def feed(endpoint):
    return endpoint(kind="feed", envelope="export", path="/jpm/v2/tenant/{tenant}/export/notes")


def chained(**pages):
    """Serve pages by the `from` that requests them; "start" for anything that is not a token."""

    def rule(seen):
        ids, token, more = pages.get(seen.query.get("from", ""), pages["start"])
        data = [{"id": one} for one in ids]
        return Canned(body={"hasMore": more, "continueFrom": token, "data": data})

    return rule


def test_a_feed_is_read_to_its_end_and_its_last_token_is_kept(server, feed):
    server.rule = chained(start=([1, 2], "t1", True), t1=([], "t2", True), t2=([3], "t3", False))
    stats = ReadStats()
    records = last_reading(read_feed(server.session(stats), feed, ENDED.start))
    assert [record["id"] for record in records] == [1, 2, 3]
    assert [seen.query["from"] for seen in server.seen] == ["2026-01-01", "t1", "t2"]
    assert all(seen.query["includeRecentChanges"] == "true" for seen in server.seen)
    assert all("page" not in seen.query for seen in server.seen)
    assert (stats.continue_from, stats.records, stats.readings) == ("t3", 3, 1)


def test_a_feed_without_a_start_is_read_from_the_beginning(server, feed):
    server.rule = chained(start=([], "t1", False))
    list(read_feed(server.session(), feed, None))
    assert all("from" not in seen.query for seen in server.seen)


def test_a_start_is_sent_as_a_date_that_has_begun_by_then_in_every_time_zone(server, feed):
    """Which time zone the server takes is not known: a UTC date began later in New York."""
    server.rule = chained(start=([], "t1", False))
    starts = [datetime(2026, 3, 8, hour, 59, tzinfo=timezone.utc) for hour in range(24)]
    for start in starts:
        list(read_feed(server.session(), feed, start.astimezone(timezone(timedelta(hours=-7)))))
    sent = [seen.query["from"] for seen in server.seen]
    assert sent == ["2026-03-07"] * 12 + ["2026-03-08"] * 12
    days = [date.fromisoformat(day) for day in sent]
    for zone in available_timezones():
        begun = [midnight(day, zone) for day in days]
        assert all(early <= start for early, start in zip(begun, starts, strict=True)), zone


def test_a_feed_continues_from_a_stored_token(server, feed):
    server.rule = chained(start=([1], "t1", True), t1=([2], "t2", False))
    records = last_reading(read_feed(server.session(), feed, "t1"))
    assert [record["id"] for record in records] == [2]


def test_a_stored_token_answered_by_nothing_at_all_is_no_longer_valid(server, feed):
    """It looked like a feed without news, so that the changes since then were never read."""
    server.rule = chained(start=([], None, False))
    with pytest.raises(UnexpectedResponse, match=r"a stored .* neither records nor a new token"):
        list(read_feed(server.session(), feed, "stored"))


def test_a_token_of_the_feed_answered_by_nothing_at_all_is_an_error(server, feed):
    server.rule = chained(start=([1], "t1", True), t1=([], None, False))
    with pytest.raises(UnexpectedResponse, match=r"its own .* neither records nor a new token"):
        list(read_feed(server.session(), feed, "stored"))


def test_an_empty_feed_without_a_token_is_no_error_from_a_date(server, feed):
    server.rule = chained(start=([], None, False))
    assert last_reading(read_feed(server.session(), feed, ENDED.start)) == []


def test_the_export_of_a_list_has_its_own_path_and_parameters(server, endpoint):
    server.rule = chained(start=([1], "t1", False))
    export = Export(path="/jpm/v2/tenant/{tenant}/export/jobs", params={"active": "Any"})
    list(read_feed(server.session(), endpoint(export=export), None))
    assert server.seen[0].path == "/jpm/v2/tenant/4711/export/jobs"
    assert server.seen[0].query["active"] == "Any"


@pytest.mark.parametrize("circle", ["t2", "t1"])
def test_a_repeated_token_with_more_to_follow_is_an_error(server, feed, circle):
    server.rule = chained(start=([1], "t1", True), t1=([2], "t2", True), t2=([3], circle, True))
    with pytest.raises(TokenRepeated):
        list(read_feed(server.session(), feed, None))
    assert len(server.seen) == 7, "it is requested five times, as it may be a slip"


def test_a_stored_token_that_leads_to_itself_is_an_error(server, feed):
    server.rule = chained(start=([1], "t1", True))
    with pytest.raises(TokenRepeated):
        list(read_feed(server.session(), feed, "t1"))
    assert len(server.seen) == 5


@pytest.mark.parametrize("start", [None, "t1"])
def test_an_empty_page_that_leads_to_itself_is_the_end(server, feed, start):
    server.rule = chained(start=([1], "t1", True), t1=([], "t1", True))
    stats = ReadStats()
    records = last_reading(read_feed(server.session(stats), feed, start))
    assert [record["id"] for record in records] == ([] if start else [1])
    assert stats.continue_from == "t1"
    assert len([seen for seen in server.seen if seen.query.get("from") == "t1"]) == 5


def test_a_token_repeated_once_by_mistake_loses_no_records(server, feed):
    server.rule = chained(start=([1], "t1", True), t1=([2], "t2", True), t2=([3], "t3", False))
    slip = Canned(body={"hasMore": True, "continueFrom": "t1", "data": [{"id": 2}]})
    server.canned.extend([server.rule(Seen(path="", query={}, headers={})), slip])
    records = last_reading(read_feed(server.session(), feed, None))
    assert [record["id"] for record in records] == [1, 2, 3]


def test_a_last_page_may_repeat_its_token(server, feed):
    """No new data: the same bookmark again, and nothing more to follow."""
    server.rule = chained(start=([], "t1", False))
    stats = ReadStats()
    list(read_feed(server.session(stats), feed, "t1"))
    assert stats.continue_from == "t1"


@pytest.mark.parametrize("token", [None, ""])
def test_more_to_follow_without_a_token_is_an_error(server, feed, token):
    server.rule = chained(start=([1], token, True))
    with pytest.raises(UnexpectedResponse, match="has no continueFrom"):
        list(read_feed(server.session(), feed, None))


def test_a_feed_that_does_not_say_whether_more_follow_is_an_error(server, feed):
    server.rule = chained(start=([1], "t1", None))
    with pytest.raises(UnexpectedResponse, match="does not say"):
        list(read_feed(server.session(), feed, None))


def test_a_feed_of_new_tokens_without_rows_ends_in_an_error(server, feed):
    server.rule = lambda seen: Canned(
        body={"hasMore": True, "continueFrom": f"t{len(server.seen)}", "data": []}
    )
    with pytest.raises(TokenRepeated, match="empty pages"):
        list(read_feed(server.session(), feed, None))
    assert len(server.seen) == 100
