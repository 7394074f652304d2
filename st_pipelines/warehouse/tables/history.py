"""Keeps every version that a row had in its table, in `history.<api>_<endpoint>`.

Runs inside the load's transaction, after the merge. A live row has one open version (`valid_to` is
NULL), a deleted one has none. `valid_from` is the row's change time, its cursor column. If the
endpoint has none, or the row changed and its change time did not, it is the time of the load. So it
is for a change time that has not come yet, such as the end of the year 9999: no version would ever
follow it.
"""

from __future__ import annotations

from st_pipelines.warehouse.columns import (
    EXTRA,
    OWN_COLUMNS,
    count_changes,
    fetch_row,
    literal,
    quote,
)
from st_pipelines.warehouse.store.base import ALIAS
from st_pipelines.warehouse.tables.merge import CLOCK_SKEW
from st_pipelines.warehouse.tables.schema import ensure_table
from st_pipelines.warehouse.tables.table_load import TableLoad, lacks_key, same_key, table_cursor

SCHEMA = "history"
_OWN_COLUMNS = {name: type_ for name, type_ in OWN_COLUMNS.items() if name != "_deleted_at"} | {
    "valid_from": "TIMESTAMPTZ",
    "valid_to": "TIMESTAMPTZ",
}


def record_versions(load: TableLoad) -> None:
    """Adds the versions that this load made, and closes those that it ended.

    The first time, every live row of the table becomes a version.
    """
    connection, endpoint, tenant = load.connection, load.endpoint, [load.spec.tenant_id]
    ensure_table(
        connection, endpoint, schema=SCHEMA, name=endpoint.flat_name, own_columns=_OWN_COLUMNS
    )
    history = f"{ALIAS}.{SCHEMA}.{quote(endpoint.flat_name)}"
    match = f"h._tenant_id = t._tenant_id AND {same_key(endpoint, 'h', 't')}"
    versions = f"SELECT count(*) FROM {history} WHERE _tenant_id = ?"
    if not fetch_row(connection, versions, tenant)[0]:
        change_time = _past(load, table_cursor(endpoint, "t"))
        first = f"coalesce({change_time}, {_time(load.spec.loaded_at)})"
        live = f"t._tenant_id = ? AND t._deleted_at IS NULL AND NOT ({lacks_key(endpoint, 't')})"
        connection.execute(_insertion(load, history, first) + f" WHERE {live}", tenant)
        return
    if not _find_touched(load, f"{history} h ON {match}"):
        return
    connection.execute(
        f"UPDATE {history} h SET valid_to = greatest(t._deleted_at, h.valid_from) "
        f"FROM {load.table} t SEMI JOIN touched ON row = t.rowid "
        f"WHERE {match} AND h.valid_to IS NULL AND t._deleted_at IS NOT NULL"
    )
    _find_new_versions(load, f"{history} h ON {match}")
    connection.execute(
        f"UPDATE {history} h SET valid_to = v.valid_from, "
        f"valid_from = least(h.valid_from, v.valid_from) FROM {load.table} t "
        f"JOIN versions v ON v.row = t.rowid WHERE {match} AND h.valid_to IS NULL"
    )
    connection.execute(
        _insertion(load, history, "v.valid_from") + " JOIN versions v ON v.row = t.rowid"
    )


def _insertion(load: TableLoad, history: str, valid_from: str) -> str:
    """SQL that inserts rows `t` of the table as open versions; a condition may follow."""
    names = [f"t.{quote(f.column)}" for f in load.endpoint.row_fields]
    names += [f"t.{name}" for name in OWN_COLUMNS if name != "_deleted_at"]
    return (
        f"INSERT INTO {history} BY NAME SELECT {', '.join(names)}, {valid_from} AS valid_from, "
        f"NULL::TIMESTAMPTZ AS valid_to FROM {load.table} t"
    )


def _find_touched(load: TableLoad, history: str) -> int:
    """Fills `touched` with the rows that this load saw, or that were written or marked before it.

    Before it means since the row's open version was written. If history was off for a while, that
    includes all changes of that time. Returns how many.
    """
    return count_changes(
        load.connection,
        "CREATE OR REPLACE TEMP TABLE touched AS SELECT t.rowid AS row "
        f"FROM {load.table} t LEFT JOIN {history} AND h.valid_to IS NULL "
        f"WHERE t._tenant_id = ? AND NOT ({lacks_key(load.endpoint, 't')}) AND "
        "(h._tenant_id IS NOT NULL OR t._deleted_at IS NULL) AND "
        "(t._deleted_at IS NOT NULL OR t._loaded_at IS DISTINCT FROM h._loaded_at "
        f"OR t._read_sequence = {load.number})",
        [load.spec.tenant_id],
    )


def _find_new_versions(load: TableLoad, history: str) -> None:
    """Fills `versions` with the touched rows that differ from their open version."""
    content = [quote(f.column) for f in load.endpoint.row_fields] + [quote(EXTRA)]
    same = " AND ".join(f"h.{column} IS NOT DISTINCT FROM t.{column}" for column in content)
    cursor = _past(load, f"any_value({table_cursor(load.endpoint, 't')})")
    now = _time(load.spec.loaded_at)
    # An earlier version of this package has begun versions in the year 9999; a clock that was set
    # back makes the time of an earlier load look like the future, but not later than that load.
    skew = literal(f"{int(CLOCK_SKEW.total_seconds())} seconds")
    own = f"CASE WHEN h.valid_from <= h._loaded_at + INTERVAL {skew} THEN h.valid_from END"
    ends = [own, _past(load, "h.valid_from"), _past(load, "h.valid_to")]
    last = f"greatest({', '.join(f'max({end})' for end in ends)})"
    load.connection.execute(
        "CREATE OR REPLACE TEMP TABLE versions AS SELECT t.rowid AS row, CASE "
        f"WHEN {last} IS NULL THEN coalesce({cursor}, {now}) "
        f"WHEN {cursor} > {last} THEN {cursor} ELSE greatest({now}, {last}) END AS valid_from "
        f"FROM {load.table} t SEMI JOIN touched ON row = t.rowid "
        f"LEFT JOIN {history} WHERE t._deleted_at IS NULL GROUP BY t.rowid "
        "HAVING count(*) FILTER (WHERE h._tenant_id IS NOT NULL AND h.valid_to IS NULL "
        f"AND {same}) = 0"
    )


def _past(load: TableLoad, moment: str) -> str:
    """SQL: a time, or NULL if it has not come yet. A clock that is behind is given the server's."""
    spec = load.spec
    latest = max(spec.loaded_at, spec.server_time or spec.loaded_at) + CLOCK_SKEW
    return f"CASE WHEN {moment} <= {_time(latest)} THEN {moment} END"


def _time(moment: object) -> str:
    return f"TIMESTAMPTZ {literal(str(moment))}"
