"""Loads that are killed, terminated or out of disk space lose nothing; the next one continues."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from starlette.requests import Request

from st_pipelines.catalog.registry import load_catalog
from st_pipelines.sandbox.server import Sandbox
from st_pipelines.sync.sync import extract_load
from st_pipelines.warehouse.errors import WarehouseFull
from st_pipelines.warehouse.store.duckdb_file import DuckDBFile
from st_pipelines_tests import crash_harness
from st_pipelines_tests.churn_reader import (
    build_context,
    comparable,
    days,
    expected_rows,
    table_rows,
)
from st_pipelines_tests.crash_harness import CrashPoint, Server, is_killed
from st_pipelines_tests.deadlines import DEADLINE

TABLE = "crm.customers"
EARLIER = days("2026-03-01", "2026-03-01", open_start=True)
ALL = days("2026-03-01", "2026-03-10", open_start=True)
WAREHOUSE = "st_pipelines.warehouse"

POINTS = [
    CrashPoint(f"{WAREHOUSE}.staging.stage:Staging.add", after=True, call=2),
    CrashPoint(f"{WAREHOUSE}.store.duckdb_file:_attach"),
    CrashPoint(f"{WAREHOUSE}.tables.load:_merge", after=True),
    CrashPoint(f"{WAREHOUSE}.tables.load_log:write_load_record", after=True),
]
LIMITS = [10_000, 150_000, 250_000]
CREATION_POINTS = [CrashPoint("os:link"), CrashPoint("os:link", after=True)]


def count_logged_rows(file: Path) -> int:
    """Returns the number of rows; asserts that it is the load log's and that keys are unique."""
    if not file.exists():
        return 0
    with DuckDBFile(uri=str(file), wait_seconds=5).read_only() as connection:
        tables = connection.execute("SELECT count(*) FROM duckdb_tables()").fetchall()[0][0]
        if not tables:
            return 0
        rows, keys = connection.execute(
            f"SELECT count(*), count(DISTINCT id) FROM {TABLE}"
        ).fetchall()[0]
        logged = connection.execute("SELECT sum(rows_inserted) FROM _st.loads").fetchall()[0][0]
    assert rows == keys == logged
    return rows


def assert_continues(sandbox: Sandbox, file: Path) -> None:
    """Asserts that another load completes the table and leaves no files behind."""
    extract_load(build_context(sandbox, file), load_catalog()[TABLE], ALL)
    count_logged_rows(file)
    expected = expected_rows(sandbox, load_catalog()[TABLE])
    assert comparable(table_rows(file, load_catalog()[TABLE])) == comparable(expected)
    assert staging_folders(file) == []
    assert not file.with_name(file.name + ".wal").exists()


def staging_folders(file: Path) -> list[str]:
    return [folder.name for folder in (file.parent / ".staging").iterdir() if folder.is_dir()]


@pytest.mark.parametrize("point", POINTS + CREATION_POINTS, ids=str)
def test_a_first_load_that_is_killed_leaves_nothing_and_the_next_continues(
    sandbox: Sandbox, tmp_path: Path, point: CrashPoint
) -> None:
    file = tmp_path / "x.duckdb"
    assert is_killed(crash_harness.load, Server.from_sandbox(sandbox), file, TABLE, ALL, point)
    assert staging_folders(file), "the process died too late to leave a folder"
    assert count_logged_rows(file) == 0
    assert_continues(sandbox, file)


@pytest.mark.parametrize("point", POINTS[-2:], ids=str)
def test_a_merge_that_is_killed_leaves_the_table_as_it_was(
    sandbox: Sandbox, tmp_path: Path, point: CrashPoint
) -> None:
    file = tmp_path / "x.duckdb"
    extract_load(build_context(sandbox, file), load_catalog()[TABLE], EARLIER)
    before = count_logged_rows(file)
    assert before
    assert is_killed(crash_harness.load, Server.from_sandbox(sandbox), file, TABLE, ALL, point)
    assert count_logged_rows(file) == before
    assert_continues(sandbox, file)


@pytest.mark.parametrize("checkpoint_threshold", ["1KB", "1GB"])
def test_a_load_that_is_killed_after_its_commit_is_kept(
    sandbox: Sandbox, tmp_path: Path, checkpoint_threshold: str
) -> None:
    """It is in the file, or in a write-ahead log that DuckDB replays at the next opening."""
    file = tmp_path / "x.duckdb"
    assert is_killed(
        crash_harness.load_and_die_after_commit,
        Server.from_sandbox(sandbox),
        file,
        TABLE,
        ALL,
        checkpoint_threshold,
    )
    assert file.with_name(file.name + ".wal").exists() == (checkpoint_threshold == "1GB")
    assert count_logged_rows(file) == len(expected_rows(sandbox, load_catalog()[TABLE]))
    assert DuckDBFile(uri=str(file)).publish()
    assert count_logged_rows(DuckDBFile(uri=str(file)).read_copy.path)
    assert_continues(sandbox, file)


