"""In-memory databases, kept for the next load: to open one takes 20 ms, a sixth of a small load."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from st_pipelines.warehouse.columns import literal
from st_pipelines.warehouse.sql import one

_MOST_KEPT = 4
_kept: list[duckdb.DuckDBPyConnection] = []
_lock = threading.Lock()


class InMemory:
    """An empty in-memory database of one's own.

    Attributes:
        connection: to it; open until it is given back.
    """

    def __init__(self, folder: Path) -> None:
        """Takes one that was kept, or opens one.

        Args:
            folder: for what DuckDB moves out of memory.
        """
        self._database = _take(folder) or _set_up(duckdb.connect(), folder)
        self.connection = self._database.cursor()

    def give_back(self, *, keep: bool) -> None:
        """Ends it.

        Args:
            keep: nothing went wrong, so that another may have it if it is empty.
        """
        self.connection.close()
        with _lock:
            if keep and len(_kept) < _MOST_KEPT and _is_empty(self._database):
                _kept.append(self._database)
                return
        self._database.close()


@contextmanager
def in_memory(folder: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection to an empty in-memory database, for as long as the `with` lasts."""
    database, unhurt = InMemory(folder), False
    try:
        yield database.connection
        unhurt = True
    finally:
        database.give_back(keep=unhurt)


def limit_memory(connection: duckdb.DuckDBPyConnection, limit: str) -> None:
    """Sets it for the whole database of a connection.

    Args:
        connection: to the database.
        limit: as DuckDB writes it, `400MB`.
    """
    connection.execute(f"SET memory_limit = {literal(limit)}")


@functools.cache
def usual_memory() -> str:
    """DuckDB's own limit for this machine; with DuckDB 1 a RESET does not bring it back."""
    with duckdb.connect() as connection:
        return one(connection, "SELECT current_setting('memory_limit')")[0]


def _take(folder: Path) -> duckdb.DuckDBPyConnection | None:
    while True:
        with _lock:
            if not _kept:
                return None
            database = _kept.pop()
        try:
            return _set_up(database, folder)
        except duckdb.Error:  # it has used its folder, and cannot have another
            database.close()


def _set_up(database: duckdb.DuckDBPyConnection, folder: Path) -> duckdb.DuckDBPyConnection:
    limit_memory(database, usual_memory())
    database.execute(f"SET temp_directory = {literal(str(folder))}")
    return database


def _is_empty(database: duckdb.DuckDBPyConnection) -> bool:
    """Whether it has no table and nothing is attached to it."""
    return not database.execute(
        "SELECT 1 FROM duckdb_tables() UNION ALL "
        "SELECT 1 FROM duckdb_databases() WHERE NOT internal AND database_name <> 'memory'"
    ).fetchall()


def _close_all() -> None:
    """A process that is forked can neither use nor close them: without their threads it dies."""
    with _lock:
        while _kept:
            _kept.pop().close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_close_all)
