"""Plans jobs, and what follows from a job: visit, estimates, note, more jobs."""

from __future__ import annotations

import random

from st_pipelines.sandbox import ticks
from st_pipelines.sandbox.entities import (
    Estimate,
    Job,
    Line,
    Location,
    Membership,
    Note,
    Origin,
    Staff,
    Visit,
)
from st_pipelines.sandbox.planning.billing import Billing
from st_pipelines.sandbox.planning.books import Books
from st_pipelines.sandbox.planning.front_office import FrontOffice, JobKey
from st_pipelines.sandbox.planning.purchasing import Purchasing
from st_pipelines.sandbox.schedule import (
    draw_appointment,
    draw_office_moment,
    find_midnight,
    sort_moments,
)

TRAVEL = 20 * ticks.MINUTE
"""Technicians are on their way for this long (ticks)."""

RECALL_SHARE = 0.03
"""Share of jobs whose work has to be repaired."""

TECHNICIAN_LEADS = 0.02
"""Share of jobs on which the technician finds work for another job."""


class FieldWork:
    """Adds jobs to a company, and their consequences."""

    def __init__(
        self, company: Books, front_office: FrontOffice, billing: Billing, purchasing: Purchasing
    ) -> None:
        self._company = company
        self._front_office = front_office
        self._billing = billing
        self._purchasing = purchasing
        company.add_job = self.add_job
        self._busy: dict[tuple[int, int], list[tuple[int, int]]] = {}

    def add_job(
        self,
        rng: random.Random,
        created: int,
        *,
        location: Location | None = None,
        kind: Staff | None = None,
        origin: Origin | None = None,
    ) -> Job:
        """Add a job that is booked at `created` (ticks). What is not given is drawn."""
        company = self._company
        location = location or company.draw_location(rng)
        kind = kind or rng.choice(company.master_data.bookable)
        key = JobKey(company.next_id("job"), str(100_000 + len(company.jobs)))
        if origin is None:
            origin = self._front_office.draw_origin(rng, created, location, kind, key)
        source = origin.call or origin.booking
        start = draw_appointment(rng, created, find_midnight(created))
        done = start + rng.randrange(30 * ticks.MINUTE, 5 * ticks.HOUR)
        canceled = created + rng.randrange(1, start - created) if rng.random() < 0.08 else 0
        technician = self._choose_technician(rng, kind, start, done)
        done = 0 if canceled else done
        edited = (done or canceled) + rng.randrange(ticks.HOUR, 25 * ticks.DAY)
        later = (canceled, edited) if canceled else (start, done, edited)
        draw = rng.getrandbits(24)
        has_estimates = bool(done) and origin.estimate is None and draw % 5 == 0
        options = rng.randrange(1, 5) if has_estimates else 0
        job = Job(
            id=key.id,
            moments=sort_moments(created, *later),
            deactivated=edited if rng.random() < 0.015 else 0,
            number=key.number,
            location=location,
            kind=kind,
            origin=origin,
            campaign=source.campaign if source else rng.choice(company.master_data.campaigns),
            start=start,
            done=done,
            canceled=canceled,
            technician=technician,
            helper=self._choose_helper(rng, technician),
            booked_by=(origin.call and origin.call.agent) or rng.choice(company.master_data.office),
            invoice_id=company.next_id("invoice"),
            visit_id=company.next_id("visit"),
            estimate_ids=tuple(company.next_id("estimate") for _ in range(options)),
            lines=self._draw_job_lines(rng, kind, origin),
            draw=draw,
        )
        company.jobs.append(job)
        self._add_consequences(rng, job)
        return job

    def _choose_technician(self, rng: random.Random, kind: Staff, start: int, done: int) -> Staff:
        """Choose a technician of the job type's crew who is free, if anybody is."""
        crew = self._company.master_data.crews[kind.unit.id]
        first = int(rng.random() * len(crew))
        begin = start - TRAVEL
        for offset in range(len(crew)):
            technician = crew[(first + offset) % len(crew)]
            visits = self._busy.setdefault((technician.id, start // ticks.DAY), [])
            if all(done <= other_start or begin >= other_end for other_start, other_end in visits):
                visits.append((begin, done))
                return technician
        return crew[first]

    def _choose_helper(self, rng: random.Random, technician: Staff) -> Staff | None:
        crew = self._company.master_data.crews[technician.unit.id]
        helper = crew[int(rng.random() * len(crew))]
        return helper if helper is not technician and rng.random() < 0.15 else None

    def _draw_job_lines(self, rng: random.Random, kind: Staff, origin: Origin) -> tuple[Line, ...]:
        if origin.estimate is not None:
            return self._copy_lines(origin.estimate.lines)
        if origin.membership is not None:
            return self._draw_visit_lines(origin.membership)
        if origin.recall_of is not None or kind.name.startswith("Estimate"):
            return ()
        return self.draw_lines(rng)

    def _copy_lines(self, lines: tuple[Line, ...]) -> tuple[Line, ...]:
        copies = (
            Line(
                id=self._company.next_id("line"),
                sku=line.sku,
                draw=line.draw,
                quantity=line.quantity,
                account=line.account,
                unit=line.unit,
            )
            for line in lines
        )
        return tuple(copies)

    def _draw_visit_lines(self, membership: Membership) -> tuple[Line, ...]:
        """Return the lines of a visit: paid already, so they are income and add up to zero."""
        if not membership.kind.is_deferred:
            return ()
        company = self._company
        amounts = ((1, "4300"), (-1, "2300"))
        return tuple(
            Line(
                id=company.next_id("line"),
                sku=company.master_data.membership_visit,
                draw=membership.draw % 65_536,
                quantity=quantity,
                account=company.ledger.accounts[number],
            )
            for quantity, number in amounts
        )

    def draw_lines(self, rng: random.Random) -> tuple[Line, ...]:
        """Draw the lines of an invoice or an estimate: none to five."""
        return tuple(self._draw_line(rng) for _ in range(rng.choice((0, 1, 1, 2, 2, 3, 5))))

    def _draw_line(self, rng: random.Random) -> Line:
        company = self._company
        skus = company.master_data.skus
        sku = skus[int(rng.random() * len(skus))]
        return Line(
            id=company.next_id("line"),
            sku=sku,
            draw=rng.getrandbits(16),
            quantity=1 if rng.random() < 0.8 else rng.randrange(2, 5),
            account=company.ledger.find_revenue(sku.kind),
            unit=rng.choice(company.master_data.units) if rng.random() < 0.03 else None,
        )

    def _add_consequences(self, rng: random.Random, job: Job) -> None:
        stop = job.done or job.canceled
        self._add_visit(job, stop)
        self._billing.add_job_invoice(rng, job)
        self._purchasing.order_for(rng, job)
        if job.estimate_ids:
            self._add_estimates(rng, job)
        if job.draw % 3 == 0:
            note = Note(
                id=self._company.next_id("note"),
                moments=(stop, stop + rng.randrange(ticks.DAY)),
                deactivated=0,
                job=job,
                draw=job.draw,
            )
            self._company.notes.append(note)
        if job.done and not job.no_charge:
            self._plan_further_jobs(rng, job)

    def _plan_further_jobs(self, rng: random.Random, job: Job) -> None:
        """Plan the repair of bad work, or the job for work that the technician found."""
        master_data, draw = self._company.master_data, rng.random()
        moment = draw_office_moment(rng, job.done + rng.randrange(1, 30) * ticks.DAY)
        if draw < RECALL_SHARE:
            name = "Recall" if rng.random() < 0.7 else "Warranty"
            kind, origin = master_data.find_job_type(name), Origin(recall_of=job)
        elif draw < RECALL_SHARE + TECHNICIAN_LEADS:
            kind, origin = master_data.find_job_type("Estimate HVAC"), Origin(source=job)
        else:
            return
        self._company.agenda.add(
            moment,
            lambda rng, moment: self.add_job(
                rng, moment, location=job.location, kind=kind, origin=origin
            ),
        )

    def _add_visit(self, job: Job, stop: int) -> None:
        later = (job.start, stop) if job.done else (stop,)
        visit = Visit(
            id=job.visit_id,
            moments=sort_moments(job.moments[0], *later),
            deactivated=job.deactivated,
            job=job,
            draw=job.draw,
        )
        self._company.visits.append(visit)

    def _add_estimates(self, rng: random.Random, job: Job) -> None:
        company = self._company
        sells = rng.random() < company.profile.close_rate
        chosen = rng.randrange(len(job.estimate_ids)) if sells else -1
        # The options are saved at once: ServiceTitan serves records that share a `modifiedOn`.
        created = job.done - rng.randrange(1, 20 * ticks.MINUTE)
        decided = created + rng.randrange(1, 9 * ticks.DAY)
        is_given_up = rng.random() < 0.5
        for option, key in enumerate(job.estimate_ids):
            sold = decided if option == chosen else 0
            dismissed = decided + ticks.MINUTE if not sold and (sells or is_given_up) else 0
            estimate = Estimate(
                id=key,
                moments=sort_moments(created, sold, dismissed),
                deactivated=0,
                job=job,
                sold=sold,
                dismissed=dismissed,
                option=option,
                draw=job.draw,
                lines=self.draw_lines(rng) or self.draw_lines(rng),
            )
            company.estimates.append(estimate)
            if sold:
                self._plan_sold_work(rng, estimate)

    def _plan_sold_work(self, rng: random.Random, estimate: Estimate) -> None:
        """Plan the job that does the work of a sold estimate."""
        job = estimate.job
        self._company.agenda.add(
            draw_office_moment(rng, estimate.sold + ticks.DAY),
            lambda rng, moment: self.add_job(
                rng, moment, location=job.location, kind=job.kind, origin=Origin(estimate=estimate)
            ),
        )
