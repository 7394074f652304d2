"""Collects what a read returns as the layer above does: the pages of the last reading count."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from typing import Any

from st_pipelines.catalog.model import Endpoint
from st_pipelines.servicetitan.http.client import Client
from st_pipelines.servicetitan.http.model import ReadStats
from st_pipelines.servicetitan.reading.page_source import Page
from st_pipelines.servicetitan.reading.read import read
from st_pipelines.windows import Window

ENDED = Window(
    start=datetime(2026, 1, 2, 5, tzinfo=timezone.utc),
    end=datetime(2026, 1, 3, 5, tzinfo=timezone.utc),
)


def not_ended() -> Window:
    return Window(start=ENDED.start, end=datetime.now(timezone.utc) + timedelta(days=1))


def last_reading(pages: Iterable[Page]) -> list[dict[str, Any]]:
    """Return the records of the last reading."""
    readings: dict[int, list[dict[str, Any]]] = {}
    for page in pages:
        records = json.loads(page.records)
        assert len(records) == page.count
        readings.setdefault(page.reading, []).extend(records)
    return readings[max(readings)]


def ids(
    client: Client,
    endpoint: Endpoint,
    window: Window | None = ENDED,
    *,
    stats: ReadStats | None = None,
    concurrency: int = 4,
) -> Counter[int]:
    """Return how often each id came in the last reading."""
    stats = stats or ReadStats()
    pages = read(client, endpoint, window, stats=stats, concurrency=concurrency)
    return Counter(record["id"] for record in last_reading(pages))
