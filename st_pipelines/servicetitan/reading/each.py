"""Reads an object of each record of a list, such as the figures of each scheduler."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator
from typing import Any
from urllib.parse import quote

import msgspec

from st_pipelines.catalog.model import Endpoint
from st_pipelines.servicetitan.errors.errors import WrongPath
from st_pipelines.servicetitan.http.client import Client
from st_pipelines.servicetitan.http.model import ReadStats
from st_pipelines.servicetitan.reading.page_source import Page, PageSource
from st_pipelines.servicetitan.reading.read import read
from st_pipelines.windows import Window

ID = "{id}"
"""Stands in a path for the id of a record."""


def read_each(
    client: Client,
    endpoint: Endpoint,
    listed: Endpoint,
    window: Window | None,
    *,
    stats: ReadStats,
) -> Generator[Page, None, None]:
    """Read the object of each record of a list, one after another.

    A record that was deleted since the list was read has none.

    Args:
        endpoint: of the objects; its path has `{id}`.
        listed: the list whose ids these are; it is read whole.
        window: what the objects sum up.
        stats: counts the requests.

    Yields:
        One page with all objects.

    Raises:
        ReadingMoved: the list could not be proven complete.
        WrongPath: no record has such an object.
        ServiceTitanError: after the retries.
    """
    session = client.session(stats)
    rows: list[msgspec.Raw] = []
    gone: WrongPath | None = None
    for number in _read_ids(client, listed, stats):
        path = endpoint.path.replace(ID, quote(str(number), safe=""))
        source = PageSource(session, dataclasses.replace(endpoint, path=path), window)
        try:
            rows += source.fetch(source.page(0)).rows
        except WrongPath as error:
            gone = error
    if gone is not None and not rows:
        raise gone
    stats.readings, stats.records, stats.total = 1, len(rows), None
    yield Page(reading=1, rows=rows)


def _read_ids(client: Client, listed: Endpoint, stats: ReadStats) -> list[Any]:
    """Read the ids of all records of a list, in its order, each once."""
    usage, ids, reading = ReadStats(), dict[Any, None](), 1
    for page in read(client, listed, None, stats=usage, concurrency=1):
        if page.reading > reading:
            ids, reading = {}, page.reading
        ids |= dict.fromkeys(msgspec.json.decode(row)[listed.key[0]] for row in page.rows)
    stats.add_usage(usage)
    return list(ids)
