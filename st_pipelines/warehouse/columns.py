"""SQL that the whole package shares: types, column expressions, quoting, single results.

The catalog's types become DuckDB types, and a staged field becomes a table's column. Fields are
staged under the names the API serves and land under their snake_case names, nested members too:
`remap_struct` renames without rebuilding, for a sixth of what reading costs.

Definitions import this module, so it must not import DuckDB.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from st_pipelines.catalog.model import DataType, Endpoint, Field, ListOf, Scalar, StructOf

if TYPE_CHECKING:
    import duckdb

DECIMAL = "DECIMAL(38,10)"
"""28 digits before the point and 10 behind it: costs arrive with 10 decimals (facts, 7.3)."""

EXTRA = "_extra"
"""The column that keeps what no column could hold, as JSON from path to value."""

EXTRA_MEMBER = "\x01extra"
"""Its member in staged records: a name that no API would serve."""

OWN_COLUMNS = {
    "_tenant_id": "VARCHAR",
    "_partition_date": "DATE",
    "_loaded_at": "TIMESTAMPTZ",
    "_run_id": "VARCHAR",
    "_deleted_at": "TIMESTAMPTZ",
    EXTRA: "JSON",
}

DUCKDB_1 = version("duckdb").startswith("1.")
"""It reads a JSON number into a wide DECIMAL by way of a double times a power of ten and gets
999999999999.99 wrong; as text it is exact. DuckDB 2 reads the digits themselves."""


def quote(identifier: str) -> str:
    """An identifier for SQL; columns may be called `from`, `order` or `end`."""
    return '"' + identifier.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A string for SQL, where binding is not possible (file names in a view, struct keys)."""
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


def table_type(type_: DataType) -> str:
    """The type in the table, with snake_case members."""
    match type_:
        case Scalar(name):
            return DECIMAL if name == "DECIMAL" else name
        case ListOf(item):
            return table_type(item) + "[]"
        case StructOf(fields):
            return _struct((f.column, table_type(f.type)) for f in fields)


def columns_of(endpoint: Endpoint) -> dict[str, str]:
    """Column to DuckDB type, the API's first, then ours (with an underscore)."""
    return {f.column: table_type(f.type) for f in endpoint.row_fields} | OWN_COLUMNS


def staged_type(type_: DataType) -> str:
    """The type by which `read_json` reads a staged field, with the members as served."""
    if type_ == Scalar("DECIMAL"):
        return "VARCHAR" if DUCKDB_1 else DECIMAL
    return _served_type(type_, staged_type)


def typed(type_: DataType) -> str:
    """The table's type, with the members as served."""
    return DECIMAL if type_ == Scalar("DECIMAL") else _served_type(type_, typed)


def select_expression(field: Field) -> str:
    """SQL from the staged field to the table's column, without its alias."""
    expression = quote(field.name)
    if staged_type(field.type) != typed(field.type):
        expression = f"CAST({expression} AS {typed(field.type)})"
    mapping = _mapping(field.type)
    if mapping is None:
        return expression
    return f"remap_struct({expression}, NULL::{table_type(field.type)}, {mapping}, NULL)"


def _mapping(type_: DataType) -> str | None:
    """remap_struct's mapping; None where all members keep their names."""
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


def _served_type(type_: DataType, of) -> str:
    match type_:
        case Scalar(name):
            return name
        case ListOf(item):
            return of(item) + "[]"
        case StructOf(fields):
            return _struct((f.name, of(f.type)) for f in fields)


def _struct(members) -> str:
    return "STRUCT(" + ", ".join(f"{quote(name)} {type_}" for name, type_ in members) + ")"
