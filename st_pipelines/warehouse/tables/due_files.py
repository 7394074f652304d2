"""SQL that decides which files are due.

The queries run on a connection to the warehouse itself. They take the parameters `$tenant` and
`$now`, and `$first` and `$last` if they are limited to days.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import duckdb

from st_pipelines.catalog.file_kinds import FileKind, FileSource
from st_pipelines.catalog.model import Catalog, Endpoint
from st_pipelines.warehouse.columns import literal, quote
from st_pipelines.warehouse.tables.table_load import table_cursor

SETTLES_AFTER = timedelta(days=3)
"""A file that is missing or empty may still come while its row is as young as this."""
CHECK_AGAIN_AFTER = timedelta(hours=6)
MAX_RETRY_DAYS = 7
"""What failed n times is due again n - 1 days later, and after at most this many days."""

RECORDED = {
    "state": "VARCHAR",
    "path": "VARCHAR",
    "bytes": "BIGINT",
    "sha256": "VARCHAR",
    "content_type": "VARCHAR",
    "stored_at": "TIMESTAMPTZ",
    "checked_at": "TIMESTAMPTZ",
    "tries": "INTEGER",
    "problem": "VARCHAR",
    "replaces": "VARCHAR",
    "refused_above": "BIGINT",
}
"""Columns of a table of stored files that a due file has, with their types."""


@dataclass(frozen=True, kw_only=True)
class DueQueries:
    """The queries of one kind of files.

    Attributes:
        connection: to the warehouse.
        catalog: with the source tables that the environment loads.
        by_day: only rows of the days `$first` to `$last`.
    """

    connection: duckdb.DuckDBPyConnection
    kind: FileKind
    catalog: Catalog
    by_day: bool = False

    def find_sources(self) -> list[FileSource]:
        """Returns the sources whose tables have been loaded."""
        return [source for source in self.kind.sources if self._endpoint(source) is not None]

    def due_files(self, sources: Sequence[FileSource]) -> str:
        """Returns a WITH clause that defines `due` and `elsewhere`. It also takes `$max_bytes`."""
        pointers = " UNION ALL ".join(map(self._pointers, sources))
        takes = f"starts_with(reference, {literal(self.kind.prefix)})"
        if self.kind.by_id:
            takes = "true"
        elif not self.kind.prefix:
            takes = "NOT contains(reference, '://') AND NOT starts_with(reference, '//')"
        recorded = f"SELECT * FROM {self.kind.table} WHERE _tenant_id = $tenant"
        if not columns_of_table(self.connection, self.kind.table):
            nulls = (f"NULL::{type_} AS {name}" for name, type_ in RECORDED.items())
            recorded = f"SELECT '' AS key, '' AS reference, {', '.join(nulls)} WHERE false"
        columns = ", ".join(f"f.{name}" for name in RECORDED)
        return f"""
            WITH pointers AS ({pointers}),
            keyed AS (
                SELECT * FROM pointers WHERE {takes}
                QUALIFY row_number() OVER (
                    PARTITION BY key ORDER BY changed_at DESC NULLS LAST, source_table, source_id
                ) = 1
            ),
            elsewhere AS (SELECT DISTINCT reference FROM pointers WHERE NOT ({takes})),
            due AS (
                SELECT k.key, k.source_table, k.source_id, k.reference, k.changed_at, {columns}
                FROM keyed k LEFT JOIN ({recorded}) f USING (key)
                WHERE f.key IS NULL OR {_same("f.reference")} <> {_same("k.reference")}
                    OR CASE f.state
                        WHEN 'failed' THEN {_is_time_to_retry("f")}
                        WHEN 'too_large' THEN f.refused_above < $max_bytes::BIGINT
                        WHEN 'stored' THEN false
                        WHEN 'storing' THEN false
                        ELSE {_may_still_come("f", "k")}
                    END
            )
        """

    def _endpoint(self, source: FileSource) -> Endpoint | None:
        endpoint = self.catalog.endpoints.get(source.table)
        if endpoint is None or not columns_of_table(self.connection, source.table):
            return None
        return endpoint

    def _rows(self, source: FileSource, reference: str) -> str:
        """Returns a query for the live rows of a source, with SQL for their references."""
        endpoint = self._endpoint(source)
        assert endpoint is not None
        days = "AND _partition_date BETWEEN $first AND $last" if self.by_day else ""
        time = quote(source.time) if source.time else table_cursor(endpoint)
        if source.time and source.time not in columns_of_table(self.connection, source.table):
            time = "NULL::TIMESTAMPTZ"
        return (
            f"SELECT {literal(source.table)} AS source_table, "
            f"{quote(source.id)}::VARCHAR AS source_id, "
            f"coalesce({time}, _loaded_at) AS changed_at, {reference} AS reference "
            f"FROM {quote(endpoint.api)}.{quote(endpoint.name)} WHERE _tenant_id = $tenant "
            f"AND _deleted_at IS NULL AND {quote(source.id)} IS NOT NULL {days}"
        )

    def _pointers(self, source: FileSource) -> str:
        """Returns a query for the references of a source's live rows."""
        key = "source_id" if self.kind.by_id else "reference"
        names = f"source_table, source_id, reference, changed_at, {key} AS key"
        if not source.references:
            return f"SELECT {names} FROM ({self._rows(source, literal(''))})"
        rows = self._rows(source, self._references(source))
        return f"SELECT {names} FROM ({rows}) WHERE reference IS NOT NULL AND trim(reference) <> ''"

    def _references(self, source: FileSource) -> str:
        """Returns SQL for the references in a row's columns.

        A table that gets a column later does not have it yet.
        """
        present = columns_of_table(self.connection, source.table)
        lists = [
            _list_of(reference)
            for reference in source.references
            if reference.replace("[]", "").partition(".")[0] in present
        ]
        return f"unnest(list_distinct({' || '.join(lists)}))" if lists else "NULL::VARCHAR"


