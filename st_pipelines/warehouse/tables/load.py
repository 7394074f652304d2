"""Commits a load: merges staged records into their table and logs it, in one short transaction.

JSON is read and columns are typed beforehand, in an in-memory database (`staged_records`). Here the
warehouse is attached, the rows are merged, and it is detached again. A load may be repeated, and
loads may commit in any order: one that contradicts a load committed since its read started raises
`Overtaken`, and `sync.sync` reads again.

In order: note the settings, and move rows to their days in a new time zone (`identity`); forget the
loads of a table that was dropped (`load_log`); create or extend the table (`schema`), and give the
rows its types (`column_types`); find fields without values (`load_facts`); note the live rows
(`deletion_guard`); check that records have their keys (`missing_keys`); check for contradictions
(`overtakers`; for days of an aggregate, in `aggregate_days`; for rows without a key, in
`merge_keyless`); merge the list's rows, then the export feed's, and set `_deleted_at` (`merge`,
`merge_keyless`); check what would be deleted (`deletion_guard`); record versions (`history`); count
for the asset checks (`load_facts`); write `_st.loads` and `_st.feeds` (`load_log`), and the parents
whose children were read (`parents`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

from st_pipelines.catalog.model import Catalog, Scalar
from st_pipelines.warehouse.columns import fetch_row, quote
from st_pipelines.warehouse.load_spec import MergeMode
from st_pipelines.warehouse.reports.table import ensure_report_table
from st_pipelines.warehouse.store.base import Store
from st_pipelines.warehouse.tables import load_log
from st_pipelines.warehouse.tables.aggregate_days import refuse_unfinished_day
from st_pipelines.warehouse.tables.column_types import fit_to_table, forget_fitted
from st_pipelines.warehouse.tables.deletion_guard import Approval, DeletionGuard
from st_pipelines.warehouse.tables.history import record_versions
from st_pipelines.warehouse.tables.identity import ZoneChange, note_settings
from st_pipelines.warehouse.tables.load_facts import (
    Facts,
    MissingField,
    count_facts,
    find_missing_fields,
)
from st_pipelines.warehouse.tables.load_log import ExportBookmark, LoadRecord, ReadCost
from st_pipelines.warehouse.tables.merge import (
    mark_deleted,
    mark_missing,
    merge_export_rows,
    merge_staged,
    note_unchanged,
    refuse_overtaken,
)
from st_pipelines.warehouse.tables.missing_keys import refuse_missing_keys
from st_pipelines.warehouse.tables.parents import ParentRead, note_parents, stage_parents
from st_pipelines.warehouse.tables.schema import ensure_table, has_table
from st_pipelines.warehouse.tables.staged_records import StagedRecords, translated_errors
from st_pipelines.warehouse.tables.table_load import Counts, TableLoad


@dataclass(frozen=True, kw_only=True)
class FollowUp:
    """What a load brings besides the records of its reading.

    Attributes:
        export_rows: records of the export feed, finished; None where there are none.
        bookmark: how far the feed has been read with them.
        deleted_ids: ids that ServiceTitan no longer serves.
        looked_up_ids: ids of records in the reading that were read by id, not from the list.
            They may have changed outside the window.
        sample_gone: a sample of the ids that the reading lacks is no longer served either.
        parents: whose children were read; None where the endpoint has no parent.
    """

    export_rows: StagedRecords | None = None
    bookmark: ExportBookmark | None = None
    deleted_ids: frozenset[int] = frozenset()
    looked_up_ids: frozenset[int] = frozenset()
    sample_gone: bool = False
    parents: Sequence[ParentRead] | None = None


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """What a load did to its table.

    Attributes:
        rows_read: records of the reading, those of the export feed left out.
        counts: rows by outcome.
        rows_by_date: rows of this load by `_partition_date`.
        table_rows_by_date: live rows of the table after the load, for the days of its rows.
        table_rows: live rows of the table after the load, for the tenant.
        added_columns: columns that the table did not have before.
        preview: some rows as dicts of all scalar columns; `defs.privacy` chooses what to show.
        missing_fields: fields of which the table had values and this load has none.
        facts: what the checks need.
        zone_change: what another time zone than before changed in all tables; None for the same.
        identity: of the warehouse, see `_st.warehouse`.
        first_number, number: of the first and the last load among those of the table.
    """

    rows_read: int = 0
    counts: Counts = field(default_factory=Counts)
    rows_by_date: dict[date, int] = field(default_factory=dict)
    table_rows_by_date: dict[date, int] = field(default_factory=dict)
    table_rows: int = 0
    added_columns: tuple[str, ...] = ()
    preview: tuple[dict[str, Any], ...] = ()
    missing_fields: tuple[MissingField, ...] = ()
    facts: Facts = field(default_factory=Facts)
    zone_change: ZoneChange | None = None
    identity: str = ""
    first_number: int = 0
    number: int = 0

    def __add__(self, later: Loaded) -> Loaded:
        """Adds up two consecutive loads; what describes the table is taken from the later one."""
        dates = {*self.rows_by_date, *later.rows_by_date}
        return Loaded(
            rows_read=self.rows_read + later.rows_read,
            counts=self.counts + later.counts,
            rows_by_date={
                day: self.rows_by_date.get(day, 0) + later.rows_by_date.get(day, 0) for day in dates
            },
            table_rows_by_date={**self.table_rows_by_date, **later.table_rows_by_date},
            table_rows=later.table_rows,
            added_columns=self.added_columns + later.added_columns,
            preview=self.preview or later.preview,
            missing_fields=tuple(
                {field.path: field for field in self.missing_fields + later.missing_fields}.values()
            ),
            facts=self.facts + later.facts,
            zone_change=self.zone_change or later.zone_change,
            identity=later.identity,
            first_number=self.first_number,
            number=later.number,
        )


def commit_load(
    records: StagedRecords,
    store: Store,
    *,
    catalog: Catalog,
    cost: ReadCost,
    follow_up: FollowUp | None = None,
    approval: Approval | None = None,
) -> Loaded:
    """Merges staged records and writes their line of the load log in one transaction.

    Args:
        records: a complete reading, finished.
        store: the warehouse to load into.
        catalog: for `_st.endpoints`.
        cost: of the reading, for the load log.
        follow_up: what was found besides the reading.
        approval: what permits to delete much; None for nothing.

    Raises:
        TimeZoneRefused: the time zone is another one than before, and not by a deliberate change.
        TooManyDeletions: it would delete a large part of the table; the warehouse is as it was.
        Overtaken: loads that committed since the read started contradict it; read again.
        KeysMissing: most of its records lack their key.
        DayUnfinished: the table holds more of an aggregate's day already.
        WarehouseError: it could not be written; the warehouse is as it was.
    """
    follow_up = follow_up or FollowUp()
    connection, endpoint, spec = records.rows.connection, records.endpoint, records.spec
    purpose = f"{endpoint.table}, run {spec.run_id}"
    with translated_errors(records.staging), store.attach(connection, purpose):
        load_log.refuse_other_environments(connection, spec.environment)
        if follow_up.parents is not None:
            stage_parents(connection, follow_up.parents)
        connection.execute("BEGIN")
        load_log.ensure_load_log(connection, catalog)
        load_log.refuse_replaced(connection, endpoint, spec)
        identity, zone_change = note_settings(connection, spec, endpoint, catalog)
        last = load_log.read_last_sequence(connection, endpoint, spec)
        if not has_table(connection, endpoint.api, endpoint.name):
            load_log.forget_loads(connection, endpoint, spec.environment)
        load = TableLoad(connection, endpoint, spec, number=max(last + 1, spec.sequence))
        loaded = _merge(load, records.staging.rows, follow_up, approval or Approval())
        loaded = replace(
            loaded,
            zone_change=zone_change,
            identity=identity.identity,
            first_number=load.number,
            number=load.number,
        )
        exported = follow_up.export_rows.staging.rows if follow_up.export_rows else 0
        record = LoadRecord(
            rows_read=loaded.rows_read + exported,
            counts=loaded.counts,
            table_rows=loaded.table_rows,
            cost=cost,
        )
        load_log.write_load_record(load, record)
        if follow_up.parents is not None:
            note_parents(load)
        if follow_up.bookmark:
            load_log.write_bookmark(load, follow_up.bookmark)
        store.commit(load.connection)
        forget_fitted(load.connection)
    return loaded


def _merge(load: TableLoad, rows_read: int, follow_up: FollowUp, approval: Approval) -> Loaded:
    added = ensure_report_table(load) if load.endpoint.report else _ensure_table(load)
    load = replace(load, endpoint=fit_to_table(load.connection, load.endpoint, load.table))
    missing_fields = find_missing_fields(load)
    guard = DeletionGuard(load, follow_up.deleted_ids)
    counts = _merge_rows(load, follow_up)
    guard.check(counts.deleted, rows_read, approval, sample_gone=follow_up.sample_gone)
    if load.spec.history:
        record_versions(load)
    days = "SELECT _partition_date FROM staged"
    if follow_up.export_rows:
        days += " UNION SELECT _partition_date FROM export_rows"
    count = f"SELECT count(*) FROM {load.table} WHERE _tenant_id = ? AND _deleted_at IS NULL"
    return Loaded(
        rows_read=rows_read,
        counts=counts,
        rows_by_date=_count_by_date(load, "staged"),
        table_rows_by_date=_count_by_date(load, load.table, days=days),
        table_rows=fetch_row(load.connection, count, [load.spec.tenant_id])[0],
        added_columns=tuple(added),
        preview=_preview(load),
        missing_fields=missing_fields,
        facts=count_facts(load, follow_up.looked_up_ids),
    )


def _ensure_table(load: TableLoad) -> list[str]:
    return ensure_table(load.connection, load.endpoint)


def _merge_rows(load: TableLoad, follow_up: FollowUp) -> Counts:
    has_export_rows = follow_up.export_rows is not None
    refuse_unfinished_day(load)
    if load.endpoint.has_key:
        for rows in ("staged", "export_rows") if has_export_rows else ("staged",):
            refuse_missing_keys(load, rows)
        refuse_overtaken(load, has_export_rows=has_export_rows, deleted_ids=follow_up.deleted_ids)
    counts = merge_staged(load)
    if has_export_rows and load.endpoint.export:
        counts += merge_export_rows(load, load.endpoint.export)
    if load.endpoint.has_key:
        note_unchanged(load, has_export_rows=has_export_rows)
    complete = load.spec.mode in (MergeMode.REPLACE_ALL, MergeMode.REPLACE_CHILDREN)
    if load.endpoint.has_key and complete:
        counts += Counts(deleted=mark_missing(load, has_export_rows=has_export_rows))
    return counts + Counts(deleted=mark_deleted(load, follow_up.deleted_ids))


def _count_by_date(load: TableLoad, table: str, *, days: str | None = None) -> dict[date, int]:
    only = f"AND _partition_date IN ({days})" if days else ""
    rows = load.connection.execute(
        f"SELECT _partition_date, count(*) FROM {table} "
        f"WHERE _tenant_id = ? AND _deleted_at IS NULL {only} GROUP BY 1",
        [load.spec.tenant_id],
    ).fetchall()
    return dict(rows)


def _preview(load: TableLoad) -> tuple[dict[str, Any], ...]:
    plain = [f.column for f in load.endpoint.row_fields if isinstance(f.type, Scalar)]
    if not plain:
        return ()
    names = ", ".join(quote(name) for name in plain)
    rows = load.connection.execute(f"SELECT {names} FROM staged LIMIT 5").fetchall()
    return tuple(dict(zip(plain, row, strict=True)) for row in rows)
