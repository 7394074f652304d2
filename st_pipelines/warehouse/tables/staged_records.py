"""Holds the records of a reading on their way into a table: as staged files, and as typed rows.

`warehouse.staging` checks the files and types the rows; this module keeps both in step. `finish`
keeps the latest version of each key.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import duckdb
import msgspec

from st_pipelines.catalog.model import Endpoint
from st_pipelines.warehouse.columns import count_changes, fetch_row
from st_pipelines.warehouse.errors import (
    MalformedRecords,
    memory_errors_translated,
    translate_duckdb_error,
)
from st_pipelines.warehouse.load_spec import LoadSpec
from st_pipelines.warehouse.staging.stage import Staging
from st_pipelines.warehouse.staging.typed_rows import PageRejected, TypedRows
from st_pipelines.warehouse.store.base import Store
from st_pipelines.warehouse.store.scratch import staging_folder
from st_pipelines.warehouse.tables.table_load import key_columns, lacks_key, table_cursor


@dataclass(frozen=True, kw_only=True)
class StagedRecords:
    """Records of one reading, as files of JSON and as a table.

    Attributes:
        endpoint: whose records these are.
        spec: what is loaded with them, and how it merges.
        staging: the files.
        rows: the table, in the same order.
    """

    endpoint: Endpoint
    spec: LoadSpec
    staging: Staging
    rows: TypedRows

    def add(self, records: bytes, rows: Sequence[msgspec.Raw] | None = None) -> None:
        """Adds a page.

        Args:
            records: a JSON array of objects, as served.
            rows: the array's members, where it has been split already.

        Raises:
            MalformedRecords: it is not an array of objects.
            WarehouseFull: the disk is full.
        """
        self.rows.add(self.staging.add(records, rows))

    def return_to(self, mark: int) -> None:
        """Drops all pages since a mark of `staging`: their reading starts over."""
        self.rows.clear()  # no page is being typed any more
        self._note_refitted()
        self.staging.return_to(mark)
        self.rows.add(self.staging.files)

    def finish(self) -> None:
        """Types all records, and keeps only the latest of those with one key.

        Raises:
            MalformedRecords: a record cannot be typed.
            WarehouseError: the disk is full.
        """
        with translated_errors(self.staging):
            self._finish_typing()
            if self.endpoint.has_key:
                self._drop_older_versions()

    def _finish_typing(self) -> None:
        try:
            self.rows.finish()
        except PageRejected as error:
            raise MalformedRecords(f"{self.endpoint.table}: {error}") from None
        self._note_refitted()
        typed = self.rows.rows + self.rows.dropped
        if typed != self.staging.rows:
            raise MalformedRecords(
                f"{self.endpoint.table}: {self.staging.rows} records were staged, {typed} typed"
            )

    def _note_refitted(self) -> None:
        """Takes over the drift of pages that passed the check, but that DuckDB refused."""
        for file, drift in self.rows.refitted.items():
            self.staging.replace_drift(file, drift)
        self.rows.refitted.clear()

    def _drop_older_versions(self) -> None:
        """Keeps the latest version of each key: by cursor, then by order of arrival."""
        keys, no_key = ", ".join(key_columns(self.endpoint)), lacks_key(self.endpoint)
        name, connection = self.rows.name, self.rows.connection
        rows, distinct = fetch_row(
            connection,
            f"SELECT count(*), count(DISTINCT ({keys})) FROM {name} WHERE NOT ({no_key})",
        )
        if rows == distinct:
            return
        order = f"{table_cursor(self.endpoint)} DESC NULLS LAST, rowid DESC"
        self.rows.dropped += count_changes(
            connection,
            f"DELETE FROM {name} WHERE rowid IN (SELECT rowid FROM {name} "
            f"WHERE NOT ({no_key}) "
            f"QUALIFY row_number() OVER (PARTITION BY {keys} ORDER BY {order}) > 1)",
        )


@contextmanager
def staged_records(
    warehouse: Store, endpoint: Endpoint, spec: LoadSpec, *, name: str | None = None
) -> Iterator[StagedRecords]:
    """A staging folder beside the warehouse and a database in memory, removed on leaving.

    Args:
        warehouse: what the records are loaded into or compared with.
        endpoint: whose records.
        spec: what their rows are marked with.
        name: of the folder; the table's if None.

    Raises:
        WarehouseError: the folder cannot be created, or memory is used up in the block.
    """
    folder_name = name or endpoint.table
    with (
        memory_errors_translated(),
        staging_folder(warehouse.scratch_folder, folder_name) as folder,
    ):
        staging = Staging(endpoint, folder)
        with TypedRows(endpoint, spec, folder) as rows:
            yield StagedRecords(endpoint=endpoint, spec=spec, staging=staging, rows=rows)


@contextmanager
def translated_errors(staging: Staging) -> Iterator[None]:
    """Raises DuckDB's errors as ours, and an interrupt as the interrupt it was.

    Raises:
        WarehouseError: for an error of DuckDB.
        KeyboardInterrupt: or whatever a signal's handler raised, which DuckDB replaces.
    """
    try:
        yield
    except duckdb.Error as error:
        raise translate_duckdb_error(error, staging.folder) from error
    except RuntimeError as error:
        if str(error) != "Query interrupted":
            raise
        cause = error.__cause__
        raise (KeyboardInterrupt() if cause is None else cause) from None
