"""Checks that a warehouse file and its log can be opened without losing a committed load.

DuckDB verifies its file by checksums and refuses a damaged one. Its write-ahead log, `<file>.wal`,
exists while a load commits, and after a process died doing so; the next process to open the file
replays the committed loads. With a damaged log, DuckDB (1.4 to 2.0) is too lenient: a log with a
damaged header, a log that breaks off in the middle, or a log without its database is taken for
empty and deleted, and its committed loads with it. This module therefore inspects the log before
DuckDB opens the file.

A log is a header and entries; an entry is its length (8 bytes), a checksum (8) and its body. A
committed load ends with the entry `_COMMITTED`. A process that is killed while it writes leaves a
truncated entry with no `_COMMITTED` after it. Such a log is sound: nobody was told that this load
succeeded.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import BinaryIO

from st_pipelines.warehouse.errors import WarehouseUnusable, restore_advice

try:
    import fcntl
except ImportError:  # Windows, where no second process can open an open file anyway
    fcntl = None

_HEADER = bytes.fromhex("6400 6265 0002")  # log version 2, of every DuckDB since 0.10
_COMMITTED = bytes.fromhex("0500000000000000 e7fe7d722fed3d5e 640064ffff")
_DATABASE_ID = bytes.fromhex("6600 10")  # followed by its 16 numbers
_CHECKPOINT = bytes.fromhex("6700")
_MAX_HEADER_BYTES = 64


def check(path: Path) -> None:
    """Inspects the file and its log, changing neither.

    Skips a log that a running process is writing, and any file that this process has open: a
    process that closes a file loses all its locks on it, even if it opened it a second time.

    Raises:
        WarehouseUnusable: the file is damaged, belongs to another program, is not a regular file,
            or its log has no file.
    """
    if _is_open_here(path):
        return
    log = path.with_name(path.name + ".wal")
    if not path.exists():
        if log.exists() and log.stat().st_size:
            raise WarehouseUnusable(
                f"warehouse {path} is missing, but its log {log.name} exists and may hold loads: "
                "put the file back; if you deleted it on purpose, delete the log too"
            )
        return
    for file in (path, log):
        if file.exists() and not file.is_file():  # opening a pipe would wait for its other end
            raise WarehouseUnusable(f"warehouse {path}: {file} is not a regular file: name another")
    _check_magic(path)
    if (
        _is_damaged(log) and not _is_locked(path) and _is_damaged(log)
    ):  # twice, as it may just have been in use
        raise WarehouseUnusable(
            f"the log {log} of the warehouse is damaged. It may hold a committed load, so it is "
            f"left unchanged: {restore_advice(path)}; or move the log away and load the last days "
            "again"
        )


def _is_open_here(path: Path) -> bool:
    """Whether this process has the file open, such as in a DuckDB connection of the user."""
    try:
        target = path.stat()
        names = os.listdir("/dev/fd")
    except OSError:
        return False
    for name in names:
        with contextlib.suppress(OSError):  # closed meanwhile, as the listing's own descriptor is
            if os.path.samestat(os.fstat(int(name)), target):
                return True
    return False


def _is_locked(path: Path) -> bool:
    """Whether a process has the file open in DuckDB, which locks it."""
    if fcntl is None:
        return False
    with path.open("rb") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def _check_magic(path: Path) -> None:
    with path.open("rb") as file:
        head = file.read(16)
    if not head:
        raise WarehouseUnusable(
            f"warehouse {path} is an empty file: delete it, or name another file"
        )
    if head[8:12] != b"DUCK":
        raise WarehouseUnusable(
            f"warehouse {path} is not a DuckDB database: name another file, this one is left "
            "unchanged"
        )


def _is_damaged(log: Path) -> bool:
    try:
        file = log.open("rb")
    except FileNotFoundError:
        return False
    with file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(_MAX_HEADER_BYTES)
        if not head.startswith(_HEADER[:size]):
            return True
        at = _find_header_end(head)
        while at is not None and at < size:
            at = _find_entry_end(file, at, size)
        return at is None and _ends_committed(file, size)


def _find_header_end(head: bytes) -> int | None:
    """Returns where the entries begin: after the version and, in DuckDB 2, the database's id."""
    at = len(_HEADER)
    if head[at : at + 3] == _DATABASE_ID:
        at = _skip_numbers(head, at + len(_DATABASE_ID), _DATABASE_ID[-1])
    if head[at : at + 2] == _CHECKPOINT:
        at = _skip_numbers(head, at + len(_CHECKPOINT), 1)
    return at + 2 if head[at : at + 2] == b"\xff\xff" else None


def _skip_numbers(head: bytes, at: int, count: int) -> int:
    """Skips numbers in LEB128: the last byte of a number is below 128."""
    while count and at < len(head):
        count -= head[at] < 128
        at += 1
    return at


def _find_entry_end(file: BinaryIO, at: int, size: int) -> int | None:
    """Returns where the next entry begins; None if this one is truncated."""
    file.seek(at)
    end = at + 16 + int.from_bytes(file.read(8), "little")
    return end if end <= size else None


def _ends_committed(file: BinaryIO, size: int) -> bool:
    file.seek(max(0, size - len(_COMMITTED)))
    return file.read() == _COMMITTED
