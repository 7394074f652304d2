"""Tokens, scopes, and the rate limit, as a client sees them."""

from __future__ import annotations

import jwt
import pytest
import requests

from st_pipelines.sandbox.access import AccessControl, RateLimit, Refused
from st_pipelines.sandbox.credentials import Credentials
from st_pipelines.sandbox.server import Sandbox
from st_pipelines_tests.sandbox.client import Client
from st_pipelines_tests.sandbox.conftest import NO_LIMIT, NOW

JOBS = "/jpm/v2/tenant/{tenant}/jobs"


def test_a_token_contains_its_tenant_scopes_and_lifetime(shared: Client) -> None:
    body = shared.request_token().json()

    claims = jwt.decode(body["access_token"], options={"verify_signature": False})
    assert body["expires_in"] == 900
    assert body["token_type"] == "Bearer"
    assert claims["tenant"] == shared.sandbox.tenant_id
    assert "tn.jpm.jobs:r" in claims["scope"]
    assert 890 < claims["exp"] - claims["nbf"] < 902


def test_a_wrong_secret_is_rejected_as_invalid_client(shared: Client) -> None:
    response = shared.request_token(client_secret="cs1.wrong")

    assert response.status_code == 400
    assert response.json() == {"error": "invalid_client"}


def test_a_secret_with_a_trailing_newline_is_rejected_as_invalid_client(shared: Client) -> None:
    response = shared.request_token(client_secret=shared.sandbox.client_secret + "\n")

    assert response.json() == {"error": "invalid_client"}


def test_only_the_client_credentials_grant_is_supported(shared: Client) -> None:
    response = shared.request_token(grant_type="password")

    assert (response.status_code, response.json()) == (400, {"error": "unsupported_grant_type"})


def test_client_credentials_may_be_sent_by_http_basic(shared: Client) -> None:
    sandbox = shared.sandbox
    response = requests.post(
        f"{sandbox.url}/connect/token",
        data={"grant_type": "client_credentials"},
        auth=(sandbox.client_id, sandbox.client_secret),
    )

    assert response.status_code == 200


def test_a_token_request_with_a_json_body_is_rejected(shared: Client) -> None:
    response = requests.post(
        f"{shared.sandbox.url}/connect/token", json={"grant_type": "client_credentials"}
    )

    assert response.status_code == 400


@pytest.mark.parametrize("prefix", ["", "Bearer "])
def test_a_token_is_accepted_with_and_without_bearer(shared: Client, prefix: str) -> None:
    token = shared.request_token().json()["access_token"]
    headers = {"Authorization": prefix + token, "ST-App-Key": shared.sandbox.app_key}

    assert requests.get(shared.url(JOBS), headers=headers).status_code == 200


def test_a_request_without_a_token_gets_a_401(shared: Client) -> None:
    headers = {"ST-App-Key": shared.sandbox.app_key}

    assert requests.get(shared.url(JOBS), headers=headers).status_code == 401


def test_a_wrong_app_key_gets_a_401(shared: Client) -> None:
    headers = {**shared.session.headers, "ST-App-Key": "ak1.wrong"}

    assert requests.get(shared.url(JOBS), headers=headers).status_code == 401


def test_an_expired_token_gets_a_401() -> None:
    with Sandbox(customers=20, now=NOW, token_seconds=0) as sandbox:
        assert Client(sandbox).request_list("jpm.jobs").status_code == 401


def test_a_missing_scope_gets_a_403_without_a_body() -> None:
    with Sandbox(customers=20, now=NOW, scopes=["tn.crm.customers:r"]) as sandbox:
        client = Client(sandbox)
        refused = client.request_list("jpm.jobs")

        assert client.request_list("crm.customers").status_code == 200
        assert (refused.status_code, refused.content) == (403, b"")


@pytest.mark.parametrize("path", ["/jpm/v2/tenant/{tenant}/joobs", "/jpm/v2/tenant/99/jobs", "/"])
def test_an_unknown_path_or_tenant_gets_the_gateways_404(shared: Client, path: str) -> None:
    response = shared.get(path)

    assert response.status_code == 404
    assert response.json() == {
        "statusCode": 404,
        "message": "Unable to match incoming request to an operation.",
    }


def test_a_token_is_valid_for_its_own_tenant_only() -> None:
    with Sandbox(customers=20, now=NOW, tenants=2) as sandbox:
        client = Client(sandbox)
        other = sandbox.tenants[1]
        path = JOBS.replace("{tenant}", other.tenant_id)
        own_token = client.request_token(
            client_id=other.client_id, client_secret=other.client_secret
        ).json()["access_token"]

        assert client.get(path).status_code == 404
        client.session.headers["Authorization"] = own_token
        assert client.get(path).status_code == 200


def test_requests_beyond_the_rate_limit_get_a_429_with_retry_after() -> None:
    with Sandbox(customers=20, now=NOW, requests_per_second=2, clock=lambda: 5.0) as sandbox:
        client = Client(sandbox)
        responses = [client.request_list("jpm.job_types", pageSize=1) for _ in range(3)]

    assert [response.status_code for response in responses] == [200, 200, 429]
    refused = responses[-1]
    assert refused.headers["Retry-After"] == "1"
    body = refused.json()
    assert body["title"] == "Rate limit is exceeded. Try again in 1 seconds."
    assert body["status"] == 429
    assert body["traceId"]


def test_the_rate_limit_counts_requests_of_the_last_second() -> None:
    times = iter([0.0, 0.4, 0.9, 1.0, 1.1, 1.39, 1.4])
    limit = RateLimit(2, clock=lambda: next(times))

    waits = [limit.admit("1") for _ in range(7)]

    assert [round(wait, 2) for wait in waits] == [0, 0, 0.1, 0, 0.3, 0.01, 0]


def test_the_rate_limit_counts_each_tenant_separately() -> None:
    limit = RateLimit(1, clock=lambda: 5.0)

    assert [limit.admit("1"), limit.admit("2")] == [0, 0]
    assert limit.admit("1") > 0


def test_a_token_with_another_signature_is_rejected() -> None:
    credentials = Credentials.for_tenant(0)
    access = AccessControl({credentials.tenant_id: credentials}, (), 900)
    forged = jwt.encode({"tenant": credentials.tenant_id}, "another key of enough bytes......")

    with pytest.raises(Refused, match="401"):
        access.check(forged, credentials.app_key, credentials.tenant_id)


def test_requests_are_counted_by_path() -> None:
    with Sandbox(customers=20, now=NOW, requests_per_second=NO_LIMIT) as sandbox:
        client = Client(sandbox)
        client.request_list("jpm.jobs", pageSize=7)
        client.request_list("jpm.jobs")

        assert (sandbox.token_requests, sandbox.data_requests) == (1, 2)
        assert sandbox.requests[JOBS] == 2
        assert sandbox.seen[1].query == {"pageSize": "7"}
