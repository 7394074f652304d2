"""One load: staged files into a table, with its line in the books, in one short transaction.

The work that takes time (reading JSON, building typed columns) is done before, see `typed`. Here
the warehouse is attached, the rows are merged by key, and it is detached again. A load can be
repeated, in any order with others: the table ends the same.

- Of several records with one key the latest counts, by cursor and then by order of arrival.
- An older version never replaces a newer one; an equal row is left alone.
- Records without a key are compared as a whole, and counted: three equal ones stay three.
- With `replaces`, rows of the scope that were not read are marked with `_deleted_at`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

import duckdb
import msgspec

from st_pipelines.catalog.model import Catalog, Endpoint, Field, StructOf
from st_pipelines.warehouse.columns import count_changes, fetch_row, quote
from st_pipelines.warehouse.errors import MalformedRecords, translate_duckdb_error
from st_pipelines.warehouse.staging.stage import Staging
from st_pipelines.warehouse.staging.typed_rows import LoadSpec, Refused, TypedRows
from st_pipelines.warehouse.store.base import Store
from st_pipelines.warehouse.store.scratch import staging_folder
from st_pipelines.warehouse.tables import load_log as books
from st_pipelines.warehouse.tables.fed import merge_export_rows
from st_pipelines.warehouse.tables.history import record_versions
from st_pipelines.warehouse.tables.load_facts import Facts, count_facts
from st_pipelines.warehouse.tables.load_log import ExportBookmark
from st_pipelines.warehouse.tables.merge import (
    Counts,
    Whose,
    mark_gone,
    mark_missing,
    merge_keyed,
    merge_keyless,
)
from st_pipelines.warehouse.tables.row_scope import key_columns, lacks_key, scope, table_cursor
from st_pipelines.warehouse.tables.schema import ensure_table, qualified
from st_pipelines.warehouse.tables.vanished import MissingField, find_missing_fields


@dataclass(frozen=True, kw_only=True)
class FollowUp:
    """What a load brings besides the records of its reading.

    Attributes:
        fed: the rows of the export feed, where there are any.
        place: how far the feed has been read with them.
        gone: ids that ServiceTitan no longer serves.
    """

    export_rows: Typed | None = None
    bookmark: ExportBookmark | None = None
    gone: frozenset[int] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """What a load did.

    Attributes:
        rows_read: records of the reading, those of the export feed left out.
        counts: rows by outcome.
        rows_by_date: rows of this load by `_partition_date`.
        table_rows_by_date: rows that the table now holds, for those days.
        table_rows: rows that the table now holds for the tenant, deleted ones left out.
        added_columns: columns that the table did not have before.
        preview: some rows as dicts of scalar columns.
        vanished: fields of which the table had values and this load has none.
        facts: what the checks need.
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

    def __add__(self, later: Loaded) -> Loaded:
        """Of two loads one after the other: the state of the table is the later one's."""
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
        )


@dataclass(frozen=True, kw_only=True)
class Typed:
    """Records in both forms: as they were staged, and as rows."""

    staging: Staging
    rows: TypedRows

    def add(self, records: bytes, rows: Sequence[msgspec.Raw] | None = None) -> None:
        """Takes in a page: a JSON array of objects, as served.

        Args:
            records: the array.
            rows: its members, where they have been told apart already.

        Raises:
            MalformedRecords: it is something else.
            WarehouseFull: the disk is full.
        """
        self.rows.add(self.staging.add(records, rows))

    def return_to(self, mark: int) -> None:
        """Forgets all pages since a mark of `staging`: their reading starts over."""
        self.staging.return_to(mark)
        self.rows.clear()
        self.rows.add(self.staging.files)

    def finish(self) -> None:
        """Has all of them typed, and the latest of those with one key kept.

        Raises:
            MalformedRecords: a record is beyond mending.
            WarehouseError: the disk is full.
        """
        with _understood(self.staging):
            _finish_typing(self.rows, self.staging)
            if self.staging.endpoint.key:
                _drop_older_versions(self.rows, self.staging.endpoint)


