"""Staged rows into their table, by key or as a whole. Runs inside the load's transaction."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import duckdb

from st_pipelines.catalog.model import Endpoint, snake_case
from st_pipelines.warehouse.columns import EXTRA, OWN_COLUMNS, quote, table_type
from st_pipelines.warehouse.schema import qualified


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Rows of a load by outcome.

    Attributes:
        inserted: were not in the table.
        updated: replaced another version, or came back after having been marked deleted.
        unchanged: were there already as they are, or in a newer version.
        deleted: were in the table and not in a reading that was complete: marked `_deleted_at`,
            or in an aggregate by day replaced.
    """

    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    deleted: int = 0

    def __add__(self, other: Counts) -> Counts:
        """Outcome by outcome."""
        return Counts(
            inserted=self.inserted + other.inserted,
            updated=self.updated + other.updated,
            unchanged=self.unchanged + other.unchanged,
            deleted=self.deleted + other.deleted,
        )


@dataclass(frozen=True, kw_only=True)
class Whose:
    """Whose rows are merged, and when: `loaded_at` becomes the `_deleted_at` of what is gone."""

    tenant_id: str
    loaded_at: datetime


def table_cursor(endpoint: Endpoint, alias: str = "") -> str:
    """The cursor among the table's columns, `"lead_call"."modified_on"`; NULL without one."""
    if not endpoint.cursor:
        return "NULL::TIMESTAMPTZ"
    parts = [quote(snake_case(part)) for part in endpoint.cursor.split(".")]
    return ".".join([alias, *parts] if alias else parts)


def merge_keyed(
    connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, whose: Whose, *, replaces: bool
) -> Counts:
    """Merges `staged` by the endpoint's key. Records that lack it are merged as a whole."""
    keys = [quote(snake_case(key)) for key in endpoint.key]
    missing = " OR ".join(f"{key} IS NULL" for key in keys)
    match = " AND ".join(["t._tenant_id = s._tenant_id", *(f"t.{k} = s.{k}" for k in keys)])
    columns = [quote(f.column) for f in endpoint.row_fields] + [quote(c) for c in OWN_COLUMNS]
    staged, without_key = _one(
        connection, f"SELECT count(*), count(*) FILTER (WHERE {missing}) FROM staged"
    )
    table = qualified(endpoint)
    before = _one(connection, f"SELECT count(*) FROM {table}")[0]
    if not before and not without_key:  # MERGE would hold all rows in memory
        return Counts(inserted=_changed(connection, f"INSERT INTO {table} BY NAME FROM staged"))
    changed = _changed(
        connection,
        f"MERGE INTO {table} t USING (SELECT * FROM staged WHERE NOT ({missing})) s ON {match} "
        f"WHEN MATCHED AND {_newer(endpoint)} AND ({_differs(endpoint)}) THEN UPDATE SET "
        + ", ".join(f"{c} = s.{c}" for c in columns)
        + f" WHEN NOT MATCHED THEN INSERT ({', '.join(columns)}) "
        f"VALUES ({', '.join('s.' + c for c in columns)})",
    )
    inserted = _one(connection, f"SELECT count(*) FROM {table}")[0] - before
    updated = changed - inserted
    counts = Counts(
        inserted=inserted, updated=updated, unchanged=staged - without_key - updated - inserted
    )
    if replaces:
        counts += Counts(deleted=_mark_missing(connection, endpoint, whose, match))
    if without_key:
        scope = " OR ".join(f"t.{key} IS NULL" for key in keys)
        counts += merge_keyless(connection, endpoint, whose, among=scope, source=missing)
    return counts


