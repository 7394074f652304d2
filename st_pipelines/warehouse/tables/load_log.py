"""The load log: the schema `_st` of the warehouse, with `loads`, `feeds` and `endpoints`.

`loads` has a row per load (window, times, row counts, requests), `feeds` the bookmark of each
export feed, `endpoints` the catalog's description of each table. All are written in the transaction
of the rows, so the log never claims more than the tables hold. Asset checks use earlier rows as
the baseline for a load's row count. `identity` owns the fourth table, `warehouse`.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Collection
from datetime import datetime, timedelta

import duckdb

from st_pipelines.catalog.model import Catalog, Endpoint
from st_pipelines.warehouse.columns import columns_of, fetch_row, literal, quote
from st_pipelines.warehouse.errors import WarehouseReplaced, WarehouseUnusable
from st_pipelines.warehouse.load_spec import LoadSpec
from st_pipelines.warehouse.store.base import ALIAS
from st_pipelines.warehouse.tables.schema import has_own_table, has_table, is_in_warehouse
from st_pipelines.warehouse.tables.table_load import Counts, TableLoad

FRESH = timedelta(hours=36)
"""A window that is read later than this has lost records to later days: no baseline fits it."""

LOOK_BACK = timedelta(days=70)
MIN_WINDOWS = 3

_LOADS = {
    "environment": "VARCHAR",
    "api": "VARCHAR",
    "endpoint": "VARCHAR",
    "tenant_id": "VARCHAR",
    "window_start": "TIMESTAMPTZ",
    "window_end": "TIMESTAMPTZ",
    "rows_read": "BIGINT",
    "rows_inserted": "BIGINT",
    "rows_updated": "BIGINT",
    "rows_unchanged": "BIGINT",
    "rows_deleted": "BIGINT",
    "requests": "BIGINT",
    "bytes": "BIGINT",
    "seconds": "DOUBLE",
    "run_id": "VARCHAR",
    "loaded_at": "TIMESTAMPTZ",
    "table_rows": "BIGINT",
    "sequence": "BIGINT",
}
_FEEDS = {
    "environment": "VARCHAR",
    "api": "VARCHAR",
    "endpoint": "VARCHAR",
    "tenant_id": "VARCHAR",
    "since": "TIMESTAMPTZ",
    "continue_from": "VARCHAR",
    "loaded_at": "TIMESTAMPTZ",
    "sequence": "BIGINT",
}
_ENDPOINTS = {
    "api": "VARCHAR",
    "endpoint": "VARCHAR",
    "table_name": "VARCHAR",
    "kind": "VARCHAR",
    "path": "VARCHAR",
    "export_path": "VARCHAR",
    "scope": "VARCHAR",
    "key": "VARCHAR[]",
    "cursor": "VARCHAR",
    "columns": "JSON",
}
_LOAD_VALUES, _FEED_VALUES, _ENDPOINT_VALUES = (
    ", ".join("?" * len(columns)) for columns in (_LOADS, _FEEDS, _ENDPOINTS)
)
_SAME_TABLE = "environment = ? AND api = ? AND endpoint = ? AND tenant_id = ?"

CHILD_READS = "child_reads"
_ABOUT_TABLES = ("loads", "feeds", CHILD_READS)
"""Tables of `_st` with rows about what was loaded into a table."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReadCost:
    """What a reading took."""

    requests: int
    bytes: int
    seconds: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoadRecord:
    """What a line of `_st.loads` holds besides the `LoadSpec` of the load.

    Attributes:
        rows_read: records of the reading and of the export feed.
        counts: rows by outcome.
        table_rows: live rows of the tenant in the table after the load.
        cost: of the reading.
    """

    rows_read: int
    counts: Counts
    table_rows: int
    cost: ReadCost


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportBookmark:
    """How far the export feed of an endpoint has been read for a tenant.

    Attributes:
        since: from when on it was read without a gap, UTC; None from the beginning.
        continue_from: the token to continue with. A secret in logs.
        loaded_at: when it was received, UTC.
    """

    since: datetime | None
    continue_from: str = dataclasses.field(repr=False)
    loaded_at: datetime


