"""`st-pipelines load`: what it loads, and what Dagster records about it."""

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
from st_pipelines_tests.conftest import NOW

JOBS = dg.AssetKey(["production", "jpm", "jobs"])
TABLES = "jpm.jobs,settings.user_roles,accounting.invoice_items"


@pytest.fixture
def configured(own_sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Production with five partitions, and a DAGSTER_HOME. Returns the warehouse file."""
    for name, value in own_sandbox.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SERVICETITAN_TIMEZONE", "America/New_York")
    monkeypatch.setenv("SERVICETITAN_START_DATE", "2026-03-06")
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


def refuse(path: str, status: int) -> Callable[[Request], Response | None]:
    def fault(request: Request) -> Response | None:
        return responses.build_json_response(b"{}", status) if path in request.url.path else None

    return fault


def test_the_whole_history_is_loaded_and_dagster_records_each_day(
    own_sandbox: Sandbox, configured: Path
) -> None:
    done = load("--select", TABLES)
    assert done.exit_code == 0, done.output
    assert "jpm: 1 endpoint\n" in done.stdout
    records = len(own_sandbox.world.records("jpm.jobs"))
    assert query(configured, "SELECT count(*) FROM jpm.jobs") == [(records,)]
    assert query(configured, "SELECT count(*) > 0 FROM settings.user_roles") == [(True,)]
    assert loaded_days() == [f"2026-03-{day:02}" for day in range(6, 11)]
    assert load("--select", TABLES).exit_code == 0
    assert query(configured, "SELECT count(*) FROM jpm.jobs") == [(records,)]


def test_only_the_days_of_a_range_are_loaded(configured: Path) -> None:
    days = ("--from", "2026-03-07", "--to", "2026-03-08")
    assert load("--select", "jpm.jobs", *days).exit_code == 0
    assert loaded_days() == ["2026-03-07", "2026-03-08"]
    [(first,)] = query(configured, "SELECT min(_partition_date) FROM jpm.jobs")
    # The window begins three hours before its first midnight. The feed brings later days.
    assert str(first) >= "2026-03-06"


def test_tables_without_their_older_records_are_named_with_the_command_that_loads_them(
    configured: Path,
) -> None:
    """A list of business units that changed long ago was empty, and so was the README's query."""
    tables = ("--select", "jpm.jobs,settings.business_units,settings.user_roles")
    named = "jpm.jobs, settings.business_units: only records that were changed in the days loaded"
    command = "st-pipelines load --environment production --select jpm.jobs,settings.business_units"
    done = load(*tables, "--from", "2026-03-09")
    assert named in done.stdout
    assert f"To load everything: {command}\n" in done.stdout
    verify = ["verify", "--environment", "production", *tables]
    compared = CliRunner(env={"COLUMNS": "200"}).invoke(app, verify)
    assert compared.exit_code == 0, compared.output
    assert "values since 2026-03-09" in compared.stdout
    assert f"it was never loaded. To load everything: {command}\n" in compared.stdout
    whole = load(*tables)
    assert whole.exit_code == 0
    assert "only records" not in whole.stdout
    assert "only records" not in load(*tables, "--from", "2026-03-09").stdout


def test_a_failing_table_is_reported_and_the_others_are_loaded(
    own_sandbox: Sandbox, configured: Path
) -> None:
    own_sandbox.interceptors.append(refuse("/export/invoice-items", 403))
    done = load("--select", TABLES)
    assert done.exit_code == 1
    [line] = [line for line in done.stdout.splitlines() if line.startswith("failed ")]
    assert line.startswith("failed accounting.invoice_items: ")
    assert "tn.acc.invoiceitems:r" in line
    assert len(loaded_days()) == 5


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ["--from", "2025-12-31"],
            "2025-12-31 is before the start date 2026-03-06, whose partition",
        ),
        (["--to", "2026-03-11"], "is not a range of days up to today, 2026-03-10"),
        (["--from", "2026-03-08", "--to", "2026-03-07"], "is not a range of days"),
        (["--from", "March"], "'March' does not match"),
        (["--select", "jpm.jbos"], "did you mean jpm.jobs"),
        (["--select", ""], "the selection is empty"),
    ],
)
def test_a_wrong_range_or_selection_is_an_error_before_any_request(
    own_sandbox: Sandbox, configured: Path, arguments: list[str], expected: str
) -> None:
    done = load(*arguments)
    assert done.exit_code
    assert expected in f"{done.output} {done.exception}"
    assert not own_sandbox.seen


