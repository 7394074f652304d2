"""Refuses a reading most of whose records lack their key, as from a response that is malformed.

A record without key cannot be compared with the row that it is a version of, so it would be
inserted beside it. Single records without key are loaded (`merge_keyless`).
"""

from __future__ import annotations

from st_pipelines.warehouse.columns import fetch_row
from st_pipelines.warehouse.errors import KeysMissing
from st_pipelines.warehouse.load_spec import MAX_DELETED_ROWS, MergeMode
from st_pipelines.warehouse.tables.table_load import TableLoad, lacks_key


def refuse_missing_keys(load: TableLoad, rows: str) -> None:
    """Checks what was read, before it is merged; a first load is believed.

    A window may have up to `MAX_DELETED_ROWS` records without key, even if it has no others. A
    reading of everything may not, as it has the records whose rows have keys.

    Args:
        load: of an endpoint with a key.
        rows: the table of what was read.

    Raises:
        KeysMissing: at least half of the records lack their key, and fewer than half of the rows.
    """
    read, lacking = fetch_row(
        load.connection,
        f"SELECT count(*), count(*) FILTER ({lacks_key(load.endpoint)}) FROM {rows}",
    )
    is_small = lacking <= MAX_DELETED_ROWS and load.spec.mode is not MergeMode.REPLACE_ALL
    if not lacking or is_small or lacking * 2 < read:
        return
    live, unkeyed = fetch_row(
        load.connection,
        f"SELECT count(*), count(*) FILTER ({lacks_key(load.endpoint, 't')}) FROM {load.table} t "
        "WHERE t._tenant_id = ? AND t._deleted_at IS NULL",
        [load.spec.tenant_id],
    )
    if unkeyed * 2 < live:
        key = ", ".join(load.endpoint.key)
        raise KeysMissing(load.endpoint.table, key, lacking=lacking, read=read)
