"""Every response that ServiceTitan may plausibly send, and how the client reacts."""

from __future__ import annotations

import gzip
import json
import threading
from datetime import datetime, timezone
from time import monotonic

import pytest

from st_pipelines.servicetitan.errors.errors import (
    AuthenticationFailed,
    BadRequest,
    PermissionDenied,
    QuotaUsedUp,
    RateLimited,
    ServiceTitanError,
    ServiceUnavailable,
    UnexpectedResponse,
    Unreachable,
    WrongPath,
)
from st_pipelines.servicetitan.http.auth import TokenSource
from st_pipelines.servicetitan.http.model import ReadStats, Usage
from st_pipelines.servicetitan.http.rate_limit import RateLimiter
from st_pipelines.servicetitan.http.retry import (
    NO_WAIT,
    Cancellation,
    Cancelled,
    RetryPolicy,
    parse_retry_after,
)
from st_pipelines.servicetitan.http.transport import new_http_session
from st_pipelines_tests.servicetitan.fake_server import APP_KEY, Canned

MAINTENANCE = {"title": "The service is suspended for maintenance. Please try again later."}
BEYOND = "Wed, 21 Oct 99999999999999999999 07:28:00 GMT"
QUOTA = "Out of call volume quota. Quota will be replenished in {}."
PATH = "/jpm/v2/tenant/{tenant}/jobs"


def test_a_request_is_signed_and_has_a_user_agent(server):
    server.session().get(PATH, {"sort": "+Id", "name": "a b&c"})
    (seen,) = server.seen
    assert seen.headers["authorization"] == f"Bearer {server.tokens[0]}"
    assert seen.headers["st-app-key"] == APP_KEY
    assert seen.headers["user-agent"].startswith("st_pipelines/")
    assert "gzip" in seen.headers["accept-encoding"]
    assert seen.raw_query == "sort=%2BId&name=a%20b%26c"


def test_a_compressed_response_is_decompressed(server):
    server.zip = True
    usage = ReadStats()
    body = server.session(usage).get(PATH)
    assert json.loads(body)["data"] == []
    assert usage.bytes == len(body)


