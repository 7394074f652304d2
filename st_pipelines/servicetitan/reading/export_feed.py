"""Reads export feeds: pages that are linked by continuation tokens instead of numbered.

A feed does not move under its reader, as a token is a position in the order of changes. A record
that changes meanwhile comes again later, which is why rows are merged by key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from datetime import datetime, timedelta, timezone
from functools import partial

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
from st_pipelines.servicetitan.http.client import Session
from st_pipelines.servicetitan.http.model import ReadStats
from st_pipelines.servicetitan.reading.envelope import ParsedPage, page_parser
from st_pipelines.servicetitan.reading.page_source import Page

MAX_EMPTY_PAGES = 100  # in a row: a feed may scan stretches without a match, but not for ever
_REPEATED_TOKEN_RETRIES = 4

LAST_MIDNIGHT = timedelta(hours=12)
"""How long after it begins in UTC a day begins at UTC-12, where it begins last."""

MAY_BE_STALE = (
    AuthenticationFailed,
    BadRequest,
    PermissionDenied,
    ServiceUnavailable,
    TokenRepeated,
    UnexpectedResponse,
    WrongPath,
)
"""Errors after which a reading that began with a stored token is worth restarting from a date.

ServiceTitan documents neither how long a token is valid nor how it answers an expired one. By its
specification `continueFrom` is never null, so a token that is answered by no rows and a null
`continueFrom` counts as expired too.
"""


def read_feed(
    session: Session[ReadStats], endpoint: Endpoint, start: datetime | str | None
) -> Generator[Page, None, None]:
    """Read an export feed to its end.

    `session.usage.continue_from` becomes the last token, also the one that comes with the last
    page. Store it once the rows are safe: the next reading can start there.

    Args:
        endpoint: of kind `feed`, or with an `export`.
        start: an aware time, sent as a date that has begun by then in every time zone; a stored
            continuation token; or None for everything. The vendor documents a date, matched on the
            time of the change, but not its time zone. So up to a day and a half more is served, or
            two days and two hours by a server in UTC+14.

    Yields:
        Pages, all of reading 1.

    Raises:
        TokenRepeated: the feed repeats a token while it says that more follows, or never ends.
        UnexpectedResponse: the feed says that more follows, but gives no token; or it answers a
            token with neither rows nor a token.
        ServiceTitanError: after the retries.
    """
    stats = session.usage
    stats.readings, stats.page_size = 1, 0
    bookmark = _date_before(start) if isinstance(start, datetime) else start
    seen = {_digest(bookmark)} if isinstance(start, str) else set()
    empty = 0
    while True:
        page = _fetch_next(session, endpoint, bookmark, seen)
        if _digest(bookmark) in seen and _is_lost(page):
            origin = "a stored" if bookmark == start else "its own"
            raise UnexpectedResponse(
                f"{endpoint.table}: the feed answers {origin} continuation token with neither "
                "records nor a new token",
                hint="The token is not valid. Read the feed from a date instead.",
            )
        stats.records += page.count
        stats.continue_from = page.continue_from or stats.continue_from
        yield Page(reading=1, rows=page.rows)
        if not page.has_more or _is_at_end(page, bookmark):
            return
        empty = 0 if page.count else empty + 1
        bookmark = _next_bookmark(endpoint, page, seen, empty)


def _date_before(start: datetime) -> str:
    """The last date whose midnight is not after `start`, whatever time zone the server takes."""
    return str((start.astimezone(timezone.utc) - LAST_MIDNIGHT).date())


def _fetch_next(
    session: Session[ReadStats], endpoint: Endpoint, bookmark: str | None, seen: set[bytes]
) -> ParsedPage:
    """Fetch the page at a bookmark; one that leads back or nowhere is requested again."""
    export = endpoint.export
    params = dict(export.params if export else endpoint.params)
    # Without it a change is served only 15 minutes later; with it some come twice (vendor).
    params["includeRecentChanges"] = "true"
    if bookmark is not None:
        params["from"] = bookmark
    parse = page_parser(endpoint)

    def parse_export(body: bytes) -> ParsedPage:
        page = parse(body)
        if page.has_more is None:
            raise ValueError("it does not say whether more pages follow")
        return page

    path = export.path if export else endpoint.path
    fetch = partial(session.fetch, path, params, parse_export, scope=endpoint.scope)
    page = fetch()
    for _ in range(_REPEATED_TOKEN_RETRIES):
        leads_back = page.has_more and page.continue_from and _digest(page.continue_from) in seen
        if not (leads_back or (_digest(bookmark) in seen and _is_lost(page))):
            break
        page = fetch()
    return page


def _is_lost(page: ParsedPage) -> bool:
    """Whether a page has nothing and leads nowhere, unlike the end of a feed, which has a token."""
    return not page.count and not page.continue_from and not page.has_more


def _is_at_end(page: ParsedPage, bookmark: str | None) -> bool:
    """Whether an empty page leads to itself, also after retries: then there is nothing more yet.

    Later changes are read from the same token.
    """
    return bookmark is not None and not page.count and page.continue_from == bookmark


def _next_bookmark(endpoint: Endpoint, page: ParsedPage, seen: set[bytes], empty: int) -> str:
    token = page.continue_from
    if not token:
        raise UnexpectedResponse(
            f"{endpoint.table}: the feed says that more pages follow, but has no continueFrom"
        )
    if _digest(token) in seen:
        raise TokenRepeated(
            f"{endpoint.table}: the feed repeats a continuation token after {len(seen)} pages",
            hint="The records after it cannot be reached. Read the feed from a date instead.",
        )
    if empty >= MAX_EMPTY_PAGES:
        raise TokenRepeated(
            f"{endpoint.table}: the feed served {empty} empty pages in a row, and more follow"
        )
    seen.add(_digest(token))
    return token


def _digest(token: str | None) -> bytes:
    # Tokens can be long and many, and what is not kept cannot leak.
    return hashlib.blake2b((token or "").encode(), digest_size=16).digest()
