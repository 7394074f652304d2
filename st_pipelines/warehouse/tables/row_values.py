"""SQL for the values that a merge by key gives a row `t` from a staged row `s`.

A list row leaves what only the export serves, and vice versa, in columns and in `_extra`.
"""

from __future__ import annotations

from collections.abc import Mapping

from st_pipelines.catalog.additions import EXPORT_ONLY
from st_pipelines.catalog.model import Endpoint, Export, snake_case
from st_pipelines.warehouse.columns import EXTRA, OWN_COLUMNS, quote
from st_pipelines.warehouse.tables.table_load import TableLoad, same_key


def clear_unknown(load: TableLoad) -> dict[str, str]:
    """Values of the table's columns that this catalog does not know.

    Another host's catalog may know them. Their new values are in `_extra`, so a row with a new
    version must not keep those of the old one.
    """
    known = {f.column for f in load.endpoint.row_fields} | {*OWN_COLUMNS}
    columns = load.connection.sql(f"FROM {load.table} LIMIT 0").columns
    return {quote(column): "NULL" for column in columns if column not in known}


def _all_columns(endpoint: Endpoint) -> list[str]:
    """The table's columns, quoted."""
    return [quote(f.column) for f in endpoint.row_fields] + [quote(c) for c in OWN_COLUMNS]


def same_record(endpoint: Endpoint) -> str:
    """SQL: `t` and `s` are the same record of the same tenant."""
    return f"t._tenant_id = s._tenant_id AND {same_key(endpoint, 't', 's')}"


def build_changes(endpoint: Endpoint, values: Mapping[str, str]) -> str:
    """SQL: an update with these values changes more than when and by which run a row was loaded."""
    content = {quote(f.column) for f in endpoint.row_fields} | {quote(EXTRA), quote("_deleted_at")}
    return " OR ".join(f"t.{c} IS DISTINCT FROM {v}" for c, v in values.items() if c in content)


def assignments(values: Mapping[str, str]) -> str:
    """The columns of an UPDATE and their values."""
    return ", ".join(f"{column} = {value}" for column, value in values.items())


def build_insert(endpoint: Endpoint, values: Mapping[str, str] | None = None) -> str:
    """The INSERT of a MERGE; `values` replaces the values of some columns of `s`."""
    columns = _all_columns(endpoint)
    given = [(values or {}).get(column, f"s.{column}") for column in columns]
    return f"INSERT ({', '.join(columns)}) VALUES ({', '.join(given)})"


def values_of_list_row(endpoint: Endpoint) -> dict[str, str]:
    """What a row of the list sets. It keeps what only the export serves."""
    values = {column: f"s.{column}" for column in _all_columns(endpoint)}
    values[quote("_deleted_at")] = "NULL"
    if endpoint.export:
        for name in endpoint.export.adds:
            column = quote(snake_case(name))
            values[column] = f"coalesce(s.{column}, t.{column})"
        values[quote(EXTRA)] = join_extra("s._extra", _export_part("t._extra"))
    return values


def values_of_newer_row(endpoint: Endpoint, export: Export) -> dict[str, str]:
    """What the feed sets in a row of which it serves a newer version."""
    lacking = {quote(snake_case(name)) for name in export.lacks}
    values = {column: f"s.{column}" for column in _all_columns(endpoint) if column not in lacking}
    values[quote("_deleted_at")] = (
        "CASE WHEN s.active IS FALSE THEN t._deleted_at END" if endpoint.has_active else "NULL"
    )
    return values | values_of_same_version(export)


def values_of_same_version(export: Export) -> dict[str, str]:
    """What the feed may set in a row whose version the list has served."""
    columns = [quote(snake_case(name)) for name in export.adds]
    values = {column: f"s.{column}" for column in columns}
    listed, exported = list_part("t._extra"), "CAST(s._extra AS VARCHAR)"
    # what the list served too is not kept twice
    part = f"CASE WHEN {exported} IS DISTINCT FROM {listed} THEN {exported} END"
    values[quote(EXTRA)] = join_extra(f"({listed})", f"({part})")
    values |= {quote(name): f"s.{name}" for name in ("_loaded_at", "_run_id", "_read_sequence")}
    return values


# The text of `_extra` is cut and joined, never parsed: its numbers have more digits than a parser
# keeps. Within a JSON string the quotes of the member's name would be escaped, so the search cannot
# match inside a value.
_MEMBER = f'"{EXPORT_ONLY}":'
_MARK = f"'{_MEMBER}'"


def list_part(extra: str) -> str:
    """SQL for the part of an `_extra` that the list served; NULL for none."""
    text = f"CAST({extra} AS VARCHAR)"
    head = f"rtrim(left({text}, strpos({text}, {_MARK})::INTEGER - 1), ',') || '}}'"
    return f"CASE WHEN contains({text}, {_MARK}) THEN nullif({head}, '{{}}') ELSE {text} END"


def _export_part(extra: str) -> str:
    text = f"CAST({extra} AS VARCHAR)"
    tail = f"substr({text}, strpos({text}, {_MARK}) + {len(_MEMBER)})"
    return f"CASE WHEN contains({text}, {_MARK}) THEN left({tail}, -1) END"


def join_extra(list_part: str, export_part: str) -> str:
    """SQL for an `_extra` of both parts."""
    return (
        f"CASE WHEN {export_part} IS NULL THEN CAST({list_part} AS VARCHAR) "
        f"WHEN {list_part} IS NULL THEN '{{' || {_MARK} || {export_part} || '}}' "
        f"ELSE left({list_part}, -1) || ',' || {_MARK} || {export_part} || '}}' END::JSON"
    )
