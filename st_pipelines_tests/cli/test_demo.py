"""`st-pipelines demo`, run as a user runs it, compared value by value with its sandbox."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import duckdb
import pytest
import requests

from st_pipelines.catalog.registry import load_catalog, select
from st_pipelines.cli.demo import FIRST_QUERY
from st_pipelines.sandbox.server import Sandbox
from st_pipelines_tests.churn_reader import (
    build_rows,
    comparable,
    complete_records,
    list_records,
    query,
    table_rows,
)
from st_pipelines_tests.command_line import COMMAND, contents, processes_of, run
from st_pipelines_tests.deadlines import DEADLINE, wait_until
from st_pipelines_tests.sandbox.client import LISTS

FILES = {"files.pricebook_images"}
REPORTS = {"reports.calls_by_day", "reports.technician_performance"}
"""One by each contract: by day, and whole."""

DEMO = ("demo", "--days", "1", "--customers", "30", "--warehouse", "data/small.duckdb")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    folder = tmp_path_factory.mktemp("demo")
    return folder / "data" / "small.duckdb", run(*DEMO, cwd=folder)


@pytest.fixture(scope="module")
def company(demo: tuple[Path, subprocess.CompletedProcess[str]]) -> Sandbox:
    """The company that the demo loaded, simulated again. Only its records are read."""
    saved = json.loads((demo[0].parent / ".small" / "company.json").read_text())
    return Sandbox(
        seed=saved["seed"], customers=saved["customers"], now=datetime.fromisoformat(saved["now"])
    )


def test_the_demo_fills_a_table_for_every_endpoint(
    demo: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    file, result = demo
    assert result.returncode == 0, result.stderr
    filled = contents(file)
    assert set(filled) == {e.table for e in select(load_catalog(), [])} | REPORTS | FILES
    empty = {table for table, rows in filled.items() if not rows}
    assert empty <= {"reports.calls_by_day"}, "nobody may have called on the one day"
    for api in (*load_catalog().apis, "reports"):
        assert api in result.stdout
    assert f"{sum(filled.values()):,}" in result.stdout


def test_the_demo_says_that_its_first_partition_holds_everything_older(
    demo: tuple[Path, subprocess.CompletedProcess[str]], company: Sandbox
) -> None:
    file, result = demo
    assert "Loading 1 daily partition. The first, " in result.stdout
    assert "(about 30 customers)" in result.stdout
    [(oldest,)] = query(file, "SELECT min(_partition_date) FROM jpm.jobs")
    assert (company.world.now.date() - oldest).days > 600


def test_the_first_query_groups_by_the_month_of_the_company() -> None:
    """A notebook's session is in the zone of its machine, where the day may be another month's."""
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'Asia/Tokyo'")
        for table, columns in {
            "crm.customers": "1 AS id",
            "settings.business_units": "1 AS id, 'Plumbing' AS name",
            "accounting.invoices": "1 AS id, 10 AS total",
            "jpm.jobs": "1 AS id, 1 AS customer_id, 1 AS business_unit_id, 1 AS invoice_id, "
            "'Completed' AS job_status, '2026-03-01 03:00:00Z'::TIMESTAMPTZ AS completed_on",
        }.items():
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS {table.partition('.')[0]}")
            connection.execute(f"CREATE TABLE {table} AS SELECT {columns}")
        [row] = connection.execute(FIRST_QUERY).fetchall()
    assert row[:2] == ("2026-02", "Plumbing")


def test_the_demo_stores_and_prints_no_secret_and_no_token(
    demo: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    file, result = demo
    secret = re.compile(rb"c[sS]1\.sandbox|ak1\.sandbox|eyJ[\w-]{20,}|(?i:bearer) [\w.-]{20,}")
    assert not secret.findall((result.stdout + result.stderr).encode())
    files = [found for found in file.parents[1].rglob("*") if found.is_file()]
    assert len(files) > 10, "the warehouse, Dagster's event logs and what the runs printed"
    assert not [found for found in files if secret.search(found.read_bytes())]


def test_the_commands_that_the_demo_prints_work(
    demo: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    file, result = demo
    assert "business_unit" in result.stdout
    assert "the query failed" not in result.stdout
    line = next(line for line in result.stdout.splitlines() if line.startswith("  python -i -c"))
    shell = line.replace("python -i", sys.executable) + " ; echo opened"
    opened = subprocess.run(
        shell, shell=True, capture_output=True, text=True, cwd=file.parents[1], check=False
    )
    assert opened.stdout == "opened\n"
    assert not opened.stderr
    assert "st-pipelines demo --ui --no-load --warehouse data/small.duckdb" in result.stdout


@pytest.mark.parametrize("page", ["README.md", "docs/coming-from.md"])
def test_the_queries_of_the_guides_run_on_the_demo(
    demo: tuple[Path, subprocess.CompletedProcess[str]], page: str
) -> None:
    text = (Path(__file__).parents[2] / page).read_text(encoding="utf-8")
    queries = re.findall(r"```sql\n(.*?)```", text, re.DOTALL)
    assert queries
    with duckdb.connect(str(demo[0]), read_only=True) as connection:
        for text in queries:
            connection.execute(text)


def test_a_second_demo_changes_no_row_count(
    demo: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    """For a table of each kind: a window, a feed, a snapshot, and records without a key."""
    file, _ = demo
    kinds = "jpm.jobs,accounting.invoice_items,settings.user_roles,marketing_ads"
    chosen = {**os.environ, "SERVICETITAN_SANDBOX_SELECT": kinds}
    before, loads = contents(file), count_loads(file)
    again = run(*DEMO, cwd=file.parents[1], env=chosen)
    assert again.returncode == 0, again.stderr
    assert contents(file) == before
    chosen_tables = {e.table for e in select(load_catalog(), [kinds])} | REPORTS
    assert count_loads(file) == loads + len(chosen_tables)


def count_loads(file: Path) -> int:
    with duckdb.connect(str(file), read_only=True) as connection:
        return connection.execute("SELECT count(*) FROM _st.loads").fetchall()[0][0]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_no_process_and_an_intact_file(
    tmp_path: Path, number: signal.Signals
) -> None:
    file = tmp_path / "cut.duckdb"
    marker = f"20{os.getpid()}"
    process = subprocess.Popen(
        [*COMMAND, "demo", "--customers", "30", "--seed", marker, "--warehouse", str(file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "SERVICETITAN_SANDBOX_SELECT": "crm,jpm"},
    )
    wait_until(file.exists, "warehouse of the demo")
    process.send_signal(number)
    process.communicate(timeout=DEADLINE)
    assert process.returncode != 0, "it finished before the signal"
    assert not processes_of(f"--seed {marker}")
    assert not [p for p in (tmp_path / ".staging").glob("*") if p.is_dir()]
    contents(file)


def test_the_demo_refuses_a_file_of_another_program(tmp_path: Path) -> None:
    (tmp_path / "notes.duckdb").write_text("not a database at all")
    result = run("demo", "--warehouse", str(tmp_path / "notes.duckdb"))
    assert result.returncode == 1
    assert "is not a DuckDB database" in result.stderr
    assert (tmp_path / "notes.duckdb").read_text() == "not a database at all"


def test_the_ui_shows_what_the_demo_loaded_and_leaves_no_process(
    demo: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    file, _ = demo
    process = subprocess.Popen(
        [
            *COMMAND,
            "demo",
            "--ui",
            "--no-load",
            "--days",
            "1",
            "--customers",
            "30",
            "--warehouse",
            str(file),
            "--port",
            "0",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=file.parents[1],
    )
    try:
        assert process.stdout
        line = next(line for line in process.stdout if "Dagster UI on " in line)
        url = line.split("Dagster UI on ")[1].split()[0]
        assert (
            read_rows_in_table(url, ["sandbox", "settings", "user_roles"])
            == (contents(file)["settings.user_roles"])
        )
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=DEADLINE)
    assert not processes_of(str(file.parent / f".{file.stem}"))
    assert not processes_of(f"--port {url.rsplit(':', 1)[1]}")


def read_rows_in_table(url: str, key: list[str]) -> int:
    """Reads `rows_in_table` of the latest materialization as the UI's pages do."""
    query = """query($key: AssetKeyInput!) { assetOrError(assetKey: $key) { ... on Asset {
      assetMaterializations(limit: 1) { metadataEntries {
        label ... on IntMetadataEntry { intValue } } } } } }"""
    body = {"query": query, "variables": {"key": {"path": key}}}

    def response() -> requests.Response | None:
        with contextlib.suppress(requests.ConnectionError):
            return requests.post(f"{url}/graphql", json=body, timeout=DEADLINE)
        return None

    data = wait_until(response, f"server at {url}", interval=0.2).json()["data"]
    entries = data["assetOrError"]["assetMaterializations"][0]["metadataEntries"]
    return next(e["intValue"] for e in entries if e["label"] == "rows_in_table")


