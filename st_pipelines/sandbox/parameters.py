"""Reads the query of a request as its operation declares it.

A value of the wrong type, a missing required parameter and an unknown enum value are refused with
400. Parameters that the operation does not declare are ignored, as in ServiceTitan.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from st_pipelines.catalog.specification import ApiSpecification, Parameter, ReadOperation, Schema
from st_pipelines.sandbox import ticks

MAX_IDS = 50
"""How many ids a list takes at a time, where the document states no other number."""

DEFAULT_PAGE_SIZE = 50
MAX_PAGE_SIZE = 5000
"""The largest page of a list whose document states none."""

MAX_PAGE_SIZES: Mapping[str, int] = {"/inventory/v2/tenant/{tenant}/return-types": 500}
"""Limits that clients have met and the documents do not state."""

REFUSES_PAGE_ZERO = re.compile(r"^/jpm/.*/custom-fields$")
"""Lists that answer page 0 with 400. Others take it for the first page."""

NEEDS_ONE_OF: Mapping[str, tuple[str, ...]] = {
    "/crm/v2/tenant/{tenant}/customers/contacts": (
        "customerIds",
        "modifiedBefore",
        "modifiedOnOrAfter",
    ),
    "/crm/v2/tenant/{tenant}/locations/contacts": (
        "locationIds",
        "modifiedBefore",
        "modifiedOnOrAfter",
        "createdBefore",
        "createdOnOrAfter",
    ),
}
"""Lists that refuse a request without any of these filters, as their documents say in prose."""

_INTEGER = re.compile(r"[+-]?\d+")
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")


class BadRequest(Exception):
    """A parameter that ServiceTitan rejects with 400.

    Args:
        parameter: the name.
        reason: what is wrong with it.
    """

    def __init__(self, parameter: str, reason: str) -> None:
        super().__init__(f"{parameter}: {reason}")
        self.parameter = parameter
        self.reason = reason


def read_query(
    api: ApiSpecification, operation: ReadOperation, pairs: Iterable[tuple[str, str]]
) -> dict[str, Any]:
    """Read the declared parameters of a query, by the name in the document.

    Integers become `int`, numbers `float`, booleans `bool`, times ticks, and arrays tuples. Enum
    values keep the spelling of the document. Empty values count as missing.

    Raises:
        BadRequest: a value does not fit its declaration, or a required parameter is missing.
    """
    pairs = list(pairs)
    given: dict[str, list[str]] = {}
    for name, text in pairs:
        if text.strip():
            given.setdefault(name.lower(), []).append(text.strip())
    values: dict[str, Any] = {}
    for parameter in operation.query.values():
        if parameter.schema.values is not None:
            values |= _read_dictionary(parameter, pairs)
            continue
        texts = given.get(parameter.name.lower(), [])
        if texts:
            values[parameter.name] = _read(api, parameter, texts)
        elif parameter.required:
            raise BadRequest(parameter.name, f"The {parameter.name} field is required.")
        elif parameter.default is not None:
            values[parameter.name] = parameter.default
    needed = NEEDS_ONE_OF.get(operation.path, ())
    if needed and not any(name in values for name in needed):
        raise BadRequest(needed[0], f"One of {', '.join(needed)} is required.")
    return values


def _read_dictionary(parameter: Parameter, pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Read texts by name; nothing if there are none.

    They are written `customField.fieldName1=value1&customField.fieldName2=value2`. One document has
    this example, and none has another.

    Raises:
        BadRequest: there are too many.
    """
    prefix = f"{parameter.name}."
    size = len(prefix)
    found = {
        name[size:]: text.strip()
        for name, text in pairs
        if name.lower().startswith(prefix.lower()) and text.strip()
    }
    if parameter.max_items and len(found) > parameter.max_items:
        raise BadRequest(parameter.name, f"At most {parameter.max_items} values are allowed.")
    return {parameter.name: found} if found else {}


