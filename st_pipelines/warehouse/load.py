"""One load: staged files into a table, with its line in the books, in one short transaction.

The work that takes time (reading JSON, building typed columns) happens in an in-memory database.
Then the warehouse is attached, the rows are merged by key, and it is detached again. A load can
be repeated, in any order with others: the table ends the same.

- Of several records with one key the latest counts, by cursor and then by order of arrival.
- An older version never replaces a newer one; an equal row is left alone.
- Records without a key are compared as a whole, and counted: three equal ones stay three.
- With `replaces`, rows of the scope that were not read are marked with `_deleted_at`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

import duckdb

from st_pipelines.catalog.model import Catalog, Endpoint, Field, StructOf, snake_case
from st_pipelines.warehouse import books
from st_pipelines.warehouse.columns import (
    EXTRA,
    literal,
    quote,
    select_expression,
    staged_type,
)
from st_pipelines.warehouse.connect import Warehouse, explained
from st_pipelines.warehouse.merge import Counts, Whose, merge_keyed, merge_keyless, table_cursor
from st_pipelines.warehouse.schema import ensure_table, qualified
from st_pipelines.warehouse.staging import MalformedRecords, Staging

_SMALLEST_OBJECT_SIZE = 16 * 1024 * 1024  # DuckDB's own default for the largest record


@dataclass(frozen=True, kw_only=True)
class Load:
    """What a load is of.

    Attributes:
        environment: e.g. `production`.
        tenant_id: the tenant whose rows these are.
        window_start, window_end: UTC, half-open; None where open, both None for a snapshot.
        timezone: IANA name by which a cursor becomes a local day.
        default_date: the day of a row without cursor: the last of the window, or the load's.
        loaded_at: moment of the load, aware.
        run_id: Dagster's run, or any name of the caller's.
        replaces: the reading was complete for its scope, so what it lacks is gone.
    """

    environment: str
    tenant_id: str
    window_start: datetime | None
    window_end: datetime | None
    timezone: str
    default_date: date
    loaded_at: datetime
    run_id: str
    replaces: bool = False


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
    warehouse: Warehouse,
    load: Load,
    *,
    catalog: Catalog,
    entry: dict[str, Any],
) -> Loaded:
    """Loads staged records.

    Args:
        staging: the records of a complete reading.
        warehouse: where to.
        load: what of.
        catalog: for `_st.endpoints`.
        entry: requests, bytes and seconds of the reading, for the books.

    Raises:
        WarehouseError: it could not be written; then nothing was.
        MalformedRecords: a staged record is beyond mending.
    """
    with _workspace(staging) as connection:
        _stage(connection, staging, load)
        with warehouse.attached(connection):
            connection.execute("BEGIN")
            loaded = _merge(connection, staging.endpoint, load)
            books.ensure_books(connection, catalog)
            books.write_entry(connection, _entry(staging, load, loaded.counts, entry))
            connection.execute("COMMIT")
    return loaded


@contextmanager
def _workspace(staging: Staging) -> Iterator[duckdb.DuckDBPyConnection]:
    connection = duckdb.connect()
    try:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(f"SET temp_directory = {literal(str(staging.folder))}")
        yield connection
    except duckdb.Error as error:
        raise explained(error, staging.folder) from error
    except RuntimeError as error:
        if str(error) != "Query interrupted":
            raise
        # DuckDB puts this in the place of what a signal's handler raised: no failure, an interrupt
        cause = error.__cause__
        raise (KeyboardInterrupt() if cause is None else cause) from None
    finally:
        connection.close()


def _stage(connection: duckdb.DuckDBPyConnection, staging: Staging, load: Load) -> None:
    """The records as typed rows, in the temporary table `staged`."""
    try:
        connection.execute(_stage_sql(staging, load), _own_values(load, staging.endpoint))
    except (duckdb.ConversionException, duckdb.InvalidInputException):
        staging.fit_all()
        try:
            connection.execute(_stage_sql(staging, load), _own_values(load, staging.endpoint))
        except (duckdb.ConversionException, duckdb.InvalidInputException) as error:
            raise MalformedRecords(f"{staging.endpoint.table}: {error}") from None
    if staging.endpoint.key:
        _drop_older_versions(connection, staging.endpoint)


def _own_values(load: Load, endpoint: Endpoint) -> dict[str, Any]:
    values = {
        "tenant": load.tenant_id,
        "default_date": load.default_date,
        "loaded_at": load.loaded_at,
        "run": load.run_id,
    }
    return {**values, "timezone": load.timezone} if endpoint.cursor else values


def _stage_sql(staging: Staging, load: Load) -> str:
    endpoint = staging.endpoint
    selected = [f"{select_expression(f)} AS {quote(f.column)}" for f in endpoint.row_fields]
    own = [
        "$tenant::VARCHAR AS _tenant_id",
        f"{_partition_date(endpoint)} AS _partition_date",
        "$loaded_at::TIMESTAMPTZ AS _loaded_at",
        "$run::VARCHAR AS _run_id",
        "NULL::TIMESTAMPTZ AS _deleted_at",
        f"{EXTRA}::JSON AS {EXTRA}",
    ]
    return (
        f"CREATE OR REPLACE TEMP TABLE staged AS SELECT {', '.join(selected + own)} "
        f"FROM {_source(staging)}"
    )


def _source(staging: Staging) -> str:
    fields = [*((f.name, staged_type(f.type)) for f in staging.endpoint.row_fields)]
    columns = ", ".join(
        f"{literal(name)}: {literal(t)}" for name, t in [*fields, (EXTRA, "VARCHAR")]
    )
    if not staging.files:
        nulls = ", ".join(f"NULL::{t} AS {quote(n)}" for n, t in [*fields, (EXTRA, "VARCHAR")])
        return f"(SELECT {nulls} WHERE false)"
    files = ", ".join(literal(str(file)) for file in staging.files)
    size = max(_SMALLEST_OBJECT_SIZE, staging.largest_page + 1024)
    return (
        f"read_json([{files}], format = 'array', columns = {{{columns}}}, "
        f"maximum_object_size = {size})"
    )


def _partition_date(endpoint: Endpoint) -> str:
    """The local day of the cursor, as served; the default where there is none."""
    if not endpoint.cursor:
        return "$default_date::DATE"
    cursor = ".".join(quote(part) for part in endpoint.cursor.split("."))
    return f"coalesce(CAST(timezone($timezone, {cursor}) AS DATE), $default_date)"


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
