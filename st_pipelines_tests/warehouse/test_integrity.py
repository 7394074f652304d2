"""Damaged files, logs without a file, and files of other programs are reported and left alone."""

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
from st_pipelines_tests.warehouse.factories import READ_LATER, Place, record

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
    """A warehouse whose last two loads are only in the log."""
    place = Place(tmp_path_factory.mktemp("crashed"))
    place.load([record(id=1)])
    done = subprocess.run([sys.executable, "-c", TWO_COMMITS, str(place.file)])
    assert done.returncode == -signal.SIGKILL
    return place


@pytest.fixture
def copied(crashed: Place, place: Place) -> Place:
    """A copy of the crashed warehouse for one test."""
    for name in ("test.duckdb", "test.duckdb.wal"):
        shutil.copyfile(crashed.folder / name, place.folder / name)
    return place


def log(place: Place) -> Path:
    return place.folder / "test.duckdb.wal"


def flip(file: Path, at: int) -> None:
    content = bytearray(file.read_bytes())
    content[at] ^= 0xFF
    file.write_bytes(content)


def header_end(place: Place) -> int:
    at = integrity._find_header_end(log(place).read_bytes()[:64])
    assert at
    return at


def assert_refused(place: Place, match: str) -> None:
    """Asserts that loading, reading and publishing all refuse, and change no file."""
    before = {path: path.read_bytes() for path in (place.file, log(place)) if path.exists()}
    with pytest.raises(WarehouseError, match=match):
        place.load([record(id=2)])
    with pytest.raises(WarehouseError, match=match), place.warehouse.read_only():
        pass
    with pytest.raises(WarehouseError, match=match):
        place.warehouse.publish()
    for path, content in before.items():
        assert path.read_bytes() == content, path


def test_committed_loads_in_a_log_are_replayed_by_the_next_load(copied: Place) -> None:
    with copied.warehouse.read_only() as connection:
        assert connection.execute("SELECT count(*) FROM abc.things").fetchall() == [(1001,)]
    copied.load([record(id=2)])
    assert copied.query("SELECT count(*) FROM abc.things") == [(1002,)]
    assert not log(copied).exists()


@pytest.mark.parametrize("where", ["first byte", "version", "end of the header"])
def test_a_log_with_a_damaged_header_is_refused(copied: Place, where: str) -> None:
    """DuckDB would take the log for empty, and delete it with the loads in it."""
    flip(
        log(copied),
        {"first byte": 0, "version": 5, "end of the header": header_end(copied) - 1}[where],
    )
    assert_refused(copied, r"log .*test\.duckdb\.wal of the warehouse is damaged")


def test_a_log_that_is_not_duckdbs_is_refused(copied: Place) -> None:
    log(copied).write_bytes(b"id,name\n1,Anna\n" * 20)
    assert_refused(copied, r"log .*test\.duckdb\.wal of the warehouse is damaged")


def test_a_log_with_a_damaged_length_is_refused(copied: Place) -> None:
    """DuckDB would take the rest of the log for an unfinished entry."""
    flip(log(copied), header_end(copied) + 5)
    assert_refused(copied, r"log .*test\.duckdb\.wal of the warehouse is damaged")


def test_a_log_with_a_damaged_entry_is_refused(copied: Place) -> None:
    flip(log(copied), header_end(copied) + 18)
    assert_refused(copied, r"is damaged, and left unchanged .*WAL")


@pytest.mark.parametrize("cut", [3, 20, 700, "half", -1])
def test_a_truncated_log_loses_only_the_load_being_written(copied: Place, cut: int | str) -> None:
    content = log(copied).read_bytes()
    log(copied).write_bytes(content[: len(content) * 2 // 3 if cut == "half" else int(cut)])
    copied.load([record(id=2)])
    (rows,) = copied.query("SELECT count(*) FROM abc.things")[0]
    assert rows == (502 if cut in ("half", -1) else 2)


def test_a_log_without_its_file_is_refused(copied: Place) -> None:
    """DuckDB would create a new file and delete the log."""
    copied.file.unlink()
    content = log(copied).read_bytes()
    with pytest.raises(
        WarehouseUnusable, match=r"is missing, but its log test\.duckdb\.wal exists"
    ):
        copied.load([record(id=2)])
    assert log(copied).read_bytes() == content
    assert not copied.file.exists()


@pytest.mark.parametrize("at", [0, 20, 4096 + 5, 8192 + 5, 3 * 4096 + 100])
def test_a_damaged_file_is_refused_with_advice(place: Place, at: int) -> None:
    place.load([record(id=1)])
    flip(place.file, at)
    assert_refused(place, r"test\.duckdb is damaged, .* put the read copy \(`test_read\.duckdb`")


@pytest.mark.parametrize("size", [100, 5000, 12288, 20_000])
def test_a_truncated_file_is_refused(place: Place, size: int) -> None:
    place.load([record(id=1)])
    os.truncate(place.file, size)
    assert_refused(place, r"test\.duckdb is damaged")


@pytest.mark.parametrize("content", [b"", b"PK", b"SQLite format 3\0" * 40])
def test_a_file_of_another_program_is_refused(place: Place, content: bytes) -> None:
    place.file.write_bytes(content)
    assert_refused(place, "is not a DuckDB database" if content else "is an empty file: delete it")


def test_a_new_file_is_created_without_hard_links_too(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without hard links, DuckDB creates the file at its path."""

    def unsupported(*_: object) -> None:
        raise OSError(95, os.strerror(95))

    monkeypatch.setattr(os, "link", unsupported)
    place.load([record(id=1)])
    assert place.query("SELECT id FROM abc.things") == [(1,)]


def test_a_file_that_another_process_creates_meanwhile_is_kept(
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
    place.load([record(id=1)], sequence=READ_LATER)
    with duckdb.connect(str(place.file)) as connection:
        found = connection.execute("SELECT id FROM abc.things ORDER BY id").fetchall()
    assert found == [(1,), (7,)]
