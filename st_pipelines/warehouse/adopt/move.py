"""Values out of `_extra` into their columns, by loading their rows once more.

A row's columns are taken back to the JSON they came from, the values are put back at their paths,
and the result goes the way of every load, `Staging` and `TypedRows`, with the catalogue that now
knows them. So there is one place that says what lands where. Only the columns concerned and
`_extra` are written; `_loaded_at`, `_run_id`, `_partition_date` and `_deleted_at` stay.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, timezone
from typing import Any

import duckdb

from st_pipelines.catalog.model import Catalog, Endpoint, Field, Scalar, StructOf
from st_pipelines.warehouse.adopt.infer import fits
from st_pipelines.warehouse.adopt.plan import ROWS_AT_A_TIME, by_source, takes_export, type_at
from st_pipelines.warehouse.adopt.served import as_served, carried, with_members_of
from st_pipelines.warehouse.columns import EXTRA, EXTRA_MEMBER, quote
from st_pipelines.warehouse.errors import WarehouseBusy
from st_pipelines.warehouse.staging import json_path as paths
from st_pipelines.warehouse.staging.conform import decode_exactly, encode_exactly
from st_pipelines.warehouse.staging.typed_rows import LoadSpec
from st_pipelines.warehouse.store.base import Store
from st_pipelines.warehouse.tables import load_log as books
from st_pipelines.warehouse.tables.load import staged
from st_pipelines.warehouse.tables.schema import ensure_columns, qualified

_ROW = Field("\x7fnumber of the row in its table", Scalar("BIGINT"))
"""A name that no API would serve."""

_NOT_WRITTEN = LoadSpec(
    environment="", tenant_id="", window_start=None, window_end=None, timezone="UTC",
    default_date=date.min, loaded_at=datetime.min.replace(tzinfo=timezone.utc), run_id="",
)  # fmt: skip


def move(warehouse: Store, endpoint: Endpoint, columns: frozenset[str], catalog: Catalog) -> int:
    """Moves what fits from `_extra` into some columns, in one transaction.

    Args:
        warehouse: with the table.
        endpoint: whose table, with the fields that the columns shall have.
        columns: served names of the columns to move to.
        catalog: for `_st.endpoints`.

    Returns:
        Rows that were written.

    Raises:
        WarehouseError: it could not be written; then nothing was.
    """
    with duckdb.connect() as probe, warehouse.attach(probe):
        present = _types(probe, endpoint)
    part = _part(endpoint, columns, present)
    with staged(warehouse, part, _NOT_WRITTEN, name=f"adopt-{endpoint.table}") as moved:
        connection = moved.rows.connection
        with warehouse.attach(connection):
            if str(_types(connection, endpoint)) != str(present):
                raise WarehouseBusy(f"{endpoint.table} has just been changed: adopt once more")
            for page in _pages(connection, endpoint, part, present):
                moved.staging.add(page)
            moved.rows.add(moved.staging.files)
            moved.finish()
            connection.execute("BEGIN")
            ensure_columns(connection, endpoint, endpoint.api, endpoint.name, {})
            books.ensure_load_log(connection, catalog)
            _write(connection, endpoint, part)
            warehouse.commit(connection)
        return moved.staging.rows


def _types(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint) -> dict[str, Any]:
    relation = connection.sql(f"FROM {qualified(endpoint)} LIMIT 0")
    return dict(zip(relation.columns, relation.types, strict=True))


def _part(endpoint: Endpoint, columns: frozenset[str], present: Mapping[str, Any]) -> Endpoint:
    """The endpoint with these columns alone, and the number of the row."""
    fields = [
        Field(f.name, with_members_of(f.type, present[f.column]) if f.column in present else f.type)
        for f in endpoint.row_fields
        if f.name in columns
    ]
    return dataclasses.replace(
        endpoint, columns=(*fields, _ROW), key=(), cursor=None, explode=None, kind="snapshot"
    )


def _pages(
    connection: duckdb.DuckDBPyConnection,
    endpoint: Endpoint,
    part: Endpoint,
    present: Mapping[str, Any],
) -> Iterable[bytes]:
    """The rows that have something to move, as pages of JSON."""
    fields = [field for field in part.columns if field.column in present]
    selected = [f"CAST({quote(f.column)} AS {carried(present[f.column])})" for f in fields]
    reading = connection.execute(
        f"SELECT {', '.join(['rowid', EXTRA, *selected])} FROM {qualified(endpoint)} "
        f"WHERE {EXTRA} IS NOT NULL ORDER BY rowid"
    )
    move = _Mover(endpoint, StructOf(part.columns))
    while rows := reading.fetchmany(ROWS_AT_A_TIME):
        page = []
        for number, extra, *values in rows:
            record = {
                f.name: as_served(value, present[f.column], f.type)
                for f, value in zip(fields, values, strict=True)
            }
            if move(record, decode_exactly(extra)):
                page.append({**record, _ROW.name: number})
        if page:
            yield encode_exactly(page)


class _Mover:
    """Puts values of `_extra` back into records."""

    def __init__(self, endpoint: Endpoint, root: StructOf) -> None:
        self._of_export = functools.partial(takes_export, endpoint)
        self._type = functools.lru_cache(maxsize=65536)(functools.partial(type_at, root))

    def __call__(self, record: dict[str, Any], extra: dict[str, Any]) -> bool:
        """Whether there was any for this record; the others ride along in it."""
        listed, exported = by_source(extra)
        left = self._move(record, listed)
        if of_export := self._move(record, exported, self._of_export):
            left[paths.OF_EXPORT] = of_export
        if left:
            record[EXTRA_MEMBER] = encode_exactly(left).decode()
        return left != extra

    def _move(
        self,
        record: dict[str, Any],
        values: dict[str, Any],
        meant: Callable[[str], bool] = lambda path: True,
    ) -> dict[str, Any]:
        """Puts what fits into the record; returns what is left."""
        left = dict(values)
        for path in sorted(values, key=len):
            type_ = self._type(path) if meant(path) else None
            if type_ is not None and fits(values[path], type_) and _put(record, path, values[path]):
                del left[path]
        return left


def _put(record: dict[str, Any], path: str, value: Any) -> bool:
    """Sets the value at its path, if the record has such a place."""
    *outer, last = paths.steps(path)
    holder: Any = record
    for step in outer:
        holder = _at(holder, step)
    match holder, last:
        case dict(), str():
            holder[last] = value
        case list(), int() if last < len(holder):
            holder[last] = value
        case _:
            return False
    return True


def _at(holder: Any, step: paths.Step) -> Any:
    match holder, step:
        case dict(), str():
            return holder.get(step)
        case list(), int() if step < len(holder):
            return holder[step]
    return None


def _write(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, part: Endpoint) -> None:
    names = [quote(field.column) for field in part.columns if field != _ROW] + [EXTRA]
    connection.execute(
        f"UPDATE {qualified(endpoint)} t SET {', '.join(f'{n} = s.{n}' for n in names)} "
        f"FROM staged s WHERE t.rowid = s.{quote(_ROW.column)}"
    )
