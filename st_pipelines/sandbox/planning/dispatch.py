"""Plans who makes a visit, and when."""

from __future__ import annotations

import math
import random

from st_pipelines.sandbox import ticks
from st_pipelines.sandbox.entities import Named, Staff
from st_pipelines.sandbox.planning.books import Books
from st_pipelines.sandbox.schedule import draw_appointment, find_midnight, leave_weekend
from st_pipelines.sandbox.trades import WORK

TRAVEL = 20 * ticks.MINUTE
"""Technicians are on their way for this long (ticks)."""

MAX_AFTERNOON_HOURS = 5
"""Work that may take longer starts in the morning."""


def find_usual_duration(kind: Staff) -> int:
    """Return how long the office plans a visit of a job type (ticks), in half hours."""
    halves = math.ceil(sum(WORK[kind.name].hours))
    return halves * ticks.HOUR // 2


class Dispatch:
    """Knows when the technicians of a company are busy."""

    def __init__(self, company: Books) -> None:
        self._company = company
        self._busy: dict[tuple[int, int], list[tuple[int, int]]] = {}

    def draw_visit(
        self, rng: random.Random, kind: Staff, unit: Named, created: int
    ) -> tuple[Staff, int, int]:
        """Draw who makes a visit, when it starts and when the work is done (ticks).

        If the whole crew is busy at the drawn time, the visit takes place on a later day.
        """
        short, long = WORK[kind.name].hours
        last_hour = 8 if long > MAX_AFTERNOON_HOURS else 16
        start = draw_appointment(rng, created, find_midnight(created), last_hour)
        duration = rng.randrange(int(short * ticks.HOUR), int(long * ticks.HOUR))
        technician = self._reserve(rng, unit, start, start + duration)
        while technician is None:
            start = leave_weekend(rng, start + ticks.DAY)
            technician = self._reserve(rng, unit, start, start + duration)
        return technician, start, start + duration

    def _reserve(self, rng: random.Random, unit: Named, start: int, done: int) -> Staff | None:
        """Choose a technician of the unit's crew who is free; None if all are busy."""
        crew = self._company.master_data.crews[unit.id]
        first = int(rng.random() * len(crew))
        begin = start - TRAVEL
        for offset in range(len(crew)):
            technician = crew[(first + offset) % len(crew)]
            visits = self._busy.setdefault((technician.id, start // ticks.DAY), [])
            if all(done <= other_start or begin >= other_end for other_start, other_end in visits):
                visits.append((begin, done))
                return technician
        return None

    def choose_helper(self, rng: random.Random, technician: Staff) -> Staff | None:
        """Choose somebody of the technician's crew who helps; usually nobody does."""
        crew = self._company.master_data.crews[technician.unit.id]
        helper = crew[int(rng.random() * len(crew))]
        return helper if helper is not technician and rng.random() < 0.15 else None
