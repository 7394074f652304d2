"""The whole pipeline as one plain function: from ServiceTitan's pages to a table in DuckDB.

Usable without Dagster, in a REPL or a script:

    >>> job = Job(client=client, warehouse=warehouse, timezone="America/New_York", run_id="me")
    >>> report = extract_load(job, load_catalog()["jpm.jobs"], days)
    >>> report.counts.inserted
"""

from __future__ import annotations

import dataclasses
import functools
import operator
import time
from collections.abc import Callable, Collection
from datetime import date, datetime, timedelta

from st_pipelines.catalog.model import Catalog, Endpoint
from st_pipelines.catalog.registry import load_catalog
from st_pipelines.servicetitan.http.client import Client
from st_pipelines.servicetitan.reading.read import read
from st_pipelines.servicetitan.reading.stats import ReadStats
from st_pipelines.sync.deletions import followed_up
from st_pipelines.warehouse.staging.stage import Drift, Staging
from st_pipelines.warehouse.staging.typed_rows import LoadSpec
from st_pipelines.warehouse.store.duckdb_file import Warehouse
from st_pipelines.warehouse.tables.load import Loaded, Typed, load, staged
from st_pipelines.warehouse.tables.load_facts import Facts
from st_pipelines.warehouse.tables.merge import Counts
from st_pipelines.warehouse.tables.vanished import MissingField
from st_pipelines.windows import Days, Window, local_day, utc_now

