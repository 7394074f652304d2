"""Reads from the load log what the loads of a table have covered: the union of their windows.

A day is complete if the coverage contains it. Dagster's green partitions cannot show that: they
know neither which file the rows went into, nor which loads reached back to the beginning.

- A load of everything, and one whose window ended at the moment of the load, cover the time up to
  `SETTLING` before it: a record may be committed minutes after its `modifiedOn`. Daily loads run
  long after the midnight that ends their window, and cover all of it.
- Loads of a table that was dropped since count for nothing, as their rows are gone.
- A load dated in the future counts for nothing: its clock was ahead, and its true time is unknown.
- Windows of a daily aggregate are never joined: two half days do not add up to that day's figures.
  A load replaces the rows of its day, so only the last one counts. Days of two time zones that
  begin within `_SAME_DAY` of each other may replace each other's rows, so there, too, only the last
  one counts.
"""

from __future__ import annotations

from collections.abc import Collection, Set
from datetime import datetime, timedelta

import duckdb

from st_pipelines.catalog.model import Endpoint
from st_pipelines.warehouse.columns import literal
from st_pipelines.warehouse.tables.load_log import is_numbered
from st_pipelines.windows import Coverage, Window

SETTLING = timedelta(hours=1)
"""How long a record may take from its `modifiedOn` until lists serve it."""

_CLOSED_AT_LOAD = timedelta(minutes=1)
"""A window that ends at most this long before its load was closed at the load's own moment."""

_SAME_DAY = timedelta(hours=22, minutes=59)
"""Less than the shortest day in any time zone: two days of one zone begin further apart."""

_LOAD_LOG = "_st.loads"

# Comparing the parts first is five times faster than joining them for every load.
_TABLES = (
    "list_contains($apis, api) AND list_contains($names, endpoint) "
    "AND list_contains($tables, api || '.' || endpoint)"
)
_LOADS = """
    SELECT api || '.' || endpoint AS name, window_start AS since,
        window_start IS NULL AS from_start,
        CASE WHEN window_end IS NULL OR loaded_at - window_end < {closed}
            THEN coalesce(window_end, loaded_at) - {settling} ELSE window_end END AS until
    FROM {schema}.loads
    WHERE environment = $environment AND tenant_id = $tenant AND {tables}
        AND coalesce(window_end, loaded_at) <= $now AND loaded_at <= $now
"""
_DAYS = """
    SELECT name, window_start, window_end FROM (
        SELECT *, max(number) OVER (PARTITION BY name ORDER BY window_start
            RANGE BETWEEN {near} PRECEDING AND {near} FOLLOWING) AS last
        FROM (
            SELECT api || '.' || endpoint AS name, window_start, window_end, loaded_at,
                row_number() OVER (ORDER BY {{sequence}} NULLS FIRST, rowid) AS number
            FROM {{schema}}.loads WHERE environment = $environment AND tenant_id = $tenant
                AND {tables} AND window_start IS NOT NULL))
    WHERE number = last AND window_end <= $now AND loaded_at <= $now ORDER BY 1, 2
"""
_ISLANDS = """
    SELECT name, CASE WHEN NOT bool_or(from_start) THEN min(since) END, max(until) FROM (
        SELECT *, sum(begins::INTEGER) OVER (PARTITION BY name ORDER BY {order}) AS island FROM (
            SELECT *, coalesce(since > max(until) OVER (
                PARTITION BY name ORDER BY {order}
                ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), false) AS begins
            FROM ({loads}) WHERE since IS NULL OR since < until))
    GROUP BY name, island ORDER BY 1, 2 NULLS FIRST
"""
_ORDER = "NOT from_start, since, until"


def read_coverage(
    connection: duckdb.DuckDBPyConnection,
    endpoints: Collection[Endpoint],
    *,
    environment: str,
    tenant_id: str,
    now: datetime,
    schema: str = "_st",
) -> dict[str, Coverage]:
    """Returns the coverage of each table; an empty one where nothing was loaded.

    Args:
        connection: has the load log, whose session is in UTC.
        endpoints: the tables to look at.
        environment, tenant_id: whose loads count.
        now: aware, at most the server's time; loads from later than `now` do not count.
        schema: of the load log, with the database where it is attached.
    """
    coverage = {endpoint.table: Coverage() for endpoint in endpoints}
    tables = _list_tables(connection)
    if _LOAD_LOG not in tables:
        return coverage
    present = [endpoint for endpoint in endpoints if endpoint.table in tables]
    values = {"environment": environment, "tenant": tenant_id, "now": now}
    for by_day in (False, True):
        if chosen := [endpoint.table for endpoint in present if endpoint.by_day == by_day]:
            sequence = "sequence" if is_numbered(connection) else "0"
            sql = _build_query(by_day).format(schema=schema, sequence=sequence)
            coverage |= _read_windows(connection, sql, values | _table_values(chosen))
    return coverage


def read_loaded_tables(connection: duckdb.DuckDBPyConnection, tenant_id: str) -> dict[str, bool]:
    """The tables that were loaded, and whether from their beginning without a hole.

    Args:
        connection: to the warehouse itself.
        tenant_id: whose loads count.
    """
    existing = _list_tables(connection)
    if _LOAD_LOG not in existing:
        return {}
    loaded = (
        "SELECT DISTINCT environment, api || '.' || endpoint FROM _st.loads WHERE tenant_id = ?"
    )
    rows = [row for row in connection.execute(loaded, [tenant_id]).fetchall() if row[1] in existing]
    sql, found = _build_query(by_day=False).format(schema="_st"), {}
    for environment in {row[0] for row in rows}:
        tables = [name for of, name in rows if of == environment]
        values = {"environment": environment, "tenant": tenant_id, "now": datetime.max}
        found |= _read_windows(connection, sql, values | _table_values(tables))
    return {name: name in found and _is_unbroken(found[name]) for _, name in rows}


def _list_tables(connection: duckdb.DuckDBPyConnection) -> Set[str]:
    rows = connection.execute("SELECT schema_name || '.' || table_name FROM duckdb_tables()")
    return {name for (name,) in rows.fetchall()}


def _is_unbroken(coverage: Coverage) -> bool:
    return coverage.from_the_beginning and len(coverage.windows) == 1


def _read_windows(
    connection: duckdb.DuckDBPyConnection, sql: str, values: dict[str, object]
) -> dict[str, Coverage]:
    found: dict[str, list[Window]] = {}
    for table, start, end in connection.execute(sql, values).fetchall():
        found.setdefault(table, []).append(Window(start=start, end=end))
    return {table: Coverage(tuple(windows)) for table, windows in found.items()}


def _table_values(tables: list[str]) -> dict[str, object]:
    parts = [table.split(".", 1) for table in tables]
    apis, names = ({part[index] for part in parts} for index in (0, 1))
    return {"tables": tables, "apis": list(apis), "names": list(names)}


def _build_query(by_day: bool) -> str:
    """SQL for table, start and end of each covered window; `{schema}` is left to fill in.

    For aggregates by day `{sequence}` is left too.
    """
    if by_day:
        return _DAYS.format(near=_interval(_SAME_DAY), tables=_TABLES)
    loads = _LOADS.format(
        closed=_interval(_CLOSED_AT_LOAD),
        settling=_interval(SETTLING),
        schema="{schema}",
        tables=_TABLES,
    )
    return _ISLANDS.format(order=_ORDER, loads=loads)


def _interval(span: timedelta) -> str:
    return f"INTERVAL {literal(f'{int(span.total_seconds())} seconds')}"
