"""A row's columns as the JSON that they came from, so that it can be loaded once more.

Only what a column holds comes back: NULL members are left out, decimals and times are text.
"""

from __future__ import annotations

from typing import Any

from st_pipelines.catalog.model import DataType, Field, ListOf, Scalar, ScalarName, StructOf
from st_pipelines.warehouse.columns import quote
from st_pipelines.warehouse.staging.conform import decode_exactly

_AS_THEY_ARE = ("BIGINT", "DOUBLE", "BOOLEAN", "VARCHAR")
_NAMES: dict[str, ScalarName] = {"TIMESTAMP WITH TIME ZONE": "TIMESTAMPTZ"}


def carried(present: Any) -> str:
    """The type to cast a column to, so that Python gets all of it.

    Args:
        present: DuckDB's type object of the column.
    """
    if present.id == "struct":
        members = (f"{quote(name)} {carried(type_)}" for name, type_ in present.children)
        return f"STRUCT({', '.join(members)})"
    if present.id == "list":
        return carried(present.children[0][1]) + "[]"
    return str(present) if str(present) in _AS_THEY_ARE else "VARCHAR"


def as_served(value: Any, present: Any, type_: DataType) -> Any:
    """The JSON value of a column.

    Args:
        value: of the column, cast to `carried(present)`.
        present: DuckDB's type object of the column.
        type_: what `with_members_of` gave for it.
    """
    if value is None:
        return None
    if isinstance(type_, StructOf) and present.id == "struct":
        types, fields = dict(present.children), {field.column: field for field in type_.fields}
        return {
            fields[name].name: as_served(member, types[name], fields[name].type)
            for name, member in value.items()
            if member is not None
        }
    if isinstance(type_, ListOf) and present.id == "list":
        return [as_served(item, present.children[0][1], type_.item) for item in value]
    if str(present) == "JSON":
        return decode_exactly(value)
    if str(present) == "TIMESTAMP WITH TIME ZONE":
        return value.replace(" ", "T", 1).removesuffix("+00") + "Z"
    return value


def with_members_of(type_: DataType, present: Any) -> DataType:
    """The catalogue's type with the members that only the table still has.

    A table never shrinks, so it may hold members that an earlier catalogue knew; they pass under
    the names of their columns.
    """
    if isinstance(type_, ListOf) and present.id == "list":
        return ListOf(with_members_of(type_.item, present.children[0][1]))
    if isinstance(type_, StructOf) and present.id == "struct":
        types = dict(present.children)
        known = tuple(
            Field(f.name, with_members_of(f.type, types.pop(f.column)) if f.column in types
                  else f.type)
            for f in type_.fields
        )  # fmt: skip
        return StructOf((*known, *(Field(name, _type_of(left)) for name, left in types.items())))
    return type_


def _type_of(present: Any) -> DataType:
    if present.id == "struct":
        return StructOf(tuple(Field(name, _type_of(type_)) for name, type_ in present.children))
    if present.id == "list":
        return ListOf(_type_of(present.children[0][1]))
    name = str(present)
    return Scalar("DECIMAL" if name.startswith("DECIMAL") else _NAMES.get(name, name))  # pyright: ignore[reportArgumentType]
