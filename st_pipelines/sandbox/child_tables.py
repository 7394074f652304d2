"""Builds the tables of children that no collection lists, when a client first asks for them.

`children.CHILDREN` has the stories of some. The others are generated, without regard to each other.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any
from zlib import crc32

from st_pipelines.catalog.specification import Schema
from st_pipelines.sandbox import ticks
from st_pipelines.sandbox.children import CHILDREN
from st_pipelines.sandbox.collections import Collection
from st_pipelines.sandbox.entities import Entity
from st_pipelines.sandbox.generic import GenericFields
from st_pipelines.sandbox.ids import compute_id
from st_pipelines.sandbox.operations import Route
from st_pipelines.sandbox.path_names import name_parents
from st_pipelines.sandbox.stories.story import RenderContext, Story
from st_pipelines.sandbox.table import Table
from st_pipelines.sandbox.world import World

MAX_CHILDREN = 4
"""The largest number of generated children of a record."""

MAX_TABLES = 500
"""Tables of children that are kept. Later requests build equal ones again."""


class ChildTables:
    """The tables of one tenant's children.

    Args:
        world: the tenant's records. Callers hold its lock.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._tables: dict[tuple[str, ...], Table] = {}

    def get(self, route: Route, parent: tuple[Table, int] | None) -> Table:
        """Return the table with the children of a record, as of now.

        Args:
            route: the operation that lists them.
            parent: the table and position of the record; None if no operation lists such records.
        """
        name = (route.operation.path, *route.values.values())
        if name not in self._tables:
            if len(self._tables) >= MAX_TABLES:
                self._tables.clear()
            self._tables[name] = self._build(route, parent)
        table = self._tables[name]
        table.advance(self._world.now_ticks)
        return table

    def _build(self, route: Route, parent: tuple[Table, int] | None) -> Table:
        path = route.operation.path
        collection = Collection(path, route.api, (route.operation,), (), find_record(route))
        told = self._tell(path, parent)
        return self._world.build_table(
            collection, told or self._generate(route, collection, parent)
        )

    @staticmethod
    def _tell(path: str, parent: tuple[Table, int] | None) -> Story | None:
        """Return the story of the children; None if there is none to tell."""
        child, entity = CHILDREN.get(path), parent and parent[0].entities[parent[1]]
        # Nothing is planned for a record that `World.create` made.
        if child is None or entity is None:
            return None
        return Story(entities=lambda company: child.entities(company, entity), fields=child.fields)

    def _generate(
        self, route: Route, collection: Collection, parent: tuple[Table, int] | None
    ) -> Story:
        path, now = route.operation.path, self._world.now_ticks
        created = parent[0].created[parent[1]] if parent else now - 100 * ticks.DAY
        entities = _plan_children(path, tuple(route.values.values()), created)
        filler = self._world.build_filler(collection)
        fields = GenericFields(collection, filler, self._world.seed)
        given = name_parents(route, collection.record)

        def render(entity: Entity, context: RenderContext) -> dict[str, Any]:
            return {**fields(entity, context), **given}

        return Story(entities=lambda company: entities, fields=render)


def find_record(route: Route) -> Schema:
    """Return the shape of a child."""
    child = CHILDREN.get(route.operation.path)
    record = (child and child.record) or route.api.find_record(route.operation)
    assert record is not None
    return record


def _plan_children(path: str, keys: Sequence[str], created: int) -> list[Entity]:
    """Plan the children of a record: at most `MAX_CHILDREN`, within weeks after it."""
    seed = crc32(":".join((path, *keys)).encode())
    rng = random.Random(seed)
    count = rng.randint(1, MAX_CHILDREN)
    moments = sorted(created + rng.randrange(1, 20 * ticks.DAY) for _ in range(count))
    base = 500_000_000 + seed % 4_000_000 * 10
    return [
        Entity(id=compute_id(base, number), moments=(moment,), draw=seed % 997 + number)
        for number, moment in enumerate(moments)
    ]
