"""Book-keeping in the schema `_st`: what was loaded, when, from where; and what the tables are.

A load's line is written in the transaction of its rows, so the books never claim more than the
tables hold.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from datetime import datetime

import duckdb

from st_pipelines.catalog.model import Catalog, Endpoint
from st_pipelines.warehouse.columns import columns_of, literal, quote
from st_pipelines.warehouse.errors import WarehouseUnusable
from st_pipelines.warehouse.store.base import ALIAS
from st_pipelines.warehouse.tables.schema import has_table

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
}
_FEEDS = {
    "environment": "VARCHAR",
    "api": "VARCHAR",
    "endpoint": "VARCHAR",
    "tenant_id": "VARCHAR",
    "since": "TIMESTAMPTZ",
    "continue_from": "VARCHAR",
    "loaded_at": "TIMESTAMPTZ",
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoadRecord:
    """One line of `_st.loads`. Times are UTC; `window_start` is None where the window is open.

    `table_rows` are those that the table then held for the tenant, deleted ones left out.
    """

    environment: str
    api: str
    endpoint: str
    tenant_id: str
    window_start: datetime | None
    window_end: datetime | None
    rows_read: int
    rows_inserted: int
    rows_updated: int
    rows_unchanged: int
    rows_deleted: int
    requests: int
    bytes: int
    seconds: float
    run_id: str
    loaded_at: datetime
    table_rows: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportBookmark:
    """How far the export feed of an endpoint has been read for a tenant.

    Attributes:
        since: from when on it was read without a gap, UTC; None from the beginning.
        continue_from: the token to go on with.
        loaded_at: when that was, UTC.
    """

    since: datetime | None
    continue_from: str = dataclasses.field(repr=False)
    loaded_at: datetime


def ensure_load_log(connection: duckdb.DuckDBPyConnection, catalog: Catalog) -> None:
    """Creates `_st`, and fills `_st.endpoints` where it is not of this catalogue."""
    edition = _edition(catalog)
    if _present_edition(connection) == edition:
        return
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {ALIAS}._st")
    connection.execute(f"CREATE TABLE IF NOT EXISTS {ALIAS}._st.loads ({_body(_LOADS)})")
    connection.execute(f"CREATE TABLE IF NOT EXISTS {ALIAS}._st.feeds ({_body(_FEEDS)})")
    for name, type_ in _LOADS.items():  # those of a warehouse that an earlier version made
        connection.execute(
            f"ALTER TABLE {ALIAS}._st.loads ADD COLUMN IF NOT EXISTS {quote(name)} {type_}"
        )
    connection.execute(f"CREATE OR REPLACE TABLE {ALIAS}._st.endpoints ({_body(_ENDPOINTS)})")
    connection.executemany(
        f"INSERT INTO {ALIAS}._st.endpoints VALUES ({_marks(_ENDPOINTS)})",
        [_endpoint_row(endpoint) for endpoint in catalog],
    )
    connection.execute(f"COMMENT ON TABLE {ALIAS}._st.endpoints IS {literal(edition)}")


def _present_edition(connection: duckdb.DuckDBPyConnection) -> str | None:
    row = connection.execute(
        "SELECT comment FROM duckdb_tables() "
        "WHERE database_name = ? AND schema_name = '_st' AND table_name = 'endpoints'",
        [ALIAS],
    ).fetchone()
    return row[0] if row else None


@functools.lru_cache(maxsize=4)
def _edition(catalog: Catalog) -> str:
    text = json.dumps([_BOOKS, *(_endpoint_row(endpoint) for endpoint in catalog)])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def refuse_other_environments(
    connection: duckdb.DuckDBPyConnection, environment: str, *, schema: str = f"{ALIAS}._st"
) -> None:
    """Each environment has a file of its own: their ids mean different records.

    Args:
        connection: with the warehouse attached, or to itself.
        environment: that is to be loaded.
        schema: of the books; `_st` for a connection to the warehouse itself.

    Raises:
        WarehouseUnusable: the file was filled from another one.
    """
    if not _has_loads(connection):
        return
    other = connection.execute(
        f"SELECT environment FROM {schema}.loads WHERE environment <> ? LIMIT 1", [environment]
    ).fetchone()
    if other:
        raise WarehouseUnusable(
            f"this warehouse holds the tables of {other[0]}: {environment} needs a file of its own,"
            f" see ST_{environment.upper()}_WAREHOUSE and ST_WAREHOUSE_DIR"
        )


def write_load_record(connection: duckdb.DuckDBPyConnection, entry: LoadRecord) -> None:
    """Adds a line to `_st.loads`."""
    connection.execute(
        f"INSERT INTO {ALIAS}._st.loads VALUES ({_marks(_LOADS)})",
        [getattr(entry, name) for name in _LOADS],
    )


def loaded_from_the_beginning(
    connection: duckdb.DuckDBPyConnection, tenant_id: str
) -> dict[str, bool]:
    """The tables that were loaded, and whether any load had a window without a start.

    Args:
        connection: to the warehouse itself, such as `Store.read_only` gives.
        tenant_id: whose loads.
    """
    if not _has_loads(connection):
        return {}
    rows = connection.execute(
        "SELECT api || '.' || endpoint, bool_or(window_start IS NULL) FROM _st.loads "
        "WHERE tenant_id = ? GROUP BY 1",
        [tenant_id],
    ).fetchall()
    return dict(rows)


def _has_loads(connection: duckdb.DuckDBPyConnection) -> bool:
    there = "SELECT 1 FROM duckdb_tables() WHERE schema_name = '_st' AND table_name = 'loads'"
    return connection.execute(there).fetchone() is not None


def read_bookmark(
    connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, environment: str, tenant_id: str
) -> ExportBookmark | None:
    """The place that `write_place` noted last; None before the first."""
    if not has_table(connection, "_st", "feeds"):
        return None
    row = connection.execute(
        f"SELECT since, continue_from, loaded_at FROM {ALIAS}._st.feeds WHERE {_WHOSE}",
        [environment, endpoint.api, endpoint.name, tenant_id],
    ).fetchone()
    return ExportBookmark(since=row[0], continue_from=row[1], loaded_at=row[2]) if row else None


def write_bookmark(
    connection: duckdb.DuckDBPyConnection,
    endpoint: Endpoint,
    environment: str,
    tenant_id: str,
    place: ExportBookmark,
) -> None:
    """Notes a place in `_st.feeds`, in the transaction of the rows up to it."""
    whose = [environment, endpoint.api, endpoint.name, tenant_id]
    connection.execute(f"DELETE FROM {ALIAS}._st.feeds WHERE {_WHOSE}", whose)
    connection.execute(
        f"INSERT INTO {ALIAS}._st.feeds VALUES ({_marks(_FEEDS)})",
        [*whose, place.since, place.continue_from, place.loaded_at],
    )


_BOOKS = [list(_LOADS), list(_FEEDS), list(_ENDPOINTS)]
_WHOSE = "environment = ? AND api = ? AND endpoint = ? AND tenant_id = ?"


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


def _body(columns: dict[str, str]) -> str:
    return ", ".join(f"{quote(name)} {type_}" for name, type_ in columns.items())


def _marks(columns: dict[str, str]) -> str:
    return ", ".join("?" for _ in columns)
