"""One record made to fit its columns, with what does not fit set aside.

This is the slow and careful way, for the few records that differ from the catalogue. Nothing is
lost: each value that no column can hold as it is goes to `extra` under its path.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Context, Decimal, InvalidOperation
from typing import Any

import msgspec

from st_pipelines.catalog.model import DataType, Field, ListOf, Scalar, ScalarName, StructOf
from st_pipelines.warehouse.staging import json_path

_LARGEST_DECIMAL = Decimal(10) ** 28
_DECIMAL_STEP = Decimal(1).scaleb(-10)
_WIDE = Context(prec=38)
_EXACT_DIGITS = 15
_SMALLEST_EXACT, _LARGEST_EXACT = 1e-290, 1e290
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,18}")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
# Python also reads 20260102 and 2026-W01-5, which DuckDB does not.
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_TIMESTAMP = re.compile(_DATE.pattern + r"([T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)?)?")


class _Misfit(Exception):
    """A value that its column cannot hold. `nearest` is what the column gets instead."""

    def __init__(self, nearest: Any = None) -> None:
        self.nearest = nearest


@dataclass
class Conformed:
    """A record that fits, and what did not: `{"items[2].sku": "A-1"}`."""

    record: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)


def exact_number(text: str) -> float | Decimal | str:
    """A JSON number with a point: a float where that is exact in 15 digits, else a Decimal.

    One that not even a Decimal holds stays text.
    """
    digits = text.lower().split("e")[0].replace(".", "").lstrip("-0").rstrip("0")
    if len(digits) <= _EXACT_DIGITS and "e" not in text.lower():
        number = float(text)
        if not digits or _SMALLEST_EXACT < abs(number) < _LARGEST_EXACT:
            return number
    try:
        return Decimal(text)
    except InvalidOperation:  # an exponent beyond any number
        return text


decode_exactly = msgspec.json.Decoder(float_hook=exact_number).decode
encode = msgspec.json.Encoder(decimal_format="string").encode
encode_exactly = msgspec.json.Encoder(decimal_format="number").encode


def conform(record: Mapping[str, Any], fields: tuple[Field, ...]) -> Conformed:
    """Fits a decoded record (by `decode_exactly`) to the fields.

    Returns:
        The record with a value or None for every known field it carries, and the misfits: unknown
        fields, values of another type or beyond range, and decimals finer than 10 places (whose
        column holds them rounded).
    """
    conformed = Conformed()
    conformed.record = _struct(record, fields, "", conformed.extra)
    return conformed


def _struct(
    value: Mapping[str, Any], fields: tuple[Field, ...], path: str, extra: dict[str, Any]
) -> dict[str, Any]:
    types = {f.name: f.type for f in fields}
    fitted: dict[str, Any] = {}
    for name, member in value.items():
        where = json_path.append_member(path, name)
        if name in types:
            fitted[name] = _value(member, types[name], where, extra)
        else:
            extra[where] = member
    return fitted


def _value(value: Any, type_: DataType, path: str, extra: dict[str, Any]) -> Any:
    if value is None:
        return None
    match type_:
        case StructOf(fields) if isinstance(value, dict):
            return _struct(value, fields, path, extra)
        case ListOf(item) if isinstance(value, list):
            return [
                _value(v, item, json_path.append_item(path, i), extra) for i, v in enumerate(value)
            ]
        case Scalar(name):
            try:
                return _SCALARS[name](value)
            except _Misfit as misfit:
                extra[path] = value
                return misfit.nearest
    extra[path] = value
    return None


def _bigint(value: Any) -> int:
    if isinstance(value, str):
        if not _INTEGER.fullmatch(value):  # 007 is another text than 7
            raise _Misfit
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise _Misfit
    if not -(2**63) <= value < 2**63 or value != int(value):  # NaN is not between either
        raise _Misfit
    return int(value)


def _decimal(value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise _Misfit
    try:
        number = Decimal(str(value).strip())
    except InvalidOperation:
        raise _Misfit from None
    if not number.is_finite() or abs(number) >= _LARGEST_DECIMAL:
        raise _Misfit
    rounded = number.quantize(_DECIMAL_STEP, context=_WIDE)
    if rounded != number:
        raise _Misfit(rounded)
    return rounded


def _double(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise _Misfit
    if isinstance(value, str) and not _NUMBER.fullmatch(value):  # Python also reads 1_0
        raise _Misfit
    try:
        number = float(value)
    except OverflowError:
        raise _Misfit from None
    if not math.isfinite(number):
        raise _Misfit
    return number


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    raise _Misfit


def _varchar(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, dict | list):
        raise _Misfit
    return encode_exactly(value).decode()


def _timestamptz(value: Any) -> str:
    if not isinstance(value, str) or not _TIMESTAMP.fullmatch(value):
        raise _Misfit
    try:
        msgspec.convert(value, datetime)
    except msgspec.ValidationError:
        try:
            date.fromisoformat(value)
        except ValueError:
            raise _Misfit from None
    return value


def is_date(value: Any) -> bool:
    """Whether it is a date, or a midnight as which the API serves dates (facts, 7.5)."""
    if not isinstance(value, str) or not _DATE.fullmatch(value[:10]):
        return False
    try:
        date.fromisoformat(value[:10])
    except ValueError:
        return False
    clock = value[10:].removesuffix("Z").removesuffix("+00:00")
    return not clock or (clock.startswith("T00:00:00") and not clock[9:].strip(".0"))


def _date(value: Any) -> str:
    if is_date(value):
        return value[:10]
    if isinstance(value, str) and len(value) > 10 and is_date(value[:10]):
        raise _Misfit(value[:10])
    raise _Misfit


def _json(value: Any) -> Any:
    match value:
        case Decimal():
            return _json_number(value)
        case int() if not -(2**63) <= value < 2**64:
            return _json_number(Decimal(value))
        case dict():
            return {name: _json(member) for name, member in value.items()}
        case list():
            return [_json(item) for item in value]
    return value


def _json_number(value: Decimal) -> float:
    """DuckDB keeps of it what a double holds."""
    number = float(value)
    if not math.isfinite(number) or Decimal(repr(number)) != value:
        raise _Misfit
    return number


_SCALARS: dict[ScalarName, Callable[[Any], Any]] = {
    "BIGINT": _bigint,
    "DECIMAL": _decimal,
    "DOUBLE": _double,
    "BOOLEAN": _boolean,
    "VARCHAR": _varchar,
    "TIMESTAMPTZ": _timestamptz,
    "DATE": _date,
    "JSON": _json,
}
