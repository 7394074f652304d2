"""Checks that a folder can hold a warehouse, and gives the files there their permissions.

A warehouse holds customers' data, so its files are readable by their owner only: the file, its log,
its lock, its read copy and what is staged, whatever the umask, from the first byte on. The umask
itself, which belongs to the process and not to a thread, stays as it is. One setting,
`ST_FILE_MODE`, opens the files to others. Without it, a file that exists already decides: its
companions get its permissions, so a warehouse that several users share stays shared.
"""

from __future__ import annotations

import contextlib
import os
import stat
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

from st_pipelines.warehouse.errors import (
    WarehouseUnusable,
    describe_missing_locks,
    translate_duckdb_error,
)

try:
    import fcntl
    import pwd
except ImportError:  # Windows
    fcntl = pwd = None

PRIVATE = 0o600
"""The mode of files that only their owner can open."""


def effective_mode(path: Path, file_mode: int | None) -> int:
    """Returns the permissions of new files beside a warehouse.

    Args:
        path: of the warehouse file.
        file_mode: the setting; None lets an existing file decide.
    """
    if file_mode is not None:
        return file_mode | PRIVATE
    try:
        return (stat.S_IMODE(path.stat().st_mode) & 0o666) | PRIVATE
    except OSError:
        return PRIVATE


def folder_mode(file_mode: int) -> int:
    """Returns the mode of a folder for such files: who may read may also search."""
    return file_mode | (file_mode & 0o444) >> 2


def open_with_mode(path: str | Path, flags: int, mode: int) -> int:
    """Opens a file, creating it with exactly this mode if it does not exist.

    Raises:
        OSError: as `os.open`.
    """
    flags |= getattr(os, "O_CLOEXEC", 0)
    with contextlib.suppress(FileExistsError):
        file = os.open(path, flags | os.O_CREAT | os.O_EXCL, PRIVATE)
        if mode != PRIVATE and hasattr(os, "fchmod"):  # the umask may have removed bits
            set_mode(file, mode)
        return file
    return os.open(path, flags)


def set_mode(file: int | Path, mode: int) -> None:
    """Sets the mode of a file or folder of ours, where its file system has such modes.

    FAT, and many shares, refuse any but their own; `st-pipelines check` names files that others can
    open.
    """
    with contextlib.suppress(OSError):
        os.chmod(file, mode)


def make_folder(folder: Path, mode: int) -> None:
    """Creates a folder and its parents with exactly this mode; leaves existing ones unchanged.

    Raises:
        OSError: it cannot be created.
    """
    if folder.is_dir():
        return
    if folder.parent != folder:
        make_folder(folder.parent, mode)
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        if not folder.is_dir():
            raise
        return
    if mode != 0o700 or stat.S_IMODE(folder.stat().st_mode) != mode:
        set_mode(folder, mode)


@contextlib.contextmanager
def log_with_mode(path: Path, mode: int) -> Iterator[None]:
    """Creates the empty log that DuckDB will write in the block; removes it if it stays empty.

    DuckDB creates a missing log with the permissions that the umask leaves, and appends to one that
    exists. The umask itself belongs to the whole process, so no block may change it. DuckDB
    takes an empty log for none.

    Args:
        path: of the warehouse file, which DuckDB has attached: attaching removes an empty log.
        mode: of the log.
    """
    log = path.with_name(f"{path.name}.wal")
    with contextlib.suppress(OSError):  # DuckDB will say what is wrong with the folder
        os.close(open_with_mode(log, os.O_RDWR, mode))
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            if not log.stat().st_size:
                log.unlink()