ODD = re.compile(rb'\.(3{16}|6{15}7)|"serialNumbers":\{\}|"type":\[\]')
"""A value that no column holds exactly: rounded or null there, and exact in `_extra`."""


@pytest.mark.parametrize("table", [e.table for e in LISTS if not e.by_day])
def test_every_value_of_every_column_equals_the_sandbox(
    demo: tuple[Path, subprocess.CompletedProcess[str]], company: Sandbox, table: str
) -> None:
    file, endpoint = demo[0], load_catalog()[table]
    added = endpoint.export.adds if endpoint.export else ()
    fields = [field for field in endpoint.row_fields if field.name not in added]
    expected = build_rows(list_records(company, endpoint), fields)
    assert expected, "an endpoint without records proves nothing"
    kept_aside = query(file, f"SELECT count(*) FROM {table} WHERE _extra IS NOT NULL")
    odd = [raw for raw in company.world.raw(table) if ODD.search(raw)]
    assert kept_aside == [(len(odd),)]
    assert comparable(table_rows(file, endpoint, fields=fields)) == comparable(expected)


@pytest.mark.parametrize(
    "table", [e.table for e in load_catalog() if e.export and e.export.adds and not e.explode]
)
def test_fields_that_only_an_export_has_equal_the_sandbox_or_are_null(
    demo: tuple[Path, subprocess.CompletedProcess[str]], company: Sandbox, table: str
) -> None:
    """The feed only has what changed on the demo's last day."""
    file, endpoint = demo[0], load_catalog()[table]
    assert endpoint.export
    fields = [endpoint.column(name) for name in (*endpoint.key, *endpoint.export.adds)]
    exported = set(comparable(build_rows(complete_records(company, endpoint), fields)))
    for row in table_rows(file, endpoint, fields=fields):
        assert set(row[len(endpoint.key) :]) == {None} or comparable([row])[0] in exported


def test_the_warehouse_describes_its_tables(
    demo: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    file, _ = demo
    tables = len(load_catalog()) + len(REPORTS)
    assert query(file, "SELECT count(*) FROM _st.endpoints") == [(tables,)]
    schemas = query(file, "SELECT DISTINCT schema_name FROM duckdb_tables() ORDER BY 1")
    assert {s for (s,) in schemas} == {*load_catalog().apis, "reports", "files", "_st"}
