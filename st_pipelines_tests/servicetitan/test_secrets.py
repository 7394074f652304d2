"""No secret in anything that a person or a log may see."""

from __future__ import annotations

import json
import logging
import pickle
import traceback
from pathlib import Path
from urllib.parse import quote

import pytest
from pydantic import SecretStr

import st_pipelines
from st_pipelines.catalog.registry import load_catalog
from st_pipelines.servicetitan.errors.errors import ServiceTitanError
from st_pipelines.servicetitan.http.auth import TokenSource
from st_pipelines.servicetitan.http.model import ReadStats, Usage
from st_pipelines.servicetitan.http.redact import redact_url, scrub
from st_pipelines.servicetitan.http.retry import NO_WAIT
from st_pipelines.servicetitan.http.transport import new_http_session
from st_pipelines.servicetitan.reading.export_feed import read_feed
from st_pipelines_tests.servicetitan.fake_server import APP_KEY, CLIENT_SECRET, Canned
from st_pipelines_tests.servicetitan.read_results import ids

PACKAGE = Path(st_pipelines.__file__).parent
PATH = "/jpm/v2/tenant/{tenant}/jobs"
PLACE = "continuation-token-of-a-feed"


def secrets(server):
    return [CLIENT_SECRET, quote(CLIENT_SECRET, safe=""), APP_KEY, *server.tokens]


def everything_shown(error):
    """Collect message, repr, arguments, attributes, and the traceback with its local variables."""
    shown, todo, seen = [], [error], set()
    while todo:
        one = todo.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        shown += [str(one), repr(one), repr(one.args), repr(vars(one))]
        todo += [one.__cause__, one.__context__]
    inside = traceback.TracebackException.from_exception(error, capture_locals=True)
    for frame in inside.stack:
        if Path(frame.filename).is_relative_to(PACKAGE):
            shown += [repr(frame.locals), frame.line or ""]
    return "\n".join(shown)


def echo(server):
    """Respond with everything that was sent, as some gateways do."""

    def answer(seen):
        everything = {
            "title": f"refused {APP_KEY} and {CLIENT_SECRET}",
            "traceId": server.tokens[-1],
            "errors": {"headers": [str(seen.headers), quote(CLIENT_SECRET, safe="")]},
        }
        return Canned(status=400, body=everything)

    return answer


@pytest.mark.parametrize(
    "rule",
    [
        echo,
        lambda server: lambda seen: Canned(status=401, body=str(seen.headers)),
        lambda server: lambda seen: Canned(status=403, body="<html>" + str(seen.headers)),
        lambda server: lambda seen: Canned(status=429, body={"message": str(seen.headers)}),
        lambda server: lambda seen: Canned(status=503, body="x" * 480 + str(seen.headers)),
        lambda server: lambda seen: Canned(status=200, body=str(seen.headers)),
        lambda server: lambda seen: Canned(status=302, headers={"Location": f"/{APP_KEY}?k=1"}),
        lambda server: lambda seen: Canned(fault="reset"),
        lambda server: lambda seen: Canned(fault="truncated"),
        lambda server: lambda seen: Canned(fault="hang"),
    ],
)
def test_no_failure_shows_a_secret(server, endpoint, rule, caplog):
    caplog.set_level(logging.DEBUG, logger="st_pipelines")
    client = server.client(timeout=0.1)
    client.session(Usage()).get(PATH)
    server.rule = rule(server)
    feed = endpoint(kind="feed", envelope="export")
    with pytest.raises(ServiceTitanError) as caught:
        list(read_feed(client.session(ReadStats()), feed, PLACE))
    shown = everything_shown(caught.value) + caplog.text
    assert [secret for secret in secrets(server) if secret in shown] == []
    assert PLACE not in repr(vars(caught.value)) + str(caught.value) + caplog.text


