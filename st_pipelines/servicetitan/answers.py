"""What ServiceTitan said, as an error that tells what to do.

The shapes that occur: RFC 7807 (`title`, `errors`, `traceId`) from the API, OAuth's `error` from
the token endpoint, `statusCode` and `message` from the gateway in front, HTML from a proxy. 401,
429 and 5xx are documented on no operation, so nothing here relies on a body.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from st_pipelines.servicetitan.errors import (
    AuthenticationFailed,
    BadRequest,
    PermissionDenied,
    RateLimited,
    ServiceTitanError,
    ServiceUnavailable,
    UnexpectedAnswer,
    WrongPath,
)
from st_pipelines.servicetitan.redact import redact_url, scrub, shorten
from st_pipelines.servicetitan.retry import told_wait
from st_pipelines.servicetitan.transport import Answer, Asked

# "The service is suspended for maintenance. Please try again later." (seen with status 409)
_MAINTENANCE = re.compile(r"maintenance|suspended|try again", re.IGNORECASE)
_TRACE_ID = re.compile(r"[\w|:.\-]{1,100}", re.ASCII)
_HINTS: dict[type[ServiceTitanError], str] = {
    AuthenticationFailed: "A token that was issued a moment ago is not accepted: check that "
    "auth_url and api_url belong to the same environment, and that tenant id, app key and "
    "client id belong together.",
    WrongPath: "On a collection a 404 is a wrong path, tenant id or app key, never 'no rows': "
    "check the settings TENANT_ID and APP_KEY of this environment.",
    RateLimited: "Lower the requests a second, or see what else uses this app and tenant: "
    "they share one limit.",
    ServiceUnavailable: "ServiceTitan is down, in maintenance or overloaded; run it again later.",
    BadRequest: "The parameters do not suit this endpoint; they come from its catalogue entry.",
}


@dataclass(frozen=True, kw_only=True)
class Said:
    """The readable part of an error body, without secrets.

    Attributes:
        text: one line, at most 500 characters.
        trace_id: ServiceTitan's `traceId`, or None.
    """

    text: str
    trace_id: str | None = None


def said(asked: Asked, answer: Answer) -> Said:
    """Read an error body, whatever shape it has.

    Args:
        asked: names the secrets that the body might echo.
        answer: with any body.

    Returns:
        Its text, scrubbed before it is shortened.
    """
    body = answer.body.decode(errors="replace").strip()
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        parsed = None
    if isinstance(parsed, dict):
        return Said(
            text=shorten(scrub(_problem(parsed), asked.secrets)),
            trace_id=_trace_id(asked, parsed.get("traceId")),
        )
    if body[:100].lstrip("\ufeff \r\n\t").startswith("<"):
        title = re.search(r"<title[^>]*>(.*?)</title>", body, re.IGNORECASE | re.DOTALL)
        named = f" titled '{title[1].strip()}'" if title else ""
        return Said(text=shorten(scrub(f"an HTML page{named} instead of JSON", asked.secrets)))
    return Said(text=shorten(scrub(body, asked.secrets)) if body else "an empty body")


def failure_of(asked: Asked, answer: Answer) -> ServiceTitanError | None:
    """The error that an answer stands for.

    Args:
        asked: the request.
        answer: its answer.

    Returns:
        None for a 2xx, else an error that is not raised yet.
    """
    if 200 <= answer.status < 300:
        return None
    what = said(asked, answer)
    kind = _kind(answer.status, what.text)
    hint = _HINTS.get(kind, "")
    if kind is PermissionDenied:
        hint = _permission_hint(asked.scope)
    if 300 <= answer.status < 400:
        target = redact_url(scrub(answer.headers.get("Location", "nowhere"), asked.secrets))
        hint = f"It redirects to {target}, which is not followed; check the host in the settings."
    return kind(
        f"answered {answer.status}: {what.text}",
        method=asked.method,
        url=asked.shown_url,
        status=answer.status,
        trace_id=what.trace_id,
        hint=hint,
        detail=what.text,
        wait=wait_of(answer, what),
    )


def unexpected(asked: Asked, answer: Answer, problem: str) -> UnexpectedAnswer:
    """The error for a 2xx that is not what was asked for.

    Args:
        asked: the request.
        answer: its answer.
        problem: what is wrong with it, in words of our own.

    Returns:
        An error that is not raised yet. It quotes the body only where that is no JSON, because
        a record may hold a customer's data.
    """
    is_json = answer.body[:1] in (b"{", b"[")
    quote = "" if is_json else f": {said(asked, answer).text}"
    return UnexpectedAnswer(
        f"answered {answer.status}, but {problem}{quote}",
        method=asked.method,
        url=asked.shown_url,
        status=answer.status,
    )


def wait_of(answer: Answer, what: Said) -> float | None:
    """Seconds that a 429 or 503 says to wait, or None."""
    if answer.status not in (429, 503):
        return None
    return told_wait(answer.headers, what.text, datetime.now(timezone.utc))


def _kind(status: int, text: str) -> type[ServiceTitanError]:
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


def _permission_hint(scope: str) -> str:
    tick = f"Tick the scope {scope}" if scope else "Tick the scope of this endpoint"
    return (
        f"{tick} in the app (developer portal), then let the tenant's admin accept the new version"
        " of the app. If every endpoint answers so, the tenant has not connected the app at all."
    )


def _problem(body: dict[str, Any]) -> str:
    """The parts of an error object that tell something, in the order of their use."""
    heads = [str(body[name]) for name in ("title", "message", "error") if _tells(body.get(name))]
    heads += [str(body[name]) for name in ("error_description", "detail") if _tells(body.get(name))]
    errors = body.get("errors")
    if isinstance(errors, dict):
        heads += [f"{name}: {_joined(messages)}" for name, messages in errors.items()]
    elif errors:
        heads.append(_joined(errors))
    return "; ".join(heads) or json.dumps(body)


def _tells(value: object) -> bool:
    return isinstance(value, str | dict) and bool(value)


def _joined(messages: object) -> str:
    return ", ".join(map(str, messages)) if isinstance(messages, list) else str(messages)


def _trace_id(asked: Asked, value: object) -> str | None:
    text = scrub(str(value), asked.secrets) if value else ""
    return text if _TRACE_ID.fullmatch(text) else None
