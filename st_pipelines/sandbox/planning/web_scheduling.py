"""Plans online schedulers, and the sessions of their visitors: those who book, and those who leave.

A session starts some minutes before its booking, on the same local day.
"""

from __future__ import annotations

import random

from st_pipelines.sandbox import ticks
from st_pipelines.sandbox.entities import Booking, Named
from st_pipelines.sandbox.ids import make_text_key
from st_pipelines.sandbox.planning.books import Books
from st_pipelines.sandbox.schedule import find_midnight, sort_moments

COLLECTION = "scheduling_pro.schedulers"
SCHEDULERS = ("Website", "Call Center", "Landing Page", "Maps", "Emergency")

STEPS = ("zipcode", "issue", "schedule", "customer", "details")
"""How far a visitor comes who does not book, in order."""

ABANDONED_SHARE = 0.6
"""Visitors who leave, per booking."""


class Session(Named, frozen=True, kw_only=True, gc=False):
    """A visit of an online scheduler; the visitor's name is its name.

    Attributes:
        scheduler_key: the id of the scheduler.
        booking: what it led to, or would have led to.
        booked: when (ticks); zero if the visitor leaves.
        last_step: one of `STEPS`, or `booked`.
    """

    scheduler_key: str
    booking: Booking
    booked: int
    last_step: str


class WebScheduling:
    """The online schedulers of a company, and their sessions."""

    def __init__(self, company: Books) -> None:
        self._company = company
        created = company.start - 200 * ticks.DAY
        self.schedulers = tuple(
            Named(
                id=n + 1,
                moments=(created + n * 40 * ticks.DAY, company.start + n * 30 * ticks.DAY),
                draw=n,
                name=name,
            )
            for n, name in enumerate(SCHEDULERS)
        )
        self.sessions: dict[int, list[Session]] = {s.id: [] for s in self.schedulers}
        self._number = 0
        self._seen = 0

    def extend(self) -> None:
        """Add the sessions of the bookings that were planned since the last call."""
        for booking in self._company.bookings[self._seen :]:
            rng = random.Random(f"{self._company.seed}:sessions:{booking.id}")
            self._add(rng, booking, is_booked=True)
            if rng.random() < ABANDONED_SHARE:
                self._add(rng, booking, is_booked=False)
        self._seen = len(self._company.bookings)

    def _add(self, rng: random.Random, booking: Booking, *, is_booked: bool) -> None:
        end = booking.moments[0]
        start = max(find_midnight(end), end - rng.randrange(2 * ticks.MINUTE, 20 * ticks.MINUTE))
        scheduler = rng.choice(self.schedulers)
        job = booking.converted if is_booked and booking.job_id else 0
        self.sessions[scheduler.id].append(
            Session(
                id=self._number,
                moments=sort_moments(start, end, job),
                draw=self._number,
                name=booking.location.customer.name,
                scheduler_key=make_text_key(COLLECTION, scheduler.draw, self._company.seed),
                booking=booking,
                booked=end if is_booked else 0,
                last_step="booked" if is_booked else rng.choice(STEPS),
            )
        )
        self._number += 1
