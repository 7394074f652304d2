"""Whether credentials can be what they are set as, before they are sent anywhere.

The prefixes were seen by several public clients and are promised by nobody: a value without one is
doubted, a value with another's is refused. No value is ever repeated.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

NAMES: Mapping[str, str] = {
    "client_id": "client id",
    "client_secret": "client secret",
    "app_key": "app key",
    "tenant_id": "tenant id",
}
_PREFIXES: Mapping[str, tuple[str, re.Pattern[str]]] = {
    "client_id": ("cid.", re.compile(r"cid\.")),
    "client_secret": ("cs and a number", re.compile(r"cs\d+\.")),
    "app_key": ("ak1.", re.compile(r"ak\d+\.")),
}
_PLACEHOLDER = re.compile(
    r"<.*>|\$?\{.*\}|\[.*\]|x{3,}|\*+|\.{3,}|-+|((cid|cs\d|ak\d)\.)?(your|my|the|enter|insert|paste)"
    r"[-_ ].*|.*\b(change[-_ ]?me|placeholder|to[-_ ]?do|example|dummy)\b.*|(cid|cs\d|ak\d)\."
    r"(x+|\.+|\*+)?|123456789?0?|none|null|secret|password",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True)
class Doubt:
    """Something about a value that cannot or need not be right.

    Attributes:
        field: of the settings.
        code: which kind of doubt.
        text: what is wrong, to be read after the name of the setting.
        hint: what to do.
        sure: it cannot be right; otherwise it only looks odd.
    """

    field: str
    code: str
    text: str
    hint: str
    sure: bool = True


def doubts(values: Mapping[str, str]) -> Iterator[Doubt]:
    """What is implausible about credentials.

    Args:
        values: by field: `client_id`, `client_secret`, `app_key`, `tenant_id`; empty ones and
            missing ones are not looked at.

    Yields:
        At most one doubt a field.
    """
    for field, name in NAMES.items():
        value = values.get(field) or ""
        if value and (doubt := _doubt(field, name, value)):
            yield doubt


def _doubt(field: str, name: str, value: str) -> Doubt | None:
    copy = f"Copy the {name} anew from where it is shown."
    if value[0] in "'\"" or value[-1] in "'\"":
        return Doubt(
            field=field, code="quotes", text="begins or ends with a quote",
            hint="Leave the quotes away: env files of Docker and systemd pass them on.",
        )  # fmt: skip
    if _PLACEHOLDER.fullmatch(value):
        return Doubt(
            field=field, code="placeholder", text="still holds a placeholder",
            hint=f"Put the {name} in its place.",
        )  # fmt: skip
    if re.search(r"\s", value):
        return Doubt(
            field=field, code="white-space", text="has white space in it",
            hint=f"{copy} A line break may have come along.",
        )  # fmt: skip
    return _tenant_doubt(value) if field == "tenant_id" else _prefix_doubt(field, name, value)


def _prefix_doubt(field: str, name: str, value: str) -> Doubt | None:
    prefix, pattern = _PREFIXES[field]
    if pattern.match(value):
        return None
    for other, (_, its_pattern) in _PREFIXES.items():
        if its_pattern.match(value):
            return Doubt(
                field=field, code="swapped", text=f"holds what looks like the {NAMES[other]}",
                hint=f"Put the {name} there: it begins with {prefix}",
            )  # fmt: skip
    return Doubt(
        field=field, code="odd-format", sure=False,
        text=f"does not begin with {prefix}, as such a {name.split()[-1]} does",
        hint="If the token or the first call is refused, look at it first.",
    )  # fmt: skip


def _tenant_doubt(value: str) -> Doubt | None:
    if value.isdecimal():
        return None
    return Doubt(
        field="tenant_id", code="no-number", text="is no number",
        hint="The tenant id is the number that ServiceTitan shows under Settings > Integrations > "
        "API Application Access.",
    )  # fmt: skip
