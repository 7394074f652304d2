"""Reads a table and its load log without the code under test, for `promises`."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

import duckdb

from st_pipelines.catalog.model import Endpoint
from st_pipelines_tests.churn_reader import render_cell
from st_pipelines_tests.promises import LogLine, Row


@functools.cache
def _connect() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(config={"threads": 1})
    connection.execute("SET TimeZone = 'UTC'")
    return connection


@contextlib.contextmanager
def opened(file: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection to a file, which is only attached, as that costs a tenth of an instance."""
    connection = _connect()
    connection.execute(f"ATTACH '{file}' AS opened (READ_ONLY)")
    try:
        connection.execute("USE opened")
        yield connection
    finally:
        connection.execute("USE memory")
        connection.execute("DETACH opened")


def read_table(file: Path, endpoint: Endpoint) -> tuple[list[Row], Sequence[LogLine]]:
    """All rows of a table, and its lines of the load log; nothing where there is no file yet.

    Columns that the table does not have yet are NULL.
    """
    if not file.exists():
        return [], ()
    with opened(file) as connection:
        names = connection.execute(
            "SELECT column_name FROM duckdb_columns() WHERE database_name = 'opened' "
            "AND schema_name = ? AND table_name = ?",
            [endpoint.api, endpoint.name],
        ).fetchall()
        if not names:
            return [], ()
        present = {name for (name,) in names}
        columns = [f'"{f.column}"' if f.column in present else "NULL" for f in endpoint.row_fields]
        found = connection.execute(
            f"SELECT _deleted_at IS NOT NULL, _partition_date, {', '.join(columns)} "
            f"FROM {endpoint.table}"
        ).fetchall()
        log = connection.execute(
            "SELECT window_start, window_end, loaded_at FROM _st.loads"
        ).fetchall()
    rows = [
        Row(marked=marked, day=day, cells=tuple(map(render_cell, cells)))
        for marked, day, *cells in found
    ]
    return rows, [LogLine(start=start, end=end, loaded_at=at) for start, end, at in log]


def read_window_end(file: Path, run_id: str) -> datetime | None:
    """The end of the last window that a run has committed; None if it has none."""
    sql = "SELECT max(window_end) FROM _st.loads WHERE run_id = ?"
    with opened(file) as connection:
        return connection.execute(sql, [run_id]).fetchall()[0][0]


def read_run_ids(file: Path) -> list[str]:
    """The runs that have committed something, in the order of their commits."""
    if not file.exists():
        return []
    with opened(file) as connection:
        tables = connection.execute(
            "SELECT 1 FROM duckdb_tables() WHERE database_name = 'opened' "
            "AND schema_name = '_st' AND table_name = 'loads'"
        ).fetchall()
        if not tables:
            return []
        found = connection.execute(
            "SELECT run_id FROM _st.loads GROUP BY run_id ORDER BY max(sequence)"
        ).fetchall()
    return [run_id for (run_id,) in found]
