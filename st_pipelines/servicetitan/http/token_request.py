"""One request to the token endpoint, and the token that it issues."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import requests
from pydantic import SecretStr

from st_pipelines.servicetitan.errors.errors import AuthenticationFailed, ServiceTitanError
from st_pipelines.servicetitan.http import responses
from st_pipelines.servicetitan.http.connection import Connection
from st_pipelines.servicetitan.http.diagnosis import token_problem
from st_pipelines.servicetitan.http.messages import Request, Response, Usage
from st_pipelines.servicetitan.http.transport import Unsigned, send

# Renewed so long before the end: requests that are under way must still arrive with it.
_MARGIN = 60.0
_MARGIN_SHARE = 0.1
# What the vendor documents, for an answer that does not say.
_LIFETIME = 900.0


@dataclass(frozen=True, kw_only=True)
class Token:
    """An access token.

    Attributes:
        value: sent as the bearer.
        renew_at: on the source's clock; from then on another is fetched.
        lifetime: seconds for which it was issued.
    """

    value: SecretStr
    renew_at: float
    lifetime: float = _LIFETIME


class _TokenAnswer(msgspec.Struct):
    access_token: str
    expires_in: Any = None


def request_token(
    connection: Connection,
    secret: SecretStr,
    secrets: tuple[SecretStr, ...],
    http: requests.Session,
    usage: Usage,
    clock: Callable[[], float],
) -> Token:
    """Request a token with one client secret; raises a `ServiceTitanError` where none is issued."""
    request = Request(
        method="POST",
        url=connection.token_url,
        form={
            "grant_type": "client_credentials",
            "client_id": connection.client_id,
            "client_secret": secret,
        },
        secrets=secrets,
    )
    requested_at = clock()
    usage.add(token_requests=1)
    response = send(http, request, auth=Unsigned(), timeout=connection.timeout)
    if response.status in (400, 401, 403):
        raise _refused(connection, request, response)
    if failure := responses.failure_of(request, response, connection):
        raise failure
    return _read_token(request, response, requested_at)


def _read_token(request: Request, response: Response, requested_at: float) -> Token:
    failure: ServiceTitanError
    try:
        parsed = msgspec.json.decode(response.body, type=_TokenAnswer)
        lifetime = _seconds(parsed.expires_in)
        margin = min(_MARGIN, lifetime * _MARGIN_SHARE)
        return Token(
            value=SecretStr(parsed.access_token),
            renew_at=requested_at + lifetime - margin,
            lifetime=lifetime,
        )
    except ValueError:
        failure = responses.unexpected(request, response, "no access_token came")
    raise failure


def _refused(connection: Connection, request: Request, response: Response) -> AuthenticationFailed:
    what = responses.read_error_body(request, response)
    return AuthenticationFailed(
        f"no token, answered {response.status}: {what.text}",
        method=request.method,
        url=request.shown_url,
        status=response.status,
        trace_id=what.trace_id,
        detail=what.text,
        problem=token_problem(connection, response.status, what.text),
    )


def _seconds(expires_in: Any) -> float:
    """The lifetime as served; the documented one where it cannot be read."""
    try:
        return _LIFETIME if isinstance(expires_in, bool) else float(expires_in)
    except (TypeError, ValueError):
        return _LIFETIME
