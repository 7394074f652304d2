"""Fields that stopped coming: the table has values of them, and a load of many rows has none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import duckdb

from st_pipelines.catalog.model import Endpoint, Field, StructOf
from st_pipelines.warehouse.columns import fetch_row, quote
from st_pipelines.warehouse.staging.typed_rows import LoadSpec
from st_pipelines.warehouse.tables.row_scope import only_exported
from st_pipelines.warehouse.tables.schema import qualified

VALUES_MISSED = 20
"""So many values must have been expected, by the share of rows that had one before."""


@dataclass(frozen=True, kw_only=True)
class MissingField:
    """A field without any value in a load.

    Attributes:
        path: the column, and behind points the members of structs.
        share: of the table's rows that have a value, above 0 and up to 1.
        rows: of the load, all without.
    """

    path: str
    share: float
    rows: int


def find_missing_fields(
    connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, load: LoadSpec
) -> tuple[MissingField, ...]:
    """Compares `staged` with the table. Ask before the merge: it takes the old values away."""
    if fetch_row(connection, "SELECT count(*) FROM staged")[0] < VALUES_MISSED:
        return ()
    fields = dict(_paths(endpoint))
    rows, values = _filled(connection, "staged", fields, "true", [])
    empty = {path: fields[path] for path, count in values.items() if not count}
    live = "_tenant_id = ? AND _deleted_at IS NULL"
    before, values = _filled(connection, qualified(endpoint), empty, live, [load.tenant_id])
    gone = {p: n / before for p, n in values.items() if n and n / before * rows >= VALUES_MISSED}
    return tuple(
        MissingField(path=path, share=share, rows=rows)
        for path, share in gone.items()
        if not any(path.startswith(f"{other}.") for other in gone)
    )


def _paths(endpoint: Endpoint) -> Iterator[tuple[str, str]]:
    """Readable path and SQL of each column and each member of a struct, outer ones first."""
    exported = only_exported(endpoint)
    for field in endpoint.row_fields:
        if field.column not in exported:
            yield from _members(field, "", "")


def _members(field: Field, path: str, sql: str) -> Iterator[tuple[str, str]]:
    path, sql = path + field.column, sql + quote(field.column)
    yield path, sql
    if isinstance(field.type, StructOf):
        for member in field.type.fields:
            yield from _members(member, path + ".", sql + ".")


def _filled(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    fields: Mapping[str, str],
    where: str,
    values: list[Any],
) -> tuple[int, dict[str, int]]:
    """The number of rows, and of those with a value for each path."""
    counts = ", ".join(["count(*)", *(f"count({sql})" for sql in fields.values())])
    found = connection.execute(f"SELECT {counts} FROM {table} WHERE {where}", values).fetchall()[0]
    return found[0], dict(zip(fields, found[1:], strict=True))
