"""The warehouse's errors, by remedy, and the translation of DuckDB's errors into them.

WarehouseError
├── WarehouseBusy      another process holds the warehouse and did not release it in time
├── Overtaken          other loads of the table committed what contradicts this read
│   └── WarehouseReplaced  while it was read, another warehouse or an older copy took its place
├── DayUnfinished      a read holds less of an aggregate's day than the table does
├── KeysMissing        most of the records that were read lack their key, unlike the table's rows
├── TimeZoneRefused    the time zone was used before another one, or is merely the default
├── TooManyDeletions   a load would delete a large part of its table
├── ParentNotLoaded    the table whose ids a child list needs is not in the warehouse yet
├── WarehouseUnusable  the location is not writable, or what is there is not a sound warehouse
├── WarehouseFull      the disk is full
├── FilesNotStored     the storage of files did not take one
└── OutOfMemory        the process may not use as much memory as the load needs

MalformedRecords       a page of the API is not an array of records
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""The codes of a full disk, an exhausted quota, and a limit on the size of files."""

_HOLDER = re.compile(r"Conflicting lock is held in (?P<program>.*?) \(PID (?P<pid>\d+)\)")
_NO_LOCKS = (
    "locks are not supported",
    *(os.strerror(code) for code in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)),
)
_OUT_OF_MEMORY = (
    "Out of Memory Error",
    "std::bad_alloc",
    "Cannot allocate memory",
    "can't start new thread",
    "failed to allocate",
)
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


_ACCEPT = (
    "Look at the list at ServiceTitan. If it is right, accept it: st-pipelines load or reconcile "
    "with --accept-deletions, or in Dagster the run config resources: {warehouse: {config: "
    "{accept_deletions: true}}}"
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


class Overtaken(WarehouseError):
    """Loads that committed since a read started contradict it. Reading again tells who is right.

    Attributes:
        rows: the number of rows that they contradict.
    """

    permanent = False

    def __init__(self, table: str, rows: int) -> None:
        super().__init__(
            f"{table}: while it was read, other loads of this table committed {rows} rows that "
            "this read contradicts. Nothing was written. Load it again, and run fewer loads of "
            "this table at a time"
        )
        self.rows = rows


class ParentNotLoaded(WarehouseError):
    """A child list is read for the rows of another table, which was not loaded yet."""

    def __init__(self, table: str, parent: str) -> None:
        super().__init__(
            f"{table} is read for the rows of {parent}, which this warehouse does not have yet: "
            f"load {parent} first"
        )


class KeysMissing(WarehouseError):
    """Most of the records that were read lack their key, unlike the table's rows.

    Loaded, they would stand beside the rows that they are versions of.
    """

    permanent = False

    def __init__(self, table: str, key: str, *, lacking: int, read: int) -> None:
        super().__init__(
            f"{table}: {lacking:,} of the {read:,} records that were read have no {key}, but most "
            "rows of the table have one. Nothing was written. Load it again. If that fails too, "
            f"look at the records at ServiceTitan: if {key} has another name there now, the "
            "catalog must be updated"
        )


class WarehouseReplaced(Overtaken):
    """The warehouse no longer holds the load that the read follows: it was restored or replaced."""

    def __init__(self, table: str) -> None:
        WarehouseError.__init__(
            self,
            f"{table}: while it was read, the warehouse was replaced by an older copy or another "
            "file, which lacks the load that this read follows. Nothing was written. Load it "
            "again, and restore a warehouse only while no load runs",
        )
        self.rows = 0


class DayUnfinished(WarehouseError):
    """A read of an aggregate ends earlier in its day than an earlier load of that day."""

    def __init__(
        self,
        table: str,
        day: str,
        *,
        read_until: datetime,
        has_until: datetime,
        behind: timedelta | None,
    ) -> None:
        """Takes the times in UTC.

        Args:
            table: of the aggregate.
            day: its local day.
            read_until: where the refused read ends.
            has_until: where the earlier load of the day ends.
            behind: how far this machine's clock is behind ServiceTitan's; None if unknown.
        """
        seconds = int(behind.total_seconds()) if behind else 0
        clock = f" by {timedelta(seconds=seconds)}" if seconds > 0 else ""
        super().__init__(
            f"{table}: {day} was read up to {read_until:%Y-%m-%d %H:%M:%S} UTC, but an earlier "
            f"load has read it up to {has_until:%Y-%m-%d %H:%M:%S} UTC. Nothing was written, and "
            f"the table keeps that load's rows. This machine's clock is behind{clock}: set it, "
            "for example with NTP, and load the day again"
        )


class TimeZoneRefused(WarehouseError):
    """The time zone differs from that of the rows, and nobody seems to have changed it on purpose.

    Attributes:
        stored: the zone that the rows were loaded with; empty if it is not known.
        timezone: the zone that is set now.
    """

    def __init__(self, environment: str, stored: str, timezone: str, *, is_default: bool) -> None:
        prefix = "" if environment == "production" else f"{environment.upper()}_"
        setting, before = f"SERVICETITAN_{prefix}TIMEZONE", stored or "another time zone"
        why = "was used before another one: two hosts may have different settings"
        if is_default:
            why = "is only the default, as the setting is missing"
        super().__init__(
            f"{setting} is {timezone}, but the rows of this warehouse have their days in {before}, "
            f"and {timezone} {why}. Nothing was loaded. Set {setting} to {stored or 'that zone'} "
            "wherever loads run. If you want the other zone, set it, and run st-pipelines load "
            f"--environment {environment} --accept-timezone once, which moves every row to its day"
        )
        self.stored = stored
        self.timezone = timezone


class TooManyDeletions(WarehouseError):
    """A load would delete a large part of its table, and there is no evidence for it.

    Attributes:
        missing: digests of the rows that it would delete.
    """

    def __init__(self, counts: str, reason: str, missing: tuple[int, ...] = ()) -> None:
        super().__init__(f"{counts} {reason} Nothing was written. {_ACCEPT}")
        self.missing = missing
        self._counts = counts

    def because(self, reason: str) -> TooManyDeletions:
        """The same error for another reason, given in a sentence."""
        return TooManyDeletions(self._counts, reason, self.missing)


class WarehouseUnusable(WarehouseError):
    """The location is not writable, or what is there is damaged or not a warehouse."""


class WarehouseFull(WarehouseError):
    """The disk is full."""


class FilesNotStored(WarehouseError):
    """The storage of files did not take one. What was stored before stays."""

    permanent = False


class OutOfMemory(WarehouseError):
    """The process may not use as much memory as the load needs.

    It may succeed once fewer loads run beside it.
    """

    permanent = False

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"out of memory ({reason}): nothing was written. Lower SERVICETITAN_PAGE_SIZE, run "
            "fewer loads at once (max_concurrent_runs in dagster.yaml), or give the process or its "
            "container more memory"
        )


