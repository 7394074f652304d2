"""No response fills the memory: its size is counted while it is read and decompressed."""

from __future__ import annotations

import gzip
from collections import Counter

import pytest

from st_pipelines.servicetitan.errors.errors import (
    BadRequest,
    ResponseTooLarge,
    ServiceTitanError,
    UnexpectedResponse,
)
from st_pipelines.servicetitan.http.model import MAX_ERROR_BODY_BYTES, ReadStats
from st_pipelines.servicetitan.http.transport import Request, Unsigned, new_http_session, send
from st_pipelines.servicetitan.reading.export_feed import read_feed
from st_pipelines_tests.servicetitan.fake_server import Canned
from st_pipelines_tests.servicetitan.read_results import ids

PATH = "/jpm/v2/tenant/{tenant}/jobs"
MB = 1 << 20
BOMB = gzip.compress(b'{"data":[' + b" " * (20 * MB) + b"]}")
ZIPPED = {"Content-Encoding": "gzip"}


@pytest.mark.parametrize(
    "canned",
    [
        Canned(body=BOMB, headers=ZIPPED),
        Canned(body=gzip.compress(BOMB), headers={"Content-Encoding": "gzip, gzip"}),
        Canned(body=b'{"data":[', fault="endless"),
        Canned(body=b" " * (2 * MB)),
    ],
)
def test_a_response_that_is_too_large_names_the_setting_and_is_not_retried(server, canned):
    """A gzip body of 20 KB once became 20 GB, and the loader was killed."""
    assert len(BOMB) < MB / 10
    server.rule = lambda seen: canned
    usage = ReadStats()
    with pytest.raises(ResponseTooLarge, match="MAX_RESPONSE_MB, which is 1") as caught:
        server.session(usage, max_response_mb=1).get(PATH)
    assert len(server.seen) == 1
    assert caught.value.permanent
    assert usage.bytes == 0


def test_a_response_of_exactly_the_limit_is_accepted(server):
    body = b'{"data":[]' + b" " * (MB - 11) + b"}"
    server.rule = lambda seen: Canned(body=body)
    assert server.session(max_response_mb=1).get(PATH) == body


def test_a_token_response_is_limited_too(server):
    server.canned_tokens.append(Canned(body=BOMB, headers=ZIPPED))
    with pytest.raises(ResponseTooLarge):
        server.session().get(PATH)


@pytest.mark.parametrize("status", [302, 400, 503])
def test_only_the_beginning_of_an_error_body_is_read(server, status):
    server.canned.append(Canned(status=status, body=b"x", fault="endless"))
    request = Request(method="GET", url=f"{server.url}/x")
    response = send(new_http_session(), request, auth=Unsigned(), timeout=5)
    assert response.status == status
    assert len(response.body) == MAX_ERROR_BODY_BYTES


def test_pages_that_are_too_large_are_halved_until_they_fit(server, endpoint):
    server.records = [{"id": number, "text": "x" * 2000} for number in range(1, 1501)]
    client = server.client(max_response_mb=1, page_size=1000)
    read, stats = ids(client, endpoint()), ReadStats()
    assert read == Counter(range(1, 1501))
    assert client.page_limits == {endpoint().table: 500}
    server.seen.clear()
    ids(client, endpoint(), stats=stats)
    assert max(seen.page_size for seen in server.seen) == 500


def test_one_record_that_is_too_large_ends_the_read(server, endpoint):
    server.records = [{"id": 1, "text": "x" * (2 * MB)}]
    with pytest.raises(ResponseTooLarge):
        ids(server.client(max_response_mb=1), endpoint())
    assert len(server.seen) == 2


def test_a_feed_has_no_page_size_to_halve(server, endpoint):
    server.rule = lambda seen: Canned(body=BOMB, headers=ZIPPED)
    feed = endpoint(kind="feed", envelope="export")
    with pytest.raises(ResponseTooLarge, match="MAX_RESPONSE_MB"):
        list(read_feed(server.session(max_response_mb=1), feed, None))


@pytest.mark.parametrize("name", ["br", "zstd", "compress", "gzip, br", "Jane Doe <x>"])
def test_an_encoding_that_was_not_asked_for_is_named(server, name):
    server.rule = lambda seen: Canned(body=b"{}", headers={"Content-Encoding": name})
    with pytest.raises(ServiceTitanError) as caught:
        server.session().get(PATH)
    assert isinstance(caught.value, UnexpectedResponse) or name == "gzip, br"
    assert "Jane" not in str(caught.value)
    assert caught.value.problem is not None
    assert caught.value.problem.code == "undecodable"


@pytest.mark.parametrize("name", ["identity", "GZIP", "x-gzip"])
def test_the_names_of_known_encodings_are_accepted(server, name):
    body = b"{}" if name == "identity" else gzip.compress(b"{}")
    server.rule = lambda seen: Canned(body=body, headers={"Content-Encoding": name})
    assert server.session().get(PATH) == b"{}"


def test_a_body_that_is_compressed_twice_is_reported_as_such(server):
    twice = gzip.compress(gzip.compress(b"{}"))
    server.rule = lambda seen: Canned(body=twice, headers=ZIPPED)
    with pytest.raises(UnexpectedResponse, match="compressed once more than its header says"):
        server.session().get(PATH)


def test_an_error_with_an_unknown_encoding_keeps_its_status(server):
    server.rule = lambda seen: Canned(
        status=400, body=b"\x00\x01", headers={"Content-Encoding": "br"}
    )
    with pytest.raises(BadRequest):
        server.session().get(PATH)
