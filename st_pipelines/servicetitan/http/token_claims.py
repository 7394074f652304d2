"""What an access token says of itself, where it can be read.

The vendor's sample token is a JWT whose payload has `tenant`, `exp` and `scope`. Nothing promises
that it stays one: a token that cannot be read is no error, its claims are unknown.
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
        tenants: ids of the tenants it is for; empty where it does not say.
        scopes: what it allows, such as `tn.jpm.jobs:r`; None where it does not say.
        lifetime: seconds from its beginning to its end; None where it does not say.
    """

    tenants: frozenset[str]
    scopes: frozenset[str] | None
    lifetime: int | None = None


def read_token_claims(token: SecretStr | None) -> TokenClaims | None:
    """Read a token without checking its signature, which is ServiceTitan's business.

    Args:
        token: as it was issued, or None.

    Returns:
        None for an opaque token.
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
        tenants=frozenset(_words(claims.get("tenant"))),
        scopes=None if scope is None else frozenset(_words(scope)),
        lifetime=_seconds(claims.get("nbf", claims.get("iat")), claims.get("exp")),
    )


def _seconds(start: Any, end: Any) -> int | None:
    known = isinstance(start, int | float) and isinstance(end, int | float)
    return int(end) - int(start) if known else None


def _words(value: Any) -> Iterable[str]:
    """A claim's values: a list as in the vendor's sample, or OAuth's text with spaces."""
    if value is None:
        return ()
    parts = value if isinstance(value, list) else str(value).split()
    return (str(part) for part in parts)
