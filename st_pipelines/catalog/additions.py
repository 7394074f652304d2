"""Reads, writes and applies the user's additions to the packaged catalog.

Additions are fields that the catalog lacks, or has with another type. They are in a JSON file:
`st_catalog.json` in the working directory, or the file that `ST_CATALOG`
names. It has the form of the catalog's data files and contains only the additions, at any depth:

    {"accounting.invoices": {"items": [{"color": "VARCHAR"}], "poNumber": "BIGINT"}}

Fields that only a collection's export feed serves are nested in `(export)`, so that the list is
not expected to serve them: `{"jpm.jobs": {"(export)": {"leadSource": "VARCHAR"}}}`.

`st-pipelines catalog adopt` writes the file; people may edit it. Where the file and the package
give a field different types, the file wins, because the tables were made with its types.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias, get_args

from st_pipelines.catalog.files import read_text, replace_files, type_from_json, type_to_json
from st_pipelines.catalog.model import (
    Catalog,
    DataType,
    Endpoint,
    Export,
    Field,
    ListOf,
    ScalarName,
    StructOf,
    find_column_conflict,
)

Additions: TypeAlias = Mapping[str, StructOf]
"""The added fields, by table."""

EXPORT_ONLY = "(export)"
"""The key of the fields that only the export serves."""

_TYPES = get_args(ScalarName)


def read(file: Path) -> Additions:
    """Reads the additions of a file; none if it does not exist.

    Raises:
        ValueError: the file is malformed; the message says where, and what is expected there.
        OSError: the file cannot be read.
    """
    text = read_text(file)
    if text is None:
        return {}
    try:
        tables = json.loads(text, object_pairs_hook=_reject_duplicates)
    except ValueError as error:
        raise ValueError(f"{file}: is not valid JSON: {error}") from None
    if not isinstance(tables, dict):
        raise ValueError(f"{file}: expected an object of tables, {{'jpm.jobs': {{...}}}}")
    for table, columns in tables.items():
        if not isinstance(columns, dict):
            raise ValueError(f"{file}: {table}: expected an object of fields and types")
        check_type(columns, f"{file}: {table}")
    return {table: StructOf(_fields(columns)) for table, columns in tables.items()}


def write(file: Path, additions: Additions) -> None:
    """Replaces the file atomically, sorted at every depth. Raises OSError."""
    tables = {table: _sorted(type_to_json(additions[table])) for table in sorted(additions)}
    text = json.dumps(tables, indent=2, ensure_ascii=False) + "\n"
    replace_files(file.parent, {file.name: text})


def extend_catalog(catalog: Catalog, additions: Additions, file: Path) -> Catalog:
    """Returns the catalog with the additions applied.

    Args:
        catalog: the packaged one.
        additions: as read from `file`.
        file: named in errors.

    Raises:
        ValueError: a table is unknown, or a field cannot have a column.
    """
    endpoints = dict(catalog.endpoints)
    for table, added in additions.items():
        if table not in endpoints:
            near = difflib.get_close_matches(table, endpoints, n=1)
            hint = f"did you mean {near[0]}?" if near else "st-pipelines endpoints lists them."
            raise ValueError(
                f"{file}: there is no table {table!r}: {hint} If you removed it from"
                " st_endpoints.yaml, remove its entry here too."
            )
        try:
            endpoints[table] = add_fields(endpoints[table], added)
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from None
    return Catalog(endpoints, catalog.left_out)


def add_fields(endpoint: Endpoint, added: StructOf) -> Endpoint:
    """Returns the endpoint with more fields.

    Raises:
        ValueError: a field cannot have a column, or would change the type of the key or cursor.
    """
    listed, exported = _by_source(added)
    columns = merge_types(StructOf(endpoint.columns), StructOf((*listed, *exported)))
    assert isinstance(columns, StructOf)
    extended = dataclasses.replace(
        endpoint, columns=columns.fields, export=_extend_export(endpoint, listed, exported)
    )
    fixed = (*endpoint.key, *([endpoint.cursor] if endpoint.cursor else []))
    if endpoint.untyped:
        given = all(type_at(added.fields, name.split(".")) is not None for name in fixed)
        _check_columns(extended.row_fields, endpoint.table)
        return dataclasses.replace(extended, untyped=not given)
    for name in fixed:
        path = name.split(".")
        if type_at(extended.row_fields, path) != type_at(endpoint.row_fields, path):
            raise ValueError(
                f"{endpoint.table}: {name} is its key or cursor, whose type cannot change"
            )
    _check_columns(extended.row_fields, endpoint.table)
    return extended


def _by_source(added: StructOf) -> tuple[tuple[Field, ...], tuple[Field, ...]]:
    """Returns the fields of the list, and those of the export alone."""
    listed = tuple(field for field in added.fields if field.name != EXPORT_ONLY)
    types = [field.type for field in added.fields if field.name == EXPORT_ONLY]
    return listed, types[0].fields if types and isinstance(types[0], StructOf) else ()


def _extend_export(
    endpoint: Endpoint, listed: tuple[Field, ...], exported: tuple[Field, ...]
) -> Export | None:
    """Adds to the export the fields that it alone serves."""
    if endpoint.export is None:
        if exported:
            raise ValueError(f"{endpoint.table}: it has no export, so {EXPORT_ONLY} cannot apply")
        return None
    known = {field.name for field in (*endpoint.row_fields, *listed)}
    more = tuple(field.name for field in exported if field.name not in known)
    return dataclasses.replace(endpoint.export, adds=(*endpoint.export.adds, *more))


def merge_types(known: DataType, added: DataType) -> DataType:
    """Merges objects and lists at every depth. Where types differ otherwise, the added one wins."""
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
    """Lists additions that the packaged catalog contains by now, as `jpm.jobs: customer.name`."""
    return [
        f"{table}: {path}"
        for table, added in sorted(additions.items())
        if table in catalog.endpoints
        for path in _find_known(
            _all_fields(catalog[table]), StructOf(sum(_by_source(added), ())), ""
        )
    ]


def _fields(columns: Mapping[str, Any]) -> tuple[Field, ...]:
    return tuple(Field(name, type_from_json(type_)) for name, type_ in columns.items())


def _reject_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        duplicate = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"duplicate name {duplicate!r}")
    return found


def check_type(value: Any, path: str) -> None:
    """Raises ValueError if a JSON value is not a type; `path` is its place, for the message."""
    match value:
        case str() if value in _TYPES:
            return
        case [inner]:
            return check_type(inner, f"{path}[]")
        case dict() if value:
            for name, inner in value.items():
                check_type(inner, f"{path}: {name}")
            return
    raise ValueError(
        f"{path}: {json.dumps(value)} is not a type: give one of {', '.join(_TYPES)}, "
        "a list of one type, or an object of fields"
    )


def _sorted(value: Any) -> Any:
    match value:
        case dict():
            return {name: _sorted(value[name]) for name in sorted(value)}
        case list():
            return [_sorted(inner) for inner in value]
    return value


def type_at(fields: tuple[Field, ...], path: list[str]) -> DataType | None:
    """Returns the type of the field at a path of served names; None if there is none."""
    type_: DataType | None = StructOf(fields)
    for name in path:
        members = type_.fields if isinstance(type_, StructOf) else ()
        type_ = next((field.type for field in members if field.name == name), None)
    return type_


def _check_columns(fields: tuple[Field, ...], path: str) -> None:
    for number, field in enumerate(fields):
        if conflict := find_column_conflict(field.name, fields[:number]):
            raise ValueError(f"{path}: {field.name!r} cannot be adopted: {conflict}")
        type_ = field.type
        while isinstance(type_, ListOf):
            type_ = type_.item
        if isinstance(type_, StructOf):
            _check_columns(type_.fields, f"{path}: {field.name}")


def _all_fields(endpoint: Endpoint) -> StructOf:
    return StructOf((*endpoint.columns, *endpoint.row_fields))


def _find_known(packaged: DataType, added: DataType, path: str) -> Iterator[str]:
    match packaged, added:
        case StructOf(fields), StructOf(more):
            types = {field.name: field.type for field in fields}
            for field in more:
                if field.name in types:
                    where = f"{path}.{field.name}" if path else field.name
                    yield from _find_known(types[field.name], field.type, where)
        case ListOf(item), ListOf(more):
            yield from _find_known(item, more, f"{path}[]")
        case _ if packaged == added:
            yield path
