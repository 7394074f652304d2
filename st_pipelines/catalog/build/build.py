"""Builds a catalog from OpenAPI documents and `curated.yaml`, and describes what changed.

A collection that can be read with nothing but the tenant becomes an endpoint. Every other GET
operation is left out with a reason, so that the catalog accounts for all of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from st_pipelines.catalog import files, specification
from st_pipelines.catalog.build.curated import Curated, load_curated
from st_pipelines.catalog.build.endpoints import (
    derive_endpoints,
    drop_repeated,
    find_outdated,
    table_name_conflict,
)
from st_pipelines.catalog.build.fit import ALWAYS_SENT, Fitted, apply_facts
from st_pipelines.catalog.build.openapi import Operation, read_documents, read_operations
from st_pipelines.catalog.build.specification import read_specifications
from st_pipelines.catalog.files import type_to_json
from st_pipelines.catalog.model import (
    Catalog,
    DataType,
    Endpoint,
    LeftOut,
    ListOf,
    StructOf,
)
from st_pipelines.catalog.specification import ApiSpecification

SPECIFICATION = "specification"
"""The folder of the specification facts, within the catalog's."""

_COLLECTIONS = ("page", "export", "array", "data")


def rebuild(documents: Path, folder: Path) -> list[str]:
    """Builds the catalog of a folder of documents and writes it, completely or not at all.

    Args:
        documents: folder of OpenAPI documents.
        folder: where to write. A catalog there is replaced; otherwise it must be empty or new.

    Returns:
        One line per change and per curated fact that does not fit the documents.

    Raises:
        ValueError: a document is malformed, or `folder` contains something other than a catalog.
        OSError: a file cannot be written.
    """
    files.list_catalog_files(folder)
    before = files.read(folder)
    misfits: list[str] = []
    built = build_catalog(documents, report=misfits.append)
    facts = read_facts(documents)
    posts = {o.path for part in facts.values() for o in part.operations if o.method == "POST"}
    misfits += map(_describe_unknown, sorted(load_curated().reading_posts.keys() - posts))
    files.write(built, folder)
    specification.write(facts.values(), folder / SPECIFICATION)
    return [*describe_changes(before, built), *misfits]


def build_catalog(
    folder: Path,
    curated: Curated | None = None,
    report: Callable[[str], object] = lambda line: None,
) -> Catalog:
    """Builds the catalog of a folder of OpenAPI documents (3.0 or 3.1).

    Args:
        folder: of the documents.
        curated: the facts to apply; those of the packaged file if None.
        report: called with one line per curated fact that does not fit the documents.

    Raises:
        ValueError: a file is not an OpenAPI 3 document, or two operations would share a table.
    """
    curated = curated or load_curated()
    found = drop_repeated(_operations(folder, curated))
    reasons = {o.path: reason for o in found if (reason := _reason_to_leave_out(o, curated))}
    reasons |= find_outdated(o for o in found if o.path not in reasons)
    fits = _apply_facts([o for o in found if o.path not in reasons], curated)
    for line in (*_misfits(fits), *_unknown_facts(curated, fits, found)):
        report(line)
    endpoints = {table: fit.endpoint for table, fit in sorted(fits.items()) if not fit.unsound}
    served = {path for endpoint in endpoints.values() for path in _paths(endpoint)}
    for fit in fits.values():
        reasons |= {p: fit.unsound for p in _paths(fit.endpoint) if fit.unsound and p not in served}
    left_out = [
        LeftOut(api=o.api, path=o.path, reason=reasons[o.path]) for o in found if o.path in reasons
    ]
    return Catalog(endpoints, tuple(sorted(left_out, key=lambda e: (e.api, e.path))))


def read_facts(folder: Path, curated: Curated | None = None) -> dict[str, ApiSpecification]:
    """Returns the facts about the reading operations of a folder of documents, by API.

    Raises:
        ValueError: a file is not an OpenAPI 3 document, or is malformed.
    """
    curated = curated or load_curated()
    return read_specifications(
        read_documents(folder), api_names=curated.apis, reading_posts=curated.reading_posts
    )


def _operations(folder: Path, curated: Curated) -> Iterator[tuple[str, Operation]]:
    """Yields file name and operation for every GET operation."""
    for name, document in read_documents(folder):
        try:
            yield from ((name, operation) for operation in read_operations(document, curated.apis))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None


def _paths(endpoint: Endpoint) -> tuple[str, ...]:
    return (endpoint.path, endpoint.export.path) if endpoint.export else (endpoint.path,)


def _misfits(fits: Mapping[str, Fitted]) -> Iterator[str]:
    for table, fit in sorted(fits.items()):
        yield from (f"! curated.yaml: {table}: {sentence}" for sentence in fit.dropped)
        if fit.unsound:
            yield f"! {table} is left out: {fit.unsound}"


def _unknown_facts(
    curated: Curated, fits: Mapping[str, Fitted], found: list[Operation]
) -> Iterator[str]:
    for name in curated.find_unknown(fits, {operation.path for operation in found}):
        yield _describe_unknown(name)


