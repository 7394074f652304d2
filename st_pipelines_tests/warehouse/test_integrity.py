"""What is damaged, separated from its log, or of another program: named, and left as it is."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from st_pipelines.warehouse.errors import WarehouseError, WarehouseUnusable
from st_pipelines.warehouse.store import integrity
from st_pipelines_tests.warehouse.factories import Place, record

TWO_COMMITS = """
import duckdb, os, sys
connection = duckdb.connect()
connection.execute(f"ATTACH '{sys.argv[1]}' AS w")
for number in (1, 2):
    connection.execute("BEGIN")
    connection.execute(
        "INSERT INTO w.abc.things (id, name) SELECT range + 1000 * ?, 'x' FROM range(500)", [number]
    )
    connection.execute("COMMIT")
os.kill(os.getpid(), 9)
"""


@pytest.fixture(scope="module")
def crashed(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A warehouse whose last two loads are in the log alone."""
    place = Place(tmp_path_factory.mktemp("crashed"))
    place.load([record(id=1)])
    done = subprocess.run([sys.executable, "-c", TWO_COMMITS, str(place.file)])
    assert done.returncode == -signal.SIGKILL
    return place


@pytest.fixture
def own(crashed: Place, place: Place) -> Place:
    """A copy of it."""
    for name in ("test.duckdb", "test.duckdb.wal"):
        shutil.copyfile(crashed.folder / name, place.folder / name)
    return place


def log(place: Place) -> Path:
    return place.folder / "test.duckdb.wal"


def flip(file: Path, at: int) -> None:
    content = bytearray(file.read_bytes())
    content[at] ^= 0xFF
    file.write_bytes(content)


def end_of_head(place: Place) -> int:
    at = integrity._find_header_end(log(place).read_bytes()[:64])
    assert at
    return at


def assert_refused(place: Place, match: str) -> None:
    """By whatever opens it, and every file stays as it is."""
    before = {path: path.read_bytes() for path in (place.file, log(place)) if path.exists()}
    with pytest.raises(WarehouseError, match=match):
        place.load([record(id=2)])
    with pytest.raises(WarehouseError, match=match), place.warehouse.read_only():
        pass
    with pytest.raises(WarehouseError, match=match):
        place.warehouse.publish()
    for path, content in before.items():
        assert path.read_bytes() == content, path


def test_the_loads_in_a_log_are_there_for_the_next(own: Place) -> None:
    with own.warehouse.read_only() as connection:
        assert connection.execute("SELECT count(*) FROM abc.things").fetchall() == [(1001,)]
    own.load([record(id=2)])
    assert own.query("SELECT count(*) FROM abc.things") == [(1002,)]
    assert not log(own).exists()


@pytest.mark.parametrize("where", ["first byte", "version", "end of the head"])
def test_a_damaged_head_of_the_log_is_named(own: Place, where: str) -> None:
    """DuckDB takes such a log for empty, and removes it with the loads that it holds."""
    flip(log(own), {"first byte": 0, "version": 5, "end of the head": end_of_head(own) - 1}[where])
    assert_refused(own, r"log .*test\.duckdb\.wal of the warehouse is damaged")


def test_a_log_of_another_program_is_named(own: Place) -> None:
    log(own).write_bytes(b"id,name\n1,Anna\n" * 20)
    assert_refused(own, r"log .*test\.duckdb\.wal of the warehouse is damaged")


def test_a_length_in_the_log_that_is_damaged_is_named(own: Place) -> None:
    """DuckDB takes the rest for the beginning of an entry that was never finished."""
    flip(log(own), end_of_head(own) + 5)
    assert_refused(own, r"log .*test\.duckdb\.wal of the warehouse is damaged")


def test_an_entry_of_the_log_that_is_damaged_is_named(own: Place) -> None:
    flip(log(own), end_of_head(own) + 18)
    assert_refused(own, r"is damaged, and left unchanged .*WAL")


@pytest.mark.parametrize("cut", [3, 20, 700, "half", -1])
def test_a_log_that_was_cut_off_while_it_was_written_loses_only_that_load(
    own: Place, cut: int | str
) -> None:
    content = log(own).read_bytes()
    log(own).write_bytes(content[: len(content) * 2 // 3 if cut == "half" else int(cut)])
    own.load([record(id=2)])
    (rows,) = own.query("SELECT count(*) FROM abc.things")[0]
    assert rows == (502 if cut in ("half", -1) else 2)


def test_a_log_whose_file_is_gone_is_named(own: Place) -> None:
    """DuckDB would make a new file and remove the log."""
    own.file.unlink()
    content = log(own).read_bytes()
    with pytest.raises(
        WarehouseUnusable, match=r"is missing, but its log test\.duckdb\.wal exists"
    ):
        own.load([record(id=2)])
    assert log(own).read_bytes() == content
    assert not own.file.exists()


@pytest.mark.parametrize("at", [0, 20, 4096 + 5, 8192 + 5, 3 * 4096 + 100])
def test_a_damaged_file_is_named_with_what_to_do(place: Place, at: int) -> None:
    place.load([record(id=1)])
    flip(place.file, at)
    assert_refused(place, r"test\.duckdb is damaged, .* put the read copy \(`test_read\.duckdb`")


@pytest.mark.parametrize("size", [100, 5000, 12288, 20_000])
def test_a_file_that_was_cut_off_is_named(place: Place, size: int) -> None:
    place.load([record(id=1)])
    os.truncate(place.file, size)
    assert_refused(place, r"test\.duckdb is damaged")


@pytest.mark.parametrize("content", [b"", b"PK", b"SQLite format 3\0" * 40])
def test_a_file_of_another_program_is_named(place: Place, content: bytes) -> None:
    place.file.write_bytes(content)
    assert_refused(place, "is not a DuckDB database" if content else "is an empty file: delete it")


def test_a_file_without_a_log_is_made_whole_or_not_at_all(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there are no links, DuckDB makes it in its place."""

    def unsupported(*_: object) -> None:
        raise OSError(95, os.strerror(95))

    monkeypatch.setattr(os, "link", unsupported)
    place.load([record(id=1)])
    assert place.query("SELECT id FROM abc.things") == [(1,)]


def test_another_that_made_the_file_meanwhile_loses_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = Place(place.folder / "elsewhere")
    elsewhere.folder.mkdir()
    elsewhere.load([record(id=7)])
    link = os.link

    def too_late(source: Path, target: Path) -> None:
        shutil.copyfile(elsewhere.file, target)
        link(source, target)

    monkeypatch.setattr(os, "link", too_late)
    place.load([record(id=1)])
    with duckdb.connect(str(place.file)) as connection:
        found = connection.execute("SELECT id FROM abc.things ORDER BY id").fetchall()
    assert found == [(1,), (7,)]
