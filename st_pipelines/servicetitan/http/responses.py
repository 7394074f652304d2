"""Turns an error response into the exception that says what to do about it.

The shapes that occur: RFC 7807 (`title`, `errors`, `traceId`) from the API, OAuth's `error` from
the token endpoint, `statusCode` and `message` from the gateway in front, HTML from a proxy. 401,
429 and 5xx are documented on no operation, so nothing here relies on a body.

An error also has the known problem that the response stands for, where there is one. How
ServiceTitan answers a wrong app key or tenant is unknown. So the status decides; the text counts
only where it names a thing outright, and the claims of the token where they are readable.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any
from urllib.parse import urlsplit

from st_pipelines.servicetitan.errors.errors import (
    AuthenticationFailed,
    BadRequest,
    PermissionDenied,
    RateLimited,
    ServiceTitanError,
    ServiceUnavailable,
    UnexpectedResponse,
    WrongPath,
)
from st_pipelines.servicetitan.errors.problems import Problem, build_problem
from st_pipelines.servicetitan.http.model import Connection, Request, Response, TokenClaims
from st_pipelines.servicetitan.http.redact import redact_url, scrub, shorten
from st_pipelines.servicetitan.http.retry import parse_retry_after

_DATA = re.compile(rb'[{}\[\]"]')
_TRACE_ID = re.compile(r"[\w|:.\-]{1,100}", re.ASCII)
_NOT_FOUND = r"\b(not (be )?(found|registered)|does not exist|unknown)\b"
_APP_UNKNOWN = re.compile(rf"\bapp(lication)?\b[^.;]*{_NOT_FOUND}", re.IGNORECASE)
_APP_KEY = re.compile(r"\b(st-)?app(lication)?[ -]?key\b", re.IGNORECASE)
_NO_GRANT = re.compile(r"unauthorized_client|invalid_scope|invalid_grant|unsupported_grant_type")
# "The service is suspended for maintenance. Please try again later." (seen with status 409)
_MAINTENANCE = re.compile(r"maintenance|suspended|try again", re.IGNORECASE)
_WEB_PAGE = "an HTML page"  # so begins the text of an `ErrorBody` whose body is one


@dataclass(frozen=True, kw_only=True)
class ErrorBody:
    """The readable part of an error body, without secrets.

    Attributes:
        text: one line, at most 500 characters.
        trace_id: ServiceTitan's `traceId`, or None.
    """

    text: str
    trace_id: str | None = None


def read_error_body(request: Request, response: Response) -> ErrorBody:
    """Read an error body of any shape, scrubbed of the request's secrets."""
    body = response.body.decode(errors="replace").strip()
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        parsed = None
    if isinstance(parsed, dict):
        return ErrorBody(
            text=shorten(scrub(_join_parts(parsed), request.secrets)),
            trace_id=_read_trace_id(request, parsed.get("traceId")),
        )
    if body[:100].lstrip("\ufeff \r\n\t").startswith("<"):
        title = re.search(r"<title[^>]*>(.*?)</title>", body, re.IGNORECASE | re.DOTALL)
        titled = f" titled '{title[1].strip()}'" if title else ""
        text = f"{_WEB_PAGE}{titled} instead of JSON"
        return ErrorBody(text=shorten(scrub(text, request.secrets)))
    return ErrorBody(text=shorten(scrub(body, request.secrets)) if body else "an empty body")


def build_error(
    request: Request,
    response: Response,
    *,
    claims: TokenClaims | None = None,
    credentials: Connection | None = None,
) -> ServiceTitanError:
    """Build the error that a response other than a 2xx stands for.

    Args:
        claims: of the token that was sent, where they are readable.
        credentials: the connection whose credentials were sent, for a token request.
    """
    error_body = read_error_body(request, response)
    error_class = _choose_error_class(response.status, error_body.text)
    if credentials is None:
        target = redact_url(scrub(response.headers.get("Location", "nowhere"), request.secrets))
        problem = diagnose_data_response(request, response.status, error_body.text, claims, target)
    else:
        problem = diagnose_token_response(credentials, response.status, error_body.text)
    return error_class(
        f"answered {response.status}: {error_body.text}",
        method=request.method,
        url=request.redacted_url,
        status=response.status,
        trace_id=error_body.trace_id,
        problem=problem,
        detail=error_body.text,
        retry_after=_read_retry_after(response, error_body),
    )


