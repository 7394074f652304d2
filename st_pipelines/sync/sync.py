"""Loads an endpoint: reads it completely from ServiceTitan, then commits it to its table.

The whole pipeline as plain functions, usable without Dagster. `session` opens the connections for
scripts and the CLI. With a context, for example in a REPL:

    >>> report = extract_load(context, load_catalog()["jpm.jobs"], days)
    >>> report.loaded.counts.inserted

The endpoint's strategy decides what is read and how it merges (`strategies`); `reconcile` reads
everything. A read is loaded only if it is proven complete (`servicetitan.reading.completeness`);
otherwise it raises, and the table stays as it was. A read that other loads overtake is repeated,
three times in all; one that would delete much is read once more.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import date, datetime, timedelta

from st_pipelines.catalog.model import Catalog, Endpoint
from st_pipelines.config.project import load_catalog
from st_pipelines.servicetitan.errors.errors import EndpointRemoved, WrongPath
from st_pipelines.servicetitan.http.client import Client
from st_pipelines.servicetitan.http.model import ReadStats
from st_pipelines.sync.deletions import followed_up
from st_pipelines.sync.strategies import strategy_for
from st_pipelines.sync.strategy import PlannedRead, Strategy
from st_pipelines.warehouse.errors import Overtaken, TooManyDeletions, WarehouseUnusable
from st_pipelines.warehouse.load_spec import LoadSpec
from st_pipelines.warehouse.staging.stage import Drift
from st_pipelines.warehouse.store.base import Store
from st_pipelines.warehouse.tables.deletion_guard import Approval
from st_pipelines.warehouse.tables.load import Loaded, commit_load
from st_pipelines.warehouse.tables.load_log import ReadCost, read_windows
from st_pipelines.warehouse.tables.staged_records import StagedRecords, staged_records
from st_pipelines.warehouse.tables.table_state import begin_read
from st_pipelines.windows import Days, Window, local_day, utc_now

MAX_ATTEMPTS = 3
"""Reads of one load, in all, if other loads overtake it."""


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
        lost_days: earlier days that the warehouse lacks although they were loaded once. Callers who
            record loads fill it.
        clock_offset: how far this machine's clock was ahead of ServiceTitan's at the end; negative
            if behind, None if unknown.
        days_left_out: days that an earlier try of the run has loaded, so that they were not read.
        column_changes: what differs from the columns of earlier loads of a report, in words.
        facts: about the read, for people, such as the number of its pages.
    """

    endpoint: Endpoint
    window: Window | None
    seconds: float
    read: ReadStats
    loaded: Loaded
    drift: Drift = dataclasses.field(default_factory=Drift)
    notices: tuple[str, ...] = ()
    lost_days: tuple[date, ...] = ()
    clock_offset: timedelta | None = None
    days_left_out: tuple[date, ...] = ()
    column_changes: tuple[str, ...] = ()
    facts: Mapping[str, str | int] = dataclasses.field(default_factory=dict)

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
            endpoint=later.endpoint,
            window=window,
            seconds=self.seconds + later.seconds,
            read=self.read + later.read,
            loaded=self.loaded + later.loaded,
            drift=self.drift + later.drift,
            notices=later.notices,
            clock_offset=later.clock_offset,
            column_changes=tuple(dict.fromkeys(self.column_changes + later.column_changes)),
            facts={**self.facts, **later.facts},
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class SyncContext:
    """Everything a load needs besides an endpoint and days.

    Attributes:
        client: sends the requests to ServiceTitan.
        warehouse: where the tables are.
        timezone: IANA name; records belong to its local days.
        timezone_is_default: nobody has set the time zone.
        start_date: first day of the environment, for the warehouse's record; None if unknown.
        run_id: stored with every row.
        catalog: for `_st.endpoints`, the warehouse's own list.
        history: tables that keep every version of a row.
        clock: this machine's time, aware. Use `now`.
        accept_deletions: also load what deletes a large part of a table (`TooManyDeletions`).
        resumed_runs: earlier tries of this run. What they loaded is not read again where that is
            slow (`Strategy.resumes`).
    """

    client: Client
    warehouse: Store
    timezone: str
    run_id: str
    catalog: Catalog = dataclasses.field(default_factory=load_catalog)
    history: Collection[str] = ()
    clock: Callable[[], datetime] = utc_now
    timezone_is_default: bool = False
    start_date: date | None = None
    accept_deletions: bool = False
    resumed_runs: Collection[str] = ()

    def now(self) -> datetime:
        """The current time, aware, and never later than ServiceTitan's; windows close at it."""
        ours, theirs = self.clock(), self.client.server_time()
        return ours if theirs is None else min(ours, theirs)

    def clock_offset(self) -> timedelta | None:
        """How far `clock` is ahead of ServiceTitan's, to about a second; None if unknown."""
        theirs = self.client.server_time()
        return None if theirs is None else self.clock() - theirs

    def require_warehouse(self) -> None:
        """Raises WarehouseUnusable if nothing has been loaded yet."""
        if not self.warehouse.exists:
            raise WarehouseUnusable(
                f"warehouse {self.warehouse.name} does not exist yet: load something into it "
                "first, or set ST_WAREHOUSE_DIR to the folder that it is in"
            )

    def spec(self, endpoint: Endpoint, read: PlannedRead, now: datetime) -> LoadSpec:
        """What is loaded with a read that starts now.

        Args:
            endpoint: the endpoint that is read.
            read: from the endpoint's strategy.
            now: moment of the load, aware.
        """
        window = read.window
        return LoadSpec(
            environment=self.client.connection.environment,
            tenant_id=self.client.connection.tenant_id,
            window_start=window.start if window else None,
            window_end=window.end if window else None,
            timezone=self.timezone,
            default_date=read.default_date or local_day(now, self.timezone),
            loaded_at=now,
            run_id=self.run_id,
            mode=read.mode,
            history=endpoint.table in self.history,
            timezone_is_default=self.timezone_is_default,
            start_date=self.start_date,
        )


