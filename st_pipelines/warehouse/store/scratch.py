"""Folders for what is on its way, beside the warehouse in `.staging`: none of the dead.

A load that is killed leaves its folder behind, and the next load, of whatever process, removes it.
It tells the dead from the living by a lock on a file in each folder, which the kernel lets go of
when its process ends, in a container of its own too if it shares the file system. Where there are
no such locks nothing is removed but by the load itself.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_LOCK = ".lock"


@contextlib.contextmanager
def staging_folder(warehouse: Path, name: str) -> Iterator[Path]:
    """A path in a locked folder of its own, which is removed on leaving; clears the dead before.

    Args:
        warehouse: the file beside which it shall be, on the same file system.
        name: of what is staged, for people who look.

    Yields:
        A path where nothing is yet, readable by this user alone.

    Raises:
        OSError: it cannot be made.
    """
    root = warehouse.parent / ".staging"
    folder = root / f"{name}-{uuid.uuid4().hex[:12]}"
    with _alone_in(root):
        _sweep(root)
        folder.mkdir(mode=0o700)
        lock = _taken(folder / _LOCK)
    try:
        yield folder / "staged"
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


@contextlib.contextmanager
def _alone_in(root: Path) -> Iterator[None]:
    """Between the making of a folder and the taking of its lock nobody may sweep."""
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    file = os.open(root / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if fcntl is not None:
            with contextlib.suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def _sweep(root: Path) -> None:
    for folder in root.iterdir():
        if not folder.is_dir():
            continue
        lock = _taken(folder / _LOCK)
        if lock is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)


def _taken(file: Path) -> int | None:
    """The lock as an open file; None if another has it, or there are no locks here."""
    if fcntl is None:
        return None
    opened = None
    try:
        opened = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # also a folder of another user, or one that its load has just removed
        if opened is not None:
            os.close(opened)
        return None
    return opened
