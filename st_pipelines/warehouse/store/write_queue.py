"""Whose turn it is: writers of one warehouse form a queue, over processes and threads.

DuckDB's own lock on a file is refused or granted, nobody can queue for it: of eight processes that
ask again and again, one can get it 172 times and six of them once. So a writer first draws a number
from a file beside the warehouse, `<warehouse>.lock`, and waits until no smaller one is left. A
number is a locked byte of that file: the kernel lets go of it when its process ends, however that
ends, so that nobody waits for the dead. The file holds the last number that was drawn, and who
has the turn, for the messages of those who wait.

The queue is for fairness; that only one writes is still DuckDB's lock's business. Where such locks
do not exist (macOS, some network file systems) writers ask for DuckDB's lock at random intervals
until their time is over.
"""

from __future__ import annotations

import contextlib
import errno
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

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_OFD_LOCKS = hasattr(fcntl, "F_OFD_SETLK")
_UNSUPPORTED = {errno.ENOLCK, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS}
_UNSUPPORTED |= {errno.EACCES, errno.EPERM, errno.EROFS}
_FIRST_BYTE = 1 << 32  # numbers are bytes far behind the text; locking does not fill a file
_NUMBER_WIDTH = 20
_LOOK_EVERY = 0.01

_log = logging.getLogger(__name__)

SILENT = 5.0
"""Seconds of waiting of which nothing is said."""

_threads: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)


class Deadline:
    """A moment until which it is worth waiting."""

    def __init__(self, seconds: float) -> None:
        """Starts now."""
        self._begin = time.monotonic()
        self._end = self._begin + seconds
        self._said = False

    @property
    def left(self) -> float:
        """Seconds, not below 0."""
        return max(0.0, self._end - time.monotonic())

    def say(self, obstacle: Callable[[], str]) -> None:
        """Logs what is waited for, once, when it takes long enough for a person to wonder."""
        if not self._said and time.monotonic() - self._begin >= SILENT:
            self._said = True
            _log.warning("Waiting for up to %.0f s more: %s", self.left, obstacle())


class WriteLock:
    """The right to write, as long as the `with` of `turn` lasts."""

    def __init__(self, file: int | None, purpose: str) -> None:
        self._file = file
        self._facts = {"pid": os.getpid(), "program": _program(), "purpose": purpose}
        self.tell("")

    def tell(self, obstacle: str) -> None:
        """Lets those who wait know what this one in turn waits for; "" for nothing."""
        if self._file is not None:
            text = json.dumps({**self._facts, "obstacle": obstacle}).encode()
            os.pwrite(self._file, text, _NUMBER_WIDTH)
            os.ftruncate(self._file, _NUMBER_WIDTH + len(text))


@contextlib.contextmanager
def acquire(path: Path, deadline: Deadline, purpose: str) -> Iterator[WriteLock]:
    """Waits for this thread's turn to write, in the order of asking.

    Args:
        path: what is written.
        deadline: for waiting; where it has passed already, a free turn is taken all the same.
        purpose: told to those who wait meanwhile, e.g. `jpm.jobs, run 1a2b`.

    Raises:
        WarehouseBusy: the deadline passed. Names who has the turn, and how many wait before.
    """
    file = _opened(path)
    try:
        number = _drawn(file) if file is not None else None
        if file is None or number is None:
            with _turn_among_threads(path, deadline):
                yield WriteLock(None, purpose)
            return
        _wait(file, number, path, deadline)
        yield WriteLock(file, purpose)
    finally:
        if file is not None:
            os.close(file)


def _opened(path: Path) -> int | None:
    if not _OFD_LOCKS:
        return None
    try:
        return os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            return None
        raise


def _drawn(file: int) -> int | None:
    """The next number, its byte locked; None where the file system has no such locks."""
    assert fcntl is not None
    try:
        fcntl.flock(file, fcntl.LOCK_EX)  # held for microseconds
        try:
            number = _last_number(file) + 1
            fcntl.fcntl(file, fcntl.F_OFD_SETLK, _byte(fcntl.F_WRLCK, number, 1))
            os.pwrite(file, b"%0*d" % (_NUMBER_WIDTH, number), 0)
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            return None
        raise
    return number


def _last_number(file: int) -> int:
    text = os.pread(file, _NUMBER_WIDTH, 0)
    return int(text) if text.isdigit() else 0


def _wait(file: int, number: int, path: Path, deadline: Deadline) -> None:
    while (first := _first_before(file, number)) is not None:
        if not deadline.left:
            raise WarehouseBusy(_told(file, path, number - first))
        deadline.say(lambda before=number - first: _told(file, path, before))
        time.sleep(min(_LOOK_EVERY, deadline.left))


def _first_before(file: int, number: int) -> int | None:
    """A number before this one that is still held."""
    assert fcntl is not None
    found = fcntl.fcntl(file, fcntl.F_OFD_GETLK, _byte(fcntl.F_WRLCK, 0, number))
    kind, _, start, _, _ = struct.unpack(_FLOCK, found)
    return None if kind == fcntl.F_UNLCK else start - _FIRST_BYTE


_FLOCK = "hhqqi4x"  # struct flock of 64-bit Linux


def _byte(kind: int, first: int, count: int) -> bytes:
    return struct.pack(_FLOCK, kind, os.SEEK_SET, _FIRST_BYTE + first, count, 0)


def _told(file: int, path: Path, before: int) -> str:
    try:
        facts = json.loads(os.pread(file, 4096, _NUMBER_WIDTH))
        holder = f"process {facts['pid']} ({facts['program']}: {facts['purpose']})"
        obstacle = f", which itself waits: {facts['obstacle']}" if facts["obstacle"] else ""
    except (ValueError, KeyError, TypeError):  # read while it was being written
        holder, obstacle = "another process", ""
    others = f"; up to {before} wait before this one" if before > 1 else ""
    return f"warehouse {path} is held by {holder}{obstacle}{others}: wait for its load"


@contextlib.contextmanager
def _turn_among_threads(path: Path, deadline: Deadline) -> Iterator[None]:
    lock = _threads[os.path.realpath(path)]
    if not lock.acquire(timeout=deadline.left or 0):
        raise WarehouseBusy(f"warehouse {path} is being written by another thread of this process")
    try:
        yield
    finally:
        lock.release()


def pause(deadline: Deadline) -> None:
    """A short wait of random length, before a lock without a queue is asked for again."""
    time.sleep(min(random.uniform(0.02, 0.1), deadline.left))


def _program() -> str:
    return os.path.basename(sys.argv[0]) or "python"
