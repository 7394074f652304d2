"""Access tokens are shared, renewed in time, and never requested more often than needed."""

from __future__ import annotations

import base64
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import jwt
import pytest
from pydantic import SecretStr

from st_pipelines.servicetitan.errors.errors import (
    AuthenticationFailed,
    ServiceUnavailable,
    UnexpectedResponse,
)
from st_pipelines.servicetitan.http.auth import TokenSource, token_source_for
from st_pipelines.servicetitan.http.client import Client
from st_pipelines.servicetitan.http.model import TokenClaims, Usage
from st_pipelines.servicetitan.http.retry import NO_WAIT
from st_pipelines.servicetitan.http.tokens import read_token_claims
from st_pipelines.servicetitan.http.transport import new_http_session
from st_pipelines_tests.servicetitan.fake_server import CLIENT_SECRET, Canned


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def source(server, clock=None, **changes):
    return TokenSource(server.connection(**changes), clock=clock or Clock())


def fetch(source, usage=None):
    return source.get_token(new_http_session(), NO_WAIT, usage=usage)


def test_the_credentials_are_sent_as_a_form(server):
    fetch(source(server))
    assert server.forms == [
        {
            "grant_type": "client_credentials",
            "client_id": server.client_id,
            "client_secret": CLIENT_SECRET,
        }
    ]


def test_eight_threads_without_a_token_cause_one_request(server):
    tokens, barrier = source(server), Barrier(8)

    def together(_):
        barrier.wait()
        return fetch(tokens)

    with ThreadPoolExecutor(8) as pool:
        tokens_seen = set(pool.map(together, range(8)))
    assert len(tokens_seen) == len(server.forms) == 1


def test_eight_threads_with_a_refused_token_renew_it_once(server):
    tokens, barrier = source(server), Barrier(8)
    old = fetch(tokens)

    def refused(_):
        barrier.wait()
        tokens.invalidate(old)
        return fetch(tokens)

    with ThreadPoolExecutor(8) as pool:
        new = set(pool.map(refused, range(8)))
    assert len(new) == 1
    assert old not in new
    assert len(server.forms) == 2


def test_a_late_401_for_an_old_token_does_not_drop_the_new_one(server):
    tokens = source(server)
    old = fetch(tokens)
    tokens.invalidate(old)
    new = fetch(tokens)
    tokens.invalidate(old)
    assert fetch(tokens) is new


@pytest.mark.parametrize(
    ("lifetime", "still_good", "renewed"),
    [(900, 839, 840), ("900", 839, 840), (100, 89, 90), (None, 839, 840)],
)
def test_a_token_is_renewed_a_minute_or_a_tenth_of_its_lifetime_before_it_expires(
    server, lifetime, still_good, renewed
):
    clock = Clock()
    tokens, server.lifetime = source(server, clock), lifetime
    first = fetch(tokens)
    clock.now = 1000 + still_good
    assert fetch(tokens) is first
    clock.now = 1000 + renewed
    assert fetch(tokens) is not first


def test_clients_with_the_same_credentials_share_a_token(server):
    one = server.connection()
    for connection in (one, server.connection(tenant_id="4712")):
        Client(connection, policy=NO_WAIT).session(Usage()).get("/anything")
    assert len(server.forms) == 1
    assert token_source_for(one) is token_source_for(server.connection())


@pytest.mark.parametrize(
    "change",
    [
        {"client_id": "cid.other"},
        {"environment": "integration"},
        {"auth_url": "http://127.0.0.1:1"},
        {"client_secret": SecretStr("corrected")},
    ],
)
def test_different_credentials_have_different_token_sources(server, change):
    assert token_source_for(server.connection()) is not token_source_for(
        server.connection(**change)
    )


@pytest.mark.parametrize("status", [400, 401])
def test_refused_credentials_are_not_retried(server, status):
    server.canned_tokens.append(Canned(status=status, body={"error": "invalid_client"}))
    with pytest.raises(AuthenticationFailed, match="invalid_client") as caught:
        fetch(source(server))
    assert caught.value.permanent
    assert "environment 'sandbox'" in caught.value.hint
    assert "rotated" in caught.value.hint
    assert len(server.forms) == 1


