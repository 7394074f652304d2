"""The ways through the pages of a list: forwards, backwards, and without a known end."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import TypeAlias, TypeVar

from st_pipelines.servicetitan.envelope import Served
from st_pipelines.servicetitan.pages import PageSource

Pages: TypeAlias = Generator[Served, None, None]
_T = TypeVar("_T")

# So many pages one after the other without a new record are no longer an accident.
MOST_BARREN_PAGES = 5


def ascending(source: PageSource, first: Served, concurrency: int) -> Pages:
    """All pages from the first to the one without `hasMore`, several at a time.

    A short page is not the end, and neither is an empty one.

    Args:
        source: fetches them.
        first: the first page, fetched already, with `hasMore`.
        concurrency: pages in flight or waiting to be taken.

    Yields:
        Pages in the order of their numbers.

    Raises:
        UnexpectedAnswer: `hasMore` stays true although nothing new comes.
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


def descending(source: PageSource, last: int) -> Pages:
    """All pages from the last to the first, one after the other.

    Args:
        source: fetches them.
        last: number of the last page.

    Yields:
        Pages; the first one tells by `hasMore` whether `last` really was the last.
    """
    for number in range(last, source.first_number - 1, -1):
        yield source.fetch(number)


def until_repeated(source: PageSource, first: Served) -> Pages:
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
    fetch: Callable[[int, threading.Event], _T], numbers: Iterable[int], concurrency: int
) -> Generator[_T, None, None]:
    """Fetch several pages at a time and yield them in order.

    When the iterator is closed, what has not begun is dropped, what waits stops waiting, and no
    thread is left.

    Args:
        fetch: called with a number and an event that is set when its page is not wanted any more.
        numbers: in the order wanted.
        concurrency: pages in flight or waiting to be taken; bounds the memory.

    Yields:
        What `fetch` returned.
    """
    cancelled = threading.Event()
    pool = ThreadPoolExecutor(concurrency, thread_name_prefix="servicetitan")
    flying: deque[Future[_T]] = deque()
    try:
        for number in numbers:
            flying.append(pool.submit(fetch, number, cancelled))
            if len(flying) >= concurrency:
                yield flying.popleft().result()
        while flying:
            yield flying.popleft().result()
    finally:
        cancelled.set()
        pool.shutdown(wait=True, cancel_futures=True)


def _following(source: PageSource, first: Served, concurrency: int) -> Pages:
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
