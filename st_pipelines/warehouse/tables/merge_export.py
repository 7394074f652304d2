"""Merges rows of an export feed, in `export_rows`, into the table that the list fills.

The list decides what a row holds, and the feed adds what only it serves. So a row of the feed
replaces an older version, completes the version that is there, and is inserted where the list does
not serve the record. What the feed sent and the columns could not hold is the last member of
`_extra`.
"""

from __future__ import annotations

from st_pipelines.catalog.model import Endpoint, Export, snake_case
from st_pipelines.warehouse.columns import EXTRA, count_changes, fetch_row, quote
from st_pipelines.warehouse.tables.merge import (
    MARKED_SINCE,
    all_columns,
    assignments,
    changes,
    insert,
    join_extra,
    list_part,
    same_record,
)
from st_pipelines.warehouse.tables.merge_keyless import merge_keyless
from st_pipelines.warehouse.tables.row_scope import lacks_key, table_cursor
from st_pipelines.warehouse.tables.table_load import Counts, TableLoad


def merge_export_rows(load: TableLoad, export: Export) -> Counts:
    """Merges `export_rows`."""
    connection, table, no_key = load.connection, load.table, lacks_key(load.endpoint)
    before = fetch_row(connection, f"SELECT count(*) FROM {table}")[0]
    rows, without_key = fetch_row(
        connection, f"SELECT count(*), count(*) FILTER (WHERE {no_key}) FROM export_rows"
    )
    touched = count_changes(connection, _merge_statement(load.endpoint, export, table, no_key))
    inserted = fetch_row(connection, f"SELECT count(*) FROM {table}")[0] - before
    counts = Counts(
        inserted=inserted, updated=touched - inserted, unchanged=rows - without_key - touched
    )
    if without_key:
        counts += merge_keyless(
            load, among=lacks_key(load.endpoint, "t"), source=no_key, rows="export_rows"
        )
    return counts


def _merge_statement(endpoint: Endpoint, export: Export, table: str, no_key: str) -> str:
    theirs, ours = table_cursor(endpoint, "s"), table_cursor(endpoint, "t")
    newer, same = _values_of_newer_row(endpoint, export), _values_of_same_version(export)
    return (
        f"MERGE INTO {table} t USING (SELECT * FROM export_rows WHERE NOT ({no_key})) s "
        f"ON {same_record(endpoint)} "
        f"WHEN MATCHED AND ({theirs} > {ours} OR ({ours} IS NULL AND {theirs} IS NOT NULL)) "
        f"THEN UPDATE SET {assignments(newer)} "
        f"WHEN MATCHED AND {theirs} IS NOT DISTINCT FROM {ours} AND ({changes(endpoint, same)}) "
        f"THEN UPDATE SET {assignments(same)} "
        "WHEN NOT MATCHED THEN "
        f"{insert(endpoint, {quote(EXTRA): join_extra('NULL', 's._extra')})}"
    )


def _values_of_newer_row(endpoint: Endpoint, export: Export) -> dict[str, str]:
    lacking = {quote(snake_case(name)) for name in export.lacks}
    values = {column: f"s.{column}" for column in all_columns(endpoint) if column not in lacking}
    deleted = f"{MARKED_SINCE} OR s.active IS FALSE" if endpoint.has_active else MARKED_SINCE
    values[quote("_deleted_at")] = f"CASE WHEN {deleted} THEN t._deleted_at END"
    return values | _values_of_same_version(export)


def _values_of_same_version(export: Export) -> dict[str, str]:
    """What the feed may set in a row whose version the list has served."""
    columns = [quote(snake_case(name)) for name in export.adds]
    values = {column: f"s.{column}" for column in columns}
    listed, exported = list_part("t._extra"), "CAST(s._extra AS VARCHAR)"
    # what the list served too is not kept twice
    part = f"CASE WHEN {exported} IS DISTINCT FROM {listed} THEN {exported} END"
    values[quote(EXTRA)] = join_extra(f"({listed})", f"({part})")
    values |= {quote(name): f"s.{name}" for name in ("_loaded_at", "_run_id")}
    return values
