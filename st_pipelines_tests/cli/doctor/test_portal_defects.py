"""`check` when exactly one thing is wrong with the app or the credentials, line by line."""

from __future__ import annotations

import re

import pytest

from st_pipelines.cli.doctor.report import as_line
from st_pipelines.sandbox.credentials import Credentials
from st_pipelines.sandbox.portal import read_defects
from st_pipelines.sandbox.server import Sandbox
from st_pipelines_tests.cli.doctor.check_runner import ACCEPTS, CUSTOMERS, problem_lines, run_check
from st_pipelines_tests.cli.doctor.conftest import Portal
from st_pipelines_tests.conftest import NOW
from st_pipelines_tests.servicetitan.fake_server import Canned, ScriptedServer

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
WHERE = "{url}/crm/v2/tenant/{tenant}/customers"
REFUSED = (
    "ServiceTitan does not say which. Check both for typing errors. A secret that was rotated or "
    "deleted no longer works. The pair must belong to the environment 'production', as each "
    "environment and tenant has its own."
)


def test_a_correct_setup_passes_every_step(portal: Portal) -> None:
    url = portal().url.removeprefix("http://")
    assert [as_line(finding) for finding in run_check(deep=True)][:-4] == [
        f"✅ settings: complete, for tenant 1000000001 at {url}",
        f"✅ auth host: {url} answers",
        f"✅ api host: {url} answers",
        "✅ clock: right to within half a minute",
        "✅ token: issued for 900 s, for tenant 1000000001, with 120 scopes",
        "✅ secrets: nothing to fix",
        "✅ access: tenant 1000000001 and the app key are accepted (crm.customers can be read)",
        "✅ scopes: the token has all 3 scopes of the selection",
        "✅ endpoints: 3 endpoints can be read",
    ]
    assert as_line(run_check()[-1]) == "✅ time zone: America/New_York"


def test_a_scope_that_is_not_ticked_is_missing(portal: Portal) -> None:
    portal("scope-missing:tn.jpm.jobs:r")
    assert problem_lines() == [
        "❌ scopes: the token lacks 1 of the 3 scopes of the selection: tn.jpm.jobs:r. Tick them "
        f"in the app (developer portal); its new version takes effect when {ACCEPTS}. Or limit "
        "what "
        "you load with --select."
    ]
    assert problem_lines(selection=["crm.customers"]) == []


def test_deep_skips_endpoints_whose_scope_the_token_lacks(portal: Portal) -> None:
    sandbox = portal("scope-missing:tn.jpm.jobs:r")
    assert len(problem_lines(deep=True)) == 1
    assert not [seen for seen in sandbox.seen if seen.path.endswith("/jobs")]


def test_a_scope_that_allows_writing_is_a_warning(portal: Portal) -> None:
    portal("scope-surplus")
    assert problem_lines() == [
        "⚠  scopes: the token can also change data: tn.crm.customers:w. This package never "
        "writes to ServiceTitan: untick them in the app."
    ]


def test_a_scope_of_an_app_version_that_is_not_accepted_is_refused(portal: Portal) -> None:
    sandbox = portal("scope-not-accepted:tn.crm.customers:r")
    where = WHERE.format(url=sandbox.url, tenant="1000000001")
    assert problem_lines(deep=True) == [
        "❌ endpoints: access was refused although the token has the scope tn.crm.customers:r (GET "
        f"{where} answered 403: an empty body). Possible causes: the app's current version does "
        f"not take effect until {ACCEPTS}; the tenant has disconnected the app; or the tenant does "
        "not have this part of ServiceTitan."
    ]


def test_deep_finds_the_scopes_of_an_opaque_token(portal: Portal) -> None:
    sandbox = portal("opaque-token")
    assert problem_lines() == [
        "⚠  scopes: unknown, because the token does not list them. --deep requests a record from "
        "each "
        "endpoint."
    ]
    assert (
        as_line(run_check()[4]) == "✅ token: issued for 900 s; it lists neither tenant nor scopes"
    )
    del sandbox
    portal("opaque-token", "scope-missing:tn.jpm.jobs:r", "scope-missing:tn.crm.customers:r")
    assert problem_lines(deep=True)[1:] == [
        "❌ endpoints: 2 of 3 are refused; their scopes are tn.crm.customers:r, tn.jpm.jobs:r. "
        "Tick those that are not ticked in the app (developer portal); its current version takes "
        f"effect when {ACCEPTS}. A part of ServiceTitan that the tenant does not have may be "
        "refused "
        "too."
    ]


