"""Temporary space for loads: staging folders beside the warehouse, and in-memory databases.

A staging folder lies in `.staging` beside the warehouse. A load that is killed leaves its folder
behind, and the next load of any process removes it. A lock on a file in each folder tells running
loads from dead ones: the kernel releases it when the process ends, also across containers that
share the file system. Without such locks, each load removes only its own folder.

In-memory databases are kept for the next load: opening one takes 20 ms, a sixth of a small load.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import shutil
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import duckdb

from st_pipelines.warehouse.columns import fetch_row, literal
from st_pipelines.warehouse.errors import WarehouseUnusable, translate_duckdb_error
from st_pipelines.warehouse.store.location import make_folder, open_with_mode

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_LOCK = ".lock"
_MAX_POOLED = 4
_pool: list[duckdb.DuckDBPyConnection] = []
_pool_lock = threading.Lock()
_unfinished: set[tuple[int, Path]] = set()
"""Processes and the staging folders that they have not removed yet."""


@contextlib.contextmanager
def staging_folder(parent: Path, name: str) -> Iterator[Path]:
    """Yields a path inside a new, locked staging folder, and removes the folder on exit.

    Removes the folders of dead loads first.

    Args:
        parent: the folder whose `.staging` holds the new one; on the warehouse's file system.
        name: a prefix that tells people what is staged.

    Yields:
        A path that does not exist yet, accessible to this user only.

    Raises:
        WarehouseFull: the disk is full.
        WarehouseUnusable: the folder cannot be created.
    """
    root = staging_root(parent)
    folder = root / f"{name}-{uuid.uuid4().hex[:12]}"
    mine = (os.getpid(), folder)
    _unfinished.add(mine)
    try:
        with _locked(root):
            _remove_dead_folders(root)
            make_folder(folder, 0o700)
            lock = _try_lock(folder / _LOCK)
    except OSError as error:
        translated = translate_duckdb_error(error, folder)
        if translated is error:
            translated = WarehouseUnusable(
                f"{root} cannot be used for staging ({error.strerror}): fix its permissions, or set"
                " ST_WAREHOUSE_DIR to a folder that you can write to"
            )
        raise translated from None
    try:
        yield folder / "staged"
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _unfinished.discard(mine)
        if lock is not None:
            os.close(lock)


@atexit.register
def _remove_unfinished() -> None:
    """An interrupt may come just before a `try`, so its `finally` never runs."""
    for process, folder in [*_unfinished]:
        if process == os.getpid():  # and not in a fork
            shutil.rmtree(folder, ignore_errors=True)


def staging_root(parent: Path) -> Path:
    """Returns the folder for staging: `.staging`, or one of this user's if that is another's."""
    shared = parent / ".staging"
    if not shared.exists() or os.access(shared, os.R_OK | os.W_OK | os.X_OK):
        return shared
    return parent / f".staging-{os.geteuid() if hasattr(os, 'geteuid') else 'own'}"


@contextlib.contextmanager
def _locked(root: Path) -> Iterator[None]:
    """Keeps others from removing a folder between its creation and its locking."""
    make_folder(root, 0o700)
    file = open_with_mode(root / _LOCK, os.O_RDWR, 0o600)
    try:
        if fcntl is not None:
            with contextlib.suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def _remove_dead_folders(root: Path) -> None:
    for folder in root.iterdir():
        if not folder.is_dir():
            continue
        lock = _try_lock(folder / _LOCK)
        if lock is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)


def _try_lock(file: Path) -> int | None:
    """Returns the locked file's descriptor; None if it is locked or locks are not supported."""
    if fcntl is None:
        return None
    descriptor = None
    try:
        descriptor = open_with_mode(file, os.O_RDWR, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # also another user's folder, or one that its load has just removed
        if descriptor is not None:
            os.close(descriptor)
        return None
    return descriptor


class InMemory:
    """An empty in-memory database, from the pool or newly opened.

    Attributes:
        connection: a connection to it, open until `give_back`.
    """

    def __init__(self, folder: Path) -> None:
        """Takes a database from the pool, or opens one that spills into `folder`."""
        self._database = _open_database(folder)
        self.connection = self._database.cursor()

    def give_back(self, *, keep: bool) -> None:
        """Ends the use of the database.

        Args:
            keep: nothing failed, so the pool may keep the database if it is empty.
        """
        self.connection.close()
        with _pool_lock:
            if keep and len(_pool) < _MAX_POOLED and _is_empty(self._database):
                _pool.append(self._database)
                return
        self._database.close()


@contextlib.contextmanager
def in_memory(folder: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """Yields a connection to an empty in-memory database that spills into `folder`."""
    database, succeeded = InMemory(folder), False
    try:
        yield database.connection
        succeeded = True
    finally:
        database.give_back(keep=succeeded)


def limit_memory(connection: duckdb.DuckDBPyConnection, memory_limit: str) -> None:
    """Limits the memory of a connection's whole database.

    Args:
        connection: to the database.
        memory_limit: in DuckDB's notation, such as `400MB`.
    """
    connection.execute(f"SET memory_limit = {literal(memory_limit)}")


@functools.cache
def default_memory_limit() -> str:
    """Returns DuckDB's default limit for this machine: in DuckDB 1, RESET does not restore it."""
    with duckdb.connect() as connection:
        return fetch_row(connection, "SELECT current_setting('memory_limit')")[0]


def _open_database(folder: Path) -> duckdb.DuckDBPyConnection:
    """Takes a database from the pool that can spill into `folder`, or opens one."""
    while True:
        with _pool_lock:
            pooled = _pool.pop() if _pool else None
        database = pooled or duckdb.connect()
        try:
            limit_memory(database, default_memory_limit())
            database.execute(f"SET temp_directory = {literal(str(folder))}")
            return database
        except duckdb.Error:  # DuckDB cannot change the folder once it has spilled into it
            database.close()
            if pooled is None:
                raise


def _is_empty(database: duckdb.DuckDBPyConnection) -> bool:
    """Whether the database has no tables and nothing attached."""
    return not database.execute(
        "SELECT 1 FROM duckdb_tables() UNION ALL "
        "SELECT 1 FROM duckdb_databases() WHERE NOT internal AND database_name <> 'memory'"
    ).fetchall()


def _close_pool() -> None:
    """Empties the pool before a fork: a child lacks the databases' threads and would crash."""
    with _pool_lock:
        while _pool:
            _pool.pop().close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_close_pool)
