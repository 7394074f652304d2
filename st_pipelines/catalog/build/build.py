"""From OpenAPI documents and the curated file to a catalogue.

A collection that needs nothing but the tenant becomes an endpoint; its list and its export are
one endpoint with the union of their columns, unless a column has another type in each. Every
other GET operation is left out with a reason, so that all of them are accounted for.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from st_pipelines.catalog.build.curated import CURATED, Curated, load_curated
from st_pipelines.catalog.build.editions import outdated, without_repetition
from st_pipelines.catalog.build.endpoints import derived
from st_pipelines.catalog.build.fit import KNOWN_REQUIRED, Fitted, fitted
from st_pipelines.catalog.build.openapi import Operation, operations, read_documents
from st_pipelines.catalog.model import (
    Catalog,
    DataType,
    Endpoint,
    Export,
    Field,
    LeftOut,
    ListOf,
    Scalar,
    StructOf,
)
from st_pipelines.catalog.naming import with_columns

_COLLECTIONS = ("page", "export", "array", "data")


def build_catalog(
    folder: Path,
    curated: Curated | None = None,
    tell: Callable[[str], object] = lambda line: None,
) -> Catalog:
    """The catalogue of a folder of OpenAPI documents (3.0 or 3.1).

    Args:
        folder: of the documents.
        curated: the packaged file's facts, unless others are given.
        tell: is called with a line for each curated fact that does not fit the documents.

    Raises:
        ValueError: a file is no OpenAPI 3 document, or two operations would share a table.
    """
    curated = curated or load_curated()
    found = without_repetition(_operations(folder, curated))
    reasons = {o.path: reason for o in found if (reason := _reason_to_leave_out(o, curated))}
    reasons |= outdated(o for o in found if o.path not in reasons)
    fits = _fits([o for o in found if o.path not in reasons], curated)
    for line in (*_misfits(fits), *_unmet(curated, fits, found)):
        tell(line)
    endpoints = {table: fit.endpoint for table, fit in sorted(fits.items()) if not fit.unsound}
    served = {path for endpoint in endpoints.values() for path in _paths(endpoint)}
    for fit in fits.values():
        reasons |= {p: fit.unsound for p in _paths(fit.endpoint) if fit.unsound and p not in served}
    left_out = [
        LeftOut(api=o.api, path=o.path, reason=reasons[o.path]) for o in found if o.path in reasons
    ]
    return Catalog(endpoints, tuple(sorted(left_out, key=lambda e: (e.api, e.path))))


def _operations(folder: Path, curated: Curated) -> Iterator[tuple[str, Operation]]:
    """File name and operation, for all GET operations."""
    for name, document in read_documents(folder):
        try:
            yield from ((name, operation) for operation in operations(document, curated.apis))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None


def _paths(endpoint: Endpoint) -> tuple[str, ...]:
    return (endpoint.path, endpoint.export.path) if endpoint.export else (endpoint.path,)


def _misfits(fits: Mapping[str, Fitted]) -> Iterator[str]:
    for table, fit in sorted(fits.items()):
        yield from (f"! curated.yaml: {table}: {sentence}" for sentence in fit.dropped)
        if fit.unsound:
            yield f"! {table} is left out: {fit.unsound}"


def _unmet(curated: Curated, fits: Mapping[str, Fitted], found: list[Operation]) -> Iterator[str]:
    for place in curated.unmet(fits, {operation.path for operation in found}):
        yield f"! curated.yaml has facts of {place}, which is not in these documents"


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
    if "/export/" in operation.path and operation.shape != "export" and not operation.paged:
        return "an export that tells no token to go on from"
    split = curated.split.get(operation.path, {}).get("tables", {}).values()
    if unknown := sorted({name for params in split for name in params} - operation.query.keys()):
        return f"is several tables by {', '.join(unknown)}, which it does not take"
    missing = _missing_parameters(operation, curated)
    return f"needs the query parameter {', '.join(missing)}" if missing else None


def _missing_parameters(operation: Operation, curated: Curated) -> list[str]:
    """Required query parameters that neither a rule nor the curated file fills."""
    filled = set(KNOWN_REQUIRED)
    name = curated.name(operation)
    tables = dict(curated.split.get(operation.path, {}).get("tables", {name: {}}))
    for table, params in tables.items():
        facts = curated.endpoints.get(f"{operation.api}.{table}", {})
        bounds = facts.get("date_filter", {})
        filled |= {*params, *facts.get("params", {}), bounds.get("lower"), bounds.get("upper")}
    return sorted(operation.required - filled)


def _fits(kept: list[Operation], curated: Curated) -> dict[str, Fitted]:
    """By table, each endpoint with the curated facts that fit."""
    by_path = {operation.path: operation for operation in kept}
    found: dict[str, Fitted] = {}
    for endpoint in _endpoints(kept, curated):
        for part in _split(endpoint, curated):
            if part.table in found:
                raise ValueError(_both_named(part, found[part.table].endpoint))
            facts = curated.facts(part.table)
            found[part.table] = fitted(part, facts, by_path[part.path])
    return found


def _both_named(one: Endpoint, other: Endpoint) -> str:
    return (
        f"{one.path} and {other.path} would both be the table {one.table}: "
        f"give one a name, or leave one out, in {CURATED}"
    )


def _endpoints(kept: Iterable[Operation], curated: Curated) -> Iterator[Endpoint]:
    """Lists, each with its export folded in, then the exports that have no list."""
    lists: list[Endpoint] = []
    exports: dict[str, Endpoint] = {}
    for endpoint in (derived(operation, curated) for operation in kept):
        if endpoint.envelope != "export":
            lists.append(endpoint)
        elif endpoint.table in exports:
            raise ValueError(_both_named(endpoint, exports[endpoint.table]))
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


def _split(endpoint: Endpoint, curated: Curated) -> Iterator[Endpoint]:
    tables = curated.split.get(endpoint.path, {}).get("tables", {endpoint.name: {}})
    for name, params in tables.items():
        yield dataclasses.replace(endpoint, name=name, params={**endpoint.params, **params})


def _folded(endpoint: Endpoint, export: Endpoint) -> Endpoint:
    """The list with what its export adds.

    Raises:
        _Conflict: a field has one type here and another there, or the key or the cursor would
            have no type of its own.
    """
    columns = with_columns(_union(endpoint.columns, export.columns))
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
            return StructOf(with_columns(_union(these, those)))
        case ListOf(this), ListOf(that):
            return ListOf(_united(this, that))
    raise _Conflict


class _Conflict(Exception):
    """List and export serve different things under one name."""
