"""Finds the days that the warehouse lacks: which tables it holds, and what their loads covered.

Dagster's green partitions do not show that. They know neither which warehouse the rows went into,
nor whether it was restored from a backup since, nor in which time zone the days were.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from st_pipelines.catalog.model import Endpoint
from st_pipelines.config.settings import EnvironmentSettings
from st_pipelines.sync.strategies import strategy_for
from st_pipelines.warehouse.store.base import Store
from st_pipelines.warehouse.tables.coverage import read_coverage, read_loaded_tables
from st_pipelines.warehouse.tables.identity import WarehouseIdentity, read_identity
from st_pipelines.warehouse.tables.load_log import read_sequences, refuse_other_environments
from st_pipelines.windows import Coverage, Days, local_day

DAILY_RUN_TAKES = timedelta(hours=3)
"""After midnight; before that, the loads need not have read yesterday."""


@dataclass(frozen=True, kw_only=True)
class WarehouseState:
    """What a warehouse holds for one tenant.

    Attributes:
        identity: None if nothing was loaded for the tenant.
        loaded: the tables that were loaded, selected or not, and whether without a hole.
        sequences: the numbers of their last loads.
        coverage: of the selected tables, what their loads have read.
    """

    identity: WarehouseIdentity | None = None
    loaded: Mapping[str, bool] = field(default_factory=dict)
    sequences: Mapping[str, int] = field(default_factory=dict)
    coverage: Mapping[str, Coverage] = field(default_factory=dict)

    def find_missing_days(self, endpoint: Endpoint, days: Days) -> list[date]:
        """Returns those of the days that loads of the table have not read completely.

        Args:
            endpoint: is loaded by days.
            days: `open_start` if the first of them includes everything older.
        """
        strategy, coverage = strategy_for(endpoint), self.coverage.get(endpoint.table, Coverage())
        if strategy.is_covered(coverage, days):
            return []
        return [day.first for day in days if not strategy.is_covered(coverage, day)]


def read_warehouse_state(
    store: Store,
    endpoints: Collection[Endpoint],
    *,
    environment: str,
    tenant_id: str,
    now: datetime,
) -> WarehouseState:
    """Reads the state from the warehouse; an empty one if there is none.

    Args:
        store: is opened for a moment, read-only.
        endpoints: those whose coverage is read.
        environment, tenant_id: whose loads count.
        now: aware; loads from later than that do not count.

    Raises:
        WarehouseError: it cannot be read, or holds another environment.
    """
    if not store.exists:
        store.check()
        return WarehouseState()
    owner = {"environment": environment, "tenant_id": tenant_id}
    with store.read_only() as connection:
        refuse_other_environments(connection, environment, schema="_st")
        return WarehouseState(
            identity=read_identity(connection, **owner, schema="_st"),
            loaded=read_loaded_tables(connection, tenant_id),
            sequences=read_sequences(connection, **owner),
            coverage=read_coverage(connection, endpoints, **owner, now=now),
        )


def settled_days(settings: EnvironmentSettings, now: datetime) -> Days | None:
    """Returns the days from the start date to the last that should be loaded; None for none.

    Args:
        now: aware.
    """
    last = local_day(now - DAILY_RUN_TAKES, settings.timezone) - timedelta(days=1)
    if last < settings.start_date:
        return None
    return Days(first=settings.start_date, last=last, timezone=settings.timezone, open_start=True)
