"""Holds the records of one tenant, at a simulated time that only moves forward."""

from __future__ import annotations

import gc
import json
import random
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

from st_pipelines.catalog.specification import ApiSpecification, Schema
from st_pipelines.sandbox import records, ticks
from st_pipelines.sandbox.collections import Collection, load_collections, resolve_members
from st_pipelines.sandbox.company import Company
from st_pipelines.sandbox.filler import Filler, find_filter_enums
from st_pipelines.sandbox.generic import build_generic_story
from st_pipelines.sandbox.projection import Projection, build_projection, find_projection
from st_pipelines.sandbox.records import ObjectTemplate, Writer
from st_pipelines.sandbox.references import References
from st_pipelines.sandbox.scalars import Draw
from st_pipelines.sandbox.stories.story import Story
from st_pipelines.sandbox.story_index import STORIES
from st_pipelines.sandbox.table import Key, Table

PERFORMANCE_ROWS = 12
"""Rows of marketing performance per window."""


class World:
    """The records of a simulated company, by table. A table is built when it is first requested.

    Equal arguments make equal worlds. All methods hold `lock`, so a test may use the world from its
    own thread while the server answers requests.

    Args:
        seed: decides all random choices.
        customers: approximate number of customers at `now`.
        history_days: how long the company has existed at `now`.
        now: the simulated time (aware); the real time if None.
    """

    def __init__(
        self,
        *,
        seed: int = 7,
        customers: int = 2000,
        history_days: int = 730,
        now: datetime | None = None,
    ) -> None:
        self.seed = seed
        self.lock = threading.RLock()
        self._now = ticks.from_datetime(now or datetime.now(timezone.utc))
        self._day = self._now - self._now % ticks.DAY
        with _pause_garbage_collection():
            self._company = Company(
                seed=seed, customers=customers, history_days=history_days, now=self._now
            )
        self._references = References(
            collections=load_collections(),
            company=self._company,
            now=self._day,
            stories=STORIES,
        )
        self._tables: dict[str, Table] = {}
        self._projections: dict[str, Projection] = {}

    @property
    def now(self) -> datetime:
        """The simulated time, in UTC. Assigning a later time calls `set_now`."""
        return ticks.to_datetime(self._now)

    @now.setter
    def now(self, moment: datetime) -> None:
        self.set_now(moment)

    @property
    def company(self) -> Company:
        """The plan that the records are rendered from."""
        return self._company

    @property
    def now_ticks(self) -> int:
        """The simulated time in ticks of 100 ns."""
        return self._now

    def set_now(self, moment: datetime) -> None:
        """Move time to `moment` (aware) and apply all changes planned until then.

        Raises:
            ValueError: `moment` is before the current simulated time.
        """
        target = ticks.from_datetime(moment)
        with self.lock:
            if target < self._now:
                raise ValueError(f"time only moves forward: {moment} is before {self.now}")
            self._now = target
            self._company.extend(target)
            for table in self._tables.values():
                table.advance(target)

    def move(self, delta: timedelta) -> None:
        """Move time forward by `delta`."""
        self.set_now(self.now + delta)

    def table(self, name: str) -> Table:
        """Return the table `api.name`, as of the simulated time.

        Raises:
            KeyError: there is no such collection.
        """
        with self.lock:
            if name not in self._tables:
                self._tables[name] = self._build_table(name)
            return self._tables[name]

    def _build_table(self, name: str) -> Table:
        collection = load_collections()[name]
        story = STORIES.get(name) or build_generic_story(
            collection, self._company, self.build_filler(collection), self.seed
        )
        table = self.build_table(collection, story)
        with _pause_garbage_collection():
            table.advance(self._now)
        return table

    def build_table(self, collection: Collection, story: Story) -> Table:
        """Build a table that this world does not keep, with the records of `story`."""
        # Generated times depend only on the day of the start. Worlds that reach the same time in
        # different steps are equal, and a restart on the same day repeats the earlier records.
        filler = self.build_filler(collection)
        writer = Writer(collection, story, filler, seed=self.seed, anchor=self._day)
        return Table(collection, self._company, story, writer)

    def build_filler(self, collection: Collection) -> Filler:
        """Build a filler for a collection's records that refers to this world's records."""
        enums = find_filter_enums(collection)
        return Filler(collection.specification, collection.name, self._references, enums)

    def build_operation_filler(self, api: ApiSpecification, path: str) -> Filler:
        """Build a filler for the body of the operation at `path`."""
        return Filler(api, path, self._references)

    def build_template(self, api: ApiSpecification, path: str, schema: Schema) -> ObjectTemplate:
        """Build a template that completes objects of `schema` for the operation at `path`."""
        return ObjectTemplate(
            api,
            resolve_members(api, schema),
            self.build_operation_filler(api, path),
            seed=f"{self.seed}:{path}",
            anchor=self._day,
        )

    def find_projection(self, path: str) -> Projection:
        """Return the projection to the shape that the list or export at `path` serves.

        Raises:
            KeyError: no operation at this path lists records.
        """
        if path not in self._projections:
            self._projections[path] = build_projection(path, self.build_template)
        return self._projections[path]

    def compute_performance(self, values: Mapping[str, Any]) -> list[bytes]:
        """Compute the rows of marketing performance for a window. Equal windows get equal rows.

        Args:
            values: `fromUtc`, `toUtc` (ticks) and `performanceSegmentationType`.
        """
        collection = load_collections()["marketing_ads.performance"]
        filler = self.build_filler(collection)
        window = [values[n] for n in ("performanceSegmentationType", "fromUtc", "toUtc")]
        rng = random.Random(f"{self.seed}:performance:{window}")
        rows = (
            filler.generate(collection.record, Draw(rng=rng, moment=self._day))
            for _ in range(PERFORMANCE_ROWS)
        )
        return [records.encode(row) for row in rows]

    def count_records(self) -> dict[str, int]:
        """Return the number of records of each table that was requested so far."""
        with self.lock:
            return {name: len(list(table.find_alive())) for name, table in self._tables.items()}

    def raw(self, table: str) -> list[bytes]:
        """Return the JSON text of a list's records, even inactive ones, in order of creation."""
        with self.lock:
            held = self.table(table)
            return [held.raws[position] for position in held.find_alive()]

    def export_raw(self, table: str) -> list[bytes]:
        """Return the JSON text of all records as the export serves them, in order of creation."""
        with self.lock:
            held = self.table(table)
            operations = held.collection.exports or held.collection.lists
            project = find_projection(operations[0].path)
            return [
                project(held.raws[position], active=held.active[position], draw=position)
                for position in held.find_alive()
            ]

    def records(self, table: str, *, exact: bool = False) -> list[dict[str, Any]]:
        """Return all records of a list as parsed JSON; `exact` parses decimals as Decimal."""
        return list(_parse(self.raw(table), exact))

    def export_records(self, table: str, *, exact: bool = False) -> list[dict[str, Any]]:
        """Return all records as the export serves them, as parsed JSON; see `records`."""
        return list(_parse(self.export_raw(table), exact))

    def create(self, table: str, /, **fields: Any) -> Key:
        """Add a copy of the newest record with other `fields`, created now. Return its key."""
        with self.lock:
            return self.table(table).create(fields, self._now)

    def change(self, table: str, key: Key, /, **fields: Any) -> None:
        """Set fields of a record. `modifiedOn` becomes now unless it is among them."""
        with self.lock:
            held = self.table(table)
            held.change(held.find_position(key), fields, self._now)

    def deactivate(self, table: str, key: Key) -> None:
        """Make a record inactive, as deleting it in ServiceTitan does."""
        self.change(table, key, active=False)

    def delete(self, table: str, key: Key) -> None:
        """Remove a record from the list and the export."""
        with self.lock:
            held = self.table(table)
            held.delete(held.find_position(key))

    def revive(self, table: str, key: Key) -> None:
        """Restore a deleted or inactive record."""
        with self.lock:
            held = self.table(table)
            held.revive(held.find_position(key), self._now)


@contextmanager
def _pause_garbage_collection() -> Iterator[None]:
    """Turn off garbage collection: building millions of objects takes a quarter less time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _parse(raws: list[bytes], exact: bool) -> Iterator[dict[str, Any]]:
    for raw in raws:
        yield json.loads(raw, parse_float=Decimal) if exact else json.loads(raw)
