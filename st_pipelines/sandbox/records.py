"""Completes the fields that stories render, and encodes them as JSON.

This happens once per change, so a page is one join of bytes.
"""

from __future__ import annotations

import random
from collections.abc import Container, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cached_property
from typing import Any

import msgspec

from st_pipelines.catalog.specification import ApiSpecification, Schema
from st_pipelines.sandbox import odd_values, ticks
from st_pipelines.sandbox.collections import Collection, resolve_members
from st_pipelines.sandbox.entities import Entity
from st_pipelines.sandbox.filler import Filler
from st_pipelines.sandbox.scalars import Draw
from st_pipelines.sandbox.stories.story import Completion, Fields, RenderContext, Story

VARIANTS = 48
"""Number of different fillings per collection. Records share them, so rendering is cheap."""

Members = dict[str, msgspec.Raw]
"""A record's members as JSON text, so that decimals keep all digits."""

_encoder = msgspec.json.Encoder(decimal_format="number")
_members = msgspec.json.Decoder(Members)


def encode(value: Any) -> bytes:
    """Encode a value as JSON."""
    return _encoder.encode(value)


def read_members(raw: bytes) -> Members:
    """Split a record into its members, each as JSON text."""
    return _members.decode(raw)


def to_raw(value: Any) -> msgspec.Raw:
    """Encode a value as JSON, with times, dates and durations in ServiceTitan's formats."""
    if isinstance(value, datetime):
        value = ticks.format_iso(ticks.from_datetime(value))
    elif isinstance(value, date):
        value = f"{value.isoformat()}T00:00:00"
    elif isinstance(value, timedelta):
        minutes, seconds = divmod(int(value.total_seconds()), 60)
        value = f"PT{minutes}M{seconds}S"
    return msgspec.Raw(encode(value))


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """How to render objects of which the same members are given.

    Attributes:
        unknown: given members that the schema lacks.
        never_null: given members for which the schema allows no null.
        parts: given members that are objects or lists of objects.
        tails: fillings of the other members, with the closing brace.
    """

    unknown: tuple[str, ...]
    never_null: tuple[str, ...]
    parts: tuple[str, ...]
    tails: list[bytes]