def test_credentials_in_a_netrc_file_do_not_replace_the_token(server, tmp_path, monkeypatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    server.session().get(PATH)
    assert server.seen[0].headers["authorization"].startswith("Bearer ")


@pytest.mark.parametrize(
    ("canned", "error"),
    [
        (Canned(status=400, body={"title": "bad"}), BadRequest),
        (Canned(status=403), PermissionDenied),
        (Canned(status=404, body={"statusCode": 404, "message": "Unable to match"}), WrongPath),
        (Canned(status=409, body={"title": "conflict"}), BadRequest),
        (Canned(status=402), BadRequest),
        (Canned(status=405), BadRequest),
        (Canned(status=410), WrongPath),
        (Canned(status=411), BadRequest),
        (Canned(status=413), BadRequest),
        (Canned(status=414), BadRequest),
        (Canned(status=415), BadRequest),
        (Canned(status=418), BadRequest),
        (Canned(status=422), BadRequest),
        (Canned(status=431), BadRequest),
        (Canned(status=451), PermissionDenied),
        (Canned(status=501), BadRequest),
        (Canned(status=505), BadRequest),
        (Canned(status=300), WrongPath),
        (Canned(status=304), WrongPath),
        (Canned(status=302, headers={"Location": "http://other.test/login"}), WrongPath),
    ],
)
def test_permanent_failures_are_not_retried(server, canned, error):
    server.rule = lambda seen: canned
    with pytest.raises(error) as caught:
        server.session().get(PATH)
    assert len(server.seen) == 1
    assert caught.value.permanent
    assert caught.value.status == canned.status
    assert caught.value.hint


@pytest.mark.parametrize(
    ("canned", "error"),
    [
        (Canned(status=429), RateLimited),
        (Canned(status=500), ServiceUnavailable),
        (Canned(status=502, body="<html><title>Bad Gateway</title>"), ServiceUnavailable),
        (Canned(status=503), ServiceUnavailable),
        (Canned(status=504), ServiceUnavailable),
        (Canned(status=507), ServiceUnavailable),
        (Canned(status=520), ServiceUnavailable),
        (Canned(status=408), ServiceUnavailable),
        (Canned(status=421), ServiceUnavailable),
        (Canned(status=423), ServiceUnavailable),
        (Canned(status=425), ServiceUnavailable),
        (Canned(status=409, body=MAINTENANCE), ServiceUnavailable),
        (Canned(body="<!DOCTYPE html><html><title>Sign in</title>"), UnexpectedResponse),
        (Canned(body=b'{"data": [{"id": 1'), UnexpectedResponse),
        (Canned(status=202, body={"data": []}), UnexpectedResponse),
        (Canned(status=204), UnexpectedResponse),
        (Canned(status=205), UnexpectedResponse),
        (Canned(status=206, body={"data": []}), UnexpectedResponse),
        (Canned(body=gzip.compress(b"{}")), UnexpectedResponse),
        (Canned(fault="reset"), Unreachable),
        (Canned(body=b'{"data": []}', fault="truncated"), Unreachable),
        (Canned(body=b"no gzip", headers={"Content-Encoding": "gzip"}), Unreachable),
    ],
)
def test_transient_failures_are_retried(server, canned, error):
    client = server.client()
    server.canned += [canned] * 2
    client.session(Usage()).get(PATH)
    assert len(server.seen) == 3
    server.canned += [canned] * 100
    with pytest.raises(error) as caught:
        client.session(Usage()).get(PATH)
    assert len(server.seen) == 3 + NO_WAIT.attempts
    assert not caught.value.permanent


@pytest.mark.parametrize("fault", ["hang", "hanging body"])
def test_a_hanging_response_is_aborted_and_retried(server, fault):
    server.canned.append(Canned(body=b'{"data": []}', fault=fault))
    server.session(timeout=0.2).get(PATH)
    assert len(server.seen) == 2


def test_the_error_says_that_the_connection_was_refused(server):
    server.close()
    with pytest.raises(Unreachable, match="connection was refused"):
        server.session().get(PATH)


def test_the_error_says_that_the_host_does_not_exist(server):
    client = server.client(api_url="http://no-such-host.invalid")
    with pytest.raises(Unreachable, match=r"does not resolve|refused|proxy"):
        client.session(Usage()).get(PATH)


def test_a_401_renews_the_token_once_and_replays_the_request(server):
    client = server.client()
    client.session(Usage()).get(PATH)
    server.revoked.update(server.tokens)
    usage = Usage()
    client.session(usage).get(PATH)
    assert (usage.requests, usage.token_requests) == (2, 1)


def test_a_401_with_a_fresh_token_is_final(server):
    server.rule = lambda seen: Canned(status=401)
    with pytest.raises(AuthenticationFailed) as caught:
        server.session().get(PATH)
    assert len(server.seen) == 2
    assert caught.value.permanent
    assert "same environment" in caught.value.hint


def test_a_retry_after_the_token_expired_uses_a_new_one(server):
    client = server.client()

    def ends_meanwhile(seen):
        if len(server.seen) == 1:
            server.revoked.update(server.tokens)
            return Canned(status=503)
        return None

    server.rule = ends_meanwhile
    client.session(Usage()).get(PATH)
    assert server.seen[-1].headers["authorization"] == f"Bearer {server.tokens[1]}"


def test_a_redirect_is_not_followed_with_credentials(server):
    server.rule = lambda seen: Canned(
        status=307, headers={"Location": f"{server.url}/elsewhere?token=abc"}
    )
    with pytest.raises(WrongPath, match=r"redirect to http://127.*elsewhere\?token=\*\*\*"):
        server.session().get(PATH)
    assert [seen.path for seen in server.seen] == ["/jpm/v2/tenant/4711/jobs"]


def test_a_403_names_the_scope_to_tick(server):
    server.rule = lambda seen: Canned(status=403)
    with pytest.raises(PermissionDenied, match=r"Tick the scope tn\.jpm.jobs:r"):
        server.session().fetch(PATH, {}, lambda body: body, scope="tn.jpm.jobs:r")


def test_a_message_has_request_status_problem_trace_id_and_hint_in_this_order(server):
    problem = {
        "title": "One or more validation errors",
        "traceId": "00-4bf9-01",
        "errors": {"pageSize": ["too large", "odd"]},
    }
    server.rule = lambda seen: Canned(status=400, body=problem)
    with pytest.raises(BadRequest) as caught:
        server.session().get(PATH, {"page": "2", "name": "Miller"})
    assert str(caught.value) == (
        f"GET {server.url}/jpm/v2/tenant/4711/jobs?page=2&name=***: answered 400: One or more"
        " validation errors; pageSize: too large, odd (traceId 00-4bf9-01)."
        f" {caught.value.hint}"
    )
    assert caught.value.trace_id == "00-4bf9-01"


def test_the_error_says_that_the_body_is_an_html_page(server):
    page = "<html><head><title>Service\n Unavailable</title></head>" + "<p>x" * 5000
    server.rule = lambda seen: Canned(status=503, body=page)
    with pytest.raises(ServiceUnavailable, match="an HTML page titled 'Service Unavailable'") as e:
        server.session().get(PATH)
    assert len(str(e.value)) < 500


@pytest.mark.parametrize(
    ("headers", "text", "seconds"),
    [
        ({"Retry-After": "7"}, "Try again in 5 seconds.", 7),
        ({"Retry-After": "0.5"}, "", 0.5),
        ({"Retry-After": "Fri, 02 Jan 2026 05:00:30 GMT"}, "", 30),
        (
            {
                "Retry-After": "Fri, 02 Jan 2026 05:00:30 GMT",
                "Date": "Fri, 02 Jan 2026 05:00:20 GMT",
            },
            "",
            10,
        ),
        ({"Retry-After": "Thu, 01 Jan 2026 05:00:30 GMT"}, "", 0),
        ({}, "Rate limit is exceeded. Try again in 5 seconds.", 5),
        ({"Retry-After": "soon"}, "Try again in 1 second", 1),
        ({}, "Quota of 60 calls per 1 second is exceeded. Try again in 8 seconds.", 8),
        ({}, "Try again in 1,200 seconds.", 1200),
        ({"Retry-After": "-3"}, "slow down", None),
        ({"Retry-After": "-3"}, "Try again in 4 seconds.", 4),
        ({"Retry-After": "1e3"}, "", None),
        ({"Retry-After": "inf"}, "", None),
        ({"Retry-After": "5, 10"}, "", 10),
        ({"Retry-After": "5, Fri, 02 Jan 2026 05:00:30 GMT"}, "", 30),
        ({"Retry-After": "Fri, 02 Jan 2026 05:00:30 GMT, 45"}, "", 45),
        ({"Retry-After": f"{BEYOND}, 7"}, "", 7),
        ({"Retry-After": BEYOND}, "", None),
        ({"Retry-After": BEYOND}, "Try again in 4 seconds.", 4),
        ({"Retry-After": "Fri, 31 Dec 9999 23:59:59 -1200"}, "", None),
        ({"Retry-After": "Fri, 02 Jan 2026 05:00:30 GMT", "Date": BEYOND}, "", 30),
        ({"Retry-After": "9" * 30}, "", float("9" * 30)),
        ({"Retry-After": "9" * 60_000}, "", None),
        ({}, "9" * 400 + " seconds", None),
        ({}, "Quota will be replenished in 00:05:30.", 330),
        ({}, "Quota will be replenished in 1.02:00:00.", 93_600),
        ({}, "Opened at 12:00:00", None),
        ({"Retry-After": "nan"}, "", None),
        ({}, "", None),
    ],
)
def test_the_wait_is_read_from_the_header_or_else_from_the_text(headers, text, seconds):
    assert parse_retry_after(headers, text, datetime(2026, 1, 2, 5, tzinfo=timezone.utc)) == seconds


@pytest.mark.parametrize("headers", [{"Retry-After": BEYOND}, {"Retry-After": "-1"}])
def test_a_429_whose_wait_makes_no_sense_is_retried(server, headers):
    """The year of a gateway's Retry-After once had twenty digits, and ended the load."""
    server.canned.append(Canned(status=429, headers=headers))
    server.session().get(PATH)
    assert len(server.seen) == 2


@pytest.mark.parametrize(
    ("headers", "span"), [({"Retry-After": "2"}, "00:00:02"), ({}, "00:00:02"), ({}, "?")]
)
def test_a_quota_that_is_soon_replenished_is_waited_for(server, headers, span):
    """Azure API Management answers 403 to a used-up quota, which looked like a missing scope."""
    sleeps = []
    body = {"statusCode": 403, "message": QUOTA.format(span)}
    server.canned.append(Canned(status=403, headers=headers, body=body))
    server.session(policy=RetryPolicy(sleep=sleeps.append)).get(PATH)
    assert len(server.seen) == 2
    assert span == "?" or sleeps == [2]


def test_a_quota_that_is_replenished_later_fails_at_once_and_says_when(server):
    server.date = datetime(2026, 3, 10, 12, tzinfo=timezone.utc)
    server.rule = lambda seen: Canned(status=403, body={"message": QUOTA.format("05:30:00")})
    with pytest.raises(QuotaUsedUp) as caught:
        server.session(policy=RetryPolicy(sleep=lambda seconds: None)).get(PATH)
    assert len(server.seen) == 1
    assert "replenished at 2026-03-10 17:30:00 UTC" in str(caught.value)
    assert "scope" not in str(caught.value).lower()
    assert isinstance(caught.value, RateLimited)
    assert caught.value.problem is not None
    assert caught.value.problem.code == "quota-used-up"


@pytest.mark.parametrize("wait", ["9" * 90, "0", BEYOND])
def test_the_end_of_a_quota_beyond_the_calendar_is_no_error_of_its_own(server, wait):
    server.rule = lambda seen: Canned(
        status=403, headers={"Retry-After": wait}, body={"message": QUOTA.format("99999:00:00")}
    )
    with pytest.raises(QuotaUsedUp, match="replenished"):
        server.session().get(PATH)


def test_a_used_up_quota_of_the_token_endpoint_is_no_refused_credential(server):
    quota = Canned(status=403, body={"statusCode": 403, "message": QUOTA.format("00:00:02")})
    server.canned_tokens.append(quota)
    policy = RetryPolicy(sleep=lambda seconds: None)
    server.session(policy=policy).get(PATH)
    assert len(server.forms) == 2
    server.canned_tokens.append(
        Canned(status=403, headers={"Retry-After": "4000"}, body={"message": QUOTA.format("?")})
    )
    with pytest.raises(QuotaUsedUp, match="replenished at"):
        TokenSource(server.connection()).get_token(new_http_session(), policy)
    assert len(server.forms) == 3


def test_a_403_that_is_no_quota_is_a_permission(server):
    for body in ({"message": "no"}, "<html><title>Quota</title>", ""):
        server.canned.append(Canned(status=403, body=body))
        with pytest.raises(PermissionDenied):
            server.session().get(PATH)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (300, "odd-status"),
        (304, "odd-status"),
        (402, "odd-status"),
        (405, "unsupported"),
        (409, "conflict"),
        (410, "gone"),
        (413, "request-too-large"),
        (414, "request-too-large"),
        (421, "misdirected"),
        (418, "odd-status"),
        (422, "bad-request"),
        (423, "locked"),
        (425, "too-early"),
        (431, "headers-too-large"),
        (451, "legal"),
        (499, "odd-status"),
        (501, "unsupported"),
        (505, "unsupported"),
        (507, "unavailable"),
        (511, "network-login"),
        (407, "proxy-credentials"),
    ],
)
def test_a_status_is_reported_as_what_it_is(server, status, code):
    server.rule = lambda seen: Canned(status=status)
    with pytest.raises(ServiceTitanError) as caught:
        server.session().get(PATH)
    assert caught.value.problem is not None
    assert caught.value.problem.code == code


