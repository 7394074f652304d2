"""A load of a child list that is killed keeps the parents it had finished, and no half ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from st_pipelines.catalog.registry import load_catalog
from st_pipelines.sandbox.server import Sandbox
from st_pipelines.sync.sync import extract_load
from st_pipelines.warehouse.store.duckdb_file import DuckDBFile
from st_pipelines_tests import crash_harness
from st_pipelines_tests.children_reader import ALL, ChildReader
from st_pipelines_tests.churn_reader import build_context, comparable, table_rows
from st_pipelines_tests.crash_harness import PARENTS_PER_COMMIT, CrashPoint, Server, is_killed

NOTES, CUSTOMERS = load_catalog()["crm.customers_notes"], load_catalog()["crm.customers"]
READ = "st_pipelines.servicetitan.reading.children:_ChildReader.read"
NOTED = "st_pipelines.warehouse.tables.load:note_parents"
COMMIT = "st_pipelines.warehouse.store.duckdb_file:DuckDBFile.commit"

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
