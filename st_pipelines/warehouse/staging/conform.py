"""Makes one record fit its columns, and sets aside what does not fit.

This is the slow path, for the few records that differ from the catalog. Nothing is lost: each value
that its column cannot hold unchanged goes to `extra` under its JSON path.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from st_pipelines.catalog.model import DataType, Field, ListOf, Scalar, ScalarName, StructOf
from st_pipelines.warehouse.staging import grammar, json_path

_MAX_EXACT_DIGITS = 15
_MAX_INT_DIGITS = 4000  # Python's int() refuses more than 4300
_MIN_FLOAT, _MAX_FLOAT = 1e-4, 1e15  # written without an exponent


class _Misfit(Exception):
    """A value that its column cannot hold. The column gets `nearest` instead."""

    def __init__(self, nearest: Any = None) -> None:
        self.nearest = nearest


class RepeatedNames(dict[str, Any]):
    """An object with several members of one name, of which the first counts.

    Attributes:
        members: all of them, in the order served.
    """

    def __init__(self, members: list[tuple[str, Any]]) -> None:
        super().__init__()
        for name, member in members:
            self.setdefault(name, member)
        self.members = members


@dataclass
class Conformed:
    """A record that fits, and the values that did not: `{"items[2].sku": "A-1"}`."""

    record: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)


def exact_number(text: str) -> float | Decimal | str:
    """Parses a JSON number with a point: a float if 15 digits hold it, otherwise a Decimal.

    Encoded and parsed again, it is spelled the same. A number that no Decimal can hold stays text.
    """
    digits = text.lower().split("e")[0].replace(".", "").lstrip("-0").rstrip("0")
    if len(digits) <= _MAX_EXACT_DIGITS and "e" not in text.lower():
        number = float(text)
        if not digits or _MIN_FLOAT <= abs(number) < _MAX_FLOAT:
            return number
    try:
        return Decimal(text)
    except InvalidOperation:  # the exponent is too large
        return text


def exact_integer(text: str) -> int | Decimal:
    """Parses an integer of any number of digits."""
    return int(text) if len(text) < _MAX_INT_DIGITS else Decimal(text)


def decode_exactly(text: str) -> Any:
    """Decodes valid JSON without losing a digit. Of repeated names the last counts.

    Raises:
        msgspec.DecodeError: the text is not valid JSON.
    """
    try:
        return _decode(text)
    except msgspec.ValidationError:  # an integer with thousands of digits
        msgspec.json.decode(text, type=msgspec.Raw)  # json.loads accepts NaN
    return json.loads(text, parse_int=exact_integer, parse_float=exact_number)


_decode = msgspec.json.Decoder(float_hook=exact_number).decode
encode = msgspec.json.Encoder(decimal_format="string").encode
encode_exactly = msgspec.json.Encoder(decimal_format="number").encode


def conform(record: Mapping[str, Any], fields: tuple[Field, ...]) -> Conformed:
    """Fits a record decoded by `decode_exactly` to the fields.

    Returns:
        The record with a value or None for every known field it has, and the misfits: unknown
        fields, values of another type or out of range, and decimals with more than 10 places (the
        column gets them rounded).
    """
    conformed = Conformed()
    conformed.record = _fit_struct(record, fields, "", conformed.extra)
    return conformed


def is_ambiguous(value: Any, type_: DataType | None, extra: Container[str], path: str = "") -> bool:
    """Whether repeated names hide a value from the row. A JSON column keeps all members.

    Args:
        value: decoded by `records.decode_record`.
        type_: the column's; None for an unknown field.
        extra: the paths in the row's `_extra`.
        path: where the value is.
    """
    match value, type_:
        case dict() | list(), Scalar("JSON"):
            return path in extra and is_ambiguous(value, None, extra)
        case RepeatedNames(), _:
            return True
        case dict(), _:
            types = {f.name: f.type for f in type_.fields} if isinstance(type_, StructOf) else {}
            return any(
                is_ambiguous(member, types.get(name), extra, json_path.append_member(path, name))
                for name, member in value.items()
            )
        case list(), _:
            item = type_.item if isinstance(type_, ListOf) else None
            return any(
                is_ambiguous(v, item, extra, json_path.append_item(path, i))
                for i, v in enumerate(value)
            )
    return False


def _fit_struct(
    value: Mapping[str, Any], fields: tuple[Field, ...], path: str, extra: dict[str, Any]
) -> dict[str, Any]:
    types = {f.name: f.type for f in fields}
    fitted: dict[str, Any] = {}
    for name, member in value.items():
        member_path = json_path.append_member(path, name)
        if name in types:
            fitted[name] = _fit_value(member, types[name], member_path, extra)
        else:
            extra[member_path] = member
    return fitted


def _fit_value(value: Any, type_: DataType, path: str, extra: dict[str, Any]) -> Any:
    if value is None:
        return None
    match type_:
        case StructOf(fields) if isinstance(value, dict):
            return _fit_struct(value, fields, path, extra)
        case ListOf(item) if isinstance(value, list):
            return [
                _fit_value(v, item, json_path.append_item(path, i), extra)
                for i, v in enumerate(value)
            ]
        case Scalar(name):
            try:
                return _FIT_SCALAR[name](value)
            except _Misfit as misfit:
                extra[path] = value
                return misfit.nearest
    extra[path] = value
    return None


def _fit_bigint(value: Any) -> int:
    if isinstance(value, str):
        if not grammar.is_integer(value):
            raise _Misfit
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise _Misfit
    if not -(2**63) <= value < 2**63 or value != int(value):  # also false for NaN
        raise _Misfit
    return int(value)


def _fit_decimal(value: Any) -> Decimal:
    rounded = grammar.round_decimal(value)
    if rounded is None:
        raise _Misfit
    if rounded != Decimal(str(value)):
        raise _Misfit(rounded)
    return rounded


def _fit_double(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise _Misfit
    if isinstance(value, str) and not grammar.is_number(value):
        raise _Misfit
    try:
        number = float(value)
    except OverflowError:
        raise _Misfit from None
    if not math.isfinite(number):
        raise _Misfit
    return number


def _fit_boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    raise _Misfit


def _fit_varchar(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, dict | list):
        raise _Misfit
    return encode_exactly(value).decode()


def _fit_timestamptz(value: Any) -> str:
    if not isinstance(value, str) or not grammar.is_timestamp(value) or grammar.is_no_time(value):
        raise _Misfit
    return value


def _fit_date(value: Any) -> str:
    if not isinstance(value, str) or grammar.is_no_time(value):
        raise _Misfit
    if grammar.is_date(value):
        return value[:10]
    raise _Misfit(value[:10] if grammar.is_day(value[:10]) else None)


def _fit_json(value: Any) -> Any:
    match value:
        case Decimal() if value.adjusted() < _MAX_INT_DIGITS - 1 or "E" in str(value):
            return _fit_json_number(value)
        case Decimal() | int() if not -(2**63) <= value < 2**64:
            return _fit_json_integer(Decimal(value))
        case RepeatedNames():
            members = (
                b"%b:%b" % (encode(name), encode(_fit_json(member)))
                for name, member in value.members
            )
            return msgspec.Raw(b"{" + b",".join(members) + b"}")
        case dict():
            return {name: _fit_json(member) for name, member in value.items()}
        case list():
            return [_fit_json(item) for item in value]
    return value


def _fit_json_integer(value: Decimal) -> msgspec.Raw:
    """Returns an integer of more than 64 bits, whose digits DuckDB keeps."""
    text = str(value)
    if len(text.strip("-0")) > _MAX_EXACT_DIGITS:
        _fit_json_number(value)
    return msgspec.Raw(text.encode())


def _fit_json_number(value: Decimal) -> float:
    """Returns the number as a double, which is what DuckDB keeps of it in a JSON column."""
    number = float(value)
    if not math.isfinite(number) or Decimal(repr(number)) != value:
        raise _Misfit
    return number


_FIT_SCALAR: dict[ScalarName, Callable[[Any], Any]] = {
    "BIGINT": _fit_bigint,
    "DECIMAL": _fit_decimal,
    "DOUBLE": _fit_double,
    "BOOLEAN": _fit_boolean,
    "VARCHAR": _fit_varchar,
    "TIMESTAMPTZ": _fit_timestamptz,
    "DATE": _fit_date,
    "JSON": _fit_json,
}
