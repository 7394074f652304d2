"""What a load is checked by: counted in its transaction, where table and reading are at hand.

A few passes over single columns: one for days and scope, one for the keys, one that joins the
keys with those of the reading. What is wrong is looked at more closely only when there is some.
All of it is about the rows of one tenant.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import duckdb

from st_pipelines.catalog.model import Endpoint
from st_pipelines.warehouse.columns import fetch_row
from st_pipelines.warehouse.staging.local_day import local_day
from st_pipelines.warehouse.staging.typed_rows import LoadSpec
from st_pipelines.warehouse.tables.earlier import rows_before, usual_rows
from st_pipelines.warehouse.tables.row_scope import (
    key_columns,
    lacks_key,
    same_key,
    scope,
    table_cursor,
)
from st_pipelines.warehouse.tables.schema import qualified

EXAMPLES = 5


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What was counted after a load, in its transaction.

    Attributes:
        duplicate_keys: keys that several rows have, rows marked as deleted included.
        without_key: rows that lack a part of their key.
        misplaced: rows whose `_partition_date` is not the local day of their cursor.
        examples: some of the duplicate keys and of the misplaced rows.
        rows_before: rows of the table after the load before; None where the books do not tell.
        usual_rows: median of what comparable windows held; None where too few are known.
        distinct_read: records of the reading, of several with one key only one.
        lost: records that were read and are not in the table.
        not_read: rows of the window (or of the table) that the reading did not contain.
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

    def __add__(self, later: Facts) -> Facts:
        """Of two loads one after the other: what is about the table is told by the later."""
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
        )


def count_facts(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, load: LoadSpec) -> Facts:
    """Counts what the checks need. Ask after the merge, before the books get the load's line.

    Args:
        connection: with the warehouse and its books attached, and `staged` filled.
        endpoint: whose table.
        load: what was loaded.
    """
    asked = _Asked(connection, endpoint, load)
    in_scope, without_key, days = asked.days()
    duplicates = asked.duplicates() if endpoint.key else []
    misplaced = asked.misplaced() if days else []
    lost, not_read = asked.by_key(in_scope) if endpoint.key else asked.by_number(in_scope)
    return Facts(
        duplicate_keys=len(duplicates),
        without_key=without_key,
        misplaced=len(misplaced),
        examples=tuple(_spelled(row) for row in duplicates[:EXAMPLES] + misplaced[:EXAMPLES]),
        rows_before=rows_before(connection, endpoint, load),
        usual_rows=usual_rows(connection, endpoint, load),
        distinct_read=fetch_row(connection, "SELECT count(*) FROM staged")[0],
        lost=lost,
        not_read=not_read,
    )


class _Asked:
    """The questions, each one query."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, load: LoadSpec
    ) -> None:
        self._connection = connection
        self._endpoint = endpoint
        self._load = load
        self._scope = scope(endpoint, load)
        self._lacking = lacks_key(endpoint, "t")
        self._keys = ", ".join(f"t.{key}" for key in key_columns(endpoint))

    def days(self) -> tuple[int, int, list[Any]]:
        """Live rows in scope, those without key, and the days that hold a row of another.

        A local day is one stretch of time, so its first and its last cursor tell of all rows.
        """
        cursor, zone = table_cursor(self._endpoint, "t"), self._load.timezone
        where = f"FROM {self._table} t WHERE t._tenant_id = $tenant GROUP BY 1"
        wrong = " OR ".join(
            f"{local_day(moment, zone)} IS DISTINCT FROM _partition_date"
            for moment in ("earliest", "latest")
        )
        in_scope, lacking, days = self._ask(
            "SELECT coalesce(sum(in_scope), 0), coalesce(sum(lacking), 0), "
            f"list(_partition_date) FILTER (earliest IS NOT NULL AND ({wrong})) FROM ("
            f"SELECT t._partition_date, min({cursor}) AS earliest, max({cursor}) AS latest, "
            f"count(*) FILTER ({_LIVE} AND ({self._scope}) AND NOT ({self._lacking})) AS in_scope, "
            f"count(*) FILTER ({_LIVE} AND ({self._lacking})) AS lacking {where})"
        )[0]
        return int(in_scope), int(lacking), days or []

    def misplaced(self) -> list[tuple]:
        """Key, cursor and day of the rows that are in another day than that of their cursor."""
        cursor = table_cursor(self._endpoint, "t")
        columns = ", ".join(filter(None, [self._keys, f"{cursor}::VARCHAR", "t._partition_date"]))
        return self._ask(
            f"SELECT {columns} FROM {self._table} t WHERE t._tenant_id = $tenant "
            f"AND {cursor} IS NOT NULL "
            f"AND {local_day(cursor, self._load.timezone)} IS DISTINCT FROM t._partition_date"
        )

    def duplicates(self) -> list[tuple]:
        """The keys that several rows have."""
        return self._ask(
            f"SELECT {self._keys} FROM {self._table} t WHERE t._tenant_id = $tenant "
            f"AND NOT ({self._lacking}) GROUP BY ALL HAVING count(*) > 1"
        )

    def by_key(self, in_scope: int) -> tuple[int, int]:
        """Records that were read and are not there, and live rows in scope that were not read."""
        read = fetch_row(
            self._connection,
            f"SELECT count(*) FROM staged t WHERE NOT ({self._lacking})",
        )[0]
        there, met = self._ask(
            f"SELECT count(*), count(*) FILTER ({_LIVE} AND ({self._scope})) "
            f"FROM {self._table} t SEMI JOIN staged s ON {same_key(self._endpoint, 't', 's')} "
            "WHERE t._tenant_id = $tenant"
        )[0]
        lost = 0 if there == read else self._missing()
        return lost, in_scope - met

    def by_number(self, in_scope: int) -> tuple[int, int]:
        """The same where only the whole record identifies a row, and a reading replaces all."""
        read = fetch_row(self._connection, f"SELECT count(*) FROM staged t WHERE {self._scope}")[0]
        return max(0, read - in_scope), max(0, in_scope - read)

    def _missing(self) -> int:
        return self._ask(
            f"SELECT count(*) FROM staged t WHERE NOT ({self._lacking}) AND NOT EXISTS ("
            f"SELECT 1 FROM {self._table} s WHERE s._tenant_id = $tenant "
            f"AND {same_key(self._endpoint, 't', 's')})"
        )[0][0]

    @property
    def _table(self) -> str:
        return qualified(self._endpoint)

    def _ask(self, sql: str, **values: object) -> list[tuple]:
        return self._connection.execute(sql, {"tenant": self._load.tenant_id, **values}).fetchall()


_LIVE = "t._deleted_at IS NULL"


def _spelled(row: tuple) -> str:
    return " ".join(str(value) for value in row)
