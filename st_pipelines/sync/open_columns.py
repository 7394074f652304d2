"""Gives columns to endpoints of the user's file that declare none.

Before the first load of such an endpoint, its first records decide on the types of the key and the
cursor, and on those columns that they have values for. What later records have besides ends up in
`_extra`, as for every endpoint, and is adopted right after the load. Both are written to the
additions file, which all processes read: `catalog.additions`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from st_pipelines.catalog import additions
from st_pipelines.catalog.model import (
    Catalog,
    DataType,
    Endpoint,
    Field,
    Scalar,
    StructOf,
    find_column_conflict,
)
from st_pipelines.config.errors import SettingsError
from st_pipelines.servicetitan.http.model import ReadStats
from st_pipelines.servicetitan.reading.export_feed import read_feed
from st_pipelines.servicetitan.reading.page_source import PageSource
from st_pipelines.warehouse.adopt.adopt import adopt
from st_pipelines.warehouse.adopt.inference import Shape
from st_pipelines.warehouse.staging.conform import decode_exactly

if TYPE_CHECKING:
    from st_pipelines.servicetitan.http.client import Client
    from st_pipelines.servicetitan.reading.envelope import Records
    from st_pipelines.warehouse.staging.stage import Drift
    from st_pipelines.warehouse.store.base import Store

_TIMES = (Scalar("TIMESTAMPTZ"), Scalar("DATE"))


@dataclass(frozen=True, kw_only=True)
class OpenColumns:
    """Where the columns of open endpoints are written.

    Attributes:
        file: the additions file.
        base: the catalog without additions.
    """

    file: Path
    base: Catalog


def settle_columns(client: Client, columns: OpenColumns | None, endpoint: Endpoint) -> Endpoint:
    """Returns an open endpoint with the columns that are known by now; others as they are.

    Raises:
        ServiceTitanError: its first records could not be read.
        SettingsError: they lack the key or the cursor that the user's file gives.
        OSError: the additions file cannot be written.
    """
    if not endpoint.open or columns is None:
        return endpoint
    file = columns.file
    known = additions.read(file)
    if endpoint.table in known:
        endpoint = additions.add_fields(endpoint, known[endpoint.table])
    if not endpoint.untyped:
        return endpoint
    rows = _read_first(client, endpoint).rows
    if not rows:
        return endpoint  # nothing to load either, but the table
    found = _infer_columns(endpoint, map(_decode, rows))
    united = additions.merge_types(known.get(endpoint.table, StructOf(())), found)
    assert isinstance(united, StructOf)
    additions.write(file, {**known, endpoint.table: united})
    return additions.add_fields(endpoint, united)


def adopt_columns(
    store: Store, columns: OpenColumns | None, endpoint: Endpoint, drift: Drift
) -> None:
    """Turns what a load of an open endpoint has kept in `_extra` into columns.

    Raises:
        WarehouseError: the rows could not be rewritten; the next load tries again.
    """
    # What was only null has no type yet. What only the export serves is not counted as drift.
    has_values = any(example != "null" for example in drift.examples.values())
    if endpoint.open and columns is not None and (has_values or endpoint.export):
        adopt(store, columns.base, columns.file, select=[endpoint.table], widen=True)


def _read_first(client: Client, endpoint: Endpoint) -> Records:
    """Reads the first page of a list, or the first batch of a feed."""
    session = client.session(ReadStats())
    endpoint = dataclasses.replace(endpoint, key=())  # what cannot be one is explained later
    if endpoint.is_feed:
        pages = read_feed(session, endpoint, None)
        try:
            return next(pages)
        finally:
            pages.close()
    if endpoint.variants:
        params = {**endpoint.params, **endpoint.variants[0]}
        endpoint = dataclasses.replace(endpoint, params=params)
    source = PageSource(session, endpoint, None)
    return source.fetch(source.page(0))


def _decode(row: msgspec.Raw) -> Any:
    """Returns a record; None if it is not valid JSON, so that others have to decide."""
    try:
        return decode_exactly(bytes(row).decode())
    except (ValueError, RecursionError):
        return None


def _infer_columns(endpoint: Endpoint, records: Iterable[Any]) -> StructOf:
    """Returns the fields that records have values for.

    Raises:
        SettingsError: the records lack the key or the cursor.
    """
    shape = Shape()
    for record in records:
        shape.add(record)
    fields: tuple[Field, ...] = ()
    for name, member in shape.members.items():
        type_ = member.infer_type()
        if type_ is not None and find_column_conflict(name, fields) is None:
            fields = (*fields, Field(name, type_))
    found = StructOf(fields)
    for name in endpoint.key:
        _require_key(endpoint, name, additions.type_at(found.fields, [name]))
    if endpoint.cursor:
        _require_time(endpoint, additions.type_at(found.fields, endpoint.cursor.split(".")))
    return found


def _require_key(endpoint: Endpoint, name: str, found: DataType | None) -> None:
    if found is None:
        raise _wrong(endpoint, f"key: its records have no value in {name}")
    if not isinstance(found, Scalar) or found.name == "JSON":
        raise _wrong(endpoint, f"key: {name} is not a single value in its records")


def _require_time(endpoint: Endpoint, found: DataType | None) -> None:
    if found is None:
        raise _wrong(endpoint, f"cursor: its records have no value in {endpoint.cursor}")
    if found not in _TIMES:
        raise _wrong(endpoint, f"cursor: {endpoint.cursor} is not a time in its records")


def _wrong(endpoint: Endpoint, problem: str) -> SettingsError:
    return SettingsError(
        f"st_endpoints.yaml (ST_ENDPOINTS): {endpoint.table}: {problem}: correct it there, or give "
        "the columns"
    )
