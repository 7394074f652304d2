"""Running SQL of which one number or one row is wanted."""

from __future__ import annotations

from typing import Any

import duckdb


def changed(connection: duckdb.DuckDBPyConnection, sql: str, values: list | None = None) -> int:
    """Runs a statement that changes rows; returns how many."""
    row = connection.execute(sql, values or []).fetchone()
    return int(row[0]) if row else 0


def one(connection: duckdb.DuckDBPyConnection, sql: str, values: list | None = None) -> Any:
    """The only row of a query."""
    return connection.execute(sql, values or []).fetchall()[0]
