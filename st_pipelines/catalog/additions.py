"""The user's own additions: fields that the packaged catalogue does not know, or knows otherwise.

A JSON file, `st_catalog.json` in the working directory unless `ST_CATALOG` names another. It has
the form of the catalogue's data files, with nothing but what is added, at any depth:

    {"accounting.invoices": {"items": [{"color": "VARCHAR"}], "poNumber": "BIGINT"}}

Fields that only the export feed of a collection serves stand under `(export)`, so that its list
leaves them alone: `{"jpm.jobs": {"(export)": {"leadSource": "VARCHAR"}}}`.

`st-pipelines catalog adopt` writes it, an editor may. Where it gives a field another type than the
package, the file's counts, as it is the one the tables were made with.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias, get_args

from st_pipelines.catalog.files import replace_files, type_from_json, type_to_json
from st_pipelines.catalog.model import (
    Catalog,
    DataType,
    Endpoint,
    Export,
    Field,
    ListOf,
    ScalarName,
    StructOf,
)
from st_pipelines.catalog.naming import find_column_conflict

Additions: TypeAlias = Mapping[str, StructOf]
"""Table to the fields that are added to it."""

EXPORT_ONLY = "(export)"
"""Stands for what only the export of a collection serves."""

_TYPES = get_args(ScalarName)


def read(file: Path) -> Additions:
    """The additions of a file; none where there is no file.

    Raises:
        ValueError: it is malformed; names the place and says what is expected there.
        OSError: it cannot be read.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: is no UTF-8 text: {error}") from None
    try:
        tables = json.loads(text, object_pairs_hook=_without_repetition)
    except ValueError as error:
        raise ValueError(f"{file}: is no JSON that can be used: {error}") from None
    if not isinstance(tables, dict):
        raise ValueError(f"{file}: expected an object of tables, {{'jpm.jobs': {{...}}}}")
    for table, columns in tables.items():
        if not isinstance(columns, dict):
            raise ValueError(f"{file}: {table}: expected an object of fields and types")
        _check_type(columns, f"{file}: {table}")
    return {table: StructOf(_fields(columns)) for table, columns in tables.items()}


def write(file: Path, additions: Additions) -> None:
    """Replaces the file at once, sorted at every depth. Raises OSError."""
    tables = {table: _sorted(type_to_json(additions[table])) for table in sorted(additions)}
    text = json.dumps(tables, indent=2, ensure_ascii=False) + "\n"
    replace_files(file.parent, {file.name: text})


def extend_catalog(catalog: Catalog, additions: Additions, file: Path) -> Catalog:
    """The catalogue with the additions in it.

    Args:
        catalog: the packaged one.
        additions: of the file.
        file: to be named in errors.

    Raises:
        ValueError: a table is unknown, or a field cannot have a column; names both.
    """
    endpoints = dict(catalog.endpoints)
    for table, added in additions.items():
        if table not in endpoints:
            near = difflib.get_close_matches(table, endpoints, n=1)
            hint = f"did you mean {near[0]}?" if near else "st-pipelines endpoints lists them"
            raise ValueError(f"{file}: there is no table {table!r}: {hint}")
        try:
            endpoints[table] = add_fields(endpoints[table], added)
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from None
    return Catalog(endpoints, catalog.left_out)


def add_fields(endpoint: Endpoint, added: StructOf) -> Endpoint:
    """The endpoint with more fields. Raises ValueError where one cannot have a column."""
    listed, exported = _by_source(added)
    columns = merge_types(StructOf(endpoint.columns), StructOf((*listed, *exported)))
    assert isinstance(columns, StructOf)
    grown = dataclasses.replace(
        endpoint, columns=columns.fields, export=_with_fields(endpoint, listed, exported)
    )
    for name in (*endpoint.key, *([endpoint.cursor] if endpoint.cursor else [])):
        path = name.split(".")
        if _type_at(grown.row_fields, path) != _type_at(endpoint.row_fields, path):
            raise ValueError(f"{endpoint.table}: {name} is its key or cursor, whose type is fixed")
    _check_columns(grown.row_fields, endpoint.table)
    return grown


