"""Reads everything that a list has, or has in a window, and proves that it is complete.

`read` is the entry point of the package for the layers above; feeds are read by
`export_feed.read_feed`. It yields pages as they arrive and raises at the end if they cannot be
proven to be all (see `completeness`), so load them only once it has ended without an error.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Generator
from contextlib import closing

from st_pipelines.catalog.model import Endpoint
from st_pipelines.servicetitan.errors.errors import (
    BadRequest,
    ResponseTooLarge,
    ServiceUnavailable,
    Unreachable,
)
from st_pipelines.servicetitan.http.client import Client, Session
from st_pipelines.servicetitan.http.model import ReadStats
from st_pipelines.servicetitan.reading.completeness import (
    CompletenessProof,
    PagingStrategy,
    ReadingSummary,
)
from st_pipelines.servicetitan.reading.envelope import ParsedPage
from st_pipelines.servicetitan.reading.overlap import Coverage
from st_pipelines.servicetitan.reading.page_source import Page, PageSource
from st_pipelines.servicetitan.reading.paging import Pages, ascending, overlapping, until_repeated
from st_pipelines.windows import Window


def read(
    client: Client,
    endpoint: Endpoint,
    window: Window | None,
    *,
    stats: ReadStats,
    concurrency: int = 8,
) -> Generator[Page, None, None]:
    """Read the list of an endpoint.

    Args:
        window: the time to read; None reads everything.
        stats: counts the requests and records how the reading went.
        concurrency: pages in flight or waiting to be taken.

    Yields:
        At least one page for every reading. A page with a higher `reading` makes all pages
        before it void. A record may come twice in a reading.

    Raises:
        ReadingMoved: completeness could not be proven.
        ServiceTitanError: after the retries.
    """
    yield from read_in_session(client.session(stats), endpoint, window, concurrency=concurrency)


def read_in_session(
    session: Session[ReadStats], endpoint: Endpoint, window: Window | None, *, concurrency: int
) -> Generator[Page, None, None]:
    """Read the list of an endpoint in a session, which may be cancelled. Otherwise as `read`."""
    stats = session.usage
    source = PageSource(session, endpoint, window)
    proof = CompletenessProof(endpoint)
    while not proof.given_up:
        stats.readings += 1
        stats.page_size = source.page_size if endpoint.paged else 0
        try:
            complete = yield from _read_once(source, proof, stats, concurrency)
        except (BadRequest, ResponseTooLarge, ServiceUnavailable, Unreachable) as error:
            if source.drop_sort(error):  # what is not sorted must be proven complete otherwise
                proof = CompletenessProof(dataclasses.replace(endpoint, sort=None))
            else:
                source.make_smaller(error)
            continue
        if complete:
            return
    incomplete = proof.build_error()
    if source.refusal is not None:
        incomplete.hint += (
            f" The error of a later page was taken for the end of the list: {source.refusal}"
        )
    raise incomplete


def _read_once(
    source: PageSource, proof: CompletenessProof, stats: ReadStats, concurrency: int
) -> Generator[Page, None, bool]:
    """Go through the pages once; return whether they are proven to be everything."""
    first = source.fetch(source.page(0))
    if first.has_more and not source.endpoint.paged:
        raise source.build_error("it has more records, but this endpoint has no pages to request")
    paging = proof.choose_paging(first, source.rows_of(first))
    summary = ReadingSummary(paging=paging)
    overlaps = paging is PagingStrategy.OVERLAPPING
    coverage = proof.start_coverage(first) if overlaps else None
    reading, stats.records = stats.readings, 0
    with closing(_pages(paging, source, first, coverage, concurrency)) as pages:
        for page in pages:
            summary.add(page)
            stats.records += page.count
            yield Page(reading=reading, rows=page.rows)
    return proof.is_complete(summary, coverage, source.page_size)


def _pages(
    paging: PagingStrategy,
    source: PageSource,
    first: ParsedPage,
    coverage: Coverage | None,
    concurrency: int,
) -> Pages:
    if paging is PagingStrategy.SINGLE:
        yield first
    elif coverage is not None:
        yield from overlapping(source, first, coverage, concurrency)
    elif paging is PagingStrategy.UNTIL_REPEATED:
        yield from until_repeated(source, first)
    else:
        yield from ascending(source, first, concurrency)
