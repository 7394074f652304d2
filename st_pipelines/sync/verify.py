"""Compares a table with its source. Reads the source's list as a load does, and writes nothing.

The list serves whole records, so comparing the values of its columns costs no further requests.
Columns that only an export feed serves need the feed, which a deep comparison reads too.

The window ends at the moment verify starts, by the server's clock. A difference is reported only if
a second read finds it in the same row and column. The second read uses `ids` where the endpoint
takes them and few rows differ, otherwise it reads again up to the present. A change that was never
loaded is reported as a difference, except where no load has read yet: what is older than the first
window that loads have read is not compared. The warehouse is attached only during the comparison
(`warehouse.tables.compare`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import date, datetime

from st_pipelines.catalog.model import Endpoint
from st_pipelines.servicetitan.http.model import ReadStats
from st_pipelines.servicetitan.reading.export_feed import read_feed
from st_pipelines.servicetitan.reading.lookup import Controls, look_up
from st_pipelines.sync.child_lists import ChildList
from st_pipelines.sync.children import choose_sample
from st_pipelines.sync.context import SyncContext
from st_pipelines.sync.strategies import strategy_for
from st_pipelines.sync.strategy import PlannedRead, Strategy
from st_pipelines.sync.sync import learn_server_time, stage
from st_pipelines.sync.verify_scope import find_table, first_whole_day, limit
from st_pipelines.warehouse.columns import EXTRA
from st_pipelines.warehouse.staging.typed_rows import TypedRows
from st_pipelines.warehouse.tables.compare import (
    Compared,
    Comparison,
    Difference,
    fitted_to_table,
    read_last_load,
)
from st_pipelines.warehouse.tables.parents import stage_parents
from st_pipelines.warehouse.tables.staged_records import StagedRecords, staged_records
from st_pipelines.warehouse.tables.table_load import TableLoad, export_only_columns
from st_pipelines.windows import Window

MAX_LOOKUPS = 1000
"""With more suspects than this, reading again costs less than looking them up by their ids."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verified:
    """The outcome of comparing one table.

    Attributes:
        table: `api.name`.
        rows_here, rows_there: of the table and of the source, in what was compared.
        differences: confirmed by a second read.
        changed_meanwhile: differences that the second read did not confirm.
        reordered: values that are the same except for the order of a list's members, which are not
            differences.
        values: whether values were compared; otherwise only keys and counts, as there was no row on
            both sides.
        not_compared: columns whose values were not compared, because only the export serves them.
        since: the first day that was loaded, if older records never were and would have been
            compared.
        requests: data requests sent.
        parents: of a child list, how many parents were compared, and how many there are; None for
            other tables.
        problem: why it could not be compared; empty where it could.
    """

    table: str
    rows_here: int = 0
    rows_there: int = 0
    differences: tuple[Difference, ...] = ()
    changed_meanwhile: int = 0
    reordered: int = 0
    values: bool = False
    not_compared: tuple[str, ...] = ()
    requests: int = 0
    parents: tuple[int, int] | None = None
    since: date | None = None
    problem: str = ""

    @property
    def same(self) -> bool:
        """Whether it was compared and nothing differs."""
        return not self.differences and not self.problem

    @property
    def compared(self) -> str:
        """What was compared: "values", "keys and counts", or "nothing"."""
        if self.problem:
            return "nothing"
        return "values" if self.values else "keys and counts"

    def count(self, kind: str) -> int:
        """The number of rows that differ in this way."""
        return len({d.key for d in self.differences if d.kind == kind})

    def __add__(self, other: Verified) -> Verified:
        """Adds up two parts of one table."""
        return Verified(
            table=self.table,
            rows_here=self.rows_here + other.rows_here,
            rows_there=self.rows_there + other.rows_there,
            differences=self.differences + other.differences,
            changed_meanwhile=self.changed_meanwhile + other.changed_meanwhile,
            reordered=self.reordered + other.reordered,
            values=self.values or other.values,
            not_compared=tuple(dict.fromkeys(self.not_compared + other.not_compared)),
            since=self.since or other.since,
            requests=self.requests + other.requests,
            parents=self.parents or other.parents,
            problem=self.problem or other.problem,
        )


