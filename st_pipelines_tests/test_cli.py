"""The command line, run as a user runs it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import pytest
import requests

from st_pipelines.catalog.loader import load_catalog
from st_pipelines.selection import select

COMMAND = [sys.executable, "-m", "st_pipelines.cli"]


def run(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, timeout=240, check=False, **options
    )


def processes_of(marker: str) -> list[str]:
    """Command lines that are running now and carry the marker."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if marker in line:
            found.append(line)
    return found


def contents(file: Path) -> dict[str, int]:
    with duckdb.connect(str(file), read_only=True) as connection:
        tables = connection.execute(
            "SELECT schema_name || '.' || table_name FROM duckdb_tables() "
            "WHERE schema_name <> '_st'"
        ).fetchall()
        return {
            name: connection.execute(f"SELECT count(*) FROM {name}").fetchall()[0][0]
            for (name,) in tables
        }


def test_endpoints_lists_the_catalogue_as_json() -> None:
    listed = json.loads(run("endpoints", "--format", "json").stdout)
    assert len(listed) == len(load_catalog())
    jobs = next(entry for entry in listed if entry["table"] == "jpm.jobs")
    assert jobs["asset_key"] == ["<environment>", "jpm", "jobs"]
    assert (jobs["kind"], jobs["cursor"], jobs["key"]) == ("window", "modifiedOn", ["id"])
    assert jobs["scope"] == "tn.jpm.jobs:r"
    columns = {c["name"]: (c["type"], c["field"]) for c in jobs["columns"]}
    assert columns["job_number"] == ("VARCHAR", "jobNumber")


def test_endpoints_of_one_api_fit_a_terminal() -> None:
    result = run("endpoints", "--api", "jbce", env={**os.environ, "COLUMNS": "160"})
    assert result.returncode == 0
    assert "jbce/call_reasons" in result.stdout
    assert "tn.jbce.callreasons:r" in result.stdout


def test_an_unknown_api_is_an_error_that_lists_the_known_ones() -> None:
    result = run("endpoints", "--api", "jobs")
    assert result.returncode == 1
    assert "no API 'jobs': name one of accounting, crm" in result.stderr
    assert "Traceback" not in result.stderr


def test_building_the_catalogue_from_a_wrong_folder_says_so(tmp_path: Path) -> None:
    result = run("catalog", "build", str(tmp_path), "--output", str(tmp_path / "out"))
    assert result.returncode == 1
    assert "holds no *.json" in result.stderr


def test_curated_facts_that_meet_no_endpoint_are_told(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"openapi": "3.0.0", "paths": {}}')
    result = run("catalog", "build", str(tmp_path), "--output", str(tmp_path / "out"))
    assert "! curated.yaml has facts of jpm.job_history" in result.stdout
    assert not (tmp_path / "out" / "jpm.json").exists()


