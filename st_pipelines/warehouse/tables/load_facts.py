"""Counts what the asset checks need, inside the load's transaction.

`count_facts` scans single columns, three times: for days and scope (the rows that the reading
covers), for the keys, and to join them with the keys of the reading. Examples are looked for only
when something is wrong. `find_missing_fields` runs before the merge; of the table it scans the
columns of which the reading has no value. Only rows of the load's tenant are counted. The counts
travel in the load's report; `defs/checks` decides which of them are failures.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from st_pipelines.catalog.model import Endpoint, Field, StructOf
from st_pipelines.warehouse.columns import fetch_row, local_day_sql, quote
from st_pipelines.warehouse.tables.load_log import read_previous_row_count, read_usual_row_count
from st_pipelines.warehouse.tables.table_load import (
    TableLoad,
    export_only_columns,
    key_columns,
    lacks_key,
    same_key,
    table_cursor,
)

MAX_EXAMPLES = 5

MIN_EXPECTED_VALUES = 20
"""A field is missing if at least this many values were expected, by its share of rows before."""

WINDOW_MARGIN = timedelta(days=1)
"""Some filters take dates, and which time zone their days are in is not documented for all."""

_LIVE = "t._deleted_at IS NULL"


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What was counted after a load, in its transaction.

    Attributes:
        duplicate_keys: keys of more than one row, rows marked as deleted included.
        without_key: rows that lack a part of their key.
        misplaced: rows whose `_partition_date` is not the local day of their cursor.
        examples: some of the duplicate keys and of the misplaced rows.
        rows_before: live rows of the table after the previous load; None where the log has none.
        usual_rows: median of the records in comparable windows; None where there are too few.
        distinct_read: records of the reading, each key counted once.
        lost: records of the reading that are not in the table.
        not_read: rows of the window (or of the table) that the reading did not contain.
        outside: records of the reading from more than `WINDOW_MARGIN` outside the window.
    """

    duplicate_keys: int = 0
    without_key: int = 0
    misplaced: int = 0
    examples: tuple[str, ...] = ()
    rows_before: int | None = None
    usual_rows: float | None = None
    distinct_read: int = 0
    lost: int = 0
    not_read: int = 0
    outside: int = 0

    def __add__(self, later: Facts) -> Facts:
        """Adds up two consecutive loads; what describes the table is taken from the later one."""
        usual = (self.usual_rows, later.usual_rows)
        return Facts(
            duplicate_keys=later.duplicate_keys,
            without_key=later.without_key,
            misplaced=later.misplaced,
            examples=later.examples,
            rows_before=self.rows_before,
            usual_rows=None if None in usual else sum(n for n in usual if n is not None),
            distinct_read=self.distinct_read + later.distinct_read,
            lost=self.lost + later.lost,
            not_read=self.not_read + later.not_read,
            outside=self.outside + later.outside,
        )


@dataclass(frozen=True, kw_only=True)
class MissingField:
    """A field of which the table has values and a load has none.

    Attributes:
        path: the column, and after points the members of structs.
        share: of the table's rows that have a value, above 0 and up to 1.
        rows: of the load, all of them without a value.
    """

    path: str
    share: float
    rows: int


def count_facts(load: TableLoad, looked_up: Collection[int] = ()) -> Facts:
    """Counts what the checks need: after the merge, before the load's line is in the log.

    Args:
        load: has merged.
        looked_up: ids that were read by id, whatever the window.
    """
    counting = _Counting(load)
    in_scope, without_key, days = counting.count_days()
    duplicates = counting.find_duplicates() if load.endpoint.has_key else []
    misplaced = counting.find_misplaced() if days else []
    lost, not_read = counting.compare(in_scope)
    return Facts(
        duplicate_keys=len(duplicates),
        without_key=without_key,
        misplaced=len(misplaced),
        examples=tuple(
            " ".join(map(str, row)) for row in duplicates[:MAX_EXAMPLES] + misplaced[:MAX_EXAMPLES]
        ),
        rows_before=read_previous_row_count(load),
        usual_rows=read_usual_row_count(load),
        distinct_read=fetch_row(load.connection, "SELECT count(*) FROM staged")[0],
        lost=lost,
        not_read=not_read,
        outside=counting.count_outside(looked_up),
    )


