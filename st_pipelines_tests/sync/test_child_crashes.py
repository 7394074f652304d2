"""A load of a child list that is killed keeps the parents it had finished, and no half ones."""

from __future__ import annotations

import os
import random
import signal
import threading
from pathlib import Path

import pytest
from starlette.requests import Request

from st_pipelines.catalog.registry import load_catalog
from st_pipelines.sandbox.server import Sandbox
from st_pipelines.sync.sync import extract_load
from st_pipelines.warehouse.store.duckdb_file import DuckDBFile
from st_pipelines_tests import crash_harness
from st_pipelines_tests.children_reader import ALL, ChildReader
from st_pipelines_tests.churn_reader import build_context, comparable, table_rows
from st_pipelines_tests.conftest import NOW
from st_pipelines_tests.crash_harness import (
    PAGE_SIZE,
    PARENTS_PER_COMMIT,
    CrashPoint,
    Server,
    is_killed,
)
from st_pipelines_tests.deadlines import DEADLINE

NOTES, CUSTOMERS = load_catalog()["crm.customers_notes"], load_catalog()["crm.customers"]
READ = "st_pipelines.servicetitan.reading.children:_ChildReader.read"
NOTED = "st_pipelines.warehouse.tables.load:note_parents"
COMMIT = "st_pipelines.warehouse.store.duckdb_file:DuckDBFile.commit"
ATTACH = "st_pipelines.warehouse.store.duckdb_file:_attach"
MERGED = "st_pipelines.warehouse.tables.load:_merge"
LOGGED = "st_pipelines.warehouse.tables.load_log:write_load_record"

POINTS = {
    "in the first batch": (CrashPoint(READ, call=3), 0),
    "in a later batch": (CrashPoint(READ, call=2 * PARENTS_PER_COMMIT + 2), 2),
    "before parents are noted": (CrashPoint(NOTED, call=2), 1),
    "before a commit": (CrashPoint(COMMIT, call=3), 2),
    "after a commit": (CrashPoint(COMMIT, after=True, call=3), 3),
}
"""Where the process dies, and how many batches it has committed by then."""


def read_finished(file: Path) -> tuple[set[str], set[str]]:
    """The parents that count as read, and those that have children."""
    with DuckDBFile(uri=str(file), wait_seconds=5).read_only() as connection:
        names = "SELECT table_name FROM duckdb_tables()"
        if ("child_reads",) not in connection.execute(names).fetchall():
            return set(), set()
        noted = connection.execute("SELECT parent_key FROM _st.child_reads").fetchall()
        loaded = connection.execute(f"SELECT customer_id::VARCHAR FROM {NOTES.table}").fetchall()
    return {key for (key,) in noted}, {key for (key,) in loaded}


@pytest.mark.parametrize(("point", "batches"), POINTS.values(), ids=POINTS)
def test_a_first_load_that_is_killed_goes_on_with_the_parents_that_are_left(
    own_sandbox: Sandbox, tmp_path: Path, point: CrashPoint, batches: int
) -> None:
    file, server = tmp_path / "x.duckdb", Server.from_sandbox(own_sandbox)
    extract_load(build_context(own_sandbox, file), CUSTOMERS, ALL)
    assert is_killed(crash_harness.load_children, server, file, NOTES.table, point)
    finished, loaded = read_finished(file)
    assert len(finished) == batches * PARENTS_PER_COMMIT
    assert loaded <= finished

    before = len(own_sandbox.seen)
    extract_load(build_context(own_sandbox, file), NOTES, None)

    requested = [request.path.split("/")[-2] for request in list(own_sandbox.seen)[before:]]
    requested = [id_ for id_ in requested if id_.isdecimal()]
    customers = {str(record["id"]) for record in own_sandbox.world.records(CUSTOMERS.table)}
    assert sorted(requested) == sorted(customers - finished)
    expected = ChildReader(own_sandbox).expected_rows(file, NOTES)
    assert comparable(table_rows(file, NOTES, "_deleted_at IS NULL")) == comparable(expected)


