"""Reads everything that an endpoint has, or has in a window, and vouches for it.

`read` is what the layers above use. It yields pages as they arrive and raises at the end if they
cannot be proven to be all (see `proof`), so load them only once it has ended without an error.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing

from st_pipelines.catalog.model import Endpoint
from st_pipelines.servicetitan.errors.errors import BadRequest, ServiceUnavailable, Unreachable
from st_pipelines.servicetitan.http.client import Client
from st_pipelines.servicetitan.reading.completeness import (
    CompletenessProof,
    PagingStrategy,
    ReadingSummary,
)
from st_pipelines.servicetitan.reading.envelope import ParsedPage
from st_pipelines.servicetitan.reading.export_feed import read_feed
from st_pipelines.servicetitan.reading.overlap import Coverage
from st_pipelines.servicetitan.reading.page_source import Page, PageSource
from st_pipelines.servicetitan.reading.paging import Pages, ascending, overlapping, until_repeated
from st_pipelines.servicetitan.reading.stats import ReadStats
from st_pipelines.windows import Window

__all__ = ["Page", "ReadStats", "Window", "count", "read"]


def read(
    client: Client,
    endpoint: Endpoint,
    window: Window | None,
    *,
    stats: ReadStats,
    concurrency: int = 8,
) -> Generator[Page, None, None]:
    """Read an endpoint.

    Args:
        client: asks.
        endpoint: what to read.
        window: the stretch of time; None reads everything. A feed takes only its start, to the
            day, and goes on to the present.
        stats: counts the requests, and tells how the reading went.
        concurrency: pages in flight or waiting to be taken.

    Yields:
        At least one page for every reading. A page with a higher `reading` makes all pages
        before it void. A record may come twice in a reading.

    Raises:
        ReadingMoved: completeness could not be proven.
        ServiceTitanError: after the retries that may help.
    """
    if endpoint.kind == "feed":
        yield from read_feed(client, endpoint, window.start if window else None, stats=stats)
        return
    source = PageSource(client, endpoint, window, stats)
    proof = CompletenessProof(endpoint)
    while not proof.given_up:
        stats.readings += 1
        stats.page_size = source.page_size if endpoint.paged else 0
        try:
            complete = yield from _read_once(source, proof, stats, concurrency)
        except (BadRequest, ServiceUnavailable, Unreachable) as error:
            source.make_smaller(error)
            continue
        if complete:
            return
    moved = proof.moved()
    if source.refusal is not None:
        moved.hint += f" A later page was taken for the end of the list: {source.refusal}"
    raise moved


def count(client: Client, endpoint: Endpoint, window: Window | None) -> int | None:
    """How many records ServiceTitan says there are, for one request.

    Args:
        client: asks.
        endpoint: what to count.
        window: the stretch of time; None counts everything.

    Returns:
        The number, or None where the endpoint does not tell.

    Raises:
        ServiceTitanError: after the retries that may help.
    """
    if endpoint.kind == "feed" or not endpoint.includes_total:
        return None
    return PageSource(client, endpoint, window, ReadStats()).total()


def _read_once(
    source: PageSource, proof: CompletenessProof, stats: ReadStats, concurrency: int
) -> Generator[Page, None, bool]:
    """Go through the pages once; returns whether that is proven to be everything."""
    first = source.fetch(source.first_number)
    if first.has_more and not source.endpoint.paged:
        raise source.misbehaves("more follow, but this endpoint has no pages to ask for")
    course = proof.choose_paging(first, source.rows_of(first))
    tally, chain = ReadingSummary(course=course), proof.chain(first)
    reading, stats.records = stats.readings, 0
    with closing(_pages(course, source, first, chain, concurrency)) as pages:
        for served in pages:
            tally.add(served)
            stats.records += served.count
            yield Page(reading=reading, rows=served.rows)
    return proof.is_complete(tally, chain, source.page_size)


def _pages(
    course: PagingStrategy, source: PageSource, first: ParsedPage, chain: Coverage, concurrency: int
) -> Pages:
    if course is PagingStrategy.SINGLE:
        yield first
    elif course is PagingStrategy.OVERLAPPING:
        yield from overlapping(source, first, chain, concurrency)
    elif course is PagingStrategy.UNTIL_REPEATED:
        yield from until_repeated(source, first)
    else:
        yield from ascending(source, first, concurrency)