def check_location(path: Path, file_mode: int | None) -> None:
    """Verifies that this user can keep a warehouse at a path; creates its folder.

    Raises:
        WarehouseUnusable: the folder, the file or its log cannot be written, or the file system
            has no locks. The message names the file and says what to do.
        WarehouseFull: there is no space for one more file.
    """
    _check_name(path)
    folder, target = path.parent, Path(os.path.realpath(path))
    if path.is_symlink() and not target.parent.exists():
        raise WarehouseUnusable(
            f"warehouse {path} is a link to {target}, whose folder does not exist: create it, or "
            "correct the link"
        )
    try:
        make_folder(folder, folder_mode(effective_mode(path, file_mode)))
        if path.is_dir():
            raise WarehouseUnusable(f"warehouse {path} is a folder: name a file in it")
        files = [path, path.with_name(path.name + ".wal")]
        blocked = [f for f in (folder, *files) if f.exists() and not os.access(f, _needed(f))]
    except OSError as error:
        raise _unusable(path, error) from None
    if blocked:
        raise WarehouseUnusable(
            f"warehouse {path} cannot be written: {blocked[0]} {_describe_owner(blocked[0])}. Load "
            "as one user only, fix the permissions, or set ST_WAREHOUSE_DIR to a folder that you "
            "can write to; a group can share a warehouse with ST_FILE_MODE=0660"
        )
    if file_mode is not None:
        for file in files:
            with contextlib.suppress(OSError):  # there is none yet, or it is another user's
                if stat.S_IMODE(file.stat().st_mode) != file_mode:
                    set_mode(file, file_mode)
    _check_locks(path)


def find_exposed(modes: Mapping[Path, int]) -> list[tuple[Path, int]]:
    """Returns those of the files and folders that give others more than their mode here.

    Args:
        modes: what each should have; missing ones are skipped. Links are followed.
    """
    exposed = []
    for path, mode in modes.items() if os.name != "nt" else ():
        with contextlib.suppress(OSError):
            if stat.S_IMODE(path.stat().st_mode) & 0o077 & ~mode:
                exposed.append((path, mode))
    return exposed


def stat_file(path: Path) -> os.stat_result | None:
    """Returns the file's status; None if there is no such file.

    Raises:
        WarehouseUnusable: the path leads through something that is not a folder, or through a
            folder without permission.
    """
    try:
        return path.stat()
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise _unusable(path, error) from None


def translate_os_error(error: OSError, path: Path) -> Exception:
    """Returns a WarehouseError for what the operating system refuses.

    Args:
        error: from the warehouse's file or folder.
        path: of the file, for the message.
    """
    translated = translate_duckdb_error(error, path)
    return translated if translated is not error else _unusable(path, error)


def _check_name(path: Path) -> None:
    text = str(path)
    if "\0" in text:
        raise WarehouseUnusable(f"warehouse {text!r}: no path has a null character, correct it")
    if "?" in text:
        raise WarehouseUnusable(
            f"warehouse {path}: DuckDB reads what follows a question mark in a path as "
            "options, set ST_WAREHOUSE_DIR to a folder without one"
        )
    try:
        text.encode()
    except UnicodeEncodeError:
        raise WarehouseUnusable(
            f"warehouse {path}: the path is not UTF-8, and DuckDB opens no other: set "
            "ST_WAREHOUSE_DIR to a folder whose whole path is UTF-8"
        ) from None


def _needed(file: Path) -> int:
    return os.R_OK | os.W_OK | (os.X_OK if file.is_dir() else 0)


def _unusable(path: Path, error: OSError | ValueError) -> WarehouseUnusable:
    reason = getattr(error, "strerror", None) or str(error)
    return WarehouseUnusable(
        f"warehouse {path} cannot be reached, or its folder cannot be created ({reason}): set "
        "ST_WAREHOUSE_DIR to a folder that you can write to, or fix the permissions"
    )


def _describe_owner(file: Path) -> str:
    """Returns whose file it is and who this is, for a message."""
    if pwd is None:
        return "is write-protected"
    status, names = file.stat(), []
    for user in (status.st_uid, os.geteuid()):
        try:
            names.append(pwd.getpwuid(user).pw_name)
        except KeyError:  # usual in containers
            names.append(f"user {user}")
    return (
        f"belongs to {names[0]} (mode {stat.S_IMODE(status.st_mode):04o}), and this is {names[1]}"
    )


def _check_locks(path: Path) -> None:
    """Locks a new file beside the warehouse as DuckDB will lock the warehouse.

    Creating it also finds what permissions do not show: read-only and full file systems.
    """
    probe = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}")
    try:
        file = open_with_mode(probe, os.O_RDWR, PRIVATE)
    except OSError as error:
        raise translate_os_error(error, path) from None
    try:
        if fcntl is not None:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise WarehouseUnusable(
            describe_missing_locks(path, error.strerror or str(error))
        ) from None
    finally:
        os.close(file)
        with contextlib.suppress(OSError):
            probe.unlink()


def sync_folder(folder: Path) -> None:
    """Flushes a folder's list of files to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems do not support it
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
