"""Maps OpenAPI schemas to data types.

Reads OpenAPI 3.0 (`nullable`) and 3.1 (`type: [string, null]`). A schema that is null or
`true` is treated as `{}`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from st_pipelines.catalog.model import (
    DataType,
    Field,
    ListOf,
    Scalar,
    ScalarName,
    StructOf,
    drop_conflicting,
)

JSON = Scalar("JSON")

_STRING_FORMATS: dict[str, ScalarName] = {"date-time": "TIMESTAMPTZ", "date": "DATE"}


def resolve(document: Mapping[str, Any], node: Any) -> Mapping[str, Any]:
    """Follows `$ref` within the document.

    Raises:
        ValueError: the target does not exist, is outside the document, or is not an object.
    """
    seen: list[str] = []
    while reference := _reference(node):
        if reference in seen:
            raise ValueError(f"$ref {reference} refers to itself")
        seen.append(reference)
        node = _target(document, reference)
    if node is None or isinstance(node, bool):
        return {}
    if not isinstance(node, Mapping):
        raise ValueError(
            f"{type(node).__name__} {str(node)[:40]!r} stands where an object is expected"
        )
    return node


def plain_schema(
    document: Mapping[str, Any], schema: Any, within: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Resolves references, alternatives to null and allOf at the top of a schema, to one type.

    Args:
        document: the whole OpenAPI document, for `$ref`.
        within: references followed so far; a part that repeats one adds nothing.

    Raises:
        ValueError: the target of a reference does not exist.
    """
    within = (*within, _reference(schema))
    schema = resolve(document, schema)
    alternatives = _alternatives(document, schema)
    plain = {k: v for k, v in schema.items() if k not in ("oneOf", "anyOf", "allOf")}
    parts = alternatives if alternatives is not None and len(alternatives) == 1 else []
    for part in [*parts, *(schema.get("allOf") or ())]:
        if (reference := _reference(part)) and reference in within:
            continue
        inner = plain_schema(document, part, within)
        both = {**(plain.get("properties") or {}), **(inner.get("properties") or {})}
        plain = {**plain, **inner, **({"properties": both} if both else {})}
    if isinstance(plain.get("type"), list):
        kinds = [kind for kind in plain["type"] if kind != "null"]
        plain["type"] = kinds[0] if len(kinds) == 1 else None
    return plain


def read_fields(document: Mapping[str, Any], schema: Any) -> tuple[Field, ...]:
    """Returns the fields of a record's schema, in the document's order. Empty if not an object.

    Raises:
        ValueError: the target of a reference does not exist (except inside a single member).
    """
    found = data_type(document, schema)
    return found.fields if isinstance(found, StructOf) else ()


def data_type(document: Mapping[str, Any], schema: Any, within: tuple[str, ...] = ()) -> DataType:
    """Maps a schema to a type, at every depth.

    Schemas without one fixed shape become JSON: recursive ones, several alternatives, objects
    without declared members, and arrays of these. So do members that are malformed.

    Args:
        document: the whole OpenAPI document, for `$ref`.
        within: references followed so far, to detect recursion.

    Raises:
        ValueError: the target of a reference does not exist (except inside a single member).
    """
    if reference := _reference(schema):
        if reference in within:
            return JSON
        return data_type(document, resolve(document, schema), (*within, reference))
    schema = resolve(document, schema)
    alternatives = _alternatives(document, schema)
    if alternatives is not None:
        return data_type(document, alternatives[0], within) if len(alternatives) == 1 else JSON
    if schema.get("allOf"):
        return _merge_parts(document, schema, within)
    return _map_plain(document, schema, within)


def _reference(node: Any) -> str:
    """Returns the target of a node's `$ref`; "" if it has none."""
    reference = node.get("$ref") if isinstance(node, Mapping) else None
    return reference if isinstance(reference, str) else ""


def _target(document: Mapping[str, Any], reference: str) -> Any:
    if not reference.startswith("#"):
        raise ValueError(
            f"$ref {reference} leaves the document, which must contain everything it refers to"
        )
    root, *steps = unquote(reference[1:]).split("/")
    target: Any = None if root else document
    try:
        for step in steps:
            name = step.replace("~1", "/").replace("~0", "~")
            target = target[int(name)] if isinstance(target, list) else target[name]
    except (LookupError, TypeError, ValueError):
        target = None
    if target is None:
        raise ValueError(f"$ref {reference} has no target")
    return target


def _alternatives(
    document: Mapping[str, Any], schema: Mapping[str, Any]
) -> list[Mapping[str, Any]] | None:
    """Returns the members of oneOf/anyOf that are not `null`; None without such a keyword."""
    members = schema.get("oneOf") or schema.get("anyOf")
    if members is None:
        return None
    return [m for m in members if resolve(document, m).get("type") not in ("null", ["null"])]


def _merge_parts(
    document: Mapping[str, Any], schema: Mapping[str, Any], within: tuple[str, ...]
) -> DataType:
    typing_keys = {"$ref", "type", "properties", "oneOf", "anyOf", "allOf"}
    typed = [
        part for part in schema["allOf"] if isinstance(part, Mapping) and part.keys() & typing_keys
    ]
    parts = [data_type(document, part, within) for part in typed]
    if schema.get("properties"):
        parts.append(_map_plain(document, schema, within))
    if len(parts) == 1:
        return parts[0]
    structs = [part for part in parts if isinstance(part, StructOf)]
    if not structs or len(structs) < len(parts):
        return JSON
    return StructOf(drop_conflicting({f.name: f for part in structs for f in part.fields}.values()))


def _map_plain(
    document: Mapping[str, Any], schema: Mapping[str, Any], within: tuple[str, ...]
) -> DataType:
    declared = schema.get("type")
    names = [declared] if isinstance(declared, str) else list(declared or ())
    kinds = [name for name in names if name != "null"]
    if not kinds and schema.get("properties"):
        kinds = ["object"]
    if len(kinds) != 1:
        return JSON
    match kinds[0]:
        case "object":
            return _map_object(document, schema, within)
        case "array":
            item = data_type(document, schema.get("items"), within)
            return JSON if item == JSON else ListOf(item)
        case kind:
            return Scalar(_scalar(kind, schema.get("format")))


def _map_object(
    document: Mapping[str, Any], schema: Mapping[str, Any], within: tuple[str, ...]
) -> DataType:
    members = schema.get("properties") or {}
    fields = drop_conflicting(
        Field(name, _map_member(document, member, within)) for name, member in members.items()
    )
    return StructOf(fields) if fields else JSON


def _map_member(document: Mapping[str, Any], schema: Any, within: tuple[str, ...]) -> DataType:
    """Maps one member. A malformed one becomes JSON, so that it does not spoil the others."""
    try:
        return data_type(document, schema, within)
    except (ValueError, TypeError, AttributeError):
        return JSON


def _scalar(kind: str, form: str | None) -> ScalarName:
    match kind:
        case "integer":
            return "BIGINT"
        case "number":
            return "DECIMAL" if form == "decimal" else "DOUBLE"
        case "boolean":
            return "BOOLEAN"
        case "string":
            return _STRING_FORMATS.get(form or "", "VARCHAR")
    return "JSON"
