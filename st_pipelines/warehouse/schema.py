"""Schemas and tables as the catalogue says; they grow with it and never shrink."""

from __future__ import annotations

from typing import Any

import duckdb

from st_pipelines.catalog.model import DataType, Endpoint, ListOf, StructOf
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
    grown = {
        name: united
        for name, type_ in _types(endpoint).items()
        if name in present
        and _spelled(united := _united(present[name], type_)) != _spelled(str(present[name]))
    }
    for name, type_ in grown.items():
        connection.execute(f"ALTER TABLE {table} ALTER {quote(name)} TYPE {type_}")
    return added + list(grown)


def _types(endpoint: Endpoint) -> dict[str, DataType]:
    return {field.column: field.type for field in endpoint.row_fields}


def _present(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint) -> dict[str, Any]:
    """Column to DuckDB's type object; empty when there is no table."""
    known = connection.execute(
        "SELECT count(*) FROM duckdb_tables() "
        "WHERE database_name = ? AND schema_name = ? AND table_name = ?",
        [ALIAS, endpoint.api, endpoint.name],
    ).fetchall()[0][0]
    if not known:
        return {}
    relation = connection.sql(f"FROM {qualified(endpoint)} LIMIT 0")
    return dict(zip(relation.columns, relation.types, strict=True))


def _united(present: Any, wanted: DataType) -> str:
    """The type with the members of both: what the catalogue no longer has is kept."""
    if isinstance(wanted, ListOf) and present.id == "list":
        return _united(present.children[0][1], wanted.item) + "[]"
    if isinstance(wanted, StructOf) and present.id == "struct":
        fields = {field.column: field.type for field in wanted.fields}
        members = {
            name: _united(type_, fields.pop(name)) if name in fields else str(type_)
            for name, type_ in present.children
        } | {name: table_type(type_) for name, type_ in fields.items()}
        return "STRUCT(" + ", ".join(f"{quote(n)} {t}" for n, t in members.items()) + ")"
    return table_type(wanted)


def _spelled(type_: str) -> str:
    """A type without what is spelled in two ways."""
    spelled = type_.replace("TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ")
    return spelled.replace('"', "").replace(" ", "").upper()
