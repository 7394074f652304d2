"""Queues the writers of one warehouse, across processes and threads.

DuckDB grants or refuses the lock on a file; nobody can queue for it. Of eight processes that keep
retrying, one can get it 172 times and six of them once. A writer therefore first draws a number
from a file beside the warehouse, `<warehouse>.lock`, and waits until no smaller number is held. A
number is a locked byte of that file: the kernel releases it when its process ends, however it
ends, so nobody waits for a dead process. The file contains the last number drawn, and the current
holder for the messages of those who wait.

The queue provides fairness only; DuckDB's own lock still ensures that there is one writer. Where
such locks do not exist (macOS, some network file systems), writers retry DuckDB's lock at random
intervals until their deadline.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import random
import struct
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

from st_pipelines.warehouse.errors import WarehouseBusy
from st_pipelines.warehouse.store.location import PRIVATE, open_with_mode

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_OFD_LOCKS = hasattr(fcntl, "F_OFD_SETLK")
_FIRST_BYTE = 1 << 32  # numbers are bytes far behind the text; locking does not enlarge a file
_NUMBER_WIDTH = 20
_POLL_SECONDS = 0.01

_log = logging.getLogger(__name__)

QUIET_SECONDS = 5.0
"""How long a writer waits before it logs what it waits for."""

_thread_locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)


class Deadline:
    """The end of a wait."""

    def __init__(self, seconds: float) -> None:
        """Starts the wait now."""
        self._start = time.monotonic()
        self._end = self._start + seconds
        self._logged = False

    @property
    def left(self) -> float:
        """Remaining seconds, at least 0."""
        return max(0.0, self._end - time.monotonic())

    def log_wait(self, describe_obstacle: Callable[[], str]) -> None:
        """Logs once what the writer waits for, after `QUIET_SECONDS`."""
        if not self._logged and time.monotonic() - self._start >= QUIET_SECONDS:
            self._logged = True
            _log.warning("Waiting for up to %.0f s more: %s", self.left, describe_obstacle())


class WriteLock:
    """The exclusive right to write, held inside the `with` block of `acquire`."""

    def __init__(self, file: int | None, purpose: str) -> None:
        self._file = file
        program = os.path.basename(sys.argv[0]) or "python"
        self._holder = {"pid": os.getpid(), "program": program, "purpose": purpose}
        self.report_obstacle("")

    def report_obstacle(self, obstacle: str) -> None:
        """Shows those in the queue what the holder itself waits for; "" for nothing."""
        if self._file is not None:
            text = json.dumps({**self._holder, "obstacle": obstacle}).encode()
            with contextlib.suppress(OSError):  # a full disk; it is only for messages
                os.pwrite(self._file, text, _NUMBER_WIDTH)
                os.ftruncate(self._file, _NUMBER_WIDTH + len(text))


@contextlib.contextmanager
def acquire(
    path: Path, deadline: Deadline, purpose: str, *, file_mode: int = PRIVATE
) -> Iterator[WriteLock]:
    """Waits for the write lock, in the order of arrival, and holds it for the `with` block.

    Args:
        path: the file to write.
        deadline: ends the wait. A free lock is granted even after the deadline.
        purpose: shown to those who wait meanwhile, such as `jpm.jobs, run 1a2b`.
        file_mode: permissions of `<warehouse>.lock`, if it does not exist yet.

    Raises:
        WarehouseBusy: the deadline passed. Names the holder and the length of the queue.
    """
    file = _open_queue(path, file_mode)
    try:
        number = _draw_number(file) if file is not None else None
        if file is None or number is None:
            with _acquire_among_threads(path, deadline):
                yield WriteLock(None, purpose)
            return
        _wait_for(number, file, path, deadline)
        yield WriteLock(file, purpose)
    finally:
        if file is not None:
            os.close(file)


def _open_queue(path: Path, file_mode: int) -> int | None:
    if not _OFD_LOCKS:
        return None
    try:
        return open_with_mode(f"{path}.lock", os.O_RDWR, file_mode)
    except OSError:  # whatever is wrong with the folder, DuckDB reports when it opens the file
        return None


def _draw_number(file: int) -> int | None:
    """Locks the byte of the next number; None if the file system has no such locks."""
    assert fcntl is not None
    try:
        fcntl.flock(file, fcntl.LOCK_EX)  # held for microseconds
        try:
            last = os.pread(file, _NUMBER_WIDTH, 0)
            number = int(last) + 1 if last.isdigit() else 1
            fcntl.fcntl(file, fcntl.F_OFD_SETLK, _byte_range(fcntl.F_WRLCK, number, 1))
            os.pwrite(file, b"%0*d" % (_NUMBER_WIDTH, number), 0)
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)
    except OSError:  # no such locks, or a full disk
        return None
    return number


def _wait_for(number: int, file: int, path: Path, deadline: Deadline) -> None:
    while (held := _find_held_before(number, file)) is not None:
        if not deadline.left:
            raise WarehouseBusy(_describe_queue(file, path, number - held), queued=True)
        deadline.log_wait(lambda ahead=number - held: _describe_queue(file, path, ahead))
        time.sleep(min(_POLL_SECONDS, deadline.left))


def _find_held_before(number: int, file: int) -> int | None:
    """Returns a smaller number that is still held."""
    assert fcntl is not None
    found = fcntl.fcntl(file, fcntl.F_OFD_GETLK, _byte_range(fcntl.F_WRLCK, 0, number))
    kind, _, start, _, _ = struct.unpack(_FLOCK, found)
    return None if kind == fcntl.F_UNLCK else start - _FIRST_BYTE


_FLOCK = "hhqqi4x"  # struct flock of 64-bit Linux


def _byte_range(kind: int, first: int, count: int) -> bytes:
    return struct.pack(_FLOCK, kind, os.SEEK_SET, _FIRST_BYTE + first, count, 0)


def _describe_queue(file: int, path: Path, ahead: int) -> str:
    try:
        facts = json.loads(os.pread(file, 4096, _NUMBER_WIDTH))
        holder = f"process {facts['pid']} ({facts['program']}: {facts['purpose']})"
        obstacle = f", which itself waits: {facts['obstacle']}" if facts["obstacle"] else ""
    except (ValueError, KeyError, TypeError):  # read during a write
        holder, obstacle = "another process", ""
    others = f"; up to {ahead} wait before this one" if ahead > 1 else ""
    return f"warehouse {path} is held by {holder}{obstacle}{others}: wait for its load"


@contextlib.contextmanager
def _acquire_among_threads(path: Path, deadline: Deadline) -> Iterator[None]:
    lock = _thread_locks[os.path.realpath(path)]
    if not lock.acquire(timeout=deadline.left or 0):
        raise WarehouseBusy(
            f"warehouse {path} is being written by another thread of this process", queued=True
        )
    try:
        yield
    finally:
        lock.release()


def sleep_before_retry(deadline: Deadline) -> None:
    """Sleeps for a short random time before the next try for a lock that has no queue."""
    time.sleep(min(random.uniform(0.02, 0.1), deadline.left))
