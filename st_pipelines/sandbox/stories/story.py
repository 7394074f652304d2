"""Defines `Story`: which entities a table holds, and how they are rendered at a given time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from st_pipelines.catalog.specification import Schema
from st_pipelines.sandbox.company import Company
from st_pipelines.sandbox.entities import Entity, Named

Fields = dict[str, Any]


class Completion(Protocol):
    """Completes the given fields of an object with a prepared filling. `draw` chooses which."""

    def __call__(self, fields: Fields, draw: int) -> msgspec.Raw:
        """Return the JSON text of the object."""
        ...


@dataclass(frozen=True, kw_only=True)
class RenderContext:
    """The context in which an entity is rendered.

    Attributes:
        now: the simulated time, in ticks. Nothing later may show.
        parts: completes the objects of a column that is a list of objects, by column.
    """

    now: int
    parts: Mapping[str, Completion]

    def has_passed(self, moment: int) -> bool:
        """Return whether `moment` has passed; False for "never"."""
        return 0 < moment <= self.now

    def render_part(self, column: str, draw: int, fields: Fields) -> msgspec.Raw | Fields:
        """Render an item of the list `column`: the given fields and a filling."""
        return self.parts[column](fields, draw) if column in self.parts else fields


@dataclass(frozen=True, kw_only=True)
class Story:
    """How a table is made from the company's entities.

    Attributes:
        entities: returns the table's entities, in a sequence that only grows at its end.
        fields: renders the fields of one entity, apart from id, createdOn, modifiedOn and active.
            The names are the same for every entity.
        offset: added to the ids of entities that another table serves too.
        text_key: returns the id of an entity whose id is text; None makes a GUID.
    """

    entities: Callable[[Company], Sequence[Entity]]
    fields: Callable[[Any, RenderContext], Fields]
    offset: int = 0
    text_key: Callable[[Any], str] | None = None


@dataclass(frozen=True, kw_only=True)
class ChildStory:
    """How the children of a planned entity are made, where no table lists them.

    Attributes:
        entities: returns the children of an entity, in a sequence that only grows at its end.
        fields: see `Story`.
        record: the shape of a child, if the vendor's document does not say it.
    """

    entities: Callable[[Company, Any], Sequence[Entity]]
    fields: Callable[[Any, RenderContext], Fields]
    record: Schema | None = None


def refer_to(named: Named) -> Fields:
    """Render a reference to an entity: its id and name."""
    return {"id": named.id, "name": named.name}
