"""Finds rows of a reading whose export-only columns the export feed has not served yet.

A feed is read onward from its bookmark, in the order of the cursors. A record that is committed
after the bookmark was stored, with an earlier cursor, lies before it: the list serves it, and the
feed does not. Unless the feed is read again, `active` and the like would stay NULL. This module
also replaces the feed's rows of records that changed before they were looked up.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from st_pipelines.warehouse.columns import fetch_row, quote
from st_pipelines.warehouse.load_spec import MergeMode
from st_pipelines.warehouse.tables.row_values import same_record
from st_pipelines.warehouse.tables.staged_records import StagedRecords
from st_pipelines.warehouse.tables.table_load import (
    TableLoad,
    export_only_columns,
    key_columns,
    lacks_key,
    same_key,
    table_cursor,
)

_WANTED = "wanted_from_export"
"""A temporary table: keys and cursors."""


def note_rows_to_complete(load: TableLoad, rows: str) -> None:
    """Notes which rows of the reading need what only the export serves.

    These are versions that the table does not have. In a window, whose feed is short, they are also
    versions that the table has without these columns.

    Args:
        load: with its warehouse attached and its table present.
        rows: name of the table of the reading's rows.
    """
    endpoint = load.endpoint
    keys = ", ".join(f"s.{key}" for key in key_columns(endpoint))
    known = f"{table_cursor(endpoint, 's')} IS NOT DISTINCT FROM {table_cursor(endpoint, 't')}"
    if load.spec.mode is not MergeMode.REPLACE_ALL:
        present = {*load.connection.sql(f"FROM {load.table} LIMIT 0").columns}
        names = sorted(export_only_columns(endpoint) & present)
        known += (
            f" AND ({' OR '.join(f't.{quote(name)} IS NOT NULL' for name in names) or 'false'})"
        )
    load.connection.execute(
        f"CREATE OR REPLACE TEMP TABLE {_WANTED} AS "
        f"SELECT {keys}, {table_cursor(endpoint, 's')} AS moment FROM {rows} s "
        f"WHERE NOT ({lacks_key(endpoint, 's')}) AND NOT EXISTS "
        f"(SELECT 1 FROM {load.table} t WHERE {same_record(endpoint)} AND {known})"
    )


def find_first_gap(records: StagedRecords, exported: StagedRecords | None) -> datetime | None:
    """Returns the earliest cursor of the noted rows that the export has not served; None for none.

    Args:
        records: the reading, whose rows were noted.
        exported: what the export served from the bookmark on, finished; None for nothing.
    """
    endpoint, sql = records.endpoint, f"SELECT min(moment) FROM {_WANTED} w"
    if exported:
        sql += (
            f" WHERE NOT EXISTS (SELECT 1 FROM {exported.rows.name} s "
            f"WHERE {same_key(endpoint, 's', 'w')} AND {table_cursor(endpoint, 's')} >= w.moment)"
        )
    return fetch_row(records.rows.connection, sql)[0]


def find_looked_up_gaps(
    records: StagedRecords,
    exported: StagedRecords | None,
    ids: Sequence[int],
    versions: Mapping[int, datetime | None],
) -> dict[int, datetime]:
    """Returns the looked-up records that have no row of the export, by id, with their cursors.

    A record that changed after the export was read, or that was committed late, would otherwise
    come with what only the export serves of its former version.

    Args:
        records: the reading, with the records that were looked up after the export was read.
        exported: what the export served, finished; None for nothing.
        ids: of the records that were looked up.
        versions: cursors that the table has, by id; a record with the same cursor needs nothing.
    """
    endpoint = records.endpoint
    sql = (
        f"SELECT s.id, {table_cursor(endpoint, 's')} AS moment FROM {records.rows.name} s "
        "WHERE s.id IN (SELECT unnest($ids::BIGINT[])) AND moment IS NOT NULL"
    )
    if exported:
        sql += (
            f" AND NOT EXISTS (SELECT 1 FROM {exported.rows.name} e "
            f"WHERE {same_key(endpoint, 's', 'e')} AND {table_cursor(endpoint, 'e')} >= "
            f"{table_cursor(endpoint, 's')})"
        )
    found = records.rows.connection.execute(sql, {"ids": list(ids)}).fetchall()
    return {id_: moment for id_, moment in found if versions.get(id_) != moment}


def keep_rows(exported: StagedRecords, ids: Collection[int]) -> None:
    """Drops all rows of an export but those with these ids."""
    exported.rows.connection.execute(
        f"DELETE FROM {exported.rows.name} WHERE id IS NULL "
        "OR id NOT IN (SELECT unnest($ids::BIGINT[]))",
        {"ids": sorted(ids)},
    )


def replace_export_rows(exported: StagedRecords, later: StagedRecords) -> None:
    """Replaces rows of the export by those that it served later.

    Args:
        exported: finished; its rows are replaced.
        later: finished.
    """
    connection = exported.rows.connection
    connection.execute(
        f"DELETE FROM {exported.rows.name} WHERE id IN (SELECT id FROM {later.rows.name})"
    )
    connection.execute(f"INSERT INTO {exported.rows.name} FROM {later.rows.name}")
