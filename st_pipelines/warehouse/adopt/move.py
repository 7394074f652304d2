"""Moves values from `_extra` into their columns, by loading their rows once more.

A row's columns are converted back to the JSON they came from, the values are put back at their
paths, and the record takes the way of every load, through `Staging` and `TypedRows`, with the
catalog that now knows the fields. One place thus decides which value lands where. Only these
columns and `_extra` are written; `_loaded_at`, `_run_id`, `_partition_date` and `_deleted_at`
stay.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, timezone
from typing import Any

import duckdb

from st_pipelines.catalog.model import (
    Catalog,
    DataType,
    Endpoint,
    Field,
    ListOf,
    Scalar,
    ScalarName,
    StructOf,
)
from st_pipelines.warehouse.adopt.inference import (
    BATCH_ROWS,
    fits,
    is_filled_by_export,
    split_by_source,
)
from st_pipelines.warehouse.columns import EXTRA, EXTRA_MEMBER, quote
from st_pipelines.warehouse.errors import WarehouseBusy
from st_pipelines.warehouse.load_spec import LoadSpec
from st_pipelines.warehouse.staging import json_path
from st_pipelines.warehouse.staging.conform import decode_exactly, encode_exactly
from st_pipelines.warehouse.store.base import Store
from st_pipelines.warehouse.tables import load_log
from st_pipelines.warehouse.tables.schema import ensure_table, qualified
from st_pipelines.warehouse.tables.staged_records import staged_records

_ROW_NUMBER = Field("\x7fnumber of the row in its table", Scalar("BIGINT"))
"""The row's `rowid`, under a name that no API would serve."""

_UNUSED_SPEC = LoadSpec(
    environment="",
    tenant_id="",
    window_start=None,
    window_end=None,
    timezone="UTC",
    default_date=date.min,
    loaded_at=datetime.min.replace(tzinfo=timezone.utc),
    run_id="",
)
"""Fills the staged rows' own columns, which are not written."""

_READ_AS_IS = ("BIGINT", "DOUBLE", "BOOLEAN", "VARCHAR")
_SCALAR_NAMES: dict[str, ScalarName] = {"TIMESTAMP WITH TIME ZONE": "TIMESTAMPTZ"}


def move_values(store: Store, endpoint: Endpoint, columns: frozenset[str], catalog: Catalog) -> int:
    """Moves what fits from `_extra` into some columns, in one transaction.

    Args:
        store: the warehouse with the table.
        endpoint: the table's endpoint, with the fields that the columns become.
        columns: served names of the columns to move values to.
        catalog: written to `_st.endpoints`.

    Returns:
        The number of rows written.

    Raises:
        WarehouseError: the rows could not be written; the table is unchanged.
    """
    with duckdb.connect() as probe, store.attach(probe):
        types = _read_column_types(probe, endpoint)
    part = _select_columns(endpoint, columns, types)
    with staged_records(store, part, _UNUSED_SPEC, name=f"adopt-{endpoint.table}") as records:
        connection = records.rows.connection
        with store.attach(connection):
            if str(_read_column_types(connection, endpoint)) != str(types):
                raise WarehouseBusy(f"{endpoint.table} was changed meanwhile: adopt again")
            for page in _read_pages(connection, endpoint, part, types):
                records.staging.add(page)
            records.rows.add(records.staging.files)
            records.finish()
            connection.execute("BEGIN")
            ensure_table(connection, endpoint, own_columns={})
            load_log.ensure_load_log(connection, catalog)
            _update_rows(connection, endpoint, part)
            store.commit(connection)
        return records.staging.rows


def _read_column_types(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint) -> dict[str, Any]:
    relation = connection.sql(f"FROM {qualified(endpoint)} LIMIT 0")
    return dict(zip(relation.columns, relation.types, strict=True))


def _select_columns(
    endpoint: Endpoint, columns: frozenset[str], types: Mapping[str, Any]
) -> Endpoint:
    """Returns the endpoint with these columns only, and the row number."""
    fields = [
        Field(f.name, _add_table_members(f.type, types[f.column]) if f.column in types else f.type)
        for f in endpoint.row_fields
        if f.name in columns
    ]
    return dataclasses.replace(
        endpoint, columns=(*fields, _ROW_NUMBER), key=(), cursor=None, explode=None, kind="snapshot"
    )


def _read_pages(
    connection: duckdb.DuckDBPyConnection,
    endpoint: Endpoint,
    part: Endpoint,
    types: Mapping[str, Any],
) -> Iterable[bytes]:
    """Yields the rows that have values to move, as pages of JSON records."""
    fields = [field for field in part.columns if field.column in types]
    selected = [f"CAST({quote(f.column)} AS {_readable_type(types[f.column])})" for f in fields]
    result = connection.execute(
        f"SELECT {', '.join(['rowid', EXTRA, *selected])} FROM {qualified(endpoint)} "
        f"WHERE {EXTRA} IS NOT NULL ORDER BY rowid"
    )
    restorer = _Restorer(endpoint, StructOf(part.columns))
    while rows := result.fetchmany(BATCH_ROWS):
        page = []
        for row_number, extra, *values in rows:
            record = {
                f.name: _as_served(value, types[f.column], f.type)
                for f, value in zip(fields, values, strict=True)
            }
            if restorer.restore(record, decode_exactly(extra)):
                page.append({**record, _ROW_NUMBER.name: row_number})
        if page:
            yield encode_exactly(page)


