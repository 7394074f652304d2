"""Opening a warehouse: for as short as possible, waiting for whoever holds it.

A DuckDB file belongs to one process at a time, readers included. So a load does its work in an
in-memory database and attaches the file only to merge; attaching waits, bounded: first for its turn
among the loads (`turns`), then for DuckDB's lock, which a shell or notebook may hold.

What survives a power failure (seen in the system calls of DuckDB 1.5.6 and 2.0.1): COMMIT returns
after fdatasync of the blocks that were written, a new header that counts them in, and fdatasync, so
a committed load stays. A transaction that did more than insert comes by the log `<file>.wal`, which
is synced too, and which COMMIT then moves into the file; one that was left over is taken in by the
next ATTACH. A new file is made beside its place and put there when it is complete, and its folder
is synced, which DuckDB does not do.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import duckdb

from st_pipelines.warehouse.columns import literal, quote
from st_pipelines.warehouse.errors import (
    FULL,
    WarehouseBusy,
    WarehouseError,
    WarehouseFull,
    WarehouseUnusable,
)
from st_pipelines.warehouse.store import integrity as soundness
from st_pipelines.warehouse.store.scratch import staging_folder
from st_pipelines.warehouse.store.write_queue import Deadline, WriteLock, acquire, pause

ALIAS = "warehouse"
_Opened = TypeVar("_Opened")
_HELD = re.compile(r"Conflicting lock is held in (?P<program>.*?) \(PID (?P<pid>\d+)\)")
_DURABLE = "COMMIT succeeded and is durable"
_DAMAGED = (
    "not a valid DuckDB database",
    "Corrupt database file",
    "Corrupt WAL file",
    "Failure while replaying WAL",
    "Could not read enough bytes",
    "Serialization",
)
_LONGEST_LOG = "1KB"
"""A longer one COMMIT moves into the file, or does without where it can; else DETACH had to."""
_opening = threading.Lock()  # nobody may look into a file while another thread attaches it


@dataclass(frozen=True, kw_only=True)
class Warehouse:
    """A place for tables.

    Attributes:
        uri: a path of a DuckDB file, or `duckdb:` and a path.
        wait: seconds to wait for others that hold the file, or want it and asked before.
        publish_seconds: seconds between two read copies that are made after loads; None for none.
    """

    uri: str
    wait: float = 120.0
    publish_seconds: float | None = None

    @property
    def path(self) -> Path:
        """The file. Raises WarehouseUnusable for a URI of another kind."""
        scheme, colon, rest = self.uri.partition(":")
        if not colon or "/" in scheme or len(scheme) == 1:
            return Path(self.uri)
        if scheme == "duckdb":
            return Path(rest)
        raise WarehouseUnusable(
            f"warehouse {self.uri!r}: {scheme}: is not supported, name a path of a DuckDB file"
        )

    @property
    def exists(self) -> bool:
        """Whether there is a file yet."""
        return self.path.exists() and self.path.stat().st_size > 0

    def check(self) -> None:
        """Finds out whether a load could write here, before anything is asked of the API.

        Raises:
            WarehouseUnusable: the folder cannot be written, or the file is no DuckDB database.
        """
        path = self.path
        if "?" in str(path):
            raise WarehouseUnusable(
                f"warehouse {path}: DuckDB takes what follows a question mark in a path for "
                "options, set ST_WAREHOUSE_DIR to a folder without one"
            )
        if path.is_dir():
            raise WarehouseUnusable(f"warehouse {path} is a folder: name a file in it")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            writable = os.access(path.parent, os.W_OK)
        except OSError as error:
            raise WarehouseUnusable(
                f"warehouse {path}: its folder cannot be made ({error.strerror}): "
                "set ST_WAREHOUSE_DIR to a folder that you can write"
            ) from None
        if not writable or (path.exists() and not os.access(path, os.W_OK)):
            raise WarehouseUnusable(
                f"warehouse {path} cannot be written: set ST_WAREHOUSE_DIR to a folder that you "
                "can write, or mend the permissions"
            )
        _look_at(path)

    @contextlib.contextmanager
    def attached(
        self, connection: duckdb.DuckDBPyConnection, purpose: str = "a load"
    ) -> Iterator[None]:
        """The warehouse attached to a connection as `warehouse`, detached on leaving.

        Args:
            connection: of an in-memory database.
            purpose: told to others that wait meanwhile.

        Raises:
            WarehouseBusy: others held it for all of `wait`; names the one that does now.
            WarehouseUnusable, WarehouseFull: as the classes say.
        """
        self.check()
        deadline = Deadline(self.wait)
        with (
            acquire(self.path, deadline, purpose) as held,
            self.attachment(connection, held, deadline),
        ):
            yield

    @contextlib.contextmanager
    def attachment(
        self, connection: duckdb.DuckDBPyConnection, held: WriteLock, deadline: Deadline
    ) -> Iterator[None]:
        """As `attached`, for the one whose turn it is already."""
        _retried(lambda: _attach(connection, self.path), held, deadline)
        try:
            yield
        except BaseException as error:
            with contextlib.suppress(duckdb.Error):
                connection.execute("ROLLBACK")
            if isinstance(error, duckdb.Error):
                raise translate_duckdb_error(error, self.path) from error
            raise
        finally:
            # a commit that cannot be moved into the file stays in the log beside it
            with contextlib.suppress(duckdb.Error):
                connection.execute(f"DETACH {ALIAS}")

    @contextlib.contextmanager
    def reading(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A read-only connection to the file; waits as loads do. Raises WarehouseError."""
        deadline = Deadline(self.wait)
        with acquire(self.path, deadline, "a query") as held:
            connection = _retried(lambda: _opened_to_read(self.path), held, deadline)
        with connection:
            connection.execute("SET TimeZone = 'UTC'")
            yield connection


