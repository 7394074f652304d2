"""The read copy is complete, replaced as a whole, not too often, and blocks nobody."""

from __future__ import annotations

import errno
import os
import stat
import threading
import time
from pathlib import Path
from typing import BinaryIO

import duckdb
import pytest

from st_pipelines.warehouse.errors import WarehouseBusy, WarehouseFull, WarehouseUnusable
from st_pipelines.warehouse.store import read_copy
from st_pipelines.warehouse.store.base import Published
from st_pipelines.warehouse.store.duckdb_file import DuckDBFile
from st_pipelines.warehouse.store.write_queue import Deadline, acquire
from st_pipelines_tests.warehouse.factories import Place, record

HOUR = 3600.0


def store_that_publishes_every(place: Place, seconds: float | None) -> DuckDBFile:
    return DuckDBFile(uri=str(place.file), wait_seconds=20, publish_seconds=seconds)


def rows(place: Place) -> list[tuple]:
    with duckdb.connect(str(place.warehouse.read_copy.path), read_only=True) as connection:
        return connection.execute("SELECT id FROM abc.things ORDER BY id").fetchall()


def files(place: Place) -> set[str]:
    return {path.name for path in place.folder.rglob("*.duckdb*") if ".lock" not in path.name}


def test_the_copy_equals_the_warehouse_and_is_made_once(place: Place) -> None:
    place.load([record(id=1)])
    made = place.warehouse.publish()
    assert made
    assert made.location == str(place.folder / "test_read.duckdb")
    assert made.bytes == place.file.stat().st_size
    assert 0 < made.held_seconds <= made.seconds < HOUR
    assert place.warehouse.read_copy.path.read_bytes() == place.file.read_bytes()
    assert rows(place) == [(1,)]
    assert place.warehouse.publish() is None
    place.load([record(id=2)])
    assert not place.warehouse.read_copy.is_current
    assert place.warehouse.publish()
    assert rows(place) == [(1,), (2,)]
    assert files(place) == {"test.duckdb", "test_read.duckdb"}
    assert list((place.folder / ".staging").iterdir()) == [place.folder / ".staging" / ".lock"]


def test_the_copy_is_made_where_the_kernel_cannot_copy(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: object) -> int:
        raise OSError(95, os.strerror(95))

    monkeypatch.setattr(os, "copy_file_range", unsupported)
    place.load([record(id=1)])
    place.warehouse.publish()
    assert place.warehouse.read_copy.path.read_bytes() == place.file.read_bytes()


