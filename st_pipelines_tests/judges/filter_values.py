"""Chooses values for a list's filters: such as select some of its records, and not all.

Names say what a filter compares: `customerId` is the record's `customerId` or the `id` of its
`customer`, `completedBefore` its `completedOn`. Where a name says nothing, values of all members of
the right type are tried, so a filter that compares another record's values can be split too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from st_pipelines_tests.judges.documents import Operation
from st_pipelines_tests.judges.schemas import resolve

NO_FILTERS = frozenset(
    {
        *("page", "pageSize", "includeTotal", "sort", "orderBy", "orderByDirection"),
        # These change what a record shows, or how other parameters are read.
        *("externalDataApplicationGuid", "calculatePrices", "genPermUrl", "includeSubtasks"),
        *("excludeAccountingChangesFromModifiedDateRange", "customField.Operator"),
        "balanceFilter.Comparer",
    }
)
EVERYTHING = {"active": "Any", "activeState": "All", "activeOnly": "false"}
"""Parameters without which a list hides some records."""

MAX_VALUES = 60
_BOUND = re.compile(r"(OnOrAfter|OnOrBefore|OnAfter|OnBefore|After|Before|From|To)$")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|$)")
_NUMBER = re.compile(r"-?\d+(\.\d+)?")


def list_filters(operation: Operation) -> list[str]:
    """Return the names of the parameters that select records."""
    return [name for name in operation.parameters if name not in NO_FILTERS]


def choose_values(operation: Operation, name: str, rows: list[Any]) -> Iterator[str]:
    """Yield values to try, the likeliest to split the rows first."""
    schema = resolve(operation, operation.parameters[name]["schema"])
    if schema.get("type") == "array":
        schema = resolve(operation, schema["items"])
    if enum := schema.get("enum"):
        yield from map(str, enum)
        return
    if schema.get("type") == "boolean":
        yield from ("true", "false")
        return
    leaves = [leaf for row in rows for leaf in _walk(row)]
    kind = schema.get("format", "")
    if kind in ("date-time", "date"):
        stem = _BOUND.sub("", name)
        yield from _medians(_times(leaves), stem)
    elif schema.get("type") == "number":
        yield from _medians(_numbers(leaves), re.sub(r"Greater$|Less$|^min|^max", "", name))
    else:
        named = (str(value) for path, value in leaves if _names(name, path))
        numeric = schema.get("type") == "integer"
        yield from dict.fromkeys(v for v in named if not numeric or _NUMBER.fullmatch(v))


def _walk(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the path and value of each text, number and boolean, without indices."""
    if isinstance(value, dict):
        for name, member in value.items():
            yield from _walk(member, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for item in value:
            yield from _walk(item, path)
    elif value is not None and value != "":
        yield path, value


def _names(name: str, path: str) -> bool:
    """Whether a filter of this name may compare the member at a path."""
    words = path.lower().replace(".", "")
    singular = re.sub(r"ies$", "y", name.lower())
    options = {name.lower(), singular, re.sub(r"e?s$", "", singular), re.sub(r"s$", "", singular)}
    if name == "ids":
        return path in ("id", "jobId")
    return any(words.endswith(option) for option in options)


def _times(leaves: list[tuple[str, Any]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for path, value in leaves:
        if isinstance(value, str) and _TIME.match(value):
            found.setdefault(path, []).append(value)
    return {path: sorted(values) for path, values in found.items()}


def _numbers(leaves: list[tuple[str, Any]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for path, value in leaves:
        if not isinstance(value, bool) and _NUMBER.fullmatch(str(value)):
            found.setdefault(path, []).append(str(value))
    return {path: sorted(values, key=float) for path, values in found.items()}


def _medians(found: dict[str, list[str]], stem: str) -> Iterator[str]:
    """Yield a value from the middle of each member, those named like the stem first."""
    like = stem.lower().removesuffix("s")
    for path in sorted(found, key=lambda path: (like not in path.lower().replace(".", ""), path)):
        values = sorted(set(found[path]), key=found[path].index)
        middle = len(values) // 2
        yield from dict.fromkeys((values[middle], values[len(values) // 4]))
