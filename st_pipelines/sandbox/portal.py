"""What the developer portal and the tenant's admin have set up, and defects of it to practise on.

Where nobody knows what ServiceTitan answers, the answer is this sandbox's choice, or is named with
the defect, as in `wrong-app-key:404`.
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
_ANSWERS = ("401", "403", "404")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Portal:
    """How things stand with the app.

    Attributes:
        without: scopes that are not ticked.
        besides: scopes that are ticked and that no endpoint needs.
        not_accepted: scopes that the token names, in a version that the admin has not accepted.
        connected: the tenant has connected the app.
        grants: False if the token endpoint knows the client and gives no token.
        known: False if the token endpoint does not find the app.
        opaque: tokens tell nothing.
        rotated: the secret that the user holds was deleted; `new_secret` is the good one.
        key_answer: status for a wrong app key.
        holds: what the user was told wrongly, by name of the setting without its prefix.
        clock_off: added to the `Date` of answers.
        remedies: what the portal would show to who looks, a line each.
    """

    without: frozenset[str] = frozenset()
    besides: frozenset[str] = frozenset()
    not_accepted: frozenset[str] = frozenset()
    connected: bool = True
    grants: bool = True
    known: bool = True
    opaque: bool = False
    rotated: bool = False
    key_answer: int = 401
    holds: Mapping[str, str] = dataclasses.field(default_factory=dict)
    clock_off: timedelta = timedelta(0)
    remedies: tuple[str, ...] = ()

    def scopes(self, all_: Iterable[str]) -> tuple[str, ...]:
        """What a token names."""
        return tuple(sorted((set(all_) | self.besides) - self.without))

    def secret_of(self, known: Credentials) -> str:
        """The client secret that works."""
        return new_secret(known) if self.rotated else known.client_secret

    @property
    def date(self) -> str | None:
        """The `Date` of an answer; None for the true one."""
        if not self.clock_off:
            return None
        return format_datetime(datetime.now(timezone.utc) + self.clock_off, usegmt=True)


def new_secret(known: Credentials) -> str:
    """The secret that replaces a rotated one."""
    return known.client_secret.replace("cs1.", "cs2.")


def read_defects(texts: Iterable[str], known: Credentials) -> Portal:
    """The portal with defects, from texts such as `scope-missing:tn.jpm.jobs:r`.

    Args:
        texts: a kind of `fault_kinds.DEFECT_KINDS`, some with a value after a colon.
        known: the first tenant's, which the remedies name.

    Raises:
        ValueError: there is no such defect, or its value is none.
    """
    portal = Portal()
    for text in texts:
        kind, _, value = text.partition(":")
        if kind not in DEFECT_KINDS:
            raise ValueError(f"there is no defect {kind!r}: name one of {', '.join(DEFECT_KINDS)}")
        changes, remedy = _CHANGES[kind](portal, value, known)
        portal = dataclasses.replace(
            portal, **changes, remedies=(*portal.remedies, f"{kind}: {remedy}")
        )
    return portal


_Changes: TypeAlias = tuple[dict[str, object], str]


def _scope_missing(portal: Portal, value: str, known: Credentials) -> _Changes:
    scope = value or "tn.crm.customers:r"
    return {"without": portal.without | {scope}}, f"tick {scope}, that is, restart without this"


def _scope_surplus(portal: Portal, value: str, known: Credentials) -> _Changes:
    scope = value or "tn.crm.customers:w"
    return {"besides": portal.besides | {scope}}, f"untick {scope}, that is, restart without this"


def _scope_not_accepted(portal: Portal, value: str, known: Credentials) -> _Changes:
    scope = value or "tn.crm.customers:r"
    remedy = "accept the app's new version, that is, restart without this"
    return {"not_accepted": portal.not_accepted | {scope}}, remedy


def _app_not_connected(portal: Portal, value: str, known: Credentials) -> _Changes:
    return {"connected": False}, "connect the app, that is, restart without this"


def _no_grant(portal: Portal, value: str, known: Credentials) -> _Changes:
    return {"grants": False}, "connect the app again, that is, restart without this"


def _app_unknown(portal: Portal, value: str, known: Credentials) -> _Changes:
    return {"known": False}, "add the tenant to the app, that is, restart without this"


def _opaque_token(portal: Portal, value: str, known: Credentials) -> _Changes:
    return {"opaque": True}, "nothing is wrong; --deep finds out what the token allows"


def _wrong_tenant(portal: Portal, value: str, known: Credentials) -> _Changes:
    holds = {**portal.holds, "TENANT_ID": OTHER_TENANT}
    return {"holds": holds}, f"the portal shows TENANT_ID={known.tenant_id}"


def _wrong_app_key(portal: Portal, value: str, known: Credentials) -> _Changes:
    answer = value or _ANSWERS[0]
    if answer not in _ANSWERS:
        raise ValueError(f"--defect wrong-app-key:{value}: name one of {', '.join(_ANSWERS)}")
    holds = {**portal.holds, "APP_KEY": OTHER_APP_KEY}
    return {"holds": holds, "key_answer": int(answer)}, f"the portal shows APP_KEY={known.app_key}"


def _secret_rotated(portal: Portal, value: str, known: Credentials) -> _Changes:
    return {"rotated": True}, f"the new secret is CLIENT_SECRET={new_secret(known)}"


def _wrong_clock(portal: Portal, value: str, known: Credentials) -> _Changes:
    try:
        off = timedelta(seconds=float(value or 600))
    except (ValueError, OverflowError):
        raise ValueError(f"--defect wrong-clock:{value}: give seconds, such as -90") from None
    return {"clock_off": off}, "restart without this"


_CHANGES: Mapping[str, Callable[[Portal, str, Credentials], _Changes]] = {
    "scope-missing": _scope_missing,
    "scope-surplus": _scope_surplus,
    "scope-not-accepted": _scope_not_accepted,
    "app-not-connected": _app_not_connected,
    "app-unknown": _app_unknown,
    "no-grant": _no_grant,
    "opaque-token": _opaque_token,
    "wrong-tenant": _wrong_tenant,
    "wrong-app-key": _wrong_app_key,
    "secret-rotated": _secret_rotated,
    "wrong-clock": _wrong_clock,
}
