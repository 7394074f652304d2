"""Simulates a company day by day: its customers, their calls and jobs, and what follows from jobs.

This module runs the plan; `planning` decides what happens, `schedule` draws the moments (in ticks),
`stories` and `records` render the entities. Each day has its own random generator, so a later `now`
only adds entities.
"""

from __future__ import annotations

import random
from typing import TypeVar

from st_pipelines.sandbox import ticks
from st_pipelines.sandbox.planning.billing import Billing
from st_pipelines.sandbox.planning.books import OPENING_DAYS, Books
from st_pipelines.sandbox.planning.chapter import Chapter
from st_pipelines.sandbox.planning.contracts import Contracts
from st_pipelines.sandbox.planning.customers import CustomerBase
from st_pipelines.sandbox.planning.field_work import FieldWork
from st_pipelines.sandbox.planning.front_office import FrontOffice
from st_pipelines.sandbox.planning.purchasing import Purchasing
from st_pipelines.sandbox.schedule import compute_demand, draw_office_hours, draw_office_moment

JOBS_PER_CUSTOMER = 2.3
"""Jobs that the office books, over the whole history. Others follow from these."""

STARTING_SHARE = 0.4
"""Share of customers who exist before the history starts."""

BUSY_DAYS = 14
"""How many days before the first `now` even a tiny company starts to book a job every weekday."""

AnyChapter = TypeVar("AnyChapter", bound=Chapter)


class Company(Books):
    """All entities of a company, planned up to a day that `extend` moves forward."""

    def __init__(self, *, seed: int, customers: int, history_days: int, now: int) -> None:
        super().__init__(seed=seed, customers=customers, history_days=history_days, now=now)
        first_day = self.next_day
        self._busy_from = first_day + history_days - BUSY_DAYS
        self.purchasing = Purchasing(self, random.Random(seed * 7919 + 2))
        billing = Billing(self)
        self._front_office = FrontOffice(self)
        self._field_work = FieldWork(self, self._front_office, billing, self.purchasing)
        self._customer_base = CustomerBase(self, Contracts(self, billing))
        self._chapters: dict[type[Chapter], Chapter] = {}
        self._add_first_customers()
        for day in range(first_day - OPENING_DAYS, first_day):
            self._plan_opening_day(day)
        self.extend(now)

    def chapter(self, kind: type[AnyChapter]) -> AnyChapter:
        """Return a part of the company that is planned when it is first needed."""
        if kind not in self._chapters:
            chapter = self._chapters[kind] = kind(self)
            chapter.extend()
        return self._chapters[kind]  # pyright: ignore[reportReturnType]

    def extend(self, until: int) -> None:
        """Plan each day that starts at or before `until` (ticks), and the day after."""
        first = self.next_day
        while ticks.from_local_day(self.next_day - 1) <= until:
            self._plan_day(self.next_day)
            self.next_day += 1
        if self.next_day > first:
            for chapter in self._chapters.values():
                chapter.extend()

    def _add_first_customers(self) -> None:
        rng = random.Random(self.seed * 1_000_003 - 1)
        # The opening days need a customer.
        latest = OPENING_DAYS * ticks.DAY + ticks.HOUR
        early = sorted(
            self.start - latest - rng.randrange(1000 * ticks.DAY)
            for _ in range(max(1, int(self.size * STARTING_SHARE)))
        )
        for moment in early:
            self._customer_base.add_customer(rng, moment)

    def _plan_opening_day(self, day: int) -> None:
        rng = random.Random(self.seed * 1_000_003 + day)
        moment = draw_office_moment(rng, ticks.from_local_day(day))
        self._field_work.add_job(rng, moment)
        self._front_office.add_unbooked_call(rng, moment + ticks.MINUTE)
        kind = rng.choice(self.master_data.bookable)
        self._front_office.add_booking(rng, moment, self.draw_location(rng, moment), kind, 0)
        self.purchasing.plan_day(rng, day)
        self.agenda.run(day, rng)

    def _plan_day(self, day: int) -> None:
        rng = random.Random(self.seed * 1_000_003 + day)
        demand = compute_demand(day)
        new_customers = self.size * (1 - STARTING_SHARE) / self.history_days * demand
        jobs = self.size * JOBS_PER_CUSTOMER / self.history_days * demand
        midnight = ticks.from_local_day(day)
        for moment in draw_office_hours(rng, midnight, new_customers):
            self._customer_base.add_customer(rng, moment)
        self._front_office.plan_day(rng, midnight, jobs)
        moments = draw_office_hours(rng, midnight, jobs)
        if not moments and day >= self._busy_from and demand > 0.5:
            moments = [midnight + 8 * ticks.HOUR + rng.randrange(ticks.HOUR)]
        for moment in moments:
            self._field_work.add_job(rng, moment)
        self.purchasing.plan_day(rng, day)
        # Last, because what was planned above may be due on the same day.
        self.agenda.run(day, rng)
