"""What is due on a later day because of something that was planned earlier."""

from __future__ import annotations

import random
from collections.abc import Callable

from st_pipelines.sandbox import ticks

Action = Callable[[random.Random, int], object]
"""Called with the day's random generator and the moment (ticks)."""


class Agenda:
    """Collects actions by local day. `Company` runs them when it plans that day.

    An entity that is planned after the day of its creation would appear in the past of a running
    sandbox. So a later day's entities wait here for their day.

    Args:
        first_day: the first day that is planned (days since 1970).
    """

    def __init__(self, first_day: int) -> None:
        self._day = first_day
        self._actions: dict[int, list[tuple[int, Action]]] = {}

    def add(self, moment: int, action: Action) -> None:
        """Run `action` when the local day of `moment` (ticks) is planned; never if it was."""
        if not self.is_past(moment):
            day = ticks.to_local_day(ticks.to_datetime(moment))
            self._actions.setdefault(day, []).append((moment, action))

    def is_past(self, moment: int) -> bool:
        """Return whether the local day of `moment` (ticks) was planned."""
        return ticks.to_local_day(ticks.to_datetime(moment)) < self._day

    def run(self, day: int, rng: random.Random) -> None:
        """Run what is due on a local day, even what its own actions add for that day."""
        self._day = day
        for moment, action in self._actions.get(day, ()):
            action(rng, moment)
        self._actions.pop(day, None)
        self._day = day + 1