def test_one_refusal_of_an_opaque_token_names_the_scope(portal: Portal) -> None:
    sandbox = portal("opaque-token", "scope-missing:tn.crm.customers:r")
    where = WHERE.format(url=sandbox.url, tenant="1000000001")
    assert problem_lines(deep=True)[1:] == [
        f"❌ endpoints: permission denied (GET {where} answered 403: an empty body). Tick the "
        "scope tn.crm.customers:r in the app (developer portal). The new version of the app "
        f"takes effect when {ACCEPTS}. If every endpoint answers this way, the tenant has not "
        "connected the app at all."
    ]


@pytest.mark.parametrize("more", [(), ("opaque-token",)])
def test_an_app_that_the_tenant_has_not_connected_is_refused_everywhere(
    portal: Portal, more: tuple[str, ...]
) -> None:
    sandbox = portal("app-not-connected", *more)
    where = WHERE.format(url=sandbox.url, tenant="1000000001")
    assert problem_lines()[0] == (
        f"❌ access: every endpoint that was tried refused access (GET {where} answered 403: an "
        "empty body). Most likely the tenant has not connected the app. In ServiceTitan, under "
        "Settings > Integrations > API Application Access, the tenant's admin must connect it or "
        "accept its current version. If the app is not listed there, add the tenant id to the app "
        "in the developer portal. Otherwise the app key belongs to another app."
    )


def test_an_app_that_is_not_found_gets_no_token(portal: Portal) -> None:
    sandbox = portal("app-unknown")
    assert problem_lines() == [
        f"❌ token: ServiceTitan cannot find the application (POST {sandbox.url}/connect/token "
        "answered 400: Application not found). Possible causes: the app key or client id belongs "
        "to another app or environment; the app was deleted; or this tenant is not in the app's "
        "list of tenants. Compare all of them with the developer portal."
    ]


def test_a_revoked_connection_gets_no_token(portal: Portal) -> None:
    sandbox = portal("no-grant")
    assert problem_lines() == [
        "❌ token: ServiceTitan knows the client but issues no token (POST "
        f"{sandbox.url}/connect/token answered 400: unauthorized_client). Possible causes: the "
        "tenant has not connected the app, or has disconnected it; or the app has no scopes. "
        f"Compare them with the developer portal, and make sure that {ACCEPTS}."
    ]


def test_a_wrong_tenant_id_is_named(portal: Portal) -> None:
    sandbox = portal("wrong-tenant")
    where = WHERE.format(url=sandbox.url, tenant="1000009999")
    assert problem_lines() == [
        f"❌ access: the token is for another tenant than 1000009999 (GET {where} answered 404: "
        "Unable to match incoming request to an operation). It was issued for tenant 1000000001. "
        "Correct TENANT_ID, or use the client id and secret that were issued for tenant "
        "1000009999."
    ]


def test_a_wrong_tenant_id_with_an_opaque_token_is_an_unknown_path(portal: Portal) -> None:
    sandbox = portal("wrong-tenant", "opaque-token")
    where = WHERE.format(url=sandbox.url, tenant="1000009999")
    assert problem_lines()[0] == (
        f"❌ access: ServiceTitan does not know the path (GET {where} answered 404: Unable to "
        "match incoming request to an operation). On a collection, a 404 means a wrong path, "
        "tenant id or app key, never 'no rows'. Possible causes: TENANT_ID, APP_KEY, the host in "
        "API_URL."
    )


def test_a_wrong_app_key_is_named(portal: Portal) -> None:
    sandbox = portal("wrong-app-key")
    where = WHERE.format(url=sandbox.url, tenant="1000000001")
    assert problem_lines() == [
        f"❌ access: the app key was refused (GET {where} answered 401: Invalid application key). "
        "Copy it from the app's page in the developer portal. It begins with ak1. and is the same "
        "in every environment."
    ]


def test_a_wrong_app_key_that_gives_a_404_is_the_first_suspect(portal: Portal) -> None:
    sandbox = portal("wrong-app-key:404")
    where = WHERE.format(url=sandbox.url, tenant="1000000001")
    assert problem_lines() == [
        f"❌ access: ServiceTitan does not know the path (GET {where} answered 404: Unable to "
        "match incoming request to an operation). On a collection, a 404 means a wrong path, "
        "tenant id or app key, never 'no rows'. The token names this tenant, so check the app "
        "key first. Possible causes: APP_KEY, or the host in API_URL."
    ]


