"""Splits a page of JSON into records and decodes each one, losing no digit and no byte.

This is the slow path, for pages that do not match the catalog. `conform` makes what it decodes fit.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from st_pipelines import json_text
from st_pipelines.warehouse.errors import MalformedRecords
from st_pipelines.warehouse.staging import json_path
from st_pipelines.warehouse.staging.conform import (
    RepeatedNames,
    decode_exactly,
    exact_integer,
    exact_number,
)

_NAME = re.compile(r'"\s*:')
"""Matches once at each member of an object, and perhaps within strings."""


def split_records(page: bytes) -> Iterator[bytes]:
    """Yields the text of each record in a page.

    Raises:
        MalformedRecords: the page is not a JSON array.
    """
    try:
        yield from map(bytes, msgspec.json.decode(page, type=list[msgspec.Raw]))
    except (msgspec.MsgspecError, RecursionError):
        try:
            yield from json_text.split_array(page)
        except ValueError as error:
            raise MalformedRecords(f"not an array of records: {error}") from None


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """A record, as far as it can be read.

    Attributes:
        record: an object, usually; of members with one name in one object the first counts.
        extra: for `_extra`: the record as served, if it could not be read as it is.
        has_repeated_names: whether an object in it is `RepeatedNames`.
    """

    record: Any
    extra: dict[str, Any]
    has_repeated_names: bool


def decode_record(text: bytes) -> Decoded:
    """Decodes a record.

    Raises:
        MalformedRecords: the end of the record or of a string in it is unknown.
    """
    extra: dict[str, Any] = {}
    try:
        decoded = text.decode()
    except UnicodeDecodeError:
        extra[json_path.INVALID_TEXT] = text.decode("latin-1")
        decoded = text.decode(errors="replace")
    valid = json_text.replace_lone_surrogates(decoded.encode())
    if valid != decoded.encode() and not extra:
        extra[json_path.LONE_SURROGATES] = decoded
    try:
        return _decode(valid, extra)
    except (ValueError, RecursionError):
        pass
    try:
        return _decode(json_text.repair(valid), extra or {json_path.MALFORMED: decoded})
    except (ValueError, RecursionError) as error:
        raise MalformedRecords(f"a record is not valid JSON: {error}") from None


def _decode(valid: bytes, extra: dict[str, Any]) -> Decoded:
    """Decodes valid JSON. Raises an error for any other, and for nesting that is too deep."""
    if json_text.is_too_deep(valid):
        raise ValueError("it is nested too deeply")
    text = valid.decode()
    record = decode_exactly(text)
    if _count_members(record) == len(_NAME.findall(text)):
        return Decoded(record=record, extra=extra, has_repeated_names=False)
    repeated: list[RepeatedNames] = []

    def build_object(members: list[tuple[str, Any]]) -> dict[str, Any]:
        names = dict(members)
        if len(names) == len(members):
            return names
        repeated.append(RepeatedNames(members))
        return repeated[-1]

    record = json.loads(
        text, parse_int=exact_integer, parse_float=exact_number, object_pairs_hook=build_object
    )
    return Decoded(record=record, extra=extra, has_repeated_names=bool(repeated))


def _count_members(value: Any) -> int:
    """Returns the number of members of all objects in a value."""
    match value:
        case dict():
            return len(value) + sum(_count_members(v) for v in value.values() if _is_nested(v))
        case list():
            return sum(_count_members(v) for v in value if _is_nested(v))
    return 0


def _is_nested(value: Any) -> bool:
    return type(value) is dict or type(value) is list