class ObjectTemplate:
    """Renders objects of one schema: the given fields, then one of a few prepared fillings.

    A member that is never null and is given as None is left to the filling. A given object, or list
    of objects, that lacks members is completed in the same way.

    Args:
        api: resolves references.
        members: the shapes of the object's members.
        filler: generates the members that are not given.
        seed: decides the fillings.
        anchor: generated times lie around this moment (ticks).
        path: where in a record the object lies; "" for the record.
    """

    def __init__(
        self,
        api: ApiSpecification,
        members: Mapping[str, Schema],
        filler: Filler,
        *,
        seed: str,
        anchor: int,
        path: str = "",
    ) -> None:
        self._schema = Schema(kind="object", members=members)
        self._api = api
        self._members = members
        self._filler = filler
        self._seed = seed
        self._anchor = anchor
        self._path = path
        self._plans: dict[tuple[str, ...], _Plan] = {}

    @cached_property
    def parts(self) -> dict[str, ObjectTemplate]:
        """The templates of the members that are objects or lists of objects, by name."""
        found: dict[str, ObjectTemplate] = {}
        for name, member in self._members.items():
            brackets = ""
            if member.kind == "array" and member.items is not None:
                member, brackets = self._api.resolve(member.items), "[]"
            if member.kind == "object" and member.members:
                path = f"{self._path}.{name}{brackets}".removeprefix(".")
                found[name] = ObjectTemplate(
                    self._api,
                    resolve_members(self._api, member),
                    self._filler,
                    seed=self._seed,
                    anchor=self._anchor,
                    path=path,
                )
        return found

    def __call__(self, fields: Fields, draw: int) -> msgspec.Raw:
        """Render an object as JSON. Changes `fields`, and drops names that the schema lacks."""
        names = tuple(fields)
        plan = self._plans.get(names) or self._make_plan(names)
        for name in plan.unknown:
            del fields[name]
        for name in plan.never_null:
            if fields[name] is None:
                return self({n: v for n, v in fields.items() if n != name}, draw)
        for name in plan.parts:
            fields[name] = self._complete(name, fields[name], draw)
        return msgspec.Raw(_encoder.encode(fields)[:-1] + plan.tails[draw % len(plan.tails)])

    def _complete(self, name: str, value: Any, draw: int) -> Any:
        """Complete an object, or the objects of a list. Other values stay as they are."""
        part, is_array = self.parts[name], self._members[name].kind == "array"
        if isinstance(value, dict) and not is_array:
            return part(value, draw)
        if isinstance(value, list) and is_array:
            items = enumerate(value)
            return [part(v, draw + at) if isinstance(v, dict) else v for at, v in items]
        return value

    def _make_plan(self, names: tuple[str, ...]) -> _Plan:
        known = tuple(name for name in names if name in self._members)
        plan = _Plan(
            unknown=tuple(name for name in names if name not in self._members),
            never_null=tuple(name for name in known if not self._members[name].nullable),
            parts=tuple(name for name in known if name in self.parts),
            tails=self._prepare(known),
        )
        self._plans[names] = plan
        return plan

    def _prepare(self, names: tuple[str, ...]) -> list[bytes]:
        """Prepare fillings for the members that are not given."""
        if not self._members.keys() - set(names):
            return [b"}"]
        comma = b"," if names else b""
        return [comma + self._fill(number, names) + b"}" for number in range(VARIANTS)]

    def _fill(self, number: int, without: Container[str]) -> bytes:
        rng = random.Random(f"{self._seed}:{self._path}:{number}")
        draw = Draw(rng=rng, moment=self._anchor - rng.randrange(200 * ticks.DAY))
        filling = self._filler.generate_part(self._schema, self._path, draw, without=without)
        return encode(filling)[1:-1]


class Writer:
    """Renders the records of one collection, with the members of all operations that list them.

    Args:
        collection: whose records.
        story: gives the fields that matter.
        filler: generates the others.
        seed: of the world.
        anchor: generated times lie around this moment (ticks).
    """

    def __init__(
        self, collection: Collection, story: Story, filler: Filler, *, seed: int, anchor: int
    ) -> None:
        self._collection = collection
        self._story = story
        self._has_id = collection.key == ("id",)
        self._members = collection.members
        self._complete = ObjectTemplate(
            collection.specification,
            self._members,
            filler,
            seed=f"{seed}:{collection.name}",
            anchor=anchor,
        )

    def write(self, entity: Entity, key: Any, modified: int, now: int) -> bytes:
        """Render `entity` as of `now`, last modified at `modified` (both ticks)."""
        fields = self._render_common_fields(entity, key, modified, now)
        context = RenderContext(now=now, parts=self._parts)
        fields.update(self._story.fields(entity, context))
        odd_values.replace_given(self._collection.name, fields, entity.draw)
        return bytes(self._complete(fields, entity.draw))

    @cached_property
    def _parts(self) -> Mapping[str, Completion]:
        return self._complete.parts

    def serves(self, name: str) -> bool:
        """Return whether the list serves a field."""
        return name in self._members

    def _render_common_fields(self, entity: Entity, key: Any, modified: int, now: int) -> Fields:
        fields: Fields = {}
        if self._has_id:
            is_null = odd_values.has_null_id(self._collection.name, entity.draw)
            fields["id"] = None if is_null else key
        if "createdOn" in self._members:
            fields["createdOn"] = ticks.format_iso(entity.moments[0])
        if "modifiedOn" in self._members:
            fields["modifiedOn"] = ticks.format_iso(modified)
        if "active" in self._members:
            fields["active"] = is_active(entity, now)
        return fields


def is_active(entity: Entity, now: int) -> bool:
    """Return whether the entity is active at `now` (ticks)."""
    return not 0 < entity.deactivated <= now
