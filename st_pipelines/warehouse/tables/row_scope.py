"""SQL conditions on rows: the scope of a load, the key, and the cursor."""

from __future__ import annotations

from st_pipelines.catalog.model import Endpoint, snake_case
from st_pipelines.warehouse.columns import literal, quote
from st_pipelines.warehouse.load_spec import LoadSpec


def table_cursor(endpoint: Endpoint, alias: str = "") -> str:
    """The cursor among the table's columns, `"lead_call"."modified_on"`; NULL without one."""
    if not endpoint.cursor:
        return "NULL::TIMESTAMPTZ"
    parts = [quote(snake_case(part)) for part in endpoint.cursor.split(".")]
    return ".".join([alias, *parts] if alias else parts)


def scope(endpoint: Endpoint, spec: LoadSpec) -> str:
    """SQL on `t`: the row belongs to what was read. True for a reading without a window."""
    if spec.window_end is None:
        return "true"
    if not endpoint.cursor:
        return f"t._partition_date = DATE {literal(spec.default_date.isoformat())}"
    cursor = table_cursor(endpoint, "t")
    bounds = [f"{cursor} < TIMESTAMPTZ {literal(str(spec.window_end))}"]
    if spec.window_start is not None:
        bounds.append(f"{cursor} >= TIMESTAMPTZ {literal(str(spec.window_start))}")
    return " AND ".join(bounds)


def key_columns(endpoint: Endpoint) -> list[str]:
    """The columns of the key, quoted; none where only the whole content identifies a record."""
    return [quote(snake_case(name)) for name in endpoint.key]


def lacks_key(endpoint: Endpoint, alias: str = "") -> str:
    """SQL: a row lacks a part of its key. False where there is no key."""
    prefix = f"{alias}." if alias else ""
    return " OR ".join(f"{prefix}{k} IS NULL" for k in key_columns(endpoint)) or "false"


def same_key(endpoint: Endpoint, one: str, other: str) -> str:
    """SQL: two rows of one tenant are the same record."""
    return " AND ".join(f"{one}.{key} = {other}.{key}" for key in key_columns(endpoint))


def export_only_columns(endpoint: Endpoint) -> frozenset[str]:
    """Columns that the export serves and the list does not."""
    added = endpoint.export.adds if endpoint.export else ()
    return frozenset(snake_case(name) for name in added)
