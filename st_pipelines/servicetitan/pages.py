"""The numbered pages of one endpoint and window: fetched, put in order, made smaller."""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from st_pipelines.catalog.model import Endpoint
from st_pipelines.servicetitan.client import Client
from st_pipelines.servicetitan.envelope import Served, opener
from st_pipelines.servicetitan.errors import (
    BadRequest,
    ServiceTitanError,
    ServiceUnavailable,
    UnexpectedAnswer,
    Unreachable,
)
from st_pipelines.servicetitan.usage import ReadStats
from st_pipelines.servicetitan.window import Window, date_params

Pages: TypeAlias = Generator[Served, None, None]
_T = TypeVar("_T")

# Below this a page is no longer what the server chokes on; 50 is the API's own default.
SMALLEST_PAGE = 50
# So many pages one after the other without a new record are no longer an accident.
MOST_BARREN_PAGES = 5
_PAGE_SIZE_REFUSED = re.compile(r"page[ _-]?size", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Page:
    """A page of records.

    Attributes:
        reading: 1, 2, ...; the first page with a higher number makes all earlier ones void.
        records: the JSON array as served.
        count: how many records.
    """

    reading: int
    records: bytes
    count: int


class PageSource:
    """Fetches the pages of one endpoint and window.

    Attributes:
        endpoint: what is read.
        first_number: number of the first page.
        page_size: rows asked for; shrinks when the server cannot serve so many.
    """

    def __init__(
        self, client: Client, endpoint: Endpoint, window: Window | None, stats: ReadStats
    ) -> None:
        """Fix the query; nothing is sent yet.

        Args:
            client: asks.
            endpoint: what to read.
            window: bounds it, where the endpoint has a date filter.
            stats: is kept up to date.
        """
        self.endpoint = endpoint
        self.first_number = endpoint.first_page
        limit = client.page_limits.get(endpoint.path, endpoint.max_page_size)
        self.page_size = min(client.connection.page_size, limit)
        self._client = client
        self._stats = stats
        self._open = opener(endpoint)
        self._params = dict(endpoint.params)
        if window is not None and endpoint.date_filter is not None:
            self._params |= date_params(endpoint.date_filter, window)
        if endpoint.sort:
            self._params["sort"] = endpoint.sort
        if endpoint.includes_total:
            self._params["includeTotal"] = "true"

    def fetch(self, number: int, cancelled: threading.Event | None = None) -> Served:
        """One page.

        Args:
            number: as ServiceTitan counts.
            cancelled: ends waits and retries.

        Returns:
            The page, opened.

        Raises:
            ServiceTitanError: after the retries that may help.
        """
        return self._ask(number, self.page_size, cancelled)

    def total(self) -> int | None:
        """`totalCount` at this moment, from a request for one row; None if it is not told."""
        return self._ask(self.first_number, 1, None).total

    def last_number(self, first: Served) -> int:
        """The number of the last page, as far as the first page tells.

        Args:
            first: the first page; if more follow, it shows how many rows the server really puts
                into a page, which may be fewer than were asked for.

        Returns:
            The first page's number where there is no total.
        """
        if not first.total or not first.has_more:
            return self.first_number
        rows = first.count or self.page_size
        return self.first_number + -(-first.total // rows) - 1

    def make_smaller(self, error: ServiceTitanError) -> None:
        """Halve the page size, if that can help against an error.

        Pages fetched before are void then, since their numbers change meaning.

        Args:
            error: what fetching a page ended with.

        Raises:
            ServiceTitanError: `error` itself where a smaller page cannot help, or what a
                request for a single row ended with, as then it is not the size.
        """
        data_request = error.method == "GET"  # not the token's, which no page size changes
        if not (self.endpoint.paged and data_request) or self.page_size <= SMALLEST_PAGE:
            raise error
        refused = isinstance(error, BadRequest) and _PAGE_SIZE_REFUSED.search(error.detail)
        overloaded = isinstance(error, ServiceUnavailable) and error.status != 409
        hung = isinstance(error, Unreachable) and error.smaller_may_help
        if not (refused or overloaded or hung):
            raise error
        if not refused:
            self._ask(self.first_number, 1, None)
        self.page_size = max(SMALLEST_PAGE, self.page_size // 2)
        if refused:
            self._client.page_limits[self.endpoint.path] = self.page_size

    def misbehaves(self, problem: str) -> UnexpectedAnswer:
        """The error for paging that cannot be right; not raised yet."""
        return UnexpectedAnswer(f"{self.endpoint.table} ({self.endpoint.path}): {problem}")

    def _ask(self, number: int, page_size: int, cancelled: threading.Event | None) -> Served:
        params = dict(self._params)
        if self.endpoint.paged:
            params |= {"page": str(number), "pageSize": str(page_size)}
        served = self._client.fetch(
            self.endpoint.path,
            params,
            self._open,
            scope=self.endpoint.scope,
            usage=self._stats,
            cancelled=cancelled,
        )
        if served.total is not None:
            self._stats.total = served.total
        return served


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
    with closing(_following(source, first, concurrency)) as pages:
        for served in pages:
            number += 1
            if served.has_more is None:
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
