"""Simulates a company day by day: its customers, their calls and jobs, and what follows from jobs.

This module plans entities and their moments (in ticks). `schedule` draws the moments, `stories` and
`records` render the entities. Each day has its own random generator, so a later `now` only adds
entities.
"""

from __future__ import annotations

import random

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
from st_pipelines.sandbox.ids import FIRST_IDS, generate_ids
from st_pipelines.sandbox.master_data import MasterData
from st_pipelines.sandbox.schedule import (
    compute_demand,
    draw_appointment,
    draw_office_hours,
    sort_moments,
)

JOBS_PER_CUSTOMER = 2.5
STARTING_SHARE = 0.4
"""Share of customers who exist before the history starts."""


class Company:
    """All entities of a company, planned up to a day that `extend` moves forward."""

    def __init__(self, *, seed: int, customers: int, history_days: int, now: int) -> None:
        self.seed = seed
        self.size = customers
        self.history_days = history_days
        self.next_day = ticks.to_local_day(ticks.to_datetime(now)) - history_days
        self.start = ticks.from_local_day(self.next_day)
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
        self._ids = {kind: generate_ids(base) for kind, base in FIRST_IDS.items()}
        self._add_first_customers()
        self.extend(now)

    def extend(self, until: int) -> None:
        """Plan each day that starts at or before `until` (ticks), and the day after."""
        while ticks.from_local_day(self.next_day - 1) <= until:
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
        demand = compute_demand(day)
        new_customers = self.size * (1 - STARTING_SHARE) / self.history_days * demand
        jobs = self.size * JOBS_PER_CUSTOMER / self.history_days * demand
        midnight = ticks.from_local_day(day)
        for moment in draw_office_hours(rng, midnight, new_customers):
            self._add_customer(rng, moment)
        for moment in draw_office_hours(rng, midnight, jobs * 0.5):
            self._add_call(rng, moment, None)
        for moment in draw_office_hours(rng, midnight, jobs):
            self._add_job(rng, moment, midnight)

    def _add_customer(self, rng: random.Random, created: int) -> None:
        commercial = rng.random() < 0.12
        name = sample_text.draw_name(rng)
        if commercial:
            name = f"{rng.choice(sample_text.LAST)} {rng.choice(sample_text.FIRMS)}"
        city, state, zip_code = rng.choice(sample_text.CITIES)
        edited = created + rng.randrange(ticks.DAY, 1400 * ticks.DAY)
        deactivated = edited + rng.randrange(900 * ticks.DAY) if rng.random() < 0.06 else 0
        customer = Customer(
            id=next(self._ids["customer"]),
            moments=sort_moments(created, edited, deactivated),
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
        location_count = 1 + (rng.random() < 0.12) + (commercial and rng.random() < 0.5)
        for number in range(location_count):
            self._add_location(rng, customer, number)

    def _add_location(self, rng: random.Random, customer: Customer, number: int) -> None:
        created = customer.moments[0] + (1 + number) * rng.randrange(1, ticks.SECOND)
        edited = created + rng.randrange(ticks.DAY, 1400 * ticks.DAY)
        location = Location(
            id=next(self._ids["location"]),
            moments=sort_moments(created, edited, customer.deactivated),
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
                moments=sort_moments(start, renewed, ended),
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
        start = draw_appointment(rng, created, midnight)
        done = start + rng.randrange(30 * ticks.MINUTE, 5 * ticks.HOUR)
        canceled = created + rng.randrange(1, start - created) if rng.random() < 0.08 else 0
        done = 0 if canceled else done
        edited = (done or canceled) + rng.randrange(ticks.HOUR, 25 * ticks.DAY)
        deactivated = edited if rng.random() < 0.015 else 0
        later = (canceled, edited) if canceled else (start, done, edited)
        job = Job(
            id=next(self._ids["job"]),
            moments=sort_moments(created, *later),
            deactivated=deactivated,
            number=str(100_000 + len(self.jobs)),
            location=location,
            kind=kind,
            call=call,
            campaign=rng.choice(self.master_data.campaigns),
            start=start,
            done=done,
            canceled=canceled,
            technician=self._choose_technician(rng, kind),
            booked_by=rng.choice(self.master_data.office),
            invoice_id=next(self._ids["invoice"]),
            visit_id=next(self._ids["visit"]),
            lines=self._draw_lines(rng),
            draw=rng.getrandbits(24),
        )
        self.jobs.append(job)
        self._add_consequences(rng, job)

    def _choose_technician(self, rng: random.Random, kind: Staff) -> Staff:
        crew = self.master_data.crews[kind.unit.id]
        return crew[int(rng.random() * len(crew))]

    def _draw_lines(self, rng: random.Random) -> tuple[Line, ...]:
        return tuple(
            Line(
                id=next(self._ids["line"]),
                sku=_choose_sku(rng, self.master_data.skus),
                draw=rng.getrandbits(16),
                quantity=1 if rng.random() < 0.8 else rng.randrange(2, 5),
            )
            for _ in range(rng.choice((0, 1, 1, 2, 2, 3, 5)))
        )

    def _add_consequences(self, rng: random.Random, job: Job) -> None:
        """Add the entities that follow from a job: visit, invoice, payment, estimates, note."""
        stop = job.done or job.canceled
        self._add_visit(job, stop)
        self._add_invoice(rng, job, stop)
        if job.done and job.draw % 5 == 0:
            self._add_estimates(rng, job)
        if job.draw % 3 == 0:
            note = Note(
                id=next(self._ids["note"]),
                moments=(stop, stop + rng.randrange(ticks.DAY)),
                deactivated=0,
                job=job,
                draw=job.draw,
            )
            self.notes.append(note)

    def _add_visit(self, job: Job, stop: int) -> None:
        later = (job.start, stop) if job.done else (stop,)
        visit = Visit(
            id=job.visit_id,
            moments=sort_moments(job.moments[0], *later),
            deactivated=job.deactivated,
            job=job,
            draw=job.draw,
        )
        self.visits.append(visit)

    def _add_invoice(self, rng: random.Random, job: Job, stop: int) -> None:
        """Add the invoice of a job, and its payment if it is paid."""
        paid = job.done + rng.choice((1, 1, 20, 40)) * rng.randrange(ticks.HOUR, ticks.DAY)
        paid = paid if job.done and job.total and rng.random() < 0.9 else 0
        invoice = Invoice(
            id=job.invoice_id,
            moments=sort_moments(job.moments[0], stop, paid),
            deactivated=job.deactivated,
            job=job,
            paid=paid,
            draw=job.draw,
        )
        self.invoices.append(invoice)
        if not paid:
            return
        payment = Payment(
            id=next(self._ids["payment"]),
            moments=(paid, paid + rng.randrange(1, 3 * ticks.DAY)),
            deactivated=0,
            invoice=invoice,
            draw=job.draw,
        )
        self.payments.append(payment)

    def _add_estimates(self, rng: random.Random, job: Job) -> None:
        options = rng.randrange(1, 5)
        chosen = rng.randrange(options) if rng.random() < 0.45 else -1
        # The options are saved at once: ServiceTitan serves records that share a `modifiedOn`.
        created = job.done - rng.randrange(1, 20 * ticks.MINUTE)
        for option in range(options):
            sold = created + rng.randrange(1, 9 * ticks.DAY) if option == chosen else 0
            self.estimates.append(
                Estimate(
                    id=next(self._ids["estimate"]),
                    moments=sort_moments(created, sold),
                    deactivated=0,
                    job=job,
                    sold=sold,
                    option=option,
                    draw=job.draw,
                    lines=self._draw_lines(rng) or self._draw_lines(rng),
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
            phone=sample_text.draw_phone(rng),
        )
        self.calls.append(call)
        return call


def _choose_sku(rng: random.Random, skus: tuple[Sku, ...]) -> Sku:
    return skus[int(rng.random() * len(skus))]
