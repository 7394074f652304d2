"""Compares the values of a record's fields with the value of a filter's parameter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from st_pipelines.sandbox import ticks

Test: TypeAlias = Callable[[Any, Any], bool]
"""Tells whether a field's value matches a parameter's value."""


def to_number(value: Any) -> float:
    """Convert a number, or a duration such as `00:02:08.5`, which counts in seconds."""
    if isinstance(value, str) and ":" in value:
        hours, minutes, seconds = value.split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    return float(value)


def _spell(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).lower()


def equals(value: Any, wanted: Any) -> bool:
    """Return whether the value is the wanted one, whatever its case and type."""
    return _spell(value) == _spell(wanted)


def is_among(value: Any, wanted: Any) -> bool:
    """Return whether the value is one of several: an array, or text with commas."""
    texts = wanted.split(",") if isinstance(wanted, str) else wanted
    return _spell(value) in {_spell(text).strip() for text in texts}


def matches_empty(value: Any, wanted: Any) -> bool:
    """Return whether a boolean fits `Exclude` or another word of the filter `empty`."""
    return wanted != "Exclude" or not value


def is_published(value: Any, wanted: Any) -> bool:
    """Return whether a boolean fits `Published`, `Unpublished` or `Any`."""
    return wanted == "Any" or value is (wanted == "Published")


def always(value: Any, wanted: Any) -> bool:
    """Return True, for a parameter that only says how another one compares."""
    return True


def is_form(value: Any, wanted: Any) -> bool:
    """Return whether the source of a lead is a form; `wanted` says whether it should be."""
    return (value == "Form") is wanted


def is_discrepant(value: Any, wanted: Any) -> bool:
    """Return whether the status of a bill fits `Discrepancy` or `NoDiscrepancy`."""
    return (value == "Discrepancy") is (wanted == "Discrepancy")


def is_absent(values: Any, wanted: Any) -> bool:
    """Return whether there are no values; `wanted` says whether there should be none."""
    return all(value is None for value in values) is wanted


def has_custom_fields(values: Any, wanted: Any) -> bool:
    """Return whether custom fields have the wanted values.

    Args:
        values: the custom fields of a record.
        wanted: the wanted values by name; or these, and `Or` if one of them is enough.
    """
    pairs, operator = wanted if isinstance(wanted, tuple) else (wanted, "And")
    found = {(_spell(value["name"]), _spell(value["value"])) for value in values if value}
    matches = ((_spell(name), _spell(text)) in found for name, text in pairs.items())
    return any(matches) if operator == "Or" else all(matches)


def compares(value: Any, wanted: Any) -> bool:
    """Compare with `wanted`: an amount, or an amount and how to compare with it."""
    amount, comparer = wanted if isinstance(wanted, tuple) else (wanted, "Equals")
    number = to_number(value)
    if comparer.startswith(("Equal", "NotEqual")):
        return (number == amount) is comparer.startswith("Equal")
    is_beyond = number > amount if comparer.startswith("Greater") else number < amount
    return is_beyond or (comparer.endswith("Equal") and number == amount)


def contains(value: Any, wanted: Any) -> bool:
    """Return whether the wanted text is a part of the value, in any case."""
    return _spell(wanted) in _spell(value)


def read_moment(value: Any) -> int | None:
    """Convert a field's value to ticks; None if it holds no time."""
    if not isinstance(value, str):
        return None
    try:
        return ticks.parse(value)
    except ValueError:
        return None


def walk(value: Any, parts: tuple[str, ...]) -> list[Any]:
    """Return the values at a path of a parsed record: several where it passes through an array."""
    if not parts:
        return value if isinstance(value, list) else [value]
    name = parts[0].removesuffix("[]")
    if isinstance(value, list):
        return [found for item in value for found in walk(item, parts)]
    if not isinstance(value, dict):
        return [None]
    return walk(value.get(name), parts[1:])
