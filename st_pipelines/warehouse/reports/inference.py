"""Infers the type of a report's column from its values, and what they look like in a wider type.

A type fits if it returns every value exactly as served: a number by its value, a text by its
spelling. From narrow to wide: BIGINT, DECIMAL(38,10), DOUBLE (only where decimals have too few
places, as for rates such as 0.3333333333333333), and VARCHAR, which holds everything. Texts become
DATE or TIMESTAMPTZ only where all are spelled alike: 2026-03-10, or 2026-03-10T15:00:00Z. A time
with another offset stays text, since its offset would be lost.

Declared types are not used: they do not match the values (several public clients).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

from st_pipelines.catalog.model import ScalarName
from st_pipelines.warehouse.staging import grammar
from st_pipelines.warehouse.staging.conform import encode_exactly

NARROWEST_FIRST: tuple[ScalarName, ...] = (
    "BOOLEAN",
    "BIGINT",
    "DECIMAL",
    "DOUBLE",
    "DATE",
    "TIMESTAMPTZ",
)
"""The types besides VARCHAR. Those of one value are next to each other."""

WIDER: dict[ScalarName, frozenset[ScalarName]] = {
    "BOOLEAN": frozenset({"BOOLEAN"}),
    "BIGINT": frozenset({"BIGINT", "DECIMAL", "DOUBLE"}),
    "DECIMAL": frozenset({"DECIMAL", "DOUBLE"}),
    "DOUBLE": frozenset({"DOUBLE"}),
    "DATE": frozenset({"DATE"}),
    "TIMESTAMPTZ": frozenset({"TIMESTAMPTZ"}),
}
"""The types other than VARCHAR that may hold the values of a column as well. Not every DECIMAL or
BIGINT is exact as a DOUBLE: whoever widens a column checks its values."""

MAX_EXACT_INTEGER = 2**53
"""Up to here every integer is exact as a double."""

_TIME = re.compile(r"[1-9]\d{3}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,5}[1-9]|\.[1-9])?Z", re.ASCII)
_MAX_PLAIN_DIGITS = 400


@dataclass
class ColumnValues:
    """What is known of the values of one column.

    Attributes:
        candidates: the types that hold all values so far.
        count: values that are not null.
        example: the first of them, as JSON.
    """

    candidates: set[ScalarName] = field(default_factory=lambda: set(NARROWEST_FIRST))
    count: int = 0
    example: str = ""

    def add(self, value: Any) -> None:
        """Adds a value decoded by `conform.decode_exactly`; null says nothing."""
        if value is None:
            return
        if not self.count:
            self.example = encode_exactly(value).decode(errors="replace")[:80]
        self.count += 1
        if self.candidates:
            self.candidates &= find_types(value)


def find_types(value: Any) -> frozenset[ScalarName]:
    """Returns the types besides VARCHAR that hold a value exactly."""
    match value:
        case bool():
            return _BOOLEAN
        case int():
            return _types_of_integer(value)
        case float() | Decimal():
            return _types_of_fraction(value)
        case str():
            return _types_of_text(value)
    return _NONE


_NONE: frozenset[ScalarName] = frozenset()
_BOOLEAN: frozenset[ScalarName] = frozenset({"BOOLEAN"})
_SMALL: frozenset[ScalarName] = frozenset({"BIGINT", "DECIMAL", "DOUBLE"})


def _types_of_integer(value: int) -> frozenset[ScalarName]:
    if abs(value) <= MAX_EXACT_INTEGER:
        return _SMALL
    found: set[ScalarName] = set()
    if -(2**63) <= value < 2**63:
        found.add("BIGINT")
    if _is_exact_decimal(value):
        found.add("DECIMAL")
    return frozenset(found)


def _types_of_fraction(value: float | Decimal) -> frozenset[ScalarName]:
    """The types of a number with a point or an exponent: 5.0 is a decimal, as 5.5 may follow."""
    found: set[ScalarName] = set()
    if _is_exact_decimal(value):
        found.add("DECIMAL")
    if _is_exact_double(value):
        found.add("DOUBLE")
    return frozenset(found)


def _is_exact_decimal(value: float | Decimal) -> bool:
    rounded = grammar.round_decimal(value)
    return rounded is not None and rounded == Decimal(str(value)) and abs(rounded) < 10**28


def _is_exact_double(value: float | Decimal) -> bool:
    try:
        return Decimal(repr(float(value))) == Decimal(str(value))
    except (OverflowError, ValueError):
        return False


def _types_of_text(text: str) -> frozenset[ScalarName]:
    if len(text) == 10 and grammar.is_day(text) and not grammar.is_no_time(text):
        return frozenset({"DATE"})
    is_time = _TIME.fullmatch(text) and grammar.is_timestamp(text) and not grammar.is_no_time(text)
    return frozenset({"TIMESTAMPTZ"}) if is_time and _is_clock_time(text) else _NONE


def _is_clock_time(text: str) -> bool:
    """Whether Python and DuckDB know the time: not 24:00:00, nor the second 60."""
    try:
        return format_time(datetime.fromisoformat(text.replace("Z", "+00:00"))) == text
    except ValueError:
        return _fits_with_padding(text)


def _fits_with_padding(text: str) -> bool:
    """The same where Python 3.10 needs the fraction in three or six digits."""
    seconds, _, fraction = text.rstrip("Z").partition(".")
    try:
        moment = datetime.fromisoformat(f"{seconds}.{fraction:0<6}+00:00")
    except ValueError:
        return False
    return format_time(moment) == text


def format_time(moment: datetime) -> str:
    """Returns how a TIMESTAMPTZ was spelled: in UTC, without zeros at the end of the fraction."""
    text = moment.astimezone(timezone.utc).replace(tzinfo=None).isoformat()
    whole, point, fraction = text.partition(".")
    return f"{whole}{point}{fraction.rstrip('0')}Z"


def to_text(value: Any) -> str | None:
    """Returns a value as a VARCHAR column holds it; None for null.

    Numbers are written without an exponent and without zeros at their end, as a narrower column's
    values are when it is widened.
    """
    match value:
        case None | str():
            return value
        case bool():
            return "true" if value else "false"
        case int() | float() | Decimal():
            return format_number(value)
    return encode_exactly(value).decode(errors="replace")


def format_number(value: float | Decimal) -> str:
    """Returns a number in plain digits."""
    number = Decimal(str(value))
    if abs(number.adjusted()) > _MAX_PLAIN_DIGITS:
        return str(number)
    text = format(number, "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text in ("-0", "") else text
