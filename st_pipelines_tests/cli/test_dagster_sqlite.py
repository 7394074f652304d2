"""`cheap_events`: fewer SQLAlchemy engines for Dagster's SQLite files, until the block ends."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine

from st_pipelines.cli.dagster_sqlite import cheap_events


@dg.asset
def nothing() -> None:
    """An asset that does nothing."""


@contextlib.contextmanager
def recorded_connections() -> Iterator[list[tuple[Engine, int]]]:
    """Records the engine and SQLite's `synchronous` of each connection."""
    connections: list[tuple[Engine, int]] = []

    def record(connection: Connection) -> None:
        cursor = connection.connection.cursor()
        synchronous = cursor.execute("PRAGMA synchronous").fetchone()[0]
        connections.append((connection.engine, synchronous))

    event.listen(Engine, "engine_connect", record)
    try:
        yield connections
    finally:
        event.remove(Engine, "engine_connect", record)


def materialize_twice(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    with dg.DagsterInstance.local_temp(str(folder)) as instance:
        for _ in range(2):
            assert dg.materialize([nothing], instance=instance).success


@pytest.mark.parametrize("durable", [True, False])
def test_the_connections_of_a_run_share_one_engine_per_file(tmp_path: Path, durable: bool) -> None:
    with cheap_events(durable=durable), recorded_connections() as connections:
        materialize_twice(tmp_path)
    engines = {engine for engine, _ in connections}
    files = {engine.url.database for engine in engines}
    assert len(files) >= 4, "runs, the index of events, and the events of two runs"
    assert len(engines) == len(files)
    assert len(connections) > 10 * len(files)
    synchronous = {value for _, value in connections}
    assert (0 in synchronous) is not durable
    assert durable or synchronous == {0}


def test_dagster_s_own_storage_is_back_afterwards(tmp_path: Path) -> None:
    """A patch that stays would be under every later run of the process, tests of crashes too."""
    with cheap_events(durable=False):
        materialize_twice(tmp_path / "cheap")
    with recorded_connections() as connections:
        materialize_twice(tmp_path / "stock")
    engines = {engine for engine, _ in connections}
    assert len(engines) > 10 * len({engine.url.database for engine in engines})
    assert 0 not in {synchronous for _, synchronous in connections}
