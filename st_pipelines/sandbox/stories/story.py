"""Defines `Story`: the entities behind a table, and how one of them looks at a fields time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from st_pipelines.sandbox.company import Company
from st_pipelines.sandbox.entities import Entity

Fields = dict[str, Any]


class Completion(Protocol):
    """Adds a filling to the given fields of an object. `draw` chooses which."""

    def __call__(self, fields: Fields, draw: int) -> msgspec.Raw:
        """The JSON text of the object."""
        ...


@dataclass(frozen=True, kw_only=True)
class RenderContext:
    """What rendering may use besides the entity.

    Attributes:
        now: ticks; nothing later may be visible.
        parts: completes an object, by column that is a list of objects.
    """

    now: int
    parts: Mapping[str, Completion]

    def has_passed(self, moment: int) -> bool:
        """Whether `moment` is not "never" and not in the future."""
        return 0 < moment <= self.now

    def render_part(self, column: str, draw: int, fields: Fields) -> msgspec.Raw | Fields:
        """Render an item of the list `column`: the given fields, completed by a filling."""
        return self.parts[column](fields, draw) if column in self.parts else fields


@dataclass(frozen=True, kw_only=True)
class Story:
    """How the company's entities become the records of a table.

    Attributes:
        entities: those behind the table, in a list that only grows at its end.
        fields: served fields of one entity, apart from id, createdOn, modifiedOn and active. The
            names are the same for every entity.
        offset: added to the entity's id, where several tables serve the same entity.
    """

    entities: Callable[[Company], Sequence[Entity]]
    fields: Callable[[Any, RenderContext], Fields]
    offset: int = 0
