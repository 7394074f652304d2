"""Schemas and tables as the catalogue says; they grow with it and never shrink."""

from __future__ import annotations

import duckdb

from st_pipelines.catalog.model import Endpoint
from st_pipelines.warehouse.columns import OWN_COLUMNS, quote, table_type
from st_pipelines.warehouse.connect import ALIAS


def qualified(endpoint: Endpoint) -> str:
    """The endpoint's table in the attached warehouse, quoted."""
    return f"{ALIAS}.{quote(endpoint.api)}.{quote(endpoint.name)}"


def columns_of(endpoint: Endpoint) -> dict[str, str]:
    """Column to DuckDB type, the API's first, then ours (with an underscore)."""
    return {f.column: table_type(f.type) for f in endpoint.row_fields} | OWN_COLUMNS


def ensure_table(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint) -> list[str]:
    """Creates the table, or adds the columns and struct members that it lacks.

    Returns:
        The names of added columns; of all when the table is new.
    """
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {ALIAS}.{quote(endpoint.api)}")
    wanted = columns_of(endpoint)
    table = qualified(endpoint)
    present = _present(connection, endpoint)
    if not present:
        body = ", ".join(f"{quote(name)} {type_}" for name, type_ in wanted.items())
        connection.execute(f"CREATE TABLE {table} ({body})")
        return list(wanted)
    added = [name for name in wanted if name not in present]
    for name in added:
        connection.execute(f"ALTER TABLE {table} ADD COLUMN {quote(name)} {wanted[name]}")
    grown = [name for name in wanted if name in present and _differs(present[name], wanted[name])]
    for name in grown:
        connection.execute(f"ALTER TABLE {table} ALTER {quote(name)} TYPE {wanted[name]}")
    return added + grown


def _present(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint) -> dict[str, str]:
    rows = connection.execute(
        "SELECT column_name, data_type FROM duckdb_columns() "
        "WHERE database_name = ? AND schema_name = ? AND table_name = ? ORDER BY column_index",
        [ALIAS, endpoint.api, endpoint.name],
    ).fetchall()
    return dict(rows)


def _differs(present: str, wanted: str) -> bool:
    """Whether the types differ in more than spelling."""
    return _spelled(present) != _spelled(wanted)


def _spelled(type_: str) -> str:
    spelled = type_.replace("TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ")
    return spelled.replace('"', "").replace(" ", "").upper()