def read_page(operation: ReadOperation, values: Mapping[str, Any]) -> tuple[int, int]:
    """Return the number of the page, counted from 0, and its size.

    Raises:
        BadRequest: a number is out of range.
    """
    first = find_first_page(operation)
    page = values.get("page", first)
    size = values.get("pageSize", find_default_page_size(operation))
    if page == 0 and first == 1:
        if REFUSES_PAGE_ZERO.match(operation.path):
            raise BadRequest("page", "The value must be at least 1.")
        page = 1
    if page < first:
        raise BadRequest("page", f"The value must be at least {first}.")
    largest = find_max_page_size(operation)
    if not 1 <= size <= largest:
        raise BadRequest("pageSize", f"The value must be from 1 to {largest}.")
    return page - first, size


def find_first_page(operation: ReadOperation) -> int:
    """Return the number of the first page: 0 if the document allows it, or else 1."""
    page = operation.query.get("page")
    return 0 if page and page.schema.limits.get("minimum") == 0 else 1


def find_default_page_size(operation: ReadOperation) -> int:
    """Return the size of a page without `pageSize`."""
    size = operation.query.get("pageSize")
    return int(size.default) if size and size.default else DEFAULT_PAGE_SIZE


def find_max_page_size(operation: ReadOperation) -> int:
    """Return the largest page that the list serves."""
    size = operation.query.get("pageSize")
    stated = size.schema.limits.get("maximum") if size else None
    return int(stated or MAX_PAGE_SIZES.get(operation.path, MAX_PAGE_SIZE))


def read_path_value(api: ApiSpecification, parameter: Parameter, text: str) -> Any:
    """Read the value of a path parameter.

    Raises:
        BadRequest: it is of another type.
    """
    return _read_value(parameter.name, api.resolve(parameter.schema), text)


def _read(api: ApiSpecification, parameter: Parameter, texts: list[str]) -> Any:
    name, schema = parameter.name, api.resolve(parameter.schema)
    if schema.kind == "array":
        assert schema.items is not None
        items = api.resolve(schema.items)
        if items.kind == "object":
            return tuple(texts)
        # A plain list of items is sent as one parameter per item; clients send commas, too.
        texts = [item for text in texts for item in text.split(",") if item.strip()]
        most = schema.limits.get("maxItems", parameter.max_items)
        if most and len(texts) > most:
            raise BadRequest(name, f"At most {most} values are allowed.")
        return tuple(_read_value(name, items, text.strip()) for text in texts)
    text = texts[0]
    if schema.kind == "string" and (parameter.max_items or name == "ids"):
        items_given = text.split(",")
        if len(items_given) > (parameter.max_items or MAX_IDS):
            raise BadRequest(name, f"At most {parameter.max_items or MAX_IDS} values are allowed.")
    return _read_value(name, schema, text)


def _read_value(name: str, schema: Schema, text: str) -> Any:
    invalid = BadRequest(name, f"The value '{text}' is not valid.")
    if schema.enum:
        by_spelling = {str(value).lower(): value for value in schema.enum}
        if text.lower() not in by_spelling:
            raise invalid
        return by_spelling[text.lower()]
    try:
        value = _convert(schema, text)
    except ValueError:
        raise invalid from None
    _check_limits(name, schema, value)
    return value


def _convert(schema: Schema, text: str) -> Any:
    """Convert a text to its declared type. Raises ValueError if it is of another type."""
    if schema.kind == "integer":
        if not _INTEGER.fullmatch(text):
            raise ValueError
        return int(text)
    if schema.kind == "number":
        if not _NUMBER.fullmatch(text):
            raise ValueError
        return float(text)
    if schema.kind == "boolean":
        if text.lower() not in ("true", "false"):
            raise ValueError
        return text.lower() == "true"
    if schema.format in ("date-time", "date"):
        return ticks.parse(text)
    if schema.format == "guid":
        return str(UUID(text))
    return text


def _check_limits(name: str, schema: Schema, value: Any) -> None:
    limits = schema.limits
    if isinstance(value, str):
        low, high, size = limits.get("minLength"), limits.get("maxLength"), len(value)
    elif isinstance(value, int | float) and not isinstance(value, bool) and name != "pageSize":
        low, high, size = limits.get("minimum"), limits.get("maximum"), value
    else:
        return
    if (low is not None and size < low) or (high is not None and size > high):
        raise BadRequest(name, f"The value must be from {low} to {high}.")
