"""A copy of the warehouse to read from: `<name>_read.duckdb` beside it, replaced as a whole.

DuckDB lets nobody read a file that another process writes, and a reader keeps every writer out. So
those who read (notebooks, BI tools) open the copy, for as long as they like: one that is replaced
goes on existing for those who have it open.

The file is copied byte by byte while its lock is held and its log is empty, by the kernel alone
(`copy_file_range`, which shares the blocks where the file system can). Against that `COPY FROM
DATABASE` takes a multiple of the time, and a copy of changed blocks alone saves nothing: it has to
compare all of them, and must not touch the old copy, which others read. See benchmarks/README.md.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import duckdb

from st_pipelines.warehouse.columns import literal
from st_pipelines.warehouse.errors import WarehouseBusy, WarehouseUnusable
from st_pipelines.warehouse.store.duckdb_file import (
    ALIAS,
    Warehouse,
    sync_folder,
    translate_duckdb_error,
)
from st_pipelines.warehouse.store.scratch import in_memory, staging_folder
from st_pipelines.warehouse.store.write_queue import Deadline, acquire

_CHUNK = 1 << 30
_NOT_BY_THE_KERNEL = {errno.EXDEV, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EPERM}


@dataclass(frozen=True, kw_only=True)
class Published:
    """A read copy that was made.

    Attributes:
        path: the copy.
        bytes: its size.
        seconds: from the first to the last step.
        held_seconds: of these, how long loads had to wait.
    """

    path: Path
    bytes: int
    seconds: float
    held_seconds: float


def read_copy(warehouse: Warehouse) -> Path:
    """Where the copy is or would be: `data/production_read.duckdb`."""
    path = warehouse.path
    return path.with_name(f"{path.stem}_read{path.suffix}")


def publish(warehouse: Warehouse) -> Published | None:
    """Makes the read copy anew, unless it is the warehouse's present state already.

    Of several that ask at once one copies; the others wait for it, and find it done.

    Returns:
        What was made; None if the copy was up to date.

    Raises:
        WarehouseBusy: a writer or another publisher was in the way for all of `warehouse.wait`.
        WarehouseUnusable: there is no warehouse yet, or it is damaged.
        WarehouseFull: no space for the copy; the old one stays.
    """
    _require(warehouse)
    with acquire(read_copy(warehouse), Deadline(warehouse.wait), "publishing"):
        return None if is_current(warehouse) else _replace(warehouse)


def publish_if_due(warehouse: Warehouse) -> Published | None:
    """After a load: makes the copy anew if `publish_seconds` have passed since the last.

    Returns:
        What was made; None if publishing is off, not due, or being done by another.

    Raises:
        WarehouseError: as `publish`.
    """
    if warehouse.publish_seconds is None or not _is_due(warehouse, warehouse.publish_seconds):
        return None
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(acquire(read_copy(warehouse), Deadline(0), "publishing"))
        except WarehouseBusy:
            return None
        if not _is_due(warehouse, warehouse.publish_seconds) or is_current(warehouse):
            return None
        return _replace(warehouse)


def is_current(warehouse: Warehouse) -> bool:
    """Whether the copy has all that is in the warehouse; told by their sizes and times."""
    log = warehouse.path.with_name(warehouse.path.name + ".wal")
    try:
        copied, present = read_copy(warehouse).stat(), warehouse.path.stat()
    except FileNotFoundError:
        return False
    same = (copied.st_size, copied.st_mtime_ns) == (present.st_size, present.st_mtime_ns)
    return same and not (log.exists() and log.stat().st_size)


def _is_due(warehouse: Warehouse, seconds: float) -> bool:
    try:
        made = read_copy(warehouse).stat().st_ctime  # mtime is the warehouse's
    except FileNotFoundError:
        return True
    return not 0 <= time.time() - made < seconds


def _require(warehouse: Warehouse) -> None:
    if not warehouse.path.exists():
        warehouse.check()
        raise WarehouseUnusable(f"warehouse {warehouse.path} does not exist yet: load something")


def _replace(warehouse: Warehouse) -> Published:
    started, target = time.monotonic(), read_copy(warehouse)
    try:
        with staging_folder(warehouse.path.parent, target.name) as new:
            held = _copy(warehouse, new)
            _require_readable(new)
            new.chmod(0o444)  # whoever opens it to write is told so
            target.with_name(target.name + ".wal").unlink(missing_ok=True)  # written all the same
            os.replace(new, target)
    except OSError as error:
        raise translate_duckdb_error(error, target) from error
    sync_folder(target.parent)
    size, seconds = target.stat().st_size, time.monotonic() - started
    return Published(path=target, bytes=size, seconds=seconds, held_seconds=held)


def _copy(warehouse: Warehouse, new: Path) -> float:
    """Copies the file when all commits are in it, and its time. Returns how long it was locked."""
    deadline = Deadline(warehouse.wait)
    with new.open("xb") as target:
        with (
            acquire(warehouse.path, deadline, "publishing") as held,
            in_memory(new.parent) as connection,
            contextlib.ExitStack() as after_detaching,
        ):
            with warehouse.attachment(connection, held, deadline):
                started = time.monotonic()
                connection.execute(f"CHECKPOINT {ALIAS}")
                # not closed before: a process that closes a file loses its locks on it
                source = after_detaching.enter_context(warehouse.path.open("rb"))
                _copy_bytes(source, target)
                copied = os.fstat(source.fileno())
            seconds = time.monotonic() - started
        os.fsync(target.fileno())
    os.utime(new, ns=(copied.st_atime_ns, copied.st_mtime_ns))
    return seconds


def _copy_bytes(source: BinaryIO, target: BinaryIO) -> None:
    try:
        while os.copy_file_range(source.fileno(), target.fileno(), _CHUNK):
            pass
    except (AttributeError, OSError) as error:  # not on macOS, and not on every file system
        if isinstance(error, OSError) and error.errno not in _NOT_BY_THE_KERNEL:
            raise
        shutil.copyfileobj(source, target, 1 << 20)
        target.flush()


def _require_readable(copy: Path) -> None:
    try:
        with in_memory(copy.parent) as connection:
            connection.execute(f"ATTACH {literal(str(copy))} AS made (READ_ONLY)")
            connection.execute("SELECT count(*) FROM duckdb_tables()").fetchall()
            connection.execute("DETACH made")
    except duckdb.Error as error:
        raise translate_duckdb_error(error, copy) from error
