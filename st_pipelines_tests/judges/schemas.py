"""Follows references inside the vendor's documents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from st_pipelines_tests.judges.documents import Operation

Schema = Mapping[str, Any]


def resolve(operation: Operation, schema: Schema) -> Schema:
    """Follow references, and leave out that a value may be null."""
    while True:
        if "$ref" in schema:
            schema = _follow(operation, schema["$ref"])
            continue
        choices = schema.get("oneOf") or schema.get("anyOf") or schema.get("allOf") or ()
        choices = [choice for choice in choices if choice.get("type") != "null"]
        if len(choices) != 1:
            return schema
        schema = choices[0]


def _follow(operation: Operation, reference: str) -> Schema:
    value: Any = operation.document.content
    for step in reference.removeprefix("#/").split("/"):
        value = value[step.replace("~1", "/").replace("~0", "~")]
    return value
