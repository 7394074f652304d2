"""Compares a table with records that have just been read, row by row and column by column.

Runs on an in-memory database with the records in `staged` and the warehouse attached. Nothing is
written. Values are compared as tables store them: the records went through the staging of a load.
ServiceTitan does not promise an order of a list's members, so lists with the same members in
another order are counted (`Compared.reordered`) and are not a difference.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Literal, TypeAlias

from st_pipelines.catalog.model import DataType, Endpoint, Field, ListOf, Scalar, StructOf
from st_pipelines.warehouse.columns import EXTRA, fetch_row, literal, quote, table_type
from st_pipelines.warehouse.store.base import ALIAS
from st_pipelines.warehouse.tables.column_types import fit_to_table, forget_fitted
from st_pipelines.warehouse.tables.row_values import list_part
from st_pipelines.warehouse.tables.table_load import (
    TableLoad,
    key_columns,
    lacks_key,
    same_key,
    table_cursor,
)

DAY = "_partition_date"

DifferenceKind: TypeAlias = Literal["missing", "extra", "duplicate", "differs"]

_LIVE = "t._tenant_id = $tenant AND t._deleted_at IS NULL"


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One way in which a table differs from the source.

    Attributes:
        kind: a row is missing here, is here and not there, is here more than once, or differs.
        key: of the row, its parts joined by commas; for a row without key the beginning of a hash
            of its values.
        column: the column that differs.
        here, there: its values as text, which may be customers' data and are left out of `repr`; of
            rows that are equal, their number.
        newer: the record was changed at the source after the last load of the table.
    """

    kind: DifferenceKind
    key: str
    column: str | None = None
    here: str | None = field(default=None, repr=False)
    there: str | None = field(default=None, repr=False)
    newer: bool = False

    @property
    def identity(self) -> tuple[DifferenceKind, str, str | None]:
        """Equal for the same difference in another reading."""
        return self.kind, self.key, self.column


@dataclass(frozen=True, kw_only=True)
class Compared:
    """The outcome of one comparison.

    Attributes:
        rows_here: live rows of the table in the scope of the reading.
        rows_there: records of the reading in the same scope, each key counted once.
        differences: all of them.
        matched: rows with a key that are on both sides, whose values were compared.
        reordered: values that are the same except for the order of a list's members.
    """

    rows_here: int
    rows_there: int
    differences: tuple[Difference, ...]
    matched: int = 0
    reordered: int = 0


@contextmanager
def fitted_to_table(load: TableLoad) -> Iterator[TableLoad]:
    """Gives the staged rows the types of their table, which another catalog may have made.

    Args:
        load: with the warehouse attached.

    Yields:
        The load to compare with.
    """
    try:
        endpoint = fit_to_table(load.connection, load.endpoint, load.table)
        yield dataclasses.replace(load, endpoint=endpoint)
    finally:
        forget_fitted(load.connection)


