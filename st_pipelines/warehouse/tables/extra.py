"""`_extra` of a row that list and export both write to, as SQL on its text.

What only the export said stands as its last member, under a name of its own, so that neither
source overwrites what the other said. The text is cut and joined, never parsed: its numbers have
more digits than a parser keeps.
"""

from __future__ import annotations

from st_pipelines.catalog.additions import EXPORT_ONLY

_MEMBER = f'"{EXPORT_ONLY}":'
# Within a string of JSON its quotes would be escaped, so that this cannot be found by mistake.
_MARK = f"'{_MEMBER}'"


def list_part(extra: str) -> str:
    """SQL for what the list said, NULL for nothing."""
    text = f"CAST({extra} AS VARCHAR)"
    head = f"rtrim(left({text}, strpos({text}, {_MARK})::INTEGER - 1), ',') || '}}'"
    return f"CASE WHEN contains({text}, {_MARK}) THEN nullif({head}, '{{}}') ELSE {text} END"


def export_part(extra: str) -> str:
    """SQL for what the export said, NULL for nothing."""
    text = f"CAST({extra} AS VARCHAR)"
    tail = f"substr({text}, strpos({text}, {_MARK}) + {len(_MEMBER)})"
    return f"CASE WHEN contains({text}, {_MARK}) THEN left({tail}, -1) END"


def joined(list_part: str, export_part: str) -> str:
    """SQL for an `_extra` of both parts."""
    return (
        f"CASE WHEN {export_part} IS NULL THEN CAST({list_part} AS VARCHAR) "
        f"WHEN {list_part} IS NULL THEN '{{' || {_MARK} || {export_part} || '}}' "
        f"ELSE left({list_part}, -1) || ',' || {_MARK} || {export_part} || '}}' END::JSON"
    )
