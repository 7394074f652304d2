"""`st-pipelines load`: what a person types once, and what Dagster knows of it afterwards."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest
from click.testing import Result
from starlette.requests import Request
from starlette.responses import Response
from typer.testing import CliRunner

from st_pipelines.cli.app import app
from st_pipelines.config.errors import SettingsError
from st_pipelines.sandbox import responses
from st_pipelines.sandbox.server import Sandbox
from st_pipelines.servicetitan.errors.errors import AuthenticationFailed
from st_pipelines_tests.churn_reader import query

JOBS = dg.AssetKey(["production", "jpm", "jobs"])
TABLES = "jpm.jobs,settings.user_roles,accounting.invoice_items"


@pytest.fixture
def configured(own_sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Production since a few days ago, and a home for Dagster. Returns the warehouse file."""
    for name, value in own_sandbox.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SERVICETITAN_TIMEZONE", "America/New_York")
    monkeypatch.setenv("SERVICETITAN_START_DATE", "2026-03-01")
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    monkeypatch.setattr("st_pipelines.cli.load.utc_now", lambda: own_sandbox.world.now)
    return tmp_path / "data" / "production.duckdb"


def load(*arguments: str) -> Result:
    command = ["load", "--environment", "production", *arguments]
    return CliRunner(env={"COLUMNS": "80"}).invoke(app, command)


def loaded_days(key: dg.AssetKey = JOBS) -> list[str]:
    with dg.DagsterInstance.get() as instance:
        return sorted(instance.get_materialized_partitions(key))


def refused(part: str, status: int) -> Callable[[Request], Response | None]:
    return lambda asked: responses.json_response(b"{}", status) if part in asked.url.path else None


def test_the_whole_history_is_loaded_and_dagster_knows_each_day(
    own_sandbox: Sandbox, configured: Path
) -> None:
    done = load("--select", TABLES)
    assert done.exit_code == 0, done.output
    assert "jpm: 1 endpoint\n" in done.stdout
    there = len(own_sandbox.world.records("jpm.jobs"))
    assert query(configured, "SELECT count(*) FROM jpm.jobs") == [(there,)]
    assert query(configured, "SELECT count(*) > 0 FROM settings.user_roles") == [(True,)]
    assert loaded_days() == [f"2026-03-{day:02}" for day in range(1, 11)]
    assert load("--select", TABLES).exit_code == 0
    assert query(configured, "SELECT count(*) FROM jpm.jobs") == [(there,)]


def test_a_range_is_loaded_and_no_other_day(configured: Path) -> None:
    days = ("--from", "2026-03-04", "--to", "2026-03-05")
    assert load("--select", "jpm.jobs", *days).exit_code == 0
    assert loaded_days() == ["2026-03-04", "2026-03-05"]
    assert {str(row[0]) for row in query(configured, "SELECT _partition_date FROM jpm.jobs")} <= {
        "2026-03-04", "2026-03-05",
    }  # fmt: skip


def test_what_fails_is_told_and_leaves_the_rest_loaded(
    own_sandbox: Sandbox, configured: Path
) -> None:
    own_sandbox.interceptors.append(refused("/export/invoice-items", 403))
    done = load("--select", TABLES)
    assert done.exit_code == 1
    [told] = [line for line in done.stdout.splitlines() if line.startswith("failed ")]
    assert told.startswith("failed accounting.invoice_items: ")
    assert "tn.acc.invoiceitems:r" in told
    assert len(loaded_days()) == 10


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--from", "2025-12-31"], "2025-12-31 is before the start date: its partition"),
        (["--to", "2026-03-11"], "is no range of days up to today, 2026-03-10"),
        (["--from", "2026-03-05", "--to", "2026-03-04"], "is no range of days"),
        (["--from", "March"], "'March' does not match"),
        (["--select", "jpm.jbos"], "did you mean jpm.jobs"),
        (["--select", ""], "the selection is empty"),
    ],
)
def test_a_wrong_range_or_name_is_told_and_nothing_is_asked(
    own_sandbox: Sandbox, configured: Path, arguments: list[str], said: str
) -> None:
    done = load(*arguments)
    assert done.exit_code
    assert said in f"{done.output} {done.exception}"
    assert not own_sandbox.seen


def test_without_a_home_of_dagster_nothing_is_loaded(
    configured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DAGSTER_HOME")
    done = load("--select", "jpm.jobs")
    assert isinstance(done.exception, SettingsError)
    assert "DAGSTER_HOME is not set" in str(done.exception)
    assert not configured.exists()


@pytest.mark.parametrize("home", ["relative", "/not/there"])
def test_a_wrong_home_of_dagster_is_named(
    configured: Path, monkeypatch: pytest.MonkeyPatch, home: str
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", home)
    done = load("--select", "jpm.jobs")
    assert isinstance(done.exception, SettingsError)
    assert "DAGSTER_HOME is not the absolute path of a folder that is there" in str(done.exception)


def test_two_tenants_do_not_share_a_home_of_dagster(
    configured: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert load("--select", "settings.user_roles").exit_code == 0
    monkeypatch.setenv("SERVICETITAN_TENANT_ID", "4711")
    monkeypatch.setenv("ST_WAREHOUSE_DIR", str(tmp_path / "other"))
    done = load("--select", "settings.user_roles")
    assert isinstance(done.exception, SettingsError)
    assert "has loads of tenant 1000000001, this is tenant 4711" in str(done.exception)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_terminal_that_closes_ends_the_run_too(
    own_sandbox: Sandbox, configured: Path, number: signal.Signals
) -> None:
    def close(request: Request) -> None:
        if "/user-roles" in request.url.path:
            os.kill(os.getpid(), number)

    own_sandbox.interceptors.append(close)
    done = load("--select", "jpm.job_types,settings.user_roles")
    assert done.exit_code
    assert "what is left is of settings" in done.stdout
    with dg.DagsterInstance.get() as instance:
        assert {run.status for run in instance.get_runs()} == {
            dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE,
        }  # fmt: skip


def test_a_refused_secret_is_tried_once_and_starts_no_run(
    own_sandbox: Sandbox, configured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVICETITAN_CLIENT_SECRET", "cs1.of-another-app")
    assert isinstance(load().exception, AuthenticationFailed)
    assert [asked.path for asked in own_sandbox.seen] == ["/connect/token"]
    with dg.DagsterInstance.get() as instance:
        assert instance.get_runs() == []


def test_a_run_without_days_says_that_it_needs_some(configured: Path) -> None:
    from st_pipelines.definitions import build_definitions

    job = build_definitions("production").resolve_job_def("settings")
    with dg.DagsterInstance.get() as instance:
        result = job.execute_in_process(instance=instance, raise_on_error=False)
    said = {
        event.step_key: event.step_failure_data.user_failure_data.description
        for event in result.all_events if event.is_step_failure
    }  # fmt: skip
    assert "production__settings__employees" in said
    assert all("choose a partition or a range of them" in text for text in said.values())
