"""The commands that need no environment, run as a user runs them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from pathlib import Path

import duckdb
import pytest
import requests

from st_pipelines.catalog.registry import load_catalog
from st_pipelines_tests.command_line import COMMAND, run
from st_pipelines_tests.deadlines import DEADLINE


def test_endpoints_lists_the_catalog_as_json() -> None:
    output = json.loads(run("endpoints", "--format", "json").stdout)
    assert len(output) == len(load_catalog())
    jobs = next(entry for entry in output if entry["table"] == "jpm.jobs")
    assert jobs["asset_key"] == ["<environment>", "jpm", "jobs"]
    assert (jobs["kind"], jobs["cursor"], jobs["key"]) == ("window", "modifiedOn", ["id"])
    assert jobs["scope"] == "tn.jpm.jobs:r"
    columns = {column["name"]: (column["type"], column["field"]) for column in jobs["columns"]}
    assert columns["job_number"] == ("VARCHAR", "jobNumber")


@pytest.mark.parametrize("columns", [60, 80, 120, 160])
def test_names_and_paths_are_never_broken_whatever_the_width(columns: int) -> None:
    options = {"env": {**os.environ, "COLUMNS": str(columns)}}
    output = run("endpoints", "--api", "jbce", **options).stdout
    assert "<environment>/jbce/call_reasons" in output
    assert "tn.jbce.callreasons:r" in output
    assert "/jbce/v2/tenant/{tenant}/call-reasons" in output
    assert "1 " in output.splitlines()[0]
    scopes = run("scopes", **options).stdout
    assert "accounting.credit_memos_credit_memo_items" in scopes
    assert "tn.dis.appointmentassignments:r" in scopes
    assert "{booking_provider}/bookings/{id}" in run("catalog", "left-out", **options).stdout
    assert ("┃" in scopes) is (columns >= 120), "a table if it fits"


def test_an_unknown_api_is_an_error_that_names_the_known_ones() -> None:
    result = run("endpoints", "--api", "jobs")
    assert result.returncode == 1
    assert "no API 'jobs': name one of accounting, crm" in result.stderr
    assert "Traceback" not in result.stderr


def test_building_the_catalog_from_a_folder_without_documents_is_an_error(tmp_path: Path) -> None:
    result = run("catalog", "build", str(tmp_path), "--output", str(tmp_path / "out"))
    assert result.returncode == 1
    assert "contains no *.json" in result.stderr


def test_curated_facts_without_an_endpoint_are_reported(tmp_path: Path) -> None:
    """Only those of the APIs that the documents describe."""
    paths = {"/jpm/v2/tenant/{tenant}/things": {"get": {"responses": {}}}}
    (tmp_path / "x.json").write_text(json.dumps({"openapi": "3.0.0", "paths": paths}))
    result = run("catalog", "build", str(tmp_path), "--output", str(tmp_path / "out"))
    assert "! curated.yaml has facts about jpm.job_history" in result.stdout
    assert "facts about crm" not in result.stdout
    assert not (tmp_path / "out" / "jpm.json").exists()


def test_the_sandbox_serves_until_it_is_interrupted() -> None:
    process = subprocess.Popen(
        [*COMMAND, "sandbox", "--port", "0", "--customers", "20", "--defect", "wrong-tenant"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout
        url, *values, remedy = [process.stdout.readline().strip() for _ in range(9)]
        assert "export SERVICETITAN_TENANT_ID=1000009999" in values
        assert remedy == "# wrong-tenant: the portal shows TENANT_ID=1000000001"
        assert requests.get(f"{url}/_sandbox/state", timeout=DEADLINE).status_code == 200
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=DEADLINE) in (0, 130, -signal.SIGINT)


def test_publish_creates_a_read_copy_and_prints_its_path(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    duckdb.connect(str(tmp_path / "data" / "production.duckdb")).close()
    command = ("publish", "--environment", "production")
    copy = tmp_path / "data" / "production_read.duckdb"
    assert re.match(rf"{re.escape(str(copy))}: 0\.\d MB in ", run(*command).stdout)
    assert run(*command).stdout == f"{copy} is up to date\n"
    duckdb.connect(str(copy), read_only=True).close()


@pytest.mark.parametrize(
    ("environment", "expected"),
    [("integration", "does not exist yet: load something"), ("prod", "unknown environment 'prod'")],
)
def test_publish_reports_what_is_missing(environment: str, expected: str) -> None:
    done = run("publish", "--environment", environment)
    assert done.returncode == 1
    assert expected in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "ascii"])
def test_a_console_without_utf_8_gets_signs_that_its_encoding_has(
    tmp_path: Path, encoding: str
) -> None:
    """`check` ended in "codec can't encode" where its output was redirected on Windows."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("SERVICETITAN", "ST_"))}
    environment |= {"PYTHONIOENCODING": encoding}
    done = run("check", "--environment", "production", cwd=tmp_path, env=environment)
    assert "[failed]" in done.stdout
    assert "can't encode" not in done.stdout + done.stderr
