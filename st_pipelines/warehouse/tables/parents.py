"""Keeps in the warehouse for which parents a child list was read, and finds those that are due.

`_st.child_reads` has a row per child table and parent: the parent's version at that moment, and
whether ServiceTitan knew the parent. It is written in the transaction of the children, so that a
load that is killed goes on with the next parent. No clock decides anything here. If somebody drops
the child table, all parents are due again.

A parent is due if it is live and its version is another one than when its children were read. The
version is

- the parent's time of change (its cursor), or
- the number of the load that last saw the row, where the parent's table has no cursor: a snapshot
  sees every row, and a child list those of the parents that it read; or
- the number of the last load of the parent's table, where its time of change says nothing about
  its children (`Parent.every_load`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import duckdb

from st_pipelines.catalog.model import Endpoint, snake_case
from st_pipelines.warehouse.columns import fetch_row, literal, quote
from st_pipelines.warehouse.errors import ParentNotLoaded
from st_pipelines.warehouse.load_spec import LoadSpec
from st_pipelines.warehouse.store.base import ALIAS, Store
from st_pipelines.warehouse.tables.load_log import CHILD_READS, read_last_sequence
from st_pipelines.warehouse.tables.schema import has_own_table, is_in_warehouse
from st_pipelines.warehouse.tables.table_load import (
    PARENTS_READ,
    TableLoad,
    join_ids,
    parent_key,
    table_cursor,
)

_COLUMNS = {
    "environment": "VARCHAR",
    "api": "VARCHAR",
    "endpoint": "VARCHAR",
    "tenant_id": "VARCHAR",
    "parent_key": "VARCHAR",
    "version": "VARCHAR",
    "found": "BOOLEAN",
    "read_at": "TIMESTAMPTZ",
    "sequence": "BIGINT",
}
_SAME_TABLE = "environment = ? AND api = ? AND endpoint = ? AND tenant_id = ?"


_READS = f"SELECT parent_key, version, found, sequence FROM _st.{CHILD_READS} WHERE {_SAME_TABLE}"
_NO_READS = (
    "SELECT NULL::VARCHAR AS parent_key, NULL::VARCHAR AS version, NULL::BOOLEAN AS found, "
    "NULL::BIGINT AS sequence WHERE false"
)


@dataclass(frozen=True, kw_only=True)
class ParentRow:
    """A parent whose children are to be read.

    Attributes:
        key: its ids as one text.
        ids: each as text, in the order of `Parent.ids`.
        version: changes when its children have to be read again.
    """

    key: str
    ids: tuple[str, ...]
    version: str


@dataclass(frozen=True, kw_only=True)
class ParentRead:
    """A parent whose children were read.

    Attributes:
        parent: as it was before the read.
        found: whether ServiceTitan knew it.
    """

    parent: ParentRow
    found: bool = True


@dataclass(frozen=True, kw_only=True)
class DueParents:
    """Parents whose children are to be read.

    Attributes:
        rows: in the order in which to read them; not more than the limit.
        count: how many there are without the limit.
        live: the number of all parents.
        control: another parent whose children were served before; None where there is none.
    """

    rows: Sequence[ParentRow] = ()
    count: int = 0
    live: int = 0
    control: ParentRow | None = None


def find_due_parents(
    store: Store,
    endpoint: Endpoint,
    parent: Endpoint,
    spec: LoadSpec,
    *,
    limit: int,
    everything: bool = False,
) -> DueParents:
    """Finds the parents whose children a load has to read: the latest changes first.

    Args:
        store: is opened for a moment, read-only.
        endpoint: the child.
        parent: the endpoint of its parents.
        spec: whose tenant and environment count.
        limit: the largest number of rows to return.
        everything: all parents are due; after those that have changed come the ones whose children
            were read the longest time ago.

    Raises:
        ParentNotLoaded: the warehouse has no table of parents.
        WarehouseError: it cannot be read.
    """
    condition, order = "changed", _NEWEST_FIRST
    if everything:
        condition, order = "true", f"changed DESC, CASE WHEN NOT changed THEN sequence END, {order}"
    with _opened(store, endpoint, parent, spec) as state:
        return state.find(condition, f"ORDER BY {order} LIMIT {limit}")


def find_read_parents(
    store: Store, endpoint: Endpoint, parent: Endpoint, spec: LoadSpec, *, limit: int
) -> DueParents:
    """Finds parents whose children are up to date, evenly spread over all of these.

    Raises:
        ParentNotLoaded, WarehouseError: as `find_due_parents`.
    """
    with _opened(store, endpoint, parent, spec) as state:
        return state.find(
            "NOT changed",
            f"QUALIFY (row_number() OVER (ORDER BY {_NEWEST_FIRST}) - 1) "
            f"% greatest(ceil(count(*) OVER () / {limit})::BIGINT, 1) = 0 "
            f"ORDER BY {_NEWEST_FIRST}",
        )


_NEWEST_FIRST = "newest DESC NULLS LAST, ids DESC"


@contextmanager
def _opened(
    store: Store, endpoint: Endpoint, parent: Endpoint, spec: LoadSpec
) -> Iterator[_ParentState]:
    if not store.exists:
        raise ParentNotLoaded(endpoint.table, parent.table)
    with store.read_only() as connection:
        if not _was_loaded(connection, parent, spec):
            raise ParentNotLoaded(endpoint.table, parent.table)
        yield _ParentState(connection, endpoint, parent, spec)


@dataclass(frozen=True)
class _ParentState:
    """The live parents, and for which of them the children were read.

    Attributes:
        connection: to the warehouse itself.
        child, parent: the endpoints.
        spec: whose tenant and environment count.
    """

    connection: duckdb.DuckDBPyConnection
    child: Endpoint
    parent: Endpoint
    spec: LoadSpec

    def find(self, condition: str, rest: str) -> DueParents:
        """The parents that meet a condition on the columns of `_select`."""
        sql, values = self._select()
        live, count = fetch_row(
            self.connection,
            f"SELECT count(*), count(*) FILTER ({condition}) FROM ({sql})",
            values,
        )
        rows = self.connection.execute(
            f"SELECT key, texts, version FROM ({sql}) WHERE {condition} {rest}",
            values,
        ).fetchall()
        control = self.connection.execute(
            f"SELECT key, texts, version FROM ({sql}) WHERE found AND NOT changed "
            f"ORDER BY {_NEWEST_FIRST} LIMIT 1",
            values,
        ).fetchall()
        return DueParents(
            rows=[*map(_as_row, rows)],
            count=count,
            live=live,
            control=_as_row(control[0]) if control else None,
        )

    def _select(self) -> tuple[str, list[str]]:
        """SQL of the live parents and the state of their children, and its parameters."""
        spec, reads, owner = self.spec, _NO_READS, list[str]()
        is_there = is_in_warehouse(self.connection, self.child)
        if is_there and has_own_table(self.connection, CHILD_READS):
            reads, owner = _READS, _identity(self.child, spec)
        assert self.child.parent is not None
        names = [f"t.{quote(snake_case(name))}" for name in self.child.parent.ids.values()]
        texts = ", ".join(f"{name}::VARCHAR" for name in names)
        newest = table_cursor(self.parent, "t") if self.parent.cursor else "t._read_sequence"
        parents = (
            f"SELECT {join_ids(names)} AS key, [{texts}] AS texts, row({', '.join(names)}) AS ids, "
            f"{self._version()} AS version, {newest} AS newest "
            f"FROM {quote(self.parent.api)}.{quote(self.parent.name)} t "
            "WHERE t._tenant_id = ? AND t._deleted_at IS NULL AND "
            + " AND ".join(f"{name} IS NOT NULL" for name in names)
        )
        sql = (
            "SELECT p.*, c.found, c.sequence, c.version IS DISTINCT FROM p.version AS changed "
            f"FROM ({parents}) p LEFT JOIN ({reads}) c ON c.parent_key = p.key"
        )
        return sql, [spec.tenant_id, *owner]

    def _version(self) -> str:
        """SQL on a row `t` of the parents: its version."""
        assert self.child.parent is not None
        if self.child.parent.every_load:
            last = read_last_sequence(self.connection, self.parent, self.spec, schema="_st")
            return literal(f"load {last}")
        seen = "'load ' || coalesce(t._read_sequence, 0)"
        if not self.parent.cursor:
            return seen
        return f"coalesce({table_cursor(self.parent, 't')}::VARCHAR, {seen})"


def _as_row(found: tuple[str, list[str], str]) -> ParentRow:
    key, ids, version = found
    return ParentRow(key=key, ids=tuple(ids), version=version)


def _was_loaded(connection: duckdb.DuckDBPyConnection, parent: Endpoint, spec: LoadSpec) -> bool:
    """Whether the table of the parents exists, and was loaded for the tenant."""
    if not is_in_warehouse(connection, parent):
        return False
    if read_last_sequence(connection, parent, spec, schema="_st"):
        return True
    rows = connection.execute(
        f"SELECT 1 FROM {quote(parent.api)}.{quote(parent.name)} WHERE _tenant_id = ? LIMIT 1",
        [spec.tenant_id],
    )
    return rows.fetchone() is not None


def stage_parents(connection: duckdb.DuckDBPyConnection, parents: Sequence[ParentRead]) -> None:
    """Fills the temporary table `PARENTS_READ`, which bounds the scope of the load."""
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE {PARENTS_READ} AS "
        "SELECT unnest(?::VARCHAR[]) AS key, unnest(?::VARCHAR[]) AS version, "
        "unnest(?::BOOLEAN[]) AS found",
        [
            [read.parent.key for read in parents],
            [read.parent.version for read in parents],
            [read.found for read in parents],
        ],
    )


def note_parents(load: TableLoad) -> None:
    """Notes the parents in `PARENTS_READ` as read, in the transaction of their children."""
    table = f"{ALIAS}._st.{CHILD_READS}"
    columns = ", ".join(f"{name} {type_}" for name, type_ in _COLUMNS.items())
    load.connection.execute(f"CREATE TABLE IF NOT EXISTS {table} ({columns})")
    owner = _identity(load.endpoint, load.spec)
    load.connection.execute(
        f"DELETE FROM {table} WHERE {_SAME_TABLE} "
        f"AND parent_key IN (SELECT key FROM {PARENTS_READ})",
        owner,
    )
    load.connection.execute(
        f"INSERT INTO {table} SELECT ?, ?, ?, ?, key, version, found, ?, {load.number} "
        f"FROM {PARENTS_READ}",
        [*owner, load.spec.loaded_at],
    )


def find_reread(load: TableLoad, alias: str) -> str:
    """SQL on a row: a load that committed since this read started has read its parent."""
    values = ", ".join(map(literal, _identity(load.endpoint, load.spec)))
    return (
        f"{parent_key(load.endpoint, alias)} IN (SELECT parent_key FROM {ALIAS}._st.{CHILD_READS} "
        f"WHERE (environment, api, endpoint, tenant_id) = ({values}) "
        f"AND sequence >= {load.spec.sequence})"
    )


def _identity(endpoint: Endpoint, spec: LoadSpec) -> list[str]:
    """The values of `_SAME_TABLE`."""
    return [spec.environment, endpoint.api, endpoint.name, spec.tenant_id]
