"""Export feeds: pages that are chained by continuation tokens instead of numbered.

A feed does not move under its reader: the token is a place in the order of changes. What is
changed meanwhile comes again, later on, which is why rows are merged by key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from datetime import datetime, timezone

from st_pipelines.catalog.model import Endpoint
from st_pipelines.servicetitan.errors.errors import (
    AuthenticationFailed,
    BadRequest,
    PermissionDenied,
    ServiceUnavailable,
    TokenRepeated,
    UnexpectedResponse,
    WrongPath,
)
from st_pipelines.servicetitan.http.cancellation import Cancellation
from st_pipelines.servicetitan.http.client import Client
from st_pipelines.servicetitan.reading.envelope import ParsedPage, opener
from st_pipelines.servicetitan.reading.page_source import Page
from st_pipelines.servicetitan.reading.stats import ReadStats

# Feeds may scan stretches without a match, but not for ever.
_MOST_EMPTY_PAGES = 100
_MORE_LOOKS = 4

MAY_BE_STALE = (
    AuthenticationFailed,
    BadRequest,
    PermissionDenied,
    ServiceUnavailable,
    TokenRepeated,
    UnexpectedResponse,
    WrongPath,
)
"""How long a token is good for, and how a stale one is answered, is not documented. After any of
these a reading that began with a stored token is worth beginning anew from a date."""


def read_feed(
    client: Client,
    endpoint: Endpoint,
    start: datetime | str | None,
    *,
    stats: ReadStats,
    cancelled: Cancellation | None = None,
) -> Generator[Page, None, None]:
    """Read an export feed to its end.

    Args:
        client: asks.
        endpoint: an endpoint of kind `feed`, or one that has an `export`.
        start: an aware time, sent as the UTC date that it falls on (the vendor documents a date,
            matched on the time of the change, so up to a day more than asked for is served); a
            continuation token stored earlier; or None for everything.
        stats: `continue_from` becomes the last token, also the one that comes with the last
            page. Store it when the rows are safe: the next reading can start there.
        cancelled: ends waits and retries.

    Yields:
        Pages, all of reading 1.

    Raises:
        TokenRepeated: a token comes twice while more is said to follow, or the feed does not end.
        UnexpectedResponse: more is said to follow, but no token came.
        ServiceTitanError: after the retries that may help.
    """
    stats.readings, stats.page_size = 1, 0
    place = _place(start)
    seen = {_digest(place)} if isinstance(start, str) else set()
    empty = 0
    while True:
        served = _fetch_next(client, endpoint, place, stats, seen, cancelled)
        stats.records += served.count
        stats.continue_from = served.continue_from or stats.continue_from
        yield Page(reading=1, rows=served.rows)
        if not served.has_more or _stands_still(served, place):
            return
        empty = 0 if served.count else empty + 1
        place = _next_place(endpoint, served, seen, empty)


def _fetch_next(
    client: Client,
    endpoint: Endpoint,
    place: str | None,
    stats: ReadStats,
    seen: set[bytes],
    cancelled: Cancellation | None,
) -> ParsedPage:
    """The page at a place; one that leads back to a known place is asked for again."""
    served = _fetch(client, endpoint, place, stats, cancelled)
    for _ in range(_MORE_LOOKS):
        if not (served.has_more and served.continue_from and _digest(served.continue_from) in seen):
            break
        served = _fetch(client, endpoint, place, stats, cancelled)
    return served


def _fetch(
    client: Client,
    endpoint: Endpoint,
    place: str | None,
    stats: ReadStats,
    cancelled: Cancellation | None,
) -> ParsedPage:
    export = endpoint.export
    params = dict(export.params if export else endpoint.params)
    # Without it a change is served only 15 minutes later; with it some come twice (vendor).
    params["includeRecentChanges"] = "true"
    if place is not None:
        params["from"] = place
    open_body = opener(endpoint)

    def open_export(body: bytes) -> ParsedPage:
        served = open_body(body)
        if served.has_more is None:
            raise ValueError("it does not say whether more follow")
        return served

    path = export.path if export else endpoint.path
    return client.fetch(
        path, params, open_export, scope=endpoint.scope, usage=stats, cancelled=cancelled
    )


def _stands_still(served: ParsedPage, place: str | None) -> bool:
    """An empty page that leads to itself, also when asked again: all there is has been read.

    What comes later is read from the same token.
    """
    return place is not None and not served.count and served.continue_from == place


def _next_place(endpoint: Endpoint, served: ParsedPage, seen: set[bytes], empty: int) -> str:
    token = served.continue_from
    if not token:
        raise UnexpectedResponse(
            f"{endpoint.table}: the feed says that more follow, but gives no continueFrom"
        )
    if _digest(token) in seen:
        raise TokenRepeated(
            f"{endpoint.table}: the feed repeats a continuation token after {len(seen)} pages",
            hint="Rows after it cannot be reached. Read the feed from a date instead.",
        )
    if empty >= _MOST_EMPTY_PAGES:
        raise TokenRepeated(f"{endpoint.table}: {empty} empty pages in a row, and more to follow")
    seen.add(_digest(token))
    return token


def _place(start: datetime | str | None) -> str | None:
    if isinstance(start, datetime):
        return start.astimezone(timezone.utc).date().isoformat()
    return start


def _digest(token: str | None) -> bytes:
    # Tokens can be long and many; and what is not kept cannot be shown.
    return hashlib.blake2b((token or "").encode(), digest_size=16).digest()