@pytest.mark.parametrize(
    "location",
    ["http://[::1", "http://\xe9\xff/%zz?token=eyJhbGci.x.y", "http://x:9999999/", "//x/"],
)
def test_a_redirect_to_no_valid_address_is_reported_as_a_redirect(server, location):
    server.rule = lambda seen: Canned(status=302, headers={"Location": location})
    with pytest.raises(WrongPath) as caught:
        server.session().get(PATH)
    assert caught.value.problem is not None
    assert caught.value.problem.code == "redirected"
    assert "eyJ" not in str(caught.value)
    assert len(server.seen) == 1


@pytest.mark.parametrize("status", [407, 511])
def test_a_proxy_that_wants_a_person_is_not_asked_again(server, status):
    server.rule = lambda seen: Canned(status=status)
    with pytest.raises(Unreachable):
        server.session().get(PATH)
    assert len(server.seen) == 1


def test_a_429_makes_every_thread_of_the_tenant_wait(server):
    now = [0.0]
    limiter = RateLimiter(1000, clock=lambda: now[0], sleep=lambda seconds: None)
    sleeps = []

    def sleep(seconds):
        sleeps.append(seconds)
        limiter.acquire = lambda cancelled=None: moments.append(limiter._next)

    moments = []
    title = {"title": "Rate limit is exceeded. Try again in 12 seconds."}
    server.canned.append(Canned(status=429, body=title))
    server.session(policy=RetryPolicy(sleep=sleep), limiter=limiter).get(PATH)
    assert sleeps == [12]
    assert moments == [12]