@contextlib.contextmanager
def memory_errors_translated() -> Iterator[None]:
    """Raises OutOfMemory for each way in which Python and DuckDB report that memory is used up."""
    try:
        yield
    except WarehouseError:
        raise
    except Exception as error:
        if not _is_out_of_memory(error):
            raise
        raise OutOfMemory(_first_line(error)) from error


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
        if any(message in text for message in _NO_LOCKS):
            return WarehouseUnusable(describe_missing_locks(path, "as DuckDB found"))
        return WarehouseBusy(f"warehouse {path} is held by another process")
    if any(message in text for message in _OPEN_HERE):
        return WarehouseBusy(f"warehouse {path} is open in this process: close that connection")
    if any(message in text for message in _FULL_MESSAGES) or _is_full(error):
        return WarehouseFull(
            f"no space left on the disk of warehouse {path}, or a limit on the size of files: "
            "nothing was written"
        )
    if _is_out_of_memory(error):
        return OutOfMemory(_first_line(error))
    if any(message in text for message in _DAMAGED):
        return WarehouseUnusable(
            f"warehouse {path} is damaged, and left unchanged ({text}): {restore_advice(path)}"
        )
    if isinstance(error, duckdb.IOException):
        return WarehouseUnusable(f"warehouse {path}: {text}")
    return error


def describe_missing_locks(path: Path, reason: str) -> str:
    """Returns what to do about a file system that refuses to lock files."""
    return (
        f"warehouse {path}: its file system cannot lock files ({reason}), which DuckDB needs. Mount"
        " it with locks (NFS: a lock manager, and no `nolock`; SMB: without `nobrl`), or set "
        "ST_WAREHOUSE_DIR to a folder on a local disk"
    )


def restore_advice(path: Path) -> str:
    """Returns what to do about a damaged warehouse file or log."""
    return (
        "restore the file and its log from a backup, or put the read copy "
        f"(`{path.stem}_read{path.suffix}`, if you publish) in their place, and load the days since"
    )


def _is_full(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in FULL


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    of_duckdb = type(error).__module__.partition(".")[0] in ("duckdb", "_duckdb")
    if not (of_duckdb or type(error) is RuntimeError):  # others may quote such a text
        return False
    return any(message in str(error) for message in _OUT_OF_MEMORY)


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]