def columns_of_table(connection: duckdb.DuckDBPyConnection, table: str) -> set[str]:
    """Returns the names of the columns of `schema.table`; none if there is no such table."""
    schema, _, name = table.partition(".")
    rows = connection.execute(
        "SELECT column_name FROM duckdb_columns() WHERE schema_name = ? AND table_name = ?",
        [schema, name],
    ).fetchall()
    return {column for (column,) in rows}


def _list_of(reference: str) -> str:
    """Returns SQL for a list of what a reference's path leads to; never NULL."""
    column, brackets, member = reference.partition("[]")
    if not brackets:
        path = ".".join(quote(part) for part in column.split("."))
        return f"[{path}::VARCHAR]"
    item = f"x.{quote(member[1:])}" if member else "x"
    return f"coalesce([{item}::VARCHAR for x in {quote(column)}], [])"


def _same(reference: str) -> str:
    """Returns SQL for the part of a reference that identifies a version: no signature of a URL."""
    return f"split_part(coalesce({reference}, ''), '?', 1)"


def _is_time_to_retry(recorded: str) -> str:
    """Returns SQL: what failed may be tried again."""
    days = f"least(greatest({recorded}.tries - 1, 0), {MAX_RETRY_DAYS})::INTEGER"
    return f"$now::TIMESTAMPTZ >= {recorded}.checked_at + to_days({days})"


def _may_still_come(recorded: str, row: str) -> str:
    """Returns SQL: what was not there when it was checked may be there now."""
    return (
        f"{recorded}.checked_at < {row}.changed_at + {_interval(SETTLES_AFTER)} AND "
        f"{recorded}.checked_at <= $now::TIMESTAMPTZ - {_interval(CHECK_AGAIN_AFTER)}"
    )


def _interval(duration: timedelta) -> str:
    return f"INTERVAL {int(duration.total_seconds())} SECOND"
