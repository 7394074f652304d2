"""Turns an error response into the exception that says what to do about it.

The shapes that occur: RFC 7807 (`title`, `errors`, `traceId`) from the API, OAuth's `error` from
the token endpoint, `statusCode` and `message` from the gateway in front, HTML from a proxy. 401,
429 and 5xx are documented on no operation, so nothing here relies on a body.

An error also has the known problem that the response stands for, where there is one; `diagnosis`
finds it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

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
from st_pipelines.servicetitan.errors.problems import build_problem
from st_pipelines.servicetitan.http.diagnosis import (
    MAINTENANCE,
    WEB_PAGE,
    diagnose_data_response,
    diagnose_token_response,
    extract_host,
)
from st_pipelines.servicetitan.http.model import (
    MAX_ERROR_BODY_BYTES,
    Connection,
    Request,
    Response,
    TokenClaims,
)
from st_pipelines.servicetitan.http.redact import redact_url, scrub, shorten
from st_pipelines.servicetitan.http.retry import parse_retry_after
from st_pipelines.servicetitan.http.server_clock import parse_http_date

# Text of others is searched with these, so that none repeats without a limit (see the tests).
_TRACE_ID = re.compile(r"[\w|:.\-]{1,100}", re.ASCII)
# "Out of call volume quota. Quota will be replenished in 00:05:00." (Azure API Management, 403)
_QUOTA = re.compile(r"\bquota\b|\brate limit", re.IGNORECASE)
_REPLENISHED = re.compile(r"\bquota\b.{0,100}\breplenished\b", re.IGNORECASE)
_MEDIA_TYPE = re.compile(r"[a-z]{1,20}/[a-z0-9.+-]{1,40}", re.IGNORECASE)
_GZIP_MAGIC = b"\x1f\x8b"
_LONGEST_WAIT, _LAST_YEAR = timedelta(days=3650), 9000

_TRANSIENT = {408, 421, 423, 425}
_CLASSES: dict[int, type[ServiceTitanError]] = {
    401: AuthenticationFailed,
    403: PermissionDenied,
    404: WrongPath,
    407: Unreachable,
    410: WrongPath,
    429: RateLimited,
    451: PermissionDenied,
    501: BadRequest,
    505: BadRequest,
    511: Unreachable,
}


@dataclass(frozen=True, kw_only=True)
class ErrorBody:
    """The readable part of an error body, without secrets.

    Attributes:
        text: may be shown; one line, at most 500 characters.
        searched: what the diagnosis looks at; may hold more, so it is not shown.
        trace_id: ServiceTitan's `traceId`, or None.
    """

    text: str
    searched: str
    trace_id: str | None = None


def read_error_body(request: Request, response: Response) -> ErrorBody:
    """Read an error body of any shape, scrubbed of the request's secrets.

    Shown are the members that explain an error, and the title of a web page. Other text is not: it
    may quote a customer's record.
    """
    body = response.body[:MAX_ERROR_BODY_BYTES].decode(errors="replace").strip()
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        parsed = None
    if isinstance(parsed, dict):
        text = shorten(scrub(_join_parts(parsed), request.secrets))
        trace_id = _read_trace_id(request, parsed.get("traceId"))
        shown = text or "JSON without a title"
        return ErrorBody(text=shown, searched=text, trace_id=trace_id)
    if body[:100].lstrip("\ufeff \r\n\t").startswith("<"):
        title = _read_page_title(body)
        titled = f" titled '{title}'" if title else ""
        text = f"{WEB_PAGE}{titled} instead of JSON"
        text = shorten(scrub(text, request.secrets))
        return ErrorBody(text=text, searched=text)
    searched = shorten(scrub(body, request.secrets))
    kind = "JSON" if parsed is not None else "plain text"
    text = f"{kind} of {len(response.body):,} bytes" if body else "an empty body"
    if request.form is not None and body and response.status >= 400:
        text = searched  # the token endpoint knows no customers
    return ErrorBody(text=text, searched=searched)


def _read_page_title(page: str) -> str:
    lower = page.lower()
    begin = lower.find(">", lower.find("<title")) if "<title" in lower else -1
    end = lower.find("</title", begin)
    return page[begin + 1 : end].strip() if 0 <= begin < end else ""


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
    searched, status = error_body.searched, response.status
    retry_after = _read_retry_after(response, searched)
    if is_quota_used_up(status, searched):
        problem = build_problem("quota-used-up", until=_describe_end(response, retry_after))
    elif credentials is None:
        target = redact_url(scrub(response.headers.get("Location", ""), request.secrets))
        problem = diagnose_data_response(request, status, searched, claims, target)
    else:
        problem = diagnose_token_response(credentials, status, searched)
    error = _choose_error_class(status, searched)(
        f"answered {response.status}: {error_body.text}",
        method=request.method,
        url=request.redacted_url,
        status=response.status,
        trace_id=error_body.trace_id,
        problem=problem,
        detail=error_body.text,
        retry_after=retry_after,
    )
    if isinstance(error, Unreachable):  # from a proxy that wants a person to do something
        error.retryable = False
    return error


def build_unexpected_response(
    request: Request, response: Response, reason: str
) -> UnexpectedResponse:
    """Build the error for a 2xx whose body is not what was requested.

    It quotes nothing but a web page's title, or ServiceTitan's own `title` and `traceId`: anything
    else may hold a customer's data, and the response to a token request a token.

    Args:
        reason: what is wrong with the body, in words of our own.
    """
    error_body = read_error_body(request, response)
    is_page = error_body.text.startswith(WEB_PAGE)
    if response.body.startswith(_GZIP_MAGIC):
        reason = "it is compressed once more than its header says"
    text = error_body.text
    if error_body.searched and not is_page:
        text = _read_title(request, response) if request.form is None else ""
        text = text or f"{len(response.body):,} bytes of {_describe_type(response)}"
    return UnexpectedResponse(
        f"answered {response.status}, but {reason}: {text}",
        method=request.method,
        url=request.redacted_url,
        status=response.status,
        trace_id=error_body.trace_id,
        detail=text,
        problem=build_problem("web-page", host=extract_host(request.url)) if is_page else None,
    )


def _read_title(request: Request, response: Response) -> str:
    """Read the title of an error that came with status 200; empty where records may have come."""
    try:
        parsed = json.loads(response.body[:MAX_ERROR_BODY_BYTES])
    except (ValueError, RecursionError):
        return ""
    is_error = isinstance(parsed, dict) and "data" not in parsed and "traceId" in parsed
    title = parsed.get("title") if is_error else None
    return shorten(scrub(title, request.secrets)) if isinstance(title, str) else ""


def _describe_type(response: Response) -> str:
    """Name the media type, if it has the form of one."""
    found = _MEDIA_TYPE.match(response.headers.get("Content-Type", ""))
    return found[0] if found else "an unknown type"


def is_quota_used_up(status: int, searched: str) -> bool:
    """Whether a response says that a quota is used up: a limit, although the status may be 403."""
    if status == 429:
        return bool(_REPLENISHED.search(searched))
    return status == 403 and not searched.startswith(WEB_PAGE) and bool(_QUOTA.search(searched))


def _read_retry_after(response: Response, searched: str) -> float | None:
    if response.status not in (429, 503) and not is_quota_used_up(response.status, searched):
        return None
    return parse_retry_after(response.headers, searched, datetime.now(timezone.utc))


def _describe_end(response: Response, retry_after: float | None) -> str:
    """Describe when a quota is replenished, by the server's clock where it is known."""
    if retry_after is None:
        return "at a time that the response does not tell"
    if retry_after > _LONGEST_WAIT.total_seconds():
        return "in more than ten years, by the response"
    now = parse_http_date(response.headers.get("Date", "")) or datetime.now(timezone.utc)
    if now.year > _LAST_YEAR:
        now = datetime.now(timezone.utc)
    return f"at {now + timedelta(seconds=retry_after):%Y-%m-%d %H:%M:%S} UTC"


