"""In-memory databases are used again only as good as new."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from st_pipelines.warehouse.columns import DUCKDB_1
from st_pipelines.warehouse.store import memory
from st_pipelines.warehouse.store.memory import InMemory


@pytest.fixture(autouse=True)
def _none_is_kept() -> Iterator[None]:
    memory._close_all()
    yield
    memory._close_all()


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[duckdb.DuckDBPyConnection]:
    """Those that were opened anew."""
    memory.usual_memory()  # asks a database of its own, once in a process
    connect, found = duckdb.connect, []

    def counting() -> duckdb.DuckDBPyConnection:
        found.append(connect())
        return found[-1]

    monkeypatch.setattr(memory.duckdb, "connect", counting)
    return found


def setting(database: InMemory, name: str) -> str:
    return database.connection.execute(f"SELECT current_setting('{name}')").fetchall()[0][0]


def test_one_that_was_left_empty_serves_the_next_with_the_folder_of_that(
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


@pytest.mark.parametrize("left", [
    "CREATE TABLE staged AS SELECT 1", "ATTACH ':memory:' AS warehouse", None,
])  # fmt: skip
def test_one_with_anything_in_it_or_of_a_failed_load_is_closed(
    opened: list[object], tmp_path: Path, left: str | None
) -> None:
    first = InMemory(tmp_path)
    if left:
        first.connection.execute(left)
    first.give_back(keep=left is not None)
    InMemory(tmp_path)
    assert len(opened) == 2


def test_two_at_once_are_two(opened: list[object], tmp_path: Path) -> None:
    first, second = InMemory(tmp_path), InMemory(tmp_path)
    first.connection.execute("CREATE TABLE staged AS SELECT 1")
    second.connection.execute("CREATE TABLE staged AS SELECT 2")
    assert len(opened) == 2


def test_one_that_used_its_folder_cannot_have_another(opened: list[object], tmp_path: Path) -> None:
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
    reason="a child that uses DuckDB 1 dies at its end, also where only it was imported before",
)
def test_a_forked_process_ends_well(tmp_path: Path) -> None:
    script = f"""
import os, sys
from pathlib import Path
from st_pipelines.warehouse.memory import InMemory
InMemory(Path({str(tmp_path / "a")!r})).give_back(keep=True)
child = os.fork()
own = InMemory(Path({str(tmp_path / "b")!r}))
own.connection.execute("SELECT 1")
own.give_back(keep=False)
if child:
    sys.exit(os.waitpid(child, 0)[1])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
