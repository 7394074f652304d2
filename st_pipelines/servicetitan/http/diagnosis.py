"""Decides which known problem a bad response stands for.

How ServiceTitan answers a wrong app key or tenant is unknown. So the status decides; the text
counts only where it names a thing outright, and the claims of the token where they are readable.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from st_pipelines.servicetitan.errors.problems import Problem, build_problem
from st_pipelines.servicetitan.http.model import Connection, Request, TokenClaims

WEB_PAGE = "an HTML page"
"""So begins the text of an `ErrorBody` whose body is one."""
_NOT_FOUND = r"\b(not (be )?(found|registered)|does not exist|unknown)\b"
_APP_UNKNOWN = re.compile(rf"\bapp(lication)?\b[^.;]{{0,200}}{_NOT_FOUND}", re.IGNORECASE)
_APP_KEY = re.compile(r"\b(st-)?app(lication)?[ -]?key\b", re.IGNORECASE)
_NO_GRANT = re.compile(r"unauthorized_client|invalid_scope|invalid_grant|unsupported_grant_type")
# "The service is suspended for maintenance. Please try again later." (seen with status 409)
MAINTENANCE = re.compile(r"maintenance|suspended|try again", re.IGNORECASE)
_PROBLEMS = {
    405: "unsupported",
    406: "unsupported",
    407: "proxy-credentials",
    409: "conflict",
    410: "gone",
    411: "unsupported",
    413: "request-too-large",
    414: "request-too-large",
    415: "unsupported",
    421: "misdirected",
    423: "locked",
    425: "too-early",
    429: "rate-limited",
    431: "headers-too-large",
    451: "legal",
    501: "unsupported",
    505: "unsupported",
    511: "network-login",
}
"""By status, where it means the same at every host. Its sentence may name the {host}."""
_INVALID = (400, 412, 416, 417, 422, 424, 428)


def extract_host(url: str) -> str:
    """Return host and port, without user and password."""
    return urlsplit(url).netloc.rpartition("@")[2]


def diagnose_token_response(connection: Connection, status: int, text: str) -> Problem:
    """Diagnose why no token was issued, from the status and text of the response."""
    host = extract_host(connection.auth_url)
    if status in (400, 401):
        return _diagnose_refused_credentials(connection, text)
    if text.startswith(WEB_PAGE) and status < 500 and status not in _PROBLEMS:
        return build_problem("no-token-host", host=host)
    if _APP_UNKNOWN.search(text):
        return build_problem("app-unknown")
    if status == 403:
        return build_problem("token-forbidden", host=host)
    if status == 404:
        return build_problem("no-token-host", host=host)
    return _diagnose_status(status, text, host) or build_problem("no-token-host", host=host)


def _diagnose_refused_credentials(connection: Connection, text: str) -> Problem:
    if _APP_UNKNOWN.search(text):
        return build_problem("app-unknown")
    if _NO_GRANT.search(text):
        return build_problem("no-grant")
    return build_problem("credentials-refused", environment=connection.environment)


def diagnose_data_response(
    request: Request, status: int, text: str, claims: TokenClaims | None, target: str = ""
) -> Problem:
    """Diagnose why no data was served.

    Args:
        status: not 2xx.
        text: of the error body.
        claims: of the token that was sent, where they are readable.
        target: where a redirect leads, redacted; empty if it does not say.
    """
    host = extract_host(request.url)
    if 300 <= status < 400 and target:
        return build_problem("redirected", host=host, target=target)
    if problem := _diagnose_status(status, text, host):
        return problem
    if status in _INVALID:
        return build_problem("bad-request")
    if status not in (401, 403, 404):
        return build_problem("odd-status", host=host, status=str(status))
    if claims and request.tenant and claims.tenants and request.tenant not in claims.tenants:
        tenants = ", ".join(sorted(claims.tenants))
        return build_problem("other-tenant", tenant=request.tenant, tenants=tenants)
    if _APP_UNKNOWN.search(text):
        return build_problem("app-unknown")
    if _APP_KEY.search(text):
        return build_problem("app-key-refused")
    if status == 401:
        return build_problem("token-refused")
    if status == 403:
        return _diagnose_forbidden(request, claims, text)
    return _diagnose_not_found(claims)


def _diagnose_forbidden(request: Request, claims: TokenClaims | None, text: str) -> Problem:
    scope = request.scope or "of this endpoint"
    if request.scope and claims and claims.scopes is not None:
        lacking = request.scope not in claims.scopes
        return build_problem("scope-missing" if lacking else "scope-doubtful", scope=scope)
    if text.startswith(WEB_PAGE):
        return build_problem("blocked", host=extract_host(request.url), scope=scope)
    return build_problem("scope-unknown", scope=scope)


def _diagnose_not_found(claims: TokenClaims | None) -> Problem:
    """A token that names the tenant rules out a wrong tenant id."""
    if claims and claims.tenants:
        known = "The token names this tenant, so check the app key first. "
        return build_problem("not-found", known=known, candidates="APP_KEY, or the host in API_URL")
    return build_problem(
        "not-found", known="", candidates="TENANT_ID, APP_KEY, the host in API_URL"
    )


def _diagnose_status(status: int, text: str, host: str) -> Problem | None:
    """Diagnose a status that means the same at every host."""
    if status in (408, 409, 503) and MAINTENANCE.search(text):
        return build_problem("maintenance")
    if status in _PROBLEMS:
        return build_problem(_PROBLEMS[status], host=host)
    return build_problem("unavailable") if status >= 500 or status == 408 else None
