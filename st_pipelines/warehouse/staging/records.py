"""Splits a page of JSON into records and decodes each one, losing no digit and no byte.

This is the slow path, for pages that do not match the catalog. `conform` makes what it decodes fit.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import msgspec

from st_pipelines import json_text
from st_pipelines.warehouse.errors import MalformedRecords
from st_pipelines.warehouse.staging import json_path
from st_pipelines.warehouse.staging.conform import decode_exactly, exact_number

_SEPARATOR = re.compile(r"[ \t\r\n]*([\[,])[ \t\r\n]*")
_MAX_INT_DIGITS = 4000  # Python's int() refuses more than 4300


def split_records(page: bytes) -> Iterator[bytes]:
    """Yields the text of each record in a page.

    Raises:
        MalformedRecords: the page is not a JSON array.
    """
    try:
        yield from map(bytes, msgspec.json.decode(page, type=list[msgspec.Raw]))
    except (msgspec.MsgspecError, RecursionError) as error:
        if json_text.replace_lone_surrogates(page) is page:
            raise MalformedRecords(f"not an array of records: {error}") from None
        yield from _split_with_surrogates(page)


def _split_with_surrogates(page: bytes) -> Iterator[bytes]:
    """Does the same with a slower parser, which accepts lone surrogates."""
    text = page.decode(errors="surrogateescape")
    parse = json.JSONDecoder(parse_int=str, parse_float=str).raw_decode
    position, expected = 0, "["
    try:
        while (found := _SEPARATOR.match(text, position)) and found[1] == expected:
            _, position = parse(text, found.end())
            yield text[found.end() : position].encode(errors="surrogateescape")
            expected = ","
    except (ValueError, RecursionError) as error:
        raise MalformedRecords(f"not an array of records: {error}") from None
    if text[position:].strip() != "]":
        raise MalformedRecords(f"not an array of records: it breaks off at character {position}")


def decode_record(text: bytes) -> tuple[Any, dict[str, Any]]:
    """Decodes a record.

    Returns:
        The record with invalid characters replaced, and an `_extra` dict that holds the record as
        served if anything was replaced.

    Raises:
        MalformedRecords: the text is not JSON.
    """
    extra: dict[str, Any] = {}
    try:
        decoded = text.decode()
    except UnicodeDecodeError:
        extra[json_path.INVALID_TEXT] = text.decode("latin-1")
        decoded = text.decode(errors="replace")
    valid = json_text.replace_lone_surrogates(decoded.encode()).decode()
    if valid != decoded and not extra:
        extra[json_path.LONE_SURROGATES] = decoded
    try:
        return decode_exactly(valid), extra
    except (msgspec.DecodeError, RecursionError) as error:
        reason = error
    try:
        if isinstance(reason, msgspec.ValidationError):  # an integer with thousands of digits
            return json.loads(valid, parse_int=_parse_int, parse_float=exact_number), extra
    except (ValueError, RecursionError) as error:
        reason = error
    raise MalformedRecords(f"a record is not valid JSON: {reason}")


def _parse_int(text: str) -> int | Decimal:
    return int(text) if len(text) < _MAX_INT_DIGITS else Decimal(text)
