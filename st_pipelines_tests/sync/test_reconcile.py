"""`st-pipelines reconcile`, its job and its schedule."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import dagster as dg
import pytest
from typer.testing import CliRunner

from st_pipelines.cli.app import app, main
from st_pipelines.definitions import build_definitions
from st_pipelines.sandbox import responses
from st_pipelines.sandbox.server import Sandbox
from st_pipelines_tests.churn_reader import query
from st_pipelines_tests.conftest import NOW


@pytest.fixture
def configured(own_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for name, value in own_sandbox.environment().items():
        monkeypatch.setenv(name, value)
    return tmp_path / "data" / "production.duckdb"


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        yield instance


def reconcile(*tables: str) -> str:
    selected = [part for table in tables for part in ("--select", table)]
    result = CliRunner().invoke(app, ["reconcile", "--environment", "production", *selected])
    assert result.exit_code == 0, result.output
    return result.output


def test_the_command_loads_marks_and_reports(own_sandbox: Sandbox, configured: Path) -> None:
    jobs = own_sandbox.world.records("jpm.jobs")
    assert f"{len(jobs):,}" in reconcile("jpm.jobs,settings.user_roles")
    own_sandbox.world.delete("jpm.jobs", jobs[0]["id"])
    reconcile("jpm.job*")
    deleted = query(configured, "SELECT id FROM jpm.jobs WHERE _deleted_at IS NOT NULL")
    assert deleted == [(jobs[0]["id"],)]
    assert query(configured, "SELECT count(*) > 0 FROM jpm.job_types") == [(True,)]


def test_a_clock_that_is_wrong_is_a_warning_of_the_command(
    own_sandbox: Sandbox, configured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "clock" not in reconcile("settings.user_roles")
    sandbox = Sandbox(customers=5, now=NOW, requests_per_second=1e9, defects=("wrong-clock:-600",))
    with sandbox:
        for name, value in sandbox.environment().items():
            monkeypatch.setenv(name, value)
        said = " ".join(reconcile("settings.user_roles,jpm.job_types").split())
    assert said.count("warning: this machine's clock is 10 min ahead of ServiceTitan's") == 1


def test_a_failure_is_reported_once_and_in_full(own_sandbox: Sandbox, configured: Path) -> None:
    own_sandbox.interceptors.append(
        lambda request: (
            responses.build_json_response(b"{}", 403) if "/jpm/" in request.url.path else None
        )
    )
    command = [
        "reconcile",
        "--environment",
        "production",
        "--select",
        "jpm.job*,settings.tag_types",
    ]
    result = CliRunner(env={"COLUMNS": "80"}).invoke(app, command)
    assert result.exit_code == 1
    failures = [line for line in result.stdout.splitlines() if line.startswith("failed jpm.")]
    assert len(failures) == len({line.partition(": ")[2] for line in failures}) > 1
    assert any(" tn.jpm.jobs:r" in line and "API Application Access" in line for line in failures)
    assert "settings.tag_types" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--select", "jpm.jbos"], "did you mean jpm.jobs"),
        (["--environment", "prod"], "name one of production, integration, sandbox"),
        (["--environment", "integration"], "set SERVICETITAN_INTEGRATION_CLIENT_ID"),
    ],
)
def test_a_wrong_argument_is_named(
    configured: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    given = [] if "--environment" in arguments else ["--environment", "production"]
    monkeypatch.setattr("sys.argv", ["st-pipelines", "reconcile", *given, *arguments])
    with pytest.raises(SystemExit) as exited:
        main()
    assert exited.value.code == 1
    assert message in capsys.readouterr().err
    assert not configured.exists()


def test_the_environment_is_required() -> None:
    result = CliRunner().invoke(app, ["reconcile"])
    assert result.exit_code == 2
    assert "--environment" in result.output


def test_the_job_has_a_step_per_table_that_observes_its_asset(
    own_sandbox: Sandbox, configured: Path, instance: dg.DagsterInstance
) -> None:
    job = build_definitions("production").resolve_job_def("reconcile")
    config = {"ops": {"tables": {"config": {"select": ["jpm.jobs", "settings.user_roles"]}}}}
    result = job.execute_in_process(instance=instance, run_config=config)
    steps = {event.step_key for event in result.all_events if event.is_step_success}
    assert steps == {
        "tables",
        "reconcile_table[jpm_jobs]",
        "reconcile_table[settings_user_roles]",
    }
    observed = instance.fetch_observations(dg.AssetKey(["production", "jpm", "jobs"]), limit=1)
    metadata = observed.records[0].asset_observation.metadata
    assert metadata["rows_read"].value == len(own_sandbox.world.records("jpm.jobs"))


def test_the_schedule_skips_with_the_reason_until_the_environment_is_configured(
    configured: Path, monkeypatch: pytest.MonkeyPatch, instance: dg.DagsterInstance
) -> None:
    weekly = build_definitions("production").resolve_schedule_def("weekly_reconcile")
    now = datetime(2026, 3, 15, 7, tzinfo=timezone.utc)
    with dg.build_schedule_context(instance, scheduled_execution_time=now) as context:
        assert len(weekly.evaluate_tick(context).run_requests) == 1
        monkeypatch.delenv("SERVICETITAN_CLIENT_SECRET")
        tick = weekly.evaluate_tick(context)
    assert tick.skip_message is not None
    assert "SERVICETITAN_CLIENT_SECRET" in tick.skip_message
    assert not tick.run_requests
