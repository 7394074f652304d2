"""Reads and changes a report's table: its columns, and their fields in `_st.report_fields`.

What a load plans, it plans from `read_known_columns`, before its transaction. `ensure_report_table`
runs in the transaction; if another load has changed the columns since, it raises `Overtaken`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal

import duckdb

from st_pipelines.catalog.model import Endpoint, Field, Scalar, ScalarName
from st_pipelines.catalog.report import ReportColumn
from st_pipelines.warehouse.columns import DECIMAL, OWN_COLUMNS, quote, table_type
from st_pipelines.warehouse.errors import Overtaken
from st_pipelines.warehouse.load_spec import LoadSpec
from st_pipelines.warehouse.reports.columns import KnownColumns
from st_pipelines.warehouse.reports.inference import MAX_EXACT_INTEGER, WIDER, format_number
from st_pipelines.warehouse.store.base import ALIAS, Store
from st_pipelines.warehouse.tables.schema import (
    ensure_table,
    has_own_table,
    has_table,
    qualified,
)
from st_pipelines.warehouse.tables.table_load import TableLoad

_FIELDS = {
    "environment": "VARCHAR",
    "tenant_id": "VARCHAR",
    "endpoint": "VARCHAR",
    "field": "VARCHAR",
    "label": "VARCHAR",
    "column_name": "VARCHAR",
    "position": "BIGINT",
}
_SCALARS: dict[str, ScalarName] = {
    "BOOLEAN": "BOOLEAN",
    "BIGINT": "BIGINT",
    DECIMAL: "DECIMAL",
    "DOUBLE": "DOUBLE",
    "DATE": "DATE",
    "TIMESTAMP WITH TIME ZONE": "TIMESTAMPTZ",
    "VARCHAR": "VARCHAR",
}
_MAX_EXACT_DIGITS = 15
"""A decimal with more significant digits may not be exact as a double."""


def read_known_columns(store: Store, endpoint: Endpoint, spec: LoadSpec) -> KnownColumns:
    """Reads what the warehouse has of a report's columns. Raises WarehouseError."""
    if not store.exists:
        return KnownColumns()
    with store.read_only() as connection:
        return _read(connection, endpoint, spec, database="")


def _read(
    connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, spec: LoadSpec, *, database: str
) -> KnownColumns:
    """Reads what the warehouse has.

    Args:
        database: `warehouse.` where the warehouse is attached; empty in the warehouse itself.
    """
    columns, is_new = _read_fields(connection, endpoint, spec, database)
    table = f"{database}{quote(endpoint.api)}.{quote(endpoint.name)}"
    found = connection.execute(
        "SELECT column_name, data_type FROM duckdb_columns() "
        "WHERE schema_name = ? AND table_name = ? AND database_name = "
        + (f"'{ALIAS}'" if database else "current_database()"),
        [endpoint.api, endpoint.name],
    ).fetchall()
    present = {name: type_ for name, type_ in found if name not in OWN_COLUMNS}
    if not present:
        return KnownColumns(columns=columns, is_new=is_new)
    filled = _find_filled(connection, table, present)
    scalars: dict[str, ScalarName] = {
        name: _SCALARS[type_] for name, type_ in present.items() if type_ in _SCALARS
    }
    types: dict[str, ScalarName] = {
        name: type_ for name, type_ in scalars.items() if name in filled
    }
    return KnownColumns(
        columns=columns,
        types=types,
        empty_types={name: type_ for name, type_ in scalars.items() if name not in filled},
        other_types=frozenset(filled - types.keys()),
        exact_as_double=_find_exact(connection, table, types),
        is_new=is_new,
    )


