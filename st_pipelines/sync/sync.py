"""The whole pipeline as one plain function: from ServiceTitan's pages to a table in DuckDB.

Usable without Dagster, in a REPL or a script:

    >>> job = Job(client=client, warehouse=warehouse, timezone="America/New_York", run_id="me")
    >>> report = extract_load(job, load_catalog()["jpm.jobs"], days)
    >>> report.loaded.counts.inserted
"""

from __future__ import annotations

import dataclasses
import functools
import operator
import time
from collections.abc import Callable, Collection
from datetime import date, datetime, timedelta

from st_pipelines.catalog.model import Catalog, Endpoint
from st_pipelines.config.project import load_catalog
from st_pipelines.servicetitan.http.client import Client
from st_pipelines.servicetitan.reading.read import read
from st_pipelines.servicetitan.reading.stats import ReadStats
from st_pipelines.sync.deletions import followed_up
from st_pipelines.warehouse.staging.stage import Drift
from st_pipelines.warehouse.staging.typed_rows import LoadSpec
from st_pipelines.warehouse.store.base import Store
from st_pipelines.warehouse.tables.load import Loaded, Typed, load, staged
from st_pipelines.windows import Days, Window, local_day, utc_now

PAGES_IN_FLIGHT = 4
"""A page of 5,000 invoices has 17 MB; more of them at once are not faster."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoadReport:
    """What one load did and cost.

    Attributes:
        endpoint: the endpoint that was loaded.
        window: what was read, UTC; None for a reading of everything.
        seconds: from the first request to the end of the transaction.
        read: requests, bytes, and how the reading went; lookups and the export feed included.
        loaded: what changed in the table.
        drift: where records differed from the catalog.
        notices: what a person should do about the credentials, such as delete a rotated secret.
    """

    endpoint: Endpoint
    window: Window | None
    seconds: float
    read: ReadStats
    loaded: Loaded
    drift: Drift = dataclasses.field(default_factory=Drift)
    notices: tuple[str, ...] = ()

    @property
    def source_total(self) -> int | None:
        """`totalCount` of the reading; None where ServiceTitan does not count the rows."""
        return None if self.endpoint.explode else self.read.total

    def __add__(self, later: LoadReport) -> LoadReport:
        """The reports of consecutive days as one."""
        window = later.window
        if self.window and later.window:
            window = Window(start=self.window.start, end=later.window.end)
        return LoadReport(
            endpoint=self.endpoint,
            window=window,
            seconds=self.seconds + later.seconds,
            read=self.read + later.read,
            loaded=self.loaded + later.loaded,
            drift=self.drift + later.drift,
            notices=later.notices,
        )


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
    warehouse: Store
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
        reports = (_load_days(job, endpoint, day) for day in days)
        return functools.reduce(operator.add, reports)
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
        return LoadReport(
            endpoint=endpoint,
            window=window,
            seconds=time.monotonic() - started,
            read=stats,
            loaded=loaded,
            drift=listed.staging.drift,
            notices=job.client.notices,
        )


def stage(client: Client, window: Window | None, listed: Typed) -> ReadStats:
    """Stages a complete reading, of each variant where the endpoint has several.

    Raises:
        ServiceTitanError: it could not be read, or not be proven complete.
        MalformedRecords: what came is no list of records.
    """
    endpoint, parts = listed.staging.endpoint, list[ReadStats]()
    for variant in endpoint.variants or ({},):
        part = dataclasses.replace(endpoint, params={**endpoint.params, **variant})
        before, reading, stats = listed.staging.mark(), 1, ReadStats()
        parts.append(stats)
        for page in read(client, part, window, stats=stats, concurrency=PAGES_IN_FLIGHT):
            if page.reading > reading:
                reading = page.reading
                listed.return_to(before)
            listed.add(page.records, page.rows)
    return functools.reduce(operator.add, parts)