def verify_table(
    context: SyncContext, endpoint: Endpoint, *, days: int | None = None, deep: bool = False
) -> Verified:
    """Compares one table with the source.

    Args:
        context: client, warehouse, time zone.
        endpoint: what to compare.
        days: compare only the windows of this many last local days, today included; None compares
            all that loads have covered. A snapshot is always compared whole; an aggregate by day up
            to yesterday, as today's is not final; a child list for a sample of the parents that are
            up to date.
        deep: also read the export feed, if there is one, and compare what only the feed serves.

    Raises:
        ServiceTitanError: it could not be read.
        WarehouseError: there is no warehouse yet, or another process holds it.
    """
    now, strategy = _read_server_time(context), strategy_for(endpoint)
    table = find_table(context, endpoint, max(now, context.now()))
    if table is None:
        return Verified(table=endpoint.table, problem="there is no such table yet: load it first")
    parents = None
    if isinstance(strategy, ChildList):
        strategy, live = choose_sample(context, strategy)
        parents = (len(strategy.batch.parents), live)
    reads = list(strategy.plan_verify(days, table.first_day, now, context.timezone))
    loaded = [limit(read, table.covered_from) for read in reads]
    found = [_Part(context, strategy, read, now, deep=deep).verify() for read in loaded]
    since = None
    if table.covered_from and loaded != reads:
        since = first_whole_day(table.covered_from, context.timezone)
    return sum(found, Verified(table=endpoint.table, parents=parents, since=since))


def _read_server_time(context: SyncContext) -> datetime:
    """ServiceTitan's time, which the windows end at: our clock may be behind."""
    learn_server_time(context)
    return context.client.server_time() or context.now()


