"""Paths in `_extra`: where in a record a value stood, as text that can be read in one way only.

`items[0].sku` is the member `sku` of the first member of `items`. A name that would not be clear
so is written as a JSON string in brackets: `customer["a.b"]`, `["items[0]"]`. What is said of the
record as a whole stands in round brackets, which no plain name begins with; `(export)` is an
object of what the export alone said, by path.
"""

from __future__ import annotations

import functools
import json
import re
from typing import TypeAlias

from st_pipelines.catalog.additions import OF_EXPORT

Step: TypeAlias = str | int | None
"""A member's name, an item's index, or None for any item."""

INVALID_TEXT = "(invalid text)"
"""The record as served, byte by byte as Latin-1, where it is no UTF-8."""

LONE_SURROGATES = "(lone surrogates)"
"""The record as served, where an escape such as `\\ud800` is half a character."""

OF_THE_RECORD = (INVALID_TEXT, LONE_SURROGATES, OF_EXPORT)

_PLAIN = re.compile(r'[^.\[\]"\\(\x00-\x1f][^.\[\]"\\\x00-\x1f]*')
_STEP = re.compile(
    r'\.?(?P<plain>[^.\[\]"\\\x00-\x1f]+)|\[(?P<index>\d*)\]|\[(?P<quoted>"(?:[^"\\]|\\.)*")\]'
)


def member(path: str, name: str) -> str:
    """The path of an object's member; `path` is empty for the record itself."""
    spelled = _spelled(name)
    return path + spelled if not path or spelled[0] == "[" else f"{path}.{spelled}"


def item(path: str, index: int) -> str:
    """The path of an array's item."""
    return f"{path}[{index}]"


@functools.lru_cache(maxsize=65536)
def steps(path: str) -> tuple[Step, ...]:
    """The inverse of `member` and `item`. Raises ValueError for what neither has made."""
    found: list[Step] = []
    position = 0
    while position < len(path):
        match = _STEP.match(path, position)
        if match is None or (match[0][0] == ".") != (bool(found) and match["plain"] is not None):
            raise ValueError(f"{path!r} is no path of a record")
        if match["index"] is not None:
            found.append(int(match["index"]) if match["index"] else None)
        else:
            found.append(match["plain"] or json.loads(match["quoted"]))
        position = match.end()
    return tuple(found)


def spelled(path: tuple[Step, ...]) -> str:
    """The text of a path; `[]` for any item."""
    text = ""
    for step in path:
        match step:
            case str():
                text = member(text, step)
            case int():
                text = item(text, step)
            case None:
                text += "[]"
    return text


def exported(path: str) -> str:
    """The path of what the export alone said at a path."""
    return OF_EXPORT + (path if path.startswith("[") else f".{path}")


def inside_export(path: str) -> str | None:
    """The inverse of `exported`; None for the path of something else."""
    if path == OF_EXPORT or not path.startswith(OF_EXPORT):
        return None
    return path.removeprefix(OF_EXPORT).removeprefix(".")


@functools.lru_cache(maxsize=65536)
def of_any_item(path: str) -> str:
    """The path without indices: `items[].sku`. Raises ValueError like `steps`."""
    if path in OF_THE_RECORD or "[" not in path:
        return path
    return spelled(any_item(steps(path)))


def any_item(path: tuple[Step, ...]) -> tuple[Step, ...]:
    """The steps with None in the place of every index."""
    return tuple(step if isinstance(step, str) else None for step in path)


@functools.lru_cache(maxsize=4096)
def _spelled(name: str) -> str:
    return name if _PLAIN.fullmatch(name) else f"[{json.dumps(name, ensure_ascii=False)}]"
