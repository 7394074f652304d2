"""Defines what this package's functions work on, and SQL conditions on rows.

`TableLoad` is connection, endpoint, `LoadSpec` and the load's number. In the conditions `t` stands
for a row of the table and `s` for a staged row. Nothing here runs a query.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import duckdb

from st_pipelines.catalog.model import Endpoint, snake_case
from st_pipelines.warehouse.columns import literal, quote
from st_pipelines.warehouse.load_spec import LoadSpec, MergeMode
from st_pipelines.warehouse.tables.schema import qualified

PARENTS_READ = "parents_read"
"""Name of the temporary table with the parents whose children were read; `parents` fills it."""


@dataclass(frozen=True)
class TableLoad:
    """Staged rows of an endpoint on their way into its table.

    Attributes:
        connection: an in-memory database that holds `staged`, with the warehouse attached.
        endpoint: whose rows and table these are.
        spec: tenant, window, merge mode and time of the load.
        number: of the load among those of the table and tenant, in the order of their commits.
            Rows that it sees or marks get it as `_read_sequence`.
    """

    connection: duckdb.DuckDBPyConnection
    endpoint: Endpoint
    spec: LoadSpec
    number: int = 0

    @property
    def table(self) -> str:
        """The endpoint's table in the attached warehouse, quoted."""
        return qualified(self.endpoint)

    @property
    def scope(self) -> str:
        """SQL on `t`: the row belongs to what was read. True for a reading of everything."""
        spec = self.spec
        if spec.mode is MergeMode.REPLACE_CHILDREN:
            return f"{parent_key(self.endpoint, 't')} IN (SELECT key FROM {PARENTS_READ})"
        if spec.window_end is None:
            return "true"
        if not self.endpoint.cursor:
            return f"t._partition_date = DATE {literal(spec.default_date.isoformat())}"
        cursor = table_cursor(self.endpoint, "t")
        bounds = [f"{cursor} < TIMESTAMPTZ {literal(str(spec.window_end))}"]
        if spec.window_start is not None:
            bounds.append(f"{cursor} >= TIMESTAMPTZ {literal(str(spec.window_start))}")
        return " AND ".join(bounds)


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Rows of a load by outcome.

    Attributes:
        inserted: were not in the table.
        updated: replaced another version, or came back after they had been marked as deleted.
        unchanged: the table had them already, in the same or a newer version.
        deleted: the table had them and a complete reading did not: marked with `_deleted_at`, or
            replaced in an aggregate by day.
    """

    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    deleted: int = 0

    def __add__(self, other: Counts) -> Counts:
        """Adds outcome by outcome."""
        return Counts(
            inserted=self.inserted + other.inserted,
            updated=self.updated + other.updated,
            unchanged=self.unchanged + other.unchanged,
            deleted=self.deleted + other.deleted,
        )


def read_before(load: TableLoad, alias: str = "t") -> str:
    """SQL: the row was last seen or marked by a load that committed before this read started."""
    return f"coalesce({alias}._read_sequence, 0) < {load.spec.sequence}"


def table_cursor(endpoint: Endpoint, alias: str = "") -> str:
    """The cursor among the table's columns, `"lead_call"."modified_on"`; NULL without one."""
    if not endpoint.cursor:
        return "NULL::TIMESTAMPTZ"
    parts = [quote(snake_case(part)) for part in endpoint.cursor.split(".")]
    return ".".join([alias, *parts] if alias else parts)


def key_columns(endpoint: Endpoint) -> list[str]:
    """The columns of the key, quoted; none where only the whole content identifies a record."""
    return [quote(snake_case(name)) for name in endpoint.key]


def parent_key(endpoint: Endpoint, alias: str) -> str:
    """SQL for the parent of a child's row as one text, see `join_ids`."""
    assert endpoint.parent is not None
    return join_ids(f"{alias}.{quote(snake_case(name))}" for name in endpoint.parent.ids)


def join_ids(ids: Iterable[str]) -> str:
    """SQL for ids as one text: the only one as it is, several as a JSON array.

    Args:
        ids: SQL.
    """
    texts = [f"CAST({id_} AS VARCHAR)" for id_ in ids]
    return texts[0] if len(texts) == 1 else f"to_json([{', '.join(texts)}])::VARCHAR"


def lacks_key(endpoint: Endpoint, alias: str = "") -> str:
    """SQL: a row lacks a part of its key. False where there is no key."""
    prefix = f"{alias}." if alias else ""
    return " OR ".join(f"{prefix}{k} IS NULL" for k in key_columns(endpoint)) or "false"


def same_key(endpoint: Endpoint, one: str, other: str) -> str:
    """SQL: two rows of one tenant are the same record."""
    return " AND ".join(f"{one}.{key} = {other}.{key}" for key in key_columns(endpoint))


def export_only_columns(endpoint: Endpoint) -> frozenset[str]:
    """Columns that the export serves and the list does not."""
    added = endpoint.export.adds if endpoint.export else ()
    return frozenset(snake_case(name) for name in added)
