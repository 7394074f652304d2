"""Simulates a company: who calls, and which jobs are done and when, day by day from a seed.

Only entities and moments (in ticks) are planned here; `records` and `stories` render them. Each day
has its own random generator, so that a later `now` only adds entities.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import timedelta
from itertools import count

from st_pipelines.sandbox import sample_text, ticks
from st_pipelines.sandbox.entities import (
    Call,
    Customer,
    Estimate,
    Invoice,
    Job,
    Line,
    Location,
    Membership,
    Note,
    Payment,
    Sku,
    Staff,
    Visit,
)
from st_pipelines.sandbox.master_data import MasterData

SEASON = (1.15, 1.05, 0.9, 0.8, 0.9, 1.2, 1.45, 1.3, 0.9, 0.8, 0.9, 1.1)
"""Demand by month, with peaks in summer and winter."""

WEEKDAY = (1.25, 1.15, 1.1, 1.1, 1.15, 0.3, 0.12)
"""Demand by weekday, Monday first."""

JOBS_A_CUSTOMER = 2.5
STARTING_SHARE = 0.4
"""Share of the customers who exist before the history starts."""


def _ids(base: int) -> Iterator[int]:
    """Generate ascending ids with gaps, as in a system shared by many tenants."""
    return (base + 3 * number + number % 2 for number in count())


class Company:
    """All entities, planned up to a day that `extend` moves forward."""

    def __init__(self, *, seed: int, customers: int, history_days: int, now: int) -> None:
        self.seed = seed
        self.size = customers
        self.history_days = history_days
        self.next_day = ticks.day_number(ticks.to_datetime(now)) - history_days
        self.start = ticks.local_midnight(self.next_day)
        self.master_data = MasterData(seed=seed, start=self.start, customers=customers)
        self.customers: list[Customer] = []
        self.locations: list[Location] = []
        self.jobs: list[Job] = []
        self.visits: list[Visit] = []
        self.invoices: list[Invoice] = []
        self.payments: list[Payment] = []
        self.estimates: list[Estimate] = []
        self.calls: list[Call] = []
        self.memberships: list[Membership] = []
        self.notes: list[Note] = []
        self._ids = {
            name: _ids(base)
            for name, base in (
                ("customer", 10_000_000),
                ("location", 30_000_000),
                ("job", 60_000_000),
                ("visit", 90_000_000),
                ("invoice", 130_000_000),
                ("payment", 180_000_000),
                ("estimate", 220_000_000),
                ("call", 280_000_000),
                ("membership", 330_000_000),
                ("note", 350_000_000),
                ("line", 400_000_000),
            )
        }
        self._add_first_customers()
        self.extend(now)

    def extend(self, until: int) -> None:
        """Plan every day that starts at or before `until` (ticks), and one more."""
        while ticks.local_midnight(self.next_day - 1) <= until:
            self._plan_day(self.next_day)
            self.next_day += 1

    def _add_first_customers(self) -> None:
        rng = random.Random(self.seed * 1_000_003 - 1)
        early = sorted(
            self.start - rng.randrange(1000 * ticks.DAY)
            for _ in range(max(1, int(self.size * STARTING_SHARE)))
        )
        for moment in early:
            self._add_customer(rng, moment)

    def _plan_day(self, day: int) -> None:
        rng = random.Random(self.seed * 1_000_003 + day)
        date = ticks.EPOCH + timedelta(days=day)
        demand = SEASON[date.month - 1] * WEEKDAY[date.weekday()]
        new_customers = self.size * (1 - STARTING_SHARE) / self.history_days * demand
        jobs = self.size * JOBS_A_CUSTOMER / self.history_days * demand
        midnight = ticks.local_midnight(day)
        for moment in _office_hours(rng, midnight, new_customers):
            self._add_customer(rng, moment)
        for moment in _office_hours(rng, midnight, jobs * 0.5):
            self._add_call(rng, moment, None)
        for moment in _office_hours(rng, midnight, jobs):
            self._add_job(rng, moment, midnight)

    def _add_customer(self, rng: random.Random, created: int) -> None:
        commercial = rng.random() < 0.12
        name = sample_text.person(rng)
        if commercial:
            name = f"{rng.choice(sample_text.LAST)} {rng.choice(sample_text.FIRMS)}"
        city, state, zip_code = rng.choice(sample_text.CITIES)
        edited = created + rng.randrange(ticks.DAY, 1400 * ticks.DAY)
        deactivated = edited + rng.randrange(900 * ticks.DAY) if rng.random() < 0.06 else 0
        customer = Customer(
            id=next(self._ids["customer"]),
            moments=_ordered(created, edited, deactivated),
            deactivated=deactivated,
            name=name,
            commercial=commercial,
            city=city,
            state=state,
            zip=zip_code,
            street=f"{rng.randrange(1, 1999)} {rng.choice(sample_text.STREETS)}",
            draw=rng.getrandbits(24),
        )
        self.customers.append(customer)
        places = 1 + (rng.random() < 0.12) + (commercial and rng.random() < 0.5)
        for number in range(places):
            self._add_location(rng, customer, number)

    def _add_location(self, rng: random.Random, customer: Customer, number: int) -> None:
        created = customer.moments[0] + (1 + number) * rng.randrange(1, ticks.SECOND)
        edited = created + rng.randrange(ticks.DAY, 1400 * ticks.DAY)
        location = Location(
            id=next(self._ids["location"]),
            moments=_ordered(created, edited, customer.deactivated),
            deactivated=customer.deactivated,
            customer=customer,
            draw=rng.getrandbits(24),
            street=customer.street if not number else f"{number}{customer.street}",
        )
        self.locations.append(location)
        if rng.random() < 0.15:
            self._add_membership(rng, location)

    def _add_membership(self, rng: random.Random, location: Location) -> None:
        start = location.moments[0] + rng.randrange(ticks.HOUR, 300 * ticks.DAY)
        renewed = start + 365 * ticks.DAY
        ended = renewed + rng.randrange(700 * ticks.DAY) if rng.random() < 0.3 else 0
        self.memberships.append(
            Membership(
                id=next(self._ids["membership"]),
                moments=_ordered(start, renewed, ended),
                deactivated=0,
                location=location,
                start=start,
                ended=ended,
                unit=rng.choice(self.master_data.units),
                kind=rng.randrange(3),
                draw=rng.getrandbits(24),
            )
        )

    def _add_job(self, rng: random.Random, created: int, midnight: int) -> None:
        location = self.locations[int(rng.random() * len(self.locations))]
        kind = rng.choice(self.master_data.job_types)
        call = self._add_call(rng, created, location) if rng.random() < 0.7 else None
        start = _appointment(rng, created, midnight)
        done = start + rng.randrange(30 * ticks.MINUTE, 5 * ticks.HOUR)
        canceled = created + rng.randrange(1, start - created) if rng.random() < 0.08 else 0
        done = 0 if canceled else done
        edited = (done or canceled) + rng.randrange(ticks.HOUR, 25 * ticks.DAY)
        deactivated = edited if rng.random() < 0.015 else 0
        ends = (canceled, edited) if canceled else (start, done, edited)
        job = Job(
            id=next(self._ids["job"]),
            moments=_ordered(created, *ends),
            deactivated=deactivated,
            number=str(100_000 + len(self.jobs)),
            location=location,
            kind=kind,
            call=call,
            campaign=rng.choice(self.master_data.campaigns),
            start=start,
            done=done,
            canceled=canceled,
            technician=self._technician(rng, kind),
            taken_by=rng.choice(self.master_data.office),
            invoice_id=next(self._ids["invoice"]),
            visit_id=next(self._ids["visit"]),
            lines=self._lines(rng),
            draw=rng.getrandbits(24),
        )
        self.jobs.append(job)
        self._follow_up(rng, job)

    def _technician(self, rng: random.Random, kind: Staff) -> Staff:
        crew = self.master_data.crews[kind.unit.id]
        return crew[int(rng.random() * len(crew))]

    def _lines(self, rng: random.Random) -> tuple[Line, ...]:
        return tuple(
            Line(
                id=next(self._ids["line"]),
                sku=_any(rng, self.master_data.skus),
                draw=rng.getrandbits(16),
                quantity=1 if rng.random() < 0.8 else rng.randrange(2, 5),
            )
            for _ in range(rng.choice((0, 1, 1, 2, 2, 3, 5)))
        )

    def _follow_up(self, rng: random.Random, job: Job) -> None:
        """Add what a job leads to: a visit, an invoice, payments, estimates, notes."""
        created, stop = job.moments[0], job.done or job.canceled
        moments = _ordered(created, *((job.start, stop) if job.done else (stop,)))
        self.visits.append(
            Visit(
                id=job.visit_id,
                moments=moments,
                deactivated=job.deactivated,
                job=job,
                draw=job.draw,
            )
        )
        paid = job.done + rng.choice((1, 1, 20, 40)) * rng.randrange(ticks.HOUR, ticks.DAY)
        paid = paid if job.done and job.total and rng.random() < 0.9 else 0
        invoice = Invoice(
            id=job.invoice_id,
            moments=_ordered(created, stop, paid),
            deactivated=job.deactivated,
            job=job,
            paid=paid,
            draw=job.draw,
        )
        self.invoices.append(invoice)
        if paid:
            settled = paid + rng.randrange(1, 3 * ticks.DAY)
            self.payments.append(
                Payment(
                    id=next(self._ids["payment"]),
                    moments=(paid, settled),
                    deactivated=0,
                    invoice=invoice,
                    draw=job.draw,
                )
            )
        if job.done and job.draw % 5 == 0:
            self._add_estimates(rng, job)
        if job.draw % 3 == 0:
            wrote = (stop, stop + rng.randrange(ticks.DAY))
            self.notes.append(
                Note(
                    id=next(self._ids["note"]), moments=wrote, deactivated=0, job=job, draw=job.draw
                )
            )

    def _add_estimates(self, rng: random.Random, job: Job) -> None:
        options = rng.randrange(1, 5)
        chosen = rng.randrange(options) if rng.random() < 0.45 else -1
        # The options are saved together, because the API serves records that share a `modifiedOn`.
        created = job.done - rng.randrange(1, 20 * ticks.MINUTE)
        for option in range(options):
            sold = created + rng.randrange(1, 9 * ticks.DAY) if option == chosen else 0
            self.estimates.append(
                Estimate(
                    id=next(self._ids["estimate"]),
                    moments=_ordered(created, sold),
                    deactivated=0,
                    job=job,
                    sold=sold,
                    option=option,
                    draw=job.draw,
                    lines=self._lines(rng) or self._lines(rng),
                )
            )

    def _add_call(self, rng: random.Random, ended: int, location: Location | None) -> Call:
        seconds = rng.randrange(20, 900)
        created = ended - seconds * ticks.SECOND - rng.randrange(ticks.SECOND)
        call = Call(
            id=next(self._ids["call"]),
            moments=(created, ended),
            deactivated=0,
            location=location,
            seconds=seconds,
            agent=rng.choice(self.master_data.office),
            draw=rng.getrandbits(24),
            campaign=rng.choice(self.master_data.campaigns),
            phone=sample_text.phone(rng),
        )
        self.calls.append(call)
        return call


def _any(rng: random.Random, skus: tuple[Sku, ...]) -> Sku:
    return skus[int(rng.random() * len(skus))]


def _ordered(*moments: int) -> tuple[int, ...]:
    """Sort moments and drop zeros, which stand for "never"."""
    return tuple(sorted(moment for moment in moments if moment))


def _office_hours(rng: random.Random, midnight: int, mean: float) -> list[int]:
    """Draw about `mean` moments of a day, from 7 a.m. to 7 p.m., mostly before noon, in order."""
    number = int(mean * rng.uniform(0.8, 1.2) + rng.random())
    return sorted(midnight + _sometime(rng) for _ in range(number))


def _sometime(rng: random.Random) -> int:
    moment = int(rng.triangular(7, 19, 10) * ticks.HOUR)
    # Some of ServiceTitan's timestamps have whole seconds, and are served without a fraction.
    return moment if rng.random() < 0.97 else moment // ticks.SECOND * ticks.SECOND


def _appointment(rng: random.Random, created: int, midnight: int) -> int:
    """Draw the start of a visit: that day or a few days later, mostly on a weekday."""
    days = rng.choice((0, 0, 1, 1, 2, 3, 5, 9))
    start = midnight + days * ticks.DAY + rng.randrange(8, 17) * ticks.HOUR
    while start <= created + ticks.HOUR or (_weekend(start) and rng.random() < 0.85):
        start += ticks.DAY
    return start


def _weekend(moment: int) -> bool:
    # 1970-01-01 was a Thursday.
    return (moment // ticks.DAY + 3) % 7 >= 5
