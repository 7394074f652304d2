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
from st_pipelines.servicetitan.errors.problems import build_problem
from st_pipelines.servicetitan.http.connection import Connection
from st_pipelines.servicetitan.http.diagnosis import (
    MAINTENANCE,
    WEB_PAGE,
    data_problem,
    host_of,
    token_problem,
)
from st_pipelines.servicetitan.http.messages import Request, Response
from st_pipelines.servicetitan.http.redact import redact_url, scrub, shorten
from st_pipelines.servicetitan.http.retry import retry_after

_DATA = re.compile(rb'[{}\[\]"]')
_TRACE_ID = re.compile(r"[\w|:.\-]{1,100}", re.ASCII)


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
    """Read an error body, whatever shape it has.

    Args:
        request: names the secrets that the body might echo.
        response: with any body.

    Returns:
        Its text, scrubbed before it is shortened.
    """
    body = response.body.decode(errors="replace").strip()
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        parsed = None
    if isinstance(parsed, dict):
        return ErrorBody(
            text=shorten(scrub(_problem(parsed), request.secrets)),
            trace_id=_trace_id(request, parsed.get("traceId")),
        )
    if body[:100].lstrip("\ufeff \r\n\t").startswith("<"):
        title = re.search(r"<title[^>]*>(.*?)</title>", body, re.IGNORECASE | re.DOTALL)
        named = f" titled '{title[1].strip()}'" if title else ""
        text = f"{WEB_PAGE}{named} instead of JSON"
        return ErrorBody(text=shorten(scrub(text, request.secrets)))
    return ErrorBody(text=shorten(scrub(body, request.secrets)) if body else "an empty body")


def failure_of(
    request: Request, response: Response, issuing: Connection | None = None
) -> ServiceTitanError | None:
    """The error that an answer stands for.

    Args:
        request: the request.
        response: its response.
        issuing: for a token request, whose credentials it was made with.

    Returns:
        None for a 2xx, else an error that is not raised yet.
    """
    if 200 <= response.status < 300:
        return None
    what = read_error_body(request, response)
    kind = _kind(response.status, what.text)
    if issuing is None:
        target = redact_url(scrub(response.headers.get("Location", "nowhere"), request.secrets))
        told = data_problem(request, response.status, what.text, target)
    else:
        told = token_problem(issuing, response.status, what.text)
    return kind(
        f"answered {response.status}: {what.text}",
        method=request.method,
        url=request.shown_url,
        status=response.status,
        trace_id=what.trace_id,
        problem=told,
        detail=what.text,
        wait=wait_of(response, what),
    )


def unexpected(request: Request, response: Response, problem: str) -> UnexpectedResponse:
    """The error for a 2xx that is not what was asked for.

    Args:
        request: the request.
        response: its response.
        problem: what is wrong with it, in words of our own.

    Returns:
        An error that is not raised yet. It quotes only a web page's title or a plain sentence, as
        a record may hold a customer's data, and what answers a token request a token.
    """
    text = read_error_body(request, response).text
    page = text.startswith(WEB_PAGE)
    if not page and (request.form is not None or _DATA.search(response.body)):
        text = ""
    return UnexpectedResponse(
        f"answered {response.status}, but {problem}{text and ': '}{text}",
        method=request.method,
        url=request.shown_url,
        status=response.status,
        detail=text,
        problem=build_problem("web-page", host=host_of(request.url)) if page else None,
    )


def wait_of(response: Response, what: ErrorBody) -> float | None:
    """Seconds that a 429 or 503 says to wait, or None."""
    if response.status not in (429, 503):
        return None
    return retry_after(response.headers, what.text, datetime.now(timezone.utc))


def _kind(status: int, text: str) -> type[ServiceTitanError]:
    if status == 409 and MAINTENANCE.search(text):
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


def _trace_id(request: Request, value: object) -> str | None:
    text = scrub(str(value), request.secrets) if value else ""
    return text if _TRACE_ID.fullmatch(text) else None
