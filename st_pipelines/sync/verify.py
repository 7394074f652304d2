"""Is a table what ServiceTitan has? Reads the source as a load does, and compares instead of loads.

The window is closed at the moment of starting. What then looks different is looked at once more,
by `ids` where the endpoint takes them, else by another reading up to the present: only what is
different both times, in a record that did not change meanwhile, is a difference. Nothing is
written to the warehouse, which is open only while it is compared.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import date, datetime, timedelta, timezone
from pathlib import Path

import duckdb
import msgspec

from st_pipelines.catalog.model import Endpoint, snake_case
from st_pipelines.servicetitan.reading.lookup import look_up
from st_pipelines.servicetitan.reading.stats import ReadStats
from st_pipelines.sync.sync import SyncContext, stage
from st_pipelines.warehouse.columns import EXTRA
from st_pipelines.warehouse.errors import WarehouseUnusable
from st_pipelines.warehouse.staging.stage import Staging
from st_pipelines.warehouse.staging.typed_rows import LoadSpec, TypedRows
from st_pipelines.warehouse.tables.compare import (
    Compared,
    Comparison,
    Difference,
    first_day,
    last_load,
)
from st_pipelines.warehouse.tables.load import Typed, staged
from st_pipelines.warehouse.tables.row_scope import only_exported
from st_pipelines.warehouse.tables.schema import has_table
from st_pipelines.warehouse.tables.table_state import can_look_up
from st_pipelines.windows import Days, Window, local_day

MOST_LOOKED_UP = 1000
"""Of more suspicious records another reading costs less than asking for them by their ids."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verified:
    """What came of comparing one table.

    Attributes:
        table: `api.name`.
        rows_here, rows_there: of the table and of the source, in what was compared.
        differences: confirmed by a second look.
        changed_meanwhile: differences that the second look did not confirm.
        requests: data requests sent.
        problem: why it could not be compared; empty where it could.
    """

    table: str
    rows_here: int = 0
    rows_there: int = 0
    differences: tuple[Difference, ...] = ()
    changed_meanwhile: int = 0
    requests: int = 0
    problem: str = ""

    @property
    def same(self) -> bool:
        """Whether it was compared and nothing differs."""
        return not self.differences and not self.problem

    def count(self, kind: str) -> int:
        """How many rows differ in that way."""
        return len({d.key for d in self.differences if d.kind == kind})

    def __add__(self, other: Verified) -> Verified:
        """Of two parts of one table."""
        return Verified(
            table=self.table,
            rows_here=self.rows_here + other.rows_here,
            rows_there=self.rows_there + other.rows_there,
            differences=self.differences + other.differences,
            changed_meanwhile=self.changed_meanwhile + other.changed_meanwhile,
            requests=self.requests + other.requests,
            problem=self.problem or other.problem,
        )


def verify_table(job: SyncContext, endpoint: Endpoint, *, days: int | None, deep: bool) -> Verified:
    """Compares one table with the source.

    Args:
        job: client, warehouse, time zone.
        endpoint: what to compare.
        days: only windows of so many last local days, today included; None compares everything.
            A snapshot is always compared as a whole; an aggregate by day up to yesterday, as
            today's is not final.
        deep: compare the values of every column, and not only keys and cursors.

    Raises:
        ServiceTitanError: it could not be read.
        WarehouseError: there is no warehouse yet, or another process holds it.
    """
    now = datetime.now(timezone.utc)
    loaded = _loaded(job, endpoint, now)
    if loaded is None:
        return Verified(table=endpoint.table, problem="there is no such table yet: load it first")
    parts = _parts(job, endpoint, loaded, days, now)
    found = [_Part(job, endpoint, load, window, deep=deep).verify() for load, window in parts]
    return sum(found, Verified(table=endpoint.table))


@dataclasses.dataclass(frozen=True, kw_only=True)
class _LoadedTable:
    first_day: date | None


def _loaded(job: SyncContext, endpoint: Endpoint, now: datetime) -> _LoadedTable | None:
    """What is known of the table before anything is read; None where there is none."""
    if not job.warehouse.exists:
        raise WarehouseUnusable(
            f"warehouse {job.warehouse.name} is not there yet: load something into it first, or "
            "set ST_WAREHOUSE_DIR to the folder that it is in"
        )
    with duckdb.connect() as connection, job.warehouse.attach(connection, "verify"):
        if not has_table(connection, endpoint.api, endpoint.name):
            return None
        load = job.load_of(None, now, now.date())
        return _LoadedTable(first_day=first_day(connection, endpoint, load))


