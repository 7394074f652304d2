"""OpenAPI schemas to data types: 3.0 (`nullable`) and 3.1 (`type: [string, null]`) alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from st_pipelines.catalog.model import DataType, Field, ListOf, Scalar, ScalarName, StructOf

JSON = Scalar("JSON")

_STRING_FORMATS: dict[str, ScalarName] = {"date-time": "TIMESTAMPTZ", "date": "DATE"}


def resolve(document: Mapping[str, Any], node: Mapping[str, Any]) -> Mapping[str, Any]:
    """Follows `$ref` within the document. Raises KeyError when it points nowhere."""
    seen = set()
    while "$ref" in node:
        reference = node["$ref"]
        if reference in seen or not reference.startswith("#/"):
            raise KeyError(reference)
        seen.add(reference)
        target: Any = document
        for step in unquote(reference[2:]).split("/"):
            target = target[step.replace("~1", "/").replace("~0", "~")]
        node = target
    return node


def plain_schema(document: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """A schema without references, alternatives to null and allOf, at its top; with one type."""
    schema = resolve(document, schema)
    alternatives = _alternatives(document, schema)
    plain = {k: v for k, v in schema.items() if k not in ("oneOf", "anyOf", "allOf")}
    parts = alternatives if alternatives is not None and len(alternatives) == 1 else []
    for part in [*parts, *schema.get("allOf", ())]:
        inner = plain_schema(document, part)
        both = {**plain.get("properties", {}), **inner.get("properties", {})}
        plain = {**plain, **inner, **({"properties": both} if both else {})}
    if isinstance(plain.get("type"), list):
        kinds = [kind for kind in plain["type"] if kind != "null"]
        plain["type"] = kinds[0] if len(kinds) == 1 else None
    return plain


def fields_of(document: Mapping[str, Any], schema: Mapping[str, Any]) -> tuple[Field, ...]:
    """The members of a record's schema, in the document's order. Empty when it is no object."""
    found = data_type(document, schema)
    return found.fields if isinstance(found, StructOf) else ()


def data_type(
    document: Mapping[str, Any], schema: Mapping[str, Any], within: tuple[str, ...] = ()
) -> DataType:
    """The type of a schema at every depth.

    What has no single shape is JSON: a schema that contains itself, several alternatives,
    an object without declared members, an array of such.

    Args:
        document: the whole OpenAPI document, for `$ref`.
        schema: the schema.
        within: references on the way here, by which a recursion is known.
    """
    if "$ref" in schema:
        if schema["$ref"] in within:
            return JSON
        within = (*within, schema["$ref"])
        return data_type(document, resolve(document, {"$ref": schema["$ref"]}), within)
    alternatives = _alternatives(document, schema)
    if alternatives is not None:
        return data_type(document, alternatives[0], within) if len(alternatives) == 1 else JSON
    if "allOf" in schema:
        return _merged(document, schema, within)
    return _plain(document, schema, within)


def _alternatives(
    document: Mapping[str, Any], schema: Mapping[str, Any]
) -> list[Mapping[str, Any]] | None:
    """The members of oneOf/anyOf that are not `null`; None when there is no such keyword."""
    members = schema.get("oneOf") or schema.get("anyOf")
    if members is None:
        return None
    return [m for m in members if resolve(document, m).get("type") not in ("null", ["null"])]


def _merged(
    document: Mapping[str, Any], schema: Mapping[str, Any], within: tuple[str, ...]
) -> DataType:
    said = [
        part
        for part in schema["allOf"]
        if part.keys() & {"$ref", "type", "properties"} or part.keys() & {"oneOf", "anyOf", "allOf"}
    ]
    parts = [data_type(document, part, within) for part in said]
    if schema.get("properties"):
        parts.append(_plain(document, schema, within))
    if len(parts) == 1:
        return parts[0]
    structs = [part for part in parts if isinstance(part, StructOf)]
    if len(structs) < len(parts):
        return JSON
    return StructOf(tuple({f.name: f for part in structs for f in part.fields}.values()))


def _plain(
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
            return _object(document, schema, within)
        case "array":
            item = data_type(document, schema.get("items") or {}, within)
            return JSON if item == JSON else ListOf(item)
        case kind:
            return Scalar(_scalar(kind, schema.get("format")))


def _object(
    document: Mapping[str, Any], schema: Mapping[str, Any], within: tuple[str, ...]
) -> DataType:
    members = schema.get("properties") or {}
    if not members:
        return JSON
    fields: dict[str, Field] = {}
    for name, member in members.items():
        field = Field(name, data_type(document, member, within))
        if field.column:  # of two that DuckDB cannot tell apart, the second stays in _extra
            fields.setdefault(field.column, field)
    return StructOf(tuple(fields.values()))


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
