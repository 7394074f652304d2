"""Small requests that stand in for reading an endpoint: may it be read, and has it changed?"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

import msgspec

from st_pipelines import json_text
from st_pipelines.catalog.model import Endpoint
from st_pipelines.catalog.registry import packaged_catalog
from st_pipelines.servicetitan.http.client import Session
from st_pipelines.servicetitan.http.model import ReadStats, Usage
from st_pipelines.servicetitan.reading.export_feed import MAY_BE_STALE, read_feed
from st_pipelines.servicetitan.reading.forecast import build_body
from st_pipelines.servicetitan.reading.page_source import PageSource, build_date_params
from st_pipelines.servicetitan.reporting.directory import describe_report, resolve_report
from st_pipelines.windows import Window

MAX_FEED_PAGES = 5  # per probe of a feed; that many count as a change whatever they hold
_HOUR = timedelta(hours=1)


@dataclass(frozen=True, kw_only=True)
class ChangeProbe:
    """Where a probe begins, and its outcome.

    Attributes:
        since: records whose cursor is not before it are a change.
        token: where the last probe of a feed ended.
        round: number of probes so far; selects the variant of an endpoint that has several.
        changed: whether there was a change; None before the probe.
    """

    since: datetime
    token: str | None = None
    round: int = 0
    changed: bool | None = None


def probe_access(session: Session[Usage], endpoint: Endpoint) -> None:
    """Request one record of the last hour, to learn whether this app may read the endpoint.

    Of a report, request its description.

    Raises:
        ServiceTitanError: one of its subclasses, as a load would get it.
    """
    if endpoint.report:  # its description says as much as a run, and does not count as one
        target = resolve_report(session, endpoint.report.category, endpoint.report.report)
        describe_report(session, target)
        return
    if endpoint.each_of is not None:  # an id of which there is no knowing if it exists
        endpoint = packaged_catalog()[endpoint.each_of]
    now = datetime.now(timezone.utc).replace(microsecond=0)
    hour = Window(start=now - _HOUR, end=now)
    if endpoint.forecast is not None:
        body = build_body(endpoint, hour)
        session.fetch(endpoint.path, {}, bytes, scope=endpoint.scope, method="POST", body=body)
        return
    params = dict(endpoint.params)
    if endpoint.is_feed:
        params["from"] = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    else:
        params |= endpoint.variants[0] if endpoint.variants else {}
        if endpoint.date_filter is not None:
            params |= build_date_params(endpoint.date_filter, hour)
        if endpoint.paged:
            params |= {"page": str(endpoint.first_page), "pageSize": "1"}
        if endpoint.includes_total:
            params["includeTotal"] = "true"
    session.get(endpoint.path, params, scope=endpoint.scope)


def probe_for_changes(
    session: Session[ReadStats], endpoint: Endpoint, before: ChangeProbe, now: datetime
) -> ChangeProbe:
    """Find out whether an endpoint has changed since the last probe.

    Of a list, one record since then is requested. A feed is read on from where the last probe
    ended, which is one request if nothing came; the first probe reads it from the day of `since`.
    A change that is committed later than its timestamp says goes unnoticed until the daily load.

    Args:
        endpoint: with a date filter, or a feed.
        before: the last probe.
        now: aware.

    Raises:
        ServiceTitanError: after the retries.
        Cancelled: the session was cancelled.
    """
    if endpoint.is_feed:
        return _probe_feed(session, endpoint, before)
    if endpoint.variants:
        variant = endpoint.variants[before.round % len(endpoint.variants)]
        endpoint = dataclasses.replace(endpoint, params={**endpoint.params, **variant})
    endpoint = dataclasses.replace(endpoint, includes_total=False)  # counting can be expensive
    window = Window(start=before.since, end=max(now, before.since))
    changed = PageSource(session, endpoint, window).has_rows()
    return dataclasses.replace(before, round=before.round + 1, changed=changed)


def _probe_feed(
    session: Session[ReadStats], endpoint: Endpoint, before: ChangeProbe
) -> ChangeProbe:
    try:
        return _read_on(session, endpoint, before, before.token or before.since)
    except MAY_BE_STALE:
        if before.token is None:
            raise
        return _read_on(session, endpoint, before, before.since)


def _read_on(
    session: Session[ReadStats], endpoint: Endpoint, before: ChangeProbe, start: str | datetime
) -> ChangeProbe:
    changed, stats = False, ReadStats()
    pages = read_feed(session.client.session(stats, session.cancelled), endpoint, start)
    try:
        for number, page in enumerate(pages, start=1):
            changed = changed or _has_change(page.records, endpoint, before)
            if number == MAX_FEED_PAGES:
                changed = True
                break  # the next probe continues from here
    finally:
        pages.close()
        session.usage.add_usage(stats)
    token = stats.continue_from or before.token
    return dataclasses.replace(before, token=token, round=before.round + 1, changed=changed)


def _has_change(records: bytes, endpoint: Endpoint, before: ChangeProbe) -> bool:
    """Whether any record is as new as `since`; one without a time counts if it follows a token."""
    path = (endpoint.cursor or "").split(".")
    try:
        parsed = msgspec.json.decode(json_text.replace_lone_surrogates(records))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return True  # the load will deal with it
    if endpoint.explode is not None:
        parsed = [
            member
            for record in parsed
            if isinstance(record, dict)
            for member in record.get(endpoint.explode) or ()
        ]
    times = (_read_time(record, path) for record in parsed)
    undated_counts = before.token is not None
    return any(undated_counts if time is None else time >= before.since for time in times)


def _read_time(record: Any, path: list[str]) -> datetime | None:
    for name in path:
        record = record.get(name) if isinstance(record, dict) else None
    try:
        time = msgspec.convert(record, datetime)
    except msgspec.ValidationError:
        return None
    return time if time.tzinfo and time.year > 1 else None  # the year 1 means "no time"
