"""Dagster's event log on SQLite, which stores the events of a range of partitions together.

For each event, Dagster's own SQLite storage opens the file of the run once and the index twice. A
run over 1,000 days has two events per day and asset. Dagster hands such events over in batches if
`DAGSTER_EVENT_BATCH_SIZE` is set, but its SQLite storage stores them one by one. This class stores
a batch in two transactions (`benchmarks/recording.py` measures both). The files are the same, so it
can be added and removed at any time.

In `dagster.yaml`, instead of the default storage:

    event_log_storage:
      module: st_pipelines.defs.event_storage
      class: BatchedSqliteEventLogStorage
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import dagster as dg
from dagster._config.config_schema import UserConfigSchema
from dagster._core.events import ASSET_EVENTS
from dagster._core.storage.event_log.schema import SqlEventLogStorageTable
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage
from dagster._serdes import ConfigurableClassData
from sqlalchemy import select

BATCH_SIZE = "DAGSTER_EVENT_BATCH_SIZE"
"""Dagster's variable: the most events of a batch. Without it, there are no batches."""

_DEFAULT_BATCH_SIZE = "1000"


class BatchedSqliteEventLogStorage(SqliteEventLogStorage):
    """Dagster's default storage, except that it stores the events of a batch together."""

    def __init__(
        self, base_dir: str | None = None, inst_data: ConfigurableClassData | None = None
    ) -> None:
        """Opens the storage, and sets `DAGSTER_EVENT_BATCH_SIZE` in this process if it is not set.

        Args:
            base_dir: folder of the files; by default where Dagster puts them in `DAGSTER_HOME`.
            inst_data: the entry in `dagster.yaml`.

        Raises:
            ValueError: there is no `base_dir`, and DAGSTER_HOME is not set.
        """
        super().__init__(base_dir or _default_folder(), inst_data)
        os.environ.setdefault(BATCH_SIZE, _DEFAULT_BATCH_SIZE)

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        """Returns what the entry in `dagster.yaml` may configure."""
        return {"base_dir": dg.Field(dg.StringSource, is_required=False)}

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Any
    ) -> BatchedSqliteEventLogStorage:
        """Creates the storage from its entry in `dagster.yaml`."""
        return cls(inst_data=inst_data, **config_value)

    def store_event_batch(self, events: Sequence[dg.EventLogEntry]) -> None:
        """Stores events of one run together."""
        store_event_batch(self, events)


def _default_folder() -> str:
    home = os.environ.get("DAGSTER_HOME")
    if not home:
        raise ValueError(
            "Nothing says where to store Dagster's events. Set DAGSTER_HOME, or add "
            "`config: {base_dir: /a/folder}` to `event_log_storage` in dagster.yaml."
        )
    return os.path.join(home, "history", "runs")


@contextmanager
def stored_in_batches() -> Iterator[None]:
    """Lets Dagster's own SQLite storage store events in batches until the block ends."""
    before, size = SqliteEventLogStorage.store_event_batch, os.environ.get(BATCH_SIZE)
    os.environ.setdefault(BATCH_SIZE, _DEFAULT_BATCH_SIZE)
    SqliteEventLogStorage.store_event_batch = store_event_batch
    try:
        yield
    finally:
        SqliteEventLogStorage.store_event_batch = before
        if size is None:
            os.environ.pop(BATCH_SIZE, None)


def store_event_batch(self: SqliteEventLogStorage, events: Sequence[dg.EventLogEntry]) -> None:
    """Stores events about assets in one transaction per file, after other events, one by one.

    Args:
        self: the storage.
        events: of one run.
    """
    batch: list[dg.EventLogEntry] = []
    for event in events:
        if event.is_dagster_event and event.dagster_event_type in ASSET_EVENTS:
            batch.append(event)
        else:
            self.store_event(event)
    if not batch:
        return
    rows = [self._event_to_row(event) for event in batch]
    insert = SqlEventLogStorageTable.insert()
    with self.run_connection(batch[0].run_id) as connection:
        connection.execute(insert, rows)
    newest = select(SqlEventLogStorageTable.c.id).order_by(SqlEventLogStorageTable.c.id.desc())
    with self.index_transaction() as connection:
        connection.execute(insert, rows)
        # Nobody else writes before this transaction ends, so the highest ids are those of `rows`.
        ids = connection.execute(newest.limit(len(rows))).scalars().all()[::-1]
        self._store_asset_event_tags(connection, batch, ids)
        last = {
            row["asset_key"]: (event, id) for row, event, id in zip(rows, batch, ids, strict=True)
        }
        for event, id in last.values():
            self._store_asset_event(connection, event, id)
