"""Values as people paste them: with white space and quotes around, under names in any case."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any

CLIENT_SECRETS = ("client_secret", "client_secret_next")
SECRET_FIELDS = (*CLIENT_SECRETS, "app_key", "vault_token", "vault_secret_id")
# What a credential of ServiceTitan looks like, should it stand in another setting's place.
CREDENTIAL = re.compile(r"\b(?:cs|ak)\d+\.[^\s'\"]*")
_SERVICEPYTAN = "SERVICETITAN_"
_QUOTES = "\"'"
# `str.strip` leaves the byte order mark and the zero-width space in place.
_INVISIBLE = "\ufeff\u200b\u2060"


def cleaned(text: str) -> tuple[str, str]:
    """The value without white space and quotes around it.

    Args:
        text: as it was found.

    Returns:
        The value, and what was taken off in words; the latter is empty where nothing was.
    """
    spaces = quotes = False
    while True:
        bare = text.strip().strip(_INVISIBLE).strip()
        spaces = spaces or bare != text
        if len(bare) < 2 or bare[0] != bare[-1] or bare[0] not in _QUOTES:
            break
        quotes, text = True, bare[1:-1]
        if not text:
            bare = text
            break
    names = [name for name, was in (("white space", spaces), ("quotes", quotes)) if was]
    return bare, " and ".join(names)


def fields_of(
    mapping: Mapping[str, Any], fields: Iterable[str], prefix: str, *, also: str = ""
) -> dict[str, Any]:
    """What a mapping says of the fields, by field.

    Args:
        mapping: names as in the environment (`SERVICETITAN_CLIENT_ID`), or without the prefix
            (`client_id`); in any case, with `-` or `_`.
        fields: names of the fields.
        prefix: of the environment, such as `SERVICETITAN_INTEGRATION_`. Names with the prefix of
            another environment are not taken.
        also: a further prefix, for files that hold one environment under another's names.
    """
    by_name = {_as_variable(name): value for name, value in mapping.items()}
    found: dict[str, Any] = {}
    for field in fields:
        for name in (prefix + field, field, also + field):
            if _as_variable(name) in by_name:
                found[field] = by_name[_as_variable(name)]
                break
    return found


def near_misses(names: Iterable[str], fields: Iterable[str], prefix: str) -> list[str]:
    """Names that are no setting but look like a misspelt one, as hints."""
    known = {(prefix + field).upper() for field in fields}
    hints = []
    for name in names:
        full = _as_variable(name)
        full = full if full.startswith(_SERVICEPYTAN) else prefix + full
        if full not in known:
            near = difflib.get_close_matches(full, known, n=1, cutoff=0.85)
            hints += [f"{name} is no setting: did you mean {near[0]}?"] if near else []
    return hints


def _as_variable(name: str) -> str:
    return name.upper().replace("-", "_").replace(".", "_")