def _by_source(added: StructOf) -> tuple[tuple[Field, ...], tuple[Field, ...]]:
    """Fields of the list, and fields of the export alone."""
    listed = tuple(field for field in added.fields if field.name != EXPORT_ONLY)
    types = [field.type for field in added.fields if field.name == EXPORT_ONLY]
    return listed, types[0].fields if types and isinstance(types[0], StructOf) else ()


def _with_fields(
    endpoint: Endpoint, listed: tuple[Field, ...], exported: tuple[Field, ...]
) -> Export | None:
    """The export with what it alone serves. What the list is known to serve is not among it."""
    if endpoint.export is None:
        if exported:
            raise ValueError(f"{endpoint.table}: it has no export for the fields of {EXPORT_ONLY}")
        return None
    known = {field.name for field in (*endpoint.row_fields, *listed)}
    more = tuple(field.name for field in exported if field.name not in known)
    return dataclasses.replace(endpoint.export, adds=(*endpoint.export.adds, *more))


def merge_types(known: DataType, added: DataType) -> DataType:
    """Objects with the members of both; of two types that differ otherwise, the added one."""
    if isinstance(known, StructOf) and isinstance(added, StructOf):
        members = {field.name: field for field in known.fields}
        for field in added.fields:
            before = members.get(field.name)
            type_ = merge_types(before.type, field.type) if before else field.type
            members[field.name] = Field(field.name, type_)
        return StructOf(tuple(members.values()))
    if isinstance(known, ListOf) and isinstance(added, ListOf):
        return ListOf(merge_types(known.item, added.item))
    return added


def find_redundant(catalog: Catalog, additions: Additions) -> list[str]:
    """Fields of the file that the packaged catalogue has just so: `jpm.jobs: customer.name`."""
    return [
        f"{table}: {path}"
        for table, added in sorted(additions.items())
        if table in catalog.endpoints
        for path in _known(_all_fields(catalog[table]), StructOf(sum(_by_source(added), ())), "")
    ]


def _fields(columns: Mapping[str, Any]) -> tuple[Field, ...]:
    return tuple(Field(name, type_from_json(type_)) for name, type_ in columns.items())


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r} is there twice")
    return found


def _check_type(value: Any, place: str) -> None:
    match value:
        case str() if value in _TYPES:
            return
        case [inner]:
            return _check_type(inner, f"{place}[]")
        case dict() if value:
            for name, inner in value.items():
                _check_type(inner, f"{place}: {name}")
            return
    raise ValueError(
        f"{place}: {json.dumps(value)} is no type: give one of {', '.join(_TYPES)}, a list of one "
        "type, or an object of members"
    )


def _sorted(value: Any) -> Any:
    match value:
        case dict():
            return {name: _sorted(value[name]) for name in sorted(value)}
        case list():
            return [_sorted(inner) for inner in value]
    return value


def _type_at(fields: tuple[Field, ...], path: list[str]) -> DataType | None:
    type_: DataType | None = StructOf(fields)
    for name in path:
        members = type_.fields if isinstance(type_, StructOf) else ()
        type_ = next((field.type for field in members if field.name == name), None)
    return type_


def _check_columns(fields: tuple[Field, ...], place: str) -> None:
    for number, field in enumerate(fields):
        if conflict := find_column_conflict(field.name, fields[:number]):
            raise ValueError(f"{place}: {field.name!r} cannot be adopted: {conflict}")
        type_ = field.type
        while isinstance(type_, ListOf):
            type_ = type_.item
        if isinstance(type_, StructOf):
            _check_columns(type_.fields, f"{place}: {field.name}")


def _all_fields(endpoint: Endpoint) -> StructOf:
    return StructOf((*endpoint.columns, *endpoint.row_fields))


def _known(packaged: DataType, added: DataType, path: str) -> Iterator[str]:
    match packaged, added:
        case StructOf(fields), StructOf(more):
            types = {field.name: field.type for field in fields}
            for field in more:
                if field.name in types:
                    where = f"{path}.{field.name}" if path else field.name
                    yield from _known(types[field.name], field.type, where)
        case ListOf(item), ListOf(more):
            yield from _known(item, more, f"{path}[]")
        case _ if packaged == added:
            yield path
