"""The warehouse as one DuckDB file: opened briefly, waiting for whoever holds it.

A DuckDB file belongs to one process at a time, readers included. A load therefore works in an
in-memory database and attaches the file only to merge. Attaching waits, up to a limit: first for
the write lock, in the order of arrival (`write_queue`), then for DuckDB's own lock, which a shell
or notebook may hold. Readers get a copy of the file (`read_copy`).

What survives a power failure, as the system calls of DuckDB 1.5.6 and 2.0.1 show:

- COMMIT returns after an fdatasync of the written blocks, a new header that includes them, and
  another fdatasync. A committed load is durable.
- A transaction that did more than insert goes through the log `<file>.wal`, which is synced too,
  and which COMMIT then moves into the file. The next ATTACH replays a log that was left behind.
- A new file is created elsewhere and linked to its path when it is complete. Its folder is synced,
  which DuckDB does not do.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import duckdb

from st_pipelines.warehouse.columns import literal, quote
from st_pipelines.warehouse.errors import WarehouseBusy, WarehouseUnusable, translate_duckdb_error
from st_pipelines.warehouse.store import integrity
from st_pipelines.warehouse.store.base import ALIAS, DEFAULT_WAIT_SECONDS, Published
from st_pipelines.warehouse.store.location import (
    PRIVATE,
    check_location,
    effective_mode,
    find_exposed,
    log_with_mode,
    set_mode,
    stat_file,
    sync_folder,
    translate_os_error,
)
from st_pipelines.warehouse.store.read_copy import ReadCopy
from st_pipelines.warehouse.store.scratch import staging_folder
from st_pipelines.warehouse.store.write_queue import (
    Deadline,
    WriteLock,
    acquire,
    sleep_before_retry,
)

_DURABLE = "COMMIT succeeded and is durable"
_CHECKPOINT_THRESHOLD = "1KB"
"""COMMIT moves a longer log into the file, or bypasses the log; otherwise DETACH would have to."""
_STORAGE_VERSION = "v1.4.0"
"""Of new files; they keep it. By default, no driver of DuckDB 1 can open those of DuckDB 2."""
_Opened = TypeVar("_Opened")
_opening = threading.Lock()  # no thread may inspect a file while another attaches it


@dataclass(frozen=True, kw_only=True)
class DuckDBFile:
    """A `Store` in a DuckDB file.

    Attributes:
        uri: the file's path, with or without `duckdb:` before it.
        wait_seconds: how long to wait for processes that hold the file or arrived earlier.
        publish_seconds: the least time between two read copies after loads; None for none.
        file_mode: permissions of the file and what belongs to it; None lets an existing file
            decide, and gives a new one to its owner only.
    """

    uri: str
    wait_seconds: float = DEFAULT_WAIT_SECONDS
    publish_seconds: float | None = None
    file_mode: int | None = None

    @property
    def path(self) -> Path:
        """The file. Only this package and its tests use it."""
        return Path(self.uri.removeprefix("duckdb:"))

    @property
    def name(self) -> str:
        """The file's path."""
        return str(self.path)

    @property
    def exists(self) -> bool:
        """Whether the file exists and is not empty."""
        return self.size_bytes > 0

    @property
    def size_bytes(self) -> int:
        """The file's size."""
        status = stat_file(self.path)
        return status.st_size if status else 0

    @property
    def scratch_folder(self) -> Path:
        """The file's folder: a new file and a read copy must be staged on its file system."""
        return self.path.parent

    @property
    def read_location(self) -> str:
        """The path of the read copy."""
        return str(self.read_copy.path)

    @property
    def read_copy(self) -> ReadCopy:
        """The copy that readers open."""
        return ReadCopy(
            source=self.path,
            wait_seconds=self.wait_seconds,
            attach_source=functools.partial(_attach_file, self.path, self._mode),
            file_mode=self._mode,
        )

    def exposed_files(self) -> list[tuple[Path, int]]:
        """Returns what `ST_FILE_MODE`, by default 0600, does not allow. See the protocol."""
        mode, copy = self.file_mode or PRIVATE, self.read_copy.path
        modes = {self.path: mode, copy: mode & 0o444}
        for file in (self.path, copy):
            modes |= {file.with_name(f"{file.name}{end}"): mode for end in (".wal", ".lock")}
        staging = self.path.parent.glob(".staging*")
        return find_exposed({**modes, **{folder: 0o700 for folder in staging}})

    def check(self) -> None:
        """Verifies that a load could write the file. See `Store.check`."""
        check_location(self.path, self.file_mode)
        with _opening:
            integrity.check(self.path)

    @property
    def _mode(self) -> int:
        return effective_mode(self.path, self.file_mode)

    @contextlib.contextmanager
    def attach(
        self, connection: duckdb.DuckDBPyConnection, purpose: str = "a load"
    ) -> Iterator[None]:
        """Attaches the file to a connection. See `Store.attach`."""
        self.check()
        deadline = Deadline(self.wait_seconds)
        with (
            acquire(self.path, deadline, purpose, file_mode=self._mode) as lock,
            _attach_file(self.path, self._mode, connection, lock, deadline),
        ):
            yield

    def commit(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Commits the transaction. See `Store.commit`."""
        try:
            connection.execute("COMMIT")
        except duckdb.Error as error:
            # It is in the log, which could not be moved into the file: the next ATTACH does that.
            if _DURABLE not in str(error):
                raise

    @contextlib.contextmanager
    def read_only(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Yields a read-only connection to the file. See `Store.read_only`."""
        if stat_file(self.path) is None:
            with _opening:
                integrity.check(self.path)  # refuses a log without its file
            raise WarehouseUnusable(f"warehouse {self.path} does not exist yet: load something")
        deadline = Deadline(self.wait_seconds)
        with acquire(self.path, deadline, "a query", file_mode=self._mode) as lock:
            connection = _retry_while_busy(lambda: _open_read_only(self.path), lock, deadline)
        with connection:
            connection.execute("SET TimeZone = 'UTC'")
            yield connection

    def publish(self) -> Published | None:
        """Replaces the read copy unless it is current. See `Store.publish`."""
        if stat_file(self.path) is None:
            self.check()
            raise WarehouseUnusable(f"warehouse {self.path} does not exist yet: load something")
        return self.read_copy.publish()

    def publish_if_due(self) -> Published | None:
        """Replaces the read copy if it is older than `publish_seconds`."""
        if self.publish_seconds is None:
            return None
        return self.read_copy.publish_if_older_than(self.publish_seconds)


@contextlib.contextmanager
def _attach_file(
    path: Path,
    mode: int,
    connection: duckdb.DuckDBPyConnection,
    lock: WriteLock,
    deadline: Deadline,
) -> Iterator[None]:
    """Attaches the file as `ALIAS`, creating it if necessary; detaches on exit.

    Raises:
        WarehouseBusy: another program held the file until the deadline.
        WarehouseUnusable, WarehouseFull: see the classes.
    """
    _retry_while_busy(lambda: _attach(connection, path, mode), lock, deadline)
    try:
        with log_with_mode(path, mode):
            yield
    except BaseException as error:
        with contextlib.suppress(duckdb.Error):
            connection.execute("ROLLBACK")
        if isinstance(error, duckdb.Error):
            raise translate_duckdb_error(error, path) from error
        raise
    finally:
        # a commit that cannot be moved into the file stays in the log beside it
        with contextlib.suppress(duckdb.Error):
            connection.execute(f"DETACH {ALIAS}")


def _retry_while_busy(open_: Callable[[], _Opened], lock: WriteLock, deadline: Deadline) -> _Opened:
    while True:
        try:
            return open_()
        except WarehouseBusy as error:
            if not deadline.left:
                raise
            lock.report_obstacle(str(error))
            deadline.log_wait(lambda obstacle=str(error): obstacle)
            sleep_before_retry(deadline)


def _attach(connection: duckdb.DuckDBPyConnection, path: Path, mode: int) -> None:
    with _opening:
        integrity.check(path)
        try:
            if not path.exists():
                _create(connection, path, mode)
            connection.execute(f"SET checkpoint_threshold = '{_CHECKPOINT_THRESHOLD}'")
            connection.execute(f"ATTACH {literal(str(path))} AS {quote(ALIAS)}")
        except OSError as error:
            raise translate_os_error(error, path) from None
        except duckdb.Error as error:
            raise translate_duckdb_error(error, path) from None


def _create(connection: duckdb.DuckDBPyConnection, path: Path, mode: int) -> None:
    """Creates an empty database atomically: a partial one could not be opened."""
    target = path.resolve()  # `path` may be a symbolic link to no file yet
    with staging_folder(path.parent, path.name) as new:
        connection.execute(
            f"ATTACH {literal(str(new))} AS created (STORAGE_VERSION {literal(_STORAGE_VERSION)})"
        )
        connection.execute("DETACH created")
        set_mode(new, mode)  # so far, its folder has kept others out
        try:
            os.link(new, target)  # unlike a rename, never replaces what another process created
        except FileExistsError:
            pass
        except OSError:  # file systems and containers refuse links with many codes
            _copy_exclusively(new, target, mode)
    sync_folder(target.parent)


def _copy_exclusively(new: Path, path: Path, mode: int) -> None:
    """Copies a complete, small database to its path unless another process has created it."""
    try:
        target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError:
        return
    try:
        with os.fdopen(target, "wb") as file, new.open("rb") as source:
            shutil.copyfileobj(source, file)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink()
        raise


def _open_read_only(path: Path) -> duckdb.DuckDBPyConnection:
    with _opening:
        integrity.check(path)
        try:
            return duckdb.connect(str(path), read_only=True)
        except duckdb.Error as error:
            raise translate_duckdb_error(error, path) from None
