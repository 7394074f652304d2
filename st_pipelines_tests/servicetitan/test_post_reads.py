"""Data that ServiceTitan reads by POST, such as reports: handled like a GET in every respect."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from st_pipelines.servicetitan.errors.errors import BadRequest, ServiceTitanError
from st_pipelines.servicetitan.http.model import ReadStats, Usage
from st_pipelines.servicetitan.reading.envelope import ParsedPage
from st_pipelines.servicetitan.reading.page_source import PageSource
from st_pipelines_tests.servicetitan.fake_server import APP_KEY, Canned, Seen
from st_pipelines_tests.servicetitan.read_results import ENDED

BODY = {"parameters": [{"name": "Customer", "value": "Acme Heating"}]}


def source(server: Any, endpoint: Any, **changes: Any) -> PageSource:
    session = server.session(ReadStats(), **changes)
    return PageSource(session, endpoint(), ENDED, method="POST", body=BODY)


def pages(source: PageSource, count: int) -> list[ParsedPage]:
    return [source.fetch(source.page(index)) for index in range(count)]


def test_every_page_posts_the_body_as_json_and_pages_by_the_query(server, endpoint):
    server.fill(15)
    found = pages(source(server, endpoint, page_size=10), 2)
    assert [page.count for page in found] == [10, 5]
    assert [seen.method for seen in server.seen] == ["POST", "POST"]
    assert [json.loads(seen.body) for seen in server.seen] == [BODY, BODY]
    assert [(seen.page, seen.page_size) for seen in server.seen] == [(1, 10), (2, 10)]
    for seen in server.seen:
        assert seen.headers["content-type"] == "application/json"
        assert seen.headers["authorization"] == f"Bearer {server.tokens[0]}"
        assert seen.headers["st-app-key"] == APP_KEY
        assert seen.query["modifiedOnOrAfter"] == "2026-01-02T05:00:00Z"


@pytest.mark.parametrize(
    "failure",
    [
        Canned(status=429),
        Canned(status=503),
        Canned(fault="reset"),
        Canned(body=b'{"data": [{"id": 1'),
        Canned(body={"data": []}, fault="truncated"),
    ],
)
def test_a_transient_failure_is_retried_with_the_same_body(server, endpoint, failure):
    server.fill(3)
    server.canned.append(failure)
    posting = source(server, endpoint)
    assert pages(posting, 1)[0].count == 3
    assert [json.loads(seen.body) for seen in server.seen] == [BODY, BODY]
    assert posting.session.usage.requests == 2


def test_a_401_renews_the_token_and_replays_the_body(server, endpoint):
    server.fill(3)
    posting = source(server, endpoint)
    pages(posting, 1)
    server.revoked.add(server.tokens[0])
    assert pages(posting, 1)[0].count == 3
    assert [json.loads(seen.body) for seen in server.seen] == [BODY] * 3
    assert len(server.tokens) == 2


def test_a_permanent_failure_is_not_retried_and_names_the_method(server, endpoint):
    server.rule = lambda seen: Canned(status=400, body={"title": "wrong parameter"})
    with pytest.raises(BadRequest, match=r"^POST http://.*wrong parameter") as caught:
        pages(source(server, endpoint), 1)
    assert len(server.seen) == 1
    assert caught.value.method == "POST"


def echo(seen: Seen) -> Canned:
    return Canned(status=400, body={"title": f"{seen.headers} {seen.raw_query}"})


@pytest.mark.parametrize("level", [logging.INFO, logging.DEBUG])
def test_errors_and_logs_show_neither_a_secret_nor_the_body(server, endpoint, caplog, level):
    caplog.set_level(level)
    server.fill(1)
    posting = source(server, endpoint)
    pages(posting, 1)
    server.rule = echo
    with pytest.raises(ServiceTitanError) as caught:
        pages(posting, 1)
    shown = str(caught.value) + repr(vars(caught.value)) + caplog.text
    assert "jobs?modifiedOnOrAfter=2026-01-02T05:00:00Z" in str(caught.value)
    assert [secret for secret in (APP_KEY, *server.tokens, "Acme") if secret in shown] == []


def test_text_instead_of_records_is_described_like_that_of_a_get(server, endpoint):
    server.rule = lambda seen: Canned(body=b"The service is being upgraded.")
    with pytest.raises(ServiceTitanError, match="30 bytes of"):
        pages(source(server, endpoint), 1)


def test_a_page_that_is_too_large_is_halved(server, endpoint):
    server.rule = lambda seen: Canned(status=500) if seen.page_size > 100 else None
    posting = source(server, endpoint, page_size=200)
    with pytest.raises(ServiceTitanError) as caught:
        pages(posting, 1)
    posting.make_smaller(caught.value)
    assert posting.page_size == 100


def test_a_failing_token_endpoint_does_not_shrink_the_page(server, endpoint):
    server.canned_tokens.extend([Canned(status=503)] * 20)
    posting = source(server, endpoint, page_size=200)
    with pytest.raises(ServiceTitanError) as caught:
        pages(posting, 1)
    with pytest.raises(ServiceTitanError):
        posting.make_smaller(caught.value)
    assert posting.page_size == 200


def test_a_session_posts_without_parameters(server):
    server.rule = lambda seen: Canned(body=seen.body)
    body = b'{"startsOnOrAfter": "2026-01-02"}'
    session = server.client().session(Usage())
    assert session.fetch("/dispatch/v2/capacity", {}, bytes, method="POST", body=body) == body
    assert (server.seen[0].method, server.seen[0].raw_query) == ("POST", "")