def merge_keyless(
    connection: duckdb.DuckDBPyConnection,
    endpoint: Endpoint,
    whose: Whose,
    *,
    scope: str | None = None,
    among: str = "true",
    source: str = "true",
) -> Counts:
    """Merges `staged` row by row as a whole; the n-th of equal rows matches the n-th.

    Args:
        connection: with the warehouse attached and `staged` filled.
        endpoint: whose table.
        whose: whose rows, and when.
        scope: condition on `t` for the rows that a complete reading stands for; those it lacks
            are marked deleted. None marks none.
        among: condition on `t` for the rows that may match at all.
        source: condition on `staged` for the rows to merge.
    """
    table = qualified(endpoint)
    content = _content(endpoint)
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE present AS SELECT t.rowid AS row, {content} AS content, "
        "row_number() OVER (PARTITION BY content ORDER BY _deleted_at NULLS FIRST, t.rowid) "
        "AS nth, "
        f"_deleted_at IS NOT NULL AS gone, ({scope or 'false'}) AS in_scope "
        f"FROM {table} t WHERE _tenant_id = ? AND ({among})",
        [whose.tenant_id],
    )
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE arrived AS SELECT rowid AS row, {content} AS content, "
        f"row_number() OVER (PARTITION BY content ORDER BY rowid) AS nth FROM staged "
        f"WHERE {source}"
    )
    matched = "SELECT p.row FROM present p JOIN arrived a USING (content, nth)"
    revived = _changed(
        connection,
        f"UPDATE {table} SET _deleted_at = NULL WHERE rowid IN ({matched} WHERE p.gone)",
    )
    inserted = _changed(
        connection,
        f"INSERT INTO {table} BY NAME SELECT s.* FROM staged s JOIN arrived a ON a.row = s.rowid "
        "ANTI JOIN present p ON p.content = a.content AND p.nth = a.nth",
    )
    missing = (
        "rowid IN (SELECT row FROM present WHERE in_scope AND NOT gone) "
        f"AND rowid NOT IN ({matched})"
    )
    if endpoint.by_day:  # a day's aggregate that was worked out anew is no record that went away
        deleted = _changed(connection, f"DELETE FROM {table} WHERE {missing}")
    else:
        mark = f"UPDATE {table} SET _deleted_at = ? WHERE {missing}"
        deleted = _changed(connection, mark, [whose.loaded_at])
    staged = _one(connection, "SELECT count(*) FROM arrived")[0]
    return Counts(
        inserted=inserted, updated=revived, unchanged=staged - inserted - revived, deleted=deleted
    )


def _content(endpoint: Endpoint) -> str:
    """SQL for a digest of a row, the same for equal rows of a table that has grown otherwise."""
    columns = [f"CAST({quote(f.column)} AS {table_type(f.type)})" for f in endpoint.row_fields]
    return f"md5(to_json(row({', '.join([*columns, EXTRA])}))::VARCHAR)"


def _newer(endpoint: Endpoint) -> str:
    """The staged row is not older than the table's."""
    if not endpoint.cursor:
        return "true"
    table, staged = table_cursor(endpoint, "t"), table_cursor(endpoint, "s")
    return f"({table} IS NULL OR {staged} >= {table})"


def _differs(endpoint: Endpoint) -> str:
    columns = [quote(f.column) for f in endpoint.row_fields] + [EXTRA, "_deleted_at"]
    return " OR ".join(f"t.{c} IS DISTINCT FROM s.{c}" for c in columns)


def _mark_missing(
    connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, whose: Whose, match: str
) -> int:
    return _changed(
        connection,
        f"UPDATE {qualified(endpoint)} t SET _deleted_at = ? "
        "WHERE t._tenant_id = ? AND t._deleted_at IS NULL "
        f"AND NOT EXISTS (SELECT 1 FROM staged s WHERE {match})",
        [whose.loaded_at, whose.tenant_id],
    )


def _changed(connection: duckdb.DuckDBPyConnection, sql: str, values: list | None = None) -> int:
    row = connection.execute(sql, values or []).fetchone()
    return int(row[0]) if row else 0


def _one(connection: duckdb.DuckDBPyConnection, sql: str) -> tuple:
    return connection.execute(sql).fetchall()[0]
