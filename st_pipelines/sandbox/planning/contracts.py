"""Plans memberships: sale, billing, visits, suspension, cancellation, expiry and renewal."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import timedelta

from st_pipelines.sandbox import ticks
from st_pipelines.sandbox.billing_entities import RecurringService, ServiceEvent
from st_pipelines.sandbox.entities import Found, Location, Membership, MembershipType, Origin, Staff
from st_pipelines.sandbox.planning.billing import Billing
from st_pipelines.sandbox.planning.books import Books
from st_pipelines.sandbox.schedule import draw_office_moment, sort_moments

TERM = 365 * ticks.DAY
RENEWED_SHARE = 0.7
CANCELED_SHARE = 0.1
SUSPENDED_SHARE = 0.06
BOOKED_SHARE = 0.75
"""Shares of memberships that are renewed, canceled and suspended, and of visits that are booked."""

VISITS = (100 * ticks.DAY, 280 * ticks.DAY)
"""When a membership's visits are due, after its start."""


class Contracts:
    """Adds memberships to a company."""

    def __init__(self, company: Books, billing: Billing) -> None:
        self._company = company
        self._billing = billing

    def add_first_membership(self, rng: random.Random, location: Location) -> None:
        """Plan the sale of a membership to some of the locations, in the months that follow."""
        company = self._company
        if company.memberships_planned and rng.random() >= company.profile.membership_share:
            return
        company.memberships_planned += 1
        # Terms that ended before the history are not known.
        earliest = max(location.moments[0], company.start - 340 * ticks.DAY)
        start = draw_office_moment(rng, earliest + rng.randrange(ticks.DAY, 300 * ticks.DAY))
        kind = rng.choice(company.master_data.membership_types)
        if company.agenda.is_past(start):
            self._start(rng, start, location, kind)
        else:
            company.agenda.add(start, lambda rng, moment: self._start(rng, moment, location, kind))

    def _start(
        self,
        rng: random.Random,
        start: int,
        location: Location,
        kind: MembershipType,
    ) -> Membership:
        company, draw = self._company, rng.random()
        end = 0 if kind.frequency == "OneTime" else start + TERM
        canceled = suspended = resumed = 0
        if draw < CANCELED_SHARE:
            canceled = start + rng.randrange(20, 340) * ticks.DAY + rng.randrange(ticks.DAY)
        elif draw < CANCELED_SHARE + SUSPENDED_SHARE or not company.memberships:
            suspended = start + rng.randrange(20, 250) * ticks.DAY
            resumed = suspended + rng.randrange(20, 80) * ticks.DAY
        is_renewed = bool(end) and not canceled and rng.random() < RENEWED_SHARE
        expired = end if end and not canceled else 0
        bills = tuple(
            moment
            for moment in _list_bills(start, kind.frequency)
            if not (canceled and moment >= canceled) and not suspended <= moment < resumed
        )
        data = company.master_data
        # The same visits again when it is renewed.
        service_type = data.service_types[location.draw % len(data.service_types)]
        unit, templates = service_type.unit, data.templates
        bits = rng.getrandbits(24)
        membership = Membership(
            id=company.next_id("membership"),
            moments=sort_moments(*{start, *bills, canceled, suspended, resumed, expired}),
            # The office deletes some of those that were canceled.
            deactivated=canceled if bits % 2 else 0,
            draw=bits,
            location=location,
            kind=kind,
            unit=unit,
            template=next(t for t in templates if t.kind is kind and t.unit is unit),
            seller=rng.choice(company.master_data.office),
            start=start,
            end=end,
            bills=bills,
            canceled=canceled,
            suspended=suspended,
            resumed=resumed,
            expired=expired,
            renewed=Found(),
        )
        company.memberships.append(membership)
        self._plan_bills(membership)
        self._add_visits(rng, membership, service_type)
        if is_renewed:
            company.agenda.add(end, lambda rng, moment: self._renew(rng, moment, membership))
        return membership

    def _renew(self, rng: random.Random, moment: int, membership: Membership) -> None:
        renewed = self._start(rng, moment, membership.location, membership.kind)
        membership.renewed.membership = renewed

    def _plan_bills(self, membership: Membership) -> None:
        billing = self._billing
        for bill in membership.bills:
            self._company.agenda.add(
                bill, lambda rng, moment: billing.add_membership_invoice(rng, membership, moment)
            )

    def _add_visits(self, rng: random.Random, membership: Membership, service_type: Staff) -> None:
        company, start = self._company, membership.start
        service = RecurringService(
            id=company.next_id("recurring_service"),
            moments=sort_moments(start, membership.canceled, membership.expired),
            deactivated=membership.canceled or membership.expired,
            draw=membership.draw,
            membership=membership,
            type=service_type,
            kind=company.master_data.find_job_type("Membership Visit"),
            campaign=rng.choice(company.master_data.campaigns),
        )
        company.recurring_services.append(service)
        for after in VISITS:
            self._add_visit(rng, service, start + after)

    def _add_visit(self, rng: random.Random, service: RecurringService, due: int) -> None:
        company, membership = self._company, service.membership
        booked = draw_office_moment(rng, due - rng.randrange(20) * ticks.DAY)
        is_booked = rng.random() < BOOKED_SHARE and not 0 < membership.canceled <= booked
        is_booked = is_booked and not company.agenda.is_past(booked)
        dismissed = 0 if is_booked else due + rng.randrange(5, 60) * ticks.DAY
        event = ServiceEvent(
            id=company.next_id("service_event"),
            moments=sort_moments(membership.start, booked if is_booked else 0, dismissed),
            draw=rng.getrandbits(24),
            service=service,
            due=due,
            booked=booked if is_booked else 0,
            dismissed=dismissed,
            found=Found(),
        )
        company.service_events.append(event)
        if is_booked:
            company.agenda.add(booked, lambda rng, moment: self._book(rng, moment, event))

    def _book(self, rng: random.Random, moment: int, event: ServiceEvent) -> None:
        membership = event.service.membership
        event.found.job = self._company.add_job(
            rng,
            moment,
            location=membership.location,
            kind=event.service.kind,
            origin=Origin(membership=membership),
        )


def _list_bills(start: int, frequency: str) -> Iterator[int]:
    """Yield when a membership that starts at `start` is billed (ticks), for one term."""
    yield start
    if frequency == "Monthly":
        first = ticks.to_datetime(start)
        for number in range(1, 12):
            month = first.month - 1 + number
            day = min(first.day, 28)
            date = first.replace(year=first.year + month // 12, month=month % 12 + 1, day=day)
            yield start + (date - first) // timedelta(microseconds=1) * 10
