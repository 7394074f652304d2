"""The assets on a real Dagster instance, against the sandbox."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest
import yaml

from st_pipelines.catalog.registry import load_catalog, select
from st_pipelines.definitions import build_definitions
from st_pipelines.sandbox.server import Sandbox
from st_pipelines.warehouse.errors import WarehouseBusy
from st_pipelines.warehouse.store import read_copy as publish
from st_pipelines_tests.conftest import NOW

FIRST, LAST = "2026-03-01", "2026-03-10"


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as made:
        yield made


@pytest.fixture
def configured(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Production, pointed at the sandbox. Returns the warehouse file."""
    for name, value in sandbox.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SERVICETITAN_TIMEZONE", "America/New_York")
    monkeypatch.setenv("SERVICETITAN_START_DATE", FIRST)
    return tmp_path / "data" / "production.duckdb"


def materialize(
    instance: dg.DagsterInstance,
    *tables: str,
    partitions: tuple[str, str] | None = None,
    environment: Any = "production",
) -> dg.ExecuteInProcessResult:
    job = build_definitions(environment).resolve_implicit_global_asset_job_def()
    tags = {}
    if partitions:
        tags = {
            "dagster/asset_partition_range_start": partitions[0],
            "dagster/asset_partition_range_end": partitions[1],
        }
    return job.execute_in_process(
        instance=instance,
        tags=tags,
        raise_on_error=False,
        asset_selection=[dg.AssetKey([environment, *table.split(".")]) for table in tables],
    )


def count(file: Path, table: str, where: str = "true") -> int:
    with duckdb.connect(str(file), read_only=True) as connection:
        return connection.execute(f"SELECT count(*) FROM {table} WHERE {where}").fetchall()[0][0]


def test_every_endpoint_is_an_asset_of_each_environment_with_its_own_key() -> None:
    production = set(build_definitions("production").resolve_all_asset_keys())
    integration = set(build_definitions("integration").resolve_all_asset_keys())
    assert len(production) == len(integration) == len(select(load_catalog(), []))
    assert not production & integration
    assert dg.AssetKey(["production", "jpm", "jobs"]) in production


def test_dagster_finds_both_environments_in_the_checkout() -> None:
    checkout = Path(__file__).parents[2]
    # With such a table `dagster dev` would read that, and not workspace.yaml.
    assert not re.search(
        r"^\[tool\.(dagster|dg)\b", (checkout / "pyproject.toml").read_text(), re.M
    )
    named = yaml.safe_load((checkout / "workspace.yaml").read_text())["load_from"]
    modules = [entry["python_module"] for entry in named]
    assert [m["location_name"] for m in modules] == ["production", "integration"]
    for module in modules:
        found = getattr(importlib.import_module(module["module_name"]), module["attribute"])
        assert isinstance(found, dg.Definitions)


def test_an_asset_describes_itself() -> None:
    key = dg.AssetKey(["production", "accounting", "invoices"])
    spec = build_definitions("production").resolve_asset_graph().get(key)
    assert spec.group_name == "accounting"
    assert spec.kinds == {"duckdb", "servicetitan"}
    assert spec.owners
    metadata = spec.metadata
    assert metadata["dagster/table_name"] == "production.accounting.invoices"
    assert metadata["operation"] == "GET /accounting/v2/tenant/{tenant}/invoices"
    assert metadata["scope"] == "tn.acc.invoices:r"
    columns = {c.name: c.type for c in metadata["dagster/column_schema"].columns}
    assert columns["total"] == "DECIMAL(38,10)"
    assert columns["items"].startswith("STRUCT(")
    assert columns["_partition_date"] == "DATE"
    reference = metadata["dagster/code_references"].code_references[0]
    line = Path(reference.file_path).read_text().splitlines()[reference.line_number - 1]
    assert line == ' "invoices": {'


