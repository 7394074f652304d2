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
from collections.abc import Iterable, Iterator
from datetime import date, datetime

from st_pipelines.catalog.model import Endpoint
from st_pipelines.servicetitan.errors.errors import EndpointRemoved, WrongPath
from st_pipelines.servicetitan.http.client import Client
from st_pipelines.servicetitan.http.model import ReadStats
from st_pipelines.sync.child_lists import ChildList
from st_pipelines.sync.children import load_children
from st_pipelines.sync.context import LoadReport, SyncContext
from st_pipelines.sync.deletions import followed_up
from st_pipelines.sync.open_columns import adopt_columns, settle_columns
from st_pipelines.sync.strategies import strategy_for
from st_pipelines.sync.strategy import PlannedRead, Strategy
from st_pipelines.warehouse.errors import Overtaken, TooManyDeletions
from st_pipelines.warehouse.tables.deletion_guard import Approval
from st_pipelines.warehouse.tables.load import commit_load
from st_pipelines.warehouse.tables.load_log import ReadCost, read_windows
from st_pipelines.warehouse.tables.staged_records import StagedRecords, staged_records
from st_pipelines.warehouse.tables.table_state import begin_read
from st_pipelines.windows import Days, Window, local_day

MAX_ATTEMPTS = 3
"""Reads of one load, in all, if other loads overtake it."""


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
    if strategy_for(endpoint).partitioned and days is None:
        raise ValueError(f"{endpoint.table} is loaded by days: name them")
    context.warehouse.check()
    usage = learn_server_time(context)
    endpoint = settle_columns(context.client, context.open_columns, endpoint)
    strategy = strategy_for(endpoint)
    if days is None:
        days = strategy.choose_days(local_day(context.now(), context.timezone), context.timezone)
    left_out: list[date] = []
    if isinstance(strategy, ChildList):
        report = load_children(context, strategy, _load)
    else:
        reads = strategy.plan(days, context.now)
        if strategy.resumes and context.resumed_runs:
            reads = _leave_out_loaded(context, endpoint, reads, left_out)
        report = functools.reduce(operator.add, (_load(context, strategy, read) for read in reads))
    report.read.add_usage(usage)
    adopt_columns(context.warehouse, context.open_columns, endpoint, report.drift)
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
    if not strategy_for(endpoint).can_reconcile:
        return None
    usage = learn_server_time(context)
    endpoint = settle_columns(context.client, context.open_columns, endpoint)
    strategy, report = strategy_for(endpoint), None
    if isinstance(strategy, ChildList):
        report = load_children(context, strategy, _load, everything=True)
    else:
        for read in strategy.plan_reconcile(context.now):
            loaded = _load(context, strategy, read)
            report = report + loaded if report else loaded
    if report:
        report.read.add_usage(usage)
        adopt_columns(context.warehouse, context.open_columns, endpoint, report.drift)
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
    now = context.now()  # of this attempt: the window of an earlier one ends too early
    start = begin_read(
        context.warehouse, strategy.endpoint, context.spec(strategy.endpoint, read, now)
    )
    read = read.closed_at(now).after(start.coverage)
    spec = context.spec(strategy.endpoint, read, now)
    spec = dataclasses.replace(spec, sequence=start.sequence, follows=start.follows)
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
            follow_up = dataclasses.replace(follow_up, parents=strategy.parents_read)
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
