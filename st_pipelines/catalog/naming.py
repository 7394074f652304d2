"""Which names of fields can be names of columns beside each other."""

from __future__ import annotations

import re
from collections.abc import Iterable

from st_pipelines.catalog.model import Field, snake_case

_UNDECODABLE = re.compile(r'["\\\x00-\x1f]')
"""What msgspec takes in no name of a field."""


def find_column_conflict(name: str, siblings: tuple[Field, ...]) -> str | None:
    """Why a field can have no column beside its siblings; None if it can."""
    if not snake_case(name):
        return "its name has no letter or digit for a column"
    if snake_case(name) == "rowid":
        return "rowid is DuckDB's own number of a row"
    if _UNDECODABLE.search(name):
        return "its name has a quote, a backslash or a control character"
    for other in siblings:
        same = other.column == snake_case(name) or other.name.lower() == name.lower()
        if same and other.name != name:
            return f"its column would be that of {other.name}"
    return None


def drop_conflicting(fields: Iterable[Field]) -> tuple[Field, ...]:
    """The fields that can have columns, of those for one column the first; else `_extra` has them.

    Args:
        fields: each name once.
    """
    kept: tuple[Field, ...] = ()
    for field in fields:
        if find_column_conflict(field.name, kept) is None:
            kept = (*kept, field)
    return kept
