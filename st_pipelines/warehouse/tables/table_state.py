"""Reads what a load needs from the warehouse, and writes nothing to it.

- `begin_read`, before the read's first request: its sequence number, the coverage so far, and the
  warehouse's identity.
- `read_table_state`, after the reading: the rows in scope that the reading lacks, and the export
  bookmark. It also notes which rows need the export feed (`export_gaps`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from st_pipelines.catalog.model import Endpoint
from st_pipelines.warehouse.columns import fetch_row
from st_pipelines.warehouse.load_spec import LoadSpec, MergeMode
from st_pipelines.warehouse.store.base import Store
from st_pipelines.warehouse.tables.coverage import read_coverage
from st_pipelines.warehouse.tables.deletion_guard import part_of
from st_pipelines.warehouse.tables.export_gaps import note_rows_to_complete
from st_pipelines.warehouse.tables.identity import (
    WarehouseIdentity,
    read_identity,
    refuse_timezone,
)
from st_pipelines.warehouse.tables.load_log import (
    ExportBookmark,
    read_bookmark,
    read_last_sequence,
    read_load_name,
)
from st_pipelines.warehouse.tables.schema import has_table
from st_pipelines.warehouse.tables.staged_records import StagedRecords
from st_pipelines.warehouse.tables.table_load import TableLoad, export_only_columns, table_cursor
from st_pipelines.windows import Coverage

_NEIGHBORS = 24
_BETWEEN = 2
"""Together they fit into one lookup of 50 ids."""

_LARGEST = 2**63 - 1


@dataclass(frozen=True, kw_only=True)
class ReadStart:
    """What a read has to know before it starts.

    Attributes:
        sequence, follows: for `LoadSpec`.
        coverage: what earlier loads of the table have read, where a window may extend to it.
        identity: of the warehouse; None before the tenant's first load.
    """

    sequence: int
    follows: str | None = None
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
        follows = read_load_name(connection, endpoint, spec, last, schema="_st")
        by_window = [endpoint] if endpoint.partitioned and not endpoint.by_day else []
        coverage = read_coverage(connection, by_window, **owner, now=spec.loaded_at)
    return ReadStart(
        sequence=last + 1,
        follows=follows,
        coverage=coverage.get(endpoint.table, Coverage()),
        identity=identity,
    )


@dataclass(frozen=True, kw_only=True)
class MissingRows:
    """Rows of one part of a table (`deletion_guard.part_of`) that a reading lacks.

    Attributes:
        part: None for rows that belong to no part.
        ids: of the rows, in order.
        served: ids of the same part that the table and the reading have; not all of them, but
            always the lowest and the highest.
        elsewhere: ids of the same part that the table has outside of what was read, near `ids`;
            read only where `served` lacks a side. ServiceTitan may have deleted them too.
    """

    part: str | None
    ids: tuple[int, ...] = ()
    served: tuple[int, ...] = ()
    elsewhere: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class TableState:
    """What the warehouse holds of an endpoint.

    Attributes:
        bookmark: how far its export feed was read.
        live: rows in the scope that are not marked as deleted; 0 where there is nothing to look up.
        missing: rows in the scope that the reading did not contain, part by part; empty where
            there is nothing to look up.
        versions: by id, the cursors of the missing rows, aware; only where the export serves
            columns that the list lacks.
    """

    bookmark: ExportBookmark | None = None
    live: int = 0
    missing: tuple[MissingRows, ...] = ()
    versions: Mapping[int, datetime | None] = field(default_factory=dict)


def read_table_state(records: StagedRecords, warehouse: Store) -> TableState:
    """Compares the rows of a reading with the table.

    Args:
        records: the reading, finished.
        warehouse: may not exist yet.

    Raises:
        WarehouseError: it cannot be read.
    """
    endpoint, rows = records.endpoint, records.rows
    if not warehouse.exists:
        return TableState()
    with warehouse.attach(rows.connection, f"a look at {endpoint.table}"):
        if not has_table(rows.connection, endpoint.api, endpoint.name):
            return TableState()
        load = TableLoad(rows.connection, endpoint, records.spec)
        bookmark = read_bookmark(load) if endpoint.export else None
        if bookmark and export_only_columns(endpoint):
            note_rows_to_complete(load, rows.name)
        if not endpoint.can_look_up:
            return TableState(bookmark=bookmark)
        live = fetch_row(
            rows.connection,
            f"SELECT count(*) FROM {load.table} t "
            f"WHERE t._tenant_id = ? AND t._deleted_at IS NULL AND {load.scope}",
            [records.spec.tenant_id],
        )[0]
        missing = _find_missing(load, rows.name)
        versions = _read_versions(load, missing) if export_only_columns(endpoint) else {}
        return TableState(bookmark=bookmark, live=live, missing=missing, versions=versions)


def _read_versions(load: TableLoad, missing: Sequence[MissingRows]) -> dict[int, datetime | None]:
    ids = [id_ for part in missing for id_ in part.ids]
    if not ids:
        return {}
    found = load.connection.execute(
        f"SELECT t.id, {table_cursor(load.endpoint, 't')} FROM {load.table} t "
        "WHERE t._tenant_id = ? AND t.id IN (SELECT unnest(?::BIGINT[]))",
        [load.spec.tenant_id, ids],
    ).fetchall()
    return dict(found)


def _find_missing(load: TableLoad, rows: str) -> tuple[MissingRows, ...]:
    """The rows in scope that `rows` lacks, by part, with ids to compare their lookup with."""
    part = part_of(load.endpoint, "t") or "NULL"
    found = load.connection.execute(
        f"SELECT {part}, list(t.id ORDER BY t.id) FROM {load.table} t "
        f"WHERE t._tenant_id = ? AND t._deleted_at IS NULL AND {load.scope} AND t.id IS NOT NULL "
        f"AND NOT EXISTS (SELECT 1 FROM {rows} s WHERE s.id = t.id) GROUP BY 1",
        [load.spec.tenant_id],
    ).fetchall()
    missing = {part: tuple(ids) for part, ids in found}
    whole = load.spec.mode is MergeMode.REPLACE_ALL
    may_be_inactive = load.endpoint.export and load.endpoint.has_active and not whole
    if not missing and not may_be_inactive:
        return ()
    served = _find_served(load, rows)
    return tuple(
        MissingRows(
            part=part,
            ids=missing.get(part, ()),
            served=served.get(part, ()),
            elsewhere=_find_elsewhere(
                load, rows, part, missing.get(part, ()), served.get(part, ())
            ),
        )
        for part in {**missing, **served}
    )


def _find_served(load: TableLoad, rows: str) -> dict[str | None, tuple[int, ...]]:
    """Some ids of each part that both the table and `rows` have, the first and the last too."""
    part = part_of(load.endpoint, "s") or "NULL::VARCHAR"
    found = load.connection.execute(
        "SELECT part, list(id ORDER BY id) FROM (SELECT part, id, "
        "row_number() OVER (PARTITION BY part ORDER BY id) AS nth, "
        f"count(*) OVER (PARTITION BY part) AS rows FROM (SELECT s.id, {part} AS part "
        f"FROM {rows} s SEMI JOIN {load.table} t ON t.id = s.id AND t._tenant_id = ?)) "
        "WHERE nth IN (1, rows) OR nth % greatest(rows // 1000, 1) = 0 GROUP BY 1",
        [load.spec.tenant_id],
    ).fetchall()
    return {part: tuple(ids) for part, ids in found}


def _find_elsewhere(
    load: TableLoad,
    rows: str,
    part: str | None,
    missing: Sequence[int],
    served: Sequence[int],
) -> tuple[int, ...]:
    surrounded = missing and served and served[0] < missing[0] and served[-1] > missing[-1]
    if surrounded or (not missing and len(served) > _NEIGHBORS):
        return ()
    near = (
        f"SELECT t.id FROM {load.table} t WHERE t._tenant_id = $tenant AND t._deleted_at IS NULL "
        f"AND {part_of(load.endpoint, 't') or 'NULL::VARCHAR'} IS NOT DISTINCT FROM $part "
        "AND t.id NOT IN (SELECT unnest($missing::BIGINT[])) "
        f"AND NOT EXISTS (SELECT 1 FROM {rows} s WHERE s.id = t.id)"
    )
    found = load.connection.execute(
        f"({near} AND t.id < $first ORDER BY 1 DESC LIMIT {_NEIGHBORS}) UNION "
        f"({near} AND t.id BETWEEN $first AND $last ORDER BY 1 LIMIT {_BETWEEN}) UNION "
        f"({near} AND t.id > $last ORDER BY 1 LIMIT {_NEIGHBORS})",
        {
            "tenant": load.spec.tenant_id,
            "part": part,
            "missing": list(missing),
            "first": missing[0] if missing else _LARGEST,
            "last": missing[-1] if missing else -_LARGEST,
        },
    ).fetchall()
    return tuple(sorted(row[0] for row in found))
