"""Every version of a row that was seen, in `history.<api>_<endpoint>`.

It is written inside the load's transaction, after the merge. A row has one version that is open
(`valid_to` is NULL) while it is there, and none while it is deleted. `valid_from` is the time of
the change that made the version, as ServiceTitan tells it, or the load's where that does not tell
(no cursor, or one that did not move).
"""

from __future__ import annotations

import duckdb

from st_pipelines.catalog.model import Endpoint
from st_pipelines.warehouse.columns import (
    EXTRA,
    OWN_COLUMNS,
    count_changes,
    fetch_row,
    literal,
    quote,
)
from st_pipelines.warehouse.staging.typed_rows import LoadSpec
from st_pipelines.warehouse.store.base import ALIAS
from st_pipelines.warehouse.tables.row_scope import lacks_key, same_key, table_cursor
from st_pipelines.warehouse.tables.schema import ensure_columns, qualified

SCHEMA = "history"
_OWN_COLUMNS = {name: type_ for name, type_ in OWN_COLUMNS.items() if name != "_deleted_at"} | {
    "valid_from": "TIMESTAMPTZ",
    "valid_to": "TIMESTAMPTZ",
}


def record_versions(
    connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, load: LoadSpec
) -> None:
    """Adds the versions that this load made, and closes those that it ended.

    The first time, every row that is in the table is a version.
    """
    ensure_columns(connection, endpoint, SCHEMA, endpoint.flat_name, _OWN_COLUMNS)
    history = f"{ALIAS}.{SCHEMA}.{quote(endpoint.flat_name)}"
    tenant = [load.tenant_id]
    match = f"h._tenant_id = t._tenant_id AND {same_key(endpoint, 'h', 't')}"
    if not fetch_row(connection, f"SELECT count(*) FROM {history} WHERE _tenant_id = ?", tenant)[0]:
        first = f"coalesce({table_cursor(endpoint, 't')}, {_time(load.loaded_at)})"
        there = f"t._tenant_id = ? AND t._deleted_at IS NULL AND NOT ({lacks_key(endpoint, 't')})"
        connection.execute(_insertion(endpoint, history, first) + f" WHERE {there}", tenant)
        return
    if not _find_touched(connection, endpoint, load, f"{history} h ON {match}"):
        return
    connection.execute(
        f"UPDATE {history} h SET valid_to = greatest(t._deleted_at, h.valid_from) "
        f"FROM {qualified(endpoint)} t SEMI JOIN touched ON row = t.rowid "
        f"WHERE {match} AND h.valid_to IS NULL AND t._deleted_at IS NOT NULL"
    )
    _find_new_versions(connection, endpoint, load, f"{history} h ON {match}")
    connection.execute(
        f"UPDATE {history} h SET valid_to = v.valid_from FROM {qualified(endpoint)} t "
        f"JOIN versions v ON v.row = t.rowid WHERE {match} AND h.valid_to IS NULL"
    )
    connection.execute(
        _insertion(endpoint, history, "v.valid_from") + " JOIN versions v ON v.row = t.rowid"
    )


def _insertion(endpoint: Endpoint, history: str, valid_from: str) -> str:
    """SQL that inserts rows `t` of the table as open versions; a condition may follow."""
    names = [f"t.{quote(f.column)}" for f in endpoint.row_fields]
    names += [f"t.{name}" for name in OWN_COLUMNS if name != "_deleted_at"]
    return (
        f"INSERT INTO {history} BY NAME SELECT {', '.join(names)}, {valid_from} AS valid_from, "
        f"NULL::TIMESTAMPTZ AS valid_to FROM {qualified(endpoint)} t"
    )


def _find_touched(
    connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, load: LoadSpec, history: str
) -> int:
    """Fills `touched` with the rows that were written or marked since their open version was.

    After a time without history these are all that changed meanwhile. Returns how many.
    """
    return count_changes(
        connection,
        "CREATE OR REPLACE TEMP TABLE touched AS SELECT t.rowid AS row "
        f"FROM {qualified(endpoint)} t LEFT JOIN {history} AND h.valid_to IS NULL "
        f"WHERE t._tenant_id = ? AND NOT ({lacks_key(endpoint, 't')}) AND "
        "(h._tenant_id IS NOT NULL OR t._deleted_at IS NULL) AND "
        "(t._deleted_at IS NOT NULL OR t._loaded_at IS DISTINCT FROM h._loaded_at)",
        [load.tenant_id],
    )


def _find_new_versions(
    connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, load: LoadSpec, history: str
) -> None:
    """Fills `versions` with the touched rows that differ from their open version."""
    content = [quote(f.column) for f in endpoint.row_fields] + [quote(EXTRA)]
    same = " AND ".join(f"h.{column} IS NOT DISTINCT FROM t.{column}" for column in content)
    cursor, now = f"any_value({table_cursor(endpoint, 't')})", _time(load.loaded_at)
    last = "greatest(max(h.valid_from), max(h.valid_to))"
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE versions AS SELECT t.rowid AS row, CASE "
        f"WHEN {last} IS NULL THEN coalesce({cursor}, {now}) "
        f"WHEN {cursor} > {last} THEN {cursor} ELSE greatest({now}, {last}) END AS valid_from "
        f"FROM {qualified(endpoint)} t SEMI JOIN touched ON row = t.rowid "
        f"LEFT JOIN {history} WHERE t._deleted_at IS NULL GROUP BY t.rowid "
        "HAVING count(*) FILTER (WHERE h._tenant_id IS NOT NULL AND h.valid_to IS NULL "
        f"AND {same}) = 0"
    )


def _time(moment: object) -> str:
    return f"TIMESTAMPTZ {literal(str(moment))}"