def test_the_debug_log_of_urllib3_shows_no_continuation_token(server, caplog):
    caplog.set_level(logging.DEBUG, logger="urllib3")
    server.session().get(PATH, {"from": PLACE, "pageSize": "5"})
    assert "jobs?from=***&pageSize=5" in caplog.text
    assert PLACE not in caplog.text


def test_a_refused_secret_is_not_shown(server):
    server.canned_tokens.append(Canned(status=400, body=f"invalid_client {CLIENT_SECRET}"))
    with pytest.raises(ServiceTitanError) as caught:
        server.session().get(PATH)
    assert CLIENT_SECRET not in everything_shown(caught.value)


def test_an_app_key_that_is_not_a_valid_header_is_neither_shown_nor_retried(server):
    usage = ReadStats()
    key = "ak1.key-with-a\nline-break"
    with pytest.raises(ServiceTitanError, match="line break") as caught:
        server.session(usage, app_key=SecretStr(key)).get(PATH)
    shown = everything_shown(caught.value)
    assert key not in shown
    assert repr(key)[1:-1] not in shown
    assert usage.requests == 1


def test_errors_do_not_chain_exceptions_of_the_http_library(server):
    """It would carry the request, and with it every header."""
    client = server.client()
    server.rule = lambda seen: Canned(fault="reset")
    with pytest.raises(ServiceTitanError) as caught:
        client.session(Usage()).get(PATH)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_the_repr_of_a_connection_or_token_shows_no_secret(server):
    token = TokenSource(server.connection()).get_token(new_http_session(), NO_WAIT)
    shown = repr(server.connection()) + repr(token) + repr(ReadStats(continue_from=PLACE))
    assert PLACE not in shown
    assert [secret for secret in secrets(server) if secret in shown] == []


def test_an_error_survives_being_pickled(server):
    server.rule = lambda seen: Canned(status=403)
    with pytest.raises(ServiceTitanError) as caught:
        server.session().get(PATH)
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value)
    assert again.status == 403


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://a.io/x", "https://a.io/x"),
        (
            "https://a.io/x?page=2&pageSize=5&sort=%2BId&active=Any&activeOnly=true",
            "https://a.io/x?page=2&pageSize=5&sort=+Id&active=Any&activeOnly=true",
        ),
        (
            "https://a.io/x?modifiedOnOrAfter=2026-01-02T05%3A00%3A00Z&modifiedBefore=2026-01-03",
            "https://a.io/x?modifiedOnOrAfter=2026-01-02T05:00:00Z&modifiedBefore=2026-01-03",
        ),
        ("https://a.io/x?ids=1,22,333&jobIds=7", "https://a.io/x?ids=<3 ids>&jobIds=<1 id>"),
        ("https://a.io/x?ids=1&ids=22&page=1&page=2", "https://a.io/x?ids=<2 ids>&page=1&page=2"),
        (
            "https://a.io/x?includeTotal=true&calculated=false",
            "https://a.io/x?includeTotal=true&calculated=false",
        ),
        (
            "https://a.io/x?sort=Jane%20Doe&page=x&active=Jane%20Doe&billType=x9&name=Jane",
            "https://a.io/x?sort=***&page=***&active=***&billType=***&name=***",
        ),
        ("https://a.io/x?from=2026-01-02", "https://a.io/x?from=2026-01-02"),
        ("https://a.io/x?from=CfDJ8token&name=Bob", "https://a.io/x?from=***&name=***"),
        ("https://a.io/x?modifiedBefore=secret", "https://a.io/x?modifiedBefore=***"),
        (
            "https://user:pw@a.io/x?servicetitanapplicationkey=k",
            "https://a.io/x?servicetitanapplicationkey=***",
        ),
    ],
)
def test_a_url_shows_only_paging_sort_flags_choices_dates_and_the_number_of_ids(url, shown):
    assert redact_url(url) == shown


