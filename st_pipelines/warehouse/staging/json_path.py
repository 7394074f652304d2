"""JSON paths in `_extra`: where in a record a value was, as text with exactly one meaning.

`items[0].sku` is the member `sku` of the first item of `items`. A name that would be ambiguous is
a JSON string in brackets: `customer["a.b"]`, `["items[0]"]`. Statements about the record as a whole
are in parentheses, which no plain name begins with; `(export)` is an object, from path to value,
of what only the export contained.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Collection
from typing import TypeAlias

from st_pipelines.catalog.additions import EXPORT_ONLY
from st_pipelines.catalog.model import DataType, ListOf, StructOf

Step: TypeAlias = str | int | None
"""A member's name, an item's index, or None for any item."""

INVALID_TEXT = "(invalid text)"
"""The record as served, byte by byte as Latin-1, if it is not valid UTF-8."""

LONE_SURROGATES = "(lone surrogates)"
"""The record as served, if an escape such as `\\ud800` is half a character."""

MALFORMED = "(malformed)"
"""The record as served, if it is not valid JSON, or not to be understood in one way only."""

RECORD_PATHS = (INVALID_TEXT, LONE_SURROGATES, MALFORMED, EXPORT_ONLY)
"""The paths that do not lead to one value of the record."""

_COPIES = frozenset((INVALID_TEXT, LONE_SURROGATES, MALFORMED))
_PLAIN_NAME = re.compile(r'[^.\[\]"\\(\x00-\x1f][^.\[\]"\\\x00-\x1f]*')
_STEP = re.compile(
    r'\.?(?P<plain>[^.\[\]"\\\x00-\x1f]+)|\[(?P<index>\d*)\]|\[(?P<quoted>"(?:[^"\\]|\\.)*")\]'
)


def append_member(path: str, name: str) -> str:
    """Returns the path of an object's member; `path` is empty for the record itself."""
    step = _format_name(name)
    return path + step if not path or step[0] == "[" else f"{path}.{step}"


def append_item(path: str, index: int) -> str:
    """Returns the path of an array's item."""
    return f"{path}[{index}]"


@functools.lru_cache(maxsize=65536)
def parse_steps(path: str) -> tuple[Step, ...]:
    """Splits a path into its steps. Raises ValueError for text that is not a path."""
    steps: list[Step] = []
    position = 0
    while position < len(path):
        match = _STEP.match(path, position)
        if match is None or (match[0][0] == ".") != (bool(steps) and match["plain"] is not None):
            raise ValueError(f"{path!r} is not a path in a record")
        if match["index"] is not None:
            steps.append(int(match["index"]) if match["index"] else None)
        else:
            steps.append(match["plain"] or json.loads(match["quoted"]))
        position = match.end()
    return tuple(steps)


def format_steps(steps: tuple[Step, ...]) -> str:
    """Returns the path of the steps; `[]` stands for any item."""
    path = ""
    for step in steps:
        match step:
            case str():
                path = append_member(path, step)
            case int():
                path = append_item(path, step)
            case None:
                path += "[]"
    return path


def to_export(path: str) -> str:
    """Returns the path that says the export alone had a value at `path`."""
    return EXPORT_ONLY + (path if path.startswith("[") else f".{path}")


def from_export(path: str) -> str | None:
    """Inverts `to_export`; None for any other path."""
    if path == EXPORT_ONLY or not path.startswith(EXPORT_ONLY):
        return None
    return path.removeprefix(EXPORT_ONLY).removeprefix(".")


@functools.lru_cache(maxsize=65536)
def without_indices(path: str) -> str:
    """Returns the path with `[]` for every index: `items[].sku`. Raises ValueError."""
    if path in RECORD_PATHS or "[" not in path:
        return path
    return format_steps(tuple(s if isinstance(s, str) else None for s in parse_steps(path)))


def is_value_path(path: str) -> bool:
    """Whether the path leads to a value of the record, as this version writes paths."""
    try:
        parse_steps(path)
    except ValueError:
        return False
    return path not in RECORD_PATHS


def keeps_record(extra: Collection[str]) -> bool:
    """Whether one of the paths in an `_extra` holds the whole record as served."""
    return not _COPIES.isdisjoint(extra)


def find_type(root: StructOf, path: str) -> DataType | None:
    """Returns the catalog's type at a path with or without indices; None for unknown fields."""
    return find_type_at_steps(root, parse_steps(path)) if is_value_path(path) else None


def find_type_at_steps(type_: DataType | None, steps: tuple[Step, ...]) -> DataType | None:
    """Returns the type that the steps lead to from a type; None if they lead nowhere."""
    for step in steps:
        match step, type_:
            case str(), StructOf(fields):
                type_ = next((field.type for field in fields if field.name == step), None)
            case None | int(), ListOf(item):
                type_ = item
            case _:
                return None
    return type_


@functools.lru_cache(maxsize=4096)
def _format_name(name: str) -> str:
    return name if _PLAIN_NAME.fullmatch(name) else f"[{json.dumps(name, ensure_ascii=False)}]"
