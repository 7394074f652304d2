"""From OpenAPI documents and the curated file to a catalogue.

A collection that needs nothing but the tenant becomes an endpoint; its list and its export are
one endpoint with the union of their columns, unless a column has another type in each. Every
other GET operation is left out with a reason, so that all of them are accounted for.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from st_pipelines.catalog.curated import Curated, load_curated
from st_pipelines.catalog.model import (
    Catalog,
    DataType,
    DateFilter,
    Endpoint,
    Export,
    Field,
    Kind,
    LeftOut,
    ListOf,
    Scalar,
    StructOf,
)
from st_pipelines.catalog.operations import Operation, operations, read_documents

_COLLECTIONS = ("page", "export", "array", "data")
_KNOWN_REQUIRED = {"page", "pageSize", "includeTotal", "activeOnly"}


def build_catalog(folder: Path, curated: Curated | None = None) -> Catalog:
    """The catalogue of a folder of OpenAPI documents (3.0 or 3.1).

    Raises:
        ValueError: a file is no OpenAPI 3 document, or two operations would share a table.
    """
    curated = curated or load_curated()
    endpoints: dict[str, Endpoint] = {}
    left_out: list[LeftOut] = []
    for name, document in read_documents(folder):
        try:
            found = list(operations(document, curated.apis))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
        for endpoint in _endpoints(found, curated):
            if endpoint.table in endpoints:
                raise ValueError(_both_named(endpoint, endpoints[endpoint.table]))
            endpoints[endpoint.table] = endpoint
        left_out += _left_out(found, curated)
    return Catalog(
        dict(sorted(endpoints.items())), tuple(sorted(left_out, key=lambda e: (e.api, e.path)))
    )


def _both_named(one: Endpoint, other: Endpoint) -> str:
    return (
        f"{one.path} and {other.path} would both be the table {one.table}: "
        "give one a name in curated.yaml"
    )


def _left_out(found: Iterable[Operation], curated: Curated) -> Iterator[LeftOut]:
    for operation in found:
        reason = _reason_to_leave_out(operation, curated)
        if reason:
            yield LeftOut(api=operation.api, path=operation.path, reason=reason)


def _reason_to_leave_out(operation: Operation, curated: Curated) -> str | None:
    if operation.path in curated.left_out:
        return curated.left_out[operation.path]
    if operation.shape == "binary":
        return "binary download"
    if operation.api == "reporting" and operation.parents:
        return f"report: needs {', '.join(operation.parents)}"
    if operation.parents:
        listed = operation.shape in _COLLECTIONS
        return f"{'child' if listed else 'single object'}: needs {', '.join(operation.parents)}"
    if operation.shape == "object":
        return "single object, not a collection"
    missing = _missing_parameters(operation, curated)
    return f"needs the query parameter {', '.join(missing)}" if missing else None


def _missing_parameters(operation: Operation, curated: Curated) -> list[str]:
    """Required query parameters that neither a rule nor the curated file fills."""
    required = {name for name, p in operation.query.items() if p.get("required")}
    filled = set(_KNOWN_REQUIRED)
    name = curated.names.get(operation.path, {}).get("name", operation.name)
    tables = dict(curated.split.get(operation.path, {}).get("tables", {name: {}}))
    for table, params in tables.items():
        facts = curated.endpoints.get(f"{operation.api}.{table}", {})
        bounds = facts.get("date_filter", {})
        filled |= {*params, *facts.get("params", {}), bounds.get("lower"), bounds.get("upper")}
    return sorted(required - filled)


def _endpoints(found: list[Operation], curated: Curated) -> Iterator[Endpoint]:
    kept = [o for o in found if _reason_to_leave_out(o, curated) is None]
    lists = [_endpoint(o, curated) for o in kept if o.shape != "export"]
    exports: dict[str, Endpoint] = {}
    for operation in kept:
        if operation.shape == "export":
            export = _endpoint(operation, curated)
            if export.name in exports:
                raise ValueError(_both_named(export, exports[export.name]))
            exports[export.name] = export
    for endpoint in lists:
        export = exports.get(endpoint.name)
        if export:
            with contextlib.suppress(_Conflict):
                endpoint = _folded(endpoint, export)
                del exports[endpoint.name]
        yield from _split(endpoint, curated)
    names = {endpoint.name for endpoint in lists}
    for name, export in exports.items():
        table = f"{name}_export" if name in names else name
        yield curated.correct(dataclasses.replace(export, name=table))


def _split(endpoint: Endpoint, curated: Curated) -> Iterator[Endpoint]:
    tables = curated.split.get(endpoint.path, {}).get("tables", {endpoint.name: {}})
    for name, params in tables.items():
        part = dataclasses.replace(endpoint, name=name, params={**endpoint.params, **params})
        yield curated.correct(part)


def _endpoint(operation: Operation, curated: Curated) -> Endpoint:
    query = operation.query
    columns = _timed(curated.retype(operation.api, operation.fields))
    names = {column.name for column in columns}
    date_filter = _date_filter(query, names)
    return Endpoint(
        api=operation.api,
        name=curated.names.get(operation.path, {}).get("name", operation.name),
        kind=_kind(operation, date_filter),
        path=operation.path,
        envelope=operation.shape,  # pyright: ignore[reportArgumentType]
        scope=operation.scope,
        columns=columns,
        key=("id",) if "id" in names else (),
        cursor="modifiedOn"
        if "modifiedOn" in names and _is_timed(operation, date_filter)
        else None,
        date_filter=date_filter,
        params=_params(query),
        sort=_sort(query, names),
        paged="page" in query,
        includes_total="includeTotal" in query,
        ids="ids" in query,
        first_page=int(query.get("page", {}).get("schema", {}).get("minimum", 1)),
        max_page_size=_max_page_size(query),
    )


def _timed(columns: tuple[Field, ...]) -> tuple[Field, ...]:
    """The columns, with `modifiedOn` as a time even where a document calls it a string."""
    text = Field("modifiedOn", Scalar("VARCHAR"))
    time = Field("modifiedOn", Scalar("TIMESTAMPTZ"))
    return tuple(time if column == text else column for column in columns)


def _is_timed(operation: Operation, date_filter: DateFilter | None) -> bool:
    return operation.shape == "export" or date_filter is not None


def _kind(operation: Operation, date_filter: DateFilter | None) -> Kind:
    if operation.shape == "export":
        return "feed"
    return "window" if date_filter else "snapshot"


def _date_filter(query: Mapping[str, object], names: set[str]) -> DateFilter | None:
    if {"modifiedOnOrAfter", "modifiedBefore"} <= query.keys() and "modifiedOn" in names:
        return DateFilter(lower="modifiedOnOrAfter", upper="modifiedBefore")
    return None


def _params(query: Mapping[str, Mapping]) -> dict[str, str]:
    """What every request asks for, so that the default filters leave nothing out."""
    params: dict[str, str] = {}
    for name, parameter in query.items():
        schema = parameter["schema"]
        text = f"{parameter.get('description', '')} {schema.get('enum', '')}"
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


def _sort(query: Mapping[str, Mapping], names: set[str]) -> str | None:
    """`+Id` where the endpoint sorts by it: ids are unique and never change."""
    if "sort" not in query or "id" not in names:
        return None
    described = re.search(
        r"(?:fields are|Options|field):([^?]*)$", query["sort"].get("description", "")
    )
    offered = described.group(1) if described else "Id"
    return "+Id" if re.search(r"\bid\b", offered, re.IGNORECASE) else None


def _max_page_size(query: Mapping[str, Mapping]) -> int:
    parameter = query.get("pageSize", {})
    stated = re.search(r"[Mm]aximum value is (\d+)", parameter.get("description", ""))
    limit = parameter.get("schema", {}).get("maximum") or (stated and stated.group(1)) or 5000
    return min(int(limit), 5000)


def _folded(endpoint: Endpoint, export: Endpoint) -> Endpoint:
    return dataclasses.replace(
        endpoint,
        columns=_union(endpoint.columns, export.columns),
        export=Export(
            path=export.path,
            params=export.params,
            adds=_names_missing(export, endpoint),
            lacks=_names_missing(endpoint, export),
        ),
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
            return StructOf(_union(these, those))
        case ListOf(this), ListOf(that):
            return ListOf(_united(this, that))
    raise _Conflict


class _Conflict(Exception):
    """List and export serve different things under one name."""
