"""Plans what reaches the office: calls, web bookings, and the leads that follow from calls."""

from __future__ import annotations

import random
from typing import NamedTuple

from st_pipelines.sandbox import sample_text, ticks
from st_pipelines.sandbox.entities import Booking, Call, Location, Origin, Staff
from st_pipelines.sandbox.lead_entities import Lead
from st_pipelines.sandbox.planning.books import Books
from st_pipelines.sandbox.schedule import draw_office_hours, draw_office_moment, sort_moments

CALL_SHARE = 0.62
"""Share of jobs that are booked by a call."""

OTHER_CALLS = 0.4
"""Calls that are not leads, per job."""

DISMISSED_BOOKINGS = 0.04
"""Web bookings that lead to nothing, per job."""


class JobKey(NamedTuple):
    """The id and number of a job that is about to be added."""

    id: int
    number: str


class FrontOffice:
    """Adds calls, bookings and leads to a company."""

    def __init__(self, company: Books) -> None:
        self._company = company

    def plan_day(self, rng: random.Random, midnight: int, jobs: float) -> None:
        """Plan the day's calls that lead to no job at once. `jobs` is the day's mean of jobs."""
        rate = self._company.profile.booking_rate
        unbooked = jobs * CALL_SHARE * (1 - rate) / rate
        for moment in draw_office_hours(rng, midnight, unbooked):
            self.add_unbooked_call(rng, moment)
        for moment in draw_office_hours(rng, midnight, jobs * OTHER_CALLS):
            self._add_other_call(rng, moment)
        for moment in draw_office_hours(rng, midnight, jobs * DISMISSED_BOOKINGS):
            location = self._company.draw_location(rng, moment)
            kind = rng.choice(self._company.master_data.bookable)
            self.add_booking(rng, moment, location, kind, 0)

    def draw_origin(
        self, rng: random.Random, moment: int, location: Location, kind: Staff, job: JobKey
    ) -> Origin:
        """Draw how the office came to book a job at `moment`: by a call, on the web, or itself."""
        draw = rng.random()
        if draw < CALL_SHARE:
            return Origin(call=self._add_booked_call(rng, moment, location, kind, job))
        if draw < CALL_SHARE + self._company.profile.web_share:
            return Origin(booking=self.add_booking(rng, moment, location, kind, job.id))
        return Origin()

    def _add_booked_call(
        self, rng: random.Random, ended: int, location: Location, kind: Staff, job: JobKey
    ) -> Call:
        return self._add_call(
            rng,
            ended,
            seconds=rng.randrange(90, 900),
            outcome="Booked",
            location=location,
            kind=kind,
            job_id=job.id,
            job_number=job.number,
        )

    def add_unbooked_call(self, rng: random.Random, ended: int) -> None:
        """Add a call of somebody who wants something but does not book, and perhaps a lead."""
        company = self._company
        becomes_lead = rng.random() < 0.6 or not company.leads
        known = rng.random() < 0.5
        location = company.draw_location(rng, ended)
        lead_id = company.next_id("lead") if becomes_lead else 0
        call = self._add_call(
            rng,
            ended,
            seconds=rng.randrange(61, 700),
            outcome="Unbooked",
            location=location if known else None,
            reason=rng.choice([r for r in company.master_data.call_reasons if r.is_lead]),
            lead_id=lead_id,
        )
        if becomes_lead:
            self._add_lead(rng, call, location, known)

    def _add_lead(self, rng: random.Random, call: Call, location: Location, known: bool) -> None:
        company = self._company
        created = call.moments[-1]
        draw = rng.random()
        later = draw_office_moment(rng, created + rng.randrange(1, 21) * ticks.DAY)
        lead = Lead(
            id=call.lead_id,
            moments=sort_moments(created, later if draw < 0.75 else 0),
            deactivated=0,
            draw=rng.getrandbits(24),
            call=call,
            location=location,
            kind=rng.choice(company.master_data.bookable),
            known=known,
            converted=later if draw < 0.4 else 0,
            dismissed=later if 0.4 <= draw < 0.75 else 0,
            follow_up=created + rng.randrange(1, 6) * ticks.DAY,
        )
        company.leads.append(lead)
        if lead.converted:
            company.agenda.add(
                lead.converted,
                lambda rng, moment: company.add_job(
                    rng, moment, location=location, kind=lead.kind, origin=Origin()
                ),
            )

    def _add_other_call(self, rng: random.Random, ended: int) -> None:
        """Add a call that is not a lead: outgoing, excused, misdialed or abandoned."""
        company = self._company
        draw = rng.random()
        if draw < 0.25:
            known = company.draw_location(rng, ended)
            self._add_call(rng, ended, outcome="", inbound=False, location=known)
        elif draw < 0.45:
            self._add_call(rng, ended, outcome="Abandoned", seconds=rng.randrange(4, 60))
        else:
            reasons = [r for r in company.master_data.call_reasons if not r.is_lead]
            known = company.draw_location(rng, ended) if rng.random() < 0.4 else None
            outcome = "Excused" if draw < 0.65 else "NotLead"
            self._add_call(rng, ended, outcome=outcome, location=known, reason=rng.choice(reasons))

    def _add_call(
        self,
        rng: random.Random,
        ended: int,
        *,
        outcome: str,
        seconds: int = 0,
        location: Location | None = None,
        inbound: bool = True,
        **more: object,
    ) -> Call:
        company = self._company
        seconds = seconds or rng.randrange(20, 500)
        agent = None if outcome == "Abandoned" else rng.choice(company.master_data.office)
        call = Call(
            id=company.next_id("call"),
            moments=(ended - seconds * ticks.SECOND - rng.randrange(ticks.SECOND), ended),
            deactivated=0,
            draw=rng.getrandbits(24),
            location=location,
            seconds=seconds,
            agent=agent,
            campaign=rng.choice(company.master_data.campaigns),
            phone=sample_text.draw_phone(rng),
            outcome=outcome,
            inbound=inbound,
            **more,  # pyright: ignore[reportArgumentType]
        )
        company.calls.append(call)
        return call

    def add_booking(
        self, rng: random.Random, moment: int, location: Location, kind: Staff, job_id: int
    ) -> Booking:
        """Add a web booking that becomes the job `job_id` at `moment`; zero: it is dismissed."""
        company = self._company
        created = moment - rng.randrange(2 * ticks.MINUTE, 3 * ticks.HOUR)
        is_read_first = rng.random() < 0.4
        accepted = created + (moment - created) // 2 if is_read_first else 0
        booking = Booking(
            id=company.next_id("booking"),
            moments=sort_moments(created, accepted, moment),
            deactivated=0,
            draw=rng.getrandbits(24),
            location=location,
            kind=kind,
            campaign=rng.choice(company.master_data.campaigns),
            accepted=accepted,
            converted=moment if job_id else 0,
            dismissed=0 if job_id else moment,
            job_id=job_id,
        )
        company.bookings.append(booking)
        return booking