def ensure_load_log(connection: duckdb.DuckDBPyConnection, catalog: Catalog) -> None:
    """Creates `_st`, and fills `_st.endpoints` unless it describes this catalog already."""
    digest = _digest(catalog)
    stored = connection.execute(
        "SELECT comment FROM duckdb_tables() "
        "WHERE database_name = ? AND schema_name = '_st' AND table_name = 'endpoints'",
        [ALIAS],
    ).fetchone()
    if stored == (digest,):
        return
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {ALIAS}._st")
    connection.execute(f"CREATE TABLE IF NOT EXISTS {ALIAS}._st.loads ({_definition(_LOADS)})")
    connection.execute(f"CREATE TABLE IF NOT EXISTS {ALIAS}._st.feeds ({_definition(_FEEDS)})")
    for table, columns in (("loads", _LOADS), ("feeds", _FEEDS)):
        for name, type_ in columns.items():  # the log may be from an earlier version
            connection.execute(
                f"ALTER TABLE {ALIAS}._st.{table} ADD COLUMN IF NOT EXISTS {quote(name)} {type_}"
            )
    connection.execute(f"CREATE OR REPLACE TABLE {ALIAS}._st.endpoints ({_definition(_ENDPOINTS)})")
    connection.executemany(
        f"INSERT INTO {ALIAS}._st.endpoints VALUES ({_ENDPOINT_VALUES})",
        [_endpoint_row(endpoint) for endpoint in catalog],
    )
    connection.execute(f"COMMENT ON TABLE {ALIAS}._st.endpoints IS {literal(digest)}")


def refuse_other_environments(
    connection: duckdb.DuckDBPyConnection, environment: str, *, schema: str = f"{ALIAS}._st"
) -> None:
    """Checks that the file holds no other environment: there, the same ids mean other records.

    Args:
        connection: with the warehouse attached, or to the warehouse itself.
        environment: the environment to load.
        schema: of the load log; `_st` for a connection to the warehouse itself.

    Raises:
        WarehouseUnusable: another environment was loaded into it.
    """
    if not has_own_table(connection, "loads"):
        return
    other = connection.execute(
        f"SELECT environment FROM {schema}.loads WHERE environment <> ? LIMIT 1", [environment]
    ).fetchone()
    if other:
        raise WarehouseUnusable(
            f"this warehouse holds the tables of {other[0]}: {environment} needs a file of its own,"
            f" see ST_{environment.upper()}_WAREHOUSE and ST_WAREHOUSE_DIR"
        )


def read_last_sequence(
    connection: duckdb.DuckDBPyConnection,
    endpoint: Endpoint,
    spec: LoadSpec,
    *,
    schema: str = f"{ALIAS}._st",
) -> int:
    """The number of the table's last load for the tenant; 0 before the first numbered one.

    Args:
        connection: with the warehouse attached, or to the warehouse itself.
        endpoint, spec: whose loads.
        schema: of the load log; `_st` for a connection to the warehouse itself.
    """
    if not is_numbered(connection):
        return 0
    return fetch_row(
        connection,
        f"SELECT coalesce(max(sequence), 0) FROM {schema}.loads WHERE {_SAME_TABLE}",
        [spec.environment, endpoint.api, endpoint.name, spec.tenant_id],
    )[0]


def read_load_name(
    connection: duckdb.DuckDBPyConnection,
    endpoint: Endpoint,
    spec: LoadSpec,
    number: int,
    *,
    schema: str = f"{ALIAS}._st",
) -> str | None:
    """What tells a load of the table from another one of the same number; None if it is not there.

    Args:
        connection: with the warehouse attached, or to the warehouse itself.
        endpoint, spec: whose loads.
        number: of the load.
        schema: of the load log; `_st` for a connection to the warehouse itself.
    """
    if number < 1 or not is_numbered(connection):
        return None
    row = connection.execute(
        f"SELECT concat_ws(' ', run_id, epoch_us(loaded_at), requests, bytes, seconds) "
        f"FROM {schema}.loads WHERE {_SAME_TABLE} AND sequence = ?",
        [spec.environment, endpoint.api, endpoint.name, spec.tenant_id, number],
    ).fetchone()
    return row[0] if row else None


def refuse_replaced(
    connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, spec: LoadSpec
) -> None:
    """Checks that the warehouse still holds the load that the read follows.

    Raises:
        WarehouseReplaced: it was restored or replaced while the read went on.
    """
    if spec.follows is None:
        return
    if read_load_name(connection, endpoint, spec, spec.sequence - 1) != spec.follows:
        raise WarehouseReplaced(endpoint.table)


def forget_loads(
    connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, environment: str
) -> None:
    """Deletes what `_st` says of the loads of a table, of all tenants: someone has dropped it.

    Otherwise days, an export feed and parents would count as read whose rows are gone.

    Args:
        connection: with the warehouse attached, in the transaction that creates the table again.
        endpoint: of the table.
        environment: whose loads.
    """
    for table in _ABOUT_TABLES:
        if has_own_table(connection, table):
            connection.execute(
                f"DELETE FROM {ALIAS}._st.{table} "
                "WHERE environment = ? AND api = ? AND endpoint = ?",
                [environment, endpoint.api, endpoint.name],
            )


def read_overtakers(load: TableLoad) -> list[tuple[datetime | None, datetime | None]]:
    """The windows of the loads that committed since the read of this one started.

    Also those beyond its own window, as the export feed and lookups find rows anywhere. Both bounds
    are None for a load of everything.
    """
    return load.connection.execute(
        f"SELECT window_start, window_end FROM {ALIAS}._st.loads WHERE {_SAME_TABLE} "
        "AND sequence >= ?",
        [*_identity(load), load.spec.sequence],
    ).fetchall()


