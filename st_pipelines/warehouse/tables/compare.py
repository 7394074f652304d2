"""A table against rows that have just been read: what is missing, what is besides, what differs.

Runs on an in-memory database with the rows in `staged` and the warehouse attached.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeAlias

import duckdb

from st_pipelines.catalog.model import Endpoint, Field, Scalar
from st_pipelines.warehouse.columns import EXTRA, fetch_row, literal, quote, table_type
from st_pipelines.warehouse.staging.typed_rows import LoadSpec
from st_pipelines.warehouse.store.base import ALIAS
from st_pipelines.warehouse.tables.row_scope import (
    key_columns,
    lacks_key,
    same_key,
    scope,
    table_cursor,
)
from st_pipelines.warehouse.tables.schema import qualified

Kind: TypeAlias = Literal["missing", "extra", "duplicate", "differs"]

_LIVE = "t._tenant_id = $tenant AND t._deleted_at IS NULL"


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One way in which a table is not as the source.

    Attributes:
        kind: a row is missing here, is here and not there, is here more than once, or differs.
        key: of the row, its parts joined by commas; of a row without key its first values.
        column: that differs.
        here, there: its values as text.
        newer: the record was changed at the source after the last load of the table.
    """

    kind: Kind
    key: str
    column: str | None = None
    here: str | None = None
    there: str | None = None
    newer: bool = False

    @property
    def row(self) -> tuple[Kind, str, str | None]:
        """What makes it the same difference in another reading."""
        return self.kind, self.key, self.column


@dataclass(frozen=True, kw_only=True)
class Compared:
    """The outcome of one comparison.

    Attributes:
        rows_here: live rows of the table in the scope of the reading.
        rows_there: records of the reading in the same scope, of several with one key one.
        differences: all that there are.
    """

    rows_here: int
    rows_there: int
    differences: tuple[Difference, ...]


