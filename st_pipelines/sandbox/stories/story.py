"""What a story is: the items behind a table, and how one of them looks at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from st_pipelines.sandbox.company import Company
from st_pipelines.sandbox.items import Item


@dataclass(frozen=True, kw_only=True)
class Look:
    """What a rendering may know besides the item.

    Attributes:
        now: ticks; nothing later than this may show.
        spare: by column, ready objects for the members of a list, for fields without a story.
    """

    now: int
    spare: dict[str, list[dict[str, Any]]]

    def past(self, moment: int) -> bool:
        """Whether `moment` exists and has come."""
        return 0 < moment <= self.now

    def blank(self, column: str, draw: int) -> dict[str, Any]:
        """Fields of a list member that the story does not tell. Empty for an unknown column."""
        ready = self.spare.get(column)
        return ready[draw % len(ready)] if ready else {}


Fields = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Story:
    """A table whose records tell of the company.

    Attributes:
        items: the items behind it, in a list that only ever grows at its end.
        fields: the served fields of one item, besides id, createdOn, modifiedOn and active. The
            same names for every item.
        offset: added to the item's id, where several tables show the same item.
    """

    items: Callable[[Company], Sequence[Item]]
    fields: Callable[[Any, Look], Fields]
    offset: int = 0
