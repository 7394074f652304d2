"""Builds stories for the collections that have none in `stories`.

Such a collection has a few dozen records at the start. Each is filled on its own, and refers to the
company's entities.
"""

from __future__ import annotations

import random
from typing import Any

from st_pipelines.sandbox import custom_fields, sample_text, ticks, vocabulary
from st_pipelines.sandbox.collections import Collection
from st_pipelines.sandbox.company import Company
from st_pipelines.sandbox.entities import Entity
from st_pipelines.sandbox.filler import Filler
from st_pipelines.sandbox.ids import compute_first_id, compute_id, count_initial_rows
from st_pipelines.sandbox.scalars import Draw
from st_pipelines.sandbox.stories.story import Fields, RenderContext, Story

BEFORE = 200 * ticks.DAY
"""The first rows are this much older than the company's history (ticks)."""


class Arrivals:
    """Generates the rows of one collection at even intervals, as far as the company is planned."""

    def __init__(self, collection: str, company: Company) -> None:
        span = company.history_days * ticks.DAY + BEFORE
        self._base = compute_first_id(collection)
        self._gap = span // count_initial_rows(collection)
        self._rng = random.Random(f"{company.seed}:{collection}:arrivals")
        self._next = company.start - BEFORE
        self._list: list[Entity] = []

    def __call__(self, company: Company) -> list[Entity]:
        """Return all rows until the last planned day."""
        while self._next <= ticks.from_local_day(company.next_day):
            self._list.append(self._create(len(self._list)))
            self._next += self._gap
        return self._list

    def _create(self, number: int) -> Entity:
        rng = self._rng
        # The first row exists from the start, so that references find one.
        created = self._next + (rng.randrange(self._gap) if number else 0)
        edits = sorted(created + rng.randrange(1, 900 * ticks.DAY) for _ in range(3))
        deactivated = edits[0] if rng.random() < 0.1 else 0
        return Entity(
            id=compute_id(self._base, number),
            moments=(created, *edits),
            deactivated=deactivated,
            draw=number,
        )


class GenericFields:
    """Fills the records of one collection, each from its own random generator.

    Args:
        collection: whose records.
        filler: generates the members.
        seed: of the world.
    """

    def __init__(self, collection: Collection, filler: Filler, seed: int) -> None:
        self._collection = collection
        self._filler = filler
        self._seed = seed
        self._cursor = collection.cursor
        # Without a key, equal records would count as one.
        self._label = None if collection.key else next(iter(collection.texts), None)

    def __call__(self, entity: Entity, context: RenderContext) -> Fields:
        """Return the members of a record, apart from id, createdOn, modifiedOn and active."""
        rng = random.Random(f"{self._seed}:{self._collection.name}:{entity.draw}")
        draw = Draw(rng=rng, moment=entity.moments[0], record_id=entity.id, number=entity.draw)
        names = ("id", "createdOn", "modifiedOn", "active")
        values: dict[str, Any] = self._filler.generate(self._collection.record, draw, without=names)
        values.update(self._name(entity))
        return values

    def _name(self, entity: Entity) -> Fields:
        """Return the members that name the record, and the time by which a list selects it."""
        name, members = self._collection.name, self._collection.members
        given: Fields = {}
        if custom_fields.is_type_list(name):
            given = custom_fields.describe_type(entity.draw)
        elif _is_text(self._collection, "name"):
            given["name"] = vocabulary.name_record(name, entity.draw)
        if _is_text(self._collection, "number"):
            given["number"] = vocabulary.number_record(entity.draw)
        if self._cursor and self._cursor in members.keys() - {"createdOn", "modifiedOn"}:
            given[self._cursor] = ticks.format_iso(entity.moments[0])
        for key in self._collection.key:
            if key != "id" and members[key].kind == "integer":
                given[key] = entity.id
        if self._label:
            channels = sample_text.CHANNELS
            given[self._label] = f"{channels[entity.draw % len(channels)]} {entity.draw}"
        return given


def _is_text(collection: Collection, name: str) -> bool:
    return name in collection.texts


def build_generic_story(
    collection: Collection, company: Company, filler: Filler, seed: int
) -> Story:
    """Build the story of a collection that no other story tells of."""
    return Story(
        entities=Arrivals(collection.name, company),
        fields=GenericFields(collection, filler, seed),
    )
