"""Merges rows that can only be identified by their whole content.

These are the rows of endpoints without a key, and rows that lack part of theirs. If the reading
contains a row three times, the table holds it three times, however often it is loaded. Rows within
the scope of a complete reading that it no longer contains are marked with `_deleted_at`. Those of
an aggregate by day are deleted instead, because the day was computed again. If that contradicts a
load that committed since the read started, `Overtaken` is raised.
"""

from __future__ import annotations

from st_pipelines.catalog.model import Endpoint
from st_pipelines.warehouse.columns import (
    EXTRA,
    count_changes,
    fetch_row,
    literal,
    quote,
    table_type,
)
from st_pipelines.warehouse.errors import Overtaken
from st_pipelines.warehouse.load_spec import MergeMode
from st_pipelines.warehouse.tables.load_log import select_loads_within
from st_pipelines.warehouse.tables.overtakers import find_covered
from st_pipelines.warehouse.tables.table_load import Counts, TableLoad, lacks_key, table_cursor


def has_rows_without_key(load: TableLoad) -> bool:
    """Whether the table has live rows that lack a part of their key; false without a key."""
    found = load.connection.execute(
        f"SELECT 1 FROM {load.table} t WHERE t._tenant_id = ? AND t._deleted_at IS NULL "
        f"AND ({lacks_key(load.endpoint, 't')}) LIMIT 1",
        [load.spec.tenant_id],
    )
    return found.fetchone() is not None


def merge_keyless_table(load: TableLoad) -> Counts:
    """Merges `staged` into the table of an endpoint without key."""
    match load.spec.mode:
        case MergeMode.UPSERT:
            return merge_keyless(load)
        case MergeMode.REPLACE_DAY:
            return _replace_day(load)
    return merge_keyless(load, replaced=find_complete(load))


def find_complete(load: TableLoad) -> str:
    """SQL on a row `t` without key: the reading has it, if it still exists unchanged.

    That holds for the rows of the load's scope. A row without usable change time belongs to the
    window of the load that saw it last, so a window that contains that one must show it again. If
    that load is unknown, the window must be open at its start and end after the row was loaded.
    """
    endpoint, spec = load.endpoint, load.spec
    of_parents = spec.mode is MergeMode.REPLACE_CHILDREN
    if not endpoint.cursor or spec.window_end is None or of_parents:
        return load.scope
    seen = f"t._read_sequence = {load.number} OR t._read_sequence IN ({select_loads_within(load)})"
    if spec.window_start is None:
        end = f"TIMESTAMPTZ {literal(str(spec.window_end))}"
        seen += f" OR (t._read_sequence IS NULL AND t._loaded_at <= {end})"
    keyless = lacks_key(endpoint, "t") if endpoint.has_key else "true"
    undated = f"{table_cursor(endpoint, 't')} IS NULL AND ({keyless})"
    return f"(coalesce({load.scope}, false) OR ({undated} AND coalesce({seen}, false)))"


def _replace_day(load: TableLoad) -> Counts:
    """Replaces the rows of `LoadSpec.default_date`."""
    staged = fetch_row(load.connection, "SELECT count(*) FROM staged")[0]
    counts = _match_and_insert(load, staged, replaced=load.scope, among=load.scope)
    deleted = count_changes(load.connection, f"DELETE FROM {load.table} WHERE {_UNMATCHED}")
    return counts + Counts(deleted=deleted)


def merge_keyless(
    load: TableLoad,
    *,
    replaced: str = "false",
    among: str = "true",
    source: str = "true",
) -> Counts:
    """Merges rows by their whole content; the n-th of equal rows matches the n-th.

    Args:
        load: what is loaded.
        replaced: condition on `t`: the reading is complete for these rows, so those it lacks are
            marked as deleted.
        among: condition on `t` for the rows that may match at all.
        source: condition on the rows to merge.
    """
    staged = fetch_row(load.connection, f"SELECT count(*) FROM staged WHERE {source}")[0]
    counts = _match_and_insert(load, staged, replaced=replaced, among=among, source=source)
    mark = (
        f"UPDATE {load.table} SET _deleted_at = ?, _read_sequence = {load.number} "
        f"WHERE {_UNMATCHED}"
    )
    return counts + Counts(deleted=count_changes(load.connection, mark, [load.spec.loaded_at]))


_MATCHED = "SELECT p.row FROM present p JOIN arrived a USING (content, nth)"
_UNMATCHED = (
    f"rowid IN (SELECT row FROM present WHERE replaced AND NOT gone) AND rowid NOT IN ({_MATCHED})"
)
"""Rows that a complete reading lacks."""


def _match_and_insert(
    load: TableLoad,
    staged: int,
    *,
    replaced: str,
    among: str,
    source: str = "true",
) -> Counts:
    """Fills `present` and `arrived`, unmarks rows that came back, and inserts new ones."""
    connection, spec, endpoint = load.connection, load.spec, load.endpoint
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE present AS SELECT t.rowid AS row, "
        f"{content_digest(endpoint, 't')} AS content, "
        "row_number() OVER (PARTITION BY content ORDER BY _deleted_at NULLS FIRST, t.rowid) "
        "AS nth, "
        f"_deleted_at IS NOT NULL AS gone, coalesce({replaced}, false) AS replaced, "
        f"{find_covered(load, 't')} AS covered FROM {load.table} t "
        f"WHERE _tenant_id = ? AND ({among})",
        [spec.tenant_id],
    )
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE arrived AS SELECT rowid AS row, "
        f"{content_digest(endpoint, 's')} AS content, "
        f"row_number() OVER (PARTITION BY content ORDER BY rowid) AS nth, "
        f"{find_covered(load, 's')} AS covered FROM staged s WHERE {source}"
    )
    _refuse_contradictions(load)
    revived = count_changes(
        connection,
        f"UPDATE {load.table} SET _deleted_at = NULL WHERE rowid IN ({_MATCHED} WHERE p.gone)",
    )
    connection.execute(
        f"UPDATE {load.table} SET _read_sequence = {load.number} WHERE rowid IN ({_MATCHED})"
    )
    inserted = count_changes(
        connection,
        f"INSERT INTO {load.table} BY NAME "
        f"SELECT s.* REPLACE ({load.number}::BIGINT AS _read_sequence) FROM staged s "
        "JOIN arrived a ON a.row = s.rowid "
        "ANTI JOIN present p ON p.content = a.content AND p.nth = a.nth",
    )
    return Counts(inserted=inserted, updated=revived, unchanged=staged - inserted - revived)


def _refuse_contradictions(load: TableLoad) -> None:
    """Checks that nothing changes where a load has committed since this read started.

    Raises:
        Overtaken: something would.
    """
    changes = fetch_row(
        load.connection,
        "SELECT (SELECT count(*) FROM arrived a LEFT JOIN present p USING (content, nth) "
        "WHERE (a.covered OR p.covered) AND (p.row IS NULL OR p.gone)) + "
        "(SELECT count(*) FROM present p ANTI JOIN arrived a USING (content, nth) "
        "WHERE p.covered AND p.replaced AND NOT p.gone)",
    )[0]
    if changes:
        raise Overtaken(load.endpoint.table, changes)


def content_digest(endpoint: Endpoint, alias: str) -> str:
    """SQL for a digest of a row: equal rows have one, also after the table has grown."""
    columns = [
        f"CAST({alias}.{quote(f.column)} AS {table_type(f.type)})" for f in endpoint.row_fields
    ]
    return f"md5(to_json(row({', '.join([*columns, f'{alias}.{EXTRA}'])}))::VARCHAR)"
