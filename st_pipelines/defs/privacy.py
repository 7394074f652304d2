"""Decides what of customers' data Dagster may store and show, and makes foreign text inert.

Dagster keeps events and logs for good, and everybody who reaches its UI reads them. By default they
hold counts, keys, numbers, times, booleans, and values that the catalog lists for a column; of all
other values they hold the type and the length. `ST_FULL_PREVIEWS` shows the values as well.
Markdown and HTML inside a value have no effect in either case.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from st_pipelines.catalog.model import Endpoint, Field, Scalar

if TYPE_CHECKING:
    from st_pipelines.warehouse.staging.stage import Drift

SETTING = "ST_FULL_PREVIEWS"

_MAX_COLUMNS = 8
_MAX_EXAMPLE_CHARS = 80
_MAX_CELL_CHARS = 200
_SAFE_TYPES = {"BIGINT", "DECIMAL", "DOUBLE", "BOOLEAN", "TIMESTAMPTZ", "DATE"}
_PERSONAL = re.compile(
    r"phone|mobile|(^|_)(cell|fax|ssn|zip|lat|lng|lon)(_|$)|postal|latitude|longitude|birth|social|"
    r"(tax|license|card|account|routing)_(id|number)|passport"
)
"""Names of columns that identify a person although they hold numbers or dates."""

_ID_OR_TIME = re.compile(r"[A-Za-z0-9_-]{1,64}|[\d:.+-]{1,32}", re.ASCII)
_FIELD_NAME = re.compile(r"[A-Za-z_$][A-Za-z0-9_$-]{0,63}", re.ASCII)
_STEP = re.compile(r'\["(?:[^"\\]|\\.)*"\]|\[\d*\]|\.|[^.\[]+|.', re.DOTALL)
_RECORD_PATHS = re.compile(r"\([a-z ]+\)")
_JSON_TYPES = {'"': "string", "{": "object", "[": "array", "t": "boolean", "f": "boolean"}


def is_safe(endpoint: Endpoint, field: Field) -> bool:
    """Whether the values of a column may be stored in events: they describe no person."""
    if not isinstance(field.type, Scalar):
        return False
    if field.name in endpoint.key:
        return True
    return field.type.name in _SAFE_TYPES and not _PERSONAL.search(field.column)


def preview_table(endpoint: Endpoint, rows: Sequence[Mapping[str, Any]], *, full: bool) -> str:
    """Returns some rows as a table in Markdown.

    Args:
        rows: scalar values by column.
        full: also shows columns that may hold what customers have written.
    """
    fields = [
        field
        for field in endpoint.row_fields
        if isinstance(field.type, Scalar) and (full or is_safe(endpoint, field))
    ][:_MAX_COLUMNS]
    if not fields:
        return f"no column is shown by default; {SETTING}=true shows all"
    lines = [[field.column for field in fields], ["---"] * len(fields)]
    lines += [[_cell(row.get(field.column), full=full) for field in fields] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def describe_example(example: str, *, full: bool) -> str:
    """Returns an example of drift for events: its type and length, or the value itself.

    Args:
        example: JSON, which may be cut off.
    """
    if full:
        return make_inert(example)
    kind = json_type(example)
    if kind in ("boolean", "null", "nothing"):
        return "" if kind == "nothing" else kind
    try:
        value = msgspec.json.decode(example)
    except (msgspec.DecodeError, RecursionError):
        return f"{kind} of more than {len(example) - 2} characters"
    length = len(value) if isinstance(value, str) else len(example)
    return f"{kind} of {length} characters"


def display_drift(drift: Drift, *, full: bool) -> Drift:
    """Returns drift as events may show it: paths of field names, and described examples."""
    from st_pipelines.warehouse.staging.stage import Drift

    shown = Drift()
    for path, count in drift.counts.items():
        name = display_path(path, full=full)
        shown.counts[name] += count
        example = describe_example(drift.examples.get(path, ""), full=full)
        shown.examples.setdefault(name, example)
    return shown


def json_type(text: str) -> str:
    """Returns the type of a JSON value; "nothing" for an empty text."""
    if not text:
        return "nothing"
    return "null" if text == "null" else _JSON_TYPES.get(text[0], "number")


def display_path(path: str, *, full: bool) -> str:
    """Returns a path of a record for events.

    Names that do not look like the name of a field, such as e-mail addresses in a map, are values
    themselves. They are replaced by their length.
    """
    if full or _RECORD_PATHS.fullmatch(path):
        return make_inert(path)
    return "".join(map(_display_step, _STEP.findall(path)))


def display_key(text: str) -> str:
    """Returns an example of keys and times for events, word by word.

    It is the same with full previews: a key that is not an id is of no use to find a row.
    """
    return " ".join(map(_display_word, text.split(" ")))


def make_inert(text: str) -> str:
    """Returns text of others on one line, without characters that cannot be printed."""
    return " ".join("".join(one if one.isprintable() else " " for one in text).split())


def code_span(text: str) -> str:
    """Returns text as code in Markdown, where no markup has an effect, also in a table.

    Backticks and vertical bars, which would end the code or the cell, are replaced by characters
    that look alike; a backslash cannot escape them everywhere.
    """
    inert = make_inert(text).replace("`", "'").replace("|", "¦")
    return f"`{inert}`" if inert else ""


def _cell(value: Any, *, full: bool) -> str:
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case datetime():
            return value.isoformat(sep=" ")
        case str() if full:
            return code_span(value if len(value) <= _MAX_CELL_CHARS else value[:_MAX_CELL_CHARS])
        case str():
            return code_span(_display_word(value))
    return str(value)


def _display_word(text: str) -> str:
    return text if _ID_OR_TIME.fullmatch(text) else f"(text of {len(text)} characters)"


def _display_step(step: str) -> str:
    if step == "." or re.fullmatch(r"\[\d*\]", step) or _FIELD_NAME.fullmatch(step):
        return step
    name = msgspec.json.decode(step[1:-1]) if step.startswith('["') else step
    return f"[name of {len(name)} characters]"