def test_backoff_grows_up_to_a_limit_and_is_random():
    policy = RetryPolicy(backoff=1, max_backoff=8)
    for attempt, longest in enumerate([1, 2, 4, 8, 8], start=1):
        waits = {policy.wait(None, attempt) for _ in range(50)}
        assert longest / 2 <= min(waits) < max(waits) <= longest


def test_retry_after_is_capped_by_the_policy():
    error = ServiceTitanError("x", retry_after=4000.0)
    assert RetryPolicy(max_retry_after_seconds=300).wait(error, 1) == 300


def test_backoff_applies_where_retry_after_did_not_help():
    policy, error = RetryPolicy(backoff=1, max_backoff=8), ServiceTitanError("x", retry_after=0.0)
    assert policy.wait(error, 1) == 0
    assert [policy.wait(error, attempt) >= 2 ** (attempt - 2) for attempt in (2, 3, 4)] == [
        True
    ] * 3
    assert policy.wait(ServiceTitanError("x", retry_after=20.0), 4) == 20


def test_a_byte_order_mark_is_removed_from_the_body(server):
    server.canned_tokens.append(Canned(body=b'\xef\xbb\xbf{"access_token":"opaque-with-mark"}'))
    server.tokens.append("opaque-with-mark")
    server.rule = lambda seen: Canned(body=b'\xef\xbb\xbf{"data":[]}')
    assert server.session().get(PATH) == b'{"data":[]}'