def test_a_wrong_app_key_that_gives_a_403_is_a_possible_cause(portal: Portal) -> None:
    portal("wrong-app-key:403")
    [line] = problem_lines()
    assert line.endswith("Otherwise the app key belongs to another app.")


def test_a_rotated_secret_is_refused(portal: Portal, monkeypatch: pytest.MonkeyPatch) -> None:
    sandbox = portal("secret-rotated")
    assert problem_lines() == [
        "❌ token: the client id or the client secret was refused (POST "
        f"{sandbox.url}/connect/token answered 400: invalid_client). {REFUSED}"
    ]
    monkeypatch.setenv("SERVICETITAN_CLIENT_SECRET", "cs2.sandbox.1000000001")
    assert problem_lines() == []


def test_credentials_of_integration_are_recognized_in_production(
    portal: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    integration = portal(prefix="SERVICETITAN_INTEGRATION_")
    before = integration.token_requests
    for name in ("CLIENT_ID", "CLIENT_SECRET"):
        monkeypatch.delenv(f"SERVICETITAN_INTEGRATION_{name}")
    sandbox = portal("secret-rotated")
    assert problem_lines() == [
        "❌ token: the client id and secret belong to integration (POST "
        f"{sandbox.url}/connect/token answered 400: invalid_client). The host of integration "
        "issues a token for them, the host of production does not. Set the pair of production, or "
        "use the environment integration."
    ]
    assert integration.token_requests == before + 1


def test_a_forbidden_token_request_is_explained(server: ScriptedServer) -> None:
    server.canned_tokens.append(Canned(status=403, body="Forbidden"))
    host = server.url.removeprefix("http://")
    assert problem_lines() == [
        f"❌ token: {host} forbids the token request (POST {server.url}/connect/token answered "
        "403: Forbidden). Possible causes: a firewall or proxy is answering in its place; or the "
        "tenant has disconnected the app."
    ]


def test_an_auth_host_that_is_another_server_is_explained(server: ScriptedServer) -> None:
    server.canned_tokens.append(Canned(status=404, body={"detail": "Not Found"}))
    host = server.url.removeprefix("http://")
    assert problem_lines() == [
        f"❌ token: the server at {host} is not ServiceTitan's token host (POST "
        f"{server.url}/connect/token answered 404: Not Found). Check the setting AUTH_URL. A proxy "
        "or a sign-in page of your network may also be answering in its place."
    ]


def test_a_sign_in_page_instead_of_a_token_is_explained(server: ScriptedServer) -> None:
    server.canned_tokens += [Canned(body="<html><title>Guests</title></html>")] * 9
    host = server.url.removeprefix("http://")
    assert problem_lines() == [
        f"❌ token: a web page came instead of data (POST {server.url}/connect/token answered 200: "
        "an HTML page titled 'Guests' instead of JSON). A proxy, or a sign-in page of your "
        f"network, is answering in ServiceTitan's place. Open {host} in a browser from this "
        "machine, and have the host allowed."
    ]


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (
            429,
            b"",
            "too many requests (POST {where} answered 429: an empty body). Lower "
            "REQUESTS_PER_SECOND, or find out what else uses this app and tenant, as they share "
            "one "
            "limit.",
        ),
        (
            503,
            b"",
            "ServiceTitan is down or overloaded (POST {where} answered 503: an empty body). "
            "Try again later.",
        ),
        (
            503,
            b"Down for maintenance",
            "ServiceTitan is down for maintenance (POST {where} answered "
            "503: Down for maintenance). Try again later.",
        ),
    ],
)
def test_a_token_host_that_may_respond_later_is_explained(
    server: ScriptedServer, status: int, body: bytes, expected: str
) -> None:
    server.canned_tokens += [Canned(status=status, body=body)] * 9
    where = f"{server.url}/connect/token"
    assert problem_lines() == ["❌ token: " + expected.format(where=where)]


