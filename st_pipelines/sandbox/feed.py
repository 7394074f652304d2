"""The export feeds: by time of modification, in batches, with tokens of their own."""

from __future__ import annotations

import base64
import binascii
import hashlib
from bisect import bisect_left, bisect_right
from collections.abc import Mapping

from st_pipelines.catalog.model import Endpoint
from st_pipelines.sandbox import records, ticks
from st_pipelines.sandbox.selection import ACTIVE_VALUES, BadRequest
from st_pipelines.sandbox.table import Table

HELD_BACK = 15 * ticks.MINUTE
"""How long a change stays out of the export unless recent ones are asked for (facts 4.7)."""

BOTH_BY_DEFAULT = frozenset({"jpm.appointments"})
"""Exports that take `active` and show everything without it (facts 4.1)."""

Place = tuple[int, int]
"""Where a feed was left: the last record's time of modification (ticks) and number of change."""


def answer(table: Table, query: Mapping[str, str], now: int, batch: int) -> bytes:
    """One answer of the export.

    Args:
        table: whose export.
        query: `from`, `includeRecentChanges` and for two exports `active`.
        now: ticks.
        batch: how many records at most; ServiceTitan tells nobody its own number.

    Raises:
        BadRequest: `from` is neither a token of this export nor a date.
    """
    recent = query.get("includeRecentChanges", "").lower() == "true"
    horizon = now if recent else now - HELD_BACK
    places, positions = table.cached("feed", lambda: _ordered(table))
    start = _start(table.endpoint, query, places)
    end = bisect_right(places, (horizon, _EVER))
    chosen = positions[start : min(end, start + batch)]
    left = places[start + len(chosen) - 1] if chosen else _left_at(table, query, places, start)
    rows = b",".join(
        records.for_export(table.raws[at], table.endpoint, table.active[at])
        for at in chosen
        if _wanted(table.endpoint, query, table.active[at])
    )
    has_more = b"true" if start + len(chosen) < end else b"false"
    token = _token(table.endpoint, left).encode()
    return b'{"hasMore":%b,"continueFrom":"%b","data":[%b]}' % (has_more, token, rows)


_EVER = 1 << 62


def _ordered(table: Table) -> tuple[list[Place], list[int]]:
    rows = sorted((table.modified[at], table.stamps[at], at) for at in table.alive())
    return [row[:2] for row in rows], [row[2] for row in rows]


def _start(endpoint: Endpoint, query: Mapping[str, str], places: list[Place]) -> int:
    text = query.get("from", "")
    if not text:
        return 0
    place = _place(endpoint, text)
    if place is not None:
        return bisect_right(places, place)
    try:
        return bisect_left(places, (ticks.parse(text), 0))
    except ValueError:
        raise BadRequest("from", "The continuation token is not valid.") from None


def _left_at(table: Table, query: Mapping[str, str], places: list[Place], start: int) -> Place:
    """Where an answer without records leaves the reader: just before what comes next."""
    place = _place(table.endpoint, query.get("from", ""))
    if place is not None:
        return place
    return places[start - 1] if start else (0, 0)


def _wanted(endpoint: Endpoint, query: Mapping[str, str], active: bool) -> bool:
    if endpoint.export is None or "active" not in endpoint.export.params:
        return True
    default = "any" if endpoint.table in BOTH_BY_DEFAULT else "true"
    asked = ACTIVE_VALUES["active"].get(query.get("active", default).lower())
    return asked is None or asked is active


def _signature(endpoint: Endpoint, body: str) -> str:
    return hashlib.sha256(f"{endpoint.table}|{body}".encode()).hexdigest()[:12]


def _token(endpoint: Endpoint, place: Place) -> str:
    body = f"{place[0]}.{place[1]}"
    text = f"{body}.{_signature(endpoint, body)}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _place(endpoint: Endpoint, text: str) -> Place | None:
    """The place that a token of this endpoint means; None for any other text."""
    try:
        decoded = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
        moment, stamp, signature = decoded.split(".")
    except (binascii.Error, ValueError):
        return None
    if signature != _signature(endpoint, f"{moment}.{stamp}"):
        return None
    return int(moment), int(stamp)
