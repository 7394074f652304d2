"""Changes records while a client reads them.

Records are created, changed, deactivated, deleted and revived, and pairs of records get the same
time of modification.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from st_pipelines.sandbox.collections import Collection
from st_pipelines.sandbox.table import Table
from st_pipelines.sandbox.world import World

MAX_CHANGES = 4
MIN_RECORDS = 5
"""No record of a table with this many records or fewer is deleted."""


class Churn:
    """Changes a table before some of the requests that read it. The seed decides which and how.

    Args:
        probability: probability, from 0 to 1, that a data request finds changed records.
        seed: decides all random choices.

    Raises:
        ValueError: the probability is not from 0 to 1.
    """

    def __init__(self, probability: float, seed: int) -> None:
        if not 0 <= probability <= 1:
            raise ValueError(f"churn: the probability must be from 0 to 1, not {probability}")
        self.probability = probability
        self._rng = random.Random(f"{seed}:churn")
        self._number = 0

    def perturb(self, world: World, collection: Collection) -> None:
        """With the given probability, move time a little and change some records of a table.

        Args:
            world: holds the table. This call waits for the world's lock.
            collection: the collection that is about to be read.
        """
        if self._rng.random() >= self.probability:
            return
        with world.lock:
            table = world.table(collection.name)
            for _ in range(self._rng.randint(1, MAX_CHANGES)):
                world.move(timedelta(milliseconds=self._rng.randint(1, 2000)))
                self._rng.choice(_ACTIONS)(self, table, world.now_ticks)

    def _create(self, table: Table, now: int) -> None:
        if table.collection.key == ("jobId",):
            return  # the items of a copied record would repeat the ids of the original's items
        fields = self._make_value(table)
        fields |= {
            name: max((value or 0 for value in table.read_values(name)), default=0) + 1
            for name in table.collection.key
            if len(table.collection.key) > 1 and table.collection.members[name].kind == "integer"
        }
        table.create(fields, now)

    def _change(self, table: Table, now: int) -> None:
        for position in self._pick(table, 1):
            table.change(position, self._make_value(table), now)

    def _change_together(self, table: Table, now: int) -> None:
        """Give two records the same time of modification."""
        for position in self._pick(table, 2):
            table.change(position, self._make_value(table), now)

    def _deactivate(self, table: Table, now: int) -> None:
        for position in self._pick(table, 1):
            table.change(position, {"active": False}, now)

    def _delete(self, table: Table, now: int) -> None:
        if len(table.keys) - len(table.deleted) > MIN_RECORDS:
            for position in self._pick(table, 1):
                table.delete(position)

    def _revive(self, table: Table, now: int) -> None:
        candidates = sorted(table.deleted) or [
            position for position in table.find_alive() if not table.active[position]
        ]
        if candidates:
            table.revive(self._rng.choice(candidates), now)

    def _pick(self, table: Table, count: int) -> list[int]:
        alive = list(table.find_alive())
        return self._rng.sample(alive, min(count, len(alive)))

    def _make_value(self, table: Table) -> dict[str, Any]:
        """Return a text field with a new, unique value; empty if the table has no such field."""
        self._number += 1
        texts = table.collection.texts
        return {texts[0]: f"churn {self._number}"} if texts else {}


_ACTIONS: tuple[Callable[[Churn, Table, int], None], ...] = (
    Churn._create,
    Churn._change,
    Churn._change_together,
    Churn._deactivate,
    Churn._delete,
    Churn._delete,
    Churn._revive,
)
