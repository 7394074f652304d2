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

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import duckdb

from st_pipelines.catalog.model import Catalog, Endpoint, Field, StructOf, snake_case
from st_pipelines.warehouse import books
from st_pipelines.warehouse.columns import literal, quote
from st_pipelines.warehouse.connect import Warehouse, explained
from st_pipelines.warehouse.merge import Counts, Whose, merge_keyed, merge_keyless, table_cursor
from st_pipelines.warehouse.schema import ensure_table, qualified
from st_pipelines.warehouse.staging import MalformedRecords, Staging
from st_pipelines.warehouse.typed import Load, Refused, TypedRows


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """What a load did.

    Attributes:
        counts: rows by outcome.
        rows_by_date: rows of this load by `_partition_date`.
        table_rows_by_date: rows that the table now holds, for those days.
        table_rows: rows that the table now holds for the tenant, deleted ones left out.
        added_columns: columns that the table did not have before.
        preview: some rows as dicts of scalar columns.
    """

    counts: Counts
    rows_by_date: dict[date, int] = field(default_factory=dict)
    table_rows_by_date: dict[date, int] = field(default_factory=dict)
    table_rows: int = 0
    added_columns: tuple[str, ...] = ()
    preview: tuple[dict[str, Any], ...] = ()


def load(
    staging: Staging,
    typed: TypedRows,
    warehouse: Warehouse,
    load: Load,
    *,
    catalog: Catalog,
    entry: dict[str, Any],
) -> Loaded:
    """Loads staged records.

    Args:
        staging: the records of a complete reading.
        typed: the same as typed rows, or on the way to it.
        warehouse: where to.
        load: what of.
        catalog: for `_st.endpoints`.
        entry: requests, bytes and seconds of the reading, for the books.

    Raises:
        WarehouseError: it could not be written; then nothing was.
        MalformedRecords: a staged record is beyond mending.
    """
    connection = typed.connection
    with _understood(staging):
        finish_typing(typed, staging)
        if staging.endpoint.key:
            _drop_older_versions(connection, staging.endpoint)
        with warehouse.attached(connection):
            connection.execute("BEGIN")
            loaded = _merge(connection, staging.endpoint, load)
            books.ensure_books(connection, catalog)
            books.write_entry(connection, _entry(staging, load, loaded.counts, entry))
            connection.execute("COMMIT")
    return loaded


@contextmanager
def _understood(staging: Staging) -> Iterator[None]:
    try:
        yield
    except duckdb.Error as error:
        raise explained(error, staging.folder) from error
    except RuntimeError as error:
        if str(error) != "Query interrupted":
            raise
        # DuckDB puts this in the place of what a signal's handler raised: no failure, an interrupt
        cause = error.__cause__
        raise (KeyboardInterrupt() if cause is None else cause) from None


def finish_typing(typed: TypedRows, staging: Staging) -> None:
    """All pages typed; the careful way where DuckDB refuses one that passed the check.

    Raises:
        MalformedRecords: a staged record is beyond mending.
    """
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
    if typed.rows != staging.rows:
        raise MalformedRecords(
            f"{staging.endpoint.table}: {staging.rows} records were staged, {typed.rows} typed"
        )


def _drop_older_versions(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint) -> None:
    """Keeps the latest of several records with one key."""
    keys = ", ".join(quote(snake_case(k)) for k in endpoint.key)
    missing = " OR ".join(f"{quote(snake_case(k))} IS NULL" for k in endpoint.key)
    rows, distinct = connection.execute(
        f"SELECT count(*), count(DISTINCT ({keys})) FROM staged WHERE NOT ({missing})"
    ).fetchall()[0]
    if rows == distinct:
        return
    order = f"{table_cursor(endpoint)} DESC NULLS LAST, rowid DESC"
    connection.execute(
        "DELETE FROM staged WHERE rowid IN (SELECT rowid FROM staged "
        f"WHERE NOT ({missing}) "
        f"QUALIFY row_number() OVER (PARTITION BY {keys} ORDER BY {order}) > 1)"
    )


def _merge(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, load: Load) -> Loaded:
    added = ensure_table(connection, endpoint)
    table = qualified(endpoint)
    whose = Whose(tenant_id=load.tenant_id, loaded_at=load.loaded_at)
    if endpoint.key:
        counts = merge_keyed(connection, endpoint, whose, replaces=load.replaces)
    else:
        scope = _scope(endpoint, load) if load.replaces else None
        counts = merge_keyless(connection, endpoint, whose, scope=scope)
    return Loaded(
        counts=counts,
        rows_by_date=_by_date(connection, "staged", load),
        table_rows_by_date=_by_date(connection, table, load, only_staged=True),
        table_rows=_count(connection, table, load),
        added_columns=tuple(added),
        preview=_preview(connection, endpoint),
    )


def _scope(endpoint: Endpoint, load: Load) -> str:
    """Which of the table's rows the reading was of, as a condition on `t`."""
    if endpoint.kind == "snapshot":
        return "true"
    if endpoint.by_day or not endpoint.cursor:
        return f"t._partition_date = DATE {literal(load.default_date.isoformat())}"
    cursor = table_cursor(endpoint, "t")
    bounds = [f"{cursor} < TIMESTAMPTZ {literal(str(load.window_end))}"]
    if load.window_start is not None:
        bounds.append(f"{cursor} >= TIMESTAMPTZ {literal(str(load.window_start))}")
    return " AND ".join(bounds)


def _by_date(
    connection: duckdb.DuckDBPyConnection, table: str, load: Load, *, only_staged: bool = False
) -> dict[date, int]:
    days = "AND _partition_date IN (SELECT DISTINCT _partition_date FROM staged)"
    rows = connection.execute(
        f"SELECT _partition_date, count(*) FROM {table} "
        f"WHERE _tenant_id = ? AND _deleted_at IS NULL {days if only_staged else ''} GROUP BY 1",
        [load.tenant_id],
    ).fetchall()
    return dict(rows)


def _count(connection: duckdb.DuckDBPyConnection, table: str, load: Load) -> int:
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
    staging: Staging, load: Load, counts: Counts, reading: dict[str, Any]
) -> books.LoadEntry:
    return books.LoadEntry(
        environment=load.environment,
        api=staging.endpoint.api,
        endpoint=staging.endpoint.name,
        tenant_id=load.tenant_id,
        window_start=load.window_start,
        window_end=load.window_end,
        rows_read=staging.rows,
        rows_inserted=counts.inserted,
        rows_updated=counts.updated,
        rows_unchanged=counts.unchanged,
        rows_deleted=counts.deleted,
        run_id=load.run_id,
        loaded_at=load.loaded_at,
        **reading,
    )
