"""The grammar of scalar values: which spellings of a number, time or truth value mean one.

Both ways into a table follow it, so a value does not depend on the page it came with. The fast
way (`strict_types`, then `read_json`) accepts a part of it, and whatever it refuses goes the
careful way (`conform`), which accepts exactly this. Only ASCII digits count.

It also names the values that are known to mean nothing. They are NULL in the column and kept in
`_extra`, but they are not drift.
"""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta
from decimal import Context, Decimal
from typing import Any

import msgspec

from st_pipelines.catalog.model import DataType, Scalar

NUMBER = r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"
"""A number as JSON spells it, also where it is served as text."""

_DATE = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_number = re.compile(NUMBER)
_integer = re.compile(r"0|-?[1-9][0-9]{0,18}")  # 007 would come back as 7
_day = re.compile(_DATE)
_midnight = re.compile(rf"({_DATE})(?:[T ]00:00:00(?:\.0+)?(?:Z|[+-]00:?00)?)?")
_timestamp = re.compile(
    rf"{_DATE}[T ][0-9]{{2}}:[0-9]{{2}}:[0-9]{{2}}(?:\.[0-9]+)?(?:Z|[+-][0-9]{{2}}:?[0-9]{{2}})?"
)
_fraction = re.compile(r"\.[0-9]+")
_no_number = re.compile(r"[+-]?(?:nan|inf|infinity|∞)", re.IGNORECASE)

NO_TIME = b'"0001-01-0'
"""How the JSON of every value begins that means "no time"."""

_SECOND_DAY = datetime(1, 1, 2)
_DECIMAL_STEP, _DECIMAL_DIGITS = Decimal(1).scaleb(-10), Context(prec=38)


def is_number(text: str) -> bool:
    """Whether the text is a number. Python would also parse 1_0, DuckDB +5, 007 and " 5"."""
    return _number.fullmatch(text) is not None


def is_integer(text: str) -> bool:
    """Whether the text is an integer of up to 19 digits."""
    return _integer.fullmatch(text) is not None


def is_timestamp(text: str) -> bool:
    """Whether the text is a date, or a date and a time of the years 1 to 9999."""
    return is_day(text) or _parse_timestamp(text) is not None


def is_day(text: str) -> bool:
    """Whether the text is a date: 20260102 and 2026-W01-5 are not."""
    if not _day.fullmatch(text):
        return False
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def is_date(value: Any) -> bool:
    """Whether it is a date, or a timestamp at midnight, which is how the API serves dates."""
    match = _midnight.fullmatch(value) if isinstance(value, str) else None
    return match is not None and is_day(match[1])


def is_no_time(value: Any) -> bool:
    """Whether it is .NET's default for a time that was never set, 0001-01-01T00:00:00Z.

    Converted between zones, the default gets another hour or day. The first day of the year 1
    therefore counts as a whole, both as written and in UTC. A column never gets a time before it.
    """
    if not isinstance(value, str) or not value.startswith(("0001-01-01", "0001-01-02")):
        return False
    if is_day(value):
        return value.endswith("01")
    moment = _parse_timestamp(_fraction.sub("", value))  # msgspec rounds up, into the next day
    if moment is None:
        return False
    offset = moment.utcoffset() or timedelta()
    return moment.day == 1 or moment.replace(tzinfo=None) - offset < _SECOND_DAY


def is_known(value: Any, type_: DataType | None) -> bool:
    """Whether a value that its column does not hold as served is expected there all the same.

    Args:
        value: as decoded for `_extra`.
        type_: the catalog's type of the column or member.
    """
    match type_:
        case Scalar("TIMESTAMPTZ" | "DATE"):
            return is_no_time(value)
        case Scalar("DOUBLE"):
            return _is_no_number(value)
        case Scalar("DECIMAL"):
            return _is_no_number(value) or round_decimal(value) is not None
    return False


def round_decimal(value: Any) -> Decimal | None:
    """Returns a number as a DECIMAL(38,10) holds it, rounded; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        return None
    if isinstance(value, str) and not is_number(value):
        return None
    try:
        return Decimal(str(value)).quantize(_DECIMAL_STEP, context=_DECIMAL_DIGITS)
    except ArithmeticError:  # not finite, or too large
        return None


def _is_no_number(value: Any) -> bool:
    return isinstance(value, str) and _no_number.fullmatch(value) is not None


def _parse_timestamp(text: str) -> datetime | None:
    try:
        return msgspec.convert(text, datetime) if _timestamp.fullmatch(text) else None
    except msgspec.ValidationError:
        return None
