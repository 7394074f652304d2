"""Requests the figures of a forecast by POST, and keeps those of the window."""

from __future__ import annotations

from collections.abc import Generator
from datetime import datetime, timedelta
from typing import Any

import msgspec

from st_pipelines.catalog.model import Endpoint
from st_pipelines.servicetitan.http.client import Session
from st_pipelines.servicetitan.http.model import ReadStats
from st_pipelines.servicetitan.reading.envelope import ParsedPage, page_parser
from st_pipelines.servicetitan.reading.page_source import Page, format_timestamp
from st_pipelines.windows import Window

REACH = timedelta(days=1)
"""How far a request reaches beyond its window: rows that end later are not served otherwise."""


def read_forecast(
    session: Session[ReadStats], endpoint: Endpoint, window: Window
) -> Generator[Page, None, None]:
    """Read the rows that start in a window.

    Args:
        endpoint: its `forecast` says how it is requested.
        window: with a start; it may end in the future.

    Yields:
        One page. Nothing is paged, and a response is the state of one moment.

    Raises:
        ServiceTitanError: after the retries.
    """
    forecast = endpoint.forecast
    assert forecast is not None
    start, end = window.start, window.end
    assert start is not None
    parse = page_parser(endpoint)

    def parse_window(body: bytes) -> ParsedPage:
        page = parse(body)
        times = [_read_start(row, forecast.start) for row in page.rows]
        return page.keep([start <= time < end for time in times])

    page = session.fetch(
        endpoint.path,
        {},
        parse_window,
        scope=endpoint.scope,
        method="POST",
        body=build_body(endpoint, window),
    )
    session.usage.readings += 1
    session.usage.records += page.count
    yield Page(reading=1, rows=page.rows)


def build_body(endpoint: Endpoint, window: Window) -> bytes:
    """Build the JSON body of a request for rows that start in a window."""
    forecast = endpoint.forecast
    assert forecast is not None
    assert window.start is not None
    times = {
        forecast.lower: format_timestamp(window.start),
        forecast.upper: format_timestamp(window.end + REACH),
    }
    return msgspec.json.encode({**forecast.body, **times})


def _read_start(row: msgspec.Raw, name: str) -> datetime:
    """Read the time at which a row starts.

    Raises:
        ValueError: it has none, or none with a time zone, so that its day is unknown.
    """
    try:
        record: Any = msgspec.json.decode(row)
        start = msgspec.convert(record.get(name), datetime) if isinstance(record, dict) else None
    except (msgspec.DecodeError, msgspec.ValidationError, RecursionError):
        start = None
    if start is None or start.tzinfo is None:
        raise ValueError(f"a record has no time {name}")
    return start