def extract_load(context: SyncContext, endpoint: Endpoint, days: Days | None) -> LoadReport:
    """Reads an endpoint completely and loads it, each planned read in one transaction.

    Args:
        context: client, warehouse and the like.
        endpoint: what to load.
        days: the days to load; None for a snapshot, which is read whole.

    Raises:
        ServiceTitanError: it could not be read, or not be proven complete; nothing was loaded.
        WarehouseError: it could not be written; nothing was loaded.
        ValueError: days are missing or have not begun.
    """
    strategy = strategy_for(endpoint)
    if strategy.partitioned and days is None:
        raise ValueError(f"{endpoint.table} is loaded by days: name them")
    context.warehouse.check()
    usage = learn_server_time(context)
    reads = strategy.plan(days, context.now)
    left_out: list[date] = []
    if strategy.resumes and context.resumed_runs:
        reads = _leave_out_loaded(context, endpoint, reads, left_out)
    report = functools.reduce(operator.add, (_load(context, strategy, read) for read in reads))
    report.read.add_usage(usage)
    return dataclasses.replace(report, days_left_out=tuple(left_out))


def _leave_out_loaded(
    context: SyncContext,
    endpoint: Endpoint,
    reads: Iterable[PlannedRead],
    left_out: list[date],
) -> Iterator[PlannedRead]:
    """Yields the reads that the resumed runs have not committed, and always the last one.

    Args:
        left_out: gets the days of the others.
    """
    loaded: dict[tuple[datetime, datetime], datetime] = {}
    if context.warehouse.exists:
        with context.warehouse.read_only() as connection:
            loaded = read_windows(
                connection,
                endpoint,
                environment=context.client.connection.environment,
                tenant_id=context.client.connection.tenant_id,
                run_ids=context.resumed_runs,
            )
    waiting: PlannedRead | None = None
    for read in reads:
        if waiting and waiting.default_date:
            left_out.append(waiting.default_date)
        waiting = None
        if read.window and (read.window.start, read.window.end) in loaded:
            waiting = read
        else:
            yield read
    if waiting:
        yield waiting