def _choose_error_class(status: int, searched: str) -> type[ServiceTitanError]:
    if is_quota_used_up(status, searched):
        return QuotaUsedUp
    if status == 409 and MAINTENANCE.search(searched):
        return ServiceUnavailable
    if 300 <= status < 400:
        return WrongPath
    if status in _CLASSES:
        return _CLASSES[status]
    return ServiceUnavailable if status >= 500 or status in _TRANSIENT else BadRequest


def _join_parts(body: dict[str, Any]) -> str:
    """Join the informative parts of an error object, the most useful first."""
    names = ("title", "message", "error", "error_description", "detail")
    parts = [str(body[name]) for name in names if _is_informative(body.get(name))]
    errors = body.get("errors")
    if isinstance(errors, dict):
        parts += [f"{name}: {_join_messages(messages)}" for name, messages in errors.items()]
    elif errors:
        parts.append(_join_messages(errors))
    return "; ".join(parts)


def _is_informative(value: object) -> bool:
    return isinstance(value, str | dict) and bool(value)


def _join_messages(messages: object) -> str:
    return ", ".join(map(str, messages)) if isinstance(messages, list) else str(messages)


def _read_trace_id(request: Request, value: object) -> str | None:
    text = scrub(str(value), request.secrets) if value else ""
    return text if _TRACE_ID.fullmatch(text) else None
