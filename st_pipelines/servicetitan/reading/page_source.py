"""Fetches the numbered pages of one endpoint and window: query, page size, and odd last pages.

Which pages to fetch, and in which order, is the business of `paging`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import msgspec

from st_pipelines.catalog.model import EXTERNAL_DATA_PARAMETER, DateFilter, Endpoint
from st_pipelines.servicetitan.errors.errors import (
    BadRequest,
    ResponseTooLarge,
    ServiceTitanError,
    ServiceUnavailable,
    UnexpectedResponse,
    Unreachable,
    WrongPath,
)
from st_pipelines.servicetitan.http.client import Session
from st_pipelines.servicetitan.http.model import Connection, ReadStats
from st_pipelines.servicetitan.http.redact import redact_url
from st_pipelines.servicetitan.reading.envelope import ParsedPage, Records, page_parser
from st_pipelines.servicetitan.reading.overlap import PageRange
from st_pipelines.windows import Window

# A smaller page would not help an overloaded server; 50 is the API's own default.
MIN_PAGE_SIZE = 50
ONE_ROW = PageRange(index=0, size=1)
_EMPTY_PAGE_RETRIES = 2
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_STATUSES_AFTER_THE_END = (400, 404)
_PAGE_SIZE_REFUSED = re.compile(r"page[ _-]?size", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Page(Records):
    """A page of records.

    Attributes:
        reading: 1, 2, ...; the first page with a higher number makes all earlier ones void.
    """

    reading: int


class PageSource:
    """Fetches the pages of one endpoint and window.

    Attributes:
        session: sends the requests; its usage records the last `totalCount`.
        endpoint: what is read.
        page_size: rows per page; shrinks when the server cannot serve that many.
        refusal: the last error that was taken for the end of the list.
    """

    def __init__(
        self,
        session: Session[ReadStats],
        endpoint: Endpoint,
        window: Window | None,
        *,
        method: str = "GET",
        body: Mapping[str, Any] | None = None,
    ) -> None:
        """Build the query; nothing is sent yet.

        Args:
            window: bounds the list, where the endpoint has a date filter.
            method: POST for what ServiceTitan reads by POST, such as the data of a report.
            body: sent as JSON with every page; paging stays in the query.
        """
        self.session = session
        self.endpoint = endpoint
        limit = session.client.page_limits.get(endpoint.table, endpoint.max_page_size)
        self.page_size = min(session.client.connection.page_size, limit)
        self.refusal: ServiceTitanError | None = None
        self._method = method
        self._body = None if body is None else msgspec.json.encode(body)
        self._first_served = False
        self._parse_first = page_parser(endpoint)
        self._parse_later = page_parser(endpoint, first=False)
        self._params = list_params(endpoint, session.client.connection)
        if endpoint.date_filter is not None:
            self._params |= build_date_params(endpoint.date_filter, window)
        if endpoint.sort:
            self._params["sort"] = endpoint.sort
        if endpoint.includes_total:
            self._params["includeTotal"] = "true"

    def fetch(self, place: PageRange, session: Session[ReadStats] | None = None) -> ParsedPage:
        """Fetch one page.

        A page without records that says more follow is requested again, as it may be a slip.

        How ServiceTitan answers a page after the last is not documented. A refusal is taken for an
        empty last page; whether that is credible is decided in `completeness`.

        Args:
            session: sends the request in place of the source's own; a worker's can be cancelled.

        Raises:
            ServiceTitanError: after the retries.
        """
        try:
            page = self._request(place, session)
            for _ in range(_EMPTY_PAGE_RETRIES):
                if page.count or not page.has_more:
                    break
                page = self._request(place, session)
        except (BadRequest, WrongPath) as error:
            if not self._first_served or place.index == 0 or not _may_be_end(error):
                raise
            self.refusal = error
            total = self.session.usage.total
            return ParsedPage(rows=[], keys=[], ascending=True, has_more=False, total=total)
        self._first_served = self._first_served or place.index == 0
        return page

    def page(self, index: int) -> PageRange:
        """Return the page with that index, counted from 0, at the current page size."""
        return PageRange(index=index, size=self.page_size)

    def rows_of(self, first: ParsedPage) -> int:
        """Return how many rows the server puts into a page, which may be fewer than requested."""
        return first.count or self.page_size

    def last_index(self, first: ParsedPage) -> int:
        """Return the index of the last page by the total of the first; 0 where it has none."""
        if not first.total or not first.has_more:
            return 0
        return -(-first.total // self.rows_of(first)) - 1

    def has_rows(self) -> bool:
        """Return whether there is any record, by a request for one row."""
        return self._request(ONE_ROW).count > 0

    def make_smaller(self, error: ServiceTitanError) -> None:
        """Halve the page size, if that can help against an error.

        Pages fetched before are void then, since their numbers change meaning.

        Raises:
            ServiceTitanError: `error` itself where a smaller page cannot help, or the error of a
                request for a single row, as then the size is not the reason.
        """
        token_url = redact_url(self.session.client.connection.token_url)
        data_request = error.url != token_url  # no page size changes a token request
        if not (self.endpoint.paged and data_request) or self.page_size <= MIN_PAGE_SIZE:
            raise error
        refused = isinstance(error, BadRequest)
        named = refused and bool(_PAGE_SIZE_REFUSED.search(error.detail))
        overloaded = isinstance(error, ServiceUnavailable) and error.status != 409
        hung = isinstance(error, Unreachable) and error.smaller_may_help
        too_large = isinstance(error, ResponseTooLarge)
        if not (named or overloaded or hung or too_large or (refused and not self._first_served)):
            raise error
        if not named:
            self._require_one_row(error)
        self.page_size = max(MIN_PAGE_SIZE, self.page_size // 2)
        self._first_served = False
        if refused or too_large:
            self.session.client.page_limits[self.endpoint.table] = self.page_size

    def drop_sort(self, error: ServiceTitanError) -> bool:
        """Leave `sort` out from now on, if that is what a request was rejected for.

        A single row is requested with `sort` and without it, so that neither the page size nor
        another parameter can be the reason.

        Returns:
            Whether `sort` was left out; the reading starts over then.

        Raises:
            ServiceTitanError: `error` itself where not even a row without `sort` is served.
        """
        if not isinstance(error, BadRequest) or self._first_served or "sort" not in self._params:
            return False
        if _PAGE_SIZE_REFUSED.search(error.detail) or self._serves_one_row():
            return False
        sort = self._params.pop("sort")
        if self._serves_one_row():
            return True
        self._params["sort"] = sort
        raise error

    def _serves_one_row(self) -> bool:
        try:
            self._request(ONE_ROW)
        except BadRequest:
            return False
        return True

    def build_error(self, problem: str) -> UnexpectedResponse:
        """Build the error for paging that cannot be right."""
        return UnexpectedResponse(f"{self.endpoint.table} ({self.endpoint.path}): {problem}")

    def _require_one_row(self, error: ServiceTitanError) -> None:
        """Raise where not even a single row is served: then the size is not the reason."""
        if not self._serves_one_row():
            raise error

    def _request(self, place: PageRange, session: Session[ReadStats] | None = None) -> ParsedPage:
        session = session or self.session
        params = self._params
        if self.endpoint.paged:
            number = self.endpoint.first_page + place.index
            params = params | {"page": str(number), "pageSize": str(place.size)}
        page = session.fetch(
            self.endpoint.path,
            params,
            self._parse_later if place.index else self._parse_first,
            scope=self.endpoint.scope,
            method=self._method,
            body=self._body,
        )
        if page.total is not None:
            session.usage.total = page.total
        return page


def list_params(endpoint: Endpoint, connection: Connection) -> dict[str, str]:
    """Build the query parameters that every request to a list carries."""
    guid = connection.external_data_app_guid
    external = {EXTERNAL_DATA_PARAMETER: guid} if guid and endpoint.external_data else {}
    return {**endpoint.params, **external}


def _may_be_end(error: ServiceTitanError) -> bool:
    """Whether a refusal of a later page may mean that there is no such page."""
    return error.status in _STATUSES_AFTER_THE_END and not _PAGE_SIZE_REFUSED.search(error.detail)


def format_timestamp(moment: datetime) -> str:
    """Format a time as `2026-01-02T05:00:00Z`, with microseconds only if there are any.

    Always with Z, as one client found that "+00:00" is not accepted everywhere.
    """
    return moment.astimezone(timezone.utc).replace(tzinfo=None).isoformat() + "Z"


def build_date_params(date_filter: DateFilter, window: Window | None) -> dict[str, str]:
    """Build the query parameters, up to two, that bound a list to a window.

    Args:
        window: an open start is left out, or sent as 1970 where the endpoint requires one. None is
            open on both sides.
    """
    start = window.start if window else None
    if start is None and date_filter.required:
        start = _EPOCH
    lower = {date_filter.lower: format_timestamp(start)} if start else {}
    return lower | ({date_filter.upper: format_timestamp(window.end)} if window else {})
