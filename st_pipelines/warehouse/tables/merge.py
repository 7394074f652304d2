"""Staged rows into their table, by key or as a whole. Runs inside the load's transaction."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import duckdb

from st_pipelines.catalog.model import Endpoint, snake_case
from st_pipelines.warehouse.columns import (
    EXTRA,
    OWN_COLUMNS,
    count_changes,
    fetch_row,
    literal,
    quote,
    table_type,
)
from st_pipelines.warehouse.tables.extra import export_part, joined
from st_pipelines.warehouse.tables.row_scope import lacks_key, same_key, table_cursor
from st_pipelines.warehouse.tables.schema import qualified


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


CLOCKS_DIFFER = timedelta(hours=1)
"""By so much a server's clock may be behind ours."""


MARKED_SINCE = "t._deleted_at > s._loaded_at"
"""A later load has marked the row as deleted: this one saw it before."""


@dataclass(frozen=True, kw_only=True)
class Whose:
    """Whose rows are merged, and when: `loaded_at` becomes the `_deleted_at` of what is gone."""

    tenant_id: str
    loaded_at: datetime


def merge_keyed(
    connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, whose: Whose, *, replaces: bool
) -> Counts:
    """Merges `staged` by the endpoint's key. Records that lack it are merged as a whole.

    With `replaces` the reading was of everything: those without a key that it lacks are marked
    as deleted here, the others by `mark_missing`.
    """
    missing = lacks_key(endpoint)
    values = _values_of_a_listed_row(endpoint)
    staged, without_key = fetch_row(
        connection, f"SELECT count(*), count(*) FILTER (WHERE {missing}) FROM staged"
    )
    table = qualified(endpoint)
    before = fetch_row(connection, f"SELECT count(*) FROM {table}")[0]
    if not before and not without_key:  # MERGE would hold all rows in memory
        return Counts(
            inserted=count_changes(connection, f"INSERT INTO {table} BY NAME FROM staged")
        )
    touched = count_changes(
        connection,
        f"MERGE INTO {table} t USING (SELECT * FROM staged WHERE NOT ({missing})) s "
        f"ON {same_record(endpoint)} "
        f"WHEN MATCHED AND {_newer(endpoint, replaces)} AND ({differs(endpoint, values)}) "
        "THEN UPDATE SET "
        + ", ".join(f"{column} = {value}" for column, value in values.items())
        + f" WHEN NOT MATCHED THEN {insert(endpoint)}",
    )
    inserted = fetch_row(connection, f"SELECT count(*) FROM {table}")[0] - before
    updated = touched - inserted
    counts = Counts(
        inserted=inserted, updated=updated, unchanged=staged - without_key - updated - inserted
    )
    if without_key or replaces:
        counts += merge_keyless(
            connection,
            endpoint,
            whose,
            scope="true" if replaces else None,
            among=lacks_key(endpoint, "t"),
            source=missing,
        )
    return counts


def mark_missing(
    connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, whose: Whose, *, fed: bool
) -> int:
    """Marks the rows that a reading of everything lacks; returns how many.

    Those that came into being while it went on are not meant: what another load wrote since it
    began, and what the feed tells of a change since then.
    """
    since = literal(str(whose.loaded_at - CLOCKS_DIFFER))
    changed_since = (
        f"SELECT 1 FROM fed s WHERE {same_record(endpoint)} "
        f"AND {table_cursor(endpoint, 's')} >= TIMESTAMPTZ {since}"
    )
    if endpoint.has_active:
        changed_since += " AND s.active IS NOT FALSE"
    return count_changes(
        connection,
        f"UPDATE {qualified(endpoint)} t SET _deleted_at = ? "
        "WHERE t._tenant_id = ? AND t._deleted_at IS NULL AND t._loaded_at <= ? "
        f"AND NOT ({lacks_key(endpoint, 't')}) "
        f"AND NOT EXISTS (SELECT 1 FROM staged s WHERE {same_record(endpoint)})"
        + (f" AND NOT EXISTS ({changed_since})" if fed else ""),
        [whose.loaded_at, whose.tenant_id, whose.loaded_at],
    )


def mark_gone(
    connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, whose: Whose, ids: Collection[int]
) -> int:
    """Marks rows as deleted whose ids ServiceTitan no longer serves; returns how many."""
    if not ids:
        return 0
    return count_changes(
        connection,
        f"UPDATE {qualified(endpoint)} SET _deleted_at = ? WHERE _tenant_id = ? "
        "AND _deleted_at IS NULL AND _loaded_at <= ? AND id IN (SELECT unnest(?::BIGINT[]))",
        [whose.loaded_at, whose.tenant_id, whose.loaded_at, sorted(ids)],
    )


def all_columns(endpoint: Endpoint) -> list[str]:
    """The table's columns, quoted."""
    return [quote(f.column) for f in endpoint.row_fields] + [quote(c) for c in OWN_COLUMNS]


def same_record(endpoint: Endpoint) -> str:
    """Whether `t` and `s` are the same record of the same tenant."""
    return f"t._tenant_id = s._tenant_id AND {same_key(endpoint, 't', 's')}"


def differs(endpoint: Endpoint, values: Mapping[str, str]) -> str:
    """Whether an update with these values would change more than when a row was loaded."""
    content = {quote(f.column) for f in endpoint.row_fields} | {quote(EXTRA), quote("_deleted_at")}
    return " OR ".join(f"t.{c} IS DISTINCT FROM {v}" for c, v in values.items() if c in content)


