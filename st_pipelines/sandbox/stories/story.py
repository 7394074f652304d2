"""Defines `Story`: the entities behind a table, and how one of them looks at a given time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from st_pipelines.sandbox.company import Company
from st_pipelines.sandbox.entities import Entity

Fields = dict[str, Any]


class Completion(Protocol):
    """Adds a filling to the told fields of an object. `draw` chooses which."""

    def __call__(self, told: Fields, draw: int) -> msgspec.Raw:
        """The JSON text of the object."""
        ...


@dataclass(frozen=True, kw_only=True)
class RenderContext:
    """What a rendering may know besides the item.

    Attributes:
        now: ticks; nothing later than this may show.
        parts: by column that is a list of objects, completes such an object.
    """

    now: int
    parts: Mapping[str, Completion]

    def past(self, moment: int) -> bool:
        """Whether `moment` exists and has come."""
        return 0 < moment <= self.now

    def part(self, column: str, draw: int, told: Fields) -> msgspec.Raw | Fields:
        """A member of the list `column`: what is told of it, and some filling for the rest."""
        return self.parts[column](told, draw) if column in self.parts else told


@dataclass(frozen=True, kw_only=True)
class Story:
    """A table whose records tell of the company.

    Attributes:
        entities: the items behind it, in a list that only ever grows at its end.
        fields: the served fields of one item, besides id, createdOn, modifiedOn and active. The
            same names for every item.
        offset: added to the item's id, where several tables show the same item.
    """

    entities: Callable[[Company], Sequence[Entity]]
    fields: Callable[[Any, RenderContext], Fields]
    offset: int = 0