def _read_fields(
    connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, spec: LoadSpec, database: str
) -> tuple[tuple[ReportColumn, ...], bool]:
    """Returns the columns by field, with the tenant's positions, and whether it has none."""
    if not has_own_table(connection, "report_fields"):
        return (), True
    rows = connection.execute(
        "SELECT field, label, column_name, position, tenant_id = ? "
        f"FROM {database}_st.report_fields WHERE environment = ? AND endpoint = ? "
        "ORDER BY rowid",
        [spec.tenant_id, spec.environment, endpoint.name],
    ).fetchall()
    columns: dict[str, ReportColumn] = {}
    for name, label, column, position, is_own in rows:
        if is_own or name not in columns:
            columns[name] = ReportColumn(
                field=name, label=label, column=column, position=position if is_own else None
            )
    return tuple(columns.values()), not any(row[4] for row in rows)


def _find_filled(
    connection: duckdb.DuckDBPyConnection, table: str, names: Iterable[str]
) -> set[str]:
    """Returns the columns that hold a value, of any tenant."""
    listed = list(names)
    counts = ", ".join(f"count({quote(name)})" for name in listed)
    found = connection.execute(f"SELECT {counts} FROM {table}").fetchall()[0]
    return {name for name, count in zip(listed, found, strict=True) if count}


def _find_exact(
    connection: duckdb.DuckDBPyConnection, table: str, types: Mapping[str, ScalarName]
) -> frozenset[str]:
    """Returns the numeric columns whose values are certain to be exact as doubles."""
    checks = {
        name: f"max(abs({quote(name)}::HUGEINT)) <= {MAX_EXACT_INTEGER}"
        if type_ == "BIGINT"
        else f"max(length(ltrim(replace(ltrim({_trimmed(name)}, '-'), '.', ''), '0'))) "
        f"<= {_MAX_EXACT_DIGITS}"
        for name, type_ in types.items()
        if type_ in ("BIGINT", "DECIMAL")
    }
    if not checks:
        return frozenset()
    found = connection.execute(f"SELECT {', '.join(checks.values())} FROM {table}").fetchall()[0]
    return frozenset(name for name, exact in zip(checks, found, strict=True) if exact)


def _trimmed(name: str) -> str:
    """SQL for a decimal as text, without zeros at its end."""
    return rf"regexp_replace({quote(name)}::VARCHAR, '\.?0+$', '')"


def ensure_report_table(load: TableLoad) -> list[str]:
    """Creates a report's table, or gives it the columns and types that the load has planned.

    Returns:
        The names of added columns, and of those with another type.

    Raises:
        Overtaken: another load has changed the columns since this one planned them.
    """
    connection, endpoint, spec = load.connection, load.endpoint, load.spec
    assert endpoint.report is not None
    known = _read(connection, endpoint, spec, database=f"{ALIAS}.")
    _refuse_other_columns(known, endpoint)
    changed = []
    if has_table(connection, endpoint.api, endpoint.name):
        changed = [f.name for f in endpoint.columns if _widen(connection, endpoint, f, known)]
    added = ensure_table(connection, endpoint)
    if endpoint.by_day:
        _delete_whole_loads(load)
    _write_fields(load, endpoint.report.columns)
    return added + changed


def _delete_whole_loads(load: TableLoad) -> None:
    """Deletes what was loaded before the report had days: no day would ever replace it."""
    spec, endpoint = load.spec, load.endpoint
    owner = [spec.tenant_id, spec.environment, endpoint.api, endpoint.name, spec.tenant_id]
    load.connection.execute(
        f"DELETE FROM {load.table} WHERE _tenant_id = ? AND _read_sequence IN ("
        f"SELECT sequence FROM {ALIAS}._st.loads WHERE environment = ? AND api = ? "
        "AND endpoint = ? AND tenant_id = ? AND window_start IS NULL)",
        owner,
    )