@pytest.mark.parametrize(
    ("canned", "expected"),
    [
        (
            Canned(status=401),
            "a token that was just issued was refused ({where} answered 401: an "
            "empty body). Possible causes: API_URL and AUTH_URL do not belong to the same "
            "environment; "
            "or APP_KEY, TENANT_ID and the client id do not belong together.",
        ),
        (
            Canned(status=403, body="<html><title>Blocked</title>"),
            "a web page forbids the request "
            "({where} answered 403: an HTML page titled 'Blocked' instead of JSON). Possible "
            "causes: a "
            "proxy or firewall is answering in ServiceTitan's place, so have {host} allowed "
            "there; or "
            "permission is missing: the scope tn.crm.customers:r, or the connection of the app.",
        ),
        (
            Canned(status=302, headers={"Location": "https://x.test/in"}),
            "{host} redirected the "
            "request ({where} answered 302: an empty body). The redirect to "
            "https://x.test/in was not followed. Check the host in the settings.",
        ),
        (
            Canned(status=400, body={"title": "odd"}),
            "ServiceTitan rejected the request as invalid "
            "({where}?active=Any&modifiedOnOrAfter={time}&modifiedBefore={time}&page=1&pageSize=1"
            "&includeTotal=true answered 400: odd). The parameters do not fit this endpoint. They "
            "come from its catalog entry.",
        ),
    ],
)
def test_a_refused_data_request_is_explained(
    server: ScriptedServer, canned: Canned, expected: str
) -> None:
    server.rule = lambda seen: canned if "/tenant/" in seen.path else None
    where = f"GET {server.url}{CUSTOMERS.format(tenant='4711')}"
    host = server.url.removeprefix("http://")
    line = TIME.sub("{time}", problem_lines()[0])
    assert line == "❌ access: " + expected.format(where=where, host=host, time="{time}")


@pytest.mark.parametrize("status", [406, 409, 413, 423, 431, 451, 500])
def test_a_failed_data_request_is_shown_with_its_harmless_parameters(
    server: ScriptedServer, status: int
) -> None:
    server.rule = lambda seen: Canned(status=status) if "/tenant/" in seen.path else None
    assert "?active=Any&modifiedOnOrAfter=20" in problem_lines()[0]
    assert "&page=1&pageSize=1&includeTotal=true answered" in problem_lines()[0]


@pytest.mark.parametrize("status", [403, 404])
def test_one_refused_endpoint_does_not_fail_the_access_step(
    server: ScriptedServer, status: int
) -> None:
    server.rule = lambda seen: Canned(status=status) if "customers" in seen.path else None
    [access] = [finding for finding in run_check() if finding.step == "access"]
    assert as_line(access) == (
        "✅ access: tenant 4711 and the app key are accepted (jpm.jobs can be read)"
    )


@pytest.mark.parametrize(
    ("scopes", "begins"),
    [
        (["tn.mads.performance:r"], ["❌ scopes: the token lacks 3 of the 3 scopes"]),
        (["tn.odd:r"], ["❌ access: the token lacks the scope tn.crm.customers:r", "❌ scopes: "]),
        ([], ["❌ access: every endpoint that was tried refused access", "❌ scopes: "]),
    ],
)
def test_a_token_with_few_scopes_is_expected_apart_from_an_unconnected_app(
    monkeypatch: pytest.MonkeyPatch, scopes: list[str], begins: list[str]
) -> None:
    """One endpoint that can be read proves that app key and tenant are right."""
    with Sandbox(customers=20, now=NOW, scopes=scopes) as narrow:
        for name, value in narrow.environment().items():
            monkeypatch.setenv(name, value)
        lines = [line for line in problem_lines() if line.startswith("❌")]
    assert [line[: len(begin)] for line, begin in zip(lines, begins, strict=True)] == begins


def test_a_failed_step_skips_what_depends_on_it_and_nothing_else(portal: Portal) -> None:
    portal("secret-rotated")
    assert [as_line(f) for f in run_check() if f.status == "skipped"] == [
        "➖ secrets: skipped: it needs token",
        "➖ access: skipped: it needs token",
        "➖ scopes: skipped: it needs token",
    ]
    assert "➖ endpoints: skipped: it needs access" in map(as_line, run_check(deep=True))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("scope", "there is no defect 'scope': name one of scope-missing, "),
        ("wrong-clock:late", "--defect wrong-clock:late: give seconds"),
        ("wrong-clock:inf", "--defect wrong-clock:inf: give seconds"),
        ("wrong-app-key:500", "--defect wrong-app-key:500: name one of 401, 403, 404"),
        ("wrong-app-key:no", "--defect wrong-app-key:no: name one of 401"),
    ],
)
def test_a_defect_that_does_not_exist_is_named(text: str, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        read_defects([text], Credentials.for_tenant(0))
