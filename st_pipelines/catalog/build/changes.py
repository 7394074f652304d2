"""What changed between two editions of the catalogue, a line a change."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from st_pipelines.catalog.files import type_to_json
from st_pipelines.catalog.model import Catalog, DataType, Endpoint, ListOf, StructOf


def between(before: Catalog, after: Catalog) -> Iterator[str]:
    """Lines such as `+ jpm.jobs.hold_reasons VARCHAR`; then a line that counts the endpoints."""
    for table in sorted({*before.endpoints, *after.endpoints}):
        old, new = before.endpoints.get(table), after.endpoints.get(table)
        if old is None and new is not None:
            yield f"+ {table} ({new.kind}, {len(new.row_fields)} columns) from {new.path}"
        elif new is None and old is not None:
            yield f"- {table} is no longer in the documents; its table in a warehouse stays"
        elif old is not None and new is not None:
            yield from _of_endpoint(old, new)
    yield from _of_left_out(before, after)
    total = len(after) + sum(e.export is not None for e in after) + len(after.left_out)
    yield (
        (
            f"{len(after)} endpoints from {len(after.apis)} APIs; "
            f"{len(after.left_out)} operations left out; {_operations(after)} GET operations in all"
        )
        if total
        else "no endpoints"
    )


def _operations(catalog: Catalog) -> int:
    """GET operations that the catalogue accounts for."""
    paths = {e.path for e in catalog} | {e.export.path for e in catalog if e.export}
    return len(paths) + len(catalog.left_out)


def _of_endpoint(old: Endpoint, new: Endpoint) -> Iterator[str]:
    for field in dataclasses.fields(Endpoint):
        if field.name == "columns":
            continue
        this, that = getattr(old, field.name), getattr(new, field.name)
        if this != that:
            yield f"~ {new.table}: {field.name} {_shown(this)} -> {_shown(that)}"
    this, that = _leaves(old), _leaves(new)
    for path in sorted({*this, *that}):
        if path not in this:
            yield f"+ {new.table}: column {path} {that[path]}"
        elif path not in that:
            yield f"- {new.table}: column {path} is no longer in the documents"
        elif this[path] != that[path]:
            yield f"~ {new.table}: column {path} {this[path]} -> {that[path]}"


def _of_left_out(before: Catalog, after: Catalog) -> Iterator[str]:
    old = {entry.path: entry.reason for entry in before.left_out}
    new = {entry.path: entry.reason for entry in after.left_out}
    for path in sorted({*old, *new}):
        if path not in old:
            yield f"+ left out {path}: {new[path]}"
        elif path not in new:
            yield f"- no longer left out: {path}"


def _leaves(endpoint: Endpoint) -> dict[str, str]:
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


def _shown(value: Any) -> str:
    return "none" if value in (None, (), {}) else str(value)
