"""Keeps secrets out of everything a person may read: URLs, and the bodies of responses."""

from __future__ import annotations

import functools
import itertools
import json
import re
from collections.abc import Iterable, Iterator
from operator import itemgetter
from urllib.parse import parse_qsl, urlsplit

from pydantic import SecretStr

HIDDEN = "***"
TEXT_LIMIT = 500

_PAGING = ("page", "pageSize")
_DATE_NAME = re.compile(r"from|to|\w{0,60}(?:After|Before|On|Utc|From|To)", re.ASCII)
_DATE = re.compile(r"\d{4}-\d\d-\d\d(?:T[\d:.]{1,20}Z?)?", re.ASCII)
_NUMBER = re.compile(r"\d{1,9}", re.ASCII)
_SORT = re.compile(r"[+-]?[A-Za-z]{1,40}", re.ASCII)
_CHOICE_NAME = re.compile(r"active(?:Only|State)?|status|include\w{1,60}|\w{1,60}Type", re.ASCII)
_CHOICE = re.compile(r"[A-Z][A-Za-z]{0,30}", re.ASCII)
_FLAGS = ("true", "false", "True", "False", "Any")
_ID_LIST = re.compile(r"ids|\w{1,40}Ids", re.ASCII)
# The token of a report's run, which reads its rows.
_QUERY_TOKEN = re.compile(r"(?<=/data-queries/)[^/?]+")
# A run of what a JWT is made of; where in it the JWT begins, `_hide_jwt` finds.
_JWT_RUN = re.compile(r"[\w.-]+", re.ASCII)
_BEARER = re.compile(r"(?i)\bbearer\s{1,100}[^\s\"',;<>]+")
_JWT_START, _MIN_JWT_HEADER = "eyJ", 8
# Hiding a shorter "secret" would blank out ordinary words; ServiceTitan's have 40 and more.
_MIN_SECRET_LENGTH = 4


def redact_url(url: str) -> str:
    """Return the URL as it may be logged.

    It keeps the values of paging, sorting, flags, choices such as `billType=ApBill` and dates, and
    the number of ids. Every other value becomes `***`, and so does a `from` that is a continuation
    token.

    Args:
        url: absolute or a path; credentials before the host are dropped. One that cannot be parsed
            is hidden as a whole.
    """
    try:
        parts = urlsplit(url)
    except ValueError:  # such as http://[::1
        return HIDDEN
    host = parts.netloc.rpartition("@")[2]
    scheme = f"{parts.scheme}:" if parts.scheme else ""
    path = _QUERY_TOKEN.sub(HIDDEN, parts.path)
    shown = f"{scheme}//{host}{path}" if host else path
    if not parts.query:
        return shown
    pairs = _join_ids(parse_qsl(parts.query, keep_blank_values=True))
    return shown + "?" + "&".join(f"{name}={_redact_value(name, value)}" for name, value in pairs)


def scrub(text: str, secrets: Iterable[SecretStr | str]) -> str:
    """Replace secrets by `***`, in every encoding in which they travel.

    Shorten the text after this, never before: half a secret is no longer recognized.

    Args:
        text: e.g. the body of an error response, which may echo what was sent.
        secrets: known ones; anything that looks like a JWT or a bearer token is hidden as well.
    """
    for pattern in _build_patterns(secrets):
        text = pattern.sub(HIDDEN, text)
    return _BEARER.sub(HIDDEN, _JWT_RUN.sub(_hide_jwt, text))


def shorten(text: str, limit: int = TEXT_LIMIT) -> str:
    """Return the text on one line, cut after `limit` characters."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[:limit] + " ..."


def _join_ids(pairs: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Join a list of ids that was sent as one parameter for each."""
    for name, group in itertools.groupby(pairs, key=itemgetter(0)):
        values = [value for _, value in group]
        if _ID_LIST.fullmatch(name):
            values = [",".join(values)]
        yield from ((name, value) for value in values)


def _redact_value(name: str, value: str) -> str:
    if _ID_LIST.fullmatch(name):
        count = value.count(",") + 1 if value else 0
        return f"<{count} {'id' if count == 1 else 'ids'}>"
    harmless = (
        value in _FLAGS
        or (name in _PAGING and _NUMBER.fullmatch(value))
        or (name == "sort" and _SORT.fullmatch(value))
        or (_CHOICE_NAME.fullmatch(name) and _CHOICE.fullmatch(value))
        or (_DATE_NAME.fullmatch(name) and _DATE.fullmatch(value))
    )
    return value if harmless else HIDDEN


def _hide_jwt(run: re.Match[str]) -> str:
    """Hide a JWT (a header and, after a dot, more), from its beginning to the end of the run."""
    text = run[0]
    begin = text.find(_JWT_START)
    if begin < 0 or text.find(".", begin + _MIN_JWT_HEADER) < 0:
        return text
    return text[:begin] + HIDDEN


def _build_patterns(secrets: Iterable[SecretStr | str]) -> list[re.Pattern[str]]:
    """Build a pattern for each secret, longest first, also without white space around it."""
    found: set[str] = set()
    for secret in secrets:
        plain = secret.get_secret_value() if isinstance(secret, SecretStr) else secret
        found |= {plain, plain.strip()}
    long_enough = (form for form in found if len(form) >= _MIN_SECRET_LENGTH)
    return [_build_pattern(form) for form in sorted(long_enough, key=len, reverse=True)]


@functools.lru_cache(maxsize=64)
def _build_pattern(secret: str) -> re.Pattern[str]:
    """Match each character plain, or encoded for a URL, a form or JSON, also when encoded twice."""
    return re.compile("".join(map(_match_character, secret)))


def _match_character(one: str) -> str:
    percent = "".join(f"%(?:25){{0,3}}(?i:{byte:02x})" for byte in one.encode())
    units = one.encode("utf-16-be").hex()
    escaped = "".join(rf"\\{{1,16}}u(?i:{units[at : at + 4]})" for at in range(0, len(units), 4))
    ways = [re.escape(one), percent, escaped]
    if not one.isalnum():
        short = json.dumps(one)[1:-1].lstrip("\\") or "\\"
        ways.append(rf"\\{{1,16}}{re.escape(short)}")
    if one == " ":
        ways.append(r"\+")
    return f"(?:{'|'.join(ways)})"
