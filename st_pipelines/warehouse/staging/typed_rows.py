"""Staged pages as typed rows, in a table of an in-memory database.

A thread types the pages that have arrived while the next are fetched and checked: DuckDB works
without Python's lock, so that both go on at once. The warehouse is not touched here.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import duckdb

from st_pipelines.catalog.model import Endpoint
from st_pipelines.warehouse.columns import (
    EXTRA,
    EXTRA_MEMBER,
    literal,
    quote,
    select_expression,
    staged_type,
)
from st_pipelines.warehouse.load_spec import LoadSpec
from st_pipelines.warehouse.staging.local_day import local_day
from st_pipelines.warehouse.store.scratch import InMemory, default_memory_limit, limit_memory

MEMORY = "400MB"
"""For rows while they are typed; the others wait in the staging folder. A merge is not limited: it
cannot do without both of its tables."""

_SMALLEST_OBJECT_SIZE = 16 * 1024 * 1024  # DuckDB's own default for the largest record
_NO_ROOM = (duckdb.OutOfMemoryException, duckdb.IOException)
_REFUSED = (duckdb.ConversionException, duckdb.InvalidInputException)


class Refused(Exception):
    """DuckDB could not read a page with the declared types."""


class TypedRows:
    """The table `staged`; use as a context manager, fill with `add`, take with `finish`.

    Attributes:
        name: of the table.
        dropped: rows that were taken out again as older versions of others.
        connection: to the database that holds it; open within the context only.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        load: LoadSpec,
        folder: Path,
        *,
        name: str = "staged",
        beside: TypedRows | None = None,
    ) -> None:
        """Nothing is opened yet.

        Args:
            endpoint: whose rows.
            load: what they are marked with.
            folder: for what DuckDB moves out of memory.
            name: of the table.
            beside: rows in whose database the table is to be; an own one if None.
        """
        self.name = name
        self.dropped = 0
        self._beside = beside
        self._database: InMemory | None = None
        self._endpoint = endpoint
        self._load = load
        self._folder = folder
        self._lock = threading.Lock()
        self._waiting: list[Path] = []
        self._running: Future[None] | None = None

    def __enter__(self) -> TypedRows:
        """Opens the database and the thread."""
        if self._beside is not None:
            self.connection = self._beside.connection.cursor()
        else:
            self._database = InMemory(self._folder)
            self.connection = self._database.connection
            self.connection.execute("SET threads = 1")  # the thread beside is the other core's work
            limit_memory(self.connection, MEMORY)  # in one with rows it could be too small already
        self.connection.execute("SET TimeZone = 'UTC'")
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="typed")
        if self._beside is not None:
            self.connection.execute(f"CREATE TABLE {self.name} AS FROM {self._beside.name} LIMIT 0")
        else:
            self.connection.execute(
                f"CREATE TABLE {self.name} AS {self._select([])}", self._values()
            )
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Drops all of it, at once."""
        with self._lock:
            self._waiting.clear()
        busy = self._running is not None and not self._running.done()
        if busy:
            self.connection.interrupt()
        self._thread.shutdown(wait=True)
        unhurt = kind is None and not busy
        if unhurt:
            self.connection.execute(f"DROP TABLE {self.name}")
        if self._database is not None:
            self._database.give_back(keep=unhurt)
        else:
            self.connection.close()

    def add(self, files: Sequence[Path]) -> None:
        """Has pages typed soon: JSON arrays of records that fit the catalogue.

        After a refusal nothing more is typed; `finish` tells of it.
        """
        with self._lock:
            self._waiting += files
            if self._waiting and not self._busy_or_refused():
                self._running = self._thread.submit(self._type_waiting)

    def wait(self) -> None:
        """Waits for what is being typed, whether it is refused or not."""
        if self._running is not None:
            self._running.exception()

    def clear(self) -> None:
        """Forgets all rows: their reading starts over."""
        with self._lock:
            self._waiting.clear()
        self.wait()
        self._running = None
        self.dropped = 0
        self.connection.execute(f"DELETE FROM {self.name}")

    def finish(self) -> None:
        """Waits until all pages are typed.

        Raises:
            Refused: some could not be; see `Staging.fit_all`.
        """
        while self._running is not None:
            running, self._running = self._running, None
            try:
                running.result()
            except _REFUSED as error:
                raise Refused(str(error)) from None
            with self._lock:
                if self._waiting:
                    self._running = self._thread.submit(self._type_waiting)
        limit_memory(self.connection, default_memory_limit())

    @property
    def rows(self) -> int:
        """How many."""
        return self.connection.execute(f"SELECT count(*) FROM {self.name}").fetchall()[0][0]

    def _busy_or_refused(self) -> bool:
        running = self._running
        return running is not None and (not running.done() or running.exception() is not None)

    def _type_waiting(self) -> None:
        while True:
            with self._lock:
                files, self._waiting = self._waiting, []
            if not files:
                return
            sql = f"INSERT INTO {self.name} {self._select(files)}"
            try:
                self.connection.execute(sql, self._values())
            except _NO_ROOM:  # a page needs more, or the disk of the folder is full
                limit_memory(self.connection, default_memory_limit())
                self.connection.execute(sql, self._values())

    def _values(self) -> dict[str, Any]:
        load = self._load
        return {
            "tenant": load.tenant_id,
            "default_date": load.default_date,
            "loaded_at": load.loaded_at,
            "run": load.run_id,
        }

    def _select(self, files: Sequence[Path]) -> str:
        fields = self._endpoint.row_fields
        selected = [f"{select_expression(f)} AS {quote(f.column)}" for f in fields]
        own = [
            "$tenant::VARCHAR AS _tenant_id",
            f"{_partition_date(self._endpoint, self._load.timezone)} AS _partition_date",
            "$loaded_at::TIMESTAMPTZ AS _loaded_at",
            "$run::VARCHAR AS _run_id",
            "NULL::TIMESTAMPTZ AS _deleted_at",
            f"{quote(EXTRA_MEMBER)}::JSON AS {EXTRA}",
        ]
        return f"SELECT {', '.join(selected + own)} FROM {self._source(files)}"

    def _source(self, files: Sequence[Path]) -> str:
        fields = [(f.name, staged_type(f.type)) for f in self._endpoint.row_fields]
        fields.append((EXTRA_MEMBER, "VARCHAR"))
        if not files:
            nulls = ", ".join(f"NULL::{type_} AS {quote(name)}" for name, type_ in fields)
            return f"(SELECT {nulls} WHERE false)"
        columns = ", ".join(f"{literal(name)}: {literal(type_)}" for name, type_ in fields)
        names = ", ".join(literal(str(file)) for file in files)
        size = max(_SMALLEST_OBJECT_SIZE, 1024 + max(file.stat().st_size for file in files))
        return (
            f"read_json([{names}], format = 'array', records = true, columns = {{{columns}}}, "
            f"hive_partitioning = false, maximum_object_size = {size})"
        )


def _partition_date(endpoint: Endpoint, zone: str) -> str:
    """The local day of the cursor, as served; the default where there is none."""
    if not endpoint.cursor:
        return "$default_date::DATE"
    cursor = ".".join(quote(part) for part in endpoint.cursor.split("."))
    return f"coalesce({local_day(cursor, zone)}, $default_date)"
