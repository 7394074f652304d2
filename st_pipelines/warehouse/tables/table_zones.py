"""Keeps the time zone of each table's days, in `_st.table_zones`, and moves rows to other days.

A load in a new time zone moves the rows of all tables that its catalog knows. The catalog of
another host may know more. Their tables keep their note of the former zone, and the next load with
a catalog that knows them, of whatever table, moves their rows.
"""

from __future__ import annotations

from collections.abc import Iterable

import duckdb

from st_pipelines.catalog.model import Endpoint, snake_case
from st_pipelines.warehouse.columns import count_changes, local_day_sql, quote
from st_pipelines.warehouse.store.base import ALIAS
from st_pipelines.warehouse.tables.history import SCHEMA as HISTORY
from st_pipelines.warehouse.tables.schema import ensure_table, has_own_table, qualified
from st_pipelines.warehouse.tables.table_load import table_cursor

_ZONES = f"{ALIAS}._st.table_zones"
_COLUMNS = ("environment", "tenant_id", "api", "endpoint", "timezone")


def note_former_zone(
    connection: duckdb.DuckDBPyConnection, *, environment: str, tenant_id: str, timezone: str
) -> None:
    """Notes the zone of all loaded tables that have no note: a version without notes loaded them.

    Args:
        connection: within the transaction that changes the zone.
        environment, tenant_id: whose tables.
        timezone: IANA name of the zone before.
    """
    _ensure_notes(connection)
    connection.execute(
        f"INSERT INTO {_ZONES} SELECT DISTINCT environment, tenant_id, api, endpoint, $timezone "
        f"FROM {ALIAS}._st.loads l WHERE environment = $environment AND tenant_id = $tenant "
        f"AND NOT EXISTS (SELECT 1 FROM {_ZONES} z WHERE z.environment = l.environment "
        "AND z.tenant_id = l.tenant_id AND z.api = l.api AND z.endpoint = l.endpoint)",
        {"environment": environment, "tenant": tenant_id, "timezone": timezone},
    )


def find_tables_in_other_zones(
    connection: duckdb.DuckDBPyConnection,
    endpoints: Iterable[Endpoint],
    loaded: Endpoint,
    *,
    environment: str,
    tenant_id: str,
    timezone: str,
) -> list[Endpoint]:
    """Those of the endpoints whose rows have their days in another zone, or that are to be noted.

    Args:
        connection: with the warehouse attached.
        endpoints: of the catalog.
        loaded: the endpoint of the load. It is among the result also if it has no note yet.
        environment, tenant_id: whose rows.
        timezone: IANA name of the zone that the rows should have.
    """
    own = (loaded.api, loaded.name)
    noted: dict[tuple[str, str], str] = {}
    if has_own_table(connection, "table_zones"):
        rows = connection.execute(
            f"SELECT api, endpoint, timezone FROM {_ZONES} WHERE environment = ? "
            "AND tenant_id = ? AND (timezone <> ? OR (api = ? AND endpoint = ?))",
            [environment, tenant_id, timezone, *own],
        ).fetchall()
        noted = {(api, name): zone for api, name, zone in rows}
    if noted == {own: timezone}:
        return []  # as nearly always: every load asks, and the catalog is long
    known = {(e.api, e.name): e for e in endpoints} | {own: loaded}
    behind = [known[name] for name, zone in noted.items() if zone != timezone and name in known]
    return behind if own in noted else [*behind, loaded]


def move_to_zone(
    connection: duckdb.DuckDBPyConnection,
    endpoints: Iterable[Endpoint],
    *,
    environment: str,
    tenant_id: str,
    timezone: str,
    loaded: Endpoint | None = None,
) -> int:
    """Moves every row that has a cursor to the cursor's local day; returns how many moved.

    Notes the zone of each table, and of `loaded`, whose table may not exist yet.

    Other rows keep the day of their load: an aggregate of a day in another zone is another
    aggregate, and the load log tells that its day has to be read again.
    """
    _ensure_notes(connection)
    moved = 0
    tables = set(
        connection.execute(
            "SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = ?", [ALIAS]
        ).fetchall()
    )
    for endpoint in endpoints:
        exists = (endpoint.api, endpoint.name) in tables
        if not exists and endpoint != loaded:
            continue
        if endpoint.cursor and exists:
            if not _has_cursor(connection, endpoint):  # a newer catalog has another one
                ensure_table(connection, endpoint)
            moved += _move_rows(connection, endpoint, qualified(endpoint), tenant_id, timezone)
            if (HISTORY, endpoint.flat_name) in tables:
                versions = f"{ALIAS}.{HISTORY}.{quote(endpoint.flat_name)}"
                _move_rows(connection, endpoint, versions, tenant_id, timezone)
        owner = [environment, tenant_id, endpoint.api, endpoint.name]
        same = " AND ".join(f"{column} = ?" for column in _COLUMNS[:-1])
        connection.execute(f"DELETE FROM {_ZONES} WHERE {same}", owner)
        connection.execute(f"INSERT INTO {_ZONES} VALUES (?, ?, ?, ?, ?)", [*owner, timezone])
    return moved


def _has_cursor(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint) -> bool:
    top = snake_case((endpoint.cursor or "").split(".")[0])
    return top in connection.sql(f"FROM {qualified(endpoint)} LIMIT 0").columns


def _ensure_notes(connection: duckdb.DuckDBPyConnection) -> None:
    columns = ", ".join(f"{column} VARCHAR" for column in _COLUMNS)
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {ALIAS}._st")
    connection.execute(f"CREATE TABLE IF NOT EXISTS {_ZONES} ({columns})")


def _move_rows(
    connection: duckdb.DuckDBPyConnection,
    endpoint: Endpoint,
    table: str,
    tenant_id: str,
    timezone: str,
) -> int:
    day = local_day_sql(table_cursor(endpoint), timezone)
    return count_changes(
        connection,
        f"UPDATE {table} SET _partition_date = {day} WHERE _tenant_id = ? "
        f"AND {table_cursor(endpoint)} IS NOT NULL AND _partition_date IS DISTINCT FROM {day}",
        [tenant_id],
    )
