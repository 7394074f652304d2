"""Plans jobs, and what follows from a job: visit, estimates, note, more jobs."""

from __future__ import annotations

import random

from st_pipelines.sandbox import ticks
from st_pipelines.sandbox.entities import (
    Estimate,
    Job,
    Line,
    Location,
    Named,
    Note,
    Origin,
    Staff,
    Visit,
)
from st_pipelines.sandbox.planning.billing import Billing
from st_pipelines.sandbox.planning.books import Books
from st_pipelines.sandbox.planning.dispatch import Dispatch
from st_pipelines.sandbox.planning.front_office import FrontOffice, JobKey
from st_pipelines.sandbox.planning.purchasing import Purchasing
from st_pipelines.sandbox.planning.sales import Sales
from st_pipelines.sandbox.schedule import draw_office_moment, sort_moments
from st_pipelines.sandbox.trades import WORK, find_estimate_type

RECALL_SHARE = 0.03
"""Share of jobs whose work has to be repaired."""

TECHNICIAN_LEADS = 0.02
"""Share of jobs on which the technician finds work for another job."""

CHANGE_ORDERS = 8
"""More work is offered in one of this many projects."""

DELETED_ESTIMATES = 13
"""One of this many estimates is deleted, if it is dismissed."""


class FieldWork:
    """Adds jobs to a company, and their consequences."""

    def __init__(
        self, company: Books, front_office: FrontOffice, billing: Billing, purchasing: Purchasing
    ) -> None:
        self._company = company
        self._front_office = front_office
        self._billing = billing
        self._purchasing = purchasing
        self._dispatch = Dispatch(company)
        self._sales = Sales(company)
        company.add_job = self.add_job

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
        location = location or company.draw_location(rng, created)
        kind = kind or rng.choice(company.master_data.bookable)
        key = JobKey(company.next_id("job"), str(100_000 + len(company.jobs)))
        if origin is None:
            origin = self._front_office.draw_origin(rng, created, location, kind, key)
        source = origin.call or origin.booking
        unit = _find_unit(kind, origin)
        technician, start, done = self._dispatch.draw_visit(rng, kind, unit, created)
        canceled = created + rng.randrange(1, start - created) if rng.random() < 0.08 else 0
        done = 0 if canceled else done
        edited = (done or canceled) + rng.randrange(ticks.HOUR, 25 * ticks.DAY)
        later = (canceled, edited) if canceled else (start, done, edited)
        draw = rng.getrandbits(24)
        has_estimates = bool(done) and _can_sell(kind, origin) and draw % 5 == 0
        options = rng.randrange(1, 5) if has_estimates else 0
        if done and origin.estimate is not None and draw % CHANGE_ORDERS == 0:
            options = 1
        job = Job(
            id=key.id,
            moments=sort_moments(created, *later),
            deactivated=edited if rng.random() < 0.015 else 0,
            number=key.number,
            location=location,
            kind=kind,
            unit=unit,
            origin=origin,
            campaign=source.campaign if source else rng.choice(company.master_data.campaigns),
            start=start,
            done=done,
            canceled=canceled,
            technician=technician,
            helper=self._dispatch.choose_helper(rng, technician),
            booked_by=(origin.call and origin.call.agent) or rng.choice(company.master_data.office),
            invoice_id=company.next_id("invoice"),
            visit_id=company.next_id("visit"),
            estimate_ids=tuple(company.next_id("estimate") for _ in range(options)),
            lines=self._sales.draw_job_lines(rng, kind, origin),
            draw=draw,
        )
        company.jobs.append(job)
        self._add_consequences(rng, job)
        return job

    def _add_consequences(self, rng: random.Random, job: Job) -> None:
        stop = job.done or job.canceled
        self._add_visit(job, stop)
        self._billing.add_job_invoice(rng, job)
        self._purchasing.order_for(rng, job)
        if job.estimate_ids and job.origin.estimate is not None:
            self._add_change_order(job)
        elif job.estimate_ids:
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
            trade = WORK[job.kind.name].trade
            kind, origin = (
                master_data.find_job_type(find_estimate_type(trade)),
                Origin(source=job),
            )
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
        kind = self._choose_offer(rng, job)
        offers = self._draw_offers(rng, kind, len(job.estimate_ids))
        for option, (key, lines) in enumerate(zip(job.estimate_ids, offers, strict=True)):
            sold = decided if option == chosen else 0
            dismissed = decided + ticks.MINUTE if not sold and (sells or is_given_up) else 0
            estimate = Estimate(
                id=key,
                moments=sort_moments(created, sold, dismissed),
                deactivated=dismissed if (job.draw + option) % DELETED_ESTIMATES == 0 else 0,
                job=job,
                sold=sold,
                dismissed=dismissed,
                option=option,
                draw=job.draw,
                kind=kind,
                lines=lines,
            )
            company.estimates.append(estimate)
            if sold:
                self._plan_sold_work(rng, estimate)

    def _add_change_order(self, job: Job) -> None:
        """Add an estimate that is offered in a project, while its work is done."""
        rng = random.Random(f"{self._company.seed}:change order:{job.id}")
        created = rng.randrange(job.start, job.done)
        dismissed = created + rng.randrange(ticks.HOUR, 5 * ticks.DAY) if rng.random() < 0.6 else 0
        estimate = Estimate(
            id=job.estimate_ids[0],
            moments=sort_moments(created, dismissed),
            job=job,
            sold=0,
            dismissed=dismissed,
            option=0,
            draw=job.draw,
            kind=job.kind,
            lines=self._sales.draw_extra_lines(rng, job.kind),
        )
        self._company.estimates.append(estimate)

    def _choose_offer(self, rng: random.Random, job: Job) -> Staff:
        """Choose the job type whose work is offered: more than what the job is for, if possible."""
        offers = WORK[job.kind.name].sells
        return self._company.master_data.find_job_type(rng.choice(offers)) if offers else job.kind

    def _draw_offers(self, rng: random.Random, kind: Staff, options: int) -> list[tuple[Line, ...]]:
        """Draw the lines of each option of an estimate, the cheapest first."""
        offers = [self._sales.draw_lines(rng, kind, option) for option in range(options)]
        return sorted(offers, key=lambda lines: sum(line.cents for line in lines))

    def _plan_sold_work(self, rng: random.Random, estimate: Estimate) -> None:
        """Plan the job that does the work of a sold estimate."""
        job = estimate.job
        self._company.agenda.add(
            draw_office_moment(rng, estimate.sold + ticks.DAY),
            lambda rng, moment: self.add_job(
                rng,
                moment,
                location=job.location,
                kind=estimate.kind,
                origin=Origin(estimate=estimate),
            ),
        )


def _find_unit(kind: Staff, origin: Origin) -> Named:
    """Return the business unit of a job, which is not its type's if the type is shared."""
    if origin.recall_of is not None:
        return origin.recall_of.unit
    return kind.unit if origin.membership is None else origin.membership.unit


def _can_sell(kind: Staff, origin: Origin) -> bool:
    """Return whether the technician may offer work: a job type's own, or bigger work."""
    work = WORK[kind.name]
    return origin.estimate is None and (bool(work.sells) or work.dollars[1] > 0)
