"""Makes Dagster's SQLite storage cheap while `demo` and `load` run.

Dagster creates an SQLAlchemy engine for each of thousands of connections, and each engine compiles
every statement again. It also stores the events of a range of partitions one by one (see
`defs.event_storage`). Both are patched in Dagster's own SQLite modules, so any other storage that
`dagster.yaml` names works as usual.
"""

from __future__ import annotations

import importlib
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine

from st_pipelines.defs import event_storage
from st_pipelines.defs.dagster_internals import SQLITE_STORAGE_MODULES


@contextmanager
def cheap_events(*, durable: bool) -> Iterator[None]:
    """Uses one engine per SQLite file, and batches of events, until the block ends.

    A Dagster release that creates its engines elsewhere gets none of this, and works as usual.

    Args:
        durable: commits wait for the disk. Otherwise a power failure may lose the run history.
    """
    with ExitStack() as stack:
        if not durable:
            event.listen(Engine, "connect", _disable_sync)
            stack.callback(event.remove, Engine, "connect", _disable_sync)
        for name in SQLITE_STORAGE_MODULES:
            module = importlib.import_module(name)
            if (create_engine := getattr(module, "create_engine", None)) is not None:
                engines: dict[str, Engine] = {}
                stack.callback(_dispose, engines)
                stack.callback(setattr, module, "create_engine", create_engine)
                vars(module)["create_engine"] = _share_engines(create_engine, engines)
        stack.enter_context(event_storage.stored_in_batches())
        yield


def _share_engines(
    create_engine: Callable[..., Engine], engines: dict[str, Engine]
) -> Callable[..., Engine]:
    def shared(url: str, **options: Any) -> Engine:
        key = repr((url, options))
        return engines.get(key) or engines.setdefault(key, create_engine(url, **options))

    return shared


def _dispose(engines: dict[str, Engine]) -> None:
    for engine in engines.values():
        engine.dispose()


def _disable_sync(connection: Any, _record: object) -> None:
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous = OFF")
