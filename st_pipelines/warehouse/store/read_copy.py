"""Publishes a copy of the warehouse for readers: `<name>_read.duckdb` beside it.

DuckDB lets no process read a file that another one writes, and a reader blocks every writer.
Readers (notebooks, BI tools) therefore open the copy, for as long as they like. The copy is
replaced as a whole; readers who have the old one open keep it.

The file is copied byte by byte while its lock is held and its log is empty, in the kernel
(`copy_file_range`, which shares blocks where the file system can). `COPY FROM DATABASE` takes
several times as long. Copying only changed blocks saves nothing: it has to compare all of them,
and may not touch the old copy, which others read. See benchmarks/README.md.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import duckdb

from st_pipelines.warehouse.columns import literal
from st_pipelines.warehouse.errors import WarehouseBusy, translate_duckdb_error
from st_pipelines.warehouse.store.base import ALIAS, Published
from st_pipelines.warehouse.store.location import PRIVATE, set_mode, sync_folder, translate_os_error
from st_pipelines.warehouse.store.scratch import in_memory, staging_folder
from st_pipelines.warehouse.store.write_queue import Deadline, WriteLock, acquire

_CHUNK_BYTES = 1 << 30
_KERNEL_COPY_UNSUPPORTED = {
    errno.EXDEV,
    errno.ENOSYS,
    errno.EOPNOTSUPP,
    errno.EINVAL,
    errno.EPERM,
}


@dataclass(frozen=True, kw_only=True)
class ReadCopy:
    """The read copy of a warehouse file.

    Attributes:
        source: the warehouse file.
        wait_seconds: how long to wait for writers and other publishers.
        attach_source: attaches the warehouse file as `ALIAS`, given its write lock.
        file_mode: permissions of the warehouse; the copy gets those for reading.
    """

    source: Path
    wait_seconds: float
    attach_source: Callable[
        [duckdb.DuckDBPyConnection, WriteLock, Deadline], AbstractContextManager[None]
    ]
    file_mode: int = PRIVATE

    @property
    def path(self) -> Path:
        """The copy's path, such as `data/production_read.duckdb`, whether it exists or not."""
        return self.source.with_name(f"{self.source.stem}_read{self.source.suffix}")

    @property
    def is_current(self) -> bool:
        """Whether the copy has the warehouse's present state, by size and modification time."""
        log = self.source.with_name(self.source.name + ".wal")
        try:
            copy, source = self.path.stat(), self.source.stat()
        except FileNotFoundError:
            return False
        same = (copy.st_size, copy.st_mtime_ns) == (source.st_size, source.st_mtime_ns)
        return same and not (log.exists() and log.stat().st_size)

    def publish(self) -> Published | None:
        """Replaces the copy unless it is current.

        Of several concurrent callers one copies; the others wait and find the copy current.

        Returns:
            None if the copy was current.

        Raises:
            WarehouseBusy: a writer or publisher held its lock for all of `wait_seconds`.
            WarehouseUnusable: the warehouse is damaged.
            WarehouseFull: there is no space for the copy; the old one stays.
        """
        with self._acquire(self.path, Deadline(self.wait_seconds)):
            return None if self.is_current else self._replace()

    def publish_if_older_than(self, seconds: float) -> Published | None:
        """Replaces the copy if its age is at least `seconds` and nobody else is publishing.

        Returns:
            None if the copy is not due, is current, or is being replaced by another process.

        Raises:
            WarehouseError: as `publish`.
        """
        if not self._is_due(seconds):
            return None
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(self._acquire(self.path, Deadline(0)))
            except WarehouseBusy:
                return None
            if not self._is_due(seconds) or self.is_current:
                return None
            return self._replace()

    def _acquire(self, path: Path, deadline: Deadline) -> AbstractContextManager[WriteLock]:
        return acquire(path, deadline, "publishing", file_mode=self.file_mode)

    def _is_due(self, seconds: float) -> bool:
        try:
            published_at = self.path.stat().st_ctime  # mtime is the warehouse's
        except FileNotFoundError:
            return True
        return not 0 <= time.time() - published_at < seconds

    def _replace(self) -> Published:
        start, target = time.monotonic(), self.path
        try:
            with staging_folder(target.parent, target.name) as new:
                held_seconds = self._copy_to(new)
                _check_readable(new)
                # opening the copy for writing fails with a clear error
                set_mode(new, self.file_mode & 0o444)
                # a process that wrote to the old copy all the same may have left a log
                target.with_name(target.name + ".wal").unlink(missing_ok=True)
                _move(new, target)
        except OSError as error:
            raise translate_os_error(error, target) from error
        sync_folder(target.parent)
        return Published(
            location=str(target),
            bytes=target.stat().st_size,
            seconds=time.monotonic() - start,
            held_seconds=held_seconds,
        )

    def _copy_to(self, new: Path) -> float:
        """Copies the checkpointed file and its mtime. Returns how long it held the lock."""
        deadline = Deadline(self.wait_seconds)
        with new.open("xb") as target:
            with (
                self._acquire(self.source, deadline) as lock,
                in_memory(new.parent) as connection,
                contextlib.ExitStack() as after_detaching,
            ):
                with self.attach_source(connection, lock, deadline):
                    start = time.monotonic()
                    connection.execute(f"CHECKPOINT {ALIAS}")
                    # closed only after DETACH: a process that closes a file loses its locks on it
                    source = after_detaching.enter_context(self.source.open("rb"))
                    _copy_bytes(source, target)
                    copied = os.fstat(source.fileno())
                held_seconds = time.monotonic() - start
            os.fsync(target.fileno())
        os.utime(new, ns=(copied.st_atime_ns, copied.st_mtime_ns))
        return held_seconds


def _copy_bytes(source: BinaryIO, target: BinaryIO) -> None:
    try:
        while os.copy_file_range(source.fileno(), target.fileno(), _CHUNK_BYTES):
            pass
    except (AttributeError, OSError) as error:  # not on macOS, and not on every file system
        if isinstance(error, OSError) and error.errno not in _KERNEL_COPY_UNSUPPORTED:
            raise
        shutil.copyfileobj(source, target, 1 << 20)
        target.flush()


def _move(new: Path, target: Path) -> None:
    """Puts the new copy in place of the old one, also if `.staging` is on another disk."""
    try:
        os.replace(new, target)
    except OSError:
        beside = target.with_name(f".{target.name}.new")  # one publisher at a time
        beside.unlink(missing_ok=True)
        try:
            with new.open("rb") as source, _create(beside) as file:
                _copy_bytes(source, file)
                os.fsync(file.fileno())
            _copy_status(new, beside)
            os.replace(beside, target)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise


def _copy_status(new: Path, copy: Path) -> None:
    """Gives a copy the times and the mode of the file that it was made of."""
    status = new.stat()
    os.utime(copy, ns=(status.st_atime_ns, status.st_mtime_ns))
    set_mode(copy, stat.S_IMODE(status.st_mode))


def _create(file: Path) -> BinaryIO:
    return os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE), "wb")


def _check_readable(copy: Path) -> None:
    try:
        with in_memory(copy.parent) as connection:
            connection.execute(f"ATTACH {literal(str(copy))} AS published (READ_ONLY)")
            connection.execute("SELECT count(*) FROM duckdb_tables()").fetchall()
            connection.execute("DETACH published")
    except duckdb.Error as error:
        raise translate_duckdb_error(error, copy) from error
