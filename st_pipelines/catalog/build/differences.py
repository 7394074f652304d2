"""Describes what changed between two catalogs, or two sets of specification facts, line by line."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from st_pipelines.catalog.files import type_to_json
from st_pipelines.catalog.model import Catalog, DataType, Endpoint, ListOf, StructOf
from st_pipelines.catalog.specification import ApiSpecification, Parameter, ReadOperation, Schema
from st_pipelines.catalog.specification_files import schema_to_json


def describe_changes(before: Catalog, after: Catalog) -> Iterator[str]:
    """Yields one line per change (`+ jpm.jobs: column holdReasons VARCHAR`), then the totals."""
    for table in sorted({*before.endpoints, *after.endpoints}):
        old, new = before.endpoints.get(table), after.endpoints.get(table)
        if old is None and new is not None:
            yield f"+ {table} ({new.kind}, {len(new.row_fields)} columns) from {new.path}"
        elif new is None and old is not None:
            yield f"- {table} is no longer in the documents; its table in a warehouse stays"
        elif old is not None and new is not None and new.removed and not old.removed:
            yield (
                f"- {table} is no longer in the documents; it is loaded as long as ServiceTitan "
                "serves it"
            )
        elif old is not None and new is not None:
            yield from _describe_endpoint(old, new)
    yield from _describe_left_out(before, after)
    total = len(after) + sum(e.export is not None for e in after) + len(after.left_out)
    yield (
        (
            f"{len(after)} endpoints from {len(after.apis)} APIs; "
            f"{len(after.left_out)} operations left out; {_count(after)} operations in all"
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
    if value in (None, (), {}):
        return "none"
    if dataclasses.is_dataclass(value):
        members = [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
        return ", ".join(f"{name} {_format(member)}" for name, member in members if member)
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def describe_operations(
    before: Mapping[str, ApiSpecification],
    after: Mapping[str, ApiSpecification],
    *,
    with_table: frozenset[str] = frozenset(),
) -> Iterator[str]:
    """Yields one line per change of a reading operation: its parameters, scope and fields.

    Args:
        before: the facts by API.
        after: the facts to compare with.
        with_table: paths whose fields are not compared, because their table's columns are.
    """
    old, new = _by_name(before), _by_name(after)
    for name in sorted({*old, *new}, key=lambda name: name.split(" ")[::-1]):
        if name not in old:
            yield f"+ {name}{_in_brackets(new[name][1].scope)}"
        elif name not in new:
            yield f"- {name} is no longer in the documents"
        else:
            yield from _describe_operation(name, *old[name], *new[name], with_table)


def _by_name(
    facts: Mapping[str, ApiSpecification],
) -> dict[str, tuple[ApiSpecification, ReadOperation]]:
    return {f"{o.method} {o.path}": (part, o) for part in facts.values() for o in part.operations}


def _describe_operation(
    name: str,
    old_api: ApiSpecification,
    old: ReadOperation,
    new_api: ApiSpecification,
    new: ReadOperation,
    with_table: frozenset[str],
) -> Iterator[str]:
    if old.scope != new.scope:
        yield f"~ {name}: scope {old.scope or 'none'} -> {new.scope or 'none'}"
    parts = [("parameter", _parameter_facts(old), _parameter_facts(new))]
    if new.path not in with_table:
        parts.append(("field", _field_types(old_api, old), _field_types(new_api, new)))
    for kind, these, those in parts:
        for part in sorted({*these, *those}):
            if part not in these:
                yield f"+ {name}: {kind} {part} {those[part]}"
            elif part not in those:
                yield f"- {name}: {kind} {part} is no longer in the documents"
            elif these[part] != those[part]:
                yield f"~ {name}: {kind} {part} {these[part]} -> {those[part]}"


def _parameter_facts(operation: ReadOperation) -> dict[str, str]:
    return {parameter.name: _describe_parameter(parameter) for parameter in operation.parameters}


def _describe_parameter(parameter: Parameter) -> str:
    facts = [str(schema_to_json(parameter.schema))]
    if parameter.required and parameter.location == "query":
        facts.append("required")
    if parameter.default is not None:
        facts.append(f"default {parameter.default}")
    if parameter.sort_fields:
        facts.append(f"fields {', '.join(parameter.sort_fields)}")
    if parameter.max_items is not None:
        facts.append(f"at most {parameter.max_items}")
    return ", ".join(facts)


def _field_types(api: ApiSpecification, operation: ReadOperation) -> dict[str, str]:
    """Returns the types of all fields of a successful response, by dotted name."""
    found: dict[str, str] = {}
    success = operation.success
    if success and success.schema:
        _collect_fields(api, success.schema, "", frozenset(), found)
    return found


def _collect_fields(
    api: ApiSpecification,
    schema: Schema,
    path: str,
    within: frozenset[str],
    found: dict[str, str],
) -> None:
    if schema.kind == "reference":
        if schema.name in within:
            found[path] = "recursive"
            return
        within |= {schema.name}
        schema = api.resolve(schema)
    if schema.kind == "array" and schema.items is not None:
        _collect_fields(api, schema.items, f"{path}[]", within, found)
    elif schema.kind == "object" and schema.members:
        for name, member in schema.members.items():
            _collect_fields(api, member, f"{path}.{name}".lstrip("."), within, found)
    else:
        found[path] = str(schema_to_json(schema))


def _in_brackets(text: str) -> str:
    return f" ({text})" if text else ""
