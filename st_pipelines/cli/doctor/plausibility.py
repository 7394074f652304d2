"""Judges whether credentials are plausible, before they are sent anywhere.

Several public clients have seen the prefixes, but ServiceTitan does not promise them: a value
without its prefix is doubted, and one with another's prefix is refused. Messages never repeat a
value.
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
    """A reason to doubt a value.

    Attributes:
        field: of the settings.
        code: the kind of doubt.
        text: what is wrong; it follows the name of the setting.
        hint: what to do.
        sure: the value is wrong; otherwise it only looks odd.
    """

    field: str
    code: str
    text: str
    hint: str
    sure: bool = True


def doubts(values: Mapping[str, str]) -> Iterator[Doubt]:
    """Yields at most one doubt per field.

    Args:
        values: by field: `client_id`, `client_secret`, `app_key`, `tenant_id`. Empty and missing
            values are ignored.
    """
    for field, name in NAMES.items():
        value = values.get(field) or ""
        if value and (doubt := _doubt(field, name, value)):
            yield doubt


def _doubt(field: str, name: str, value: str) -> Doubt | None:
    if value[0] in "'\"" or value[-1] in "'\"":
        return Doubt(
            field=field,
            code="quotes",
            text="begins or ends with a quote",
            hint="Remove the quotes: Docker's and systemd's env files pass them on.",
        )
    if _PLACEHOLDER.fullmatch(value):
        return Doubt(
            field=field,
            code="placeholder",
            text="still holds a placeholder",
            hint=f"Replace it with the {name}.",
        )
    if re.search(r"\s", value):
        return Doubt(
            field=field,
            code="white-space",
            text="contains white space",
            hint=f"Copy the {name} again from where it is shown, without a line break.",
        )
    return _tenant_doubt(value) if field == "tenant_id" else _prefix_doubt(field, name, value)


def _prefix_doubt(field: str, name: str, value: str) -> Doubt | None:
    prefix, pattern = _PREFIXES[field]
    if pattern.match(value):
        return None
    for other, (_, other_pattern) in _PREFIXES.items():
        if other_pattern.match(value):
            return Doubt(
                field=field,
                code="swapped",
                text=f"holds what looks like the {NAMES[other]}",
                hint=f"Replace it with the {name}, which begins with {prefix}",
            )
    return Doubt(
        field=field,
        code="odd-format",
        sure=False,
        text=f"does not begin with {prefix} as other {name}s do",
        hint="If the token or the first request is refused, check this value first.",
    )


def _tenant_doubt(value: str) -> Doubt | None:
    if value.isdecimal():
        return None
    return Doubt(
        field="tenant_id",
        code="no-number",
        text="is not a number",
        hint="The tenant id is the number that ServiceTitan shows under Settings > Integrations > "
        "API Application Access.",
    )
