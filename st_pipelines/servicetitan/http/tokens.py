"""Requests access tokens from the token endpoint, and reads their claims where they are readable.

`auth` decides when a token is requested, and with which client secret.

The vendor's sample token is a JWT whose payload has `tenant`, `exp` and `scope`. Nothing promises
that tokens stay readable: an opaque one is not an error, its claims are unknown.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import jwt
import msgspec
import requests
from pydantic import SecretStr

from st_pipelines.servicetitan.errors.errors import AuthenticationFailed, ServiceTitanError
from st_pipelines.servicetitan.http.diagnosis import diagnose_token_response
from st_pipelines.servicetitan.http.model import Connection, Request, Response, TokenClaims, Usage
from st_pipelines.servicetitan.http.responses import (
    ErrorBody,
    build_error,
    build_unexpected_response,
    is_quota_used_up,
    read_error_body,
)
from st_pipelines.servicetitan.http.server_clock import ServerClock
from st_pipelines.servicetitan.http.transport import Unsigned, send

# A token is renewed this long before it expires, as requests in flight must still arrive with it:
# a minute, or a tenth of a short lifetime.
_RENEWAL_MARGIN_SECONDS = 60.0
_RENEWAL_MARGIN_SHARE = 0.1
_TOKEN = re.compile(r"[!-~]+", re.ASCII)  # what a header can hold after "Bearer "
_DEFAULT_LIFETIME_SECONDS = 900.0  # the documented one, for a response without `expires_in`


@dataclass(frozen=True, kw_only=True)
class Token:
    """An access token.

    Attributes:
        value: sent as the bearer token.
        renew_at: when to fetch the next one, on the clock of the request.
        lifetime: seconds from issue to expiry.
    """

    value: SecretStr
    renew_at: float
    lifetime: float = _DEFAULT_LIFETIME_SECONDS


class _TokenResponse(msgspec.Struct):
    access_token: str
    expires_in: Any = None


def request_token(
    connection: Connection,
    secret: SecretStr,
    secrets: tuple[SecretStr, ...],
    http: requests.Session,
    usage: Usage,
    clock: Callable[[], float],
    server_clock: ServerClock | None = None,
) -> Token:
    """Request a token with one client secret, without retries.

    Args:
        secret: the client secret to send.
        secrets: everything that the response might echo.
        clock: monotonic, in seconds.
        server_clock: learns the server's time from the response.

    Raises:
        AuthenticationFailed: the credentials are refused.
        ServiceTitanError: the token endpoint could not be used.
    """
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
        error_body = read_error_body(request, response)
        if not is_quota_used_up(response.status, error_body.searched):
            raise _build_refusal(connection, request, response, error_body)
    if not 200 <= response.status < 300:
        raise build_error(request, response, credentials=connection)
    token = _parse_token(request, response, requested_at)
    if server_clock is not None:
        server_clock.observe(response.headers, response.received_at)
    return token


def read_token_claims(token: SecretStr | None) -> TokenClaims | None:
    """Read a token's claims without checking its signature; None for an opaque token.

    Only ServiceTitan has to trust the signature.
    """
    if token is None:
        return None
    try:
        claims = jwt.decode(
            token.get_secret_value(), options={"verify_signature": False, "verify_exp": False}
        )
    except (jwt.PyJWTError, ValueError, RecursionError):
        return None
    scope = claims.get("scope", claims.get("scp"))
    return TokenClaims(
        tenants=frozenset(_split(claims.get("tenant"))),
        scopes=None if scope is None else frozenset(_split(scope)),
        lifetime=_seconds_between(claims.get("nbf", claims.get("iat")), claims.get("exp")),
    )


def _parse_token(request: Request, response: Response, requested_at: float) -> Token:
    error: ServiceTitanError
    try:
        parsed = msgspec.json.decode(response.body, type=_TokenResponse)
        if not _TOKEN.fullmatch(parsed.access_token):
            raise ValueError  # it could not be sent
        lifetime = _parse_lifetime(parsed.expires_in)
        margin = min(_RENEWAL_MARGIN_SECONDS, lifetime * _RENEWAL_MARGIN_SHARE)
        return Token(
            value=SecretStr(parsed.access_token),
            renew_at=requested_at + lifetime - margin,
            lifetime=lifetime,
        )
    except ValueError:
        error = build_unexpected_response(request, response, "it holds no access_token")
    # Raised out here so that no chained exception quotes the body.
    raise error


def _build_refusal(
    connection: Connection, request: Request, response: Response, error_body: ErrorBody
) -> AuthenticationFailed:
    return AuthenticationFailed(
        f"no token was issued; the response was {response.status}: {error_body.text}",
        method=request.method,
        url=request.redacted_url,
        status=response.status,
        trace_id=error_body.trace_id,
        detail=error_body.text,
        problem=diagnose_token_response(connection, response.status, error_body.searched),
    )


def _parse_lifetime(expires_in: Any) -> float:
    try:
        seconds = math.nan if isinstance(expires_in, bool) else float(expires_in)
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    return seconds if math.isfinite(seconds) else _DEFAULT_LIFETIME_SECONDS


def _seconds_between(start: Any, end: Any) -> int | None:
    if not (isinstance(start, int | float) and isinstance(end, int | float)):
        return None
    seconds = end - start
    return int(seconds) if math.isfinite(seconds) else None


def _split(value: Any) -> Iterable[str]:
    """Split a claim: it is a list as in the vendor's sample, or OAuth's space-separated text."""
    if value is None:
        return ()
    parts = value if isinstance(value, list) else str(value).split()
    return (str(part) for part in parts)
