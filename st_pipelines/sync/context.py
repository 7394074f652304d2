"""Defines what a load needs, `SyncContext`, and what it reports, `LoadReport`."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Collection, Mapping
from datetime import date, datetime, timedelta

from st_pipelines.catalog.model import Catalog, Endpoint
from st_pipelines.config.project import load_catalog
from st_pipelines.servicetitan.http.client import Client
from st_pipelines.servicetitan.http.model import ReadStats
from st_pipelines.sync.open_columns import OpenColumns
from st_pipelines.sync.strategy import PlannedRead
from st_pipelines.warehouse.errors import WarehouseUnusable
from st_pipelines.warehouse.load_spec import LoadSpec
from st_pipelines.warehouse.staging.stage import Drift
from st_pipelines.warehouse.store.base import Store
from st_pipelines.warehouse.tables.load import Loaded
from st_pipelines.windows import Window, local_day, utc_now

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ParentCounts:
    """Parents of a child list by what a load did with them.

    Attributes:
        read: their children were read.
        not_found: of these, those that ServiceTitan does not know.
        remaining: are due, and were not read.
    """

    read: int = 0
    not_found: int = 0
    remaining: int = 0

    def __add__(self, later: ParentCounts) -> ParentCounts:
        """Adds up two consecutive batches."""
        return ParentCounts(
            read=self.read + later.read,
            not_found=self.not_found + later.not_found,
            remaining=later.remaining,
        )


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
        parents: of a child list, those whose children were read, and those that are left.
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
    parents: ParentCounts | None = None

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
            parents=self.parents + later.parents if self.parents and later.parents else None,
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
        max_child_requests: requests that a load of a child list may send, about.
        announce: called with what a load will cost, before it sends requests.
        open_columns: where the columns of open endpoints are written; None leaves them as they are.
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
    max_child_requests: int = 10_000
    announce: Callable[[str], object] = _log.info
    open_columns: OpenColumns | None = None

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
            server_time=self.client.server_time(),
        )
