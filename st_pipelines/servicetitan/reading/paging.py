"""Goes through the pages of a list: overlapping, first to last, or until nothing new comes.

`completeness` chooses the way for each list and judges what came of it.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import TypeAlias, TypeVar

from st_pipelines.servicetitan.http.client import Session
from st_pipelines.servicetitan.http.model import Usage
from st_pipelines.servicetitan.http.retry import Cancellation
from st_pipelines.servicetitan.reading.envelope import ParsedPage
from st_pipelines.servicetitan.reading.overlap import (
    Coverage,
    PageRange,
    choose_overlap,
    find_page_across,
    plan_pages,
)
from st_pipelines.servicetitan.reading.page_source import PageSource

Pages: TypeAlias = Generator[ParsedPage, None, None]
_K = TypeVar("_K")
_T = TypeVar("_T")
_U = TypeVar("_U", bound=Usage)

_MAX_IDLE_PAGES = 8  # pages of a walk that bring it no further before it is given up
MAX_BARREN_PAGES = 5  # successive pages without a new record before paging counts as broken


def ascending(source: PageSource, first: ParsedPage, concurrency: int) -> Pages:
    """Yield all pages from the first to the one without `hasMore`, several fetched at a time.

    A short page is not the end, and neither is an empty one.

    Args:
        first: the first page, fetched already; it has more.
        concurrency: pages in flight or waiting to be taken.

    Raises:
        UnexpectedResponse: `hasMore` stays true although nothing new comes.
    """
    yield first
    before, barren, index = set(first.keys), 0, 0
    last = source.last_index(first)
    with closing(_fetch_following(source, first, concurrency)) as pages:
        for page in pages:
            index += 1
            number = source.endpoint.first_page + index
            if page.has_more is None and index < last:
                raise source.build_error(f"page {number} does not say whether more pages follow")
            yield page
            if not page.has_more:
                return
            # Only the page before is compared: all keys of a large list would fill the memory.
            barren = barren + 1 if before.issuperset(page.keys) else 0
            before = set(page.keys) or before
            if barren == MAX_BARREN_PAGES:
                raise source.build_error(
                    f"hasMore is still true on page {number}, but the last {barren} pages"
                    " brought no new record; the server seems to ignore the page number"
                )


def overlapping(
    source: PageSource, first: ParsedPage, coverage: Coverage, concurrency: int
) -> Pages:
    """Yield all pages, each beginning before the one before it ended.

    Where a page does not touch what is covered, because records left meanwhile, further requests
    walk through the gap.

    Args:
        first: the first page, fetched already.
        coverage: links the pages; `complete` at the end, unless they could not be linked.
        concurrency: pages in flight or waiting to be taken.

    Yields:
        Pages without the records that came in the page before.
    """
    yield coverage.link(first, at_start=True) or first
    limit, end = source.rows_of(first), first.count
    planned = list(plan_pages(PageRange(index=0, size=limit), first.total or 0, limit))
    with closing(in_order(source.fetch, planned, source.session, concurrency)) as pages:
        for place, page in zip(planned, pages, strict=True):
            part = coverage.link(page)
            if part is None and page.count:
                yield from _walk(source, coverage, end, limit, until=page)
                part = coverage.link(page)
            if part is not None:
                end = place.start + page.count
                yield part
            elif page.count:
                return
    yield from _walk(source, coverage, end, limit)


def _walk(
    source: PageSource, coverage: Coverage, end: int, limit: int, until: ParsedPage | None = None
) -> Pages:
    """Yield pages from `end` on, one by one; after a page that does not touch, go back further.

    Ends when the coverage is complete or touches `until`, or when nothing brings it forward.
    """
    overlap = choose_overlap(limit)
    back, idle, farthest = overlap, 0, end
    while not (coverage.ended or (until and coverage.touches(until)) or idle == _MAX_IDLE_PAGES):
        place = find_page_across(end, limit, overlap)
        if place is None:
            return
        page, reach = source.fetch(place), coverage.reach()
        part = coverage.link(page, at_start=place.start == 0)
        if part is None:
            end, back = max(0, end - back), 2 * back
        else:
            yield part
            end, back = place.start + page.count, overlap
        advanced = coverage.moved_from(reach) and (coverage.by_id or end > farthest)
        idle = 0 if advanced else idle + 1
        farthest = max(farthest, end)


def until_repeated(source: PageSource, first: ParsedPage) -> Pages:
    """Yield all pages of an endpoint that does not serve `hasMore`.

    Ends before a page that is empty, or that holds no new record, as a server repeats one that
    ignores `page`.

    Args:
        first: the first page, fetched already.
    """
    yield first
    seen, index, page = set(first.keys), 0, first
    while page.count:
        index += 1
        page = source.fetch(source.page(index))
        if seen.issuperset(page.keys):
            return
        seen.update(page.keys)
        yield page


def in_order(
    fetch: Callable[[_K, Session[_U]], _T],
    items: Iterable[_K],
    session: Session[_U],
    concurrency: int,
) -> Generator[_T, None, None]:
    """Call `fetch` for several items at a time and yield the results in order.

    When the iterator is closed, items that have not begun are dropped, requests that wait or hang
    are broken off, and no thread is left.

    Args:
        fetch: called with an item and a session that is cancelled when the iterator is closed.
        session: its client and usage are used.
        concurrency: results in flight or waiting to be taken; bounds the memory.
    """
    cancelled = Cancellation()
    worker = session.client.session(session.usage, cancelled)
    pool = ThreadPoolExecutor(concurrency, thread_name_prefix="servicetitan")
    pending: deque[Future[_T]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(fetch, item, worker))
            if len(pending) >= concurrency:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        cancelled.set()
        pool.shutdown(wait=True, cancel_futures=True)


def _fetch_following(source: PageSource, first: ParsedPage, concurrency: int) -> Pages:
    """Yield the pages after the first without end: concurrently up to the total, then singly."""
    expected = range(1, source.last_index(first) + 1)
    if expected:
        places = map(source.page, expected)
        with closing(in_order(source.fetch, places, source.session, concurrency)) as pages:
            yield from pages
    for index in itertools.count(len(expected) + 1):
        yield source.fetch(source.page(index))