class Comparison:
    """Compares `staged` with the endpoint's table, for the tenant and scope of the load."""

    def __init__(
        self, load: TableLoad, *, columns: Sequence[str], last_load: datetime | None = None
    ) -> None:
        """Builds the SQL; `run` and `run_same_versions` query rows.

        Args:
            load: whose table, which must exist; its window bounds what is compared.
            columns: those whose values are compared; `_extra` may be among them.
            last_load: up to when the table was loaded; records changed later are `newer`.
        """
        self._load = load
        self._endpoint = load.endpoint
        self._scope = load.scope
        self._table = load.table
        self._newer, self._version = "false", ""
        if load.endpoint.cursor and last_load is not None:
            moment = f"TIMESTAMPTZ {literal(str(last_load))}"
            self._newer = f"coalesce({table_cursor(load.endpoint, 's')} >= {moment}, false)"
        self._there = "SELECT * FROM staged t WHERE " + self._scope
        described = load.connection.execute(f"DESCRIBE {self._table}").fetchall()
        present = {name for name, *_ in described}
        self._matched = self._reordered = 0
        self._columns = [
            _Column.of(field, field.column in present)
            for field in load.endpoint.row_fields
            if field.column in columns
        ]
        if EXTRA in columns:
            self._columns.append(_Column.of_extra(load.endpoint))

    def run(self, among: Collection[str] | None = None) -> Compared:
        """Compares.

        Args:
            among: compare only rows with these keys (as in `Difference.key`); None compares all.
        """
        if self._endpoint.has_key:
            differences = self._by_content(lacks_key(self._endpoint, "t")) + self._by_key(among)
        else:
            differences = self._by_content("true")
        if among is not None:
            differences = [d for d in differences if d.key in among]
        here = f"SELECT count(*) FROM {self._table} t WHERE {_LIVE} AND ({self._scope})"
        there = f"SELECT count(*) FROM ({self._there})"
        return Compared(
            rows_here=self._query(here)[0][0],
            rows_there=fetch_row(self._load.connection, there)[0],
            differences=tuple(differences),
            matched=self._matched,
            reordered=self._reordered,
        )

    def run_same_versions(self) -> Compared:
        """Compares only the values of rows that both sides have in the same version.

        For records of an export feed, which serves a version later or earlier than the list.
        """
        ours, theirs = (table_cursor(self._endpoint, alias) for alias in "ts")
        self._version = f"AND {ours} IS NOT DISTINCT FROM {theirs}"
        differences = tuple(self._values())
        return Compared(
            rows_here=0,
            rows_there=0,
            differences=differences,
            matched=self._matched,
            reordered=self._reordered,
        )

    def _by_key(self, among: Collection[str] | None) -> list[Difference]:
        only = f"AND {self._key('t')} IN (SELECT unnest($among))" if among else ""
        there, same = f"({self._there}) s", same_key(self._endpoint, "t", "s")
        missing = self._query(
            f"SELECT {self._key('s')}, {self._newer} FROM {there} "
            f"WHERE NOT ({lacks_key(self._endpoint, 's')}) AND NOT EXISTS ("
            f"SELECT 1 FROM {self._table} t WHERE {_LIVE} AND {same})"
        )
        # A record that is served with a time beyond the window exists, so it is not extra here.
        extra = self._query(
            f"SELECT {self._key('t')} FROM {self._table} t WHERE {_LIVE} AND ({self._scope}) "
            f"AND NOT ({lacks_key(self._endpoint, 't')}) "
            f"AND NOT EXISTS (SELECT 1 FROM staged s WHERE {same}) {only}",
            **({"among": sorted(among)} if among else {}),
        )
        twice = self._query(
            f"SELECT {self._key('t')} AS key, count(*) FROM {self._table} t WHERE {_LIVE} "
            f"AND NOT ({lacks_key(self._endpoint, 't')}) GROUP BY 1 HAVING count(*) > 1"
        )
        return [
            *(Difference(kind="missing", key=key, newer=newer) for key, newer in missing),
            *(Difference(kind="extra", key=key) for (key,) in extra),
            *(Difference(kind="duplicate", key=key, here=str(n), there="1") for key, n in twice),
            *self._values(),
        ]

    def _values(self) -> list[Difference]:
        """Differences between rows that exist on both sides, column by column."""
        columns = [*self._columns, *self._day()]
        differs = [f"{c.here} IS DISTINCT FROM {c.there}" for c in columns]
        counts = [f"count(*) FILTER ({condition})" for condition in differs]
        sql = f"SELECT {', '.join(['count(*)', *counts])} {self._both()}"
        self._matched, *found = self._query(sql)[0]
        return [
            difference
            for column, condition, count in zip(columns, differs, found, strict=True)
            if count
            for difference in self._differing(column, condition)
        ]

    def _both(self) -> str:
        return (
            f"FROM {self._table} t JOIN ({self._there}) s "
            f"ON {same_key(self._endpoint, 't', 's')} WHERE {_LIVE} {self._version}"
        )

    def _differing(self, column: _Column, condition: str) -> list[Difference]:
        rows = self._query(
            f"SELECT DISTINCT {self._key('s')}, {column.here}::VARCHAR, {column.there}::VARCHAR, "
            f"{self._newer}, {column.members('here')}, {column.members('there')} "
            f"{self._both()} AND {condition}"
        )
        found = [
            Difference(
                kind="differs", key=key, column=column.name, here=here, there=there, newer=newer
            )
            for key, here, there, newer, ours, theirs in rows
            if ours is None or theirs is None or _unordered(ours) != _unordered(theirs)
        ]
        self._reordered += len(rows) - len(found)
        return found

    def _day(self) -> list[_Column]:
        """The local day, which follows from the cursor, where both sides have the same one."""
        endpoint = self._endpoint
        if not endpoint.cursor or not self._columns:
            return []
        same = f"{table_cursor(endpoint, 't')} = {table_cursor(endpoint, 's')}"
        here, there = (f"CASE WHEN {same} THEN {alias}.{DAY} END" for alias in "ts")
        return [_Column(name=DAY, here=here, there=there)]

    def _by_content(self, no_key: str) -> list[Difference]:
        """Rows without a key: how often each content is here, and how often there."""
        # without columns to compare the row would be empty, which DuckDB 1.5 does not allow
        values = ", ".join(c.content for c in self._columns) or "NULL"
        content = f"md5(to_json(row({values}))::VARCHAR)"
        count = f"SELECT {content} AS content, count(*) AS n FROM"
        rows = self._query(
            f"SELECT content, coalesce(h.n, 0), coalesce(s.n, 0) FROM "
            f"({count} {self._table} t WHERE {_LIVE} AND ({self._scope}) AND ({no_key}) "
            f"GROUP BY 1) h FULL JOIN "
            f"({count} ({self._there}) t WHERE {no_key} GROUP BY 1) s USING (content) "
            "WHERE h.n IS DISTINCT FROM s.n"
        )
        return [
            Difference(
                kind="missing" if there > here else "extra",
                key=f"row {content[:12]}",
                here=f"{here} rows",
                there=f"{there} rows",
            )
            for content, here, there in rows
        ]

    def _key(self, alias: str) -> str:
        parts = ", ".join(f"{alias}.{key}" for key in key_columns(self._endpoint))
        return f"concat_ws(',', {parts})"

    def _query(self, sql: str, **values: object) -> list[tuple[Any, ...]]:
        if "$tenant" in sql:
            values["tenant"] = self._load.spec.tenant_id
        return self._load.connection.execute(sql, values).fetchall()