def test_partitions_are_local_days_from_the_start_date_to_today() -> None:
    definitions = build_definitions(
        "production", timezone="America/New_York", start_date=date.fromisoformat(FIRST)
    )
    key = dg.AssetKey(["production", "jpm", "jobs"])
    partitions = definitions.resolve_asset_graph().get(key).partitions_def
    assert isinstance(partitions, dg.DailyPartitionsDefinition)
    keys = partitions.get_partition_keys(current_time=NOW)
    assert (keys[0], keys[-1], len(keys)) == (FIRST, LAST, 10)
    assert partitions.timezone == "America/New_York"
    snapshot = dg.AssetKey(["production", "settings", "user_roles"])
    assert definitions.resolve_asset_graph().get(snapshot).partitions_def is None


def test_a_range_is_one_run_and_its_rows_are_counted_by_day(
    instance: dg.DagsterInstance, configured: Path, sandbox: Sandbox
) -> None:
    asked = sandbox.data_requests
    result = materialize(instance, "jpm.jobs", partitions=(FIRST, LAST))
    assert result.success
    assert sandbox.data_requests - asked == 2  # the list, and the export from now on
    events = result.asset_materializations_for_node("production__jpm__jobs")
    by_day = {e.partition: e.metadata["dagster/partition_row_count"].value for e in events}
    assert sorted(by_day) == [f"2026-03-{day:02}" for day in range(1, 11)]
    for day, rows in by_day.items():
        assert rows == count(configured, "jpm.jobs", f"_partition_date = '{day}'")
    older = count(configured, "jpm.jobs", f"_partition_date < '{FIRST}'")
    assert older > 0, "the first partition is open to the left"
    *others, last = (event.metadata for event in events)
    assert {name for other in others for name in other} == {
        "dagster/partition_row_count",
        "window_end",
    }, "only the last day's event describes the whole load"
    metadata = last
    assert (
        metadata["rows_read"].value
        == metadata["rows_inserted"].value
        == older + sum(by_day.values())
    )
    assert metadata["requests"].value == 2
    assert metadata["window"].value.startswith("the beginning to ")
    assert metadata["preview"].value.startswith("| id | ")


def test_one_partition_loads_one_day(instance: dg.DagsterInstance, configured: Path) -> None:
    result = materialize(instance, "jpm.jobs", partitions=(LAST, LAST))
    assert result.success
    assert count(configured, "jpm.jobs") == count(
        configured, "jpm.jobs", f"_partition_date = '{LAST}'"
    )


def test_windows_feeds_and_snapshots_go_into_one_run(
    instance: dg.DagsterInstance, configured: Path
) -> None:
    tables = ("crm.customers", "accounting.invoice_items", "settings.user_roles")
    result = materialize(instance, *tables, partitions=(FIRST, LAST))
    assert result.success
    for table in tables:
        assert count(configured, table) > 0
    snapshot = result.asset_materializations_for_node("production__settings__user_roles")[0]
    assert snapshot.metadata["dagster/row_count"].value == count(configured, "settings.user_roles")


