"""Keeps secrets out of whatever a person may read: URLs and the bodies of answers."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable
from urllib.parse import parse_qsl, urlsplit

from pydantic import SecretStr

HIDDEN = "***"
TEXT_LIMIT = 500

_SHOWN = re.compile(r"page|pageSize|sort|includeTotal|includeRecentChanges|active\w*", re.ASCII)
_DATE_NAME = re.compile(r"from|to|\w*(?:After|Before|On|Utc|From|To)", re.ASCII)
_DATE = re.compile(r"\d{4}-\d\d-\d\d(?:T[\d:.]+Z?)?", re.ASCII)
_JWT = re.compile(r"eyJ[\w-]{5,}\.[\w-]*(?:\.[\w-]*)?", re.ASCII)
_BEARER = re.compile(r"(?i)\bbearer\s+[^\s\"',;<>]+")
# A shorter "secret" would blank out ordinary words; ServiceTitan's have 40 characters and more.
_SHORTEST_SECRET = 4


def redact_url(url: str) -> str:
    """The URL as it may be logged.

    Args:
        url: absolute or a path; credentials before the host are dropped.

    Returns:
        The URL with the values of paging, sorting, `active*` and dates. Every other value is
        `***`, and so is a `from` that is a continuation token.
    """
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    shown = f"{parts.scheme}://{host}{parts.path}" if host else parts.path
    if not parts.query:
        return shown
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    return shown + "?" + "&".join(f"{name}={_shown_value(name, value)}" for name, value in pairs)


def scrub(text: str, secrets: Iterable[SecretStr | str]) -> str:
    """The text without the secrets, in any of the spellings in which they travel.

    Args:
        text: e.g. the body of an error answer, which may echo what was sent.
        secrets: known ones; anything that looks like a JWT or a bearer token goes as well.

    Returns:
        The text with `***` in their places. Cut it after this, never before: half a secret
        is no longer recognised.
    """
    for spelling in _spellings(secrets):
        text = spelling.sub(HIDDEN, text)
    return _BEARER.sub(HIDDEN, _JWT.sub(HIDDEN, text))


def shorten(text: str, limit: int = TEXT_LIMIT) -> str:
    """The text on one line, cut after `limit` characters."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[:limit] + " ..."


def _shown_value(name: str, value: str) -> str:
    if _SHOWN.fullmatch(name):
        return value
    return value if _DATE_NAME.fullmatch(name) and _DATE.fullmatch(value) else HIDDEN


def _spellings(secrets: Iterable[SecretStr | str]) -> list[re.Pattern[str]]:
    """A pattern a secret, the longest first; a secret with white space around it also without."""
    found: set[str] = set()
    for secret in secrets:
        plain = secret.get_secret_value() if isinstance(secret, SecretStr) else secret
        found |= {plain, plain.strip()}
    long_enough = (form for form in found if len(form) >= _SHORTEST_SECRET)
    return [_spelled(form) for form in sorted(long_enough, key=len, reverse=True)]


@functools.lru_cache(maxsize=64)
def _spelled(secret: str) -> re.Pattern[str]:
    """Each character as it is, in a URL, a form or JSON, also where it was encoded twice."""
    return re.compile("".join(map(_character, secret)))


def _character(one: str) -> str:
    percent = "".join(f"%(?:25)*(?i:{byte:02x})" for byte in one.encode())
    units = one.encode("utf-16-be").hex()
    escaped = "".join(rf"\\+u(?i:{units[at : at + 4]})" for at in range(0, len(units), 4))
    ways = [re.escape(one), percent, escaped]
    if not one.isalnum():
        short = json.dumps(one)[1:-1].lstrip("\\") or "\\"
        ways.append(rf"\\+{re.escape(short)}")
    if one == " ":
        ways.append(r"\+")
    return f"(?:{'|'.join(ways)})"