class _Restorer:
    """Puts values of `_extra` back into records."""

    def __init__(self, endpoint: Endpoint, root: StructOf) -> None:
        self._is_filled_by_export = functools.partial(is_filled_by_export, endpoint)
        find_type = functools.partial(json_path.find_type, root)
        self._find_type = functools.lru_cache(maxsize=65536)(find_type)

    def restore(self, record: dict[str, Any], extra: dict[str, Any]) -> bool:
        """Moves what fits into the record, and what is left into its `EXTRA_MEMBER`.

        Returns:
            Whether anything moved.
        """
        listed, exported = split_by_source(extra)
        left = self._move(record, listed)
        if left_of_export := self._move(record, exported, self._is_filled_by_export):
            left[json_path.EXPORT_ONLY] = left_of_export
        if left:
            record[EXTRA_MEMBER] = encode_exactly(left).decode()
        return left != extra

    def _move(
        self,
        record: dict[str, Any],
        values: dict[str, Any],
        is_wanted: Callable[[str], bool] = lambda path: True,
    ) -> dict[str, Any]:
        """Moves what fits into the record. Returns the rest."""
        left = dict(values)
        for path in sorted(values, key=len):
            type_ = self._find_type(path) if is_wanted(path) else None
            if type_ is not None and fits(values[path], type_) and _put(record, path, values[path]):
                del left[path]
        return left


def _put(record: dict[str, Any], path: str, value: Any) -> bool:
    """Sets the value at its path. Returns whether the record has that path."""
    *outer, last = json_path.parse_steps(path)
    parent: Any = record
    for step in outer:
        parent = _get(parent, step)
    match parent, last:
        case dict(), str():
            parent[last] = value
        case list(), int() if last < len(parent):
            parent[last] = value
        case _:
            return False
    return True


def _get(parent: Any, step: json_path.Step) -> Any:
    match parent, step:
        case dict(), str():
            return parent.get(step)
        case list(), int() if step < len(parent):
            return parent[step]
    return None


def _update_rows(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, part: Endpoint) -> None:
    names = [quote(field.column) for field in part.columns if field != _ROW_NUMBER] + [EXTRA]
    connection.execute(
        f"UPDATE {qualified(endpoint)} t SET {', '.join(f'{n} = s.{n}' for n in names)} "
        f"FROM staged s WHERE t.rowid = s.{quote(_ROW_NUMBER.column)}"
    )


def _readable_type(type_: Any) -> str:
    """Returns the SQL type to cast a column to so that Python gets its values losslessly.

    Args:
        type_: DuckDB's type object of the column.
    """
    if type_.id == "struct":
        members = (f"{quote(name)} {_readable_type(member)}" for name, member in type_.children)
        return f"STRUCT({', '.join(members)})"
    if type_.id == "list":
        return _readable_type(type_.children[0][1]) + "[]"
    return str(type_) if str(type_) in _READ_AS_IS else "VARCHAR"


def _as_served(value: Any, column_type: Any, type_: DataType) -> Any:
    """Converts a column's value back to JSON. NULL members are left out.

    Args:
        value: of the column, cast to `_readable_type(column_type)`; decimals and times are text.
        column_type: DuckDB's type object of the column.
        type_: the catalog's type, from `_add_table_members`.
    """
    if value is None:
        return None
    if isinstance(type_, StructOf) and column_type.id == "struct":
        types = dict(column_type.children)
        fields = {field.column: field for field in type_.fields}
        return {
            fields[name].name: _as_served(member, types[name], fields[name].type)
            for name, member in value.items()
            if member is not None
        }
    if isinstance(type_, ListOf) and column_type.id == "list":
        return [_as_served(item, column_type.children[0][1], type_.item) for item in value]
    if str(column_type) == "JSON":
        return decode_exactly(value)
    if str(column_type) == "TIMESTAMP WITH TIME ZONE":
        return value.replace(" ", "T", 1).removesuffix("+00") + "Z"
    return value


def _add_table_members(type_: DataType, column_type: Any) -> DataType:
    """Returns the catalog's type with the members that only the table still has.

    A table never shrinks, so it may hold members of an earlier catalog. They keep the names of
    their columns.
    """
    if isinstance(type_, ListOf) and column_type.id == "list":
        return ListOf(_add_table_members(type_.item, column_type.children[0][1]))
    if isinstance(type_, StructOf) and column_type.id == "struct":
        types = dict(column_type.children)
        fields = []
        for field in type_.fields:
            member = types.pop(field.column, None)
            merged = field.type if member is None else _add_table_members(field.type, member)
            fields.append(Field(field.name, merged))
        fields += [Field(name, _to_catalog_type(member)) for name, member in types.items()]
        return StructOf(tuple(fields))
    return type_


def _to_catalog_type(column_type: Any) -> DataType:
    if column_type.id == "struct":
        children = column_type.children
        return StructOf(tuple(Field(name, _to_catalog_type(member)) for name, member in children))
    if column_type.id == "list":
        return ListOf(_to_catalog_type(column_type.children[0][1]))
    name = str(column_type)
    return Scalar("DECIMAL" if name.startswith("DECIMAL") else _SCALAR_NAMES.get(name, name))  # pyright: ignore[reportArgumentType]
