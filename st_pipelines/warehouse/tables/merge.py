"""Merges the rows of a load into their table by key, and marks rows that no longer exist.

- A list that was read after a row's load had committed wins, whatever the change times: what it
  serves is later, also where the change time moved back or is not a time. Between reads that
  overlapped, and between the list and the feed, the newer version wins. A version is the row's
  change time, its cursor column. Which read is later follows from the numbers of the loads, never
  from a clock (`overtakers`).
- Rows of the list (`staged`) are merged first. Rows that lack a part of the key, and tables without
  a key, are left to `merge_keyless`.
- Rows of an export feed (`export_rows`) are merged after them. At equal versions the list wins, and
  the feed fills only the columns that the list does not serve. A record that only the feed serves
  is inserted. Rows without key are left out: nothing tells which row of the list they are, and
  each of them arrives with the list.
- `_deleted_at` is set by `mark_missing`, on rows that a full reading lacks; by `mark_deleted`, on
  rows whose ids ServiceTitan no longer serves; and for rows without a key, by `merge_keyless`. A
  load clears it when the list or a lookup serves the row again, or the feed serves a newer version
  that is not inactive.
- `_extra` is a JSON object from path to value: fields without a column, and values that do not fit
  theirs (`staging.stage` fills it). What only the export served is in its last member,
  `EXPORT_ONLY`, so neither source overwrites the other.

All of it runs inside the load's transaction (`load`).
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta

from st_pipelines.catalog.model import Export
from st_pipelines.warehouse.columns import (
    EXTRA,
    count_changes,
    fetch_row,
    literal,
    quote,
)
from st_pipelines.warehouse.tables.merge_keyless import (
    find_complete,
    has_rows_without_key,
    merge_keyless,
    merge_keyless_table,
)
from st_pipelines.warehouse.tables.overtakers import refuse_contradictions
from st_pipelines.warehouse.tables.row_values import (
    assignments,
    build_changes,
    build_insert,
    clear_unknown,
    join_extra,
    same_record,
    values_of_list_row,
    values_of_newer_row,
    values_of_same_version,
)
from st_pipelines.warehouse.tables.table_load import (
    Counts,
    TableLoad,
    key_columns,
    lacks_key,
    read_before,
    same_key,
    table_cursor,
)

CLOCK_SKEW = timedelta(hours=1)
"""How far before its load an export feed is read: ServiceTitan's clock may be behind ours. A change
time that is later than the load by more than that is not when the record was changed."""

_RECENT = "recent_changes"
"""A temporary table of keys."""


def merge_staged(load: TableLoad) -> Counts:
    """Merges `staged` by the endpoint's key, and rows that lack a part of it by content.

    After a reading of everything, this marks the rows without key that the reading lacks; call
    `mark_missing` for the others.
    """
    if not load.endpoint.has_key:
        return merge_keyless_table(load)
    connection, table, no_key = load.connection, load.table, lacks_key(load.endpoint)
    staged, without_key = fetch_row(
        connection, f"SELECT count(*), count(*) FILTER (WHERE {no_key}) FROM staged"
    )
    before = fetch_row(connection, f"SELECT count(*) FROM {table}")[0]
    if not before and not without_key:  # MERGE would hold all rows in memory
        insertion = f"INSERT INTO {table} BY NAME {_numbered(load, 'staged')}"
        return Counts(inserted=count_changes(connection, insertion))
    touched = count_changes(connection, _build_merge(load))
    inserted = fetch_row(connection, f"SELECT count(*) FROM {table}")[0] - before
    counts = Counts(
        inserted=inserted, updated=touched - inserted, unchanged=staged - without_key - touched
    )
    if without_key or has_rows_without_key(load):
        counts += merge_keyless(
            load,
            replaced=find_complete(load),
            among=lacks_key(load.endpoint, "t"),
            source=no_key,
        )
    return counts


def refuse_overtaken(
    load: TableLoad, *, has_export_rows: bool, deleted_ids: Collection[int]
) -> None:
    """Checks that no load which committed since the read started contradicts it.

    Raises:
        Overtaken: one does; read again.
    """
    endpoint = load.endpoint
    export_changes = None
    if has_export_rows and endpoint.export:
        export_changes = build_changes(endpoint, values_of_same_version(endpoint.export))
    refuse_contradictions(
        load,
        changes=build_changes(endpoint, values_of_list_row(endpoint)),
        export_changes=export_changes,
        deleted_ids=deleted_ids,
    )


def note_unchanged(load: TableLoad, *, has_export_rows: bool) -> None:
    """Gives the load's number to the rows that it saw in the version they have.

    What the feed alone serves counts as seen where the row is live and the feed does not call it
    inactive: feeds may serve deleted records.
    """
    endpoint = load.endpoint
    theirs, ours = table_cursor(endpoint, "s"), table_cursor(endpoint, "t")
    sources = {"staged": "true"}
    if has_export_rows:
        sources["export_rows"] = "t._deleted_at IS NULL"
        if endpoint.has_active:
            sources["export_rows"] += " AND s.active IS NOT FALSE"
    for rows, condition in sources.items():
        load.connection.execute(
            f"UPDATE {load.table} t SET _read_sequence = {load.number} FROM {rows} s "
            f"WHERE {same_record(endpoint)} AND t._read_sequence IS DISTINCT FROM {load.number} "
            f"AND {theirs} IS NOT DISTINCT FROM {ours} AND {condition}"
        )


def _numbered(load: TableLoad, rows: str, condition: str = "true") -> str:
    """SELECT of rows to merge, with the number of the load."""
    number = f"{load.number}::BIGINT AS _read_sequence"
    return f"SELECT * REPLACE ({number}) FROM {rows} WHERE {condition}"


def _build_merge(load: TableLoad) -> str:
    """SQL that merges `staged`."""
    endpoint = load.endpoint
    values, no_key = values_of_list_row(endpoint), lacks_key(endpoint)
    changes = build_changes(endpoint, values)
    values |= clear_unknown(load)
    return (
        f"MERGE INTO {load.table} t USING ({_numbered(load, 'staged', f'NOT ({no_key})')}) s "
        f"ON {same_record(endpoint)} "
        f"WHEN MATCHED AND {_is_newer(load)} AND ({changes}) "
        f"THEN UPDATE SET {assignments(values)} "
        f"WHEN NOT MATCHED THEN {build_insert(endpoint)}"
    )


def merge_export_rows(load: TableLoad, export: Export) -> Counts:
    """Merges `export_rows` by the endpoint's key; rows that lack it are left out.

    Call it before `note_unchanged` and `mark_missing`. A record that the list served too counts
    once.
    """
    counts = _count_export_rows(load, export)
    _note_recent_changes(load)
    load.connection.execute(_build_export_merge(load, export))
    return counts


def _note_recent_changes(load: TableLoad) -> None:
    """Fills `recent_changes` with the keys of records that may have moved while the list was read.

    The feed serves a newer version of them than the table has, and its change time is not before
    the load. A version that the table has is older than the read, whatever its change time.
    """
    endpoint = load.endpoint
    theirs, ours = table_cursor(endpoint, "s"), table_cursor(endpoint, "t")
    since = literal(str(load.spec.loaded_at - CLOCK_SKEW))
    active = " AND s.active IS NOT FALSE" if endpoint.has_active else ""
    load.connection.execute(
        f"CREATE OR REPLACE TEMP TABLE {_RECENT} AS "
        f"SELECT DISTINCT {', '.join(f's.{key}' for key in key_columns(endpoint))} "
        f"FROM export_rows s LEFT JOIN {load.table} t ON {same_record(endpoint)} "
        f"WHERE {theirs} >= TIMESTAMPTZ {since}{active} AND coalesce({theirs} > {ours}, true)"
    )


def _count_export_rows(load: TableLoad, export: Export) -> Counts:
    """Counts what merging `export_rows` adds to the counts of the list's rows.

    Rows that the list has inserted or updated have the load's number; it has counted them.
    """
    endpoint = load.endpoint
    newer, same = _export_conditions(load, export)
    changed = f"coalesce({newer} OR {same}, false) AND t._read_sequence IS DISTINCT FROM "
    changed += str(load.number)
    inserted, updated, listed, unchanged = fetch_row(
        load.connection,
        "SELECT count(*) FILTER (t._tenant_id IS NULL), "
        f"count(*) FILTER (t._tenant_id IS NOT NULL AND {changed}), "
        f"count(*) FILTER (l.listed AND {changed}), "
        f"count(*) FILTER (t._tenant_id IS NOT NULL AND l.listed IS NULL AND NOT ({changed})) "
        f"FROM export_rows s LEFT JOIN {load.table} t ON {same_record(endpoint)} "
        "LEFT JOIN (SELECT *, true AS listed FROM staged) l "
        f"ON {same_key(endpoint, 'l', 's')} WHERE NOT ({lacks_key(endpoint, 's')})",
    )
    return Counts(inserted=inserted, updated=updated, unchanged=unchanged - listed)


def _export_conditions(load: TableLoad, export: Export) -> tuple[str, str]:
    """SQL on `t` and `s`: the feed's row is newer; it is as new, and has something to add."""
    endpoint = load.endpoint
    theirs, ours = table_cursor(endpoint, "s"), table_cursor(endpoint, "t")
    changes = build_changes(endpoint, values_of_same_version(export))
    newer = (
        f"({theirs} > {ours} OR ({ours} IS NULL AND {theirs} IS NOT NULL) "
        f"OR ({theirs} < {ours} AND {_is_ahead(load)} AND {read_before(load)}))"
    )
    return newer, f"({theirs} IS NOT DISTINCT FROM {ours} AND ({changes}))"


