"""Staging folders and in-memory databases: loads clean up after dead ones, and share nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from st_pipelines.warehouse.columns import DUCKDB_1
from st_pipelines.warehouse.store import scratch
from st_pipelines.warehouse.store.scratch import InMemory, staging_folder
from st_pipelines_tests import crash_harness
from st_pipelines_tests.deadlines import wait_until


def folders(root: Path) -> set[str]:
    return {folder.name.rpartition("-")[0] for folder in root.iterdir() if folder.is_dir()}


def test_folders_of_dead_loads_are_removed_and_folders_of_running_loads_stay(
    tmp_path: Path,
) -> None:
    root = tmp_path / ".staging"
    process = crash_harness.start_process(
        crash_harness.stage_and_wait, tmp_path, "of another process"
    )
    wait_until(
        lambda: root.exists() and folders(root) == {"of another process"}, "folder of the process"
    )
    with staging_folder(tmp_path, "of this process") as path:
        path.mkdir()
        with staging_folder(tmp_path, "later"):
            assert folders(root) == {"of another process", "of this process", "later"}
        process.kill()
        process.join()
        assert folders(root) == {"of another process", "of this process"}
        with staging_folder(tmp_path, "latest"):
            assert folders(root) == {"of this process", "latest"}
    assert folders(root) == set()


def test_only_the_owner_can_open_a_staging_folder(tmp_path: Path) -> None:
    with staging_folder(tmp_path, "a") as path:
        assert path.parent.stat().st_mode & 0o777 == 0o700


def test_without_locks_a_load_removes_only_its_own_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(95, os.strerror(95))

    monkeypatch.setattr(scratch.fcntl, "flock", unsupported)
    with staging_folder(tmp_path, "a"):
        with staging_folder(tmp_path, "b"):
            assert folders(tmp_path / ".staging") == {"a", "b"}
        assert folders(tmp_path / ".staging") == {"a"}
    assert folders(tmp_path / ".staging") == set()


def run_script(script: str) -> None:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_process_that_ends_inside_a_load_removes_its_folder(tmp_path: Path) -> None:
    """Python ends a daemon thread where it is: its `finally` never runs."""
    run_script(f"""
import threading
from pathlib import Path
from st_pipelines.warehouse.store.scratch import staging_folder
folder = Path({str(tmp_path)!r})
entered = threading.Event()
def load():
    with staging_folder(folder, "of a daemon thread"):
        entered.set()
        threading.Event().wait()
threading.Thread(target=load, daemon=True).start()
entered.wait()
assert [*folder.glob(".staging/of a daemon thread-*")]
""")
    assert folders(tmp_path / ".staging") == set()


@pytest.mark.skipif(DUCKDB_1, reason="a child of a process that imported DuckDB 1 crashes on exit")
def test_a_forked_process_that_ends_leaves_the_folder_of_its_parent(tmp_path: Path) -> None:
    run_script(f"""
import atexit, os
from pathlib import Path
from st_pipelines.warehouse.store.scratch import staging_folder
with staging_folder(Path({str(tmp_path)!r}), "of the parent") as path:
    child = os.fork()
    if not child:
        atexit._run_exitfuncs()  # as sys.exit does, without leaving the context
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert path.parent.exists()
""")


@pytest.fixture(autouse=True)
def _empty_pool() -> Iterator[None]:
    scratch._close_pool()
    yield
    scratch._close_pool()


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[duckdb.DuckDBPyConnection]:
    """The databases that were opened instead of taken from the pool."""
    scratch.default_memory_limit()  # opens a database once per process
    connect, opened = duckdb.connect, []

    def connect_and_record() -> duckdb.DuckDBPyConnection:
        opened.append(connect())
        return opened[-1]

    monkeypatch.setattr(scratch.duckdb, "connect", connect_and_record)
    return opened


def setting(database: InMemory, name: str) -> str:
    return database.connection.execute(f"SELECT current_setting('{name}')").fetchall()[0][0]


def test_an_empty_database_serves_the_next_load_with_that_loads_folder(
    opened: list[object], tmp_path: Path
) -> None:
    first = InMemory(tmp_path / "a")
    first.connection.execute("CREATE TEMP TABLE own AS SELECT 1")
    first.give_back(keep=True)
    second = InMemory(tmp_path / "b")
    assert len(opened) == 1
    assert setting(second, "temp_directory") == str(tmp_path / "b")
    with pytest.raises(duckdb.CatalogException):
        second.connection.execute("FROM own")


@pytest.mark.parametrize(
    "left",
    [
        "CREATE TABLE staged AS SELECT 1",
        "ATTACH ':memory:' AS warehouse",
        None,
    ],
)
def test_a_database_with_content_or_of_a_failed_load_is_closed(
    opened: list[object], tmp_path: Path, left: str | None
) -> None:
    first = InMemory(tmp_path)
    if left:
        first.connection.execute(left)
    first.give_back(keep=left is not None)
    InMemory(tmp_path)
    assert len(opened) == 2


def test_two_databases_at_once_are_separate(opened: list[object], tmp_path: Path) -> None:
    first, second = InMemory(tmp_path), InMemory(tmp_path)
    first.connection.execute("CREATE TABLE staged AS SELECT 1")
    second.connection.execute("CREATE TABLE staged AS SELECT 2")
    assert len(opened) == 2


def test_a_database_that_spilled_into_its_folder_is_not_reused(
    opened: list[object], tmp_path: Path
) -> None:
    first = InMemory(tmp_path / "a")
    first.connection.execute("SET memory_limit = '60MB'; SET threads = 1")
    first.connection.execute(
        "CREATE TABLE large AS SELECT range AS n, md5(range::VARCHAR) AS t FROM range(2_000_000)"
    )
    assert any((tmp_path / "a").iterdir())
    first.connection.execute("DROP TABLE large")
    first.give_back(keep=True)
    second = InMemory(tmp_path / "b")
    assert len(opened) == 2
    assert setting(second, "temp_directory") == str(tmp_path / "b")


@pytest.mark.skipif(
    DUCKDB_1,
    reason="a child that uses DuckDB 1 crashes on exit, even if the parent only imported DuckDB",
)
def test_a_forked_process_exits_cleanly(tmp_path: Path) -> None:
    script = f"""
import os, sys
from pathlib import Path
from st_pipelines.warehouse.store.scratch import InMemory
InMemory(Path({str(tmp_path / "a")!r})).give_back(keep=True)
child = os.fork()
own = InMemory(Path({str(tmp_path / "b")!r}))
own.connection.execute("SELECT 1")
own.give_back(keep=False)
if child:
    sys.exit(os.waitpid(child, 0)[1])
"""
    run_script(script)
