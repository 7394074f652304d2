"""Dagster's SQLite files without an SQLAlchemy engine for each of thousands of connections."""

from __future__ import annotations

import importlib
import sqlite3
from collections.abc import Callable
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine

_STORAGES = (
    "dagster._core.storage.event_log.sqlite.sqlite_event_log",
    "dagster._core.storage.event_log.sqlite.consolidated_sqlite_event_log",
    "dagster._core.storage.runs.sqlite.sqlite_run_storage",
    "dagster._core.storage.schedules.sqlite.sqlite_schedule_storage",
)


def make_events_cheap(*, durable: bool = False) -> None:
    """Makes Dagster's events in SQLite cheap for the rest of this process.

    Two things cost most of an event: an engine made for its connection, which compiles every
    statement anew, and the commit that waits for the disk. Now a file has one engine, and no
    commit waits. The history of runs is the only thing at stake, and only if the power fails.

    Dagster has no setting for the first. Where a release of it makes its engines elsewhere,
    nothing is shared and all else is as before.

    Args:
        durable: commits do wait.
    """
    if not (durable or event.contains(Engine, "connect", _without_waiting_for_the_disk)):
        event.listen(Engine, "connect", _without_waiting_for_the_disk)
    for name in _STORAGES:
        module = importlib.import_module(name)
        create = getattr(module, "create_engine", None)
        if create is not None and not hasattr(create, "shared"):
            vars(module)["create_engine"] = _one_a_file(create)


def _one_a_file(create_engine: Callable[..., Engine]) -> Callable[..., Engine]:
    made: dict[str, Engine] = {}

    def shared(url: str, **options: Any) -> Engine:
        key = repr((url, options))
        return made.get(key) or made.setdefault(key, create_engine(url, **options))

    vars(shared)["shared"] = made
    return shared


def _without_waiting_for_the_disk(connection: Any, _record: object) -> None:
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous = OFF")
