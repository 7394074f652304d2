"""Issues and checks tokens, and counts requests for the rate limit.

`api` compares scopes, and sends the 403 or 429.
"""

from __future__ import annotations

import base64
import binascii
import time
from collections import deque
from collections.abc import Callable, Mapping
from functools import lru_cache
from secrets import token_urlsafe
from typing import Any

import jwt

from st_pipelines.sandbox.credentials import Credentials
from st_pipelines.sandbox.portal import Portal

SIGNING_KEY = "the sandbox signs with this; it guards nothing"
TOKEN_SECONDS = 900


class Refused(Exception):
    """Rejects a request.

    Args:
        status: the HTTP status.
        message: the body's text; empty for a response without a body.
    """

    def __init__(self, status: int, message: str = "") -> None:
        super().__init__(f"{status} {message}")
        self.status = status
        self.message = message


class AccessControl:
    """Issues tokens and checks them.

    Args:
        tenants: credentials by tenant id.
        scopes: granted to the app.
        token_seconds: lifetime of a token, in real time.
        portal: the app's setup; None if it has no defects.
    """

    def __init__(
        self,
        tenants: Mapping[str, Credentials],
        scopes: tuple[str, ...],
        token_seconds: float,
        portal: Portal | None = None,
    ) -> None:
        self.scopes = scopes if portal is None else portal.choose_scopes(scopes)
        self._portal = portal
        self._opaque: dict[str, Mapping[str, Any]] = {}
        self.token_seconds = token_seconds
        self._tenants = tenants
        self._by_client = {credentials.client_id: credentials for credentials in tenants.values()}
        self._accepted: dict[str, frozenset[str]] = {}

    def rotate(self, client_id: str, *secrets: str) -> None:
        """Accept only these client secrets from now on. Issued tokens stay valid."""
        self._accepted[client_id] = frozenset(secrets)

    def issue(self, form: Mapping[str, str], authorization: str) -> dict[str, object]:
        """Return the response body for a token request. Raises Refused with an OAuth error code."""
        client, secret = _read_basic(authorization) or (
            form.get("client_id", ""),
            form.get("client_secret", ""),
        )
        if form.get("grant_type") != "client_credentials":
            raise Refused(400, "unsupported_grant_type")
        credentials = self._by_client.get(client)
        if credentials is None or secret not in self._find_accepted_secrets(client, credentials):
            raise Refused(400, "invalid_client")
        if self._portal and not self._portal.app_exists:
            raise Refused(400, "Application not found.")
        if self._portal and not self._portal.grants_tokens:
            raise Refused(400, "unauthorized_client")
        now = time.time()
        claims = {
            "iss": "sandbox",
            "client_id": client,
            "tenant": credentials.tenant_id,
            "nbf": int(now),
            "exp": now + self.token_seconds,
            "scope": list(self.scopes),
        }
        return {
            "access_token": self._encode(claims),
            "expires_in": int(self.token_seconds),
            "token_type": "Bearer",
            "scope": " ".join(self.scopes),
        }

    def _find_accepted_secrets(self, client: str, credentials: Credentials) -> frozenset[str]:
        valid = credentials.client_secret
        if self._portal:
            valid = self._portal.choose_secret(credentials)
        return self._accepted.get(client, frozenset({valid}))

    def _encode(self, claims: Mapping[str, Any]) -> str:
        if self._portal and self._portal.opaque_tokens:
            token = token_urlsafe(48)
            self._opaque[token] = claims
            return token
        return jwt.encode(dict(claims), SIGNING_KEY, algorithm="HS256")

    def check(self, authorization: str, app_key: str, tenant: str) -> frozenset[str]:
        """Check a data request and return its scopes. Raises Refused."""
        # Both a bare token and "Bearer <token>" are accepted.
        token = authorization.removeprefix("Bearer ").strip()
        try:
            claims = self._opaque.get(token) or _decode_claims(token)
        except jwt.PyJWTError:
            raise Refused(401, "Invalid or missing access token.") from None
        if claims["exp"] <= time.time():
            raise Refused(401, "The access token has expired.")
        if app_key != self._tenants[claims["tenant"]].app_key:
            # ServiceTitan's status is not known; the sandbox uses 401 unless a defect sets another.
            status = self._portal.wrong_key_status if self._portal else 401
            raise Refused(status, "Invalid application key." if status == 401 else "")
        if claims["tenant"] != tenant:
            raise Refused(404)
        if self._portal and not self._portal.connected:
            return frozenset()
        refused = self._portal.unaccepted_scopes if self._portal else frozenset()
        return frozenset(claims["scope"]) - refused


@lru_cache(maxsize=64)
def _decode_claims(token: str) -> Mapping[str, Any]:
    """Decode a token. Cached, because decoding its many scopes takes milliseconds."""
    # The caller compares `exp`, because PyJWT rounds it to whole seconds.
    return jwt.decode(token, SIGNING_KEY, algorithms=["HS256"], options={"verify_exp": False})


def _read_basic(authorization: str) -> tuple[str, str] | None:
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        client, _, secret = base64.b64decode(value).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return client, secret


class RateLimit:
    """Counts the requests of each tenant within any second of real time."""

    def __init__(
        self, requests_per_second: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.requests_per_second = requests_per_second
        self._clock = clock
        self._arrivals: dict[str, deque[float]] = {}

    def admit(self, tenant: str) -> float:
        """Count a request and return 0, or return the seconds until one is allowed again."""
        arrivals = self._arrivals.setdefault(tenant, deque())
        now = self._clock()
        while arrivals and arrivals[0] <= now - 1:
            arrivals.popleft()
        if len(arrivals) >= self.requests_per_second:
            return arrivals[0] + 1 - now
        arrivals.append(now)
        return 0.0
