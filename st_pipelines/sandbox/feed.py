"""Serves export feeds: records in order of modification, in batches, with continuation tokens."""

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

EXPORT_DELAY = 15 * ticks.MINUTE
"""Changes appear in the export after this delay, unless the client asks for recent ones."""

SHOW_INACTIVE_BY_DEFAULT = frozenset({"jpm.appointments"})
"""Exports that take `active` but serve all records without it."""

Bookmark = tuple[int, int]
"""How far a feed was read: the last record's time of modification (ticks) and change number."""


def build_body(table: Table, query: Mapping[str, str], now: int, batch: int) -> bytes:
    """Build the body of one export response.

    Args:
        table: the table to export.
        query: `from`, `includeRecentChanges`, and `active` for two exports.
        now: the simulated time, in ticks.
        batch: maximum number of records; ServiceTitan does not document its own.

    Raises:
        BadRequest: `from` is neither a token of this export nor a date.
    """
    recent = query.get("includeRecentChanges", "").lower() == "true"
    horizon = now if recent else now - EXPORT_DELAY
    bookmarks, positions = table.get_cached("feed", lambda: _sort_by_modification(table))
    start = _find_start(table.endpoint, query, bookmarks)
    end = bisect_right(bookmarks, (horizon, _LAST_STAMP))
    chosen = positions[start : min(end, start + batch)]
    if chosen:
        reached = bookmarks[start + len(chosen) - 1]
    else:
        reached = _keep_bookmark(table, query, bookmarks, start)
    rows = b",".join(
        records.render_for_export(table.raws[at], table.endpoint, table.active[at])
        for at in chosen
        if _is_wanted(table.endpoint, query, table.active[at])
    )
    has_more = b"true" if start + len(chosen) < end else b"false"
    token = _encode_token(table.endpoint, reached).encode()
    return b'{"hasMore":%b,"continueFrom":"%b","data":[%b]}' % (has_more, token, rows)


_LAST_STAMP = 1 << 62


def _sort_by_modification(table: Table) -> tuple[list[Bookmark], list[int]]:
    rows = sorted((table.modified[at], table.stamps[at], at) for at in table.find_alive())
    return [row[:2] for row in rows], [row[2] for row in rows]


def _find_start(endpoint: Endpoint, query: Mapping[str, str], bookmarks: list[Bookmark]) -> int:
    text = query.get("from", "")
    if not text:
        return 0
    bookmark = _decode_token(endpoint, text)
    if bookmark is not None:
        return bisect_right(bookmarks, bookmark)
    try:
        return bisect_left(bookmarks, (ticks.parse(text), 0))
    except ValueError:
        raise BadRequest("from", "The continuation token is not valid.") from None


def _keep_bookmark(
    table: Table, query: Mapping[str, str], bookmarks: list[Bookmark], start: int
) -> Bookmark:
    """Return the bookmark of a response without records. It lies just before the next record."""
    bookmark = _decode_token(table.endpoint, query.get("from", ""))
    if bookmark is not None:
        return bookmark
    return bookmarks[start - 1] if start else (0, 0)


def _is_wanted(endpoint: Endpoint, query: Mapping[str, str], active: bool) -> bool:
    if endpoint.export is None or "active" not in endpoint.export.params:
        return True
    default = "any" if endpoint.table in SHOW_INACTIVE_BY_DEFAULT else "true"
    wanted = ACTIVE_VALUES["active"].get(query.get("active", default).lower())
    return wanted is None or wanted is active


def _sign(endpoint: Endpoint, body: str) -> str:
    return hashlib.sha256(f"{endpoint.table}|{body}".encode()).hexdigest()[:12]


def _encode_token(endpoint: Endpoint, bookmark: Bookmark) -> str:
    body = f"{bookmark[0]}.{bookmark[1]}"
    text = f"{body}.{_sign(endpoint, body)}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _decode_token(endpoint: Endpoint, text: str) -> Bookmark | None:
    """Decode a token of this endpoint; None for any other text."""
    try:
        decoded = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
        moment, stamp, signature = decoded.split(".")
    except (binascii.Error, ValueError):
        return None
    if signature != _sign(endpoint, f"{moment}.{stamp}"):
        return None
    return int(moment), int(stamp)