def _build_export_merge(load: TableLoad, export: Export) -> str:
    """SQL that merges `export_rows`."""
    endpoint = load.endpoint
    keyed = f"NOT ({lacks_key(endpoint)})"
    is_newer, adds = _export_conditions(load, export)
    newer, same = values_of_newer_row(endpoint, export), values_of_same_version(export)
    newer |= clear_unknown(load)
    return (
        f"MERGE INTO {load.table} t USING ({_numbered(load, 'export_rows', keyed)}) s "
        f"ON {same_record(endpoint)} "
        f"WHEN MATCHED AND {is_newer} "
        f"THEN UPDATE SET {assignments(newer)} "
        f"WHEN MATCHED AND {adds} "
        f"THEN UPDATE SET {assignments(same)} "
        "WHEN NOT MATCHED THEN "
        f"{build_insert(endpoint, {quote(EXTRA): join_extra('NULL', 's._extra')})}"
    )


def mark_missing(load: TableLoad, *, has_export_rows: bool) -> int:
    """Marks the rows in scope that a complete reading lacks as deleted; returns how many.

    Rows that appeared while it went on are left alone: those another load has written since it
    began, and those the export feed shows as changed since then.
    """
    endpoint, spec = load.endpoint, load.spec
    changed_since = f"SELECT 1 FROM {_RECENT} r WHERE {same_key(endpoint, 'r', 't')}"
    return count_changes(
        load.connection,
        f"UPDATE {load.table} t SET _deleted_at = ?, _read_sequence = {load.number} "
        f"WHERE t._tenant_id = ? AND t._deleted_at IS NULL AND {_may_mark(load)} "
        f"AND ({load.scope}) AND NOT ({lacks_key(endpoint, 't')}) "
        f"AND NOT EXISTS (SELECT 1 FROM staged s WHERE {same_record(endpoint)})"
        + (f" AND NOT EXISTS ({changed_since})" if has_export_rows else ""),
        [spec.loaded_at, spec.tenant_id],
    )


