"""Serves export feeds: records in order of modification, in batches, with continuation tokens."""

from __future__ import annotations

import base64
import binascii
import hashlib
from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from datetime import date
from typing import Any

from st_pipelines.catalog.specification import ReadOperation
from st_pipelines.sandbox import ticks
from st_pipelines.sandbox.filters import select_active
from st_pipelines.sandbox.parameters import BadRequest
from st_pipelines.sandbox.projection import find_projection
from st_pipelines.sandbox.table import Table
from st_pipelines.windows import midnight

EXPORT_DELAY = 15 * ticks.MINUTE
"""Changes appear in the export after this delay, unless the client asks for recent ones."""

Bookmark = tuple[int, int]
"""How far a feed was read: the last record's time of modification (ticks) and change number."""


def build_body(
    table: Table,
    operation: ReadOperation,
    values: Mapping[str, Any],
    now: int,
    batch: int,
    zone: str = "UTC",
) -> bytes:
    """Build the body of one export response.

    Args:
        table: the table to export.
        operation: the export.
        values: `from`, `includeRecentChanges`, and `active` for two exports.
        now: the simulated time, in ticks.
        batch: maximum number of records; ServiceTitan does not document its own.
        zone: IANA name of the time zone in which a date as `from` begins.

    Raises:
        BadRequest: `from` is neither a token of this export nor a date.
    """
    recent = values.get("includeRecentChanges") is True
    horizon = now if recent else now - EXPORT_DELAY
    bookmarks, positions = table.get_cached("feed", lambda: _sort_by_modification(table))
    text = values.get("from", "")
    start = _find_start(table.collection.name, text, bookmarks, zone)
    end = bisect_right(bookmarks, (horizon, _LAST_STAMP))
    chosen = positions[start : min(end, start + batch)]
    if chosen:
        reached = bookmarks[start + len(chosen) - 1]
    else:
        reached = _keep_bookmark(table.collection.name, text, bookmarks, start)
    active = select_active(operation, values)
    project = find_projection(operation.path)
    rows = b",".join(
        project(table.raws[at], active=table.active[at], draw=at)
        for at in chosen
        if active is None or table.active[at] is active
    )
    has_more = b"true" if start + len(chosen) < end else b"false"
    token = _encode_token(table.collection.name, reached).encode()
    return b'{"hasMore":%b,"continueFrom":"%b","data":[%b]}' % (has_more, token, rows)


_LAST_STAMP = 1 << 62


def _sort_by_modification(table: Table) -> tuple[list[Bookmark], list[int]]:
    rows = sorted((table.modified[at], table.stamps[at], at) for at in table.find_alive())
    return [row[:2] for row in rows], [row[2] for row in rows]


def _find_start(name: str, text: str, bookmarks: list[Bookmark], zone: str) -> int:
    if not text:
        return 0
    bookmark = _decode_token(name, text)
    if bookmark is not None:
        return bisect_right(bookmarks, bookmark)
    try:
        return bisect_left(bookmarks, (_parse_start(text, zone), 0))
    except ValueError:
        raise BadRequest("from", "The continuation token is not valid.") from None


def _parse_start(text: str, zone: str) -> int:
    try:
        return ticks.from_datetime(midnight(date.fromisoformat(text), zone))
    except ValueError:
        return ticks.parse(text)


def _keep_bookmark(name: str, text: str, bookmarks: list[Bookmark], start: int) -> Bookmark:
    """Return the bookmark of a response without records. It lies just before the next record."""
    bookmark = _decode_token(name, text)
    if bookmark is not None:
        return bookmark
    return bookmarks[start - 1] if start else (0, 0)


def _sign(name: str, body: str) -> str:
    return hashlib.sha256(f"{name}|{body}".encode()).hexdigest()[:12]


def _encode_token(name: str, bookmark: Bookmark) -> str:
    body = f"{bookmark[0]}.{bookmark[1]}"
    text = f"{body}.{_sign(name, body)}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _decode_token(name: str, text: str) -> Bookmark | None:
    """Decode a token of this collection; None for any other text."""
    try:
        decoded = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
        moment, stamp, signature = decoded.split(".")
    except (binascii.Error, ValueError):
        return None
    if signature != _sign(name, f"{moment}.{stamp}"):
        return None
    return int(moment), int(stamp)