def build_unexpected_response(
    request: Request, response: Response, reason: str
) -> UnexpectedResponse:
    """Build the error for a 2xx whose body is not what was requested.

    It quotes nothing but a web page's title or a plain sentence, as a record may hold a customer's
    data, and the response to a token request a token.

    Args:
        reason: what is wrong with the body, in words of our own.
    """
    text = read_error_body(request, response).text
    is_page = text.startswith(_WEB_PAGE)
    is_token_request = request.form is not None
    if not is_page and (is_token_request or _DATA.search(response.body)):
        text = ""
    return UnexpectedResponse(
        f"answered {response.status}, but {reason}{text and ': '}{text}",
        method=request.method,
        url=request.redacted_url,
        status=response.status,
        detail=text,
        problem=build_problem("web-page", host=extract_host(request.url)) if is_page else None,
    )


def _read_retry_after(response: Response, error_body: ErrorBody) -> float | None:
    if response.status not in (429, 503):
        return None
    return parse_retry_after(response.headers, error_body.text, datetime.now(timezone.utc))


def _choose_error_class(status: int, text: str) -> type[ServiceTitanError]:
    if status == 409 and _MAINTENANCE.search(text):
        return ServiceUnavailable
    if status >= 500 or status == 408:
        return ServiceUnavailable
    if 300 <= status < 400:
        return WrongPath
    by_status: dict[int, type[ServiceTitanError]] = {
        401: AuthenticationFailed,
        403: PermissionDenied,
        404: WrongPath,
        429: RateLimited,
    }
    return by_status.get(status, BadRequest)


def _join_parts(body: dict[str, Any]) -> str:
    """Join the informative parts of an error object, the most useful first."""
    names = ("title", "message", "error", "error_description", "detail")
    parts = [str(body[name]) for name in names if _is_informative(body.get(name))]
    errors = body.get("errors")
    if isinstance(errors, dict):
        parts += [f"{name}: {_join_messages(messages)}" for name, messages in errors.items()]
    elif errors:
        parts.append(_join_messages(errors))
    return "; ".join(parts) or json.dumps(body)


def _is_informative(value: object) -> bool:
    return isinstance(value, str | dict) and bool(value)


def _join_messages(messages: object) -> str:
    return ", ".join(map(str, messages)) if isinstance(messages, list) else str(messages)


def _read_trace_id(request: Request, value: object) -> str | None:
    text = scrub(str(value), request.secrets) if value else ""
    return text if _TRACE_ID.fullmatch(text) else None


def extract_host(url: str) -> str:
    """Return host and port, without user and password."""
    return urlsplit(url).netloc.rpartition("@")[2]


def diagnose_token_response(connection: Connection, status: int, text: str) -> Problem:
    """Diagnose why no token was issued, from the status and text of the response."""
    host = extract_host(connection.auth_url)
    if status in (400, 401):
        return _diagnose_refused_credentials(connection, text)
    if text.startswith(_WEB_PAGE) and status < 500:
        return build_problem("no-token-host", host=host)
    if _APP_UNKNOWN.search(text):
        return build_problem("app-unknown")
    if status == 403:
        return build_problem("token-forbidden", host=host)
    if status == 404:
        return build_problem("no-token-host", host=host)
    return _diagnose_status(status, text) or build_problem("no-token-host", host=host)


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
        target: where a redirect leads, redacted.
    """
    host = extract_host(request.url)
    if 300 <= status < 400:
        return build_problem("redirected", host=host, target=target)
    if problem := _diagnose_status(status, text):
        return problem
    if status not in (401, 403, 404):
        return build_problem("bad-request")
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
    if text.startswith(_WEB_PAGE):
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


def _diagnose_status(status: int, text: str) -> Problem | None:
    """Diagnose a status that means the same at every host."""
    if status == 429:
        return build_problem("rate-limited")
    if status == 407:
        return build_problem("proxy-credentials")
    if status in (408, 409, 503) and _MAINTENANCE.search(text):
        return build_problem("maintenance")
    if status >= 500 or status == 408:
        return build_problem("unavailable")
    return None