@contextmanager
def staged(
    warehouse: Store, endpoint: Endpoint, load: LoadSpec, *, name: str | None = None
) -> Iterator[Typed]:
    """A place for records beside the warehouse, which is removed on leaving.

    Args:
        warehouse: what they are for, or compared with.
        endpoint: whose records.
        load: what their rows are marked with.
        name: of the folder, for people who look; the table's if None.

    Raises:
        OSError: it cannot be made.
    """
    with (
        staging_folder(warehouse.scratch_folder, name or endpoint.table) as folder,
        Staging(endpoint, folder) as staging,
        TypedRows(endpoint, load, folder) as rows,
    ):
        yield Typed(staging=staging, rows=rows)


def load(
    listed: Typed,
    warehouse: Store,
    load: LoadSpec,
    *,
    catalog: Catalog,
    entry: dict[str, Any],
    besides: FollowUp | None = None,
) -> Loaded:
    """Loads the records of a complete reading.

    Args:
        listed: the records, finished.
        warehouse: where to.
        load: what of.
        catalog: for `_st.endpoints`.
        entry: requests, bytes and seconds of the reading, for the books.
        besides: of the feed, finished too, and what is gone.

    Raises:
        WarehouseError: it could not be written; then nothing was.
    """
    besides = besides or FollowUp()
    purpose = f"{listed.staging.endpoint.table}, run {load.run_id}"
    connection, endpoint = listed.rows.connection, listed.staging.endpoint
    with _understood(listed.staging), warehouse.attach(connection, purpose):
        books.refuse_other_environments(connection, load.environment)
        connection.execute("BEGIN")
        loaded = _merge(connection, endpoint, load, besides)
        books.ensure_load_log(connection, catalog)
        rows_read = listed.staging.rows + (
            besides.export_rows.staging.rows if besides.export_rows else 0
        )
        loaded = replace(
            loaded,
            rows_read=listed.staging.rows,
            facts=count_facts(connection, endpoint, load),
        )
        entry = {**entry, "table_rows": loaded.table_rows}
        line = _entry(endpoint, rows_read, load, loaded.counts, entry)
        books.write_load_record(connection, line)
        if besides.bookmark:
            books.write_bookmark(
                connection, endpoint, load.environment, load.tenant_id, besides.bookmark
            )
        warehouse.commit(connection)
    return loaded


@contextmanager
def _understood(staging: Staging) -> Iterator[None]:
    try:
        yield
    except duckdb.Error as error:
        raise translate_duckdb_error(error, staging.folder) from error
    except RuntimeError as error:
        if str(error) != "Query interrupted":
            raise
        # DuckDB puts this in the place of what a signal's handler raised: no failure, an interrupt
        cause = error.__cause__
        raise (KeyboardInterrupt() if cause is None else cause) from None


def _finish_typing(typed: TypedRows, staging: Staging) -> None:
    """All pages typed; the careful way where DuckDB refuses one that passed the check."""
    try:
        typed.finish()
    except Refused:
        typed.clear()
        staging.fit_all()
        typed.add(staging.files)
        try:
            typed.finish()
        except Refused as error:
            raise MalformedRecords(f"{staging.endpoint.table}: {error}") from None
    rows = typed.rows + typed.dropped
    if rows != staging.rows:
        raise MalformedRecords(
            f"{staging.endpoint.table}: {staging.rows} records were staged, {rows} typed"
        )


def _drop_older_versions(typed: TypedRows, endpoint: Endpoint) -> None:
    """Keeps the latest of several records with one key."""
    keys = ", ".join(key_columns(endpoint))
    missing, connection = lacks_key(endpoint), typed.connection
    rows, distinct = fetch_row(
        connection,
        f"SELECT count(*), count(DISTINCT ({keys})) FROM {typed.name} WHERE NOT ({missing})",
    )
    if rows == distinct:
        return
    order = f"{table_cursor(endpoint)} DESC NULLS LAST, rowid DESC"
    typed.dropped += count_changes(
        connection,
        f"DELETE FROM {typed.name} WHERE rowid IN (SELECT rowid FROM {typed.name} "
        f"WHERE NOT ({missing}) "
        f"QUALIFY row_number() OVER (PARTITION BY {keys} ORDER BY {order}) > 1)",
    )


