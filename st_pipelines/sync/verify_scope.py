"""Finds how much of a table verify can compare: what its loads have read."""

from __future__ import annotations

import dataclasses
from datetime import date, datetime, timedelta

import duckdb

from st_pipelines.catalog.model import Endpoint
from st_pipelines.sync.context import SyncContext
from st_pipelines.sync.strategy import PlannedRead
from st_pipelines.warehouse.load_spec import MergeMode
from st_pipelines.warehouse.store.base import ALIAS
from st_pipelines.warehouse.tables.compare import read_first_day
from st_pipelines.warehouse.tables.coverage import read_coverage
from st_pipelines.warehouse.tables.schema import has_table
from st_pipelines.warehouse.tables.table_load import TableLoad
from st_pipelines.windows import local_day, midnight


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoadedTable:
    """What there is to compare.

    Attributes:
        first_day: of the rows.
        covered_from: where the first window begins that loads have read; None if they have read
            from the beginning, or days that are figures of their own.
    """

    first_day: date | None
    covered_from: datetime | None


def find_table(context: SyncContext, endpoint: Endpoint, now: datetime) -> LoadedTable | None:
    """Looks for the table before anything is read; None where there is none."""
    context.require_warehouse()
    with duckdb.connect() as connection, context.warehouse.attach(connection, "verify"):
        if not has_table(connection, endpoint.api, endpoint.name):
            return None
        everything = PlannedRead(window=None, mode=MergeMode.UPSERT)
        load = TableLoad(connection, endpoint, context.spec(endpoint, everything, now))
        return LoadedTable(
            first_day=read_first_day(load), covered_from=_read_covered_from(load, now)
        )


def _read_covered_from(load: TableLoad, now: datetime) -> datetime | None:
    if load.endpoint.by_day:
        return None
    coverage = read_coverage(
        load.connection,
        [load.endpoint],
        environment=load.spec.environment,
        tenant_id=load.spec.tenant_id,
        now=now,
        schema=f"{ALIAS}._st",
    )
    windows = coverage[load.endpoint.table].windows
    return windows[0].start if windows else None


def limit(read: PlannedRead, covered_from: datetime | None) -> PlannedRead:
    """The same read without what is older than the loads."""
    window = read.window
    if read.mode is MergeMode.REPLACE_DAY:
        return read  # another window would be another aggregate
    if window is None or covered_from is None or covered_from >= window.end:
        return read
    if window.start is not None and window.start >= covered_from:
        return read
    return dataclasses.replace(read, window=dataclasses.replace(window, start=covered_from))


def first_whole_day(moment: datetime, timezone: str) -> date:
    """The first local day that begins at the moment or after it."""
    day = local_day(moment, timezone)
    return day if midnight(day, timezone) >= moment else day + timedelta(days=1)
