"""The configuration is read once for a run, a tick or a command, and anew for the next."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import duckdb
import pytest

from st_pipelines.config import settings as settings_module
from st_pipelines.config.connection import why_incomplete
from st_pipelines.config.errors import SettingsError
from st_pipelines.config.project import resolve_environment
from st_pipelines.config.settings import load_settings
from st_pipelines.config.sources import local
from st_pipelines.definitions import build_definitions
from st_pipelines.sandbox.server import Sandbox

TABLES = ("settings.user_roles", "jpm.project_types")


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were parsed as `.env`, in order."""
    files: list[Path] = []
    read = local._read_dotenv_text

    def record(file: Path) -> str:
        files.append(file)
        return read(file)

    monkeypatch.setattr(local, "_read_dotenv_text", record)
    return files


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        yield instance


def write_dotenv(sandbox: Sandbox, **project: str) -> None:
    lines = [f"{name}={value}" for name, value in {**sandbox.environment(), **project}.items()]
    file = Path(".env")
    file.write_text("\n".join(lines) + "\n")
    file.chmod(0o600)


def materialize(
    definitions: dg.Definitions, instance: dg.DagsterInstance, *tables: str
) -> dg.ExecuteInProcessResult:
    job = definitions.resolve_implicit_global_asset_job_def()
    keys = [dg.AssetKey(["production", *table.split(".")]) for table in tables]
    return job.execute_in_process(instance=instance, asset_selection=keys)


def count(file: Path, table: str) -> int:
    with duckdb.connect(str(file), read_only=True) as connection:
        return connection.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0]


@pytest.mark.parametrize("tables", [TABLES[:1], TABLES])
def test_a_run_parses_dotenv_once_for_each_resource(
    sandbox: Sandbox, instance: dg.DagsterInstance, parsed: list[Path], tables: tuple[str, ...]
) -> None:
    """One asset parsed it six times, and every further asset of the run as often again."""
    write_dotenv(sandbox, ST_PUBLISH_SECONDS="3600", ST_HISTORY="jpm.project_types")
    definitions = build_definitions("production")
    parsed.clear()
    assert materialize(definitions, instance, *tables).success
    assert parsed == [Path.cwd() / ".env"] * 2  # `servicetitan` and `warehouse`


def test_the_next_run_sees_a_changed_dotenv(sandbox: Sandbox, instance: dg.DagsterInstance) -> None:
    definitions = build_definitions("production")
    for folder in ("first", "second"):
        write_dotenv(sandbox, ST_WAREHOUSE_DIR=folder)
        assert materialize(definitions, instance, TABLES[0]).success
        assert count(Path(folder, "production.duckdb"), TABLES[0]) > 0


def test_the_next_tick_sees_a_changed_dotenv(sandbox: Sandbox, parsed: list[Path]) -> None:
    assert "set SERVICETITAN_CLIENT_ID" in why_incomplete("production")
    write_dotenv(sandbox)
    parsed.clear()
    assert why_incomplete("production") == ""
    assert len(parsed) == 1


def test_building_the_definitions_parses_dotenv_once(sandbox: Sandbox, parsed: list[Path]) -> None:
    write_dotenv(sandbox)
    build_definitions("production")
    assert len(parsed) == 1


def test_a_resolved_environment_stays_as_it_was_read(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_dotenv(sandbox, ST_UI_URL="http://before")
    monkeypatch.setenv("ST_HISTORY", "jpm.jobs")
    config = resolve_environment("production")
    write_dotenv(sandbox, ST_UI_URL="http://after", SERVICETITAN_TENANT_ID="2")
    monkeypatch.setenv("ST_HISTORY", "crm.*")
    assert config.ui_url == "http://before"
    assert config.history_tables == {"jpm.jobs"}
    assert config.settings.tenant_id == sandbox.tenant_id


def test_an_invalid_setting_concerns_only_what_uses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ST_ALERT_WEBHOOK", "nowhere")
    monkeypatch.setenv("ST_PUBLISH_SECONDS", "often")
    monkeypatch.setenv("SERVICETITAN_TIMEZONE", "nowhere")
    config = resolve_environment("production")
    assert config.warehouse_uri == str(Path.cwd() / "data/production.duckdb")
    for invalid in ("alert_webhook_url", "publish_seconds", "settings"):
        with pytest.raises(SettingsError):
            getattr(config, invalid)


def test_the_catalog_has_the_additions_that_the_environment_names(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text('{"jpm.jobs": {"poNumber": "BIGINT"}}')
    (tmp_path / ".env").write_text("ST_CATALOG=other.json\n")
    assert resolve_environment("production").catalog["jpm.jobs"].columns[-1].name == "poNumber"


def test_unchanged_settings_are_built_once(sandbox: Sandbox) -> None:
    write_dotenv(sandbox, SERVICETITAN_TIMEZONE="America/Chicago")
    settings = resolve_environment("production", page_size=7).settings
    assert resolve_environment("production", page_size=7).settings is settings


@pytest.mark.parametrize("change", ["dotenv", "variable", "override", "environment", "mode"])
def test_settings_are_built_anew_after_any_change(
    change: str, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_dotenv(sandbox)
    before = load_settings("production")
    match change:
        case "dotenv":
            write_dotenv(sandbox, SERVICETITAN_TENANT_ID="2")
            assert load_settings("production").tenant_id == "2"
        case "variable":
            monkeypatch.setenv("servicetitan_page_size", "7")
            assert load_settings("production").page_size == 7
        case "override":
            assert load_settings("production", page_size=7).page_size == 7
        case "environment":
            assert load_settings("integration").tenant_id is None
        case _:
            Path(".env").chmod(0o644)
            assert "is open to others" in load_settings("production").gathered.warnings[0]
            assert before.gathered.warnings == ()


@pytest.mark.parametrize("kind", ["CONFIG_FILE", "SECRETS_DIR"])
def test_settings_from_further_files_are_read_every_time(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A secret that was rotated in a mounted folder must reach the next run."""
    folder = tmp_path / "mounted"
    folder.mkdir()
    file = tmp_path / "config.json"
    monkeypatch.setenv(f"SERVICETITAN_{kind}", str(file if kind == "CONFIG_FILE" else folder))
    for secret in ("cs1.before", "cs1.after"):
        file.write_text(json.dumps({"SERVICETITAN_CLIENT_SECRET": secret}))
        (folder / "client_secret").write_text(secret)
        found = load_settings("production").client_secret
        assert found is not None
        assert found.get_secret_value() == secret


def test_what_is_kept_of_settings_hides_secrets_and_is_bounded(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_dotenv(sandbox, SERVICETITAN_CLIENT_SECRET_NEXT="cs1.MARKED-next")
    monkeypatch.setenv("SERVICETITAN_APP_KEY", "ak1.MARKED")
    for page_size in range(1, 9):
        load_settings("production", page_size=page_size, client_secret="cs1.MARKED")
    assert len(settings_module._recently_built) == 4
    assert "page_size" in repr(settings_module._recently_built)
    assert "MARKED" not in repr(settings_module._recently_built)
