"""`check` shows what settings mean, and which files other people can open."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from st_pipelines.cli.doctor.local import check_files
from st_pipelines.cli.doctor.report import as_line, read_settings
from st_pipelines.cli.doctor.subject import Subject
from st_pipelines.config.environments import PROJECT_SETTINGS


def file_lines() -> list[str]:
    return [as_line(f) for f in check_files(Subject(environment="production", endpoints=()))]


def make_files(*names: str) -> list[Path]:
    """Creates files in `data`, open to everybody."""
    folder = Path.cwd() / "data"
    folder.mkdir()
    files = [folder / name for name in names]
    for file in files:
        file.touch()
        file.chmod(0o644)
    return files


def test_files_that_others_can_read_are_named_with_the_command_that_closes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("production.duckdb", "production.duckdb.wal", "production_read.duckdb")
    log, copy = make_files(*names)[1:]
    staging, home = tmp_path / "data" / ".staging", tmp_path / "home's"
    for folder in (staging, home):
        folder.mkdir()
        folder.chmod(0o755)
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    Path(".env").write_text("SERVICETITAN_APP_KEY=ak1.x\n")
    Path(".env").chmod(0o640)
    lines = file_lines()
    assert [line.split(": ")[0] for line in lines] == ["⚠  files"] * 6
    text = "\n".join(lines)
    assert f"{tmp_path}/.env holds a secret and is open to others (mode 0640): chmod 600" in text
    assert f"{log} is open to others (mode 0644): chmod 600 {log}" in text
    assert f"{copy} is open to others (mode 0644): chmod 400 {copy}" in text
    assert f"{staging} is open to others (mode 0755): chmod 700 {staging}" in text
    assert f"""(mode 0755): chmod 700 '{tmp_path}/home'"'"'s'""" in text


def test_files_are_compared_with_the_mode_that_the_setting_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file, copy = make_files("production.duckdb", "production_read.duckdb")
    for path in (file, copy):
        path.chmod(0o640)
    assert len(file_lines()) == 2
    monkeypatch.setenv("ST_FILE_MODE", "0640")
    assert file_lines() == ["✅ files: nobody else can open them"]
    file.chmod(0o660)
    assert file_lines() == [
        f"⚠  files: {file} is open to others (mode 0660): chmod 640 {file}",
    ]


def test_what_a_load_creates_is_not_reported(tmp_path: Path) -> None:
    subject = Subject(environment="production", endpoints=())
    with duckdb.connect() as own, subject.config.open_store().attach(own):
        own.execute("CREATE TABLE warehouse.x AS SELECT 1")
    assert (tmp_path / "data" / "production.duckdb").exists()
    assert file_lines() == ["✅ files: nobody else can open them"]


@pytest.mark.parametrize(
    ("written", "in_dotenv", "understood"),
    [
        ("{folder}/home/", False, True),
        ("~/home", False, True),
        ("$HOME/home", False, False),
        ("home", False, False),
        ("${HOME}/home", False, False),
        ("${HOME}/home", True, True),
        ("$HOME/home", True, False),
    ],
)
def test_a_dagster_home_that_dagster_itself_does_not_understand_is_reported(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    written: str,
    in_dotenv: bool,
    understood: bool,
) -> None:
    (tmp_path / "home").mkdir(mode=0o700)
    monkeypatch.setenv("HOME", str(tmp_path))
    text = written.format(folder=tmp_path) if "{folder}" in written else written
    if in_dotenv:
        Path(".env").write_text(f"DAGSTER_HOME={text}\n")
    else:
        monkeypatch.setenv("DAGSTER_HOME", text)
    assert any(f"Write it as {tmp_path}/home." in line for line in file_lines()) != understood


def test_a_wrong_setting_is_left_to_the_step_that_reports_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ST_WAREHOUSE_DIR", "$NOWHERE")
    monkeypatch.setenv("SERVICETITAN_TIMEZONE", "nowhere")
    assert file_lines() == ["✅ files: nobody else can open them"]


def test_show_lists_every_setting_of_the_project_as_it_is_understood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("ST_WAREHOUSE_DIR", "~/x/")
    monkeypatch.setenv("ST_ALERT_WEBHOOK", "https://hooks.example.com/MARKED")
    monkeypatch.setenv("ST_PUBLISH_SECONDS", "often")
    Path(".env").write_text("ST_CATALOG=mine.json\nST_FILE_MODE=0640\n")
    report = read_settings("production")
    rows = {row.name: (row.value, row.source) for row in report.settings}
    other = {"ST_INTEGRATION_WAREHOUSE", "ST_SANDBOX_WAREHOUSE"}
    assert {*PROJECT_SETTINGS} - other <= rows.keys()
    assert rows["ST_WAREHOUSE_DIR"] == ("/home/me/x", "environment variable")
    assert rows["ST_PRODUCTION_WAREHOUSE"] == ("/home/me/x/production.duckdb", "default")
    assert rows["ST_CATALOG"] == (str(tmp_path / "mine.json"), ".env")
    assert rows["ST_FILE_MODE"] == ("0640", ".env")
    assert rows["ST_ALERT_WEBHOOK"] == ("**********", "environment variable")
    assert rows["ST_FULL_PREVIEWS"] == ("false", "default")
    assert rows["DAGSTER_HOME"] == ("", "not set")
    assert rows[".env"] == (str(tmp_path / ".env"), "the working directory")
    assert rows["ST_PUBLISH_SECONDS"][0].startswith("(invalid: ST_PUBLISH_SECONDS: 'often'")
    monkeypatch.delenv("ST_PUBLISH_SECONDS")
    rows = {row.name: row.value for row in read_settings("production").settings}
    assert rows["read copy"] == "/home/me/x/production_read.duckdb"
    assert rows["staging folder"] == "/home/me/x/.staging"
    assert "MARKED" not in repr(report)