def _describe_unknown(name: str) -> str:
    return f"! curated.yaml has facts about {name}, which is not in these documents"


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
        return "an export without a continuation token"
    split = curated.split.get(operation.path, {}).get("tables", {}).values()
    if unknown := sorted({name for params in split for name in params} - operation.query.keys()):
        return f"is split into tables by {', '.join(unknown)}, but does not take that parameter"
    missing = _missing_parameters(operation, curated)
    return f"needs the query parameter {', '.join(missing)}" if missing else None


def _missing_parameters(operation: Operation, curated: Curated) -> list[str]:
    """Returns required query parameters that neither a rule nor a curated fact supplies."""
    supplied = set(ALWAYS_SENT)
    name = curated.name(operation)
    tables = dict(curated.split.get(operation.path, {}).get("tables", {name: {}}))
    for table, params in tables.items():
        facts = curated.endpoints.get(f"{operation.api}.{table}", {})
        bounds = facts.get("date_filter", {})
        supplied |= {*params, *facts.get("params", {}), bounds.get("lower"), bounds.get("upper")}
    return sorted(operation.required - supplied)


def _apply_facts(kept: list[Operation], curated: Curated) -> dict[str, Fitted]:
    """Returns each endpoint, by table, with the curated facts that fit."""
    by_path = {operation.path: operation for operation in kept}
    found: dict[str, Fitted] = {}
    for endpoint in derive_endpoints(kept, curated):
        for part in _split(endpoint, curated):
            if part.table in found:
                raise ValueError(table_name_conflict(part, found[part.table].endpoint))
            facts = curated.facts(part.table)
            found[part.table] = apply_facts(part, facts, by_path[part.path])
    return found


def _split(endpoint: Endpoint, curated: Curated) -> Iterator[Endpoint]:
    tables = curated.split.get(endpoint.path, {}).get("tables", {endpoint.name: {}})
    for name, params in tables.items():
        yield dataclasses.replace(endpoint, name=name, params={**endpoint.params, **params})


def describe_changes(before: Catalog, after: Catalog) -> Iterator[str]:
    """Yields one line per change (`+ jpm.jobs: column holdReasons VARCHAR`), then the totals."""
    for table in sorted({*before.endpoints, *after.endpoints}):
        old, new = before.endpoints.get(table), after.endpoints.get(table)
        if old is None and new is not None:
            yield f"+ {table} ({new.kind}, {len(new.row_fields)} columns) from {new.path}"
        elif new is None and old is not None:
            yield f"- {table} is no longer in the documents; its table in a warehouse stays"
        elif old is not None and new is not None:
            yield from _describe_endpoint(old, new)
    yield from _describe_left_out(before, after)
    total = len(after) + sum(e.export is not None for e in after) + len(after.left_out)
    yield (
        (
            f"{len(after)} endpoints from {len(after.apis)} APIs; "
            f"{len(after.left_out)} operations left out; {_count(after)} GET operations in all"
        )
        if total
        else "no endpoints"
    )


def _count(catalog: Catalog) -> int:
    """Counts the GET operations that the catalog accounts for."""
    paths = {e.path for e in catalog} | {e.export.path for e in catalog if e.export}
    return len(paths) + len(catalog.left_out)


def _describe_endpoint(old: Endpoint, new: Endpoint) -> Iterator[str]:
    for field in dataclasses.fields(Endpoint):
        if field.name == "columns":
            continue
        this, that = getattr(old, field.name), getattr(new, field.name)
        if this != that:
            yield f"~ {new.table}: {field.name} {_format(this)} -> {_format(that)}"
    this, that = _leaf_types(old), _leaf_types(new)
    for path in sorted({*this, *that}):
        if path not in this:
            yield f"+ {new.table}: column {path} {that[path]}"
        elif path not in that:
            yield f"- {new.table}: column {path} is no longer in the documents"
        elif this[path] != that[path]:
            yield f"~ {new.table}: column {path} {this[path]} -> {that[path]}"


def _describe_left_out(before: Catalog, after: Catalog) -> Iterator[str]:
    old = {entry.path: entry.reason for entry in before.left_out}
    new = {entry.path: entry.reason for entry in after.left_out}
    for path in sorted({*old, *new}):
        if path not in old:
            yield f"+ left out {path}: {new[path]}"
        elif path not in new:
            yield f"- no longer left out: {path}"
        elif old[path] != new[path]:
            yield f"~ left out {path}: {old[path]} -> {new[path]}"


def _leaf_types(endpoint: Endpoint) -> dict[str, str]:
    found: dict[str, str] = {}
    for field in endpoint.columns:
        _collect(field.name, field.type, found)
    return found


def _collect(path: str, type_: DataType, found: dict[str, str]) -> None:
    match type_:
        case StructOf(fields):
            for field in fields:
                _collect(f"{path}.{field.name}", field.type, found)
        case ListOf(item):
            _collect(f"{path}[]", item, found)
        case _:
            found[path] = str(type_to_json(type_))


def _format(value: Any) -> str:
    return "none" if value in (None, (), {}) else str(value)
