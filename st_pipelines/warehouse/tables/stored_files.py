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
from datetime import date, datetime
from typing import Any, Literal, TypeAlias

import duckdb

from st_pipelines.catalog.file_kinds import SCHEMA, FileKind
from st_pipelines.catalog.model import Catalog
from st_pipelines.warehouse.columns import quote
from st_pipelines.warehouse.store.base import ALIAS, Store
from st_pipelines.warehouse.tables.due_files import (
    RECORDED,
    DueQueries,
    columns_of_table,
)
from st_pipelines.warehouse.tables.load_log import refuse_other_environments

FileState: TypeAlias = Literal["storing", "stored", "missing", "empty", "too_large", "failed"]
_COLUMNS = {
    "_tenant_id": "VARCHAR",
    "key": "VARCHAR",
    "source_table": "VARCHAR",
    "source_id": "VARCHAR",
    "reference": "VARCHAR",
    "changed_at": "TIMESTAMPTZ",
    **RECORDED,
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
        replaces: while the state is `storing`, the path of the older version.
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

    @property
    def obsolete_path(self) -> str | None:
        """Where the older version is, unless the newer one took its place."""
        return self.replaces if self.replaces != self.path else None


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
        values: dict[str, Any] = {"tenant": self.tenant_id, "now": now, "max_bytes": max_bytes}
        with self._reading() as connection:
            queries = self._queries(connection, values, days)
            sources = queries.find_sources()
            absent = tuple(s.table for s in self.kind.sources if s not in sources)
            if not sources:
                return DueFiles(missing_tables=absent)
            query = queries.due_files(sources)
            count, elsewhere = connection.execute(
                f"{query} SELECT (SELECT count(*) FROM due), (SELECT count(*) FROM elsewhere)",
                values,
            ).fetchall()[0]
            rows = connection.execute(
                f"{query} SELECT {', '.join(_FIELDS)} FROM due ORDER BY state IS NOT DISTINCT FROM "
                "'failed', CASE WHEN state = 'failed' THEN checked_at END, changed_at DESC, "
                f"key LIMIT {int(limit)}",
                values,
            ).fetchall()
        files = tuple(_build(row) for row in rows)
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
        return [_build(row) for row in rows]

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
        table, names = f"{ALIAS}.{self.kind.table}", ["_tenant_id", *_FIELDS, "_run_id"]
        definition = ", ".join(f"{quote(column)} {type_}" for column, type_ in _COLUMNS.items())
        rows = [
            [self.tenant_id, *(getattr(file, name) for name in _FIELDS), self.run_id]
            for file in files
        ]
        with duckdb.connect() as own:
            own.execute(f"CREATE TABLE batch ({definition})")
            own.executemany(
                f"INSERT INTO batch ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})",
                rows,
            )
            with self.store.attach(own, f"{self.kind.table}, run {self.run_id}"):
                refuse_other_environments(own, self.environment)
                own.execute("BEGIN")
                own.execute(f"CREATE SCHEMA IF NOT EXISTS {ALIAS}.{SCHEMA}")
                own.execute(f"CREATE TABLE IF NOT EXISTS {table} ({definition})")
                own.execute(
                    f"DELETE FROM {table} WHERE _tenant_id = ? AND key IN (SELECT key FROM batch)",
                    [self.tenant_id],
                )
                own.execute(f"INSERT INTO {table} BY NAME FROM batch")
                self.store.commit(own)

    def _queries(
        self,
        connection: duckdb.DuckDBPyConnection,
        values: dict[str, Any],
        days: tuple[date, date] | None,
    ) -> DueQueries:
        """Returns the queries, and adds the days to their parameters."""
        if days:
            values |= {"first": days[0], "last": days[1]}
        return DueQueries(
            connection=connection, kind=self.kind, catalog=self.catalog, by_day=days is not None
        )

    @contextmanager
    def _reading(self) -> Iterator[duckdb.DuckDBPyConnection]:
        with self.store.read_only() as connection:
            refuse_other_environments(connection, self.environment, schema="_st")
            yield connection

    def _exists(self, connection: duckdb.DuckDBPyConnection) -> bool:
        return bool(columns_of_table(connection, self.kind.table))


def _build(row: Sequence[Any]) -> StoredFile:
    values = dict(zip(_FIELDS, row, strict=True))
    return StoredFile(**{name: value for name, value in values.items() if value is not None})
