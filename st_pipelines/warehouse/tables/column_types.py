"""Converts columns between the types that two editions of the catalog give them.

`fill_from` fills a column of a new type from the one that was set aside. `fit_to_table` gives
staged rows the types of a table that another edition has made. A value is converted if it can be
converted back to the same text; others go to `_extra`.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Iterator
from typing import Any

import duckdb

from st_pipelines.catalog.model import DataType, Endpoint, Field, ListOf, Scalar, StructOf
from st_pipelines.warehouse.columns import DECIMAL, EXTRA, literal, quote, table_type
from st_pipelines.warehouse.staging import json_path

_STAGED = ("staged", "export_rows")
_TIMESTAMPTZ = "TIMESTAMP WITH TIME ZONE"
_AS_WRITTEN = ("BIGINT", "DOUBLE", "BOOLEAN", "JSON", DECIMAL)
"""Types whose values are JSON when they are cast to text."""

_SPELLINGS = {
    DECIMAL: r"-?(0|[1-9]\d{0,27})(\.\d{1,10})?",
    "DATE": r"\d{4}-\d\d-\d\d(T00:00:00)?",
    _TIMESTAMPTZ: r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)",
}
"""Texts that these types hold exactly, although they spell them otherwise."""


def fill_from(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    field: Field,
    old: str,
    types: tuple[str, str],
) -> None:
    """Fills a new column with the values of another one.

    Args:
        table: qualified and quoted; has both columns and `_extra`.
        field: of the new column.
        old: the other column, quoted.
        types: of the old column and of the new one.
    """
    value, fits = _convert(old, *types)
    connection.execute(
        f"UPDATE {table} SET {quote(field.column)} = CASE WHEN {fits} THEN {value} END, "
        f"{EXTRA} = CASE WHEN {fits} THEN {EXTRA} ELSE {_put_into_extra(field, old, types[0])} END "
        f"WHERE {old} IS NOT NULL"
    )


def fit_to_table(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, table: str) -> Endpoint:
    """Converts staged rows to the types of their table, where another edition has made a column.

    The converted rows are temporary tables, which hide those they replace until `forget_fitted`.

    Args:
        table: the endpoint's, qualified and quoted.

    Returns:
        The endpoint with the table's types.
    """
    relation = connection.sql(f"FROM {table} LIMIT 0")
    present = dict(zip(relation.columns, relation.types, strict=True))
    other = {
        f.column: (f, present[f.column])
        for f in endpoint.row_fields
        if f.column in present and _has_other_scalars(present[f.column], f.type)
    }
    if not other:
        return endpoint
    for rows in _find_staged(connection):
        selected = ", ".join(
            f"{value} AS {quote(column)}" for column, value in _build_values(other).items()
        )
        connection.execute(
            f"CREATE TEMP TABLE {rows} AS SELECT * REPLACE ({selected}) "
            f"FROM {quote(_database(connection))}.main.{rows} ORDER BY rowid"
        )
    fields = tuple(
        Field(f.name, _to_catalog_type(present[f.column])) if f.column in other else f
        for f in endpoint.row_fields
    )
    return dataclasses.replace(endpoint, columns=fields, explode=None)


def forget_fitted(connection: duckdb.DuckDBPyConnection) -> None:
    """Drops what `fit_to_table` has made; call it after the load's transaction."""
    for rows in _STAGED:
        connection.execute(f"DROP TABLE IF EXISTS temp.main.{rows}")


def _find_staged(connection: duckdb.DuckDBPyConnection) -> list[str]:
    found = connection.execute(
        "SELECT table_name FROM duckdb_tables() WHERE database_name = current_database()"
    ).fetchall()
    return [name for name in _STAGED if (name,) in found]


def _database(connection: duckdb.DuckDBPyConnection) -> str:
    return connection.execute("SELECT current_database()").fetchall()[0][0]


def _build_values(other: dict[str, tuple[Field, Any]]) -> dict[str, str]:
    """SQL for the columns to replace, `_extra` among them."""
    values, extra = {}, EXTRA
    for column, (field, type_) in other.items():
        staged = table_type(field.type)
        value, fits = _convert(quote(column), staged, str(type_))
        values[column] = f"CASE WHEN {fits} THEN {value} END"
        into_extra = _put_into_extra(field, quote(column), staged, extra)
        extra = f"CASE WHEN {quote(column)} IS NULL OR {fits} THEN {extra} ELSE {into_extra} END"
    return values | {EXTRA: extra}


