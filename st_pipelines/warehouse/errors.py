"""The warehouse's errors, by remedy, and the translation of DuckDB's errors into them.

WarehouseError
├── WarehouseBusy      another process holds the warehouse and did not release it in time
├── WarehouseUnusable  the location is not writable, or what is there is not a sound warehouse
└── WarehouseFull      the disk is full

MalformedRecords       a page of the API is not an array of records
"""

from __future__ import annotations

import errno
import re
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""The codes of a full disk, an exhausted quota, and a limit on the size of files."""

_HOLDER = re.compile(r"Conflicting lock is held in (?P<program>.*?) \(PID (?P<pid>\d+)\)")
_OPEN_HERE = ("file handle conflict", "already attached", "same database")
_FULL_MESSAGES = ("No space left", "File too large")
_DAMAGED = (
    "not a valid DuckDB database",
    "Corrupt database file",
    "Corrupt WAL file",
    "Failure while replaying WAL",
    "Could not read enough bytes",
    "Serialization",
)


class MalformedRecords(Exception):
    """A successful response whose records are not a JSON array of objects."""


class WarehouseError(Exception):
    """The warehouse could not take a load; nothing of the load was written."""

    permanent = True


class WarehouseBusy(WarehouseError):
    """Another process holds the warehouse.

    Attributes:
        queued: the holder is a load or another command of ours, which ends by itself. Otherwise
            it is a foreign program, such as a DuckDB shell.
    """

    permanent = False

    def __init__(self, message: str, *, queued: bool = False) -> None:
        super().__init__(message)
        self.queued = queued


class WarehouseUnusable(WarehouseError):
    """The location is not writable, or what is there is damaged or not a warehouse."""


class WarehouseFull(WarehouseError):
    """The disk is full."""


def translate_duckdb_error(error: Exception, path: Path) -> Exception:
    """Returns DuckDB's error as a WarehouseError that says what to do; others unchanged.

    Args:
        error: an error of DuckDB or of the operating system.
        path: the file or folder that DuckDB worked on, for the message.
    """
    import duckdb  # definitions import this module and must load without DuckDB

    text = str(error)
    if holder := _HOLDER.search(text):
        return WarehouseBusy(
            f"warehouse {path} is held by process {holder['pid']} ({holder['program']}): close it "
            "there (a DuckDB shell or notebook keeps the file to itself), or wait for its load"
        )
    if "could not set lock on file" in text.lower():
        return WarehouseBusy(f"warehouse {path} is held by another process")
    if any(message in text for message in _OPEN_HERE):
        return WarehouseBusy(f"warehouse {path} is open in this process: close that connection")
    if any(message in text for message in _FULL_MESSAGES) or _is_full(error):
        return WarehouseFull(
            f"no space left on the disk of warehouse {path}, or a limit on the size of files: "
            "nothing was written"
        )
    if any(message in text for message in _DAMAGED):
        return WarehouseUnusable(
            f"warehouse {path} is damaged, and left unchanged ({text}): {restore_advice(path)}"
        )
    if isinstance(error, duckdb.IOException):
        return WarehouseUnusable(f"warehouse {path}: {text}")
    return error


def restore_advice(path: Path) -> str:
    """Returns what to do about a damaged warehouse file or log."""
    return (
        "restore the file and its log from a backup, or put the read copy "
        f"(`{path.stem}_read{path.suffix}`, if you publish) in their place, and load the days since"
    )


def _is_full(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in FULL
