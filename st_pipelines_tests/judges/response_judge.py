"""Judges responses by the vendor's schemas, with jsonschema (2020-12, formats included)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any
from urllib.parse import quote

from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.exceptions import ValidationError
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from st_pipelines_tests.judges.documents import Document, Operation, read_documents

FORMATS = FormatChecker(())
"""Only what `_checks_...` add at the end of this module."""
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,7})?(Z|[+-]\d\d:\d\d)?")
_DATE = re.compile(r"\d{4}-\d\d-\d\d(T00:00:00(\.0+)?Z?)?")
_GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_DURATION = re.compile(
    r"-?P(?=.)(\d+D)?(T(?=.)(\d+H)?(\d+M)?(\d+(\.\d+)?S)?)?|-?(\d+\.)?\d\d:\d\d:\d\d(\.\d{1,7})?"
)
"""ISO 8601, or the .NET form that calls were seen to have."""


def judge(operation: Operation, status: int, media_type: str, body: bytes) -> Iterator[str]:
    """Describe how a response deviates from the vendor's documents."""
    responses = operation.content["responses"]
    if str(status) not in responses:
        yield f"status {status} is not documented"
        return
    content = responses[str(status)].get("content", {})
    if not content:
        return
    if media_type not in content:
        yield f"{media_type or 'no media type'} instead of {' or '.join(content)}"
        return
    schema = content[media_type].get("schema")
    if schema is None or "json" not in media_type:
        return
    try:
        value = json.loads(body, parse_constant=_refuse)
    except ValueError as error:
        yield f"no JSON: {error}"
        return
    pointer = _pointer(operation, status, media_type)
    errors = _validator(operation, pointer).iter_errors(value)
    yield from sorted({_describe(error) for error in errors})


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _describe(error: ValidationError) -> str:
    """Describe an error by its place, with any index, and what is wrong there."""
    place = ".".join("[]" if isinstance(step, int) else step for step in error.absolute_path)
    return f"{place or 'body'}: {error.message[:200]}"


@lru_cache(maxsize=1024)
def _validator(operation: Operation, pointer: str) -> Draft202012Validator:
    document = operation.document
    return Draft202012Validator(
        {"$ref": f"urn:{document.name}#{pointer}"},
        registry=_registry(),
        format_checker=FORMATS,
    )


@lru_cache(maxsize=1)
def _registry() -> Registry[Any]:
    return Registry().with_resources(
        (f"urn:{document.name}", _resource(document)) for document in read_documents()
    )


def _resource(document: Document) -> Resource[Any]:
    return Resource(convert_nullable(document.content), DRAFT202012)


def convert_nullable(value: Any) -> Any:
    """Spell `nullable` of OpenAPI 3.0 as JSON Schema does."""
    if isinstance(value, list):
        return [convert_nullable(item) for item in value]
    if not isinstance(value, dict):
        return value
    converted = {name: convert_nullable(item) for name, item in value.items()}
    if converted.get("nullable") is True:
        del converted["nullable"]
        return {"anyOf": [converted, {"type": "null"}]}
    return converted


def _pointer(operation: Operation, status: int, media_type: str) -> str:
    path = operation.path.removeprefix(operation.document.base)
    steps = ("paths", path, operation.method.lower(), "responses", str(status), "content")
    return "".join(
        "/" + quote(step.replace("~", "~0").replace("/", "~1"), safe="~")
        for step in (*steps, media_type, "schema")
    )


def _checks_text(name: str, pattern: re.Pattern[str]) -> None:
    FORMATS.checks(name)(lambda v: not isinstance(v, str) or pattern.fullmatch(v) is not None)


def _checks_integer(name: str, bits: int) -> None:
    FORMATS.checks(name)(lambda v: not isinstance(v, int) or abs(v) < 2 ** (bits - 1))


_checks_text("date-time", _TIME)
_checks_text("date", _DATE)
_checks_text("guid", _GUID)
_checks_text("duration", _DURATION)
_checks_integer("int32", 32)
_checks_integer("int64", 64)
