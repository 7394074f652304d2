"""Writers of one warehouse wait in the order of arrival, up to a limit, and learn who holds it."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import duckdb
import pytest

from st_pipelines.warehouse.errors import Overtaken, WarehouseBusy
from st_pipelines.warehouse.store import write_queue
from st_pipelines.warehouse.store.duckdb_file import DuckDBFile
from st_pipelines.warehouse.store.write_queue import Deadline, acquire
from st_pipelines_tests.deadlines import DEADLINE, wait_until
from st_pipelines_tests.warehouse.factories import READ_LATER, Place, record

HOLDER = """
import sys
from pathlib import Path
from st_pipelines.warehouse.store.write_queue import Deadline, acquire
with acquire(Path(sys.argv[1]), Deadline(5), "jpm.jobs, run 7"):
    print("held", flush=True)
    sys.stdin.read()
"""
SHELL = """
import duckdb, sys
connection = duckdb.connect(sys.argv[1])
print("held", flush=True)
sys.stdin.read()
"""
PROBE = """
import duckdb, sys
try:
    duckdb.connect(sys.argv[1])
except duckdb.IOException:
    sys.exit(3)
"""


@contextmanager
def lock_holder(code: str, file: Path) -> Iterator[subprocess.Popen[str]]:
    """Runs a process that holds a lock until the `with` block ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(file)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def attach_at_once(place: Place) -> None:
    impatient = DuckDBFile(uri=str(place.file), wait_seconds=0)
    with duckdb.connect() as connection, impatient.attach(connection):
        pass


@pytest.fixture(params=["queue", "no locks here"])
def with_and_without_a_queue(request: pytest.FixtureRequest, monkeypatch) -> str:
    monkeypatch.setattr(write_queue, "_OFD_LOCKS", request.param == "queue")
    return request.param


def test_the_write_lock_is_granted_in_the_order_of_arrival(tmp_path: Path, monkeypatch) -> None:
    """With DuckDB's lock alone, one of eight retrying processes gets it nearly every time."""
    path, order, drawn = tmp_path / "x", [], []
    draw = write_queue._draw_number
    monkeypatch.setattr(
        write_queue, "_draw_number", lambda file: drawn.append(draw(file)) or drawn[-1]
    )

    def take(name: int) -> None:
        with acquire(path, Deadline(DEADLINE), "a load"):
            order.append(name)

    threads = []
    with acquire(path, Deadline(0), "first"):
        for name in range(6):
            threads.append(threading.Thread(target=take, args=(name,)))
            threads[-1].start()
            wait_until(lambda: len(drawn) == len(threads) + 1, "number drawn by the thread")
    for thread in threads:
        thread.join()
    assert order == list(range(6))


def test_two_writers_never_hold_the_lock_at_once(
    tmp_path: Path, with_and_without_a_queue: str
) -> None:
    inside, most = [], []

    def take() -> None:
        for _ in range(5):
            with acquire(tmp_path / "x", Deadline(DEADLINE), "a load"):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.001)
                inside.pop()

    threads = [threading.Thread(target=take) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1
    assert len(most) == 30


def test_the_holder_is_named_and_a_dead_process_holds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.duckdb"
    with lock_holder(HOLDER, path) as process:
        message = re.escape(f"held by process {process.pid} (-c: jpm.jobs, run 7): wait")
        with pytest.raises(WarehouseBusy, match=message), acquire(path, Deadline(0), "another"):
            pass
        process.kill()
        process.wait()
        with acquire(path, Deadline(0), "another"):
            pass


def test_everyone_in_the_queue_learns_the_foreign_holder(place: Place) -> None:
    """The first in the queue waits for DuckDB's lock; the others wait for the first."""
    place.load([record()])
    later = {"sequence": READ_LATER}
    waiting = threading.Thread(target=place.load, args=([record(id=2)],), kwargs=later)
    with lock_holder(SHELL, place.file) as shell:
        waiting.start()
        lock = place.file.with_name(place.file.name + ".lock")
        wait_until(lambda: f"process {shell.pid}" in lock.read_text(), "note of the holder")
        message = (
            rf"held by process \d+ \(.*abc\.things, run a run\), which .* waits: .*{shell.pid}"
        )
        with pytest.raises(WarehouseBusy, match=message):
            attach_at_once(place)
    waiting.join()
    assert place.query("SELECT id FROM abc.things ORDER BY id") == [(1,), (2,)]


def test_threads_of_one_process_wait_for_each_other(
    place: Place, with_and_without_a_queue: str
) -> None:
    def load(number: int) -> object:
        other = Place(place.folder, number=100 * number)
        for _ in range(5):  # an overtaken load reads again
            with suppress(Overtaken):
                return other.load([record(id=number)])

    threads = [threading.Thread(target=load, args=(number,)) for number in range(1, 6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert place.query("SELECT count(*) FROM abc.things") == [(5,)]


@pytest.mark.parametrize("look", ["check", "attach", "read"])
def test_inspecting_a_file_does_not_release_its_lock(place: Place, look: str) -> None:
    """Closing a file drops all locks that the process has on it."""
    place.load([record()])
    impatient = DuckDBFile(uri=str(place.file), wait_seconds=0)
    with duckdb.connect() as connection, place.warehouse.attach(connection):
        if look == "check":
            impatient.check()
        elif look == "attach":
            with pytest.raises(WarehouseBusy):
                attach_at_once(place)
        else:
            with pytest.raises(WarehouseBusy), impatient.read_only():
                pass
        assert subprocess.run([sys.executable, "-c", PROBE, str(place.file)]).returncode == 3


def test_the_users_own_connection_in_this_process_keeps_its_lock(place: Place) -> None:
    place.load([record()])
    impatient = DuckDBFile(uri=str(place.file), wait_seconds=0)
    with duckdb.connect(str(place.file)):
        with pytest.raises(WarehouseBusy, match="open in this process"):
            attach_at_once(place)
        with pytest.raises(WarehouseBusy, match="open in this process"), impatient.read_only():
            pass
        assert subprocess.run([sys.executable, "-c", PROBE, str(place.file)]).returncode == 3


@pytest.mark.parametrize("holder", [HOLDER, SHELL])
def test_a_long_wait_is_logged_once(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, holder: str
) -> None:
    place.load([record()])
    monkeypatch.setattr(write_queue, "QUIET_SECONDS", 0)
    warehouse = DuckDBFile(uri=str(place.file), wait_seconds=0.3)
    with (
        lock_holder(holder, place.file) as process,
        pytest.raises(WarehouseBusy),
        warehouse.read_only(),
    ):
        pass
    [message] = [entry.getMessage() for entry in caplog.records if "Waiting" in entry.getMessage()]
    assert message.startswith("Waiting for up to 0 s more: warehouse")
    assert f"process {process.pid}" in message