def reconcile(context: SyncContext, endpoint: Endpoint) -> LoadReport | None:
    """Reads everything an endpoint has, and marks rows that no longer exist there as deleted.

    A load of days sees neither deletions nor changes that did not move the cursor; this does. The
    export feed is read from its beginning, once.

    Args:
        context: client, warehouse and the like.
        endpoint: what to reconcile.

    Returns:
        What was done; None for an aggregate by day, where nothing can be deleted.

    Raises:
        ServiceTitanError: it could not be read, or not be proven complete; nothing was loaded.
        WarehouseError: it could not be written; nothing was loaded.
    """
    context.warehouse.check()
    strategy, report = strategy_for(endpoint), None
    if not strategy.can_reconcile:
        return None
    usage = learn_server_time(context)
    for read in strategy.plan_reconcile(context.now):
        loaded = _load(context, strategy, read)
        report = report + loaded if report else loaded
    if report:
        report.read.add_usage(usage)
    return report


def learn_server_time(context: SyncContext) -> ReadStats:
    """Signs in unless the server's time is known; returns what that cost."""
    usage = ReadStats()
    if context.client.server_time() is None:
        context.client.sign_in(usage)
    return usage


def _load(context: SyncContext, strategy: Strategy, read: PlannedRead) -> LoadReport:
    """Reads and commits; reads again if the first read is contradicted or would delete much."""
    doubt: TooManyDeletions | None = None
    attempts = MAX_ATTEMPTS
    while True:
        attempts -= 1
        try:
            return _attempt(context, strategy, read, doubt)
        except WrongPath as error:
            is_gone = error.problem is not None and error.problem.code == "not-found"
            if not (is_gone and strategy.endpoint.removed):
                raise
            raise EndpointRemoved.from_not_found(error, strategy.endpoint.table) from None
        except Overtaken:
            if not attempts:
                raise
        except TooManyDeletions as error:
            if doubt:
                raise
            doubt, attempts = error, attempts + 1


def _attempt(
    context: SyncContext,
    strategy: Strategy,
    read: PlannedRead,
    doubt: TooManyDeletions | None,
) -> LoadReport:
    """Reads and commits.

    Args:
        doubt: why an earlier read was not committed.
    """
    started = time.monotonic()
    now = context.now()
    start = begin_read(
        context.warehouse, strategy.endpoint, context.spec(strategy.endpoint, read, now)
    )
    read = read.after(start.coverage)
    spec = context.spec(strategy.endpoint, read, now)
    spec = dataclasses.replace(spec, sequence=start.sequence)
    with (
        strategy.open_reading(context.client, context.warehouse, spec) as reading,
        staged_records(context.warehouse, reading.strategy.endpoint, spec) as records,
    ):
        strategy = reading.strategy
        stats = stage(context.client, strategy, read.window, records)
        records.finish()
        with followed_up(
            context.client, context.warehouse, strategy, records, stats, doubt
        ) as follow_up:
            seconds = time.monotonic() - started
            loaded = commit_load(
                records,
                context.warehouse,
                catalog=context.catalog,
                cost=ReadCost(requests=stats.requests, bytes=stats.bytes, seconds=seconds),
                follow_up=follow_up,
                approval=Approval(
                    everything=context.accept_deletions, missing=doubt.missing if doubt else None
                ),
            )
        return LoadReport(
            endpoint=strategy.endpoint,
            window=read.window,
            seconds=time.monotonic() - started,
            read=stats,
            loaded=loaded,
            drift=records.staging.drift,
            notices=context.client.notices,
            clock_offset=context.clock_offset(),
            column_changes=reading.changes,
            facts=reading.facts,
        )


def stage(
    client: Client, strategy: Strategy, window: Window | None, records: StagedRecords
) -> ReadStats:
    """Stages a complete read.

    Raises:
        ServiceTitanError: it could not be read, or not be proven complete.
        MalformedRecords: a page is not a list of records.
    """
    stats = list[ReadStats]()
    for part in strategy.read(client, window):
        start, reading = records.staging.mark(), 1
        for page in part.pages:
            if page.reading > reading:
                reading = page.reading
                records.return_to(start)
            records.add(page.records, page.rows)
        stats.append(part.stats)
    return functools.reduce(operator.add, stats)