def test_one_failing_endpoint_leaves_the_others_done(
    instance: dg.DagsterInstance,
    configured: Path,
    own_sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scopes = {e.scope for e in load_catalog()} - {"tn.jpm.jobs:r"}
    with Sandbox(customers=40, now=NOW, scopes=scopes) as narrow:
        for name, value in narrow.environment().items():
            monkeypatch.setenv(name, value)
        result = materialize(instance, "jpm.jobs", "crm.customers", partitions=(FIRST, LAST))
    assert not result.success
    assert count(configured, "crm.customers") > 0
    [failure] = [e for e in result.all_events if e.is_step_failure]
    data = failure.step_failure_data.user_failure_data
    assert data
    assert "tn.jpm.jobs:r" in (data.description or "")
    assert data.metadata["error"].value == "PermissionDenied"
    assert not any(e.is_step_up_for_retry for e in result.all_events), "permanent: not retried"


def test_a_transient_error_is_retried_and_then_reported_in_full(
    instance: dg.DagsterInstance, configured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("st_pipelines.defs.failures.FIRST_DELAY", 0)
    monkeypatch.setattr("st_pipelines.config.project.EnvironmentConfig.open_store", busy_warehouse)
    result = materialize(instance, "settings.user_roles")
    assert sum(e.is_step_up_for_retry for e in result.all_events) == 2
    [failure] = [e for e in result.all_events if e.is_step_failure]
    data = failure.step_failure_data.user_failure_data
    assert data
    assert data.description == "held by process 1"


def busy_warehouse(*_: object, **_options: object) -> Any:
    raise WarehouseBusy("held by process 1")


def test_an_environment_without_credentials_fails_with_their_names(
    instance: dg.DagsterInstance,
) -> None:
    result = materialize(instance, "settings.user_roles")
    [failure] = [e for e in result.all_events if e.is_step_failure]
    data = failure.step_failure_data.user_failure_data
    assert data
    assert "set SERVICETITAN_CLIENT_ID, SERVICETITAN_CLIENT_SECRET" in (data.description or "")


def test_a_file_of_another_program_fails_the_run_and_is_left_alone(
    instance: dg.DagsterInstance, configured: Path
) -> None:
    configured.parent.mkdir()
    configured.write_text("not a database")
    result = materialize(instance, "settings.user_roles")
    [failure] = [e for e in result.all_events if e.is_step_failure]
    data = failure.step_failure_data.user_failure_data
    assert data
    assert "is not a DuckDB database" in (data.description or "")
    assert configured.read_text() == "not a database"


def test_no_secret_reaches_the_event_log(
    instance: dg.DagsterInstance,
    configured: Path,
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SERVICETITAN_CLIENT_SECRET", "cs1.marked-secret")
    monkeypatch.setenv("SERVICETITAN_APP_KEY", "ak1.marked-key")
    result = materialize(instance, "settings.user_roles")
    assert not result.success
    records = instance.get_records_for_run(result.run_id).records
    text = json.dumps([str(record.event_log_entry) for record in records])
    assert len(records) > 5
    assert "marked" not in text


def test_secrets_given_by_envvar_are_used_and_stay_hidden(
    instance: dg.DagsterInstance,
    configured: Path,
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from st_pipelines.defs.resources import ServiceTitanResource

    monkeypatch.delenv("SERVICETITAN_CLIENT_SECRET")
    monkeypatch.setenv("MY_SECRET", sandbox.client_secret)
    resource = ServiceTitanResource(environment="production", client_secret=dg.EnvVar("MY_SECRET"))
    definitions = build_definitions("production", resources={"servicetitan": resource})
    job = definitions.resolve_implicit_global_asset_job_def()
    key = dg.AssetKey(["production", "settings", "user_roles"])
    result = job.execute_in_process(instance=instance, asset_selection=[key])
    assert result.success
    records = instance.get_records_for_run(result.run_id).records
    assert sandbox.client_secret not in json.dumps([str(r.event_log_entry) for r in records])


def test_the_warehouse_resource_gives_dataframes(
    instance: dg.DagsterInstance, configured: Path
) -> None:
    from st_pipelines.defs.resources import WarehouseResource

    materialize(instance, "settings.user_roles")
    frame = WarehouseResource(environment="production").query("SELECT id FROM settings.user_roles")
    assert len(frame) == count(configured, "settings.user_roles")


def test_the_read_copy_follows_the_loads_of_a_run(
    instance: dg.DagsterInstance, configured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within the run it is made once an hour, here after the first load, and again at the end."""
    monkeypatch.setenv("ST_PUBLISH_SECONDS", "3600")
    made: list[int] = []
    replace = publish.ReadCopy._replace
    monkeypatch.setattr(publish.ReadCopy, "_replace", lambda w: made.append(1) or replace(w))
    tables = ("settings.user_roles", "settings.tag_types", "settings.business_units")
    assert materialize(instance, *tables, partitions=(FIRST, LAST)).success
    assert len(made) == 2
    copy = configured.with_name("production_read.duckdb")
    for table in tables:
        assert count(copy, table) == count(configured, table)


def test_a_failed_copy_is_a_warning_of_a_successful_load(
    instance: dg.DagsterInstance, configured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setenv("ST_PUBLISH_SECONDS", "1")
    monkeypatch.setattr(publish, "_copy_bytes", full)
    result = materialize(instance, "settings.user_roles")
    assert result.success
    told = [r.event_log_entry for r in instance.get_records_for_run(result.run_id).records]
    assert "the read copy was not replaced: no space left" in str([e.user_message for e in told])