def select_loads_within(load: TableLoad) -> str:
    """SQL for the numbers of earlier loads whose windows lie within the load's; it has an end."""
    spec, endpoint = load.spec, load.endpoint
    owner = {
        "environment": spec.environment,
        "api": endpoint.api,
        "endpoint": endpoint.name,
        "tenant_id": spec.tenant_id,
    }
    conditions = [f"{column} = {literal(value)}" for column, value in owner.items()]
    conditions += [f"window_end <= TIMESTAMPTZ {literal(str(spec.window_end))}"]
    if spec.window_start is not None:
        conditions += [f"window_start >= TIMESTAMPTZ {literal(str(spec.window_start))}"]
    return (
        f"SELECT sequence FROM {ALIAS}._st.loads WHERE sequence IS NOT NULL "
        f"AND {' AND '.join(conditions)}"
    )


def write_load_record(load: TableLoad, record: LoadRecord) -> None:
    """Adds a line to `_st.loads`."""
    spec, counts = load.spec, record.counts
    line = {
        "window_start": spec.window_start,
        "window_end": spec.window_end,
        "rows_read": record.rows_read,
        "rows_inserted": counts.inserted,
        "rows_updated": counts.updated,
        "rows_unchanged": counts.unchanged,
        "rows_deleted": counts.deleted,
        "requests": record.cost.requests,
        "bytes": record.cost.bytes,
        "seconds": record.cost.seconds,
        "run_id": spec.run_id,
        "loaded_at": spec.loaded_at,
        "table_rows": record.table_rows,
        "sequence": load.number,
    }
    load.connection.execute(
        f"INSERT INTO {ALIAS}._st.loads ({', '.join(_LOADS)}) VALUES ({_LOAD_VALUES})",
        [*_identity(load), *line.values()],
    )


def read_sequences(
    connection: duckdb.DuckDBPyConnection, *, environment: str, tenant_id: str
) -> dict[str, int]:
    """The number of the last load of each table that was loaded; 0 before the first numbered one.

    Args:
        connection: to the warehouse itself.
        environment, tenant_id: whose loads count.
    """
    if not has_own_table(connection, "loads"):
        return {}
    last = "coalesce(max(sequence), 0)" if is_numbered(connection) else "0"
    rows = connection.execute(
        f"SELECT api || '.' || endpoint, {last} FROM _st.loads "
        "WHERE environment = ? AND tenant_id = ? GROUP BY 1",
        [environment, tenant_id],
    ).fetchall()
    return dict(rows)


def read_future_loads(
    connection: duckdb.DuckDBPyConnection, *, environment: str, tenant_id: str, now: datetime
) -> dict[str, datetime]:
    """The tables with loads from later than now, and when the latest of them claims to be, UTC.

    Args:
        connection: to the warehouse itself.
        environment, tenant_id: whose loads count.
        now: aware.
    """
    if not has_own_table(connection, "loads"):
        return {}
    rows = connection.execute(
        "SELECT api || '.' || endpoint, max(greatest(loaded_at, window_end)) AS latest "
        "FROM _st.loads WHERE environment = ? AND tenant_id = ? GROUP BY 1 "
        "HAVING latest > ?::TIMESTAMPTZ ORDER BY 1",
        [environment, tenant_id, now],
    ).fetchall()
    return dict(rows)


def read_windows(
    connection: duckdb.DuckDBPyConnection,
    endpoint: Endpoint,
    *,
    environment: str,
    tenant_id: str,
    run_ids: Collection[str] | None = None,
) -> dict[tuple[datetime, datetime], datetime]:
    """The windows with a start that were loaded, and when each was loaded last, UTC.

    There are none once the table is gone.
    Of several windows with one start, only that of the last load counts: it replaced the others.

    Args:
        connection: to the warehouse itself.
        endpoint: whose loads.
        environment, tenant_id: whose loads count.
        run_ids: only loads of these runs; None for all.
    """
    if not has_own_table(connection, "loads") or not is_in_warehouse(connection, endpoint):
        return {}
    of_runs = "" if run_ids is None else "AND list_contains(?, run_id) "
    order = "sequence NULLS FIRST, rowid" if is_numbered(connection) else "rowid"
    rows = connection.execute(
        "SELECT window_start, window_end, max(loaded_at) FROM ("
        "SELECT *, last(window_end) OVER (PARTITION BY window_start "
        f"ORDER BY {order} ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) AS last_end "
        f"FROM _st.loads WHERE {_SAME_TABLE} AND window_start IS NOT NULL) "
        f"WHERE window_end = last_end {of_runs}GROUP BY ALL",
        [environment, endpoint.api, endpoint.name, tenant_id]
        + ([] if run_ids is None else [list(run_ids)]),
    ).fetchall()
    return {(start, end): loaded_at for start, end, loaded_at in rows}