class Comparison:
    """Compares `staged` with the endpoint's table, for the tenant of the load."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        endpoint: Endpoint,
        load: LoadSpec,
        *,
        columns: Sequence[str],
        last_load: datetime | None,
    ) -> None:
        """Nothing is asked yet.

        Args:
            connection: with the warehouse attached.
            endpoint: whose table; it must be there.
            load: tenant and window, which bounds what is compared.
            columns: those whose values are compared; `_extra` may be among them.
            last_load: up to when the table was loaded; records changed later are `newer`.
        """
        self._connection = connection
        self._endpoint = endpoint
        self._tenant = load.tenant_id
        self._scope = scope(endpoint, load)
        self._table = qualified(endpoint)
        self._newer = "false"
        if endpoint.cursor and last_load is not None:
            moment = f"TIMESTAMPTZ {literal(str(last_load))}"
            self._newer = f"coalesce({table_cursor(endpoint, 's')} >= {moment}, false)"
        self._there = "SELECT * FROM staged t WHERE " + self._scope
        present = {name for name, *_ in connection.execute(f"DESCRIBE {self._table}").fetchall()}
        self._columns = [
            _Column.of(field, field.column in present)
            for field in endpoint.row_fields
            if field.column in columns
        ]
        if EXTRA in columns:
            self._columns.append(_Column(name=EXTRA, here=f"t.{EXTRA}", there=f"s.{EXTRA}"))

    def run(self, among: Collection[str] | None = None) -> Compared:
        """Compares.

        Args:
            among: look only at rows with these keys (as in `Difference.key`); None at all.
        """
        lacking = lacks_key(self._endpoint, "t") if self._endpoint.key else "true"
        differences = self._by_content(lacking)
        if self._endpoint.key:
            differences += self._by_key(among)
        if among is not None:
            differences = [d for d in differences if d.key in among]
        return Compared(
            rows_here=self._ask(
                f"SELECT count(*) FROM {self._table} t WHERE {_LIVE} AND ({self._scope})"
            )[0][0],
            rows_there=fetch_row(self._connection, f"SELECT count(*) FROM ({self._there})")[0],
            differences=tuple(differences),
        )

    def _by_key(self, among: Collection[str] | None) -> list[Difference]:
        only = f"AND {self._key('t')} IN (SELECT unnest($among))" if among else ""
        there, same = f"({self._there}) s", same_key(self._endpoint, "t", "s")
        missing = self._ask(
            f"SELECT {self._key('s')}, {self._newer} FROM {there} "
            f"WHERE NOT ({lacks_key(self._endpoint, 's')}) AND NOT EXISTS ("
            f"SELECT 1 FROM {self._table} t WHERE {_LIVE} AND {same})"
        )
        # A record that is served with a time beyond the window is there; it is only not compared.
        extra = self._ask(
            f"SELECT {self._key('t')} FROM {self._table} t WHERE {_LIVE} AND ({self._scope}) "
            f"AND NOT ({lacks_key(self._endpoint, 't')}) "
            f"AND NOT EXISTS (SELECT 1 FROM staged s WHERE {same}) {only}",
            **({"among": sorted(among)} if among else {}),
        )
        twice = self._ask(
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
        """What differs in rows that are on both sides, column by column."""
        if not self._columns:
            return []
        both = (
            f"FROM {self._table} t JOIN ({self._there}) s "
            f"ON {same_key(self._endpoint, 't', 's')} WHERE {_LIVE}"
        )
        differs = [f"{c.here} IS DISTINCT FROM {c.there}" for c in self._columns]
        counts = ", ".join(f"count(*) FILTER ({condition})" for condition in differs)
        found: list[Difference] = []
        for column, condition, count in zip(
            self._columns, differs, self._ask(f"SELECT {counts} {both}")[0], strict=True
        ):
            if count:
                rows = self._ask(
                    f"SELECT DISTINCT {self._key('s')}, {column.here}::VARCHAR, "
                    f"{column.there}::VARCHAR, {self._newer} {both} AND {condition}"
                )
                found += [
                    Difference(
                        kind="differs", key=row[0], column=column.name,
                        here=row[1], there=row[2], newer=row[3],
                    )
                    for row in rows
                ]  # fmt: skip
        return found

    def _by_content(self, lacking: str) -> list[Difference]:
        """Rows without a key: how often each content is here, and how often there."""
        fields = [field for field in self._endpoint.row_fields]
        shown = [quote(f.column) for f in fields if isinstance(f.type, Scalar)][:4]
        label = f"concat_ws(', ', {', '.join(f'{name}::VARCHAR' for name in shown)})"
        # DuckDB 1.5 has no empty row, as where there is nothing to compare but the keys.
        values = ", ".join(c.content for c in self._columns) or "NULL"
        content = f"md5(to_json(row({values}))::VARCHAR)"
        count = f"SELECT {content} AS content, min({label}) AS label, count(*) AS n FROM"
        rows = self._ask(
            f"SELECT coalesce(h.label, s.label), coalesce(h.n, 0), coalesce(s.n, 0) FROM "
            f"({count} {self._table} t WHERE {_LIVE} AND ({self._scope}) AND ({lacking}) "
            f"GROUP BY 1) h FULL JOIN "
            f"({count} ({self._there}) t WHERE {lacking} GROUP BY 1) s USING (content) "
            "WHERE h.n IS DISTINCT FROM s.n"
        )
        return [
            Difference(
                kind="missing" if there > here else "extra",
                key=label,
                here=f"{here} rows",
                there=f"{there} rows",
            )
            for label, here, there in rows
        ]

    def _key(self, alias: str) -> str:
        parts = ", ".join(f"{alias}.{key}" for key in key_columns(self._endpoint))
        return f"concat_ws(',', {parts})"

    def _ask(self, sql: str, **values: object) -> list[tuple[Any, ...]]:
        if "$tenant" in sql:
            values["tenant"] = self._tenant
        return self._connection.execute(sql, values).fetchall()


@dataclass(frozen=True, kw_only=True)
class _Column:
    """A column as SQL: in the table `t`, and in the reading `s`."""

    name: str
    here: str
    there: str

    @classmethod
    def of(cls, field: Field, present: bool) -> _Column:
        """Of the catalogue's type on both sides; NULL where an older table has no such column."""
        name, type_ = quote(field.column), table_type(field.type)
        here = f"TRY_CAST(t.{name} AS {type_})" if present else f"NULL::{type_}"
        return cls(name=field.column, here=here, there=f"s.{name}")

    @property
    def content(self) -> str:
        """For a digest: the same expression on both sides."""
        return self.here


def last_load(
    connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, load: LoadSpec
) -> datetime | None:
    """Up to when the table was loaded at the latest, UTC; None where the books tell of no load."""
    return fetch_row(
        connection,
        f"SELECT max(coalesce(window_end, loaded_at)) FROM {ALIAS}._st.loads "
        "WHERE environment = ? AND api = ? AND endpoint = ? AND tenant_id = ?",
        [load.environment, endpoint.api, endpoint.name, load.tenant_id],
    )[0]


def first_day(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, load: LoadSpec) -> Any:
    """The first `_partition_date` that the table has for the tenant; None where it is empty."""
    return fetch_row(
        connection,
        f"SELECT min(_partition_date) FROM {qualified(endpoint)} WHERE _tenant_id = ?",
        [load.tenant_id],
    )[0]
