"""ServiceTitanComponent in a project that `create-dagster` made, and the `dg` commands there."""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from st_pipelines.sandbox.server import Sandbox
from st_pipelines_tests.defs.test_assets import count

CHECKOUT = Path(__file__).parents[1]
TYPE = "st_pipelines.ServiceTitanComponent"
YAML = """
type: st_pipelines.ServiceTitanComponent
attributes:
  environment: production
  select: [settings.user_roles, jpm.jobs]
  key_prefix: [servicetitan]
"""
ROLES = "servicetitan/production/settings/user_roles"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The entry points of setup.cfg, as the installed package has them."""
    folder = tmp_path_factory.mktemp("installed")
    setup = configparser.ConfigParser()
    setup.read(CHECKOUT / "setup.cfg")
    group = "dagster_dg_cli.registry_modules"
    info = folder / "st_pipelines-0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: st_pipelines\nVersion: 0\n")
    declared = setup["options.entry_points"][group].strip()
    (info / "entry_points.txt").write_text(f"[{group}]\n{declared}\n")
    return folder


@pytest.fixture(scope="module")
def template(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty project, as `create-dagster` lays it out."""
    folder = tmp_path_factory.mktemp("template")
    run(["create-dagster", "project", "host", "--no-uv-sync"], folder, installed)
    return folder / "host"


@pytest.fixture
def project(template: Path, tmp_path: Path) -> Path:
    """An empty project, to change."""
    return Path(shutil.copytree(template, tmp_path / "host"))


def run(command: list[str], folder: Path, installed: Path) -> str:
    """Runs a command in a project without network. Returns what it prints."""
    path = [str(CHECKOUT), str(installed), str(folder / "src")]
    done = subprocess.run(
        command,
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(path),
            "PYTHONWARNINGS": "ignore",
            "HOME": str(installed),
            "VIRTUAL_ENV": sys.prefix,
            "DAGSTER_DG_UPDATE_CHECK_ENABLED": "0",
            "DAGSTER_DISABLE_TELEMETRY": "yes",
            "COLUMNS": "200",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def write_yaml(project: Path, text: str) -> None:
    folder = project / "src" / "host" / "defs" / "servicetitan"
    folder.mkdir()
    (folder / "defs.yaml").write_text(text)


def test_five_lines_of_yaml_load_an_asset_in_another_project(
    project: Path, installed: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_yaml(project, YAML)
    for name, value in sandbox.environment().items():
        monkeypatch.setenv(name, value)
    command = ["dagster", "asset", "materialize", "-m", "host.definitions", "--select", ROLES]
    run(command, project, installed)
    assert count(project / "data" / "production.duckdb", "settings.user_roles") > 0


def test_dg_checks_and_launches_it(
    project: Path, installed: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_yaml(project, YAML)
    assert "All definitions loaded successfully" in run(["dg", "check", "defs"], project, installed)
    for name, value in sandbox.environment().items():
        monkeypatch.setenv(name, value)
    run(["dg", "launch", "--assets", ROLES], project, installed)
    assert count(project / "data" / "production.duckdb", "settings.user_roles") > 0


def test_dg_lists_the_component_and_scaffolds_it(project: Path, installed: Path) -> None:
    assert TYPE in run(["dg", "list", "components"], project, installed)
    run(["dg", "scaffold", "defs", TYPE, "servicetitan"], project, installed)
    file = project / "src" / "host" / "defs" / "servicetitan" / "defs.yaml"
    assert yaml.safe_load(file.read_text()) == {
        "type": TYPE,
        "attributes": {"environment": "production", "key_prefix": ["servicetitan"]},
    }
    assert "All definitions loaded successfully" in run(["dg", "check", "defs"], project, installed)


def test_dg_names_an_attribute_that_is_misspelt(project: Path, installed: Path) -> None:
    write_yaml(project, YAML.replace("select", "selct"))
    with pytest.raises(AssertionError, match="'selct' was unexpected"):
        run(["dg", "check", "yaml"], project, installed)