PAGES_IN_FLIGHT = 4
"""A page of 5,000 invoices has 17 MB; more of them at once are not faster."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoadReport:
    """What one load did and cost.

    Attributes:
        endpoint: of the catalogue.
        window: what was read, UTC; None for a snapshot.
        rows_read: records that the reading gave.
        counts: rows by outcome.
        rows_by_date: rows that the table now holds, for each local day that was touched.
        table_rows: rows that the table now holds for the tenant.
        requests, token_requests, bytes, seconds: what it cost.
        readings: how often the records had to be read from the start, 1 when nothing moved.
        drift: where records differed from the catalogue.
        added_columns: columns that the table did not have before.
        preview: a few rows.
        source_total: `totalCount` of the reading; None where ServiceTitan does not tell it.
        vanished: fields of which the table had values and this load has none.
        facts: what the checks need, counted in the load's transaction.
        notices: what a person should do about the credentials, such as delete a rotated secret.
    """

    endpoint: Endpoint
    window: Window | None
    rows_read: int
    counts: Counts
    rows_by_date: dict[date, int]
    table_rows: int
    requests: int
    token_requests: int
    bytes: int
    seconds: float
    readings: int
    drift: Drift
    added_columns: tuple[str, ...]
    preview: tuple[dict[str, object], ...]
    source_total: int | None = None
    missing_fields: tuple[MissingField, ...] = ()
    facts: Facts = dataclasses.field(default_factory=Facts)
    notices: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class SyncContext:
    """Everything about a load but its endpoint and days.

    Attributes:
        client: asks ServiceTitan.
        warehouse: where to.
        timezone: IANA name by which records belong to days.
        run_id: noted with every row.
        catalog: for the warehouse's own list of endpoints.
        history: tables of which every version of a row is kept.
        clock: tells the time at which windows are closed, aware.
    """

    client: Client
    warehouse: Warehouse
    timezone: str
    run_id: str
    catalog: Catalog = dataclasses.field(default_factory=load_catalog)
    history: Collection[str] = ()
    clock: Callable[[], datetime] = utc_now

    def load_of(self, window: Window | None, now: datetime, day: date) -> LoadSpec:
        """What a load of this job is of.

        Args:
            window: None for everything.
            now: moment of the load, aware.
            day: of the rows without cursor.
        """
        return LoadSpec(
            environment=self.client.connection.environment,
            tenant_id=self.client.connection.tenant_id,
            window_start=window.start if window else None,
            window_end=window.end if window else None,
            timezone=self.timezone,
            default_date=day,
            loaded_at=now,
            run_id=self.run_id,
        )


def extract_load(job: SyncContext, endpoint: Endpoint, days: Days | None) -> LoadReport:
    """Reads an endpoint completely and loads it in one transaction.

    Args:
        job: client, warehouse and the like.
        endpoint: what to load.
        days: the days to load; None for a snapshot, which is read whole.

    Raises:
        ServiceTitanError: it could not be read, or not be proven complete; nothing was loaded.
        WarehouseError: it could not be written; nothing was loaded.
        ValueError: days are missing or have not begun.
    """
    if endpoint.partitioned and days is None:
        raise ValueError(f"{endpoint.table} is loaded by days: name them")
    job.warehouse.check()
    if endpoint.by_day and days is not None and days.first != days.last:
        reports = [_load_days(job, endpoint, day) for day in days]
        return _summed(reports)
    if endpoint.partitioned and days is not None:
        return _load_days(job, endpoint, days)
    return _load_once(job, endpoint, window=None, day=None, replaces=True)


def reconcile(job: SyncContext, endpoint: Endpoint) -> LoadReport | None:
    """Reads all that an endpoint has, and marks as deleted what the table has besides.

    A reading by days cannot see what is gone from the source, nor what changed there without
    moving its cursor; this one does. The export feed is read from its beginning, once.

    Args:
        job: client, warehouse and the like.
        endpoint: what to compare and mend.

    Returns:
        What was done; None for an aggregate by day, where nothing can be gone.

    Raises:
        ServiceTitanError: it could not be read, or not be proven complete; nothing was loaded.
        WarehouseError: it could not be written; nothing was loaded.
    """
    job.warehouse.check()
    if endpoint.by_day:
        return None
    now = job.clock()
    keyless = endpoint.kind == "window" and not endpoint.key
    window = Window(start=None, end=now) if keyless else None
    return _load_once(
        job, endpoint, window, local_day(now, job.timezone), replaces=endpoint.kind != "feed"
    )


def _load_days(job: SyncContext, endpoint: Endpoint, days: Days) -> LoadReport:
    if endpoint.by_day:
        days = dataclasses.replace(days, open_start=False)
    window = days.window(job.clock())
    if window.start is not None:
        earlier = window.start - timedelta(days=endpoint.look_back_days)
        window = dataclasses.replace(window, start=earlier)
    replaces = endpoint.kind == "window" and not endpoint.key
    return _load_once(job, endpoint, window, days.last, replaces=replaces)


def _load_once(
    job: SyncContext, endpoint: Endpoint, window: Window | None, day: date | None, *, replaces: bool
) -> LoadReport:
    started, now = time.monotonic(), job.clock()
    what = dataclasses.replace(
        job.load_of(window, now, day or local_day(now, job.timezone)),
        replaces=replaces,
        history=endpoint.table in job.history,
    )
    with staged(job.warehouse, endpoint, what) as listed:
        stats = stage(job.client, window, listed)
        listed.finish()
        whole = window is None and replaces
        with followed_up(
            job.client, job.warehouse, listed, what, stats=stats, whole_feed=whole
        ) as besides:
            seconds = time.monotonic() - started
            entry = {"requests": stats.requests, "bytes": stats.bytes, "seconds": seconds}
            loaded = load(
                listed, job.warehouse, what, catalog=job.catalog, entry=entry, besides=besides
            )
        seconds = time.monotonic() - started
        report = _report(endpoint, window, listed.staging, stats, loaded, seconds)
        return dataclasses.replace(report, notices=job.client.notices)


def stage(client: Client, window: Window | None, listed: Typed) -> ReadStats:
    """Stages a complete reading, of each variant where the endpoint has several.

    Raises:
        ServiceTitanError: it could not be read, or not be proven complete.
        MalformedRecords: what came is no list of records.
    """
    endpoint, total = listed.staging.endpoint, ReadStats(total=0)
    for variant in endpoint.variants or ({},):
        part = dataclasses.replace(endpoint, params={**endpoint.params, **variant})
        before, reading, stats = listed.staging.mark(), 1, ReadStats()
        for page in read(client, part, window, stats=stats, concurrency=PAGES_IN_FLIGHT):
            if page.reading > reading:
                reading = page.reading
                listed.return_to(before)
            listed.add(page.records, page.rows)
        total.add(
            requests=stats.requests, received=stats.bytes, token_requests=stats.token_requests
        )
        total.readings = max(total.readings, stats.readings)
        total.total = _both(total.total, stats.total)
    return total


def _report(
    endpoint: Endpoint,
    window: Window | None,
    staging: Staging,
    stats: ReadStats,
    loaded: Loaded,
    seconds: float,
) -> LoadReport:
    return LoadReport(
        endpoint=endpoint,
        window=window,
        rows_read=staging.rows,
        counts=loaded.counts,
        rows_by_date=loaded.table_rows_by_date,
        table_rows=loaded.table_rows,
        requests=stats.requests,
        token_requests=stats.token_requests,
        bytes=stats.bytes,
        seconds=seconds,
        readings=stats.readings,
        drift=staging.drift,
        added_columns=loaded.added_columns,
        preview=loaded.preview,
        source_total=None if endpoint.explode else stats.total,  # which counts what holds the rows
        missing_fields=loaded.missing_fields,
        facts=loaded.facts,
    )


def _summed(reports: list[LoadReport]) -> LoadReport:
    """The reports of consecutive days as one."""
    last, drift = reports[-1], Drift()
    for report in reports:
        drift.counts.update(report.drift.counts)
        drift.examples = {**report.drift.examples, **drift.examples}
    windows = [report.window for report in reports if report.window]
    return dataclasses.replace(
        last,
        window=Window(start=windows[0].start, end=windows[-1].end),
        rows_by_date={day: n for report in reports for day, n in report.rows_by_date.items()},
        counts=sum((report.counts for report in reports), Counts()),
        drift=drift,
        preview=next((r.preview for r in reports if r.preview), ()),
        source_total=functools.reduce(_both, (report.source_total for report in reports)),
        vanished=tuple(
            {gone.path: gone for report in reports for gone in report.missing_fields}.values()
        ),
        facts=functools.reduce(operator.add, (report.facts for report in reports)),
        **{
            name: sum(getattr(report, name) for report in reports)
            for name in ("rows_read", "requests", "token_requests", "bytes", "seconds")
        },
    )


def _both(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other