@pytest.mark.parametrize(
    "point",
    [
        CrashPoint(f"{WAREHOUSE}.store.read_copy:_copy_bytes", after=True),
        CrashPoint("os:replace", after=True),
    ],
    ids=str,
)
def test_publishing_that_is_killed_leaves_a_complete_copy_or_none(
    sandbox: Sandbox, tmp_path: Path, point: CrashPoint
) -> None:
    file, warehouse = (
        tmp_path / "x.duckdb",
        DuckDBFile(uri=str(tmp_path / "x.duckdb"), wait_seconds=5),
    )
    assert is_killed(
        crash_harness.load_and_publish, Server.from_sandbox(sandbox), file, TABLE, ALL, point
    )
    assert bool(count_logged_rows(warehouse.read_copy.path)) == (point.function == "os:replace")
    assert bool(warehouse.publish()) == (point.function != "os:replace")
    assert warehouse.read_copy.is_current
    assert_continues(sandbox, file)


def test_a_terminated_run_leaves_nothing(own_sandbox: Sandbox, tmp_path: Path) -> None:
    """Dagster turns SIGTERM into an interrupt, so the load removes its staging folder."""
    process: subprocess.Popen[bytes]
    folders: list[str] = []

    def terminate(request: Request) -> None:
        if "customers" in request.url.path and not folders:
            folders.extend(staging_folders(tmp_path / "data" / "production.duckdb"))
            process.send_signal(signal.SIGTERM)

    own_sandbox.interceptors.append(terminate)
    environment = own_sandbox.environment() | {"SERVICETITAN_START_DATE": "2026-03-01"}
    command = [sys.executable, "-m", "dagster", "asset", "materialize", "-a", "production"]
    command += ["-m", "st_pipelines.definitions", "--partition", "2026-03-10"]
    command += ["--select", 'key:"production/crm/customers"']
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    assert process.wait(DEADLINE) != 0
    assert len(folders) == 1
    assert staging_folders(tmp_path / "data" / "production.duckdb") == []


@pytest.mark.parametrize("limit", LIMITS)
def test_a_file_that_may_not_grow_is_reported_and_loses_nothing(
    sandbox: Sandbox, tmp_path: Path, limit: int
) -> None:
    """Each limit stops another step: staging, creating the file, and moving the log into it.

    The last step follows the commit, so that load succeeds.
    """
    file = tmp_path / "x.duckdb"
    process = crash_harness.start_process(
        crash_harness.load_limited, Server.from_sandbox(sandbox), file, TABLE, ALL, limit
    )
    process.join(DEADLINE)
    expected = len(expected_rows(sandbox, load_catalog()[TABLE]))
    assert process.exitcode == (0 if limit == LIMITS[-1] else crash_harness.REPORTED_FULL)
    assert count_logged_rows(file) == (expected if limit == LIMITS[-1] else 0)
    assert limit != LIMITS[-1] or file.with_name(file.name + ".wal").stat().st_size
    assert staging_folders(file) == []
    assert_continues(sandbox, file)


def test_a_merge_that_cannot_be_moved_into_the_file_stays_in_the_log(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    file = tmp_path / "x.duckdb"
    extract_load(build_context(sandbox, file), load_catalog()[TABLE], EARLIER)
    limit = file.stat().st_size // 2
    process = crash_harness.start_process(
        crash_harness.load_limited, Server.from_sandbox(sandbox), file, TABLE, ALL, limit
    )
    process.join(DEADLINE)
    assert process.exitcode == 0
    assert file.with_name(file.name + ".wal").stat().st_size
    assert count_logged_rows(file) == len(expected_rows(sandbox, load_catalog()[TABLE]))
    assert_continues(sandbox, file)


ON_A_FULL_DISK = "from st_pipelines_tests.sync import test_crashes as t; t.on_a_full_disk()"
FULL_DISK = """
mount -t tmpfs -o size=4m none {folder} || exit 77
{python} -c "$SCRIPT" '{server}' {folder}
"""


def on_a_full_disk() -> None:
    """Loads on a small disk that is full at first, in three different steps, and free in the end.

    Runs in a process of its own; the arguments are the server and the folder.
    """
    server, folder = json.loads(sys.argv[1]), sys.argv[2]
    file, filler = Path(folder) / "x.duckdb", Path(folder) / "filler"
    context = build_context(Server(**server), file)
    for free in (20_000, 120_000, 220_000):
        filler.write_bytes(bytes(shutil.disk_usage(folder).free - free))
        with pytest.raises((WarehouseFull, OSError), match=r"[Nn]o space left"):
            extract_load(context, load_catalog()[TABLE], ALL)
        filler.unlink()
        assert count_logged_rows(file) == 0
        assert staging_folders(file) == []
    extract_load(context, load_catalog()[TABLE], ALL)
    assert count_logged_rows(file)


def test_a_full_disk_is_reported_and_loses_nothing(sandbox: Sandbox, tmp_path: Path) -> None:
    server = json.dumps(dataclasses.asdict(Server.from_sandbox(sandbox)))
    script = FULL_DISK.format(folder=str(tmp_path), python=sys.executable, server=server)
    result = subprocess.run(
        ["unshare", "-m", "sh", "-c", script],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "SCRIPT": ON_A_FULL_DISK},
    )
    if result.returncode in (1, 77) and "ermi" in result.stderr:
        pytest.skip("mounting is not permitted")
    assert result.returncode == 0, result.stderr
