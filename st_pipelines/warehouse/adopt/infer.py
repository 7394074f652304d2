"""The type of a field of which only values are known: the narrowest that loses none of them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from st_pipelines.catalog.model import DataType, Field, ListOf, Scalar, ScalarName, StructOf
from st_pipelines.catalog.naming import column_conflict
from st_pipelines.warehouse.staging.conform import conform, is_date

MOST_MEMBERS = 100
"""An object with more names than this is a map whose keys are data, and becomes JSON."""

_DATE = re.compile(r"\d{4}-\d\d-\d\d(T00:00:00(\.0+)?)?")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,7})?Z")
_ORDER: tuple[ScalarName, ...] = ("BIGINT", "DECIMAL", "DOUBLE", "DATE", "TIMESTAMPTZ")
_WIDER: dict[str, tuple[ScalarName, ...]] = {
    "BIGINT": ("DECIMAL", "VARCHAR"),
    "BOOLEAN": ("VARCHAR",),
    "DATE": ("TIMESTAMPTZ", "VARCHAR"),
    "DECIMAL": ("VARCHAR",),
    "DOUBLE": ("VARCHAR",),
}
"""Types that a table's column can be changed to without a loss, see `schema`."""


@dataclass
class Shape:
    """What all values had in common that were seen at one path."""

    kinds: set[str] = field(default_factory=set)
    candidates: set[ScalarName] = field(default_factory=lambda: set(_ORDER))
    members: dict[str, Shape] = field(default_factory=dict)
    items: list[Shape] = field(default_factory=list)

    def add(self, value: Any) -> None:
        """Takes in a value as `decode_exactly` gives it."""
        match value:
            case None:
                return
            case bool():
                self.kinds.add("boolean")
                self.candidates.clear()
            case int() | float() | Decimal():
                self.kinds.add("number")
                self.candidates &= {name for name in self.candidates if _holds(name, value)}
            case str():
                self.kinds.add("text")
                self.candidates &= {name for name in self.candidates if _holds(name, value)}
            case dict():
                self.kinds.add("object")
                for name, member in value.items():
                    self.members.setdefault(name, Shape()).add(member)
            case list():
                self.kinds.add("array")
                self.items = self.items or [Shape()]
                for item in value:
                    self.items[0].add(item)

    def type(self) -> DataType | None:
        """The type for all of them; None while none can be told: nothing but null or empty."""
        if len(self.kinds) > 1:
            return Scalar("JSON")
        match next(iter(self.kinds), None):
            case "boolean":
                return Scalar("BOOLEAN")
            case "number" | "text":
                return Scalar(self._narrowest())
            case "object":
                return self._object()
            case "array":
                item = self.items[0].type()
                return None if item is None else ListOf(item)
        return None

    def wider_than(self, known: DataType) -> Scalar | None:
        """The type that holds these misfits and all that fitted `known`; None without one."""
        names = _WIDER.get(known.name, ()) if isinstance(known, Scalar) else ()
        if not self.kinds or self.kinds & {"object", "array"}:
            return None
        for name in names:
            if name == "VARCHAR" or (len(self.kinds) == 1 and name in self.candidates):
                return Scalar(name)
        return None

    def _narrowest(self) -> ScalarName:
        for name in _ORDER:
            if name in self.candidates:
                return name
        return "VARCHAR"

    def _object(self) -> DataType | None:
        if len(self.members) > MOST_MEMBERS:
            return Scalar("JSON")
        fields: list[Field] = []
        for name in sorted(self.members):
            if column_conflict(name, tuple(fields)):
                return Scalar("JSON")
            type_ = self.members[name].type()
            if type_ is not None:
                fields.append(Field(name, type_))
        return StructOf(tuple(fields)) if fields else None


def fits(value: Any, type_: DataType) -> bool:
    """Whether a column takes the value, or at least a part of it, out of `_extra`."""
    return conform({"value": value}, (Field("value", type_),)).extra != {"value": value}


def _holds(name: ScalarName, value: Any) -> bool:
    """Whether the type gives back this very number or text."""
    match name, value:
        case "DATE", str():
            return _DATE.fullmatch(value) is not None and is_date(value)
        case "TIMESTAMPTZ", str():
            return _TIME.fullmatch(value) is not None and fits(value, Scalar("TIMESTAMPTZ"))
        case "BIGINT", int():
            return fits(value, Scalar("BIGINT"))
        case "DECIMAL", int() | float() | Decimal():
            return fits(value, Scalar("DECIMAL"))
        case "DOUBLE", int() | float() | Decimal():
            return _is_exact_double(value)
    return False


def _is_exact_double(value: float | Decimal) -> bool:
    try:
        return Decimal(repr(float(value))) == Decimal(str(value))
    except OverflowError:
        return False
