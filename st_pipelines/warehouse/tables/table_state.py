"""What the warehouse knows before a load that the load's reading has to be compared with."""

from __future__ import annotations

from dataclasses import dataclass

from st_pipelines.catalog.model import Endpoint, Scalar
from st_pipelines.warehouse.columns import quote
from st_pipelines.warehouse.staging.typed_rows import LoadSpec, TypedRows
from st_pipelines.warehouse.store.base import Store
from st_pipelines.warehouse.tables.load_log import ExportBookmark, read_bookmark
from st_pipelines.warehouse.tables.row_scope import scope
from st_pipelines.warehouse.tables.schema import has_table, qualified


@dataclass(frozen=True, kw_only=True)
class TableState:
    """What the warehouse holds of an endpoint.

    Attributes:
        place: how far its feed was read.
        missing: ids in the window's rows that the reading did not contain.
        witness: an id that the reading did contain; where it contained none, one that the table
            has outside the window, which may be gone too.
    """

    bookmark: ExportBookmark | None = None
    missing: tuple[int, ...] = ()
    control_id: int | None = None


def can_look_up(endpoint: Endpoint) -> bool:
    """Whether single records can be asked for by their ids."""
    return (
        endpoint.ids and endpoint.key == ("id",) and endpoint.column("id").type == Scalar("BIGINT")
    )


def read_table_state(
    typed: TypedRows, warehouse: Store, endpoint: Endpoint, load: LoadSpec
) -> TableState:
    """Compares the rows that have been read with the table, for a few milliseconds.

    Args:
        typed: all rows of the reading.
        warehouse: is opened for a moment; it may not be there yet.
        endpoint: whose rows.
        load: which tenant and window.

    Raises:
        WarehouseError: it cannot be read.
    """
    connection = typed.connection
    witness = None
    if can_look_up(endpoint):
        witness = connection.execute(f"SELECT max(id) FROM {typed.name}").fetchall()[0][0]
    if not warehouse.exists:
        return TableState(control_id=witness)
    with warehouse.attach(connection, f"a look at {endpoint.table}"):
        if not has_table(connection, endpoint.api, endpoint.name):
            return TableState(control_id=witness)
        place = (
            read_bookmark(connection, endpoint, load.environment, load.tenant_id)
            if endpoint.export
            else None
        )
        # A reading of everything tells by itself, unless it is of parts: what goes over from one
        # that is not yet read to one that is, is in neither.
        wanted = can_look_up(endpoint) and (not load.replaces or bool(endpoint.variants))
        missing = _missing(typed, endpoint, load) if wanted else ()
        if witness is None and can_look_up(endpoint):
            witness = _other_witness(endpoint, typed, load, missing)
    return TableState(bookmark=place, missing=missing, control_id=witness)


def _other_witness(
    endpoint: Endpoint, typed: TypedRows, load: LoadSpec, missing: tuple[int, ...]
) -> int | None:
    return typed.connection.execute(
        f"SELECT max(id) FROM {qualified(endpoint)} WHERE _tenant_id = ? AND _deleted_at IS NULL "
        "AND id NOT IN (SELECT unnest(?::BIGINT[]))",
        [load.tenant_id, list(missing)],
    ).fetchall()[0][0]


def _missing(typed: TypedRows, endpoint: Endpoint, load: LoadSpec) -> tuple[int, ...]:
    key = quote("id")
    rows = typed.connection.execute(
        f"SELECT {key} FROM {qualified(endpoint)} t "
        f"WHERE t._tenant_id = ? AND t._deleted_at IS NULL AND {scope(endpoint, load)} "
        f"AND NOT EXISTS (SELECT 1 FROM {typed.name} s WHERE s.{key} = t.{key}) ORDER BY 1",
        [load.tenant_id],
    ).fetchall()
    return tuple(row[0] for row in rows if row[0] is not None)
