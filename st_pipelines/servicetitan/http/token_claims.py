"""Reads the claims of an access token, where they are readable.

The vendor's sample token is a JWT whose payload has `tenant`, `exp` and `scope`. Nothing promises
that tokens stay readable: an opaque one is not an error, its claims are unknown.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import jwt
from pydantic import SecretStr


@dataclass(frozen=True, kw_only=True)
class TokenClaims:
    """The readable part of a token.

    Attributes:
        tenants: ids of the tenants it is valid for; empty where unknown.
        scopes: what it allows, such as `tn.jpm.jobs:r`; None where unknown.
        lifetime: in seconds; None where unknown.
    """

    tenants: frozenset[str]
    scopes: frozenset[str] | None
    lifetime: int | None = None


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
    except jwt.PyJWTError:
        return None
    scope = claims.get("scope", claims.get("scp"))
    return TokenClaims(
        tenants=frozenset(_split(claims.get("tenant"))),
        scopes=None if scope is None else frozenset(_split(scope)),
        lifetime=_seconds_between(claims.get("nbf", claims.get("iat")), claims.get("exp")),
    )


def _seconds_between(start: Any, end: Any) -> int | None:
    known = isinstance(start, int | float) and isinstance(end, int | float)
    return int(end) - int(start) if known else None


def _split(value: Any) -> Iterable[str]:
    """Split a claim: it is a list as in the vendor's sample, or OAuth's space-separated text."""
    if value is None:
        return ()
    parts = value if isinstance(value, list) else str(value).split()
    return (str(part) for part in parts)
