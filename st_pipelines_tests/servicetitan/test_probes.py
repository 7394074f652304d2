"""Probes find out whether anything changed, without reading it."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from st_pipelines.servicetitan.http.model import ReadStats
from st_pipelines.servicetitan.reading.probes import ChangeProbe, probe_for_changes
from st_pipelines_tests.servicetitan.fake_server import Canned, ScriptedServer

SINCE = datetime(2026, 3, 5, 12, tzinfo=timezone.utc)
NOW = SINCE + timedelta(hours=1)
OLD, NEW = "2026-03-05T11:59:59.9Z", "2026-03-05T12:00:00Z"


def page(*records: dict[str, Any], token: str, more: bool = False) -> Canned:
    return Canned(body={"data": list(records), "hasMore": more, "continueFrom": token})


def probe(server: ScriptedServer, endpoint: Any, before: ChangeProbe) -> tuple[ChangeProbe, int]:
    stats = ReadStats()
    found = probe_for_changes(server.session(stats), endpoint, before, NOW)
    return found, stats.requests


@pytest.fixture
def feed(endpoint: Any) -> Any:
    return endpoint(kind="feed", envelope="export", cursor="modifiedOn", date_filter=None)


def test_a_list_is_probed_for_one_record_since_the_last_probe(
    server: ScriptedServer, endpoint: Any
) -> None:
    server.fill(3)
    found, requests = probe(server, endpoint(), ChangeProbe(since=SINCE))
    assert (found.changed, requests) == (True, 1)
    query = server.seen[-1].query
    assert query["pageSize"] == "1"
    assert query["modifiedOnOrAfter"] == "2026-03-05T12:00:00Z"
    assert "includeTotal" not in query
    server.records = []
    assert probe(server, endpoint(), ChangeProbe(since=SINCE))[0].changed is False


def test_variants_are_probed_in_turn(server: ScriptedServer, endpoint: Any) -> None:
    facts = endpoint(variants=({"billType": "A"}, {"billType": "B"}))
    before = ChangeProbe(since=SINCE)
    for wanted in ("A", "B", "A"):
        before, requests = probe(server, facts, before)
        assert (server.seen[-1].query["billType"], requests) == (wanted, 1)


def test_a_feed_is_read_to_its_end_once_and_then_from_its_token(
    server: ScriptedServer, feed: Any
) -> None:
    server.canned.extend(
        [
            page({"id": 1, "modifiedOn": OLD}, token="t1", more=True),
            page(token="t2"),
            page(token="t2"),
            page({"id": 1, "modifiedOn": NEW}, token="t3"),
            page(token="t3"),
        ]
    )
    found, requests = probe(server, feed, ChangeProbe(since=SINCE))
    assert (found.changed, requests, found.token) == (False, 2, "t2")
    assert server.seen[0].query["from"] == "2026-03-05"
    found, requests = probe(server, feed, found)
    assert (found.changed, requests) == (False, 1)
    assert server.seen[-1].query["from"] == "t2"
    found, requests = probe(server, feed, found)
    assert (found.changed, requests, found.token) == (True, 1, "t3")
    assert probe(server, feed, found)[0].changed is False, "it is not reported again"


def test_a_record_without_a_time_is_a_change_if_it_follows_the_token(
    server: ScriptedServer, feed: Any
) -> None:
    undated = {"id": 1, "modifiedOn": None}
    server.canned.extend([page(undated, token="t1"), page(undated, token="t2"), page(token="t2")])
    found, _ = probe(server, feed, ChangeProbe(since=SINCE))
    assert found.changed is False, "it was there before"
    found, _ = probe(server, feed, found)
    assert found.changed is True
    assert probe(server, feed, found)[0].changed is False


@pytest.mark.parametrize("status", [400, 403, 404, 410, 500])
def test_a_stale_token_is_replaced_by_the_date(
    server: ScriptedServer, feed: Any, status: int
) -> None:
    server.rule = lambda seen: (
        Canned(status=status) if seen.query["from"] == "stale" else page(token="t9")
    )
    found, _ = probe(server, feed, ChangeProbe(since=SINCE, token="stale"))
    assert (found.changed, found.token) == (False, "t9")
    assert server.seen[-1].query["from"] == "2026-03-05"


@pytest.mark.parametrize("odd", [b'"\xff"', b"1e400", rb'"\ud83d"'])
def test_an_unreadable_record_is_a_change(server: ScriptedServer, feed: Any, odd: bytes) -> None:
    new = b'{"id":1,"modifiedOn":"2026-03-06T00:00:00Z","odd":' + odd + b"}"
    server.canned.append(
        Canned(body=b'{"hasMore":false,"continueFrom":"t1","data":[' + new + b"]}")
    )
    assert probe(server, feed, ChangeProbe(since=SINCE))[0].changed is True
