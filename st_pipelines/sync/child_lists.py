"""Reads a child list: once for each row of another table, its parent.

A load reads the children of the parents that are due (`warehouse.tables.parents`), and replaces
what the table has of these parents and of no others. `children` decides which parents a load reads,
and cuts them into batches; each batch is a `ChildList` of its own here.

Imports neither DuckDB nor requests, because Dagster's definitions import it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from datetime import date, datetime
from typing import TYPE_CHECKING

from st_pipelines.servicetitan.http.model import ReadStats
from st_pipelines.sync.strategy import PlannedRead, ReadPart, Strategy
from st_pipelines.warehouse.load_spec import MergeMode
from st_pipelines.windows import Window

if TYPE_CHECKING:
    from st_pipelines.servicetitan.errors.errors import ServiceTitanError
    from st_pipelines.servicetitan.http.client import Client
    from st_pipelines.servicetitan.reading.children import Children
    from st_pipelines.servicetitan.reading.page_source import Page
    from st_pipelines.warehouse.tables.parents import ParentRead, ParentRow

MAX_FAILED_PARENTS = 3
"""With more of them the fault is not theirs, and reading on would only wait for more retries."""

ROWS_PER_PAGE = 1000
"""Children of many parents are staged together: most parents have only a few."""


@dataclasses.dataclass(kw_only=True)
class ParentBatch:
    """Parents whose children are loaded in one transaction, and what reading them has shown.

    Attributes:
        parents: to read, in this order.
        control: a parent whose children were served before. Where ServiceTitan knows none of the
            parents, it tells whether the path is wrong; None where there is none.
        read: the parents that were read, each of them completely.
        failures: why others could not be read.
        ended: reading on would not help, so that the rest of the batch was left out.
    """

    parents: Sequence[ParentRow] = ()
    control: ParentRow | None = None
    read: list[ParentRead] = dataclasses.field(default_factory=list)
    failures: list[ServiceTitanError] = dataclasses.field(default_factory=list)
    ended: bool = False

    @property
    def not_found(self) -> int:
        """The number of parents that ServiceTitan does not know."""
        return sum(not read.found for read in self.read)


@dataclasses.dataclass(frozen=True)
class ChildList(Strategy):
    """A list that needs the ids of a parent.

    Attributes:
        batch: the parents to read.
    """

    batch: ParentBatch = dataclasses.field(default_factory=ParentBatch)

    partitioned = False
    can_probe = False

    @property
    def description(self) -> str:
        """For each parent that has changed."""
        parent = self.endpoint.parent
        assert parent is not None
        if parent.every_load:
            return f"Read for every row of `{parent.table}` after each load of that table."
        return f"Read for each row of `{parent.table}` that has changed since."

    @property
    def can_follow_up(self) -> bool:
        """Never: what a parent does not have any more is gone."""
        return False

    @property
    def parents_read(self) -> Sequence[ParentRead]:
        """The parents whose children the last read has served."""
        return self.batch.read

    def for_batch(self, batch: ParentBatch) -> ChildList:
        """The same list for some parents."""
        return dataclasses.replace(self, batch=batch)

    def plan(self, days: object, clock: Callable[[], datetime]) -> Iterator[PlannedRead]:
        """One read of the batch, whatever the days."""
        yield PlannedRead(window=None, mode=MergeMode.REPLACE_CHILDREN)

    def plan_reconcile(self, clock: Callable[[], datetime]) -> Iterator[PlannedRead]:
        """The same as a load."""
        return self.plan(None, clock)

    def plan_verify(
        self, last_days: int | None, first_loaded: date | None, now: datetime, timezone: str
    ) -> Iterator[PlannedRead]:
        """The same as a load, whatever the number of days."""
        return self.plan(None, lambda: now)

    def read(self, client: Client, window: Window | None) -> Iterator[ReadPart]:
        """Yields the children of the batch as one part, and fills its `read` and `failures`."""
        stats = ReadStats(total=0)
        self.batch.read.clear()
        self.batch.failures.clear()
        self.batch.ended = False
        yield ReadPart(stats=stats, pages=self._read_pages(client, stats))

    def _read_pages(self, client: Client, stats: ReadStats) -> Iterator[Page]:
        """Yields pages of the children of whole parents."""
        from st_pipelines.servicetitan.reading.page_source import Page

        rows = []
        for children in self._read_children(client, stats):
            rows += children.rows
            if len(rows) >= ROWS_PER_PAGE:
                yield Page(reading=1, rows=rows)
                rows = []
        if rows or not self.batch.read:
            yield Page(reading=1, rows=rows)

    def _read_children(self, client: Client, stats: ReadStats) -> Iterator[Children]:
        """Yields the children of the parents that could be read."""
        batch, missing = self.batch, None
        with closing(self._request(client, stats)) as found:
            for children in found:
                if children.error is not None and children.found:
                    batch.failures.append(children.error)
                    if len(batch.failures) > MAX_FAILED_PARENTS:
                        batch.ended = True
                        break
                    continue
                missing = missing or children.error
                self._note(children)
                yield children
        if missing is not None and batch.not_found == len(batch.read):
            self._check_control(client, stats, missing)

    def _request(self, client: Client, stats: ReadStats) -> Generator[Children, None, None]:
        """Yields the children of the batch, up to an error that would end any further request.

        What was read before such an error is loaded all the same.
        """
        from st_pipelines.servicetitan.errors.errors import ServiceTitanError
        from st_pipelines.servicetitan.reading import children as reading

        assert self.endpoint.parent is not None
        ids = [parent.ids for parent in self.batch.parents]
        # Few parents have many children each, which are in memory until their turn.
        few = self.endpoint.parent.every_load
        found = reading.read_children(
            client.session(stats),
            self.endpoint,
            ids,
            concurrency=reading.FEW_IN_FLIGHT if few else reading.MANY_IN_FLIGHT,
        )
        try:
            with closing(found):
                for children in found:
                    _add(stats, children.stats)
                    yield children
        except ServiceTitanError as error:
            self.batch.failures.append(error)
            self.batch.ended = True

    def _note(self, children: Children) -> None:
        from st_pipelines.warehouse.tables.parents import ParentRead

        for position in children.parents:
            parent = self.batch.parents[position]
            self.batch.read.append(ParentRead(parent=parent, found=children.found))

    def _check_control(self, client: Client, stats: ReadStats, missing: ServiceTitanError) -> None:
        """Checks that ServiceTitan knows another parent, as it knows none of the batch.

        Raises:
            ServiceTitanError: `missing`, if it does not. Without a control it is raised too, unless
                each parent has at most one child: that it has none may well be a 404.
        """
        from st_pipelines.servicetitan.reading.children import read_children

        if self.batch.control is None:
            if self.endpoint.envelope not in ("object", "value"):
                raise missing
            return
        session = client.session(stats)
        for children in read_children(session, self.endpoint, [self.batch.control.ids]):
            stats.add_usage(children.stats)
            if not children.found:
                raise missing


def _add(stats: ReadStats, more: ReadStats) -> None:
    stats.add_usage(more)
    stats.readings = max(stats.readings, more.readings)
    stats.records += more.records
    stats.page_size = more.page_size
    known = None not in (stats.total, more.total)
    stats.total = (stats.total or 0) + (more.total or 0) if known else None
