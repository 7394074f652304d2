"""Judges the catalog's columns and scopes by the vendor's schemas.

A load stores what a column cannot hold in `_extra`, but nothing fails if a column is text where the
documents know a time. This compares the two, and shares no code with the build of the catalog.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from st_pipelines.catalog.model import DataType, Endpoint, Field, ListOf, Scalar, StructOf
from st_pipelines_tests.judges.documents import Operation, find_operation
from st_pipelines_tests.judges.schemas import Schema, resolve

JSON = Scalar("JSON")
"""The catalog keeps what has no fixed shape as JSON, which holds everything."""

ALLOWED: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("integer", ""): ("BIGINT",),
    ("number", ""): ("DECIMAL", "DOUBLE"),
    ("boolean", ""): ("BOOLEAN",),
    ("string", "date-time"): ("TIMESTAMPTZ",),
    ("string", "date"): ("DATE",),
    ("string", ""): ("VARCHAR", "DECIMAL"),  # money is text in some lists
}
"""The types of columns that hold a JSON type and format; any other format counts as none."""


def judge(endpoint: Endpoint) -> Iterator[str]:
    """Describe where an endpoint's columns, key and scope contradict the documents."""
    list_of = find_operation("POST" if endpoint.forecast else "GET", endpoint.path)
    export = find_operation("GET", endpoint.export.path) if endpoint.export else None
    operations = [operation for operation in (list_of, export) if operation is not None]
    if not operations:
        if not endpoint.removed:
            yield "no such operation"
        return
    for operation in operations:
        if endpoint.scope not in operation.scopes:
            yield f"{operation} needs {operation.scopes}, not {endpoint.scope}"
    records = [(o, record) for o in operations if (record := find_record(o, endpoint)) is not None]
    inserted = endpoint.parent.ids if endpoint.parent else ()
    for column in endpoint.columns:
        served = [
            (o, r["properties"][column.name]) for o, r in records if column.name in r["properties"]
        ]
        if records and not served and column.name not in inserted:
            yield f"{column.name} is not served"
        for operation, schema in served[:1]:
            yield from _judge_type(operation, schema, column.type, column.name)


def find_record(operation: Operation, endpoint: Endpoint) -> Schema | None:
    """Return the schema of the records that an operation lists, or None if it has none."""
    name = endpoint.member or "data"
    content = operation.content["responses"].get("200", {}).get("content", {})
    schema = next((c["schema"] for c in content.values() if "schema" in c), None)
    body = resolve(operation, schema) if schema else {}
    if endpoint.envelope == "object":
        return body if body.get("properties") else None
    if name in body.get("properties", {}):
        body = resolve(operation, body["properties"][name])
    if "items" not in body:
        return None
    record = resolve(operation, body["items"])
    return record if record.get("properties") else None


def _judge_type(operation: Operation, schema: Schema, kind: DataType, path: str) -> Iterator[str]:
    schema = resolve(operation, schema)
    types = schema.get("type", ())
    types = [types] if isinstance(types, str) else [t for t in types if t != "null"]
    if kind == JSON or len(types) != 1:
        return
    [json_type] = types
    if isinstance(kind, ListOf):
        if json_type != "array":
            yield f"{path} is {json_type}, not an array"
        elif "items" in schema:
            yield from _judge_type(operation, schema["items"], kind.item, f"{path}[]")
    elif isinstance(kind, StructOf):
        yield from _judge_members(operation, schema, kind.fields, path)
    else:
        format_ = schema.get("format", "")
        allowed = ALLOWED.get((json_type, format_)) or ALLOWED.get((json_type, ""), ())
        if kind.name not in allowed:
            yield f"{path} is {json_type} {format_}".strip() + f", not {kind.name}"


def _judge_members(
    operation: Operation, schema: Schema, fields: tuple[Field, ...], path: str
) -> Iterator[str]:
    members = schema.get("properties")
    if members is None:
        yield f"{path} is {schema.get('type')}, not an object"
        return
    for field in fields:
        if field.name not in members:
            yield f"{path}.{field.name} is not served"
        else:
            yield from _judge_type(
                operation, members[field.name], field.type, f"{path}.{field.name}"
            )