def test_cancellation_ends_the_wait_for_a_retry(server):
    cancelled = Cancellation()
    sleeps = []

    def sleep(seconds):
        sleeps.append(seconds)
        cancelled.set()

    server.canned.append(Canned(status=503, headers={"Retry-After": "60"}))
    with pytest.raises(Cancelled):
        server.session(cancelled=cancelled, policy=RetryPolicy(sleep=sleep)).fetch(PATH, {}, bytes)
    assert sum(sleeps) < 1
    assert len(server.seen) == 1


def test_a_response_that_trickles_in_is_aborted_although_bytes_keep_coming(server):
    server.rule = lambda seen: Canned(body=b"{" + b" " * 100, fault="drip")
    begun = monotonic()
    with pytest.raises(Unreachable, match="no answer in time"):
        server.session(policy=RetryPolicy(attempts=1), timeout=0.1).get("/anything")
    assert monotonic() - begun < 2


def test_a_slow_response_is_accepted(server):
    server.rule = lambda seen: Canned(body=b"{" + b" " * 8 + b"}", fault="drip")
    assert server.session(timeout=0.3).get("/anything").startswith(b"{")


def test_cancellation_aborts_a_hanging_exchange(server):
    server.rule = lambda seen: Canned(body={}, fault="hanging body")
    cancelled, client = Cancellation(), server.client()
    threading.Timer(0.1, cancelled.set).start()
    begun = monotonic()
    with pytest.raises(Cancelled):
        client.session(Usage(), cancelled).fetch("/anything", {}, bytes)
    assert monotonic() - begun < client.connection.timeout / 2


def test_a_cancelled_session_sends_nothing(server):
    client, cancelled = server.client(), Cancellation()
    client.session(Usage()).get("/anything")
    cancelled.set()
    with pytest.raises(Cancelled):
        client.session(Usage(), cancelled).fetch("/other", {}, bytes)
    assert [seen.path for seen in server.seen] == ["/anything"]
