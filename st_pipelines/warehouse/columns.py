"""SQL that the whole package shares: types, column expressions, quoting, single results.

The catalog's types become DuckDB types, and a staged field becomes a table's column. Fields are
staged under the names the API serves and land under their snake_case names, nested members too:
`remap_struct` renames without rebuilding, for a sixth of what reading costs.

Definitions import this module, so it must not import DuckDB.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from importlib.metadata import version
from operator import attrgetter
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from st_pipelines.catalog.model import DataType, Endpoint, Field, ListOf, Scalar, StructOf

if TYPE_CHECKING:
    import duckdb

DECIMAL = "DECIMAL(38,10)"
"""28 digits before the point and 10 after it: the API serves costs with 10 decimals."""

EXTRA = "_extra"
"""The column for values that no other column can hold: a JSON object from path to value."""

EXTRA_MEMBER = "\x01extra"
"""The member of staged records that becomes `_extra`; a name that no API would serve."""

OWN_COLUMNS = {
    "_tenant_id": "VARCHAR",
    "_partition_date": "DATE",
    "_loaded_at": "TIMESTAMPTZ",
    "_run_id": "VARCHAR",
    "_deleted_at": "TIMESTAMPTZ",
    "_read_sequence": "BIGINT",
    EXTRA: "JSON",
}

DUCKDB_1 = version("duckdb").startswith("1.")
"""DuckDB 1 reads a JSON number into a wide DECIMAL through a double times a power of ten, and gets
999999999999.99 wrong; it reads text exactly. DuckDB 2 reads the digits themselves."""

_SERVED_NAME, _COLUMN_NAME = attrgetter("name"), attrgetter("column")
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_YEARS_BACK, _YEARS_AHEAD = 10, 2
_YEAR = timedelta(days=365)
_STEP = timedelta(days=7)  # no zone changes and changes back within a week
_SECOND, _MICROSECOND = timedelta(seconds=1), timedelta(microseconds=1)


def quote(identifier: str) -> str:
    """Quotes an identifier; columns may be called `from`, `order` or `end`."""
    return '"' + identifier.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Quotes a string, where SQL cannot bind a value (file names, settings, struct keys)."""
    return "'" + text.replace("'", "''") + "'"


def fetch_row(connection: duckdb.DuckDBPyConnection, sql: str, values: list | None = None) -> Any:
    """Returns the only row of a query."""
    return connection.execute(sql, values or []).fetchall()[0]


def count_changes(
    connection: duckdb.DuckDBPyConnection, sql: str, values: list | None = None
) -> int:
    """Runs an INSERT, UPDATE or DELETE and returns the number of rows it changed."""
    row = connection.execute(sql, values or []).fetchone()
    return int(row[0]) if row else 0


@functools.lru_cache(maxsize=4096)
def table_type(type_: DataType) -> str:
    """Returns the type in the table, with snake_case members."""
    return _sql_type(type_, DECIMAL, _COLUMN_NAME)


def columns_of(endpoint: Endpoint) -> dict[str, str]:
    """Returns each column's DuckDB type: the API's columns, then ours (with an underscore)."""
    return {f.column: table_type(f.type) for f in endpoint.row_fields} | OWN_COLUMNS


def staged_type(type_: DataType) -> str:
    """Returns the type with which `read_json` reads a staged field, with members as served."""
    return _sql_type(type_, "VARCHAR" if DUCKDB_1 else DECIMAL, _SERVED_NAME)


def select_expression(field: Field) -> str:
    """Returns SQL that turns a staged field into the table's column, without an alias."""
    expression = quote(field.name)
    type_with_served_names = _sql_type(field.type, DECIMAL, _SERVED_NAME)
    if staged_type(field.type) != type_with_served_names:
        expression = f"CAST({expression} AS {type_with_served_names})"
    mapping = _mapping(field.type)
    if mapping is None:
        return expression
    return f"remap_struct({expression}, NULL::{table_type(field.type)}, {mapping}, NULL)"


def _mapping(type_: DataType) -> str | None:
    """Returns the mapping for `remap_struct`; None if all members keep their names."""
    match type_:
        case ListOf(item):
            inner = _mapping(item)
            return None if inner is None else f"{{'list': ('list', {inner})}}"
        case StructOf(fields):
            inner = {f.column: (f, _mapping(f.type)) for f in fields}
            if all(f.column == f.name and m is None for f, m in inner.values()):
                return None
            return "{" + ", ".join(_member(c, f, m) for c, (f, m) in inner.items()) + "}"
    return None


def _member(column: str, field: Field, mapping: str | None) -> str:
    source = literal(field.name)
    return f"{literal(column)}: {source if mapping is None else f'({source}, {mapping})'}"


def _sql_type(type_: DataType, decimal: str, member_name: Callable[[Field], str]) -> str:
    """Returns the DuckDB type, given the type of decimals and the names of a struct's members."""
    match type_:
        case Scalar(name):
            return decimal if name == "DECIMAL" else name
        case ListOf(item):
            return _sql_type(item, decimal, member_name) + "[]"
        case StructOf(fields):
            types = (_sql_type(f.type, decimal, member_name) for f in fields)
            members = (f"{quote(member_name(f))} {t}" for f, t in zip(fields, types, strict=True))
            return f"STRUCT({', '.join(members)})"


def local_day_sql(moment: str, zone: str) -> str:
    """Returns SQL for the local day of a TIMESTAMPTZ, as a DATE; NULL for NULL.

    The days are those of Python's time zone database, up to ten years ago. DuckDB has its own copy,
    from another release: if a government changed a zone in between, DuckDB would put a row near
    midnight on another day than the window it was read for. Both agree on earlier times.

    Args:
        moment: a SQL expression.
        zone: an IANA name.
    """
    offsets, micros = _read_offsets(zone), f"epoch_us({moment})"
    cases = " ".join(
        f"WHEN {micros} >= {(since - _EPOCH) // _MICROSECOND} THEN {offset // _MICROSECOND}"
        for since, offset in reversed(offsets)
    )
    recent = f"make_timestamp({micros} + CASE {cases} END)"
    return (
        f"CAST(CASE WHEN {micros} >= {(offsets[0][0] - _EPOCH) // _MICROSECOND} THEN {recent} "
        f"ELSE timezone({literal(zone)}, {moment}) END AS DATE)"
    )


@functools.lru_cache(maxsize=16)
def _read_offsets(zone: str) -> tuple[tuple[datetime, timedelta], ...]:
    """Returns the offsets from UTC, and since when each holds; the earliest first."""
    return tuple(_find_changes(ZoneInfo(zone)))


def _find_changes(zone: ZoneInfo) -> Iterator[tuple[datetime, timedelta]]:
    now = datetime.now(timezone.utc).replace(microsecond=0)
    at = now - _YEARS_BACK * _YEAR
    offset = _offset(zone, at)
    yield at, offset
    while at < now + _YEARS_AHEAD * _YEAR:
        following = at + _STEP
        if _offset(zone, following) != offset:
            changed = _find_change(zone, at, following)
            offset = _offset(zone, changed)
            yield changed, offset
        at = following


def _find_change(zone: ZoneInfo, same: datetime, other: datetime) -> datetime:
    """Returns the second at which the offset changes between two moments."""
    offset = _offset(zone, same)
    while other - same > _SECOND:
        middle = same + ((other - same) // (2 * _SECOND)) * _SECOND
        same, other = (middle, other) if _offset(zone, middle) == offset else (same, middle)
    return other


def _offset(zone: ZoneInfo, moment: datetime) -> timedelta:
    return moment.astimezone(zone).utcoffset() or timedelta()
