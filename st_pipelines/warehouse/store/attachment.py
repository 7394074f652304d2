"""Attaches and opens DuckDB files: checks them first, and waits while another process has them.

Callers hold the write lock (`write_queue`). Not every process queues for it: a DuckDB shell or a
notebook takes DuckDB's own lock on the file, so opening is retried until the deadline.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import duckdb

from st_pipelines.warehouse.columns import literal, quote
from st_pipelines.warehouse.errors import WarehouseBusy, translate_duckdb_error
from st_pipelines.warehouse.store import integrity
from st_pipelines.warehouse.store.base import ALIAS
from st_pipelines.warehouse.store.scratch import staging_folder
from st_pipelines.warehouse.store.write_queue import Deadline, WriteLock, sleep_before_retry

_CHECKPOINT_THRESHOLD = "1KB"
"""COMMIT moves a longer log into the file, or bypasses the log; otherwise DETACH would have to."""
_NO_HARD_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)
_Opened = TypeVar("_Opened")
_opening = threading.Lock()  # no thread may inspect a file while another attaches it


@contextlib.contextmanager
def attach_file(
    connection: duckdb.DuckDBPyConnection, path: Path, lock: WriteLock, deadline: Deadline
) -> Iterator[None]:
    """Attaches the file as `ALIAS`, creating it if necessary; detaches on exit.

    Raises:
        WarehouseBusy: another program held the file until the deadline.
        WarehouseUnusable, WarehouseFull: see the classes.
    """
    _retry_while_busy(lambda: _attach(connection, path), lock, deadline)
    try:
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


def open_read_only(path: Path, lock: WriteLock, deadline: Deadline) -> duckdb.DuckDBPyConnection:
    """Opens the file for reading. Raises WarehouseError as `attach_file` does."""
    return _retry_while_busy(lambda: _open_read_only(path), lock, deadline)


def check_file(path: Path) -> None:
    """Runs `integrity.check`, but not while another thread attaches the file."""
    with _opening:
        integrity.check(path)


def sync_folder(folder: Path) -> None:
    """Flushes a folder's list of files to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems do not support it
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


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


def _attach(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    with _opening:
        integrity.check(path)
        try:
            if not path.exists():
                _create(connection, path)
            connection.execute(f"SET checkpoint_threshold = '{_CHECKPOINT_THRESHOLD}'")
            connection.execute(f"ATTACH {literal(str(path))} AS {quote(ALIAS)}")
        except duckdb.Error as error:
            raise translate_duckdb_error(error, path) from None


def _create(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Creates an empty database atomically: a partial one could not be opened."""
    with staging_folder(path.parent, path.name) as new:
        connection.execute(f"ATTACH {literal(str(new))} AS created")
        connection.execute("DETACH created")
        try:
            os.link(new, path)  # unlike a rename, never replaces what another process created
        except FileExistsError:
            pass
        except OSError as error:  # without hard links, DuckDB creates the file at its path
            if error.errno not in _NO_HARD_LINKS:
                raise
    sync_folder(path.parent)


def _open_read_only(path: Path) -> duckdb.DuckDBPyConnection:
    with _opening:
        integrity.check(path)
        try:
            return duckdb.connect(str(path), read_only=True)
        except duckdb.Error as error:
            raise translate_duckdb_error(error, path) from None