def _has_other_scalars(present: Any, wanted: DataType) -> bool:
    """Whether a scalar has another type, at any depth. Members of one side only do not count."""
    match wanted:
        case ListOf(item) if present.id == "list":
            return _has_other_scalars(present.children[0][1], item)
        case StructOf(fields) if present.id == "struct":
            members = dict(present.children)
            return any(
                _has_other_scalars(members[f.column], f.type) for f in fields if f.column in members
            )
    return str(present) != _spell(table_type(wanted))


def _convert(column: str, old: str, new: str) -> tuple[str, str]:
    """SQL for the value in the new type, and for whether that holds it exactly."""
    old, new = _spell(old), _spell(new)
    if new == "VARCHAR":
        return as_text(column, old), "true"
    if not (_can_cast(old, new) and _can_cast(new, old)):
        return f"NULL::{new}", "false"
    value = f"TRY_CAST({column} AS {new})"
    same = f"CAST(TRY_CAST({value} AS {old}) AS VARCHAR) = CAST({column} AS VARCHAR)"
    if old == "VARCHAR" and new in _SPELLINGS:
        same = f"regexp_full_match({column}, {literal(_SPELLINGS[new])})"
    return value, f"coalesce({value} IS NOT NULL AND {same}, false)"


def as_text(column: str, old: str) -> str:
    """SQL for a scalar as text: a string in JSON without its quotes, a decimal without zeros."""
    match old:
        case "JSON":
            text = f"json_extract_string({column}, '$')"
            return (
                f"CASE WHEN json_type({column}) = 'VARCHAR' THEN {text} ELSE {column}::VARCHAR END"
            )
        case "DECIMAL(38,10)":
            return rf"regexp_replace({column}::VARCHAR, '\.?0+$', '')"
    return f"CAST({column} AS VARCHAR)"


def _put_into_extra(field: Field, column: str, type_: str, extra: str = EXTRA) -> str:
    """SQL for an `_extra` with the value under its path, unless it has a value there."""
    path = json_path.append_member("", field.name)
    member = literal(json.dumps(path, ensure_ascii=False) + ":")
    value = f"CAST({column} AS VARCHAR)"
    if type_ not in _AS_WRITTEN:
        value = f"CAST(to_json({value if _is_scalar(type_) else column}) AS VARCHAR)"
    text = f"CAST({extra} AS VARCHAR)"
    return (
        f"(CASE WHEN {text} IS NULL OR {text} = '{{}}' THEN '{{' || {member} || {value} || '}}' "
        f"WHEN list_contains(json_keys({text}), {literal(path)}) THEN {text} "
        f"ELSE '{{' || {member} || {value} || ',' || substr({text}, 2) END)::JSON"
    )


def _is_scalar(type_: str) -> bool:
    return not type_.startswith("STRUCT(") and not type_.endswith("[]")


@functools.lru_cache(maxsize=256)
def _can_cast(old: str, new: str) -> bool:
    with duckdb.connect() as connection:  # an error would end the load's transaction
        try:
            connection.execute(f"SELECT TRY_CAST(c AS {new}) FROM (SELECT NULL::{old} AS c)")
        except duckdb.Error:
            return False
    return True


def _spell(type_: str) -> str:
    return _TIMESTAMPTZ if type_ == "TIMESTAMPTZ" else type_


def _to_catalog_type(type_: Any) -> DataType:
    if type_.id == "list":
        return ListOf(_to_catalog_type(type_.children[0][1]))
    if type_.id == "struct":
        return StructOf(tuple(_members(type_)))
    name = str(type_)
    if name.startswith("DECIMAL"):
        name = "DECIMAL"
    return Scalar("TIMESTAMPTZ" if name == _TIMESTAMPTZ else name)  # pyright: ignore[reportArgumentType]


def _members(type_: Any) -> Iterator[Field]:
    for name, member in type_.children:
        yield Field(name, _to_catalog_type(member))
