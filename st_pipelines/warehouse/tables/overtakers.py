"""Refuses a load that contradicts loads committed since its read started.

Loads of a table are numbered in the order of their commits, and a read notes the last number when
it starts (`LoadSpec.sequence`). What loads of a higher number have established is at least as new
as what the read saw, so the read must not undo it. Only another read can tell which is right, so it
raises `Overtaken`. No clock has a part in this.

Rows say which load saw or marked them last (`_read_sequence`). Where a row is absent, the windows
of the load log say whether a load would have seen it.
"""

from __future__ import annotations

from collections.abc import Collection

from st_pipelines.catalog.model import Endpoint
from st_pipelines.warehouse.columns import fetch_row, literal
from st_pipelines.warehouse.errors import Overtaken
from st_pipelines.warehouse.tables.load_log import read_overtakers
from st_pipelines.warehouse.tables.parents import find_reread
from st_pipelines.warehouse.tables.row_values import same_record
from st_pipelines.warehouse.tables.table_load import (
    TableLoad,
    lacks_key,
    read_before,
    table_cursor,
)


def find_covered(load: TableLoad, alias: str) -> str:
    """SQL on a row: its place was read by a load that committed since this read started.

    `false` if there was no such load.
    """
    if load.endpoint.parent:
        return find_reread(load, alias) if read_overtakers(load) else "false"
    conditions = []
    cursor = table_cursor(load.endpoint, alias)
    for start, end in read_overtakers(load):
        if not load.endpoint.cursor or (start is None and end is None):
            return "true"
        bounds = [f"{cursor} >= TIMESTAMPTZ {literal(str(start))}"] if start else []
        bounds += [f"{cursor} < TIMESTAMPTZ {literal(str(end))}"] if end else []
        conditions.append(" AND ".join(bounds))
    joined = " OR ".join(f"({condition})" for condition in conditions)
    return f"coalesce({joined}, true)" if joined else "false"


def refuse_contradictions(
    load: TableLoad,
    *,
    changes: str,
    export_changes: str | None,
    deleted_ids: Collection[int],
) -> None:
    """Compares the rows to merge by key with what overtakers have established.

    Args:
        load: whose `staged` rows, and `export_rows` where there are some.
        changes: SQL on `t` and `s`: a staged row would change the row.
        export_changes: the same for a row of `export_rows`; None if there are none.
        deleted_ids: ids that ServiceTitan no longer served after the read.

    Raises:
        Overtaken: some contradict.
    """
    if load.number == load.spec.sequence:  # the usual case: no load committed meanwhile
        return
    rows = _count_staged(load, changes) + _count_missing(load)
    if export_changes:
        rows += _count_exported(load, export_changes)
    if deleted_ids:
        rows += _count_deleted(load, deleted_ids)
    if rows:
        raise Overtaken(load.endpoint.table, rows)


def _not_older(endpoint: Endpoint) -> str:
    """SQL: an older version of a row contradicts nothing, as the newer one stays."""
    theirs, ours = table_cursor(endpoint, "s"), table_cursor(endpoint, "t")
    return f"NOT coalesce({theirs} < {ours}, false)"


def _count_staged(load: TableLoad, changes: str) -> int:
    endpoint = load.endpoint
    theirs, ours = table_cursor(endpoint, "s"), table_cursor(endpoint, "t")
    newer = f"coalesce({theirs} > {ours}, false) AND t._deleted_at IS NULL"
    differs = (
        f"SELECT count(*) FROM staged s JOIN {load.table} t ON {same_record(endpoint)} "
        f"WHERE NOT ({read_before(load)}) AND {_not_older(endpoint)} AND NOT ({newer}) "
        f"AND ({changes})"
    )
    return fetch_row(load.connection, differs)[0] + _count_absent(load, "staged")


def _count_absent(load: TableLoad, rows: str) -> int:
    """Rows that the table lacks although an overtaker has read their place."""
    return fetch_row(
        load.connection,
        f"SELECT count(*) FROM {rows} s WHERE NOT ({lacks_key(load.endpoint, 's')}) "
        f"AND {find_covered(load, 's')} "
        f"AND NOT EXISTS (SELECT 1 FROM {load.table} t WHERE {same_record(load.endpoint)})",
    )[0]


def _count_exported(load: TableLoad, changes: str) -> int:
    endpoint = load.endpoint
    theirs, ours = table_cursor(endpoint, "s"), table_cursor(endpoint, "t")
    differs = fetch_row(
        load.connection,
        f"SELECT count(*) FROM export_rows s JOIN {load.table} t ON {same_record(endpoint)} "
        f"WHERE NOT ({read_before(load)}) "
        f"AND (({theirs} IS NOT DISTINCT FROM {ours} AND ({changes})) "
        f"OR ({theirs} > {ours} AND t._deleted_at IS NOT NULL))",
    )[0]
    return differs + _count_absent(load, "export_rows")


def _count_missing(load: TableLoad) -> int:
    """Rows in scope that the read lacks although it has changes as late as theirs.

    A row whose change is later than all that were read is new, and the next load reads it.
    """
    endpoint = load.endpoint
    ours, latest = table_cursor(endpoint, "t"), f"max({table_cursor(endpoint, 's')})"
    return fetch_row(
        load.connection,
        f"SELECT count(*) FROM {load.table} t WHERE t._tenant_id = ? AND t._deleted_at IS NULL "
        f"AND NOT ({read_before(load)}) AND NOT ({lacks_key(endpoint, 't')}) "
        f"AND ({load.scope}) "
        f"AND NOT coalesce({ours} > (SELECT {latest} FROM staged s), false) "
        f"AND NOT EXISTS (SELECT 1 FROM staged s WHERE {same_record(endpoint)})",
        [load.spec.tenant_id],
    )[0]


def _count_deleted(load: TableLoad, ids: Collection[int]) -> int:
    """Live rows to mark as deleted that an overtaker has seen."""
    return fetch_row(
        load.connection,
        f"SELECT count(*) FROM {load.table} t WHERE t._tenant_id = ? AND t._deleted_at IS NULL "
        f"AND NOT ({read_before(load)}) AND t.id IN (SELECT unnest(?::BIGINT[]))",
        [load.spec.tenant_id, sorted(ids)],
    )[0]