def test_without_dagster_home_nothing_is_loaded(
    configured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DAGSTER_HOME")
    done = load("--select", "jpm.jobs")
    assert isinstance(done.exception, SettingsError)
    assert "DAGSTER_HOME is not set" in str(done.exception)
    assert not configured.exists()


@pytest.mark.parametrize("home", ["relative", "/not/there"])
def test_a_wrong_dagster_home_is_an_error(
    configured: Path, monkeypatch: pytest.MonkeyPatch, home: str
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", home)
    done = load("--select", "jpm.jobs")
    assert isinstance(done.exception, SettingsError)
    assert "DAGSTER_HOME is not an existing folder" in str(done.exception)


@pytest.mark.parametrize("source", ["environment", "dotenv"])
def test_dagster_home_is_found_as_other_paths_are(
    configured: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: str
) -> None:
    """What `.env` says counts more, because `dagster dev` lets it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    other = tmp_path / "other"
    monkeypatch.setenv("DAGSTER_HOME", "$HOME/home" if source == "environment" else str(other))
    if source == "dotenv":
        Path(".env").write_text("DAGSTER_HOME=~/home\n")
    assert load("--select", "settings.user_roles").exit_code == 0
    assert (tmp_path / "home" / "history").is_dir()
    assert not other.exists()


def test_what_a_load_leaves_in_dagster_home_is_its_owners(configured: Path, tmp_path: Path) -> None:
    (tmp_path / "home").chmod(0o755)
    before = os.umask(0o022)
    try:
        assert load("--select", "settings.user_roles").exit_code == 0
    finally:
        os.umask(before)
    created = [path for path in (tmp_path / "home").rglob("*")]
    assert created
    assert [path for path in created if path.stat().st_mode & 0o077] == []


def test_two_tenants_cannot_share_a_dagster_home(
    configured: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert load("--select", "settings.user_roles").exit_code == 0
    monkeypatch.setenv("SERVICETITAN_TENANT_ID", "4711")
    monkeypatch.setenv("ST_WAREHOUSE_DIR", str(tmp_path / "other"))
    done = load("--select", "settings.user_roles")
    assert isinstance(done.exception, SettingsError)
    assert "has loads of tenant 1000000001, but the settings say tenant 4711" in str(done.exception)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_closed_terminal_ends_the_run(
    own_sandbox: Sandbox, configured: Path, number: signal.Signals
) -> None:
    def close(request: Request) -> None:
        if "/user-roles" in request.url.path:
            os.kill(os.getpid(), number)

    own_sandbox.interceptors.append(close)
    done = load("--select", "jpm.job_types,settings.user_roles")
    assert done.exit_code
    assert "Still to load: settings.user_roles\n" in done.stdout
    with dg.DagsterInstance.get() as instance:
        assert {run.status for run in instance.get_runs()} == {
            dg.DagsterRunStatus.SUCCESS,
            dg.DagsterRunStatus.FAILURE,
        }


def test_an_interrupted_load_prints_what_selects_the_tables_that_are_left(
    own_sandbox: Sandbox, configured: Path
) -> None:
    """A table that failed is left too; an API is named only if all of its tables are."""

    def interrupt(request: Request) -> None:
        if "/memberships" in request.url.path:
            os.kill(os.getpid(), signal.SIGTERM)

    own_sandbox.interceptors.extend([interrupt, refuse("/job-types", 403)])
    selected = "jpm.jobs,jpm.job_types,memberships.memberships,settings.user_roles,task_management"
    done = load("--select", selected, "--from", "2026-03-09")
    assert done.exit_code
    left = "jpm.job_types,memberships.memberships,settings.user_roles,task_management"
    assert f"Still to load: {left}\n" in done.stdout


def test_refused_credentials_are_tried_once_and_start_no_run(
    own_sandbox: Sandbox, configured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVICETITAN_CLIENT_SECRET", "cs1.of-another-app")
    assert isinstance(load().exception, AuthenticationFailed)
    assert [request.path for request in own_sandbox.seen] == ["/connect/token"]
    with dg.DagsterInstance.get() as instance:
        assert instance.get_runs() == []


def test_a_load_is_recorded_under_the_key_prefix_of_the_project(
    own_sandbox: Sandbox, configured: Path
) -> None:
    own_sandbox.interceptors.append(refuse("/user-roles", 404))
    done = load("--select", TABLES, "--from", "2026-03-09", "--key-prefix", "st/raw")
    assert done.exit_code == 1
    key = dg.AssetKey(["st", "raw", "production", "jpm", "jobs"])
    assert loaded_days(key) == ["2026-03-09", "2026-03-10"]
    assert loaded_days() == []
    assert "settings.user_roles" in done.output
    assert "raw" not in done.output
    assert "production." not in done.output


def test_a_run_without_partitions_fails_with_a_hint(configured: Path) -> None:
    from st_pipelines.definitions import build_definitions

    job = build_definitions("production").resolve_job_def("settings")
    with dg.DagsterInstance.get() as instance:
        result = job.execute_in_process(instance=instance, raise_on_error=False)
    failures = {
        event.step_key: event.step_failure_data.user_failure_data.description
        for event in result.all_events
        if event.is_step_failure
    }
    assert "production__settings__employees" in failures
    assert all("choose a partition or a range of them" in text for text in failures.values())


def test_a_clock_that_is_wrong_is_a_warning_and_is_said_once(
    configured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = ("--select", "settings.user_roles,settings.business_units,jpm.job_types")
    assert "clock" not in load(*tables).output
    with Sandbox(
        customers=5, now=NOW, requests_per_second=1e9, defects=("wrong-clock:-600",)
    ) as sandbox:
        for name, value in sandbox.environment().items():
            monkeypatch.setenv(name, value)
        done = load(*tables)
    assert done.exit_code == 0, done.output
    said = " ".join(done.stdout.split())
    assert said.count("warning: this machine's clock is 10 min ahead of ServiceTitan's") == 1