def mark_deleted(load: TableLoad, ids: Collection[int]) -> int:
    """Marks rows as deleted whose ids ServiceTitan no longer serves; returns how many."""
    if not ids:
        return 0
    spec = load.spec
    return count_changes(
        load.connection,
        f"UPDATE {load.table} t SET _deleted_at = ?, _read_sequence = {load.number} "
        f"WHERE t._tenant_id = ? AND t._deleted_at IS NULL AND {_may_mark(load)} "
        "AND t.id IN (SELECT unnest(?::BIGINT[]))",
        [spec.loaded_at, spec.tenant_id, sorted(ids)],
    )


def _may_mark(load: TableLoad) -> str:
    """SQL on `t`: no load that committed since this read started has seen the row."""
    return f"({read_before(load)} OR t._read_sequence = {load.number})"


def _is_newer(load: TableLoad) -> str:
    """SQL: the staged row is not an older version than the table's.

    A read that started after the row was committed is later, so it wins also where the cursor moved
    back or went away. Change times decide only where the reads overlapped, and there
    `refuse_overtaken` has raised unless the staged row is newer or the table's row may stay.
    """
    endpoint = load.endpoint
    if not endpoint.cursor:
        return "true"
    table, staged = table_cursor(endpoint, "t"), table_cursor(endpoint, "s")
    newer = f"{staged} > {table} OR ({staged} IS NOT NULL AND {table} IS NULL)"
    same = f"{staged} IS NOT DISTINCT FROM {table}"
    return f"({newer} OR {same} OR {read_before(load)})"


def _is_ahead(load: TableLoad) -> str:
    """SQL on `t`: its change time is in the future, so it cannot tell which version is newer.

    A clock that was ahead wrote it, or it is not a real time, such as the end of the year 9999.
    """
    latest = literal(str(load.spec.loaded_at + CLOCK_SKEW))
    return f"coalesce({table_cursor(load.endpoint, 't')} > TIMESTAMPTZ {latest}, false)"
