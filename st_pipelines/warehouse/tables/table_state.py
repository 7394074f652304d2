"""Reads what a load needs to know before it commits, from the warehouse as it is.

These are the ids that the table has in the window and the reading lacks, and the export bookmark.
The warehouse is attached for a few milliseconds and nothing is written.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from st_pipelines.catalog.model import Endpoint
from st_pipelines.warehouse.load_spec import LoadSpec, MergeMode
from st_pipelines.warehouse.store.base import Store
from st_pipelines.warehouse.tables.coverage import read_coverage
from st_pipelines.warehouse.tables.identity import (
    WarehouseIdentity,
    read_identity,
    refuse_timezone,
)
from st_pipelines.warehouse.tables.load_log import (
    ExportBookmark,
    read_bookmark,
    read_last_sequence,
)
from st_pipelines.warehouse.tables.schema import has_table
from st_pipelines.warehouse.tables.staged_records import StagedRecords
from st_pipelines.warehouse.tables.table_load import TableLoad
from st_pipelines.windows import Coverage


@dataclass(frozen=True, kw_only=True)
class ReadStart:
    """What a read has to know before it starts.

    Attributes:
        sequence: for `LoadSpec.sequence`.
        coverage: what earlier loads of the table have read.
        identity: who the warehouse is; None before the tenant's first load.
    """

    sequence: int
    coverage: Coverage = field(default_factory=Coverage)
    identity: WarehouseIdentity | None = None


def begin_read(store: Store, endpoint: Endpoint, spec: LoadSpec) -> ReadStart:
    """Takes the read's sequence number from the warehouse; writes nothing.

    Call it before the first request of the read.

    Raises:
        TimeZoneRefused: the load would be refused when it commits.
        WarehouseError: it cannot be read.
    """
    store.check()
    if not store.exists:
        return ReadStart(sequence=1)
    with store.read_only() as connection:
        owner = {"environment": spec.environment, "tenant_id": spec.tenant_id}
        identity = read_identity(connection, **owner, schema="_st")
        refuse_timezone(
            identity, spec.environment, spec.timezone, is_default=spec.timezone_is_default
        )
        last = read_last_sequence(connection, endpoint, spec, schema="_st")
        coverage = read_coverage(connection, [endpoint], **owner, now=spec.loaded_at)
    return ReadStart(sequence=last + 1, coverage=coverage[endpoint.table], identity=identity)


@dataclass(frozen=True, kw_only=True)
class TableState:
    """What the warehouse holds of an endpoint.

    Attributes:
        bookmark: how far its export feed was read.
        missing: ids of rows in the window that the reading did not contain.
        control_id: an id that the reading contained; if it contained none, one that the table has
            outside the window, which ServiceTitan may have deleted too.
    """

    bookmark: ExportBookmark | None = None
    missing: tuple[int, ...] = ()
    control_id: int | None = None


def read_table_state(records: StagedRecords, warehouse: Store) -> TableState:
    """Compares the rows of a reading with the table.

    Args:
        records: the reading, finished.
        warehouse: may not exist yet.

    Raises:
        WarehouseError: it cannot be read.
    """
    endpoint, rows, control_id = records.endpoint, records.rows, None
    if endpoint.can_look_up:
        control_id = rows.connection.execute(f"SELECT max(id) FROM {rows.name}").fetchall()[0][0]
    if not warehouse.exists:
        return TableState(control_id=control_id)
    with warehouse.attach(rows.connection, f"a look at {endpoint.table}"):
        if not has_table(rows.connection, endpoint.api, endpoint.name):
            return TableState(control_id=control_id)
        load = TableLoad(rows.connection, endpoint, records.spec)
        bookmark = read_bookmark(load) if endpoint.export else None
        if not endpoint.can_look_up:
            return TableState(bookmark=bookmark)
        # A reading of everything lacks no record, unless it was read in variants: one that moves
        # from a variant that is not read yet to one that has been is in neither.
        complete = records.spec.mode is MergeMode.REPLACE_ALL and not endpoint.variants
        missing = () if complete else _find_missing(load, rows.name)
        if control_id is None:
            control_id = _find_other_id(load, missing)
    return TableState(bookmark=bookmark, missing=missing, control_id=control_id)


def _find_missing(load: TableLoad, rows: str) -> tuple[int, ...]:
    found = load.connection.execute(
        f"SELECT id FROM {load.table} t "
        f"WHERE t._tenant_id = ? AND t._deleted_at IS NULL AND {load.scope} "
        f"AND NOT EXISTS (SELECT 1 FROM {rows} s WHERE s.id = t.id) ORDER BY 1",
        [load.spec.tenant_id],
    ).fetchall()
    return tuple(row[0] for row in found if row[0] is not None)


def _find_other_id(load: TableLoad, missing: tuple[int, ...]) -> int | None:
    return load.connection.execute(
        f"SELECT max(id) FROM {load.table} WHERE _tenant_id = ? AND _deleted_at IS NULL "
        "AND id NOT IN (SELECT unnest(?::BIGINT[]))",
        [load.spec.tenant_id, list(missing)],
    ).fetchall()[0][0]
