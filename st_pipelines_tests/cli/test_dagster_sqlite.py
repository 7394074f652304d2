"""What Dagster's events cost in the demo."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine

from st_pipelines.cli.dagster_sqlite import make_events_cheap


@dg.asset
def anything() -> None:
    """An asset of nothing."""


def test_the_connections_of_a_run_share_an_engine_for_each_file(tmp_path: Path) -> None:
    make_events_cheap()
    seen: list[Engine] = []
    waits: set[int] = set()

    def connected(connection: Connection) -> None:
        seen.append(connection.engine)
        waits.add(connection.connection.cursor().execute("PRAGMA synchronous").fetchone()[0])

    event.listen(Engine, "engine_connect", connected)
    try:
        with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
            for _ in range(2):
                assert dg.materialize([anything], instance=instance).success
    finally:
        event.remove(Engine, "engine_connect", connected)
    files = {engine.url.database for engine in seen}
    assert len(files) >= 4, "runs, the index of events, and the events of two runs"
    assert len(set(seen)) == len(files)
    assert len(seen) > 10 * len(files)
    assert waits == {0}