def _merge(
    connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, load: LoadSpec, besides: FollowUp
) -> Loaded:
    added = ensure_table(connection, endpoint)
    vanished = find_missing_fields(connection, endpoint, load)
    table = qualified(endpoint)
    whose = Whose(tenant_id=load.tenant_id, loaded_at=load.loaded_at)
    if endpoint.key:
        counts = merge_keyed(connection, endpoint, whose, replaces=load.replaces)
    else:
        read = scope(endpoint, load) if load.replaces else None
        among = scope(endpoint, load) if endpoint.by_day else "true"  # days may have equal rows
        counts = merge_keyless(connection, endpoint, whose, scope=read, among=among)
    fed = besides.export_rows is not None
    if fed and endpoint.export:
        counts += merge_export_rows(connection, endpoint, endpoint.export, whose)
    if endpoint.key and load.replaces:
        counts += Counts(deleted=mark_missing(connection, endpoint, whose, fed=fed))
    counts += Counts(deleted=mark_gone(connection, endpoint, whose, besides.gone))
    if load.history:
        record_versions(connection, endpoint, load)
    days = "SELECT _partition_date FROM staged"
    if fed:
        days += " UNION SELECT _partition_date FROM fed"
    return Loaded(
        counts=counts,
        rows_by_date=_by_date(connection, "staged", load),
        table_rows_by_date=_by_date(connection, table, load, days=days),
        table_rows=_count(connection, table, load),
        added_columns=tuple(added),
        preview=_preview(connection, endpoint),
        missing_fields=vanished,
    )


def _by_date(
    connection: duckdb.DuckDBPyConnection, table: str, load: LoadSpec, *, days: str | None = None
) -> dict[date, int]:
    only = f"AND _partition_date IN ({days})" if days else ""
    rows = connection.execute(
        f"SELECT _partition_date, count(*) FROM {table} "
        f"WHERE _tenant_id = ? AND _deleted_at IS NULL {only} GROUP BY 1",
        [load.tenant_id],
    ).fetchall()
    return dict(rows)


def _count(connection: duckdb.DuckDBPyConnection, table: str, load: LoadSpec) -> int:
    return connection.execute(
        f"SELECT count(*) FROM {table} WHERE _tenant_id = ? AND _deleted_at IS NULL",
        [load.tenant_id],
    ).fetchall()[0][0]


def _preview(
    connection: duckdb.DuckDBPyConnection, endpoint: Endpoint
) -> tuple[dict[str, Any], ...]:
    plain = [f.column for f in endpoint.row_fields if _is_plain(f)][:8]
    if not plain:
        return ()
    names = ", ".join(quote(name) for name in plain)
    rows = connection.execute(f"SELECT {names} FROM staged LIMIT 5").fetchall()
    return tuple(dict(zip(plain, row, strict=True)) for row in rows)


def _is_plain(field_: Field) -> bool:
    return not isinstance(field_.type, StructOf) and hasattr(field_.type, "name")


def _entry(
    endpoint: Endpoint, rows_read: int, load: LoadSpec, counts: Counts, reading: dict[str, Any]
) -> books.LoadRecord:
    return books.LoadRecord(
        environment=load.environment,
        api=endpoint.api,
        endpoint=endpoint.name,
        tenant_id=load.tenant_id,
        window_start=load.window_start,
        window_end=load.window_end,
        rows_read=rows_read,
        rows_inserted=counts.inserted,
        rows_updated=counts.updated,
        rows_unchanged=counts.unchanged,
        rows_deleted=counts.deleted,
        run_id=load.run_id,
        loaded_at=load.loaded_at,
        **reading,
    )
