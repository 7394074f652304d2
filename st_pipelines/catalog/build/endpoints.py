"""Derives endpoints from GET operations, before curated facts are applied (see `fit`).

A list and its export become one endpoint with the columns of both, unless a column has a different
type in each. Also decides between repeated documents and between versions of an operation.
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
    EXTERNAL_DATA_PARAMETER,
    DataType,
    DateFilter,
    Endpoint,
    Export,
    Field,
    Kind,
    ListOf,
    Scalar,
    StructOf,
    drop_conflicting,
)

TIMES = (Scalar("TIMESTAMPTZ"), Scalar("DATE"))
"""Types that a cursor can have."""

_MAX_PAGE_SIZE = 5000


def drop_repeated(found: Iterable[tuple[str, Operation]]) -> list[Operation]:
    """Returns the operations with each path once.

    Args:
        found: file name and operation.

    Raises:
        ValueError: two documents describe the same path differently.
    """
    known: dict[str, tuple[str, Operation]] = {}
    for file, operation in found:
        before, same = known.setdefault(operation.path, (file, operation))
        if same != operation:
            raise ValueError(
                f"{before} and {file} describe {operation.path} differently: "
                "remove the older document from the folder"
            )
    return [operation for _, operation in known.values()]


def find_outdated(found: Iterable[Operation]) -> dict[str, str]:
    """Returns the reason to leave it out, by path, for each operation with a later version."""
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
    """Yields lists, each merged with its export, then the exports without a list."""
    lists: list[Endpoint] = []
    exports: dict[str, Endpoint] = {}
    for endpoint in (derive_endpoint(operation, curated) for operation in kept):
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
                endpoint = _merge_export(endpoint, export)
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


def derive_endpoint(operation: Operation, curated: Curated) -> Endpoint:
    """Derives the endpoint of one operation.

    Args:
        operation: a list or an export.
        curated: decides the table's name, and which text holds decimals.
    """
    query = operation.query
    columns = _with_time_of_change(curated.retype(operation.api, operation.fields))
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
        ids_repeated=query.get("ids", {}).get("schema", {}).get("type") == "array",
        first_page=0 if _limit(query, "page", "minimum") == 0 else 1,
        max_page_size=_max_page_size(query),
        external_data=EXTERNAL_DATA_PARAMETER in query,
    )


def _with_time_of_change(columns: tuple[Field, ...]) -> tuple[Field, ...]:
    """Makes `modifiedOn` a time, even if the document declares a plain string."""
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
    """Returns parameters that turn off the default filters, so that nothing is hidden."""
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


def list_sort_fields(parameter: Mapping[str, Any]) -> str | None:
    """Returns the text that lists the values of `sort`; None if the document lists none."""
    if values := parameter["schema"].get("enum"):
        return " ".join(str(value) for value in values)
    listed = re.search(r"(?:fields are|Options|field):([^?]*)$", parameter["description"])
    return listed.group(1) if listed else None


def _sort(query: Mapping[str, Mapping[str, Any]], types: Mapping[str, DataType]) -> str | None:
    """Returns `+Id` if the document offers it, because ids are unique and never change."""
    if "sort" not in query or "id" not in types:
        return None
    if query["sort"]["schema"].get("type", "string") != "string":
        return None  # declared as something other than one text
    values = [str(value) for value in query["sort"]["schema"].get("enum") or ()]
    if values:
        return next((value for value in values if value.lower() in ("+id", "id")), None)
    listed = list_sort_fields(query["sort"])
    offered = query["sort"]["description"] if listed is None else listed
    return "+Id" if re.search(r"\bid\b", offered, re.IGNORECASE) else None


def _max_page_size(query: Mapping[str, Mapping[str, Any]]) -> int:
    description = query.get("pageSize", {}).get("description", "")
    stated = re.search(r"[Mm]aximum value is (\d+)", description)
    limit = _limit(query, "pageSize", "maximum") or (stated and int(stated[1])) or _MAX_PAGE_SIZE
    return min(limit, _MAX_PAGE_SIZE)


def _limit(query: Mapping[str, Mapping[str, Any]], name: str, bound: str) -> int | None:
    """Returns a parameter's bound; None if the document gives no number."""
    value = query.get(name, {}).get("schema", {}).get(bound)
    return int(value) if isinstance(value, int | float) else None


def _merge_export(endpoint: Endpoint, export: Endpoint) -> Endpoint:
    """Merges an export into its list.

    Raises:
        _Conflict: a field has different types in the two, or the key or the cursor would lose its
            type.
    """
    columns = drop_conflicting(_merge_fields(endpoint.columns, export.columns))
    fixed = {*endpoint.key, endpoint.cursor}
    if {f for f in endpoint.columns if f.name in fixed} - set(columns):
        raise _Conflict
    kept = {column.name for column in columns}
    adds = tuple(name for name in _find_missing(export, endpoint) if name in kept)
    lacks = _find_missing(endpoint, export)
    if endpoint.external_data and not export.external_data and "externalData" in kept:
        lacks = tuple(dict.fromkeys((*lacks, "externalData")))
    return dataclasses.replace(
        endpoint,
        columns=columns,
        export=Export(path=export.path, params=export.params, adds=adds, lacks=lacks),
    )


def _find_missing(one: Endpoint, other: Endpoint) -> tuple[str, ...]:
    """Returns the names of fields that `one` has and `other` lacks."""
    names = {column.name for column in other.columns}
    return tuple(column.name for column in one.columns if column.name not in names)


def _merge_fields(left: tuple[Field, ...], right: tuple[Field, ...]) -> tuple[Field, ...]:
    """Merges fields, in the order of `left`.

    Raises:
        _Conflict: a field has different types in the two.
    """
    other = {field.name: field for field in right}
    united = [
        Field(field.name, _merge_types(field.type, other.pop(field.name, field).type))
        for field in left
    ]
    return (*united, *other.values())


def _merge_types(left: DataType, right: DataType) -> DataType:
    """Returns the type that can hold both. JSON can hold everything."""
    match left, right:
        case _ if left == right:
            return left
        case (Scalar("JSON"), _) | (_, Scalar("JSON")):
            return Scalar("JSON")
        case StructOf(these), StructOf(those):
            return StructOf(drop_conflicting(_merge_fields(these, those)))
        case ListOf(this), ListOf(that):
            return ListOf(_merge_types(this, that))
    raise _Conflict


class _Conflict(Exception):
    """List and export serve different types under the same name."""