def _parts(
    job: SyncContext, endpoint: Endpoint, loaded: _LoadedTable, days: int | None, now: datetime
) -> Iterator[tuple[LoadSpec, Window | None]]:
    """What is read and compared at a time: all of it, but an aggregate by day each day alone."""
    today = local_day(now, job.timezone)
    if endpoint.by_day:
        first = loaded.first_day or today - timedelta(days=days or 0)
        first = max(first, today - timedelta(days=days)) if days else first
        last = today - timedelta(days=1)
        for day in _range(first, last, job.timezone):
            window = day.window(now)
            yield job.load_of(window, now, day.last), window
    elif not endpoint.partitioned:
        yield job.load_of(None, now, today), None
    else:
        first = today if days is None else today - timedelta(days=days - 1)
        wanted = Days(first=first, last=today, timezone=job.timezone, open_start=days is None)
        window = wanted.window(now)
        yield job.load_of(window, now, today), window


def _range(first: date, last: date, zone: str) -> Iterator[Days]:
    if first <= last:
        yield from Days(first=first, last=last, timezone=zone)


class _Part:
    """One reading, its comparison, and the second look."""

    def __init__(
        self,
        job: SyncContext,
        endpoint: Endpoint,
        load: LoadSpec,
        window: Window | None,
        *,
        deep: bool,
    ) -> None:
        self._job = job
        self._endpoint = endpoint
        self._load = load
        self._window = window
        self._deep = deep
        self._stats = ReadStats()

    def verify(self) -> Verified:
        """Reads and compares; looks again at what differs."""
        with self._staged() as listed:
            self._read(listed, self._window)
            columns = self._columns(listed.staging)
            found = self._compare(listed.rows, columns)
        confirmed = self._confirmed(found, columns) if found.differences else ()
        return Verified(
            table=self._endpoint.table,
            rows_here=found.rows_here,
            rows_there=found.rows_there,
            differences=confirmed,
            changed_meanwhile=len(found.differences) - len(confirmed),
            requests=self._stats.requests,
        )

    def _confirmed(self, found: Compared, columns: Sequence[str]) -> tuple[Difference, ...]:
        suspects = {difference.key for difference in found.differences}
        with self._staged() as listed:
            if not self._looked_up(suspects, listed):
                listed.return_to(0)
                self._read(listed, self._until_now())
            again = self._compare(listed.rows, columns, suspects)
        before = {difference.row for difference in found.differences}
        return tuple(d for d in again.differences if d.row in before)

    def _looked_up(self, suspects: set[str], listed: Typed) -> bool:
        """Stages the suspects by their ids; whether each of them was answered for."""
        if not can_look_up(self._endpoint) or len(suspects) > MOST_LOOKED_UP:
            return False
        if not all(key.lstrip("-").isdecimal() for key in suspects):
            return False
        ids, answered = sorted(map(int, suspects)), set[int]()
        for answer in look_up(
            self._job.client.session(self._stats), self._endpoint, ids, control_id=None
        ):
            answered |= answer.gone
            for records in answer.records:
                listed.add(records)
        listed.finish()
        rows = listed.rows.connection.execute("SELECT id FROM staged").fetchall()
        return answered.union(row[0] for row in rows) >= set(ids)

    def _until_now(self) -> Window | None:
        """The window up to the present, as a record that changed since has left the first one."""
        if self._window is None or self._endpoint.by_day:
            return self._window
        return dataclasses.replace(self._window, end=datetime.now(timezone.utc))

    def _read(self, listed: Typed, window: Window | None) -> None:
        stats = stage(self._job.client, window, listed)
        self._stats.add(requests=stats.requests)
        listed.finish()

    def _compare(
        self, typed: TypedRows, columns: Sequence[str], among: set[str] | None = None
    ) -> Compared:
        connection, endpoint, load = typed.connection, self._endpoint, self._load
        with self._job.warehouse.attach(connection, "verify"):
            until = last_load(connection, endpoint, load)
            comparison = Comparison(connection, endpoint, load, columns=columns, last_load=until)
            return comparison.run(among)

    def _columns(self, staging: Staging) -> list[str]:
        """The columns to compare: those that the reading can tell of."""
        endpoint = self._endpoint
        if endpoint.key and not self._deep:
            return [snake_case(endpoint.cursor.split(".")[0])] if endpoint.cursor else []
        served = _served_names(staging.files)
        exported = only_exported(endpoint)
        columns = [
            field.column
            for field in endpoint.row_fields
            if field.name in served and field.column not in exported
        ]
        # A row keeps what its export told in `_extra`, which a list cannot know.
        listed_only = endpoint.export is None or endpoint.kind == "feed"
        return [*columns, EXTRA] if listed_only else columns

    def _staged(self) -> AbstractContextManager[Typed]:
        name = f"verify-{self._endpoint.table}"
        return staged(self._job.warehouse, self._endpoint, self._load, name=name)


_names = msgspec.json.Decoder(list[dict[str, msgspec.Raw]]).decode


def _served_names(files: Sequence[Path]) -> set[str]:
    """The names of all members that occur in staged records, whatever their value."""
    names: set[str] = set()
    for file in files:
        for record in _names(file.read_bytes()):
            names |= record.keys()
    return names
