"""The numbered pages of one endpoint and window: what is asked, and how much at a time."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime, timezone

import msgspec

from st_pipelines.catalog.model import DateFilter, Endpoint
from st_pipelines.servicetitan.errors.errors import (
    BadRequest,
    ServiceTitanError,
    ServiceUnavailable,
    UnexpectedResponse,
    Unreachable,
    WrongPath,
)
from st_pipelines.servicetitan.http.cancellation import Cancellation
from st_pipelines.servicetitan.http.client import Client
from st_pipelines.servicetitan.reading.envelope import ParsedPage, array_of, opener
from st_pipelines.servicetitan.reading.overlap import PageRange
from st_pipelines.servicetitan.reading.stats import ReadStats
from st_pipelines.windows import Window

# Below this a page is no longer what the server chokes on; 50 is the API's own default.
SMALLEST_PAGE = 50
_MORE_LOOKS = 2
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_AFTER_THE_END = (400, 404)
_PAGE_SIZE_REFUSED = re.compile(r"page[ _-]?size", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Page:
    """A page of records.

    Attributes:
        reading: 1, 2, ...; the first page with a higher number makes all earlier ones void.
        rows: the records, each the bytes that were served.
    """

    reading: int
    rows: list[msgspec.Raw] = field(repr=False)

    @property
    def records(self) -> bytes:
        """A JSON array of the records."""
        return array_of(self.rows)

    @property
    def count(self) -> int:
        """How many records."""
        return len(self.rows)


class PageSource:
    """Fetches the pages of one endpoint and window.

    Attributes:
        endpoint: what is read.
        first_number: number of the first page.
        page_size: rows asked for; shrinks when the server cannot serve so many.
        refusal: what a page after the first was last answered with where that was taken for the
            end of the list.
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
        self.refusal: ServiceTitanError | None = None
        self._first_served = False
        self._open_first, self._open_later = opener(endpoint), opener(endpoint, first=False)
        self._params = dict(endpoint.params)
        if endpoint.date_filter is not None:
            self._params |= date_params(endpoint.date_filter, window)
        if endpoint.sort:
            self._params["sort"] = endpoint.sort
        if endpoint.includes_total:
            self._params["includeTotal"] = "true"

    def fetch(self, number: int, cancelled: Cancellation | None = None) -> ParsedPage:
        """One page of `page_size`.

        Args:
            number: as ServiceTitan counts.
            cancelled: ends waits and retries.

        Returns:
            The page, opened.

        Raises:
            ServiceTitanError: after the retries that may help.
        """
        return self._ask_until_filled(number, self.page_size, cancelled)

    def fetch_slice(self, place: PageRange, cancelled: Cancellation | None = None) -> ParsedPage:
        """One page of another size.

        Args:
            place: which.
            cancelled: ends waits and retries.

        Returns:
            The page, opened.

        Raises:
            ServiceTitanError: after the retries that may help.
        """
        return self._ask_until_filled(self.first_number + place.index, place.size, cancelled)

    def rows_of(self, first: ParsedPage) -> int:
        """How many rows the server puts into a page, which may be fewer than were asked for.

        Args:
            first: the first page, with more to follow.
        """
        return first.count or self.page_size

    def total(self) -> int | None:
        """`totalCount` at this moment, from a request for one row; None if it is not told."""
        return self._ask(self.first_number, 1, None).total

    def any_rows(self, cancelled: Cancellation | None = None) -> bool:
        """Whether there is a record at all, from a request for one row."""
        return self._ask(self.first_number, 1, cancelled).count > 0

    def last_number(self, first: ParsedPage) -> int:
        """The number of the last page, as far as the first page tells.

        Args:
            first: the first page.

        Returns:
            The first page's number where there is no total.
        """
        if not first.total or not first.has_more:
            return self.first_number
        return self.first_number + -(-first.total // self.rows_of(first)) - 1

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
        refused = isinstance(error, BadRequest)
        named = refused and bool(_PAGE_SIZE_REFUSED.search(error.detail))
        overloaded = isinstance(error, ServiceUnavailable) and error.status != 409
        hung = isinstance(error, Unreachable) and error.smaller_may_help
        if not (named or overloaded or hung or (refused and not self._first_served)):
            raise error
        if not named:
            self._ask_for_one(error)
        self.page_size = max(SMALLEST_PAGE, self.page_size // 2)
        self._first_served = False
        if refused:
            self._client.page_limits[self.endpoint.path] = self.page_size

    def misbehaves(self, problem: str) -> UnexpectedResponse:
        """The error for paging that cannot be right; not raised yet."""
        return UnexpectedResponse(f"{self.endpoint.table} ({self.endpoint.path}): {problem}")

    def _ask_until_filled(
        self, number: int, page_size: int, cancelled: Cancellation | None
    ) -> ParsedPage:
        """A page without records that says more follow is asked for again: it may be a slip.

        How a page after the last is answered is not documented. Where it is refused instead of
        empty it tells the same; whether that is credible is for `proof` to say.
        """
        try:
            served = self._ask(number, page_size, cancelled)
            for _ in range(_MORE_LOOKS):
                if served.count or not served.has_more:
                    break
                served = self._ask(number, page_size, cancelled)
        except (BadRequest, WrongPath) as error:
            if not self._first_served or number == self.first_number or not _may_be_end(error):
                raise
            self.refusal = error
            return ParsedPage(
                rows=[], keys=[], ascending=True, has_more=False, total=self._stats.total
            )
        self._first_served = self._first_served or number == self.first_number
        return served

    def _ask_for_one(self, error: ServiceTitanError) -> None:
        """Raises where not even a single record is served: then it is not the size."""
        try:
            self._ask(self.first_number, 1, None)
        except BadRequest:
            raise error from None

    def _ask(self, number: int, page_size: int, cancelled: Cancellation | None) -> ParsedPage:
        params = dict(self._params)
        if self.endpoint.paged:
            params |= {"page": str(number), "pageSize": str(page_size)}
        first = number == self.first_number
        served = self._client.fetch(
            self.endpoint.path,
            params,
            self._open_first if first else self._open_later,
            scope=self.endpoint.scope,
            usage=self._stats,
            cancelled=cancelled,
        )
        if served.total is not None:
            self._stats.total = served.total
        return served


def _may_be_end(error: ServiceTitanError) -> bool:
    """Whether an answer to a later page may stand for "there is none"."""
    return error.status in _AFTER_THE_END and not _PAGE_SIZE_REFUSED.search(error.detail)


def timestamp(moment: datetime) -> str:
    """`2026-01-02T05:00:00Z`, with microseconds only where there are any.

    Always with Z: one client found that "+00:00" is not accepted everywhere.
    """
    return moment.astimezone(timezone.utc).replace(tzinfo=None).isoformat() + "Z"


def date_params(date_filter: DateFilter, window: Window | None) -> dict[str, str]:
    """The query parameters that bound a list to a window.

    Args:
        date_filter: the endpoint's.
        window: an open start is left out, or sent as 1970 where the endpoint insists on one.
            None is open to both sides.

    Returns:
        Up to two parameters.
    """
    start = window.start if window else None
    if start is None and date_filter.required:
        start = _EPOCH
    lower = {date_filter.lower: timestamp(start)} if start else {}
    return lower | ({date_filter.upper: timestamp(window.end)} if window else {})
