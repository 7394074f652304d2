"""Reads the values that `_extra` holds, and infers the narrowest lossless type of each path.

Decides nothing: which fields to add, and which values to move, is up to `plan`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import duckdb

from st_pipelines.catalog.model import (
    DataType,
    Endpoint,
    Field,
    ListOf,
    Scalar,
    ScalarName,
    StructOf,
    find_column_conflict,
)
from st_pipelines.warehouse.columns import EXTRA
from st_pipelines.warehouse.staging import grammar, json_path
from st_pipelines.warehouse.staging.conform import (
    conform,
    decode_exactly,
    encode_exactly,
)

BATCH_ROWS = 5_000

MAX_MEMBERS = 100
"""An object with more names is a map whose keys are data, and becomes JSON."""

_DATE = re.compile(r"\d{4}-\d\d-\d\d(T00:00:00(\.0+)?)?")
_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,7})?Z")
_NARROWEST_FIRST: tuple[ScalarName, ...] = ("BIGINT", "DECIMAL", "DOUBLE", "DATE", "TIMESTAMPTZ")
_WIDER: dict[str, tuple[ScalarName, ...]] = {
    "BIGINT": ("DECIMAL", "VARCHAR"),
    "BOOLEAN": ("VARCHAR",),
    "DATE": ("TIMESTAMPTZ", "VARCHAR"),
    "DECIMAL": ("VARCHAR",),
    "DOUBLE": ("VARCHAR",),
}
"""The types a table's column can be changed to without loss, see `tables.schema`."""


@dataclass
class Shape:
    """What the values seen at one path have in common."""

    kinds: set[str] = field(default_factory=set)
    candidates: set[ScalarName] = field(default_factory=lambda: set(_NARROWEST_FIRST))
    members: dict[str, Shape] = field(default_factory=dict)
    items: list[Shape] = field(default_factory=list)

    def add(self, value: Any) -> None:
        """Adds a value decoded by `decode_exactly`."""
        match value:
            case None:
                return
            case bool():
                self.kinds.add("boolean")
                self.candidates.clear()
            case int() | float() | Decimal():
                self.kinds.add("number")
                self.candidates &= {name for name in self.candidates if _is_exact(name, value)}
            case str():
                self.kinds.add("text")
                self.candidates &= {name for name in self.candidates if _is_exact(name, value)}
            case dict():
                self.kinds.add("object")
                for name, member in value.items():
                    self.members.setdefault(name, Shape()).add(member)
            case list():
                self.kinds.add("array")
                self.items = self.items or [Shape()]
                for item in value:
                    self.items[0].add(item)

    def infer_type(self) -> DataType | None:
        """Returns the type that holds all values; None if all are null or empty."""
        if len(self.kinds) > 1:
            return Scalar("JSON")
        match next(iter(self.kinds), None):
            case "boolean":
                return Scalar("BOOLEAN")
            case "number" | "text":
                return Scalar(self._find_narrowest())
            case "object":
                return self._infer_object()
            case "array":
                item = self.items[0].infer_type()
                return None if item is None else ListOf(item)
        return None

    def find_wider_type(self, known: DataType) -> Scalar | None:
        """Returns a type for these values and for all values of `known`; None without one."""
        names = _WIDER.get(known.name, ()) if isinstance(known, Scalar) else ()
        if not self.kinds or self.kinds & {"object", "array"}:
            return None
        for name in names:
            if name == "VARCHAR" or (len(self.kinds) == 1 and name in self.candidates):
                return Scalar(name)
        return None

    def _find_narrowest(self) -> ScalarName:
        for name in _NARROWEST_FIRST:
            if name in self.candidates:
                return name
        return "VARCHAR"

    def _infer_object(self) -> DataType | None:
        if len(self.members) > MAX_MEMBERS:
            return Scalar("JSON")
        fields: list[Field] = []
        for name in sorted(self.members):
            if find_column_conflict(name, tuple(fields)):
                return Scalar("JSON")
            type_ = self.members[name].infer_type()
            if type_ is not None:
                fields.append(Field(name, type_))
        return StructOf(tuple(fields)) if fields else None


