"""Creates and extends tables as the catalog says. Columns are added, and never dropped.

Several hosts may load a table with several editions of the catalog. So a column gets the type that
holds the values of both, and keeps it, whichever edition loads next (`column_types` converts the
rows). Where no type holds both, the column is renamed to `<name>_before_1` (then `_before_2`), and
a new one is added and filled with the values that fit. An edition whose type a column
`<name>_before_1` has is the older one, and changes nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import duckdb

from st_pipelines.catalog.model import DataType, Endpoint, Field, ListOf, StructOf
from st_pipelines.warehouse.columns import DECIMAL, EXTRA, OWN_COLUMNS, quote, table_type
from st_pipelines.warehouse.store.base import ALIAS
from st_pipelines.warehouse.tables.column_types import as_text, fill_from

_WIDENED = {
    DECIMAL: ("BIGINT",),
    "TIMESTAMPTZ": ("DATE",),
    "VARCHAR": ("BIGINT", "BOOLEAN", "DATE", "DOUBLE", "JSON", DECIMAL),
}
"""Type to the types whose values it can hold without a loss."""


def qualified(endpoint: Endpoint) -> str:
    """The endpoint's table in the attached warehouse, quoted."""
    return f"{ALIAS}.{quote(endpoint.api)}.{quote(endpoint.name)}"


def has_table(connection: duckdb.DuckDBPyConnection, schema: str, name: str) -> bool:
    """Whether the attached warehouse has a table."""
    return bool(
        connection.execute(
            "SELECT count(*) FROM duckdb_tables() "
            "WHERE database_name = ? AND schema_name = ? AND table_name = ?",
            [ALIAS, schema, name],
        ).fetchall()[0][0]
    )


def is_in_warehouse(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint) -> bool:
    """Whether the warehouse has an endpoint's table.

    Args:
        connection: to the warehouse itself.
    """
    found = "SELECT 1 FROM duckdb_tables() WHERE schema_name = ? AND table_name = ?"
    return connection.execute(found, [endpoint.api, endpoint.name]).fetchone() is not None


def has_own_table(connection: duckdb.DuckDBPyConnection, name: str) -> bool:
    """Whether the warehouse has one of its own tables, such as `loads` for `_st.loads`.

    Args:
        connection: with the warehouse attached, or to the warehouse itself.
        name: within `_st`.
    """
    found = "SELECT 1 FROM duckdb_tables() WHERE schema_name = '_st' AND table_name = ?"
    return connection.execute(found, [name]).fetchone() is not None


def ensure_table(
    connection: duckdb.DuckDBPyConnection,
    endpoint: Endpoint,
    *,
    schema: str | None = None,
    name: str | None = None,
    own_columns: Mapping[str, str] = OWN_COLUMNS,
) -> list[str]:
    """Creates a table, or adds the columns and struct members that it lacks.

    Args:
        endpoint: whose columns the table has.
        schema, name: of the table; the endpoint's if None.
        own_columns: the types of the table's other columns.

    Returns:
        The names of added columns; of all when the table is new.
    """
    schema, name = schema or endpoint.api, name or endpoint.name
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {ALIAS}.{quote(schema)}")
    wanted = {f.column: table_type(f.type) for f in endpoint.row_fields} | dict(own_columns)
    table = f"{ALIAS}.{quote(schema)}.{quote(name)}"
    if not has_table(connection, schema, name):
        body = ", ".join(f"{quote(column)} {type_}" for column, type_ in wanted.items())
        connection.execute(f"CREATE TABLE {table} ({body})")
        return list(wanted)
    relation = connection.sql(f"FROM {table} LIMIT 0")
    present: dict[str, Any] = dict(zip(relation.columns, relation.types, strict=True))
    added = [column for column in wanted if column not in present]
    for column in added:
        connection.execute(f"ALTER TABLE {table} ADD COLUMN {quote(column)} {wanted[column]}")
    changed = []
    for field in endpoint.row_fields:
        before = present.get(field.column)
        if before is None or _normalize(str(before)) == _normalize(wanted[field.column]):
            continue
        if _change_type(connection, table, field, present):
            changed.append(field.column)
    return added + changed


def _change_type(
    connection: duckdb.DuckDBPyConnection, table: str, field: Field, present: Mapping[str, Any]
) -> bool:
    """Makes a column hold the field's values too; returns False if it can already."""
    column, type_ = field.column, present[field.column]
    if _was_set_aside(field, present):
        return False
    type_for_both = _unite(type_, field.type)
    if type_for_both is None:
        _set_aside(connection, table, field, present)
    elif _normalize(type_for_both) != _normalize(str(type_)):
        using = f" USING {as_text(quote(column), str(type_))}" if type_for_both == "VARCHAR" else ""
        connection.execute(f"ALTER TABLE {table} ALTER {quote(column)} TYPE {type_for_both}{using}")
    else:
        return False
    return True


def _was_set_aside(field: Field, present: Mapping[str, Any]) -> bool:
    """Whether the field's type is one that a later edition of the catalog has replaced."""
    wanted = _normalize(table_type(field.type))
    return any(
        _normalize(str(present[name])) == wanted
        for name in itertools.takewhile(present.__contains__, _aside_names(field))
    )


def _aside_names(field: Field) -> Iterator[str]:
    return (f"{field.column}_before_{n}" for n in itertools.count(1))


def _set_aside(
    connection: duckdb.DuckDBPyConnection, table: str, field: Field, present: Mapping[str, Any]
) -> None:
    """Renames a column whose new type cannot hold its values, and fills a new one with the rest."""
    name, type_ = quote(field.column), table_type(field.type)
    old = quote(next(n for n in _aside_names(field) if n not in present))
    connection.execute(f"ALTER TABLE {table} RENAME COLUMN {name} TO {old}")
    connection.execute(f"ALTER TABLE {table} ADD COLUMN {name} {type_}")
    if EXTRA in present:
        fill_from(connection, table, field, old, (str(present[field.column]), type_))


def _unite(present: Any, wanted: DataType) -> str | None:
    """The type that can hold values of both, with the members of both; None where there is none."""
    if isinstance(wanted, ListOf) and present.id == "list":
        item = _unite(present.children[0][1], wanted.item)
        return None if item is None else item + "[]"
    if isinstance(wanted, StructOf) and present.id == "struct":
        return _unite_struct(dict(present.children), wanted)
    name = table_type(wanted)
    before = _normalize(str(present))
    if before == _normalize(name) or before in _WIDENED.get(name, ()):
        return name
    if _normalize(name) in map(_normalize, _WIDENED.get(_spelled(before), ())):
        return str(present)
    return None


def _unite_struct(present: Mapping[str, Any], wanted: StructOf) -> str | None:
    fields = {field.column: field.type for field in wanted.fields}
    members = {
        name: _unite(type_, fields.pop(name)) if name in fields else str(type_)
        for name, type_ in present.items()
    } | {name: table_type(type_) for name, type_ in fields.items()}
    if None in members.values():
        return None
    return "STRUCT(" + ", ".join(f"{quote(n)} {t}" for n, t in members.items()) + ")"


def _spelled(normalized: str) -> str:
    return DECIMAL if normalized == _normalize(DECIMAL) else normalized


def _normalize(type_: str) -> str:
    """A type in one spelling, to compare with another."""
    normalized = type_.replace("TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ")
    return normalized.replace('"', "").replace(" ", "").upper()
