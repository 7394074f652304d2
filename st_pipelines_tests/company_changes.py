"""Changes a sandbox's records one at a time, in every way that a load has to cope with."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from st_pipelines.catalog.model import Endpoint, Scalar
from st_pipelines.sandbox import ticks
from st_pipelines.sandbox.table import Table
from st_pipelines.sandbox.world import World
from st_pipelines.windows import local_day, midnight

Change = tuple[str, int, int]
"""A kind (one of `CHANGES`), the index of a record, and a number that varies the change."""

CHANGES = (
    "create",
    "change",
    "change",
    "silent",
    "late",
    "late_create",
    "tie",
    "deactivate",
    "delete",
    "delete",
    "revive",
    "revive",
    "wait",
    "midnight",
)
"""Kinds of changes, the likelier ones more than once.

`silent` leaves the time of modification as it is, and the late ones are committed up to 59 minutes
after it.
"""

_WAITS = (1, 7, 30, 55, 65, 180, 400, 720, 1440, 3000)
"""Minutes."""
_AROUND_MIDNIGHT = (-2, 2, 20, 30, 50, 90)
"""Minutes."""


def apply_change(world: World, endpoint: Endpoint, change: Change, timezone: str) -> None:
    """Changes the company, a moment after its previous change. Hold the world's lock.

    Args:
        world: holds the table.
        endpoint: of the table.
        change: what to do; nothing if there is no such record.
        timezone: whose midnight `midnight` waits for.
    """
    kind, which, number = change
    world.move(timedelta(seconds=1))
    if kind == "wait":
        world.move(timedelta(minutes=_WAITS[number % len(_WAITS)]))
    elif kind == "midnight":
        _wait_for_midnight(world, _AROUND_MIDNIGHT[number % len(_AROUND_MIDNIGHT)], timezone)
    else:
        table = world.table(endpoint.table)
        position = _choose_position(table, kind, which)
        _Changer(world, endpoint, table, position, number).apply(kind)


def _choose_position(table: Table, kind: str, which: int) -> int | None:
    """A deleted record to revive, or else every second time one that changed lately."""
    if kind == "revive" and table.deleted:
        return sorted(table.deleted)[which % len(table.deleted)]
    if which % 2:
        return which % len(table.keys) if table.keys else None
    alive = sorted(table.find_alive(), key=lambda at: table.modified[at])[-4:]
    return alive[which // 2 % len(alive)] if alive else None


def _wait_for_midnight(world: World, minutes: int, timezone: str) -> None:
    day = local_day(world.now, timezone)
    moments = (midnight(day + timedelta(days=ahead), timezone) for ahead in (1, 2))
    around = [moment + timedelta(minutes=minutes) for moment in moments]
    world.now = next(moment for moment in around if moment > world.now)


def find_text_fields(endpoint: Endpoint) -> list[str]:
    """Up to two text fields that neither identify a record nor choose a variant."""
    special = {*endpoint.key, *(name for variant in endpoint.variants for name in variant)}
    exported = {f.name for f in endpoint.columns}
    return [
        f.name
        for f in endpoint.row_fields
        if f.name in exported and f.name not in special and f.type == Scalar("VARCHAR")
    ][:2]


def without_column(endpoint: Endpoint, name: str) -> Endpoint:
    """The endpoint in an older catalog, which does not know a column."""
    columns = tuple(column for column in endpoint.columns if column.name != name)
    return dataclasses.replace(endpoint, columns=columns)


def only_moving_columns(endpoint: Endpoint) -> Endpoint:
    """The endpoint with the columns that changes write and loads compare, for a fast scenario."""
    cursor = (endpoint.cursor or "modifiedOn").partition(".")[0]
    kept = {*endpoint.key, cursor, "active", *find_text_fields(endpoint)}
    kept |= {name for variant in endpoint.variants for name in variant}
    kept |= {*endpoint.export.adds} if endpoint.export else set()
    columns = tuple(column for column in endpoint.columns if column.name in kept)
    return dataclasses.replace(endpoint, columns=columns)


@dataclasses.dataclass(frozen=True)
class _Changer:
    world: World
    endpoint: Endpoint
    table: Table
    position: int | None
    number: int

    def apply(self, kind: str) -> None:
        if kind in ("create", "late_create"):
            late = self._earlier() if kind == "late_create" else None
            if self.table.keys:
                self.table.create(self._fields(late), self.world.now_ticks)
        elif self.position is not None:
            exists = self.position not in self.table.deleted
            if exists or kind == "revive":
                _BY_KIND[kind](self, self.position)

    def _earlier(self) -> datetime:
        return self.world.now - timedelta(minutes=self.number % 60, seconds=self.number)

    def _fields(self, moment: datetime | None = None) -> dict[str, Any]:
        """New values; `moment` is the time of modification, now if None."""
        fields: dict[str, Any] = {
            name: f"{name} {self.number}.{self.world.now_ticks}"
            for name in find_text_fields(self.endpoint)
        }
        cursor = self.endpoint.cursor or "modifiedOn"
        leaf = cursor.rpartition(".")[2]
        if leaf != "modifiedOn" or moment is not None:
            name = cursor if leaf != "modifiedOn" else leaf
            fields[name] = moment or self.world.now
        return fields

    def _set(self, position: int, fields: dict[str, Any]) -> None:
        self.table.change(position, fields, self.world.now_ticks)

    def change(self, position: int) -> None:
        self._set(position, self._fields())

    def silent(self, position: int) -> None:
        modified = ticks.to_datetime(self.table.modified[position])
        fields = self._fields(modified)
        if "modifiedOn" in fields:
            exact = ticks.format_iso(self.table.modified[position])
            self._set(position, {**fields, "modifiedOn": exact})

    def late(self, position: int) -> None:
        moment = self._earlier()
        if ticks.from_datetime(moment) > self.table.modified[position]:
            self._set(position, self._fields(moment))

    def tie(self, position: int) -> None:
        other = self.number % len(self.table.keys)
        for tied in {position, other} - self.table.deleted:
            self._set(tied, self._fields())

    def deactivate(self, position: int) -> None:
        self._set(position, {"active": False})

    def delete(self, position: int) -> None:
        if self.endpoint.kind != "feed":
            self.table.delete(position)

    def revive(self, position: int) -> None:
        self.table.revive(position, self.world.now_ticks)


_BY_KIND: Mapping[str, Callable[[_Changer, int], None]] = {
    "change": _Changer.change,
    "silent": _Changer.silent,
    "late": _Changer.late,
    "tie": _Changer.tie,
    "deactivate": _Changer.deactivate,
    "delete": _Changer.delete,
    "revive": _Changer.revive,
}