KILLS = 30


class Executioner:
    """Runs loads, and kills each with SIGKILL when the sandbox gets its n-th request for notes.

    Attributes:
        requested: ids of the customers whose notes the current load has requested. A request that
            the last one sent before it was killed may be among them.
    """

    def __init__(self) -> None:
        self.requested: list[str] = []
        self._last, self._pid = 0, 0
        self._known = threading.Event()

    def see(self, request: Request) -> None:
        """An interceptor of the sandbox."""
        parts = request.url.path.split("/")
        if parts[-1] != "notes" or int(request.query_params["pageSize"]) != PAGE_SIZE:
            return
        self.requested.append(parts[-2])
        if len(self.requested) == self._last and self._known.wait(DEADLINE):
            os.kill(self._pid, signal.SIGKILL)

    def run(self, server: Server, file: Path, point: CrashPoint | int) -> bool:
        """Runs a load; returns whether it was killed at the point, or at the request."""
        self._last = 0
        self._known.clear()
        self.requested = []
        self._last = point if isinstance(point, int) else 0
        crash = None if isinstance(point, int) else point
        process = crash_harness.start_process(
            crash_harness.load_children, server, file, NOTES.table, crash
        )
        self._pid = process.pid or 0
        self._known.set()
        process.join(DEADLINE)
        return process.exitcode == -signal.SIGKILL


def choose_moment(rng: random.Random) -> CrashPoint | int:
    """A number of requests, or a call around the writing of a batch."""
    if rng.random() < 0.5:
        return rng.randint(1, 4 * PARENTS_PER_COMMIT)
    function = rng.choice([NOTED, COMMIT, ATTACH, MERGED, LOGGED])
    return CrashPoint(function, after=rng.random() < 0.5, call=rng.randint(1, 3))


def test_a_first_load_that_is_killed_thirty_times_requests_no_finished_parent_again(
    tmp_path: Path,
) -> None:
    """Each process goes on where the last was killed, and none leaves half the notes of a parent.

    A parent is finished when its notes were committed before a kill.
    """
    file, rng, killer = tmp_path / "x.duckdb", random.Random(11), Executioner()
    with Sandbox(customers=300, now=NOW, requests_per_second=1e9) as sandbox:
        server = Server.from_sandbox(sandbox)
        extract_load(build_context(sandbox, file), CUSTOMERS, ALL)
        served: dict[str, list[tuple]] = {}
        position = [column.name for column in NOTES.row_fields].index("customerId")
        for row in ChildReader(sandbox).expected_rows(file, NOTES):
            served.setdefault(str(row[position]), []).append(row)
        customers = {str(record["id"]) for record in sandbox.world.records(CUSTOMERS.table)}
        sandbox.interceptors.append(killer.see)
        finished = set[str]()

        for number in range(KILLS):
            point = choose_moment(rng)
            assert killer.run(server, file, point), f"the load was over before {point}"
            assert not finished & set(killer.requested), f"requested again before {point}"
            now, _ = read_finished(file)
            assert finished <= now, f"{point} has undone what was finished"
            finished = now
            held = comparable(table_rows(file, NOTES)) if finished else []
            expected = comparable(row for id_ in finished for row in served.get(id_, ()))
            assert held == expected, f"kill {number}, {point}: the notes are not those of {now}"
        before = len(sandbox.seen)
        extract_load(build_context(sandbox, file), NOTES, None)
        rest = [
            request.path.split("/")[-2]
            for request in sandbox.seen[before:]
            if request.path.endswith("/notes") and int(request.query["pageSize"]) != PAGE_SIZE
        ]

    assert finished
    assert sorted(rest) == sorted(customers - finished)
    expected = comparable(row for rows in served.values() for row in rows)
    assert comparable(table_rows(file, NOTES)) == expected
