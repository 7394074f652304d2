"""Draws when master data is created, edited and deactivated."""

from __future__ import annotations

import random
from typing import Any

from st_pipelines.sandbox import ticks
from st_pipelines.sandbox.ids import compute_id


class Lifetimes:
    """Draws the lifetimes of entities that are created before `start` (ticks) and edited after.

    Attributes:
        rng: draws them. Whoever draws more of the same entities uses it too.
    """

    def __init__(self, rng: random.Random, start: int) -> None:
        self.rng = rng
        self._start = start

    def draw(self, base: int, number: int, deactivated_share: float) -> dict[str, Any]:
        """Draw what every `Entity` has, for the `number`th one after the first id `base`."""
        rng = self.rng
        created = self._start - rng.randrange(ticks.DAY, 900 * ticks.DAY)
        edits = sorted(self._start + rng.randrange(1500 * ticks.DAY) for _ in range(2))
        deactivated = edits[0] if rng.random() < deactivated_share else 0
        return {
            "id": compute_id(base, number),
            "moments": (created, *edits),
            "deactivated": deactivated,
            "draw": rng.getrandbits(24),
        }
