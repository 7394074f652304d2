"""Whether what lies at a warehouse's path can be opened without losing anything of it.

DuckDB checks its file by checksums, and refuses a damaged one. Its write-ahead log, `<file>.wal`,
exists while a load commits, and after a process died doing so; the next to open the file takes the
committed loads from it. Of that log DuckDB (1.4 to 2.0) forgives too much: one whose head is
damaged, which breaks off in the middle, or whose database is gone, is taken for empty and removed,
and committed loads with it. So the log is looked at before DuckDB is let near.

A log: a head, then entries, each its length (8 bytes), a checksum (8) and its body. A load that was
committed ends with the entry `_COMMITTED`. A process that was killed while it wrote leaves an entry
cut off at the end and no `_COMMITTED` after it: that is sound, nobody was told that it was loaded.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

from st_pipelines.warehouse.errors import WarehouseUnusable, restore_advice

try:
    import fcntl
except ImportError:  # Windows, where an open file cannot be opened by another anyway
    fcntl = None

_HEAD = bytes.fromhex("6400 6265 0002")  # a log of version 2, as of every DuckDB since 0.10
_COMMITTED = bytes.fromhex("0500000000000000 e7fe7d722fed3d5e 640064ffff")
_ID = bytes.fromhex("6600 10")  # and its 16 numbers
_CHECKPOINT = bytes.fromhex("6700")
_LONGEST_HEAD = 64


def check(path: Path) -> None:
    """Looks at the file and its log, changing neither.

    A log that its living process is writing to is not judged. A file that this process has open
    is left alone: a lock on a file is lost when the process that holds it closes the file, even if
    it had opened it once more for that.

    Raises:
        WarehouseUnusable: it is of another program, damaged, or separated from its log.
    """
    if is_open_here(path):
        return
    log = path.with_name(path.name + ".wal")
    if not path.exists():
        if log.exists() and log.stat().st_size:
            raise WarehouseUnusable(
                f"warehouse {path} is gone, its log {log.name} is there and may hold loads: put "
                "the file back; if it was removed on purpose, remove the log too"
            )
        return
    _check_magic(path)
    if _is_damaged(log) and not _is_held(path) and _is_damaged(log):  # it may just have been in use
        raise WarehouseUnusable(
            f"the log {log} of the warehouse is damaged; it may hold a committed load, so it is "
            f"left unchanged: {restore_advice(path)}; or move the log away and load the last days "
            "again"
        )


def is_open_here(path: Path) -> bool:
    """Whether this process has the file open, e.g. by a DuckDB connection of its user."""
    try:
        wanted = path.stat()
        files = os.listdir("/dev/fd")
    except OSError:
        return False
    return any(_is(int(file), wanted) for file in files)


def _is(file: int, wanted: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.fstat(file), wanted)
    except OSError:
        return False


def _is_held(path: Path) -> bool:
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
            f"warehouse {path} is an empty file: remove it, or name another file"
        )
    if head[8:12] != b"DUCK":
        raise WarehouseUnusable(
            f"warehouse {path} is no DuckDB database: name another file, this one is left as it is"
        )


def _is_damaged(log: Path) -> bool:
    try:
        return not _is_sound(log)
    except FileNotFoundError:
        return False


def _is_sound(log: Path) -> bool:
    with log.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(_LONGEST_HEAD)
        if not head.startswith(_HEAD[:size]):
            return False
        at = _end_of_head(head)
        while at is not None and at < size:
            at = _end_of_entry(file, at, size)
        return at is not None or not _ends_committed(file, size)


def _end_of_head(head: bytes) -> int | None:
    """Where the first entry begins: behind the version, and the database's id in DuckDB 2."""
    at = len(_HEAD)
    if head[at : at + 3] == _ID:
        at = _behind_numbers(head, at + len(_ID), _ID[-1])
    if head[at : at + 2] == _CHECKPOINT:
        at = _behind_numbers(head, at + len(_CHECKPOINT), 1)
    return at + 2 if head[at : at + 2] == b"\xff\xff" else None


def _behind_numbers(head: bytes, at: int, count: int) -> int:
    """Each is in LEB128: the last of its bytes is the one below 128."""
    while count and at < len(head):
        count -= head[at] < 128
        at += 1
    return at


def _end_of_entry(file: BinaryIO, at: int, size: int) -> int | None:
    """Where the next begins; None if this one is cut off."""
    file.seek(at)
    end = at + 16 + int.from_bytes(file.read(8), "little")
    return end if end <= size else None


def _ends_committed(file: BinaryIO, size: int) -> bool:
    file.seek(max(0, size - len(_COMMITTED)))
    return file.read() == _COMMITTED
