"""Opens an environment for scripts and commands: its connections and the operations on them.

`connect` is public as `st_pipelines.connect`. Dagster's runs build their `SyncContext` from their
resources instead (`defs.assets`).
"""

from __future__ import annotations

import dataclasses
import difflib
import logging
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import date
from typing import TYPE_CHECKING

from st_pipelines.catalog.model import Endpoint
from st_pipelines.config.connection import build_connection
from st_pipelines.config.environments import environment_name
from st_pipelines.config.project import EnvironmentConfig, resolve_environment
from st_pipelines.servicetitan.http.client import Client
from st_pipelines.sync.context import LoadReport, SyncContext
from st_pipelines.sync.open_columns import OpenColumns
from st_pipelines.sync.strategies import strategy_for
from st_pipelines.sync.sync import extract_load, reconcile
from st_pipelines.sync.verify import Verified, verify_table
from st_pipelines.windows import Days

if TYPE_CHECKING:
    import pandas as pd

_log = logging.getLogger(__name__)


@contextmanager
def sync_context(
    config: EnvironmentConfig,
    purpose: str,
    *,
    writes: bool = True,
    accept_deletions: bool = False,
    announce: Callable[[str], object] | None = None,
) -> Iterator[SyncContext]:
    """Opens the connections of an environment for as long as the context lasts.

    Args:
        purpose: the run id starts with it, such as `verify-3f2a9c01`.
        writes: False if nothing is loaded, so that a wrong `ST_HISTORY` does not matter.
        accept_deletions: also load what deletes a large part of a table.
        announce: called with what a load of a child list will cost; logged if None.

    Raises:
        SettingsError: a setting is missing or wrong.
    """
    with closing(Client(build_connection(config))) as client:
        yield SyncContext(
            client=client,
            warehouse=config.open_store(),
            timezone=config.settings.timezone,
            timezone_is_default=config.settings.timezone_is_default,
            start_date=config.settings.start_date,
            run_id=f"{purpose}-{uuid.uuid4().hex[:8]}",
            catalog=config.catalog,
            history=config.history_tables if writes else frozenset(),
            accept_deletions=accept_deletions,
            max_child_requests=config.max_child_requests,
            announce=announce or _log.info,
            open_columns=OpenColumns(file=config.additions_file, base=config.base_catalog),
        )


class Session:
    """An open environment. Use it in a `with` block, or call `close`.

    Dagster does not know about loads made here. Its sensors and partitions stay as they are.

    Attributes:
        context: the client, the warehouse and the like, for functions of `sync`.
    """

    def __init__(self, environment: str) -> None:
        """Opens the environment. Raises SettingsError if a setting is missing or wrong."""
        self._stack = ExitStack()
        config = resolve_environment(environment_name(environment))
        self.context = self._stack.enter_context(sync_context(config, "session"))
        self._start_date = config.settings.start_date

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections to ServiceTitan."""
        self._stack.close()

    def load(
        self,
        table: str,
        first: date | str | None = None,
        last: date | str | None = None,
        *,
        accept_deletions: bool = False,
    ) -> LoadReport:
        """Loads a table for a range of days, or whole where ServiceTitan has no days for it.

        Args:
            table: such as `jpm.jobs`.
            first, last: the local days to load, as dates or `YYYY-MM-DD`; omit both for a snapshot.
                Everything older is loaded too if the range begins at the environment's start date
                or before.
            accept_deletions: also load what deletes a large part of the table.

        Raises:
            ValueError: there is no such table, or the days do not suit it.
            ServiceTitanError: it could not be read completely; nothing was loaded.
            WarehouseError: it could not be written; nothing was loaded.
        """
        endpoint = self._find(table)
        context = dataclasses.replace(self.context, accept_deletions=accept_deletions)
        return extract_load(context, endpoint, self._days(endpoint, first, last))

    def reconcile(self, table: str, *, accept_deletions: bool = False) -> LoadReport | None:
        """Reads a whole table and marks rows that ServiceTitan no longer has as deleted.

        Args:
            table: such as `jpm.jobs`.
            accept_deletions: also mark a large part of the table as deleted.

        Returns:
            None for an aggregate by day, where nothing can be deleted.

        Raises:
            ValueError: there is no such table.
            ServiceTitanError: it could not be read completely; nothing was loaded.
            WarehouseError: it could not be written; nothing was loaded.
        """
        context = dataclasses.replace(self.context, accept_deletions=accept_deletions)
        return reconcile(context, self._find(table))

    def verify(self, table: str, days: int | None = None, deep: bool = False) -> Verified:
        """Compares a table with ServiceTitan and returns the differences; writes nothing.

        Args:
            table: such as `jpm.jobs`.
            days: compare only this many last days, today included; None compares everything.
            deep: also read the export feed, if there is one, and compare what only the feed serves.

        Raises:
            ValueError: there is no such table.
            ServiceTitanError: it could not be read.
            WarehouseError: there is no warehouse yet, or another process holds it.
        """
        return verify_table(self.context, self._find(table), days=days, deep=deep)

    def query(self, sql: str) -> pd.DataFrame:
        """Runs a query on the warehouse, read-only.

        Raises:
            WarehouseError: there is no warehouse yet, or another process holds it.
        """
        self.context.require_warehouse()
        with self.context.warehouse.read_only() as connection:
            return connection.execute(sql).df()

    def _find(self, table: str) -> Endpoint:
        tables = self.context.catalog.endpoints
        if table in tables:
            return tables[table]
        near = difflib.get_close_matches(table, tables, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else "see st-pipelines endpoints"
        raise ValueError(f"no table {table!r}: {hint}")

    def _days(
        self, endpoint: Endpoint, first: date | str | None, last: date | str | None
    ) -> Days | None:
        if not strategy_for(endpoint).partitioned:
            if first is not None or last is not None:
                raise ValueError(f"{endpoint.table} is always loaded whole: omit the days")
            return None
        if first is None or last is None:
            raise ValueError(f"{endpoint.table} is loaded by days: give the first and the last")
        first_day = _as_date(first)
        return Days(
            first=first_day,
            last=_as_date(last),
            timezone=self.context.timezone,
            open_start=first_day <= self._start_date,
        )


def connect(environment: str) -> Session:
    """Opens an environment for a script or notebook.

    Args:
        environment: `production`, `integration` or `sandbox`.

    Raises:
        SettingsError: a setting is missing or wrong; the message names it.
    """
    return Session(environment)


def _as_date(day: date | str) -> date:
    try:
        return date.fromisoformat(day) if isinstance(day, str) else day
    except ValueError:
        raise ValueError(f"{day!r} is not a date: write it as YYYY-MM-DD") from None