def test_a_url_shows_every_parameter_that_the_catalog_itself_sets():
    constants = {
        pair
        for endpoint in load_catalog()
        for params in (endpoint.params, *endpoint.variants)
        for pair in params.items()
    }
    assert len(constants) > 15
    for name, value in constants:
        assert redact_url(f"https://a.io/x?{name}={value}") == f"https://a.io/x?{name}={value}"


@pytest.mark.parametrize(
    "text",
    [
        "key ak1.abcdefgh in text",
        "token eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl in text",
        "token eyJhbGciOiJSUzI1NiJ9.eyJzdWIi in text",
        "Authorization: Bearer opaque-token-123",
        "encoded se%2Fcret%2B1 in text",
        r"json se/cret+1\n",
        r"json se\/cret\u002B1\n",
        r"json in json se\\/cret\\u002b1\\n",
        "encoded se%2fcret%2b1%0a in text",
        "encoded twice se%252Fcret%252B1 in text",
    ],
)
def test_scrubbing_removes_secrets_in_any_encoding(text):
    scrubbed = scrub(text, ["ak1.abcdefgh", "se/cret+1\n"])
    assert "***" in scrubbed
    for secret in ("abcdefgh", "eyJ", "opaque", "cret"):
        assert secret not in scrubbed


@pytest.mark.parametrize(
    "body",
    [
        b"access_token=opaque-and-secret&expires_in=900",
        b' {"token":"opaque-and-secret"}',
        b"opaque-and-secret",
        b'{"access_token":["opaque-and-secret"]}',
    ],
)
def test_an_unexpected_token_response_is_not_quoted(server, body):
    server.canned_tokens.extend([Canned(body=body)] * 9)
    with pytest.raises(ServiceTitanError, match="it holds no access_token") as caught:
        server.session().get(PATH)
    assert "opaque-and-secret" not in everything_shown(caught.value)


@pytest.mark.parametrize("before", [b" ", b")]}',\n", b"\xff\xfe"])
def test_a_body_with_records_is_not_quoted(server, endpoint, before):
    server.rule = lambda seen: Canned(body=before + b'{"data":[{"name":"Jane Doe"}]')
    with pytest.raises(ServiceTitanError) as caught:
        ids(server.client(), endpoint())
    assert "Jane" not in str(caught.value)


@pytest.mark.parametrize("status", [200, 400, 404, 500])
def test_plain_text_is_described_and_not_quoted(server, status):
    """A proxy may answer with a part of a record, and errors stand in Dagster's event log."""
    server.rule = lambda seen: Canned(
        status=status,
        body=b"Jane Doe, 1 Main St",
        headers={"Content-Type": "text/plain; charset=utf-8"},
    )
    with pytest.raises(ServiceTitanError, match="19 bytes") as caught:
        server.session().get(PATH)
    assert "Jane" not in everything_shown(caught.value)


@pytest.mark.parametrize("status", [200, 400, 500])
@pytest.mark.parametrize(
    "body",
    [{"name": "Jane"}, {"data": "Jane"}, ["Jane"], "Jane", {"title": {}, "data": {"a": "Jane"}}],
)
def test_json_that_explains_nothing_is_not_quoted(server, status, body):
    server.rule = lambda seen: Canned(status=status, body=json.dumps(body))
    with pytest.raises(ServiceTitanError) as caught:
        server.session().fetch(PATH, {}, refuse)
    assert "Jane" not in str(caught.value)


def refuse(body: bytes) -> None:
    raise ValueError("it is not what was expected")


def test_an_error_that_came_with_status_200_shows_its_title_and_trace_id(server):
    body = {"title": "The service is being upgraded.", "traceId": "00-4bf9-01", "who": "Jane"}
    server.rule = lambda seen: Canned(body=body)
    with pytest.raises(ServiceTitanError, match=r"being upgraded \(traceId 00-4bf9-01\)") as caught:
        server.session().fetch(PATH, {}, refuse)
    assert "Jane" not in str(caught.value)