def test_transient_failures_of_the_token_endpoint_are_retried(server):
    server.canned_tokens += [Canned(status=503), Canned(status=429), Canned(fault="reset")]
    usage = Usage()
    assert fetch(source(server), usage)
    assert usage.token_requests == 4


def test_the_retries_of_token_and_data_requests_do_not_multiply(server):
    server.canned_tokens += [Canned(status=503)] * 100
    with pytest.raises(ServiceUnavailable):
        server.session().get("/anything")
    assert len(server.forms) == NO_WAIT.attempts


def test_a_token_response_without_a_token_is_an_error(server):
    server.canned_tokens += [Canned(body={"token": "x"})] * 100
    with pytest.raises(UnexpectedResponse, match="no access_token"):
        fetch(source(server))


@pytest.mark.parametrize(
    ("payload", "tenants", "scopes", "lifetime"),
    [
        (
            {"tenant": "7", "scope": ["tn.a:r", "tn.b:r"], "nbf": 10, "exp": 910},
            {"7"},
            {"tn.a:r", "tn.b:r"},
            900,
        ),
        ({"tenant": 7, "scope": "tn.a:r", "iat": 10, "exp": 70.5}, {"7"}, {"tn.a:r"}, 60),
        ({"scope": "tn.a:r tn.b:r"}, set(), {"tn.a:r", "tn.b:r"}, None),
        ({"tenant": ["7", "8"], "scp": "tn.a:r", "exp": 5}, {"7", "8"}, {"tn.a:r"}, None),
        ({"scope": []}, set(), set(), None),
        ({}, set(), None, None),
    ],
)
def test_claims_are_read_in_any_common_spelling(payload, tenants, scopes, lifetime):
    claims = read_token_claims(
        SecretStr(jwt.encode(payload, "a key that nobody checks, long enough"))
    )
    assert claims == TokenClaims(
        tenants=frozenset(tenants),
        scopes=None if scopes is None else frozenset(scopes),
        lifetime=lifetime,
    )


@pytest.mark.parametrize("token", ["opaque", "a.b.c", "", "eyJhbGciOiJIUzI1NiJ9.W10.x"])
def test_the_claims_of_an_opaque_token_are_unknown(token):
    assert read_token_claims(SecretStr(token)) is None


@pytest.mark.parametrize("text", ["", " ", "a b", "a\r\nX-Evil: 1", "\u00e9", "\0"])
def test_a_token_that_no_header_can_hold_is_refused_where_it_was_issued(server, text):
    """The error of the data request blamed the app key."""
    server.canned_tokens.extend([Canned(body={"access_token": text, "expires_in": 900})] * 9)
    with pytest.raises(UnexpectedResponse, match="it holds no access_token"):
        fetch(source(server))


@pytest.mark.parametrize("lifetime", ["Infinity", "nan", "-inf", True, [], "9" * 400])
def test_a_lifetime_that_is_no_number_of_seconds_is_the_documented_one(server, lifetime):
    clock = Clock()
    tokens = source(server, clock)
    body = {"access_token": "t", "expires_in": lifetime}
    server.canned_tokens.extend([Canned(body=body)] * 2)
    fetch(tokens)
    clock.now += 800
    fetch(tokens)
    assert len(server.forms) == 1
    clock.now += 100
    fetch(tokens)
    assert len(server.forms) == 2


@pytest.mark.parametrize("payload", ['{"exp": 1e400, "nbf": 1}', '{"exp": NaN, "iat": 1}', "1"])
def test_a_token_with_odd_times_has_no_known_lifetime(payload):
    part = base64.urlsafe_b64encode(payload.encode()).decode().rstrip("=")
    claims = read_token_claims(SecretStr(f"eyJhbGciOiJub25lIn0.{part}."))
    assert claims is None or claims.lifetime is None
