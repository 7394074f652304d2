"""Remembers every version of every record of a sandbox's table, and when it was served.

A history is a sequence of steps; each change of the company begins one. What a load may have seen
are the versions in effect between the steps at which it began and ended.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from st_pipelines.catalog.model import Endpoint
from st_pipelines.sandbox.projection import find_projection
from st_pipelines.sandbox.table import Table
from st_pipelines.sandbox.world import World
from st_pipelines_tests.churn_reader import build_rows, parse_records, parse_timestamp, render_cell

Key = Any
"""What identifies an item: the values of the key's columns, or without a key the whole row."""

Cells = tuple[str, ...]
"""A row as text, one for each of the endpoint's `row_fields`."""


@dataclass(frozen=True, kw_only=True)
class Version:
    """What the source served of an item from a step on.

    Attributes:
        step: the first at which it was in effect.
        cells: the row; of an item that is not served, those it had last.
        cursor: UTC; None for a row without one.
        count: how many such rows there were; 0 while the item was not served.
        active: whether the record was not inactive.
        served_at: the source's time of `step`, aware.
    """

    step: int
    cells: Cells
    cursor: datetime | None
    count: int
    active: bool
    served_at: datetime


@dataclass(frozen=True, kw_only=True)
class _Row:
    key: Key
    cells: Cells
    cursor: datetime | None
    active: bool


class SourceHistory:
    """All versions of the items of one table.

    Attributes:
        step: number of the present step.
        versions: of each item that was ever served, oldest first.
        latest_cursor: the latest cursor that was ever served.
    """

    def __init__(self, world: World, endpoint: Endpoint) -> None:
        self.step = 0
        self.versions: dict[Key, list[Version]] = defaultdict(list)
        self.latest_cursor: datetime | None = None
        self._world = world
        self._endpoint = endpoint
        self._signatures: dict[int, tuple[int, bool]] = {}
        self._rows: dict[int, list[_Row]] = {}
        self._counts: Counter[Key] = Counter()
        self.observe()

    def observe(self) -> None:
        """Begins a step with whatever has changed. Records that are only hidden still count."""
        table = self._world.table(self._endpoint.table)
        self.step += 1
        changed: dict[Key, _Row] = {}
        for position, stamp in enumerate(table.stamps):
            signature = (stamp, position in table.deleted)
            if self._signatures.get(position) == signature:
                continue
            self._signatures[position] = signature
            rows = [] if signature[1] else self._read(table, position)
            for gone in self._rows.get(position, ()):
                self._counts[gone.key] -= 1
                changed[gone.key] = gone
            for row in rows:
                self._counts[row.key] += 1
                changed[row.key] = row
            self._rows[position] = rows
        for key, row in changed.items():
            self._add(key, row)

    def _read(self, table: Table, position: int) -> list[_Row]:
        path = self._endpoint.export.path if self._endpoint.export else self._endpoint.path
        active = table.active[position]
        served = find_projection(path)(table.raws[position], active=active, draw=position)
        records = parse_records(self._endpoint, [served])
        rows = build_rows(records, self._endpoint.row_fields)
        return [
            self._describe(record, tuple(map(render_cell, row)), active)
            for record, row in zip(records, rows, strict=True)
        ]

    def _describe(self, record: dict[str, Any], cells: Cells, active: bool) -> _Row:
        endpoint, value = self._endpoint, record
        for part in (endpoint.cursor or "").split("."):
            value = value.get(part) if isinstance(value, dict) else None
        cursor = parse_timestamp(value) if isinstance(value, str) else None
        if cursor and (self.latest_cursor is None or cursor > self.latest_cursor):
            self.latest_cursor = cursor
        return _Row(key=find_key(endpoint, cells), cells=cells, cursor=cursor, active=active)

    def _add(self, key: Key, row: _Row) -> None:
        version = Version(
            step=self.step,
            cells=row.cells,
            cursor=row.cursor,
            count=self._counts[key],
            active=row.active,
            served_at=self._world.now,
        )
        before = self.versions[key][-1:]
        if before and (before[0].cells, before[0].count) == (version.cells, version.count):
            return
        self.versions[key].append(version)

    def find_keys(self, positions: Iterable[int]) -> set[Key]:
        """The items at some positions of the sandbox's table."""
        return {row.key for position in positions for row in self._rows.get(position, ())}

    def find_during(self, key: Key, first: int, last: int | None = None) -> Sequence[Version]:
        """The versions of an item in effect at some step from `first` to `last` (the present).

        Before an item existed, nothing of it was served: that is a version too.
        """
        versions = self.versions[key]
        begun = [v for v in versions if v.step <= first]
        later = [v for v in versions if v.step > first and (last is None or v.step <= last)]
        return [begun[-1] if begun else _not_yet(versions[0]), *later]


def find_key(endpoint: Endpoint, cells: Cells) -> Key:
    """What identifies a row: its key's cells, or all of them."""
    if not endpoint.key:
        return cells
    names = [field.name for field in endpoint.row_fields]
    return tuple(cells[names.index(name)] for name in endpoint.key)


def _not_yet(first: Version) -> Version:
    return Version(
        step=0,
        cells=first.cells,
        cursor=first.cursor,
        count=0,
        active=first.active,
        served_at=first.served_at,
    )