@dataclass
class PathValues:
    """The values at one path.

    Attributes:
        known: the type of the column that the catalog has for the path; None if it has none.
        rows: rows that have a value there.
        example: one value as JSON.
        fitting: values that the known column takes.
        shape: of the values that it does not take.
    """

    known: DataType | None
    rows: int = 0
    example: str = ""
    fitting: int = 0
    shape: Shape = field(default_factory=Shape)

    def add(self, value: Any) -> None:
        """Adds a value."""
        if not self.example:
            self.example = encode_exactly(value).decode()[:80]
        if self.known is not None and fits(value, self.known):
            self.fitting += 1
        else:
            self.shape.add(value)


def read_path_values(
    connection: duckdb.DuckDBPyConnection, tables: Iterable[str], endpoint: Endpoint
) -> dict[str, PathValues]:
    """Reads `_extra` in all rows of some (quoted) tables, by path without indices."""
    values: dict[str, PathValues] = {}
    for table in tables:
        result = connection.execute(f"SELECT {EXTRA} FROM {table} WHERE {EXTRA} IS NOT NULL")
        while rows := result.fetchmany(BATCH_ROWS):
            for (text,) in rows:
                _add_row(decode_exactly(text), values, endpoint)
    return values


def split_by_source(extra: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Splits `_extra` into the list's values, and the export's where the list says otherwise."""
    listed = {path: value for path, value in extra.items() if path != json_path.EXPORT_ONLY}
    exported = extra.get(json_path.EXPORT_ONLY, {}).items()
    return listed, {path: value for path, value in exported if listed.get(path) != value}


def is_filled_by_export(endpoint: Endpoint, path: str) -> bool:
    """Whether only the export fills the column at a path."""
    adds = endpoint.export.adds if endpoint.export else ()
    return json_path.is_value_path(path) and json_path.parse_steps(path)[0] in adds


def fits(value: Any, type_: DataType) -> bool:
    """Whether a column of this type takes the value, or a part of it, out of `_extra`."""
    return conform({"value": value}, (Field("value", type_),)).extra != {"value": value}


def _add_row(extra: dict[str, Any], values: dict[str, PathValues], endpoint: Endpoint) -> None:
    seen: set[str] = set()
    for path, value in _iterate_paths(extra):
        general = _without_indices(path)
        known = values[general].known if general in values else _find_known_type(endpoint, general)
        if grammar.is_known(value, known):
            continue  # it stays, and no column is missing for it
        values.setdefault(general, PathValues(known=known)).add(value)
        if general not in seen:
            seen.add(general)
            values[general].rows += 1


def _iterate_paths(extra: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    listed, exported = split_by_source(extra)
    yield from listed.items()
    yield from ((json_path.to_export(path), value) for path, value in exported.items())


def _find_known_type(endpoint: Endpoint, path: str) -> DataType | None:
    root, exported = StructOf(endpoint.row_fields), json_path.from_export(path)
    if exported is None:
        return json_path.find_type(root, path)
    return json_path.find_type(root, exported) if is_filled_by_export(endpoint, exported) else None


def _without_indices(path: str) -> str:
    exported = json_path.from_export(path)
    if exported is not None:
        return json_path.to_export(_without_indices(exported))
    return json_path.without_indices(path) if json_path.is_value_path(path) else path


def _is_exact(name: ScalarName, value: Any) -> bool:
    """Whether the type returns this very number or text."""
    match name, value:
        case "DATE", str():
            return _DATE.fullmatch(value) is not None and grammar.is_date(value)
        case "TIMESTAMPTZ", str():
            return _TIMESTAMP.fullmatch(value) is not None and (
                fits(value, Scalar("TIMESTAMPTZ")) or grammar.is_no_time(value)
            )
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
