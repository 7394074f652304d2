"""Assets of child lists: their edge to the asset of the parents, their runs, and what those say."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import duckdb
import pytest

import st_pipelines as st
from st_pipelines.cli.progress import _order_apis
from st_pipelines.definitions import build_definitions
from st_pipelines.sandbox.server import Sandbox
from st_pipelines.servicetitan.http.client import Client
from st_pipelines.servicetitan.http.retry import NO_WAIT

NOTES, CUSTOMERS = (dg.AssetKey(["production", "crm", n]) for n in ("customers_notes", "customers"))
TABLES = "crm.customers,crm.customers_notes"


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as made:
        yield made


@pytest.fixture
def configured(own_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Production, pointed at a sandbox. Returns the warehouse file."""
    monkeypatch.setattr(
        "st_pipelines.servicetitan.http.client.Client", functools.partial(Client, policy=NO_WAIT)
    )
    for name, value in own_sandbox.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SERVICETITAN_TIMEZONE", "America/New_York")
    monkeypatch.setenv("SERVICETITAN_START_DATE", "2026-03-09")
    monkeypatch.setenv("SERVICETITAN_SELECT", TABLES)
    return tmp_path / "data" / "production.duckdb"


def run_daily(instance: dg.DagsterInstance, day: str) -> dg.ExecuteInProcessResult:
    job = build_definitions("production").resolve_job_def("daily")
    return job.execute_in_process(instance=instance, partition_key=day, raise_on_error=False)


def read_metadata(result: dg.ExecuteInProcessResult, key: dg.AssetKey) -> dict[str, object]:
    [event] = [e for e in result.get_asset_materialization_events() if e.asset_key == key]
    found = event.step_materialization_data.materialization.metadata
    return {name: entry.value for name, entry in found.items()}


def test_every_child_depends_on_its_parent_and_has_no_partitions() -> None:
    graph = build_definitions("production").resolve_asset_graph()
    for endpoint in st.load_catalog():
        key = dg.AssetKey(["production", endpoint.api, endpoint.name])
        if not graph.has(key):  # it has to be configured first
            assert endpoint.parent is None
            continue
        node = graph.get(key)
        parents = {key.to_user_string() for key in node.parent_keys}
        if endpoint.parent is None:
            assert parents == set()
            continue
        assert parents == {f"production/{endpoint.parent.table.replace('.', '/')}"}
        assert node.partitions_def is None
        assert node.metadata["parent"] == endpoint.parent.table


def test_the_edge_leads_to_the_key_that_a_translator_gives_the_parent() -> None:
    class Renamed(st.ServiceTitanTranslator):
        def get_asset_spec(self, data: st.EndpointTranslatorData) -> dg.AssetSpec:
            spec = super().get_asset_spec(data)
            return spec.replace_attributes(key=spec.key.with_prefix("raw"))

    definitions = st.build_definitions(
        "production", select=TABLES.split(","), translator=Renamed(), key_prefix=["a"]
    )
    node = definitions.resolve_asset_graph().get(NOTES.with_prefix(["raw", "a"]))
    assert node.parent_keys == {CUSTOMERS.with_prefix(["raw", "a"])}


def test_a_parent_that_is_not_selected_is_no_asset() -> None:
    definitions = st.build_definitions("production", select=["crm.customers_notes"])
    assert set(definitions.resolve_all_asset_keys()) == {NOTES}


def test_the_daily_run_loads_the_parents_and_then_their_children(
    configured: Path, instance: dg.DagsterInstance
) -> None:
    result = run_daily(instance, "2026-03-09")
    assert result.success
    order = [e.asset_key for e in result.get_asset_materialization_events()]
    assert order == [CUSTOMERS, NOTES]
    metadata = read_metadata(result, NOTES)
    assert metadata["parents_read"]
    assert (metadata["parents_not_found"], metadata["parents_remaining"]) == (0, 0)
    with duckdb.connect(str(configured), read_only=True) as connection:
        [(rows,)] = connection.execute("SELECT count(*) FROM crm.customers_notes").fetchall()
    assert metadata["dagster/row_count"] == rows > 0
    passed = {e.check_name: e.passed for e in result.get_asset_check_evaluations()}
    assert passed == {"rows": True, "schema_drift": True}


def test_a_limit_spreads_the_first_load_over_several_runs(
    configured: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ST_MAX_CHILD_REQUESTS", "5")
    first = read_metadata(run_daily(instance, "2026-03-09"), NOTES)
    second = read_metadata(run_daily(instance, "2026-03-09"), NOTES)
    assert (first["parents_read"], second["parents_read"]) == (5, 5)
    assert second["parents_remaining"] == int(str(first["parents_remaining"])) - 5


def test_a_child_without_its_parents_fails_and_says_what_to_load(
    configured: Path, instance: dg.DagsterInstance
) -> None:
    job = build_definitions("production").resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(
        instance=instance, asset_selection=[NOTES], raise_on_error=False
    )
    [failure] = [e for e in result.all_events if e.is_step_failure]
    reason = failure.step_failure_data.user_failure_data
    assert reason is not None
    assert "load crm.customers first" in str(reason.description)


def test_reconciling_a_child_evaluates_its_checks(
    configured: Path, instance: dg.DagsterInstance
) -> None:
    assert run_daily(instance, "2026-03-09").success
    job = build_definitions("production").resolve_job_def("reconcile")
    config = {"ops": {"tables": {"config": {"select": ["crm.customers_notes"]}}}}
    result = job.execute_in_process(instance=instance, run_config=config, raise_on_error=False)
    assert result.success
    [observed] = [e for e in result.all_events if e.event_type_value == "ASSET_OBSERVATION"]
    metadata = observed.asset_observation_data.asset_observation.metadata
    assert metadata["parents_read"].value
    assert metadata["rows_unchanged"].value == metadata["rows_in_table"].value


def test_an_api_is_loaded_after_the_one_with_its_parents() -> None:
    definitions = build_definitions("production")
    job = definitions.resolve_implicit_global_asset_job_def()
    by_api: dict[str, list[dg.AssetKey]] = {}
    for key in definitions.resolve_all_asset_keys():
        by_api.setdefault(key.path[-2], []).append(key)
    ordered = _order_apis(job, by_api)
    assert sorted(ordered) == sorted(by_api)
    assert ordered.index("forms") > ordered.index("jpm")
    others = [api for api in ordered if api != "forms"]
    assert others == sorted(others)
