"""Holds the records of one collection: their JSON text, and the values that requests filter by."""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from st_pipelines.sandbox import records, ticks
from st_pipelines.sandbox.collections import Collection
from st_pipelines.sandbox.company import Company
from st_pipelines.sandbox.entities import Entity
from st_pipelines.sandbox.ids import make_text_key
from st_pipelines.sandbox.records import Members, Writer
from st_pipelines.sandbox.stories.story import Story

_NOT_CREATED = -1
"""The position of an entity that is planned but not yet created."""

MAX_CACHED = 50
"""Cached selections per table. Reading day by day would otherwise fill the memory."""

Key = Any
"""An id (int or text), a tuple of key fields, or the position of a record without a key."""


class Table:
    """The records of a collection, by position. The position of a record never changes.

    Attributes:
        raws: each record's JSON text, as the first list of the collection serves it.
        keys, created, modified, active, stamps: values by position. `stamps` are change numbers,
            which order records with equal `modifiedOn` in the export.
        deleted: positions of the records that are not served.
        hidden: positions of records that exist, but that responses leave out for now, see `hide`.
        version: grows with every change, which invalidates the cache.
    """

    def __init__(
        self, collection: Collection, company: Company, story: Story, writer: Writer
    ) -> None:
        self.collection = collection
        self.raws: list[bytes] = []
        self.keys: list[Key] = []
        self.created: list[int] = []
        self.modified: list[int] = []
        self.active: list[bool] = []
        self.stamps: list[int] = []
        self.entities: list[Entity | None] = []
        self.deleted: set[int] = set()
        self.hidden: frozenset[int] = frozenset()
        self.version = 0
        self._company = company
        self._story = story
        self._writer = writer
        self._entities_added = 0
        self._planned_until = -1
        self._last_created = 0
        self._pinned: set[int] = set()
        self._waiting: list[tuple[int, int, int, Entity]] = []
        self._overrides: dict[int, Members] = {}
        self._positions: dict[Key, int] = {}
        self._cache: dict[Any, Any] = {}
        self._cached_version = -1
        self._has_text_key = collection.has_text_key

    def advance(self, now: int) -> None:
        """Apply all planned changes up to `now` (ticks)."""
        if self._planned_until != self._company.next_day:
            self._add_planned_entities(now)
        while self._waiting and self._waiting[0][0] <= now:
            _, _, position, entity = heapq.heappop(self._waiting)
            self._apply_moments(entity, position, now)

    def _add_planned_entities(self, now: int) -> None:
        entities = self._story.entities(self._company)
        for entity in entities[self._entities_added :]:
            if entity.moments[0] <= now:
                self._apply_moments(entity, _NOT_CREATED, now)
            else:
                heapq.heappush(self._waiting, (entity.moments[0], entity.id, _NOT_CREATED, entity))
        self._entities_added = len(entities)
        self._planned_until = self._company.next_day

    def _apply_moments(self, entity: Entity, position: int, now: int) -> None:
        past = bisect_right(entity.moments, now)
        if position == _NOT_CREATED:
            position = self._append(entity.moments[0])
            self._assign_key(position, self._choose_key(entity, position))
            self.entities[position] = entity
        self.modified[position] = max(self.modified[position], entity.moments[past - 1])
        if position not in self._pinned:
            self.active[position] = records.is_active(entity, now)
        self._write(position, now)
        if past < len(entity.moments):
            heapq.heappush(self._waiting, (entity.moments[past], entity.id, position, entity))

    def _write(self, position: int, now: int) -> None:
        entity, changed = self.entities[position], self._overrides.get(position)
        if entity is not None:
            raw = self._writer.write(entity, self.keys[position], self.modified[position], now)
            self.raws[position] = raw
        if changed is not None:
            own = {**records.read_members(self.raws[position]), **changed}
            own.update(self._render_times(position, own))
            self.raws[position] = records.encode(own)
        self.version += 1
        self.stamps[position] = self.version

    def _render_times(self, position: int, own: Members) -> Members:
        """Render the members that hold the times of creation and modification."""
        created = records.to_raw(ticks.format_iso(self.created[position]))
        modified = records.to_raw(ticks.format_iso(self.modified[position]))
        times = {"createdOn": created, "modifiedOn": modified}
        parent, _, leaf = (self.collection.cursor or "").rpartition(".")
        if parent in own and leaf == "modifiedOn":
            inside = {**records.read_members(own[parent]), leaf: modified}
            times[parent] = msgspec.Raw(records.encode(inside))
        return {name: value for name, value in times.items() if name in own}

    def _append(self, moment: int) -> int:
        self.raws.append(b"{}")
        self.keys.append(len(self.keys))
        self.created.append(moment)
        self.modified.append(moment)
        self.active.append(True)
        self.stamps.append(0)
        self.entities.append(None)
        return len(self.keys) - 1

    def _assign_key(self, position: int, key: Key) -> None:
        self.keys[position] = key
        self._positions[key] = position

    def _choose_key(self, entity: Entity, position: int) -> Key:
        """Return the entity's key, or the next free id if it is used already."""
        key = self._derive_key(entity, position)
        if not isinstance(key, int) or self.collection.key != ("id",):
            return key
        # By `create`, or by an earlier entity whose own id `create` had used.
        is_taken = key <= self._last_created or key in self._positions
        return self._make_key(position) if is_taken else key

    def _derive_key(self, entity: Entity, position: int) -> Key:
        if self._has_text_key:
            if self._story.text_key:
                return self._story.text_key(entity)
            return make_text_key(self.collection.name, entity.draw, self._company.seed)
        if len(self.collection.key) == 1:
            return entity.id + self._story.offset
        return position

    def find_position(self, key: Key) -> int:
        """Return the position of the record with this key.

        Raises:
            KeyError: the table has no such record.
        """
        if len(self.collection.key) > 1:
            columns = (self.read_values(name) for name in self.collection.key)
            return list(zip(*columns, strict=True)).index(tuple(key))
        return self._positions[key]

    def create(self, fields: dict[str, Any], now: int) -> Key:
        """Add a copy of the newest record with other `fields`, created at `now`. Return its key."""
        newest = self.raws[-1] if self.raws else b"{}"
        position = self._append(now)
        own = records.read_members(newest)
        if self.collection.key == ("id",):
            key = fields.get("id", self._make_key(position))
            self._last_created = max(self._last_created, key if isinstance(key, int) else 0)
            own["id"] = records.to_raw(key)
        else:
            key = position
        self._assign_key(position, key)
        if self.collection.cursor in own:
            own[self.collection.cursor] = records.to_raw(ticks.format_iso(now))
        if "active" in own:
            own["active"] = msgspec.Raw(b"true")
        self._overrides[position] = own
        self.change(position, fields, now)
        return key

    def _make_key(self, position: int) -> Key:
        if self._has_text_key:
            return make_text_key(self.collection.name, -position, self._company.seed)
        numbers = [key for key in self.keys[:-1] if isinstance(key, int)]
        return max(numbers, default=1_000_000) + 1

    def change(self, position: int, fields: dict[str, Any], now: int) -> None:
        """Set fields of a record. `modifiedOn` becomes `now` unless it is among them."""
        given = {name: records.to_raw(value) for name, value in fields.items()}
        created, modified = given.pop("createdOn", None), given.pop("modifiedOn", None)
        if created is not None:
            self.created[position] = ticks.parse(msgspec.json.decode(created))
        self.modified[position] = ticks.parse(msgspec.json.decode(modified)) if modified else now
        if "active" in fields:
            self.active[position] = bool(fields["active"])
            self._pinned.add(position)
        if not self._writer.serves("active"):
            given.pop("active", None)
        self._overrides.setdefault(position, {}).update(given)
        self._write(position, now)

    def delete(self, position: int) -> None:
        """Stop serving a record, in the list and in the export."""
        self.deleted.add(position)
        self.version += 1

    def revive(self, position: int, now: int) -> None:
        """Serve a deleted or inactive record again, modified at `now`."""
        self.deleted.discard(position)
        self.change(position, {"active": True}, now)

    def hide(self, positions: Iterable[int]) -> None:
        """Leave records out of all responses, as a search index that lags does; no others."""
        self.hidden = frozenset(positions)
        self.version += 1

    def get_cached(self, name: Any, compute: Callable[[], Any]) -> Any:
        """Return the result of `compute`, cached under `name` until the table changes."""
        if self._cached_version != self.version or len(self._cache) > MAX_CACHED:
            self._cache.clear()
            self._cached_version = self.version
        if name not in self._cache:
            self._cache[name] = compute()
        return self._cache[name]

    def find_alive(self) -> Iterable[int]:
        """Return the positions of the records that are served."""
        absent = self.deleted | self.hidden
        return (position for position in range(len(self.keys)) if position not in absent)

    def read_values(self, name: str) -> list[Any]:
        """Return the values of a top-level field, by position; None where a record lacks it."""
        return self.get_cached(("values", name), lambda: self._decode(name))

    def _decode(self, name: str) -> list[Any]:
        shape = msgspec.defstruct("Shape", [("value", Any, msgspec.field(default=None, name=name))])
        decode = msgspec.json.Decoder(shape).decode
        return [decode(raw).value for raw in self.raws]  # pyright: ignore[reportAttributeAccessIssue]
