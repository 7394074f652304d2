"""Reads the bodies of requests under `/_sandbox`, and refuses values that break later requests."""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from starlette.requests import Request
from starlette.responses import Response

from st_pipelines.catalog.specification import ApiSpecification, Schema
from st_pipelines.sandbox import responses, ticks
from st_pipelines.sandbox.collections import Collection

MAX_SECONDS = 10**9
"""About 31 years: more than a company's history, and less than what dates can hold."""

Endpoint: TypeAlias = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a member of a body may be.

    Attributes:
        description: of its values, for the message.
        accepts: whether a value is one of them.
    """

    description: str
    accepts: Callable[[Any], bool]


def _is_moment(value: Any) -> bool:
    try:
        ticks.parse(value)
    except (AttributeError, TypeError, ValueError, OverflowError):
        return False
    return True


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


SECONDS = Setting(
    description=f"a number of seconds from 0 to {MAX_SECONDS:,}",
    accepts=lambda value: _is_number(value) and 0 <= value <= MAX_SECONDS,
)
COUNT = Setting(
    description="an integer from 0",
    accepts=lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= 0,
)
MOMENT = Setting(description="a time such as 2026-01-02T03:04:05Z", accepts=_is_moment)
FLAG = Setting(description="true or false", accepts=lambda value: isinstance(value, bool))
TEXT = Setting(description="text", accepts=lambda value: isinstance(value, str))
OBJECT = Setting(description="an object", accepts=lambda value: isinstance(value, dict))
ANYTHING = Setting(description="any value", accepts=lambda value: True)


def choice(*values: str) -> Setting:
    """Returns a setting that is one of these texts."""
    return Setting(description=f"one of {', '.join(values)}", accepts=lambda value: value in values)


def answers_bad_values(endpoint: Endpoint) -> Endpoint:
    """Answers 400 with the text of a ValueError that the endpoint raises."""

    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except ValueError as error:
            return responses.build_json_response({"error": str(error)}, 400)

    return answer


async def read_body(request: Request, settings: Mapping[str, Setting]) -> dict[str, Any]:
    """Reads a JSON object whose members are some of these settings.

    Raises:
        ValueError: the body is not such an object; the message names the member.
    """
    names = ", ".join(settings)
    try:
        body = json.loads(await request.body())
    except (ValueError, RecursionError):
        raise ValueError(f"the body is not JSON: send an object with {names}") from None
    if not isinstance(body, dict):
        raise ValueError(f"the body is not an object: send one with {names}")
    for name, value in body.items():
        if name not in settings:
            raise ValueError(f"{name}: there is no such setting; name one of {names}")
        if not settings[name].accepts(value):
            raise ValueError(f"{name}: {_shorten(value)} is not {settings[name].description}")
    return body


def refuse_misfits(collection: Collection, fields: Mapping[str, Any]) -> None:
    """Refuses values of another JSON type than the schema gives the field: filters compare them.

    Null and fields that the schema does not have are accepted.

    Raises:
        ValueError: names the first such field.
    """
    for name, value in fields.items():
        if schema := collection.members.get(name):
            for misfit in _find_misfits(collection.specification, schema, value, f"fields.{name}"):
                raise ValueError(misfit)


_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
}


def _find_misfits(api: ApiSpecification, schema: Schema, value: Any, path: str) -> Iterator[str]:
    schema = api.resolve(schema)
    if value is None or schema.kind not in _TYPES:
        return
    if not _is_of_kind(value, schema.kind):
        yield f"{path}: {_shorten(value)} is not of the type {schema.kind}"
    elif schema.format == "date-time" and not _is_moment(value):
        yield f"{path}: {_shorten(value)} is not {MOMENT.description}"
    elif schema.kind == "array" and schema.items:
        for item in value:
            yield from _find_misfits(api, schema.items, item, f"{path}[]")
    elif schema.kind == "object":
        for name, member in schema.members.items():
            yield from _find_misfits(api, member, value.get(name), f"{path}.{name}")


def _is_of_kind(value: Any, kind: str) -> bool:
    # In Python, a boolean is an integer too.
    fits = isinstance(value, _TYPES[kind]) and isinstance(value, bool) == (kind == "boolean")
    return fits and not (isinstance(value, float) and not math.isfinite(value))


def _shorten(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