def insert(endpoint: Endpoint, values: Mapping[str, str] | None = None) -> str:
    """The part of a MERGE that inserts `s`, with other values where they are given."""
    columns = all_columns(endpoint)
    given = [(values or {}).get(column, f"s.{column}") for column in columns]
    return f"INSERT ({', '.join(columns)}) VALUES ({', '.join(given)})"


def _values_of_a_listed_row(endpoint: Endpoint) -> dict[str, str]:
    """What a row of the list sets; it does not unset what only the export tells."""
    values = {column: f"s.{column}" for column in all_columns(endpoint)}
    values[quote("_deleted_at")] = f"CASE WHEN {MARKED_SINCE} THEN t._deleted_at END"
    if endpoint.export:
        for name in endpoint.export.adds:
            column = quote(snake_case(name))
            values[column] = f"coalesce(s.{column}, t.{column})"
        values[quote(EXTRA)] = joined("s._extra", export_part("t._extra"))
    return values


def merge_keyless(
    connection: duckdb.DuckDBPyConnection,
    endpoint: Endpoint,
    whose: Whose,
    *,
    scope: str | None = None,
    among: str = "true",
    source: str = "true",
    rows: str = "staged",
) -> Counts:
    """Merges `staged` row by row as a whole; the n-th of equal rows matches the n-th.

    Args:
        connection: with the warehouse attached and `staged` filled.
        endpoint: whose table.
        whose: whose rows, and when.
        scope: condition on `t` for the rows that a complete reading stands for; those it lacks
            are marked deleted. None marks none.
        among: condition on `t` for the rows that may match at all.
        source: condition on the staged rows to merge.
        rows: the table that they are staged in.
    """
    table = qualified(endpoint)
    content = _content(endpoint)
    staged = fetch_row(connection, f"SELECT count(*) FROM {rows} WHERE {source}")[0]
    later = f"SELECT count(*) FROM {table} t WHERE _tenant_id = ? AND ({among}) AND _loaded_at > ?"
    if endpoint.by_day and fetch_row(connection, later, [whose.tenant_id, whose.loaded_at])[0]:
        return Counts(unchanged=staged)  # the day was worked out anew since this reading began
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE present AS SELECT t.rowid AS row, {content} AS content, "
        "row_number() OVER (PARTITION BY content ORDER BY _deleted_at NULLS FIRST, t.rowid) "
        "AS nth, "
        f"_deleted_at IS NOT NULL AS gone, _loaded_at > ? AS later, "
        f"({scope or 'false'}) AS in_scope "
        f"FROM {table} t WHERE _tenant_id = ? AND ({among})",
        [whose.loaded_at, whose.tenant_id],
    )
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE arrived AS SELECT rowid AS row, {content} AS content, "
        f"row_number() OVER (PARTITION BY content ORDER BY rowid) AS nth FROM {rows} "
        f"WHERE {source}"
    )
    matched = "SELECT p.row FROM present p JOIN arrived a USING (content, nth)"
    revived = count_changes(
        connection,
        f"UPDATE {table} SET _deleted_at = NULL WHERE rowid IN ({matched} WHERE p.gone)",
    )
    inserted = count_changes(
        connection,
        f"INSERT INTO {table} BY NAME SELECT s.* FROM {rows} s JOIN arrived a ON a.row = s.rowid "
        "ANTI JOIN present p ON p.content = a.content AND p.nth = a.nth",
    )
    missing = (
        "rowid IN (SELECT row FROM present WHERE in_scope AND NOT gone AND NOT later) "
        f"AND rowid NOT IN ({matched})"
    )
    if endpoint.by_day:  # a day's aggregate that was worked out anew is no record that went away
        deleted = count_changes(connection, f"DELETE FROM {table} WHERE {missing}")
    else:
        mark = f"UPDATE {table} SET _deleted_at = ? WHERE {missing}"
        deleted = count_changes(connection, mark, [whose.loaded_at])
    return Counts(
        inserted=inserted, updated=revived, unchanged=staged - inserted - revived, deleted=deleted
    )


def _content(endpoint: Endpoint) -> str:
    """SQL for a digest of a row, the same for equal rows of a table that has grown otherwise."""
    columns = [f"CAST({quote(f.column)} AS {table_type(f.type)})" for f in endpoint.row_fields]
    return f"md5(to_json(row({', '.join([*columns, EXTRA])}))::VARCHAR)"


def _newer(endpoint: Endpoint, replaces: bool) -> str:
    """The staged row is not an older version than the table's, nor of an older reading.

    A reading of everything that began long after a row was loaded knows better, even if the time
    of the change moved back or went away.
    """
    reading = "s._loaded_at >= t._loaded_at"
    if not endpoint.cursor:
        return reading
    table, staged = table_cursor(endpoint, "t"), table_cursor(endpoint, "s")
    newer = f"{staged} > {table} OR ({staged} IS NOT NULL AND {table} IS NULL)"
    same = f"({staged} IS NOT DISTINCT FROM {table} AND {reading})"
    hours = int(CLOCKS_DIFFER.total_seconds() // 3600)
    much_later = f" OR s._loaded_at > t._loaded_at + INTERVAL {hours} HOUR" if replaces else ""
    return f"({newer} OR {same}{much_later})"
