"""The tables of stored files, one for each kind: `files.recordings` and the like.

A row tells what became of one file: where it is, how large, which digest; or why there is none. A
file with a `path` exists at it, below the folder of the setting `ST_FILES_URL`. The table also
decides which files are due: those that rows of the source tables point to and that have no row
here, or whose reference has changed since.

A file is moved to its place between two commits: the first says that it is about to be there
(`storing`), the second that it is (`stored`). So a process that is killed leaves no file that the
table does not know of.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Literal, TypeAlias, get_args

import duckdb

from st_pipelines.catalog.file_kinds import SCHEMA, FileKind, FileSource
from st_pipelines.catalog.model import Catalog, Endpoint
from st_pipelines.warehouse.columns import fetch_row, literal, quote
from st_pipelines.warehouse.store.base import ALIAS, Store
from st_pipelines.warehouse.tables.load_log import refuse_other_environments
from st_pipelines.warehouse.tables.table_load import table_cursor

FileState: TypeAlias = Literal["storing", "stored", "missing", "empty", "too_large", "failed"]
STATES: tuple[FileState, ...] = get_args(FileState)

SETTLES_AFTER = timedelta(days=3)
"""A file that is missing or empty may still come while its row is as young as this."""
CHECK_AGAIN_AFTER = timedelta(hours=6)
MAX_RETRY_DAYS = 7
"""A file that failed n times is due again n - 1 days later, and after at most this many days."""

_COLUMNS = {
    "_tenant_id": "VARCHAR",
    "key": "VARCHAR",
    "source_table": "VARCHAR",
    "source_id": "VARCHAR",
    "reference": "VARCHAR",
    "changed_at": "TIMESTAMPTZ",
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
    "_run_id": "VARCHAR",
}


@dataclass(frozen=True, kw_only=True)
class StoredFile:
    """A file of one kind and tenant: a row of its table.

    Attributes:
        key: identifies it: the row's id, or the reference where the operation takes a path.
        source_table, source_id: the row that points to it, the latest of several.
        reference: what that row says of the file; "" if the row alone is the reference.
        changed_at: when that row was changed last, UTC.
        state: see `FileState`; None if nothing is recorded yet.
        path: below the folder of all files; None if there is no file.
        bytes, sha256, content_type: of the file at `path`; the content type without parameters.
        stored_at: when it was stored, UTC.
        checked_at: when it was requested last, UTC.
        tries: failed requests in a row.
        problem: of the last failed request, without customers' data.
        replaces: while the state is `storing`, the path of an older version to delete.
        refused_above: the limit in bytes that the file exceeded.
    """

    key: str
    source_table: str
    source_id: str
    reference: str = ""
    changed_at: datetime | None = None
    state: FileState | None = None
    path: str | None = None
    bytes: int | None = None
    sha256: str | None = None
    content_type: str | None = None
    stored_at: datetime | None = None
    checked_at: datetime | None = None
    tries: int = 0
    problem: str | None = None
    replaces: str | None = None
    refused_above: int | None = None


_FIELDS = tuple(field.name for field in dataclasses.fields(StoredFile))


@dataclass(frozen=True, kw_only=True)
class DueFiles:
    """Which files are due.

    Attributes:
        files: the newest of them, as many as were asked for; those that failed come last.
        count: of all that are due.
        elsewhere: references of another form than the operation takes, such as a video's URL.
        missing_tables: source tables that have not been loaded yet.
    """

    files: tuple[StoredFile, ...] = ()
    count: int = 0
    elsewhere: int = 0
    missing_tables: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class FileTable:
    """The table of one kind of files in a warehouse, for one tenant.

    Attributes:
        catalog: with the source tables of the kind that the environment loads.
    """

    store: Store
    kind: FileKind
    catalog: Catalog
    environment: str
    tenant_id: str
    run_id: str = ""

    def read_due(
        self,
        limit: int,
        *,
        now: datetime,
        max_bytes: int,
        days: tuple[date, date] | None = None,
    ) -> DueFiles:
        """Decides which files are due.

        Args:
            limit: the most files to return.
            now: aware.
            max_bytes: files that were larger are not due.
            days: only files of rows of these local days, both included.

        Raises:
            WarehouseError: the warehouse is missing, busy, or another environment's.
        """
        with self._reading() as connection:
            sources = [s for s in self.kind.sources if self._find(s, connection) is not None]
            absent = tuple(s.table for s in self.kind.sources if s not in sources)
            if not sources:
                return DueFiles(missing_tables=absent)
            values: dict[str, Any] = {"tenant": self.tenant_id, "now": now, "max_bytes": max_bytes}
            if days:
                values |= {"first": days[0], "last": days[1]}
            query = self._due_query(connection, sources, by_day=days is not None)
            count, elsewhere = fetch_row(
                connection,
                f"{query} SELECT (SELECT count(*) FROM due), (SELECT count(*) FROM elsewhere)",
                values,  # pyright: ignore[reportArgumentType]
            )
            rows = connection.execute(
                f"{query} SELECT {', '.join(_FIELDS)} FROM due ORDER BY state IS NOT DISTINCT FROM "
                f"'failed', CASE WHEN state = 'failed' THEN checked_at END, changed_at DESC, "
                f"key LIMIT {int(limit)}",
                values,
            ).fetchall()
        files = tuple(StoredFile(**dict(zip(_FIELDS, row, strict=True))) for row in rows)
        return DueFiles(files=files, count=count, elsewhere=elsewhere, missing_tables=absent)

    def read(self, states: Collection[FileState], limit: int | None = None) -> list[StoredFile]:
        """Returns the files in some states, those stored last first; none before the first."""
        with self._reading() as connection:
            if not self._exists(connection):
                return []
            rows = connection.execute(
                f"SELECT {', '.join(_FIELDS)} FROM {self.kind.table} WHERE _tenant_id = ? AND "
                "list_contains(?::VARCHAR[], state) ORDER BY stored_at DESC, key"
                + (f" LIMIT {int(limit)}" if limit is not None else ""),
                [self.tenant_id, list(states)],
            ).fetchall()
        return [StoredFile(**dict(zip(_FIELDS, row, strict=True))) for row in rows]

    def count_states(self) -> dict[FileState, tuple[int, int]]:
        """Returns the number of files and their bytes by state."""
        with self._reading() as connection:
            if not self._exists(connection):
                return {}
            rows = connection.execute(
                f"SELECT state, count(*), coalesce(sum(bytes), 0)::BIGINT FROM {self.kind.table} "
                "WHERE _tenant_id = ? GROUP BY 1 ORDER BY 1",
                [self.tenant_id],
            ).fetchall()
        return {state: (count, size) for state, count, size in rows}

    def write(self, files: Sequence[StoredFile]) -> None:
        """Writes files, replacing what was recorded of them, in one transaction.

        Raises:
            WarehouseError: nothing was written.
        """
        if not files:
            return
        rows = [
            [self.tenant_id, *(getattr(file, name) for name in _FIELDS), self.run_id]
            for file in files
        ]
        names = ["_tenant_id", *_FIELDS, "_run_id"]
        table = f"{ALIAS}.{self.kind.table}"
        with duckdb.connect() as own:
            own.execute(f"CREATE TABLE batch ({_definition()})")
            own.executemany(
                f"INSERT INTO batch ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})",
                rows,
            )
            with self.store.attach(own, f"{self.kind.table}, run {self.run_id}"):
                refuse_other_environments(own, self.environment)
                own.execute("BEGIN")
                own.execute(f"CREATE SCHEMA IF NOT EXISTS {ALIAS}.{SCHEMA}")
                own.execute(f"CREATE TABLE IF NOT EXISTS {table} ({_definition()})")
                own.execute(
                    f"DELETE FROM {table} WHERE _tenant_id = ? AND key IN (SELECT key FROM batch)",
                    [self.tenant_id],
                )
                own.execute(f"INSERT INTO {table} BY NAME FROM batch")
                self.store.commit(own)

    @contextmanager
    def _reading(self) -> Iterator[duckdb.DuckDBPyConnection]:
        with self.store.read_only() as connection:
            refuse_other_environments(connection, self.environment, schema="_st")
            yield connection

    def _exists(self, connection: duckdb.DuckDBPyConnection) -> bool:
        return bool(_columns_of(connection, SCHEMA, self.kind.name))

    def _find(self, source: FileSource, connection: duckdb.DuckDBPyConnection) -> Endpoint | None:
        """Returns the endpoint of a source whose table is loaded."""
        endpoint = self.catalog.endpoints.get(source.table)
        if endpoint is None or not _columns_of(connection, endpoint.api, endpoint.name):
            return None
        return endpoint

    def _due_query(
        self, connection: duckdb.DuckDBPyConnection, sources: Sequence[FileSource], *, by_day: bool
    ) -> str:
        """Returns the WITH clause that defines `due` and `elsewhere`."""
        pointers = " UNION ALL ".join(
            self._pointers(connection, source, by_day=by_day) for source in sources
        )
        takes = f"starts_with(reference, {literal(self.kind.prefix)})"
        if self.kind.by_id:
            takes = "true"
        elif not self.kind.prefix:
            takes = "NOT contains(reference, '://') AND NOT starts_with(reference, '//')"
        recorded = f"(SELECT * FROM {self.kind.table} WHERE _tenant_id = $tenant)"
        if not self._exists(connection):
            recorded = f"(SELECT {_nulls()} WHERE false)"
        return f"""
            WITH pointers AS ({pointers}),
            keyed AS (
                SELECT *, {"source_id" if self.kind.by_id else "reference"} AS key FROM pointers
                WHERE {takes}
                QUALIFY row_number() OVER (
                    PARTITION BY key ORDER BY changed_at DESC NULLS LAST, source_table, source_id
                ) = 1
            ),
            elsewhere AS (SELECT DISTINCT reference FROM pointers WHERE NOT ({takes})),
            due AS (
                SELECT k.key, k.source_table, k.source_id, k.reference, k.changed_at, f.state,
                    f.path, f.bytes, f.sha256, f.content_type, f.stored_at, f.checked_at,
                    coalesce(f.tries, 0) AS tries, f.problem, f.replaces,
                    f.refused_above
                FROM keyed k LEFT JOIN {recorded} f USING (key)
                WHERE f.key IS NULL OR {_same("f.reference")} <> {_same("k.reference")}
                    OR CASE f.state
                        WHEN 'failed' THEN $now::TIMESTAMPTZ >= f.checked_at
                            + to_days(least(greatest(f.tries - 1, 0), {MAX_RETRY_DAYS})::INTEGER)
                        WHEN 'too_large' THEN f.refused_above < $max_bytes::BIGINT
                        WHEN 'stored' THEN false
                        WHEN 'storing' THEN false
                        ELSE f.checked_at < k.changed_at + {_interval(SETTLES_AFTER)} AND
                            f.checked_at <= $now::TIMESTAMPTZ - {_interval(CHECK_AGAIN_AFTER)}
                    END
            )
        """

    def _pointers(
        self, connection: duckdb.DuckDBPyConnection, source: FileSource, *, by_day: bool
    ) -> str:
        """Returns a query for the references of a source's live rows."""
        endpoint = self._find(source, connection)
        assert endpoint is not None
        present = _columns_of(connection, endpoint.api, endpoint.name)
        lists = [
            _list_of(reference)
            for reference in source.references
            if reference.replace("[]", "").partition(".")[0] in present
        ]
        # A table that a file adds columns to later has none of them yet.
        reference = f"unnest(list_distinct({' || '.join(lists)}))" if lists else "NULL::VARCHAR"
        if not source.references:
            reference = "''"
        days = "AND _partition_date BETWEEN $first AND $last" if by_day else ""
        cursor = table_cursor(endpoint)
        key = quote(source.id)
        return (
            f"SELECT * FROM (SELECT {literal(source.table)} AS source_table, "
            f"{key}::VARCHAR AS source_id, {reference} AS reference, "
            f"coalesce({cursor}, _loaded_at) AS changed_at "
            f"FROM {quote(endpoint.api)}.{quote(endpoint.name)} WHERE _tenant_id = $tenant "
            f"AND _deleted_at IS NULL AND {key} IS NOT NULL {days}) WHERE reference IS NOT NULL "
            + ("AND trim(reference) <> ''" if source.references else "")
        )


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


def _interval(duration: timedelta) -> str:
    return f"INTERVAL {int(duration.total_seconds())} SECOND"


def _columns_of(connection: duckdb.DuckDBPyConnection, schema: str, name: str) -> set[str]:
    """Returns the names of a table's columns; none if there is no such table."""
    rows = connection.execute(
        "SELECT column_name FROM duckdb_columns() WHERE schema_name = ? AND table_name = ?",
        [schema, name],
    ).fetchall()
    return {column for (column,) in rows}


def _definition() -> str:
    return ", ".join(f"{quote(name)} {type_}" for name, type_ in _COLUMNS.items())


def _nulls() -> str:
    return ", ".join(f"NULL::{type_} AS {quote(name)}" for name, type_ in _COLUMNS.items())