class _Counting:
    """The queries of `count_facts`, one a method."""

    def __init__(self, load: TableLoad) -> None:
        self._load = load
        self._table = load.table
        self._scope = load.scope
        self._no_key = lacks_key(load.endpoint, "t")
        self._keys = ", ".join(f"t.{key}" for key in key_columns(load.endpoint))
        self._cursor = table_cursor(load.endpoint, "t")

    def count_days(self) -> tuple[int, int, list[Any]]:
        """Live rows in scope, live rows without key, and the days that hold a row of another day.

        A local day is one stretch of time, so its first and its last cursor speak for all its rows.
        """
        wrong = " OR ".join(
            f"{local_day_sql(moment, self._load.spec.timezone)} IS DISTINCT FROM _partition_date"
            for moment in ("earliest", "latest")
        )
        in_scope, without_key, days = self._query(
            "SELECT coalesce(sum(in_scope), 0), coalesce(sum(without_key), 0), "
            f"list(_partition_date) FILTER (earliest IS NOT NULL AND ({wrong})) FROM ("
            f"SELECT t._partition_date, min({self._cursor}) AS earliest, "
            f"max({self._cursor}) AS latest, "
            f"count(*) FILTER ({_LIVE} AND ({self._scope}) AND NOT ({self._no_key})) AS in_scope, "
            f"count(*) FILTER ({_LIVE} AND ({self._no_key})) AS without_key "
            f"FROM {self._table} t WHERE t._tenant_id = $tenant GROUP BY 1)"
        )[0]
        return int(in_scope), int(without_key), days or []

    def find_misplaced(self) -> list[tuple]:
        """Key, cursor and day of the rows that are not in the local day of their cursor."""
        cursor = self._cursor
        columns = ", ".join(filter(None, [self._keys, f"{cursor}::VARCHAR", "t._partition_date"]))
        return self._query(
            f"SELECT {columns} FROM {self._table} t WHERE t._tenant_id = $tenant "
            f"AND {cursor} IS NOT NULL "
            f"AND {local_day_sql(cursor, self._load.spec.timezone)} "
            "IS DISTINCT FROM t._partition_date"
        )

    def find_duplicates(self) -> list[tuple]:
        """The keys of more than one row."""
        return self._query(
            f"SELECT {self._keys} FROM {self._table} t WHERE t._tenant_id = $tenant "
            f"AND NOT ({self._no_key}) GROUP BY ALL HAVING count(*) > 1"
        )

    def compare(self, in_scope: int) -> tuple[int, int]:
        """Records that were read and are lost, and live rows in scope that were not read."""
        has_key = self._load.endpoint.has_key
        counted = f"NOT ({self._no_key})" if has_key else self._scope
        read = fetch_row(self._load.connection, f"SELECT count(*) FROM staged t WHERE {counted}")[0]
        if not has_key:
            return max(0, read - in_scope), max(0, in_scope - read)
        found, found_in_scope = self._query(
            f"SELECT count(*), count(*) FILTER ({_LIVE} AND ({self._scope})) "
            f"FROM {self._table} t SEMI JOIN staged s ON {same_key(self._load.endpoint, 't', 's')} "
            "WHERE t._tenant_id = $tenant"
        )[0]
        lost = 0 if found == read else self._count_lost()
        return lost, in_scope - found_in_scope

    def count_outside(self, looked_up: Collection[int]) -> int:
        """Records that a list has served although its date filter should have kept them out."""
        spec, cursor = self._load.spec, table_cursor(self._load.endpoint, "s")
        if self._load.endpoint.date_filter is None or spec.window_end is None:
            return 0
        bounds = [f"{cursor} >= $end"]
        values: dict[str, Any] = {"end": spec.window_end + WINDOW_MARGIN}
        if spec.window_start is not None:
            bounds.append(f"{cursor} < $start")
            values["start"] = spec.window_start - WINDOW_MARGIN
        count = f"SELECT count(*) FROM staged s WHERE ({' OR '.join(bounds)})"
        if looked_up:
            values["looked_up"] = list(looked_up)
            count += " AND list_contains($looked_up::BIGINT[], s.id) IS NOT TRUE"
        return self._load.connection.execute(count, values).fetchall()[0][0]

    def _count_lost(self) -> int:
        return self._query(
            f"SELECT count(*) FROM staged t WHERE NOT ({self._no_key}) AND NOT EXISTS ("
            f"SELECT 1 FROM {self._table} s WHERE s._tenant_id = $tenant "
            f"AND {same_key(self._load.endpoint, 't', 's')})"
        )[0][0]

    def _query(self, sql: str) -> list[tuple]:
        values = {"tenant": self._load.spec.tenant_id}
        return self._load.connection.execute(sql, values).fetchall()


def find_missing_fields(load: TableLoad) -> tuple[MissingField, ...]:
    """Compares `staged` with the table, before the merge overwrites the values it has."""
    if fetch_row(load.connection, "SELECT count(*) FROM staged")[0] < MIN_EXPECTED_VALUES:
        return ()
    fields = dict(_paths(load.endpoint))
    rows, values = _count_values(load, "staged", fields)
    empty = {path: fields[path] for path, count in values.items() if not count}
    live = "WHERE _tenant_id = ? AND _deleted_at IS NULL"
    before, values = _count_values(load, f"{load.table} {live}", empty, load.spec.tenant_id)
    missing = {
        path: count / before
        for path, count in values.items()
        if count and count / before * rows >= MIN_EXPECTED_VALUES
    }
    return tuple(
        MissingField(path=path, share=share, rows=rows)
        for path, share in missing.items()
        if not any(path.startswith(f"{outer}.") for outer in missing)
    )


def _paths(endpoint: Endpoint) -> Iterator[tuple[str, str]]:
    """Readable path and SQL of each column and each struct member, outer ones first."""
    exported = export_only_columns(endpoint)
    for field in endpoint.row_fields:
        if field.column not in exported:
            yield from _member_paths(field, "", "")


def _member_paths(field: Field, path: str, sql: str) -> Iterator[tuple[str, str]]:
    path, sql = path + field.column, sql + quote(field.column)
    yield path, sql
    if isinstance(field.type, StructOf):
        for member in field.type.fields:
            yield from _member_paths(member, path + ".", sql + ".")


def _count_values(
    load: TableLoad, rows: str, fields: Mapping[str, str], *bound: str
) -> tuple[int, dict[str, int]]:
    """The number of rows, and of those with a value for each path."""
    counts = ", ".join(["count(*)", *(f"count({sql})" for sql in fields.values())])
    found = fetch_row(load.connection, f"SELECT {counts} FROM {rows}", list(bound))
    return found[0], dict(zip(fields, found[1:], strict=True))
