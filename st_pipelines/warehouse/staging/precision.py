"""Finds numbers with more digits than DuckDB keeps, at the speed of a byte search.

Parsing each number of a page would cost more than loading it. The check therefore searches for
runs of digits that are too long, and parses the number and its name only where it finds one.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator

from st_pipelines.catalog.model import DataType, Field, ListOf, Scalar, StructOf
from st_pipelines.warehouse.columns import DUCKDB_1

_TO_SHAPE = bytes(
    ord("0")
    if byte in b"0123456789"
    else byte
    if byte in b".-"
    else ord("e")
    if byte in b"eE"
    else ord(" ")
    for byte in range(256)
)
_FINE = re.compile(rb"\.[0-9]{10}0*[1-9]")
"""A fraction with more than the 10 places of DECIMAL(38,10)."""
_LONG = (b"0" * 16, b"000000.")
"""A number with either shape may have more than the 15 digits that a double holds exactly."""
_SMALL_EXPONENT = b"0e-0"
"""The shape of a number such as 1e-12, which a decimal would round to 0."""
_LONG_EXPONENTS = (b"0e-000", b"0e 000", b"0e000")
"""The shapes of a number such as 1e-400, which underflows a double; a plus sign becomes a space."""
_NUMBER = re.compile(rb"(\d+)(?:\.(\d*?)0*)?(?![\d.])")
_NAME = re.compile(rb'"([^"\\]*)"\s*:\s*"?-?$')
_MAX_NAME_BYTES = 80
_BEFORE_A_NUMBER = (b":", b",", b"[", b'"', b" ", b"\n", b"\t", b"\r")


class PrecisionCheck:
    """Detects pages with numbers that their columns may not hold exactly.

    A decimal may have 10 places. Numbers in JSON columns, and in DuckDB 1 all decimals, pass
    through a double and may have 15 digits. A DOUBLE column keeps the double that was served.

    Attributes:
        has_json: whether any of the row's fields is JSON.
    """

    def __init__(self, fields: tuple[Field, ...]) -> None:
        """Finds out which of a row's fields need the check."""
        scalars = list(_scalars(fields))
        self.has_json = any(type_ == Scalar("JSON") for _, type_ in scalars)
        self._has_decimals = any(type_ == Scalar("DECIMAL") for _, type_ in scalars)
        exact = {name for name, type_ in scalars if type_ != Scalar("DOUBLE")}
        doubles = {name for name, type_ in scalars if type_ == Scalar("DOUBLE")}
        self._doubles = frozenset(name.encode() for name in doubles - exact)
        self._through_doubles = self.has_json or DUCKDB_1

    def may_be_inexact(self, records: bytes) -> bool:
        """Whether the page's records must be checked one by one."""
        if self._has_decimals and self._has_fine_fraction(records):
            return True
        if not (self._has_decimals or self._through_doubles):
            return False
        shape = records.translate(_TO_SHAPE)
        if self._has_decimals and self._has_exponent(records, shape, _SMALL_EXPONENT):
            return True
        if self.has_json and any(
            self._has_exponent(records, shape, pattern) for pattern in _LONG_EXPONENTS
        ):
            return True
        return self._through_doubles and self._has_long_number(records, shape)

    def _has_fine_fraction(self, records: bytes) -> bool:
        return any(
            not self._is_double(records, _find_start(records, match.start()))
            for match in _FINE.finditer(records)
        )

    def _has_long_number(self, records: bytes, shape: bytes) -> bool:
        for pattern in _LONG:
            position = shape.find(pattern)
            while position >= 0:
                match = _NUMBER.match(records, _find_start(records, position))
                if match is None:
                    return True
                digits = (match[1] + (match[2] or b"")).strip(b"0")
                if len(digits) > 15 and not self._is_double(records, match.start()):
                    return True
                position = shape.find(pattern, max(match.end(), position + 1))
        return False

    def _is_double(self, records: bytes, start: int) -> bool:
        """Whether the number belongs to a field that is a DOUBLE wherever its name occurs."""
        if self.has_json:
            return False
        name = _NAME.search(records, max(0, start - _MAX_NAME_BYTES), start)
        return name is not None and name[1] in self._doubles

    def _has_exponent(self, records: bytes, shape: bytes, pattern: bytes) -> bool:
        """Whether a number has an exponent of this shape; a part of a GUID is not a number."""
        position = shape.find(pattern)
        while position >= 0:
            start = _find_start(records, position)
            before = records[start - 1 : start].lstrip(b"-") or records[start - 2 : start - 1]
            if before in _BEFORE_A_NUMBER and not self._is_double(records, start):
                return True
            position = shape.find(pattern, position + 1)
        return False


@functools.lru_cache(maxsize=1024)
def build_precision_check(fields: tuple[Field, ...]) -> PrecisionCheck:
    """Returns the check for rows with these fields."""
    return PrecisionCheck(fields)


def _find_start(records: bytes, position: int) -> int:
    """Returns where the number around a position begins."""
    while position > 0 and records[position - 1] in b"0123456789.":
        position -= 1
    return position


def _scalars(fields: tuple[Field, ...]) -> Iterator[tuple[str, DataType]]:
    """Yields the name and type of every scalar at every depth."""
    for field in fields:
        yield from _scalars_of(field.name, field.type)


def _scalars_of(name: str, type_: DataType) -> Iterator[tuple[str, DataType]]:
    match type_:
        case ListOf(item):
            yield from _scalars_of(name, item)
        case StructOf(fields):
            yield from _scalars(fields)
        case _:
            yield name, type_
