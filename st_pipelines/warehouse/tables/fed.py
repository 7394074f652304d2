"""Rows of an export feed into the table that the list fills. Runs inside the load's transaction.

The list is what a row is compared with; the feed adds what only it tells. So a row of the feed
replaces an older version, tells of the version that is there what only the export has, and is
inserted where the list does not serve the record.
"""

from __future__ import annotations

import duckdb

from st_pipelines.catalog.model import Endpoint, Export, snake_case
from st_pipelines.warehouse.columns import EXTRA, count_changes, fetch_row, quote
from st_pipelines.warehouse.tables.extra import joined, list_part
from st_pipelines.warehouse.tables.merge import (
    MARKED_SINCE,
    Counts,
    Whose,
    all_columns,
    differs,
    insert,
    merge_keyless,
    same_record,
)
from st_pipelines.warehouse.tables.row_scope import lacks_key, table_cursor
from st_pipelines.warehouse.tables.schema import qualified


def merge_export_rows(
    connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, export: Export, whose: Whose
) -> Counts:
    """Merges the table `fed` of rows of the export."""
    table, missing = qualified(endpoint), lacks_key(endpoint)
    theirs, ours = table_cursor(endpoint, "s"), table_cursor(endpoint, "t")
    newer, same = _values_of_a_newer_row(endpoint, export), _values_of_the_same_row(export)
    before = fetch_row(connection, f"SELECT count(*) FROM {table}")[0]
    fed, without_key = fetch_row(
        connection, f"SELECT count(*), count(*) FILTER (WHERE {missing}) FROM fed"
    )
    touched = count_changes(
        connection,
        f"MERGE INTO {table} t USING (SELECT * FROM fed WHERE NOT ({missing})) s "
        f"ON {same_record(endpoint)} "
        f"WHEN MATCHED AND ({theirs} > {ours} OR ({ours} IS NULL AND {theirs} IS NOT NULL)) "
        f"THEN UPDATE SET {_assignments(newer)} "
        f"WHEN MATCHED AND {theirs} IS NOT DISTINCT FROM {ours} AND ({differs(endpoint, same)}) "
        f"THEN UPDATE SET {_assignments(same)} "
        f"WHEN NOT MATCHED THEN {insert(endpoint, {quote(EXTRA): joined('NULL', 's._extra')})}",
    )
    inserted = fetch_row(connection, f"SELECT count(*) FROM {table}")[0] - before
    counts = Counts(
        inserted=inserted, updated=touched - inserted, unchanged=fed - without_key - touched
    )
    if without_key:
        counts += merge_keyless(
            connection, endpoint, whose, among=lacks_key(endpoint, "t"), source=missing,
            rows="fed",
        )  # fmt: skip
    return counts


def _values_of_a_newer_row(endpoint: Endpoint, export: Export) -> dict[str, str]:
    lacking = {quote(snake_case(name)) for name in export.lacks}
    values = {column: f"s.{column}" for column in all_columns(endpoint) if column not in lacking}
    gone = f"{MARKED_SINCE} OR s.active IS FALSE" if endpoint.has_active else MARKED_SINCE
    values[quote("_deleted_at")] = f"CASE WHEN {gone} THEN t._deleted_at END"
    return values | _values_of_the_same_row(export)


def _values_of_the_same_row(export: Export) -> dict[str, str]:
    """What the feed may say of a row that the list has told in the same version."""
    columns = [quote(snake_case(name)) for name in export.adds]
    values = {column: f"s.{column}" for column in columns}
    listed, fed = list_part("t._extra"), "CAST(s._extra AS VARCHAR)"
    # What the list said too needs no second place.
    part = f"CASE WHEN {fed} IS DISTINCT FROM {listed} THEN {fed} END"
    values[quote(EXTRA)] = joined(f"({listed})", f"({part})")
    values |= {quote(name): f"s.{name}" for name in ("_loaded_at", "_run_id")}
    return values


def _assignments(values: dict[str, str]) -> str:
    return ", ".join(f"{column} = {value}" for column, value in values.items())
