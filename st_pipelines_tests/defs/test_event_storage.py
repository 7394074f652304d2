"""`BatchedSqliteEventLogStorage` stores what Dagster's SQLite storage stores, in fewer steps."""

import os
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any
from unittest import mock

import dagster as dg
import pytest
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage
from sqlalchemy import event
from sqlalchemy.engine import Engine

from st_pipelines.defs.event_storage import (
    BATCH_SIZE,
    BatchedSqliteEventLogStorage,
    stored_in_batches,
)

CONFIGURATION = """
telemetry: {{enabled: false}}
event_log_storage:
  module: st_pipelines.defs.event_storage
  class: BatchedSqliteEventLogStorage
"""
DAYS = dg.DailyPartitionsDefinition("2026-01-01", end_date="2026-02-01")
FIRST, LAST = "2026-01-03", "2026-01-30"
CHECK = dg.AssetCheckSpec("rows", asset="measured")


@dg.asset(
    partitions_def=DAYS,
    backfill_policy=dg.BackfillPolicy.single_run(),
    check_specs=[CHECK],
    code_version="1",
)
def measured(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    """An asset with a value of its own for each day."""
    for key in context.partition_keys:
        context.add_asset_metadata({"day": key}, partition_key=key)
    result = dg.AssetCheckResult(passed=True, check_name="rows")
    return dg.MaterializeResult(metadata={"all": 1}, check_results=[result])


@pytest.fixture(autouse=True)
def without_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restores the variable, which the storage sets for its process."""
    monkeypatch.setenv(BATCH_SIZE, "")
    monkeypatch.delenv(BATCH_SIZE)


def materialize(folder: Path, configuration: str = "telemetry: {{enabled: false}}\n") -> str:
    """Materializes all days in one run, in an instance of this configuration; returns its id."""
    folder.mkdir()
    (folder / "dagster.yaml").write_text(configuration.format(folder=folder))
    tags = {
        "dagster/asset_partition_range_start": FIRST,
        "dagster/asset_partition_range_end": LAST,
    }
    with (
        mock.patch.dict(os.environ, DAGSTER_HOME=str(folder)),
        dg.DagsterInstance.get() as instance,
    ):
        result = dg.materialize([measured], instance=instance, tags=tags)
        assert result.success
        found = instance.get_materialized_partitions(measured.key)
        assert found == {day for day in DAYS.get_partition_keys() if FIRST <= day <= LAST}
        latest = instance.get_latest_materialization_event(measured.key)
        materialization = latest.asset_materialization if latest else None
        assert materialization
        assert materialization.partition == LAST
        assert materialization.metadata["day"].value == LAST
    return result.run_id


def read_files(folder: Path, run: str) -> dict[str, Counter[tuple[Any, ...]]]:
    """Returns what is in the files of a run and of the index, without ids and times."""
    runs = folder / "history" / "runs"
    queries = {
        (run, "event_logs"): "SELECT dagster_event_type, step_key, asset_key, partition "
        "FROM event_logs",
        ("index", "event_logs"): "SELECT dagster_event_type, step_key, asset_key, partition, "
        "json_extract(event, '$.dagster_event.event_specific_data.materialization.partition') "
        "FROM event_logs",
        ("index", "asset_event_tags"): "SELECT l.dagster_event_type, l.partition, t.asset_key, "
        "t.key, json_extract(l.event, '$.dagster_event.event_specific_data.materialization.tags."
        "\"' || t.key || '\"') = t.value FROM asset_event_tags t JOIN event_logs l "
        "ON l.id = t.event_id",
        ("index", "asset_keys"): "SELECT k.asset_key, l.dagster_event_type, l.partition "
        "FROM asset_keys k JOIN event_logs l "
        "ON l.id = json_extract(k.last_materialization, '$.storage_id')",
        ("index", "asset_check_executions"): "SELECT asset_key, check_name, execution_status "
        "FROM asset_check_executions",
    }
    found = {}
    for (shard, table), query in queries.items():
        connection = sqlite3.connect(runs / f"{shard}.db")
        name = f"{'run' if shard == run else shard} {table}"
        found[name] = Counter(connection.execute(query).fetchall())
        connection.close()
    return found


def test_a_batch_leaves_what_single_events_leave(tmp_path: Path) -> None:
    single = read_files(tmp_path / "single", materialize(tmp_path / "single"))
    batched = read_files(tmp_path / "batched", materialize(tmp_path / "batched", CONFIGURATION))
    assert batched == single
    assert all(single.values())
    materializations = [
        key for key in single["run event_logs"] if key[0] == "ASSET_MATERIALIZATION"
    ]
    assert len(materializations) == 28


def test_the_files_are_where_the_configuration_says(tmp_path: Path) -> None:
    other = tmp_path / "other"
    materialize(tmp_path / "home", f"{CONFIGURATION}  config: {{{{base_dir: {other}}}}}\n")
    assert (other / "index.db").exists()
    assert not (tmp_path / "home" / "history" / "runs").exists()


def test_without_a_folder_the_error_names_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    with pytest.raises(ValueError, match=r"Set DAGSTER_HOME, or add `config: \{base_dir:"):
        BatchedSqliteEventLogStorage()


def test_demo_and_load_store_batches_in_dagster_s_own_storage(tmp_path: Path) -> None:
    single = materialize_and_count(tmp_path / "single")
    own = SqliteEventLogStorage.store_event_batch
    with stored_in_batches():
        batched = materialize_and_count(tmp_path / "batched")
    again = materialize_and_count(tmp_path / "again")
    assert single - batched > 4 * 28, "each day has two events, which took two connections each"
    assert again == single, "Dagster's own storage is back"
    assert SqliteEventLogStorage.store_event_batch is own


def materialize_and_count(folder: Path) -> int:
    """Returns how many connections to SQLite a run over all days opened."""
    connections: list[object] = []

    def record(connection: object) -> None:
        connections.append(connection)

    event.listen(Engine, "engine_connect", record)
    try:
        materialize(folder)
    finally:
        event.remove(Engine, "engine_connect", record)
    return len(connections)
