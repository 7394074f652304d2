"""Loads that are killed, terminated or out of space: the next one continues, as if nothing was."""

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
from st_pipelines_tests import crash_harness as dying
from st_pipelines_tests.churn_reader import comparable, days, expected_rows, job, table_rows
from st_pipelines_tests.crash_harness import Point, Server, killed
from st_pipelines_tests.deadlines import DEADLINE

TABLE = "crm.customers"
EARLIER = days("2026-03-01", "2026-03-01", open_start=True)
ALL = days("2026-03-01", "2026-03-10", open_start=True)
WAREHOUSE = "st_pipelines.warehouse"

POINTS = [
    Point(f"{WAREHOUSE}.staging.stage:Staging.add", after=True, call=2),
    Point(f"{WAREHOUSE}.store.duckdb_file:_attach"),
    Point(f"{WAREHOUSE}.tables.load:_merge", after=True),
    Point(f"{WAREHOUSE}.tables.load_log:write_load_record", after=True),
]
LIMITS = [10_000, 150_000, 250_000]
WHILE_IT_IS_MADE = [Point("os:link"), Point("os:link", after=True)]


def whole_and_in_the_books(file: Path) -> int:
    """Rows of the table, which are as many as the books say, each once."""
    if not file.exists():
        return 0
    with DuckDBFile(uri=str(file), wait_seconds=5).read_only() as connection:
        tables = connection.execute("SELECT count(*) FROM duckdb_tables()").fetchall()[0][0]
        if not tables:
            return 0
        rows, keys = connection.execute(
            f"SELECT count(*), count(DISTINCT id) FROM {TABLE}"
        ).fetchall()[0]
        told = connection.execute("SELECT sum(rows_inserted) FROM _st.loads").fetchall()[0][0]
    assert rows == keys == told
    return rows


def assert_continues(sandbox: Sandbox, file: Path) -> None:
    """One more load gives what the sandbox has, and leaves nothing beside it."""
    extract_load(job(sandbox, file), load_catalog()[TABLE], ALL)
    whole_and_in_the_books(file)
    wanted = expected_rows(sandbox, load_catalog()[TABLE])
    assert comparable(table_rows(file, load_catalog()[TABLE])) == comparable(wanted)
    assert staged(file) == []
    assert not file.with_name(file.name + ".wal").exists()


def staged(file: Path) -> list[str]:
    return [folder.name for folder in (file.parent / ".staging").iterdir() if folder.is_dir()]


@pytest.mark.parametrize("point", POINTS + WHILE_IT_IS_MADE, ids=str)
def test_a_first_load_that_is_killed_leaves_nothing_and_the_next_continues(
    sandbox: Sandbox, tmp_path: Path, point: Point
) -> None:
    file = tmp_path / "x.duckdb"
    assert killed(dying.load, Server.of(sandbox), file, TABLE, ALL, point)
    assert staged(file), "it died too late to leave something"
    assert whole_and_in_the_books(file) == 0
    assert_continues(sandbox, file)


@pytest.mark.parametrize("point", POINTS[-2:], ids=str)
def test_a_merge_that_is_killed_leaves_the_table_as_it_was(
    sandbox: Sandbox, tmp_path: Path, point: Point
) -> None:
    file = tmp_path / "x.duckdb"
    extract_load(job(sandbox, file), load_catalog()[TABLE], EARLIER)
    before = whole_and_in_the_books(file)
    assert before
    assert killed(dying.load, Server.of(sandbox), file, TABLE, ALL, point)
    assert whole_and_in_the_books(file) == before
    assert_continues(sandbox, file)


@pytest.mark.parametrize("longest_log", ["1KB", "1GB"])
def test_a_load_that_is_killed_after_its_commit_is_kept(
    sandbox: Sandbox, tmp_path: Path, longest_log: str
) -> None:
    """In the file, or in a log that the next to open the file takes in."""
    file = tmp_path / "x.duckdb"
    assert killed(dying.load_and_die_committed, Server.of(sandbox), file, TABLE, ALL, longest_log)
    assert file.with_name(file.name + ".wal").exists() == (longest_log == "1GB")
    assert whole_and_in_the_books(file) == len(expected_rows(sandbox, load_catalog()[TABLE]))
    assert DuckDBFile(uri=str(file)).publish()
    assert whole_and_in_the_books(DuckDBFile(uri=str(file)).read_copy.path)
    assert_continues(sandbox, file)


