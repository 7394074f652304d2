"""Compares JSON with a schema of the specification facts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from st_pipelines.catalog.specification import ApiSpecification, Schema

_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
}


def find_deviations(api: ApiSpecification, schema: Schema, value: Any, path: str) -> Iterator[str]:
    """Describe each place, at any depth, where a value does not fit the schema."""
    schema = api.resolve(schema)
    if value is None:
        if not schema.nullable and schema.kind != "any":
            yield f"{path}: null"
        return
    if schema.kind == "any":
        return
    if schema.kind == "any_of":
        parts = [list(find_deviations(api, p, value, path)) for p in schema.alternatives]
        yield from min(parts, key=len)
        return
    if not _is_of_kind(value, schema.kind):
        yield f"{path}: {value!r} is no {schema.kind}"
        return
    if schema.enum and value not in schema.enum:
        yield f"{path}: {value!r} is none of {schema.enum}"
    if schema.kind == "array":
        assert schema.items is not None
        for item in value:
            yield from find_deviations(api, schema.items, item, f"{path}[]")
    elif schema.members:
        yield from _find_in_members(api, schema, value, path)


def _is_of_kind(value: Any, kind: str) -> bool:
    # In Python, a boolean is an integer too.
    return isinstance(value, _TYPES[kind]) and isinstance(value, bool) == (kind == "boolean")


def _find_in_members(
    api: ApiSpecification, schema: Schema, value: dict[str, Any], path: str
) -> Iterator[str]:
    prefix = f"{path}." if path else ""
    yield from (f"{prefix}{name}: unknown" for name in value if name not in schema.members)
    for name, member in schema.members.items():
        if name in value:
            yield from find_deviations(api, member, value[name], f"{prefix}{name}")
        elif name not in schema.optional:
            yield f"{prefix}{name}: missing"


def read_path(record: Any, path: str) -> list[Any]:
    """Return all values at a path such as `items[].sku.id`, apart from null."""
    values = [record]
    for part in path.split("."):
        name, brackets, _ = part.partition("[]")
        values = [v.get(name) for v in values if isinstance(v, dict)]
        if brackets:
            values = [item for v in values if isinstance(v, list) for item in v]
    return [value for value in values if value is not None]