def _refuse_other_columns(known: KnownColumns, endpoint: Endpoint) -> None:
    """Raises Overtaken where the plan does not fit what the table has."""
    assert endpoint.report is not None
    planned = {column.field: column.column for column in endpoint.report.columns}
    has_other_names = any(planned.get(c.field) != c.column for c in known.columns)
    types = {f.name: f.type for f in endpoint.columns}
    narrower = [name for name in known.other_types if types.get(name) != Scalar("VARCHAR")]
    narrower += [n for n, present in known.types.items() if not _holds(types.get(n), present)]
    inexact = [
        name
        for name, type_ in known.types.items()
        if types.get(name) == Scalar("DOUBLE")
        and type_ != "DOUBLE"
        and name not in known.exact_as_double
    ]
    if has_other_names or narrower or inexact:
        raise Overtaken(endpoint.table, len(narrower) + len(inexact) or len(known.columns))


def _holds(planned: object, present: ScalarName) -> bool:
    """Whether the planned type holds a column's values; a column that is not planned stays."""
    if planned is None or planned == Scalar("VARCHAR"):
        return True
    return isinstance(planned, Scalar) and planned.name in WIDER.get(present, frozenset())


def _widen(
    connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, field: Field, known: KnownColumns
) -> bool:
    """Changes a column's type so that its values stay exact; returns whether it has changed."""
    assert isinstance(field.type, Scalar)
    former = known.types.get(field.name) or known.empty_types.get(field.name)
    if former == field.type.name or (former is None and field.name not in known.other_types):
        return False
    name, table = quote(field.name), qualified(endpoint)
    if field.name in known.empty_types:
        using = "NULL"
    elif field.type.name == "VARCHAR":
        using = _as_text(field.name, former)
    elif field.type.name == "DOUBLE":  # by way of text, since DuckDB would round twice
        using = f"CAST({name} AS VARCHAR)::DOUBLE"
    else:
        using = name
    connection.execute(
        f"ALTER TABLE {table} ALTER {name} TYPE {table_type(field.type)} USING {using}"
    )
    if field.type.name == "VARCHAR" and former == "DOUBLE":
        _write_exponents_out(connection, table, name)
    return True


def _as_text(name: str, former: ScalarName | None) -> str:
    """SQL for a value as text, as `inference.to_text` writes it."""
    column = quote(name)
    match former:
        case "DECIMAL":
            return _trimmed(name)
        case "DOUBLE":
            text = rf"regexp_replace({column}::VARCHAR, '\.0$', '')"
            return f"CASE WHEN {column} = 0 THEN '0' ELSE {text} END"
        case "TIMESTAMPTZ":
            moment = f"strftime(timezone('UTC', {column}), '%Y-%m-%dT%H:%M:%S.%f')"
            return rf"regexp_replace({moment}, '\.?0+$', '') || 'Z'"
    return f"{column}::VARCHAR"


def _write_exponents_out(connection: duckdb.DuckDBPyConnection, table: str, name: str) -> None:
    """Writes 1e-05 as 0.00001, in a column of text that held doubles."""
    rows = connection.execute(
        f"SELECT DISTINCT {name} FROM {table} WHERE contains({name}, 'e')"
    ).fetchall()
    for (text,) in rows:
        plain = format_number(Decimal(text))
        connection.execute(f"UPDATE {table} SET {name} = ? WHERE {name} = ?", [plain, text])


def _write_fields(load: TableLoad, columns: Iterable[ReportColumn]) -> None:
    """Replaces the tenant's rows of `_st.report_fields`."""
    connection, spec, endpoint = load.connection, load.spec, load.endpoint
    table = f"{ALIAS}._st.report_fields"
    definition = ", ".join(f"{quote(name)} {type_}" for name, type_ in _FIELDS.items())
    connection.execute(f"CREATE TABLE IF NOT EXISTS {table} ({definition})")
    owner = [spec.environment, spec.tenant_id, endpoint.name]
    connection.execute(
        f"DELETE FROM {table} WHERE environment = ? AND tenant_id = ? AND endpoint = ?", owner
    )
    rows = [[*owner, c.field, c.label, c.column, c.position] for c in columns]
    if rows:
        marks = ", ".join("?" * len(_FIELDS))
        connection.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)