def commit(connection: duckdb.DuckDBPyConnection) -> None:
    """Ends the transaction in the attached warehouse; after that it may only be detached.

    Raises:
        duckdb.Error: nothing of it is in the warehouse.
    """
    try:
        connection.execute("COMMIT")
    except duckdb.Error as error:
        # It is in the log, which could not be moved into the file: the next to open it does that.
        if _DURABLE not in str(error):
            raise


def _retried(open_: Callable[[], _Opened], held: WriteLock, deadline: Deadline) -> _Opened:
    """What opens the file, until DuckDB's lock is free: not all that hold it wait for turns."""
    while True:
        try:
            return open_()
        except WarehouseBusy as error:
            if not deadline.left:
                raise
            held.tell(str(error))
            deadline.say(lambda told=str(error): told)
            pause(deadline)


def _look_at(path: Path) -> None:
    with _opening:
        soundness.check(path)


def _attach(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    with _opening:
        soundness.check(path)
        try:
            if not path.exists():
                _make(connection, path)
            connection.execute(f"SET checkpoint_threshold = '{_LONGEST_LOG}'")
            connection.execute(f"ATTACH {literal(str(path))} AS {quote(ALIAS)}")
        except duckdb.Error as error:
            raise translate_duckdb_error(error, path) from None


def _make(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    """An empty database, there at once or not at all: a half made one could not be opened."""
    with staging_folder(path.parent, path.name) as new:
        connection.execute(f"ATTACH {literal(str(new))} AS made")
        connection.execute("DETACH made")
        try:
            os.link(new, path)  # unlike a rename, it never replaces what another made meanwhile
        except FileExistsError:
            pass
        except OSError as error:  # a file system without links: DuckDB makes the file in its place
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
                raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Has the disk remember which files are in a folder."""
    file = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems have no such thing
            os.fsync(file)
    finally:
        os.close(file)


def _opened_to_read(path: Path) -> duckdb.DuckDBPyConnection:
    with _opening:
        soundness.check(path)
        try:
            return duckdb.connect(str(path), read_only=True)
        except duckdb.Error as error:
            raise translate_duckdb_error(error, path) from None


def translate_duckdb_error(error: Exception, path: Path) -> Exception:
    """DuckDB's error as one that says what to do; others as they are."""
    text = str(error)
    if held := _HELD.search(text):
        return WarehouseBusy(
            f"warehouse {path} is held by process {held['pid']} ({held['program']}): close it "
            "there (a DuckDB shell or notebook keeps the file to itself), or wait for its load"
        )
    if "could not set lock on file" in text.lower():
        return WarehouseBusy(f"warehouse {path} is held by another process")
    if any(sign in text for sign in ("file handle conflict", "already attached", "same database")):
        return WarehouseBusy(f"warehouse {path} is open in this process: close that connection")
    if any(sign in text for sign in ("No space left", "File too large")) or _is_full(error):
        return WarehouseFull(
            f"no space left on the disk of warehouse {path}, or a limit for the size of files: "
            "nothing was written"
        )
    if any(sign in text for sign in _DAMAGED):
        return WarehouseUnusable(
            f"warehouse {path} is damaged, and left as it is ({text}): {soundness.advice(path)}"
        )
    if isinstance(error, duckdb.IOException):
        return WarehouseUnusable(f"warehouse {path}: {text}")
    return error


def _is_full(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in FULL


__all__ = ["ALIAS", "Warehouse", "WarehouseError", "translate_duckdb_error"]
