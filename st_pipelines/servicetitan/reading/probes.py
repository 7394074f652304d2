"""Small requests in place of reading an endpoint: may it be read, and has it changed?"""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

import msgspec

from st_pipelines import json_text as surrogates
from st_pipelines.catalog.model import Endpoint
from st_pipelines.servicetitan.http.cancellation import Cancellation
from st_pipelines.servicetitan.http.client import Client
from st_pipelines.servicetitan.reading.export_feed import MAY_BE_STALE, read_feed
from st_pipelines.servicetitan.reading.page_source import PageSource, date_params
from st_pipelines.servicetitan.reading.stats import ReadStats
from st_pipelines.windows import Window

_HOUR = timedelta(hours=1)
_MOST_PAGES = 5
"""Of a feed, in one look; so many are a change whatever they hold."""


@dataclass(frozen=True, kw_only=True)
class ChangeProbe:
    """What to ask of an endpoint, and what came of it.

    Attributes:
        since: records whose cursor is not before it are a change.
        token: of a feed, where the last look ended.
        round: how many looks there were; with each the next variant is asked for, where an
            endpoint has several.
        changed: whether there was a change; None before it was asked.
    """

    since: datetime
    token: str | None = None
    round: int = 0
    changed: bool | None = None


def probe_for_changes(
    client: Client,
    endpoint: Endpoint,
    before: ChangeProbe,
    now: datetime,
    *,
    stats: ReadStats,
    cancelled: Cancellation | None = None,
) -> ChangeProbe:
    """Asks whether an endpoint has changed.

    A list is asked for one record of the time since. A feed is read on from where the last look
    ended, which is one request when nothing came; at first it is read from the day of `since`.
    A change that is committed later than its time says is not seen; the load of the day sees it.

    Args:
        client: asks.
        endpoint: with a date filter, or a feed.
        before: the last look.
        now: aware.
        stats: counts the requests.
        cancelled: ends waits and retries.

    Raises:
        ServiceTitanError: after the retries that may help.
        Cancelled: `cancelled` was set.
    """
    if endpoint.kind == "feed":
        return _look_at_feed(client, endpoint, before, stats, cancelled)
    if endpoint.variants:
        variant = endpoint.variants[before.round % len(endpoint.variants)]
        endpoint = dataclasses.replace(endpoint, params={**endpoint.params, **variant})
    endpoint = dataclasses.replace(endpoint, includes_total=False)  # counting may be dear
    window = Window(start=before.since, end=max(now, before.since))
    source = PageSource(client, endpoint, window, stats)
    changed = source.any_rows(cancelled)
    return dataclasses.replace(before, round=before.round + 1, changed=changed)


def _look_at_feed(
    client: Client,
    endpoint: Endpoint,
    before: ChangeProbe,
    stats: ReadStats,
    cancelled: Cancellation | None,
) -> ChangeProbe:
    read_on = functools.partial(_read_on, client, endpoint, before, stats, cancelled)
    try:
        return read_on(before.token or before.since)
    except MAY_BE_STALE:
        if before.token is None:
            raise
        return read_on(before.since)


def _read_on(
    client: Client,
    endpoint: Endpoint,
    before: ChangeProbe,
    stats: ReadStats,
    cancelled: Cancellation | None,
    start: str | datetime,
) -> ChangeProbe:
    changed, reading = False, ReadStats()
    pages = read_feed(client, endpoint, start, stats=reading, cancelled=cancelled)
    try:
        for number, page in enumerate(pages, start=1):
            changed = changed or _any_since(page.records, endpoint, before)
            if number == _MOST_PAGES:
                changed = True
                break  # the next look goes on from here
    finally:
        pages.close()
        stats.add_usage(reading)
    token = reading.continue_from or before.token
    return dataclasses.replace(before, token=token, round=before.round + 1, changed=changed)


def _any_since(records: bytes, endpoint: Endpoint, before: ChangeProbe) -> bool:
    """Whether a record is not older. One without a time is new if it comes after a token."""
    path = (endpoint.cursor or "").split(".")
    try:
        found = msgspec.json.decode(surrogates.replace_lone_surrogates(records))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return True  # a load makes more of it
    if endpoint.explode is not None:
        found = [
            member
            for record in found
            if isinstance(record, dict)
            for member in record.get(endpoint.explode) or ()
        ]
    times = (_time(record, path) for record in found)
    undated = before.token is not None
    return any(undated if time is None else time >= before.since for time in times)


def _time(record: Any, path: list[str]) -> datetime | None:
    for name in path:
        record = record.get(name) if isinstance(record, dict) else None
    try:
        time = msgspec.convert(record, datetime)
    except msgspec.ValidationError:
        return None
    return time if time.tzinfo else None


def probe(client: Client, endpoint: Endpoint) -> None:
    """Ask for one record of the last hour; what comes is not looked at.

    Args:
        client: asks.
        endpoint: list or feed.

    Raises:
        ServiceTitanError: one of its subclasses, as a load would get it.
    """
    now = datetime.now(timezone.utc).replace(microsecond=0)
    params = dict(endpoint.params)
    if endpoint.kind == "feed":
        params["from"] = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    else:
        params |= endpoint.variants[0] if endpoint.variants else {}
        if endpoint.date_filter is not None:
            params |= date_params(endpoint.date_filter, Window(start=now - _HOUR, end=now))
        if endpoint.paged:
            params |= {"page": str(endpoint.first_page), "pageSize": "1"}
        if endpoint.includes_total:
            params["includeTotal"] = "true"
    client.get(endpoint.path, params, scope=endpoint.scope)