@pytest.fixture(params=["same disk", "other disk"])
def replaced(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Files that were moved; whether all of their bytes had been synced to the disk before.

    On another disk than the copy's, a staged file cannot be moved and has to be copied.
    """
    synced, moves, fsync, replace = set[int](), list[bool](), os.fsync, os.replace

    def sync(descriptor: int) -> None:
        fsync(descriptor)
        synced.add(os.fstat(descriptor).st_ino)

    def move(source: Path, target: Path) -> None:
        if request.param == "other disk" and source.parent != target.parent:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        moves.append(source.stat().st_ino in synced)
        replace(source, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", move)
    return moves


def test_a_copy_is_on_the_disk_before_it_replaces_the_old_one(
    place: Place, replaced: list[bool]
) -> None:
    place.load([record(id=1)])
    copy = place.warehouse.read_copy
    left = copy.path.with_name(f".{copy.path.name}.new")
    for id_ in (1, 2):
        place.load([record(id=id_)])
        left.write_bytes(b"left by a publication whose process was killed")
        assert place.warehouse.publish()
        assert copy.path.read_bytes() == place.file.read_bytes()
        assert stat.S_IMODE(copy.path.stat().st_mode) == 0o400
        assert place.warehouse.publish() is None, "it has the time of the warehouse"
    assert replaced == [True, True]


@pytest.mark.usefixtures("replaced")
@pytest.mark.parametrize("failing", [1, 2], ids=["into staging", "beside the copy"])
def test_a_copy_that_fails_halfway_leaves_nothing_behind(
    place: Place, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    place.load([record(id=1)])
    place.warehouse.publish()
    place.load([record(id=2)])
    copy_bytes, calls = read_copy._copy_bytes, []

    def fill_the_disk(source: BinaryIO, target: BinaryIO) -> None:
        calls.append(target)
        if len(calls) == 2:
            assert not stat.S_IMODE(os.fstat(target.fileno()).st_mode) & 0o077, "others read it"
        if len(calls) == failing:
            target.write(b"half of it")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        copy_bytes(source, target)

    monkeypatch.setattr(read_copy, "_copy_bytes", fill_the_disk)
    try:
        place.warehouse.publish()
    except WarehouseFull:
        assert rows(place) == [(1,)]
    else:
        assert (len(calls), rows(place)) == (1, [(1,), (2,)]), "one copy was enough"
    assert files(place) == {"test.duckdb", "test_read.duckdb"}


def test_a_copy_is_not_current_while_the_warehouse_has_a_log(place: Place) -> None:
    """What is in the log is not yet in the file, whose size and time stay the same."""
    place.load([record(id=1)])
    place.warehouse.publish()
    log = place.file.with_name(place.file.name + ".wal")
    log.write_bytes(b"")
    assert place.warehouse.read_copy.is_current
    log.write_bytes(b"a change")
    assert not place.warehouse.read_copy.is_current


def test_a_reader_keeps_its_open_copy_and_a_new_reader_gets_the_new_one(place: Place) -> None:
    place.load([record(id=1)])
    place.warehouse.publish()
    code = "SELECT count(*) FROM abc.things"
    old = place.warehouse.read_copy.path.open("rb")  # as another process keeps it open
    before = old.read()
    place.load([record(id=2)])
    place.warehouse.publish()
    old.seek(0)
    assert old.read() == before
    old.close()
    with duckdb.connect(str(place.warehouse.read_copy.path), read_only=True) as connection:
        assert connection.execute(code).fetchall() == [(2,)]


@pytest.mark.parametrize("folder", [".", "missing"])
def test_a_query_before_the_first_load_names_the_warehouse(place: Place, folder: str) -> None:
    """A missing folder used to fail as FileNotFoundError, for the lock file in it."""
    file = place.folder / folder / "test.duckdb"
    with (
        pytest.raises(WarehouseUnusable, match=r"test\.duckdb does not exist yet"),
        DuckDBFile(uri=str(file)).read_only(),
    ):
        pass
    assert list(place.folder.iterdir()) == []


def test_readers_never_fail_while_the_copy_is_replaced(place: Place) -> None:
    place.load([record(id=0)])
    place.warehouse.publish()
    seen, failures, over = set(), [], threading.Event()

    def read() -> None:
        while not over.is_set():
            try:
                seen.add(len(rows(place)))
            except duckdb.Error as error:
                failures.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(1, 4):
        place.load([record(id=number)])
        place.warehouse.publish()
    over.set()
    reader.join()
    assert not failures
    assert len(seen) > 1


def test_loads_continue_while_the_copy_is_read(place: Place) -> None:
    place.load([record(id=1)])
    place.warehouse.publish()
    with duckdb.connect(str(place.warehouse.read_copy.path), read_only=True) as connection:
        place.load([record(id=2)])
        place.warehouse.publish()
        assert connection.execute("SELECT count(*) FROM abc.things").fetchall() == [(1,)]


def test_loads_publish_no_more_often_than_publish_seconds(place: Place) -> None:
    place.load([record(id=1)])
    assert store_that_publishes_every(place, None).publish_if_due() is None
    assert not place.warehouse.read_copy.path.exists()
    assert store_that_publishes_every(place, HOUR).publish_if_due()
    place.load([record(id=2)])
    assert store_that_publishes_every(place, HOUR).publish_if_due() is None
    assert rows(place) == [(1,)]
    assert store_that_publishes_every(place, 1e-6).publish_if_due()
    assert rows(place) == [(1,), (2,)]
    assert store_that_publishes_every(place, 1e-6).publish_if_due() is None, (
        "nothing was loaded since"
    )


def test_of_concurrent_publishers_one_copies_and_loads_do_not_wait(place: Place) -> None:
    place.load([record(id=1)])
    with acquire(place.warehouse.read_copy.path, Deadline(0), "publishing"):
        assert store_that_publishes_every(place, HOUR).publish_if_due() is None
    made: list[Published | None] = []
    threads = [
        threading.Thread(target=lambda: made.append(place.warehouse.publish())) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [one is None for one in made].count(False) == 1


def test_a_copy_that_somebody_wrote_to_is_replaced_and_its_log_deleted(place: Place) -> None:
    place.load([record(id=1)])
    place.warehouse.publish()
    copy = place.warehouse.read_copy.path
    assert stat.S_IMODE(copy.stat().st_mode) == 0o400
    log = copy.with_name(copy.name + ".wal")
    log.write_bytes(b"of another state")
    place.load([record(id=2)])
    place.warehouse.publish()
    assert not log.exists()
    assert rows(place) == [(1,), (2,)]


def test_a_failed_publication_keeps_the_old_copy(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    place.load([record(id=1)])
    place.warehouse.publish()
    place.load([record(id=2)])
    monkeypatch.setattr(read_copy, "_copy_bytes", full)
    with pytest.raises(WarehouseFull, match="no space left"):
        place.warehouse.publish()
    assert rows(place) == [(1,)]
    assert files(place) == {"test.duckdb", "test_read.duckdb"}


def test_publishing_waits_for_the_warehouse_and_names_its_holder(place: Place) -> None:
    place.load([record(id=1)])
    impatient = DuckDBFile(uri=str(place.file), wait_seconds=0)
    with duckdb.connect(str(place.file)), pytest.raises(WarehouseBusy, match="in this process"):
        impatient.publish()
    with (
        acquire(place.file, Deadline(0), "jpm.jobs"),
        pytest.raises(WarehouseBusy, match=r"jpm\.jobs"),
    ):
        impatient.publish()


def test_publishing_without_a_warehouse_is_refused(place: Place) -> None:
    with pytest.raises(WarehouseUnusable, match="does not exist yet"):
        place.warehouse.publish()
    assert not place.file.exists()


def test_a_clock_set_back_does_not_stop_publishing(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.load([record(id=1)])
    place.warehouse.publish()
    place.load([record(id=2)])
    yesterday = time.time() - 24 * HOUR
    monkeypatch.setattr(time, "time", lambda: yesterday)
    assert store_that_publishes_every(place, HOUR).publish_if_due()
