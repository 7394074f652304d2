"""Decides which fields of an object can have a column, given the fields beside them.

DuckDB's column names ignore case, and two served names can have the same snake_case form.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from st_pipelines.catalog.model import Field, snake_case

_UNDECODABLE = re.compile(r'["\\\x00-\x1f]')
"""Characters that msgspec does not accept in field names."""


def find_column_conflict(name: str, siblings: tuple[Field, ...]) -> str | None:
    """Returns why a field cannot have a column next to its siblings; None if it can."""
    if not snake_case(name):
        return "its name contains no letter or digit to make a column name of"
    if snake_case(name) == "rowid":
        return "rowid is reserved by DuckDB"
    if _UNDECODABLE.search(name):
        return "its name contains a quote, a backslash or a control character"
    for other in siblings:
        same = other.column == snake_case(name) or other.name.lower() == name.lower()
        if same and other.name != name:
            return f"its column name is already taken by {other.name}"
    return None


def drop_conflicting(fields: Iterable[Field]) -> tuple[Field, ...]:
    """Drops fields that cannot have a column. Of fields with one column name, the first stays.

    Values of dropped fields end up in the table's `_extra` column.

    Args:
        fields: with unique names.
    """
    kept: tuple[Field, ...] = ()
    for field in fields:
        if find_column_conflict(field.name, kept) is None:
            kept = (*kept, field)
    return kept