@dataclass(frozen=True, kw_only=True)
class _Column:
    """A column as SQL: in the table `t`, and in the reading `s`.

    Attributes:
        has_lists: its values are, or contain, lists.
    """

    name: str
    here: str
    there: str
    has_lists: bool = False

    @classmethod
    def of(cls, field: Field, present: bool) -> _Column:
        """Of the catalog's type on both sides; NULL where an older table lacks the column."""
        name, type_ = quote(field.column), table_type(field.type)
        here = f"TRY_CAST(t.{name} AS {type_})" if present else f"NULL::{type_}"
        there = f"s.{name}"
        return cls(name=field.column, here=here, there=there, has_lists=_has_lists(field.type))

    @classmethod
    def of_extra(cls, endpoint: Endpoint) -> _Column:
        """Of `_extra`, without the part that only an export serves."""
        here, there = (list_part(f"{alias}.{EXTRA}") for alias in "ts")
        if not endpoint.export:
            here, there = (f"CAST({alias}.{EXTRA} AS VARCHAR)" for alias in "ts")
        return cls(name=EXTRA, here=here, there=there, has_lists=True)

    @property
    def content(self) -> str:
        """The expression for the digest of a row, which is the same on both sides."""
        return self.here

    def members(self, side: Literal["here", "there"]) -> str:
        """The value itself, where it may contain lists whose members have another order."""
        return getattr(self, side) if self.has_lists else "NULL"


def _has_lists(type_: DataType) -> bool:
    match type_:
        case ListOf():
            return True
        case StructOf(fields):
            return any(_has_lists(one.type) for one in fields)
    return type_ == Scalar("JSON")


def _unordered(value: Any) -> Any:
    """The value, the same for every order of lists and of an object's members."""
    if isinstance(value, str):  # JSON
        try:
            value = json.loads(value, parse_float=str, parse_int=str)
        except (ValueError, RecursionError):
            return value
    return _sort(value)


def _sort(value: Any) -> Any:
    match value:
        case dict():
            return {name: _sort(value[name]) for name in sorted(value)}
        case list():
            return sorted(map(_sort, value), key=repr)
    return value


def read_last_load(load: TableLoad) -> datetime | None:
    """Up to when the table was loaded at the latest, UTC; None where the load log has no load."""
    endpoint, spec = load.endpoint, load.spec
    return fetch_row(
        load.connection,
        "SELECT least(max(coalesce(window_end, loaded_at)), "
        f"arg_max(loaded_at, coalesce(sequence, 0))) FROM {ALIAS}._st.loads "
        "WHERE environment = ? AND api = ? AND endpoint = ? AND tenant_id = ?",
        [spec.environment, endpoint.api, endpoint.name, spec.tenant_id],
    )[0]


def read_first_day(load: TableLoad) -> date | None:
    """The tenant's first `_partition_date` in the table; None for an empty one."""
    return fetch_row(
        load.connection,
        f"SELECT min(_partition_date) FROM {load.table} WHERE _tenant_id = ?",
        [load.spec.tenant_id],
    )[0]
