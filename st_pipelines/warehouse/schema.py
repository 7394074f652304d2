"""Schemas and tables as the catalogue says; they grow with it and never shrink."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import duckdb

from st_pipelines.catalog.model import DataType, Endpoint, ListOf, StructOf
from st_pipelines.warehouse.columns import DECIMAL, OWN_COLUMNS, quote, table_type
from st_pipelines.warehouse.connect import ALIAS

_WIDENED = {
    DECIMAL: ("BIGINT",),
    "TIMESTAMPTZ": ("DATE",),
    "VARCHAR": ("BIGINT", "BOOLEAN", "DATE", "DOUBLE", "JSON", DECIMAL),
}
"""Type to those that it can take the place of without a loss."""


def qualified(endpoint: Endpoint) -> str:
    """The endpoint's table in the attached warehouse, quoted."""
    return f"{ALIAS}.{quote(endpoint.api)}.{quote(endpoint.name)}"


def columns_of(endpoint: Endpoint) -> dict[str, str]:
    """Column to DuckDB type, the API's first, then ours (with an underscore)."""
    return {f.column: table_type(f.type) for f in endpoint.row_fields} | OWN_COLUMNS


def has_table(connection: duckdb.DuckDBPyConnection, schema: str, name: str) -> bool:
    """Whether the attached warehouse has a table."""
    return bool(
        connection.execute(
            "SELECT count(*) FROM duckdb_tables() "
            "WHERE database_name = ? AND schema_name = ? AND table_name = ?",
            [ALIAS, schema, name],
        ).fetchall()[0][0]
    )


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
    grown = []
    for name, type_ in _types(endpoint).items():
        if name not in present:
            continue
        united = _united(present[name], type_)
        if united is None:
            _set_aside(connection, table, name, wanted[name], present)
        elif _spelled(united) != _spelled(str(present[name])):
            connection.execute(f"ALTER TABLE {table} ALTER {quote(name)} TYPE {united}")
        else:
            continue
        grown.append(name)
    return added + grown


def _types(endpoint: Endpoint) -> dict[str, DataType]:
    return {field.column: field.type for field in endpoint.row_fields}


def _present(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint) -> dict[str, Any]:
    """Column to DuckDB's type object; empty when there is no table."""
    if not has_table(connection, endpoint.api, endpoint.name):
        return {}
    relation = connection.sql(f"FROM {qualified(endpoint)} LIMIT 0")
    return dict(zip(relation.columns, relation.types, strict=True))


def _set_aside(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    name: str,
    type_: str,
    present: Mapping[str, Any],
) -> None:
    """Keeps a column under another name, as its new type could not hold what is in it."""
    number = next(n for n in itertools.count(1) if f"{name}_before_{n}" not in present)
    old = quote(f"{name}_before_{number}")
    connection.execute(f"ALTER TABLE {table} RENAME COLUMN {quote(name)} TO {old}")
    connection.execute(f"ALTER TABLE {table} ADD COLUMN {quote(name)} {type_}")


def _united(present: Any, wanted: DataType) -> str | None:
    """The type that holds both, with the members of both; None where there is none."""
    if isinstance(wanted, ListOf) and present.id == "list":
        item = _united(present.children[0][1], wanted.item)
        return None if item is None else item + "[]"
    if isinstance(wanted, StructOf) and present.id == "struct":
        return _united_struct(dict(present.children), wanted)
    name = table_type(wanted)
    if _spelled(str(present)) == _spelled(name) or _spelled(str(present)) in _WIDENED.get(name, ()):
        return name
    return None


def _united_struct(present: Mapping[str, Any], wanted: StructOf) -> str | None:
    fields = {field.column: field.type for field in wanted.fields}
    members = {
        name: _united(type_, fields.pop(name)) if name in fields else str(type_)
        for name, type_ in present.items()
    } | {name: table_type(type_) for name, type_ in fields.items()}
    if None in members.values():
        return None
    return "STRUCT(" + ", ".join(f"{quote(n)} {t}" for n, t in members.items()) + ")"


def _spelled(type_: str) -> str:
    """A type without what is spelled in two ways."""
    spelled = type_.replace("TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ")
    return spelled.replace('"', "").replace(" ", "").upper()