def test_the_sandbox_serves_until_it_is_told_to_stop() -> None:
    process = subprocess.Popen(
        [*COMMAND, "sandbox", "--port", "0", "--customers", "20", "--defect", "wrong-tenant"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout
        url, *values, remedy = [process.stdout.readline().strip() for _ in range(9)]
        assert "export SERVICETITAN_TENANT_ID=1000009999" in values
        assert remedy == "# wrong-tenant: the portal shows TENANT_ID=1000000001"
        assert requests.get(f"{url}/_sandbox/state", timeout=10).status_code == 200
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=10) in (0, 130, -signal.SIGINT)


DEMO = ("demo", "--days", "1", "--customers", "30", "--warehouse", "data/small.duckdb")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    folder = tmp_path_factory.mktemp("demo")
    return folder / "data" / "small.duckdb", run(*DEMO, cwd=folder)


def test_the_demo_fills_a_table_for_every_endpoint(
    demo: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    file, result = demo
    assert result.returncode == 0, result.stderr
    filled = contents(file)
    assert set(filled) == {e.table for e in load_catalog()}
    assert all(rows > 0 for rows in filled.values()), filled
    for api in load_catalog().apis:
        assert api in result.stdout
    assert f"{sum(filled.values()):,}" in result.stdout


def test_the_demo_leaves_no_secret_and_no_token(
    demo: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    file, result = demo
    hidden = re.compile(rb"c[sS]1\.sandbox|ak1\.sandbox|eyJ[\w-]{20,}|(?i:bearer) [\w.-]{20,}")
    assert not hidden.findall((result.stdout + result.stderr).encode())
    files = [found for found in file.parents[1].rglob("*") if found.is_file()]
    assert len(files) > 10, "the warehouse, Dagster's event logs and what the runs printed"
    assert not [found for found in files if hidden.search(found.read_bytes())]


def test_the_demo_ends_with_commands_that_work(
    demo: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    file, result = demo
    assert "business_unit" in result.stdout
    assert "not possible" not in result.stdout
    line = next(line for line in result.stdout.splitlines() if line.startswith("  python -i -c"))
    shell = line.replace("python -i", sys.executable) + " ; echo opened"
    opened = subprocess.run(
        shell, shell=True, capture_output=True, text=True, cwd=file.parents[1], check=False
    )
    assert opened.stdout == "opened\n"
    assert not opened.stderr
    assert "st-pipelines demo --ui --no-load --warehouse data/small.duckdb" in result.stdout


def test_the_demo_run_again_changes_no_row_count(
    demo: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    """Of a table of each kind: a window, a feed, a snapshot, and records without key."""
    file, _ = demo
    kinds = "jpm.jobs,accounting.invoice_items,settings.user_roles,marketing_ads"
    chosen = {**os.environ, "SERVICETITAN_SANDBOX_SELECT": kinds}
    before, loads = contents(file), loads_of(file)
    again = run(*DEMO, cwd=file.parents[1], env=chosen)
    assert again.returncode == 0, again.stderr
    assert contents(file) == before
    assert loads_of(file) == loads + len(select(load_catalog(), [kinds]))


def loads_of(file: Path) -> int:
    with duckdb.connect(str(file), read_only=True) as connection:
        return connection.execute("SELECT count(*) FROM _st.loads").fetchall()[0][0]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_no_process_and_a_whole_file(
    tmp_path: Path, number: signal.Signals
) -> None:
    file = tmp_path / "cut.duckdb"
    marker = f"20{os.getpid()}"
    process = subprocess.Popen(
        [*COMMAND, "demo", "--customers", "30", "--seed", marker, "--warehouse", str(file)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "SERVICETITAN_SANDBOX_SELECT": "crm,jpm"},
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not file.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode != 0, "it had loaded all before"
    assert not processes_of(f"--seed {marker}")
    assert not [p for p in (tmp_path / ".staging").glob("*") if p.is_dir()]
    contents(file)


def test_the_demo_refuses_a_file_of_another_program(tmp_path: Path) -> None:
    (tmp_path / "notes.duckdb").write_text("not a database at all")
    result = run("demo", "--warehouse", str(tmp_path / "notes.duckdb"))
    assert result.returncode == 1
    assert "is no DuckDB database" in result.stderr
    assert (tmp_path / "notes.duckdb").read_text() == "not a database at all"


def test_the_ui_opens_on_what_the_demo_loaded_and_leaves_no_process(
    demo: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    file, _ = demo
    process = subprocess.Popen(
        [
            *COMMAND, "demo", "--ui", "--no-load", "--days", "1", "--customers", "30",
            "--warehouse", str(file), "--port", "0",
        ],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=file.parents[1],
    )  # fmt: skip
    try:
        assert process.stdout
        line = next(line for line in process.stdout if "Dagster UI on " in line)
        url = line.split("Dagster UI on ")[1].split()[0]
        assert (
            rows_of_latest_load(url, ["sandbox", "settings", "user_roles"])
            == (contents(file)["settings.user_roles"])
        )
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
    assert not processes_of(str(file.parent / f".{file.stem}"))
    assert not processes_of(f"--port {url.rsplit(':', 1)[1]}")


def rows_of_latest_load(url: str, key: list[str]) -> int:
    """What the running UI shows as `rows_in_table`, asked as its pages ask."""
    query = """query($key: AssetKeyInput!) { assetOrError(assetKey: $key) { ... on Asset {
      assetMaterializations(limit: 1) { metadataEntries {
        label ... on IntMetadataEntry { intValue } } } } } }"""
    asked = {"query": query, "variables": {"key": {"path": key}}}
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            data = requests.post(f"{url}/graphql", json=asked, timeout=10).json()["data"]
        except requests.ConnectionError:
            time.sleep(0.2)
            continue
        entries = data["assetOrError"]["assetMaterializations"][0]["metadataEntries"]
        return next(e["intValue"] for e in entries if e["label"] == "rows_in_table")
    raise AssertionError(f"nothing serves at {url}")


def test_publish_makes_a_read_copy_and_says_where(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    duckdb.connect(str(tmp_path / "data" / "production.duckdb")).close()
    command = ("publish", "--environment", "production")
    assert re.match(r"data/production_read\.duckdb: 0\.\d MB in ", run(*command).stdout)
    assert run(*command).stdout == "data/production_read.duckdb is up to date\n"
    duckdb.connect("data/production_read.duckdb", read_only=True).close()


@pytest.mark.parametrize(
    ("environment", "told"),
    [("integration", "does not exist yet: load something"), ("prod", "unknown environment 'prod'")],
)
def test_publish_says_what_is_missing(environment: str, told: str) -> None:
    done = run("publish", "--environment", environment)
    assert done.returncode == 1
    assert told in done.stderr
    assert "Traceback" not in done.stderr
