"""From GET operations to endpoints: one per collection, before curated facts replace derived ones.

A list and its export are one endpoint with the union of their columns, unless a column has
another type in each.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from st_pipelines.catalog.build.curated import CURATED, Curated
from st_pipelines.catalog.build.openapi import Operation
from st_pipelines.catalog.model import (
    DataType,
    DateFilter,
    Endpoint,
    Export,
    Field,
    Kind,
    ListOf,
    Scalar,
    StructOf,
)
from st_pipelines.catalog.naming import drop_conflicting

TIMES = (Scalar("TIMESTAMPTZ"), Scalar("DATE"))
"""Types of a cursor."""

_MOST = 5000


def drop_repeated(found: Iterable[tuple[str, Operation]]) -> list[Operation]:
    """The operations, each path once.

    Args:
        found: file name and operation.

    Raises:
        ValueError: a path is described twice, and not in the same way.
    """
    known: dict[str, tuple[str, Operation]] = {}
    for file, operation in found:
        before, same = known.setdefault(operation.path, (file, operation))
        if same != operation:
            raise ValueError(
                f"{before} and {file} describe {operation.path} in different ways: "
                "remove the older document from the folder"
            )
    return [operation for _, operation in known.values()]


def find_outdated(found: Iterable[Operation]) -> dict[str, str]:
    """Path to the reason, for each operation that has a later version beside it."""
    versions: dict[str, list[Operation]] = {}
    for operation in found:
        versions.setdefault(operation.unversioned, []).append(operation)
    return {
        older.path: f"older version of {newest.path}"
        for alike in versions.values()
        for newest in (max(alike, key=lambda one: one.version),)
        for older in alike
        if older is not newest
    }


def derive_endpoints(kept: Iterable[Operation], curated: Curated) -> Iterator[Endpoint]:
    """Lists, each with its export folded in, then the exports that have no list."""
    lists: list[Endpoint] = []
    exports: dict[str, Endpoint] = {}
    for endpoint in (_derive_endpoint(operation, curated) for operation in kept):
        if endpoint.envelope != "export":
            lists.append(endpoint)
        elif endpoint.table in exports:
            raise ValueError(table_name_conflict(endpoint, exports[endpoint.table]))
        else:
            exports[endpoint.table] = endpoint
    for endpoint in lists:
        export = exports.get(endpoint.table)
        if export:
            with contextlib.suppress(_Conflict):
                endpoint = _folded(endpoint, export)
                del exports[endpoint.table]
        yield endpoint
    tables = {endpoint.table for endpoint in lists}
    for table, export in exports.items():
        name = f"{export.name}_export" if table in tables else export.name
        yield dataclasses.replace(export, name=name)


def table_name_conflict(one: Endpoint, other: Endpoint) -> str:
    """The message for two operations that would share a table."""
    return (
        f"{one.path} and {other.path} would both be the table {one.table}: "
        f"give one a name, or leave one out, in {CURATED}"
    )


def _derive_endpoint(operation: Operation, curated: Curated) -> Endpoint:
    """The endpoint of a collection.

    Args:
        operation: a list or an export.
        curated: names the table, and the text that holds decimals.
    """
    query = operation.query
    columns = _timed(curated.retype(operation.api, operation.fields))
    types = {column.name: column.type for column in columns}
    is_timed = types.get("modifiedOn") in TIMES
    date_filter = _date_filter(query) if is_timed else None
    has_cursor = is_timed and (operation.shape == "export" or date_filter is not None)
    return Endpoint(
        api=operation.api,
        name=curated.name(operation),
        kind=_kind(operation, date_filter),
        path=operation.path,
        envelope=operation.shape,  # pyright: ignore[reportArgumentType]
        scope=operation.scope,
        columns=columns,
        key=("id",) if isinstance(types.get("id"), Scalar) else (),
        cursor="modifiedOn" if has_cursor else None,
        date_filter=date_filter,
        params=_params(query),
        sort=_sort(query, types),
        paged=operation.paged,
        includes_total="includeTotal" in query,
        ids="ids" in query,
        first_page=0 if _limit(query, "page", "minimum") == 0 else 1,
        max_page_size=_max_page_size(query),
    )


def _timed(columns: tuple[Field, ...]) -> tuple[Field, ...]:
    """The columns, with `modifiedOn` as a time even where a document calls it a string."""
    text = Field("modifiedOn", Scalar("VARCHAR"))
    time = Field("modifiedOn", Scalar("TIMESTAMPTZ"))
    return tuple(time if column == text else column for column in columns)


def _kind(operation: Operation, date_filter: DateFilter | None) -> Kind:
    if operation.shape == "export":
        return "feed"
    return "window" if date_filter else "snapshot"


def _date_filter(query: Mapping[str, object]) -> DateFilter | None:
    if {"modifiedOnOrAfter", "modifiedBefore"} <= query.keys():
        return DateFilter(lower="modifiedOnOrAfter", upper="modifiedBefore")
    return None


def _params(query: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """What every request asks for, so that the default filters leave nothing out."""
    params: dict[str, str] = {}
    for name, parameter in query.items():
        schema = parameter["schema"]
        text = f"{parameter['description']} {schema.get('enum', '')}"
        boolean = schema.get("type") == "boolean"
        if name == "active" and not boolean:
            params[name] = "Any"
        elif name == "activeState":
            params[name] = "All" if "All" in text else "Any"
        elif name == "activeOnly":
            params[name] = "false"
        elif boolean and re.match(r"include(?!Total$|RecentChanges$)", name):
            params[name] = "true"
    return params


def fields_to_sort_by(parameter: Mapping[str, Any]) -> str | None:
    """What a document lists for `sort`; None where it lists nothing."""
    if values := parameter["schema"].get("enum"):
        return " ".join(str(value) for value in values)
    listed = re.search(r"(?:fields are|Options|field):([^?]*)$", parameter["description"])
    return listed.group(1) if listed else None


def _sort(query: Mapping[str, Mapping[str, Any]], types: Mapping[str, DataType]) -> str | None:
    """`+Id` where the document offers it: ids are unique and never change."""
    if "sort" not in query or "id" not in types:
        return None
    values = [str(value) for value in query["sort"]["schema"].get("enum") or ()]
    if values:
        return next((value for value in values if value.lower() in ("+id", "id")), None)
    listed = fields_to_sort_by(query["sort"])
    offered = query["sort"]["description"] if listed is None else listed
    return "+Id" if re.search(r"\bid\b", offered, re.IGNORECASE) else None


def _max_page_size(query: Mapping[str, Mapping[str, Any]]) -> int:
    description = query.get("pageSize", {}).get("description", "")
    stated = re.search(r"[Mm]aximum value is (\d+)", description)
    limit = _limit(query, "pageSize", "maximum") or (stated and int(stated.group(1))) or _MOST
    return min(limit, _MOST)


def _limit(query: Mapping[str, Mapping[str, Any]], name: str, bound: str) -> int | None:
    """A bound of a parameter; None where the document gives no number for it."""
    value = query.get(name, {}).get("schema", {}).get(bound)
    return int(value) if isinstance(value, int | float) else None


def _folded(endpoint: Endpoint, export: Endpoint) -> Endpoint:
    """The list with what its export adds.

    Raises:
        _Conflict: a field has one type here and another there, or the key or the cursor would
            have no type of its own.
    """
    columns = drop_conflicting(_union(endpoint.columns, export.columns))
    fixed = {*endpoint.key, endpoint.cursor}
    if {f for f in endpoint.columns if f.name in fixed} - set(columns):
        raise _Conflict
    kept = {column.name for column in columns}
    adds = tuple(name for name in _names_missing(export, endpoint) if name in kept)
    lacks = _names_missing(endpoint, export)
    return dataclasses.replace(
        endpoint,
        columns=columns,
        export=Export(path=export.path, params=export.params, adds=adds, lacks=lacks),
    )


def _names_missing(one: Endpoint, other: Endpoint) -> tuple[str, ...]:
    """Names of the fields that one has and the other has not."""
    names = {column.name for column in other.columns}
    return tuple(column.name for column in one.columns if column.name not in names)


def _union(left: tuple[Field, ...], right: tuple[Field, ...]) -> tuple[Field, ...]:
    """All fields of both, in the order of the left.

    Raises:
        _Conflict: a field has one type here and another there.
    """
    other = {field.name: field for field in right}
    united = [
        Field(field.name, _united(field.type, other.pop(field.name, field).type)) for field in left
    ]
    return (*united, *other.values())


def _united(left: DataType, right: DataType) -> DataType:
    """The type that holds what either holds; JSON holds everything."""
    match left, right:
        case _ if left == right:
            return left
        case (Scalar("JSON"), _) | (_, Scalar("JSON")):
            return Scalar("JSON")
        case StructOf(these), StructOf(those):
            return StructOf(drop_conflicting(_union(these, those)))
        case ListOf(this), ListOf(that):
            return ListOf(_united(this, that))
    raise _Conflict


class _Conflict(Exception):
    """List and export serve different things under one name."""
