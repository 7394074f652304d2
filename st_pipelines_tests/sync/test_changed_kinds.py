"""A table whose endpoint was loaded by days until a new edition of the catalog reads it whole."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import dagster as dg
import pytest

from st_pipelines.catalog import registry
from st_pipelines.catalog.model import Catalog, DateFilter, Endpoint
from st_pipelines.catalog.registry import load_catalog
from st_pipelines.definitions import build_definitions
from st_pipelines.sandbox.server import Sandbox
from st_pipelines.sync.sync import SyncContext, extract_load
from st_pipelines_tests.churn_reader import (
    build_context,
    comparable,
    days,
    expected_rows,
    query,
    table_rows,
)

TABLE = "salestech.estimate_templates"
ALL = days("2026-03-01", "2026-03-10", open_start=True)


@pytest.fixture
def context(own_sandbox: Sandbox, tmp_path: Path) -> Iterator[SyncContext]:
    context = build_context(own_sandbox, tmp_path / "x.duckdb")
    with closing(context.client):
        yield dataclasses.replace(context, clock=lambda: own_sandbox.world.now)


def by_days() -> Endpoint:
    """The endpoint as an earlier edition of the catalog had it."""
    return dataclasses.replace(
        load_catalog()[TABLE],
        kind="window",
        cursor="modifiedOn",
        date_filter=DateFilter(lower="modifiedOnOrAfter", upper="modifiedBefore"),
    )


def test_rows_loaded_by_days_stay_and_later_reads_of_everything_continue_the_table(
    own_sandbox: Sandbox, context: SyncContext, tmp_path: Path
) -> None:
    file, endpoint = tmp_path / "x.duckdb", load_catalog()[TABLE]
    first, second, *_ = (record["id"] for record in own_sandbox.world.records(TABLE))
    report = extract_load(context, by_days(), ALL)
    assert report.loaded.counts.inserted > 2
    changed_in_place(own_sandbox, first)
    own_sandbox.world.delete(TABLE, second)
    report = extract_load(context, endpoint, None)
    counts = report.loaded.counts
    assert (counts.inserted, counts.updated, counts.deleted) == (0, 1, 1)
    present = table_rows(file, endpoint, "_deleted_at IS NULL")
    assert comparable(present) == comparable(expected_rows(own_sandbox, endpoint))
    assert query(file, f"SELECT id FROM {TABLE} WHERE _deleted_at IS NOT NULL") == [(second,)]


def changed_in_place(sandbox: Sandbox, key: int) -> None:
    """Changes a template without moving its time of modification, as ServiceTitan does."""
    stamped = next(r for r in sandbox.world.records(TABLE) if r["id"] == key)["modifiedOn"]
    sandbox.world.change(TABLE, key, summary="Another", modifiedOn=stamped)


def test_dagster_materializes_the_asset_whole_and_keeps_the_record_of_its_days(
    own_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in own_sandbox.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SERVICETITAN_START_DATE", "2026-03-01")
    monkeypatch.setenv("SERVICETITAN_SELECT", TABLE)
    key = dg.AssetKey(["production", *TABLE.split(".")])
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        with monkeypatch.context() as earlier:
            edition = Catalog({**load_catalog().endpoints, TABLE: by_days()})
            earlier.setattr(registry, "packaged_catalog", lambda: edition)
            tags = {
                "dagster/asset_partition_range_start": "2026-03-01",
                "dagster/asset_partition_range_end": "2026-03-03",
            }
            materialize(instance, key, tags)
        before = instance.get_materialized_partitions(key)
        assert len(before) == 3
        materialize(instance, key, {})
        latest = instance.get_latest_materialization_event(key)
        assert latest is not None
        assert latest.asset_materialization is not None
        assert latest.asset_materialization.partition is None
        assert instance.get_materialized_partitions(key) == before


def materialize(instance: dg.DagsterInstance, key: dg.AssetKey, tags: dict[str, str]) -> None:
    job = build_definitions("production").resolve_implicit_global_asset_job_def()
    job.execute_in_process(instance=instance, tags=tags, asset_selection=[key])