@pytest.mark.parametrize(
    "point",
    [
        Point(f"{WAREHOUSE}.store.read_copy:_copy_bytes", after=True),
        Point("os:replace", after=True),
    ],
    ids=str,
)
def test_killed_publishing_leaves_a_complete_copy_or_none(
    sandbox: Sandbox, tmp_path: Path, point: Point
) -> None:
    file, warehouse = (
        tmp_path / "x.duckdb",
        DuckDBFile(uri=str(tmp_path / "x.duckdb"), wait_seconds=5),
    )
    assert killed(dying.load_and_publish, Server.of(sandbox), file, TABLE, ALL, point)
    assert bool(whole_and_in_the_books(warehouse.read_copy.path)) == (
        point.function == "os:replace"
    )
    assert bool(warehouse.publish()) == (point.function != "os:replace")
    assert warehouse.read_copy.is_current
    assert_continues(sandbox, file)


def test_a_terminated_run_leaves_nothing(own_sandbox: Sandbox, tmp_path: Path) -> None:
    """SIGTERM reaches Dagster's run as Ctrl-C does, and so the load's clearing up."""
    process: subprocess.Popen[bytes]
    folders: list[str] = []

    def terminate(request: Request) -> None:
        if "customers" in request.url.path and not folders:
            folders.extend(staged(tmp_path / "data" / "production.duckdb"))
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
    assert staged(tmp_path / "data" / "production.duckdb") == []


@pytest.mark.parametrize("limit", LIMITS)
def test_a_file_that_may_not_grow_is_reported_and_loses_nothing(
    sandbox: Sandbox, tmp_path: Path, limit: int
) -> None:
    """Each limit is met by another step: staging, making the file, the log, its move to the file.

    In that last step the load is committed, and a success.
    """
    file = tmp_path / "x.duckdb"
    process = dying.started(dying.load_limited, Server.of(sandbox), file, TABLE, ALL, limit)
    process.join(DEADLINE)
    wanted = len(expected_rows(sandbox, load_catalog()[TABLE]))
    assert process.exitcode == (0 if limit == LIMITS[-1] else dying.TOLD_FULL)
    assert whole_and_in_the_books(file) == (wanted if limit == LIMITS[-1] else 0)
    assert limit != LIMITS[-1] or file.with_name(file.name + ".wal").stat().st_size
    assert staged(file) == []
    assert_continues(sandbox, file)


def test_a_merge_that_cannot_be_moved_into_the_file_stays_in_the_log(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    file = tmp_path / "x.duckdb"
    extract_load(job(sandbox, file), load_catalog()[TABLE], EARLIER)
    limit = file.stat().st_size // 2
    process = dying.started(dying.load_limited, Server.of(sandbox), file, TABLE, ALL, limit)
    process.join(DEADLINE)
    assert process.exitcode == 0
    assert file.with_name(file.name + ".wal").stat().st_size
    assert whole_and_in_the_books(file) == len(expected_rows(sandbox, load_catalog()[TABLE]))
    assert_continues(sandbox, file)


ON_A_FULL_DISK = "from st_pipelines_tests.sync import test_crashes as t; t.on_a_full_disk()"
FULL_DISK = """
mount -t tmpfs -o size=4m none {folder} || exit 77
{python} -c "$SCRIPT" '{server}' {folder}
"""


def on_a_full_disk() -> None:
    """Runs where the folder is a small disk: it is full in the first load and not in the next."""
    server, folder = json.loads(sys.argv[1]), sys.argv[2]
    file, filler = Path(folder) / "x.duckdb", Path(folder) / "filler"
    loading = job(Server(**server), file)
    for free in (20_000, 120_000, 220_000):
        filler.write_bytes(bytes(shutil.disk_usage(folder).free - free))
        with pytest.raises((WarehouseFull, OSError), match=r"[Nn]o space left"):
            extract_load(loading, load_catalog()[TABLE], ALL)
        filler.unlink()
        assert whole_and_in_the_books(file) == 0
        assert staged(file) == []
    extract_load(loading, load_catalog()[TABLE], ALL)
    assert whole_and_in_the_books(file)


def test_a_full_disk_is_reported_and_loses_nothing(sandbox: Sandbox, tmp_path: Path) -> None:
    server = json.dumps(dataclasses.asdict(Server.of(sandbox)))
    script = FULL_DISK.format(folder=str(tmp_path), python=sys.executable, server=server)
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "SCRIPT": ON_A_FULL_DISK},
    )
    if done.returncode in (1, 77) and "ermi" in done.stderr:
        pytest.skip("mounting is not permitted")
    assert done.returncode == 0, done.stderr
