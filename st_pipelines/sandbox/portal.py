"""Simulates defects in the developer portal, in the tenant and in the settings, for practice.

Where ServiceTitan's response to a defect is not known, the sandbox chooses one or the defect names
one, as in `wrong-app-key:404`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from typing import TypeAlias

from st_pipelines.sandbox.credentials import Credentials
from st_pipelines.sandbox.fault_kinds import DEFECT_KINDS

OTHER_TENANT = "1000009999"
OTHER_APP_KEY = "ak1.sandbox.of-another-app"
_WRONG_KEY_STATUSES = ("401", "403", "404")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Portal:
    """The app's setup in the developer portal and the tenant.

    Attributes:
        missing_scopes: scopes that are not ticked.
        extra_scopes: scopes that are ticked although no endpoint needs them.
        unaccepted_scopes: scopes in the token that the admin has not accepted yet.
        connected: whether the tenant has connected the app.
        grants_tokens: False if the token endpoint knows the client but issues no token.
        app_exists: False if the token endpoint does not find the app.
        opaque_tokens: whether tokens are opaque rather than JWTs.
        secret_rotated: whether the user's secret was deleted. `derive_new_secret` returns the new
            one.
        wrong_key_status: HTTP status for a wrong app key.
        wrong_settings: wrong values in the user's settings, by name without prefix.
        clock_offset: added to the `Date` header of responses.
        remedies: how to fix each defect, one line per defect.
    """

    missing_scopes: frozenset[str] = frozenset()
    extra_scopes: frozenset[str] = frozenset()
    unaccepted_scopes: frozenset[str] = frozenset()
    connected: bool = True
    grants_tokens: bool = True
    app_exists: bool = True
    opaque_tokens: bool = False
    secret_rotated: bool = False
    wrong_key_status: int = 401
    wrong_settings: Mapping[str, str] = dataclasses.field(default_factory=dict)
    clock_offset: timedelta = timedelta(0)
    remedies: tuple[str, ...] = ()

    def choose_scopes(self, granted: Iterable[str]) -> tuple[str, ...]:
        """Return the scopes of a token, given the scopes granted to the app."""
        return tuple(sorted((set(granted) | self.extra_scopes) - self.missing_scopes))

    def choose_secret(self, credentials: Credentials) -> str:
        """Return the client secret that is valid."""
        return derive_new_secret(credentials) if self.secret_rotated else credentials.client_secret

    def render_date(self, now: datetime) -> str:
        """Return the `Date` header of a response that is made at `now` (aware)."""
        return format_datetime((now + self.clock_offset).astimezone(timezone.utc), usegmt=True)


def derive_new_secret(credentials: Credentials) -> str:
    """Return the secret that replaces a rotated one."""
    return credentials.client_secret.replace("cs1.", "cs2.")


def read_defects(texts: Iterable[str], credentials: Credentials) -> Portal:
    """Build a portal with defects, from texts such as `scope-missing:tn.jpm.jobs:r`.

    Args:
        texts: kinds of `fault_kinds.DEFECT_KINDS`, some with a value after a colon.
        credentials: the first tenant's credentials, which the remedies mention.

    Raises:
        ValueError: a defect is unknown, or its value is invalid.
    """
    portal = Portal()
    for text in texts:
        kind, _, value = text.partition(":")
        if kind not in DEFECT_KINDS:
            raise ValueError(f"there is no defect {kind!r}: name one of {', '.join(DEFECT_KINDS)}")
        changes, remedy = _CHANGES[kind](portal, value, credentials)
        portal = dataclasses.replace(
            portal, **changes, remedies=(*portal.remedies, f"{kind}: {remedy}")
        )
    return portal


_Changes: TypeAlias = tuple[dict[str, object], str]


def _untick_scope(portal: Portal, value: str, credentials: Credentials) -> _Changes:
    scope = value or "tn.crm.customers:r"
    return {
        "missing_scopes": portal.missing_scopes | {scope}
    }, f"tick {scope}, that is, restart without this defect"


def _tick_scope(portal: Portal, value: str, credentials: Credentials) -> _Changes:
    scope = value or "tn.crm.customers:w"
    return {
        "extra_scopes": portal.extra_scopes | {scope}
    }, f"untick {scope}, that is, restart without this defect"


def _withhold_scope(portal: Portal, value: str, credentials: Credentials) -> _Changes:
    scope = value or "tn.crm.customers:r"
    remedy = "accept the app's new version, that is, restart without this defect"
    return {"unaccepted_scopes": portal.unaccepted_scopes | {scope}}, remedy


def _disconnect_app(portal: Portal, value: str, credentials: Credentials) -> _Changes:
    return {"connected": False}, "connect the app, that is, restart without this defect"


def _refuse_grant(portal: Portal, value: str, credentials: Credentials) -> _Changes:
    return {"grants_tokens": False}, "connect the app again, that is, restart without this defect"


def _remove_app(portal: Portal, value: str, credentials: Credentials) -> _Changes:
    return {"app_exists": False}, "add the tenant to the app, that is, restart without this defect"


def _hide_claims(portal: Portal, value: str, credentials: Credentials) -> _Changes:
    return {"opaque_tokens": True}, "nothing is wrong; --deep finds out what the token allows"


def _swap_tenant(portal: Portal, value: str, credentials: Credentials) -> _Changes:
    wrong_settings = {**portal.wrong_settings, "TENANT_ID": OTHER_TENANT}
    return {"wrong_settings": wrong_settings}, f"the portal shows TENANT_ID={credentials.tenant_id}"


def _swap_app_key(portal: Portal, value: str, credentials: Credentials) -> _Changes:
    status = value or _WRONG_KEY_STATUSES[0]
    if status not in _WRONG_KEY_STATUSES:
        raise ValueError(
            f"--defect wrong-app-key:{value}: name one of {', '.join(_WRONG_KEY_STATUSES)}"
        )
    wrong_settings = {**portal.wrong_settings, "APP_KEY": OTHER_APP_KEY}
    return {
        "wrong_settings": wrong_settings,
        "wrong_key_status": int(status),
    }, f"the portal shows APP_KEY={credentials.app_key}"


def _rotate_secret(portal: Portal, value: str, credentials: Credentials) -> _Changes:
    return {
        "secret_rotated": True
    }, f"the new secret is CLIENT_SECRET={derive_new_secret(credentials)}"


def _shift_clock(portal: Portal, value: str, credentials: Credentials) -> _Changes:
    try:
        offset = timedelta(seconds=float(value or 600))
    except (ValueError, OverflowError):
        raise ValueError(f"--defect wrong-clock:{value}: give seconds, such as -90") from None
    return {"clock_offset": offset}, "restart without this defect"


_CHANGES: Mapping[str, Callable[[Portal, str, Credentials], _Changes]] = {
    "scope-missing": _untick_scope,
    "scope-surplus": _tick_scope,
    "scope-not-accepted": _withhold_scope,
    "app-not-connected": _disconnect_app,
    "app-unknown": _remove_app,
    "no-grant": _refuse_grant,
    "opaque-token": _hide_claims,
    "wrong-tenant": _swap_tenant,
    "wrong-app-key": _swap_app_key,
    "secret-rotated": _rotate_secret,
    "wrong-clock": _shift_clock,
}
