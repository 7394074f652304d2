"""Reads staged pages into a table of typed rows, in an in-memory database.

A background thread types the pages that have arrived while the next ones are fetched and checked:
DuckDB releases Python's global lock, so both run at once. Nothing here touches the warehouse.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import duckdb

from st_pipelines.catalog.model import Endpoint, Field
from st_pipelines.warehouse.columns import (
    EXTRA_MEMBER,
    columns_of,
    literal,
    local_day_sql,
    quote,
    select_expression,
    staged_type,
)
from st_pipelines.warehouse.load_spec import LoadSpec
from st_pipelines.warehouse.staging.stage import Drift, fit_page, write_page
from st_pipelines.warehouse.store.scratch import InMemory, default_memory_limit, limit_memory

MEMORY_LIMIT = "400MB"
"""For typing rows; DuckDB spills the others into the staging folder. A merge is not limited, as it
needs both of its tables."""

_MIN_OBJECT_BYTES = 16 * 1024 * 1024  # DuckDB's default limit for one record
_OUT_OF_SPACE = (duckdb.OutOfMemoryException, duckdb.IOException)
_REJECTIONS = (duckdb.ConversionException, duckdb.InvalidInputException)


class PageRejected(Exception):
    """DuckDB could not read a page with the declared types."""


class TypedRows:
    """A table of typed rows: add pages with `add`, and complete it with `finish`.

    Use it as a context manager: the table exists inside the `with` block.

    Attributes:
        name: the table's name.
        dropped: rows removed again because they were older versions of others.
        refitted: pages that DuckDB refused and that were made to fit, with their drift.
        connection: to the table's database; open inside the `with` block.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        spec: LoadSpec,
        folder: Path,
        *,
        name: str = "staged",
        beside: TypedRows | None = None,
    ) -> None:
        """Opens nothing yet.

        Args:
            spec: fills the rows' own columns.
            folder: where DuckDB spills to.
            name: the table's name.
            beside: other rows, whose database the table shares; None for a database of its own.
        """
        self.name = name
        self.dropped = 0
        self.refitted: dict[Path, Drift] = {}
        self._beside = beside
        self._database: InMemory | None = None
        self._endpoint = endpoint
        self._spec = spec
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
            self.connection.execute("SET threads = 1")  # fetching uses the other core
            limit_memory(self.connection, MEMORY_LIMIT)  # fails in a database whose rows need more
        self.connection.execute("SET TimeZone = 'UTC'")
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="typed")
        if self._beside is not None:
            self.connection.execute(f"CREATE TABLE {self.name} AS FROM {self._beside.name} LIMIT 0")
        else:
            columns = (f"{quote(n)} {type_}" for n, type_ in columns_of(self._endpoint).items())
            self.connection.execute(f"CREATE TABLE {self.name} ({', '.join(columns)})")
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Drops the table without waiting for pages that are being typed."""
        with self._lock:
            self._waiting.clear()
        busy = self._running is not None and not self._running.done()
        if busy:
            self.connection.interrupt()
        self._thread.shutdown(wait=True)
        succeeded = kind is None and not busy
        if succeeded:
            self.connection.execute(f"DROP TABLE {self.name}")
        if self._database is not None:
            self._database.give_back(keep=succeeded)
        else:
            self.connection.close()

    def add(self, files: Sequence[Path]) -> None:
        """Queues pages for typing: JSON arrays of records that fit the catalog.

        After a rejection no more pages are typed, and `finish` raises.
        """
        with self._lock:
            self._waiting += files
            running = self._running
            ready = running is None or (running.done() and running.exception() is None)
            if self._waiting and ready:
                self._running = self._thread.submit(self._type_waiting)

    def wait(self) -> None:
        """Waits for the pages being typed; ignores a rejection."""
        if self._running is not None:
            self._running.exception()

    def clear(self) -> None:
        """Deletes all rows, before they are read again."""
        with self._lock:
            self._waiting.clear()
        self.wait()
        self._running = None
        self.dropped = 0
        self.connection.execute(f"DELETE FROM {self.name}")

    def finish(self) -> None:
        """Waits until all pages are typed.

        Raises:
            PageRejected: DuckDB could not read a page, although its records were made to fit.
            MalformedRecords: a record of a page that DuckDB refused cannot be taken apart.
        """
        while self._running is not None:
            running, self._running = self._running, None
            try:
                running.result()
            except _REJECTIONS as error:
                # DuckDB's message quotes the value, which may be a customer's.
                kind = type(error).__name__
                raise PageRejected(f"DuckDB cannot type the records ({kind})") from None
            with self._lock:
                if self._waiting:
                    self._running = self._thread.submit(self._type_waiting)
        limit_memory(self.connection, default_memory_limit())

    @property
    def rows(self) -> int:
        """The number of rows."""
        return self.connection.execute(f"SELECT count(*) FROM {self.name}").fetchall()[0][0]

    def _type_waiting(self) -> None:
        while True:
            with self._lock:
                files, self._waiting = self._waiting, []
            if not files:
                return
            try:
                self._insert(files)
            except _REJECTIONS:
                for file in files:  # in the order they came in, which decides between equals
                    self._insert_or_fit(file)

    def _insert_or_fit(self, file: Path) -> None:
        """Types one page. If DuckDB refuses it, every one of its records is made to fit first."""
        try:
            self._insert([file])
        except _REJECTIONS:
            page = fit_page(file.read_bytes(), self._endpoint)
            write_page(file, page.records)
            self.refitted[file] = page.drift
            self._insert([file])

    def _insert(self, files: Sequence[Path]) -> None:
        values = {
            "tenant": self._spec.tenant_id,
            "default_date": self._spec.default_date,
            "loaded_at": self._spec.loaded_at,
            "run": self._spec.run_id,
            "sequence": self._spec.sequence,
        }
        sql = self._build_insert(files)
        try:
            self.connection.execute(sql, values)
        except _OUT_OF_SPACE:  # the page needs more memory, or the folder's disk is full
            limit_memory(self.connection, default_memory_limit())
            self.connection.execute(sql, values)

    def _build_insert(self, files: Sequence[Path]) -> str:
        fields = self._endpoint.row_fields
        names = ", ".join(literal(str(file)) for file in files)
        size = max(_MIN_OBJECT_BYTES, 1024 + max(file.stat().st_size for file in files))
        return (
            f"INSERT INTO {self.name} "
            f"SELECT {_build_select_list(fields, self._endpoint.cursor, self._spec.timezone)} "
            f"FROM read_json([{names}], format = 'array', records = true, "
            f"columns = {{{_build_staged_columns(fields)}}}, hive_partitioning = false, "
            f"maximum_object_size = {size})"
        )


@functools.lru_cache(maxsize=1024)
def _build_select_list(fields: tuple[Field, ...], cursor: str | None, zone: str) -> str:
    """Returns the expressions for a table's columns, in the order of `columns_of`."""
    day = "$default_date::DATE"
    if cursor:  # the local day of the cursor
        moment = ".".join(quote(part) for part in cursor.split("."))
        day = f"coalesce({local_day_sql(moment, zone)}, $default_date)"
    own = ["$tenant", day, "$loaded_at", "$run", "NULL", "$sequence"]
    own.append(f"{quote(EXTRA_MEMBER)}::JSON")
    return ", ".join([*map(select_expression, fields), *own])


@functools.lru_cache(maxsize=1024)
def _build_staged_columns(fields: tuple[Field, ...]) -> str:
    """Returns the columns with which `read_json` reads staged pages."""
    types = {f.name: staged_type(f.type) for f in fields} | {EXTRA_MEMBER: "VARCHAR"}
    return ", ".join(f"{literal(name)}: {literal(type_)}" for name, type_ in types.items())