def read_bookmark(load: TableLoad) -> ExportBookmark | None:
    """The bookmark that `write_bookmark` stored last; None before the first."""
    if not has_table(load.connection, "_st", "feeds"):
        return None
    row = load.connection.execute(
        f"SELECT since, continue_from, loaded_at FROM {ALIAS}._st.feeds WHERE {_SAME_TABLE}",
        _identity(load),
    ).fetchone()
    return ExportBookmark(since=row[0], continue_from=row[1], loaded_at=row[2]) if row else None


def write_bookmark(load: TableLoad, bookmark: ExportBookmark) -> None:
    """Stores a bookmark in `_st.feeds`, in the transaction of the rows before it.

    The bookmark of a load that committed since this read started is kept.
    """
    identity = _identity(load)
    later = f"SELECT count(*) FROM {ALIAS}._st.feeds WHERE {_SAME_TABLE} AND sequence >= ?"
    if fetch_row(load.connection, later, [*identity, load.spec.sequence])[0]:
        return
    load.connection.execute(f"DELETE FROM {ALIAS}._st.feeds WHERE {_SAME_TABLE}", identity)
    load.connection.execute(
        f"INSERT INTO {ALIAS}._st.feeds ({', '.join(_FEEDS)}) VALUES ({_FEED_VALUES})",
        [*identity, bookmark.since, bookmark.continue_from, bookmark.loaded_at, load.number],
    )


def read_previous_row_count(load: TableLoad) -> int | None:
    """Live rows of the table after the previous load; None where the log has none."""
    row = load.connection.execute(
        f"SELECT table_rows FROM {ALIAS}._st.loads WHERE {_SAME_TABLE} "
        "AND table_rows IS NOT NULL ORDER BY sequence DESC NULLS LAST, rowid DESC LIMIT 1",
        _identity(load),
    ).fetchone()
    return row[0] if row else None


def read_usual_row_count(load: TableLoad) -> float | None:
    """Median of the records in comparable windows: as long, of the same weekday, and as fresh.

    Returns:
        None unless the window is fresh and at least `MIN_WINDOWS` others are comparable.
    """
    spec = load.spec
    start, end = spec.window_start, spec.window_end
    if start is None or end is None or spec.loaded_at - end > FRESH:
        return None
    weekday = "dayofweek(timezone(?, {}::TIMESTAMPTZ))"
    rows, windows = load.connection.execute(
        "SELECT median(rows), count(*) FROM ("
        f"SELECT max(rows_read) AS rows FROM {ALIAS}._st.loads WHERE {_SAME_TABLE} "
        "AND window_start >= ? AND window_start < ? "
        "AND abs(epoch(window_end) - epoch(window_start) - ?) <= 7200 "
        f"AND {weekday.format('window_start')} = {weekday.format('?')} "
        "AND loaded_at - window_end <= ? GROUP BY window_start)",
        [
            *_identity(load),
            start - LOOK_BACK,
            start,
            (end - start).total_seconds(),
            spec.timezone,
            spec.timezone,
            start,
            FRESH,
        ],
    ).fetchall()[0]
    return rows if windows >= MIN_WINDOWS else None


def is_numbered(connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether the load log numbers its loads; a file of an earlier version does not."""
    numbered = (
        "SELECT 1 FROM duckdb_columns() WHERE schema_name = '_st' AND table_name = 'loads' "
        "AND column_name = 'sequence'"
    )
    return connection.execute(numbered).fetchone() is not None


def _identity(load: TableLoad) -> list[str]:
    """The values of `_SAME_TABLE`, and of the first columns of `loads` and `feeds`."""
    endpoint, spec = load.endpoint, load.spec
    return [spec.environment, endpoint.api, endpoint.name, spec.tenant_id]


@functools.lru_cache(maxsize=4)
def _digest(catalog: Catalog) -> str:
    """Of the log's columns and the catalog: the log is set up again where it differs."""
    columns = [list(_LOADS), list(_FEEDS), list(_ENDPOINTS)]
    text = json.dumps([columns, *(_endpoint_row(endpoint) for endpoint in catalog)])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _endpoint_row(endpoint: Endpoint) -> list[object]:
    return [
        endpoint.api,
        endpoint.name,
        endpoint.table,
        endpoint.kind,
        endpoint.path,
        endpoint.export.path if endpoint.export else None,
        endpoint.scope,
        list(endpoint.key),
        endpoint.cursor,
        json.dumps(columns_of(endpoint)),
    ]


def _definition(columns: dict[str, str]) -> str:
    return ", ".join(f"{quote(name)} {type_}" for name, type_ in columns.items())