class _Part:
    """One reading, its comparison, and the second look at what differs."""

    def __init__(
        self,
        context: SyncContext,
        strategy: Strategy,
        read: PlannedRead,
        now: datetime,
        *,
        deep: bool,
    ) -> None:
        self._context = context
        self._given = self._strategy = strategy  # `_strategy` becomes that of the opened reading
        self._endpoint = strategy.endpoint
        self._window = read.window
        self._spec = context.spec(strategy.endpoint, read, now)
        self._deep = deep
        self._stats = ReadStats()

    def verify(self) -> Verified:
        """Reads and compares, and checks once more what differs."""
        with self._opened(), self._staged() as records:
            self._read(records, self._window)
            columns = self._columns()
            found = self._compare(records.rows, columns)
            controls = self._choose_controls(records.rows, found)
        confirmed = self._confirm(found, columns, controls) if found.differences else ()
        exported = tuple(sorted(export_only_columns(self._endpoint)))
        of_feed = self._verify_export(exported) if self._deep and exported else ()
        return Verified(
            table=self._endpoint.table,
            rows_here=found.rows_here,
            rows_there=found.rows_there,
            differences=confirmed + of_feed,
            changed_meanwhile=len(found.differences) - len(confirmed),
            reordered=found.reordered,
            values=bool(found.matched or (found.rows_there and not self._endpoint.has_key)),
            not_compared=() if self._deep else exported,
            requests=self._stats.requests,
        )

    def _choose_controls(self, rows: TypedRows, found: Compared) -> Controls:
        """Ids that the table and the source have, for the lookup of those that differ."""
        if not self._endpoint.can_look_up:
            return Controls()
        differing = {difference.key for difference in found.differences}
        ids = rows.connection.execute(f"SELECT id FROM {rows.name} WHERE id IS NOT NULL").fetchall()
        return Controls(known=tuple(id_ for (id_,) in ids if str(id_) not in differing))

    def _verify_export(self, columns: Sequence[str]) -> tuple[Difference, ...]:
        """Reads the feed and compares columns that only it serves; a second time what differs."""
        found = self._compare_export(columns)
        if not found:
            return ()
        again = {difference.identity for difference in self._compare_export(columns)}
        return tuple(difference for difference in found if difference.identity in again)

    def _compare_export(self, columns: Sequence[str]) -> tuple[Difference, ...]:
        start, stats = self._window.start if self._window else None, ReadStats()
        with self._staged() as records:
            session = self._context.client.session(stats)
            for page in read_feed(session, self._endpoint, start):
                if page.count:
                    records.add(page.records, page.rows)
            records.finish()
            self._stats.add(requests=stats.requests)
            load = TableLoad(records.rows.connection, self._endpoint, self._spec)
            with (
                self._context.warehouse.attach(load.connection, "verify"),
                fitted_to_table(load) as load,
            ):
                return Comparison(load, columns=columns).run_same_versions().differences

    def _confirm(
        self, found: Compared, columns: Sequence[str], controls: Controls
    ) -> tuple[Difference, ...]:
        suspects = {difference.key for difference in found.differences}
        with self._opened(), self._staged() as records:
            if not self._look_up(suspects, records, controls):
                records.return_to(0)
                now = _read_server_time(self._context)
                self._read(records, self._strategy.extend_to(self._window, now))
            again = self._compare(records.rows, columns, suspects)
        before = {difference.identity for difference in found.differences}
        return tuple(d for d in again.differences if d.identity in before)

    def _look_up(self, suspects: set[str], records: StagedRecords, controls: Controls) -> bool:
        """Stages the suspects by their ids; returns whether the result covers all of them."""
        if not self._endpoint.can_look_up or len(suspects) > MAX_LOOKUPS:
            return False
        if not all(key.lstrip("-").isdecimal() for key in suspects):
            return False
        ids, found = sorted(map(int, suspects)), set[int]()
        session = self._context.client.session(self._stats)
        for result in look_up(session, self._endpoint, ids, controls=controls):
            found |= result.gone
            for page in result.records:
                records.add(page)
        records.finish()
        rows = records.rows.connection.execute("SELECT id FROM staged").fetchall()
        return found.union(row[0] for row in rows) >= set(ids)

    @contextmanager
    def _opened(self) -> Iterator[None]:
        """Lets the strategy find the columns, where only a reading tells them."""
        opened = self._given.open_reading(self._context.client, self._context.warehouse, self._spec)
        with opened as reading:
            self._strategy, self._endpoint = reading.strategy, reading.strategy.endpoint
            yield

    def _read(self, records: StagedRecords, window: Window | None) -> None:
        stats = stage(self._context.client, self._strategy, window, records)
        self._stats.add(requests=stats.requests)
        if isinstance(self._strategy, ChildList) and self._strategy.batch.failures:
            raise self._strategy.batch.failures[0]
        records.finish()

    def _compare(
        self, rows: TypedRows, columns: Sequence[str], among: set[str] | None = None
    ) -> Compared:
        load = TableLoad(rows.connection, self._endpoint, self._spec)
        if (parents := self._strategy.parents_read) is not None:
            stage_parents(rows.connection, parents)
        with (
            self._context.warehouse.attach(rows.connection, "verify"),
            fitted_to_table(load) as load,
        ):
            until = read_last_load(load)
            return Comparison(load, columns=columns, last_load=until).run(among)

    def _columns(self) -> list[str]:
        """The columns to compare: all that the list serves."""
        exported = export_only_columns(self._endpoint)
        names = (field.column for field in self._endpoint.row_fields)
        return [*(name for name in names if name not in exported), EXTRA]

    def _staged(self) -> AbstractContextManager[StagedRecords]:
        name = f"verify-{self._endpoint.table}"
        return staged_records(self._context.warehouse, self._endpoint, self._spec, name=name)
