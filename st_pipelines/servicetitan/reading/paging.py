"""The ways through the pages of a list: overlapping, side by side, and without a known end."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import TypeAlias, TypeVar

from st_pipelines.servicetitan.http.cancellation import Cancellation
from st_pipelines.servicetitan.reading.envelope import ParsedPage
from st_pipelines.servicetitan.reading.overlap import Coverage, PageRange, after, overlap_of, plan
from st_pipelines.servicetitan.reading.page_source import PageSource

Pages: TypeAlias = Generator[ParsedPage, None, None]
_K = TypeVar("_K")
_T = TypeVar("_T")

# So many pages that bring a walk no further are no longer bad luck.
_MOST_IDLE = 8
# So many pages one after the other without a new record are no longer an accident.
MOST_BARREN_PAGES = 5


def ascending(source: PageSource, first: ParsedPage, concurrency: int) -> Pages:
    """All pages from the first to the one without `hasMore`, several at a time.

    A short page is not the end, and neither is an empty one.

    Args:
        source: fetches them.
        first: the first page, fetched already, with `hasMore`.
        concurrency: pages in flight or waiting to be taken.

    Yields:
        Pages in the order of their numbers.

    Raises:
        UnexpectedResponse: `hasMore` stays true although nothing new comes.
    """
    yield first
    before, barren, number = set(first.keys), 0, source.first_number
    last = source.last_number(first)
    with closing(_following(source, first, concurrency)) as pages:
        for served in pages:
            number += 1
            if served.has_more is None and number < last:
                raise source.misbehaves(f"page {number} does not say whether more follow")
            yield served
            if not served.has_more:
                return
            # Only the page before is compared: all keys of a large list would fill the memory.
            barren = barren + 1 if before.issuperset(served.keys) else 0
            before = set(served.keys) or before
            if barren == MOST_BARREN_PAGES:
                raise source.misbehaves(
                    f"hasMore is still true on page {number}, but the last {barren} pages"
                    " brought no new record; the server seems to ignore the page number"
                )


def overlapping(source: PageSource, first: ParsedPage, chain: Coverage, concurrency: int) -> Pages:
    """All pages, each beginning before the one before it ended.

    Where an answer does not touch what is known, because records left meanwhile, the gap is
    walked through with further requests.

    Args:
        source: fetches them.
        first: the first page, fetched already.
        chain: links the pages; `complete` at the end, unless they could not be linked.
        concurrency: pages in flight or waiting to be taken.

    Yields:
        Pages without the records that came in the page before.
    """
    yield chain.link(first, at_start=True) or first
    limit, end = source.rows_of(first), first.count
    planned = list(plan(PageRange(index=0, size=limit), first.total or 0, limit))
    with closing(in_order(source.fetch_slice, planned, concurrency)) as pages:
        for place, served in zip(planned, pages, strict=True):
            part = chain.link(served)
            if part is None and served.count:
                yield from _walk(source, chain, end, limit, until=served)
                part = chain.link(served)
            if part is not None:
                end = place.start + served.count
                yield part
            elif served.count:
                return
    yield from _walk(source, chain, end, limit)


def _walk(
    source: PageSource, chain: Coverage, end: int, limit: int, until: ParsedPage | None = None
) -> Pages:
    """Pages from `end` on, one after the other; after one that does not touch, from before it.

    Ends when the chain is complete or touches `until`, or when nothing brings it forward.
    """
    overlap = overlap_of(limit)
    back, idle, farthest = overlap, 0, end
    while not (chain.ended or (until and chain.touches(until)) or idle == _MOST_IDLE):
        place = after(end, limit, overlap)
        if place is None:
            return
        served, reach = source.fetch_slice(place), chain.reach()
        part = chain.link(served, at_start=place.start == 0)
        if part is None:
            end, back = max(0, end - back), 2 * back
        else:
            yield part
            end, back = place.start + served.count, overlap
        idle = 0 if chain.moved_from(reach) and (chain.by_id or end > farthest) else idle + 1
        farthest = max(farthest, end)


def until_repeated(source: PageSource, first: ParsedPage) -> Pages:
    """All pages of an endpoint that does not tell `hasMore`.

    Args:
        source: fetches them.
        first: the first page, fetched already.

    Yields:
        Pages up to an empty one, or one that holds only known records, as comes from a
        server that does not know `page`; that one is left out.
    """
    yield first
    seen, number, served = set(first.keys), source.first_number, first
    while served.count:
        number += 1
        served = source.fetch(number)
        if seen.issuperset(served.keys):
            return
        seen.update(served.keys)
        yield served


def in_order(
    fetch: Callable[[_K, Cancellation], _T], places: Iterable[_K], concurrency: int
) -> Generator[_T, None, None]:
    """Fetch several pages at a time and yield them in order.

    When the iterator is closed, what has not begun is dropped, what waits or hangs is broken off,
    and no thread is left.

    Args:
        fetch: called with a place and an event that is set when its page is not wanted any more.
        places: in the order wanted.
        concurrency: pages in flight or waiting to be taken; bounds the memory.

    Yields:
        What `fetch` returned.
    """
    cancelled = Cancellation()
    pool = ThreadPoolExecutor(concurrency, thread_name_prefix="servicetitan")
    flying: deque[Future[_T]] = deque()
    try:
        for place in places:
            flying.append(pool.submit(fetch, place, cancelled))
            if len(flying) >= concurrency:
                yield flying.popleft().result()
        while flying:
            yield flying.popleft().result()
    finally:
        cancelled.set()
        pool.shutdown(wait=True, cancel_futures=True)


def _following(source: PageSource, first: ParsedPage, concurrency: int) -> Pages:
    """Pages 2, 3, ...: concurrently as far as they are known to exist, then one by one."""
    if not first.has_more:
        return
    number, last = source.first_number + 1, source.last_number(first)
    if last >= number:
        with closing(in_order(source.fetch, range(number, last + 1), concurrency)) as pages:
            yield from pages
        number = last + 1
    while True:
        yield source.fetch(number)
        number += 1
