"""Renders online schedulers, their sessions, and how many of these led to something."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from st_pipelines.sandbox import ticks
from st_pipelines.sandbox.company import Company
from st_pipelines.sandbox.entities import Named
from st_pipelines.sandbox.ids import make_text_key
from st_pipelines.sandbox.planning.web_scheduling import COLLECTION, STEPS, Session, WebScheduling
from st_pipelines.sandbox.stories.customers import render_address
from st_pipelines.sandbox.stories.story import ChildStory, Fields, RenderContext, Story

_NEVER = (
    "totalAbandonedSessionsSentToBookings",
    "totalAbandonedSessionsSentToLeads",
    "totalBookingsRecoveredFromAbandonedSessionsRecoveryLink",
    "totalJobsRecoveredFromAbandonedSessionsRecoveryLink",
    "totalBookingsRecoveredFromAbandonedSessionsAiAgent",
    "totalJobsRecoveredFromAbandonedSessionsAiAgent",
    "totalSmsSentToRecoverAbandonedSessionRecoveryLink",
    "totalSmsSentToRecoverAbandonedSessionAiAgent",
    "totalBookingsRecoveredFromAbandonedSessions",
    "totalJobsRecoveredFromAbandonedSessions",
    "totalMembershipInterest",
)
"""What the company does not do: nobody writes to visitors who left."""

_ADDRESS = ("street", "unit", "city", "state", "zip", "country")


def _render_scheduler(scheduler: Named, context: RenderContext) -> Fields:
    slug = scheduler.name.lower().replace(" ", "-")
    return {
        "name": scheduler.name,
        "schedulerStatus": "Active",
        "isDefault": scheduler.draw == 0,
        "mode": "Call_Center" if scheduler.draw == 1 else "Standard",
        "quickLaunchLink": f"https://example.com/schedule/{slug}",
    }


def _list_sessions(company: Company, scheduler: Named) -> list[Session]:
    return company.chapter(WebScheduling).sessions[scheduler.id]


def _render_session(session: Session, context: RenderContext) -> Fields:
    booking, ended = session.booking, context.has_passed(session.moments[1])
    is_booked = context.has_passed(session.booked)
    has_job = is_booked and booking.job_id and context.has_passed(booking.converted)
    slot = ticks.from_local_day(ticks.to_local_day(ticks.to_datetime(booking.moments[0])) + 2)
    chose_slot = session.last_step not in STEPS[:2]
    return {
        "lastCheckinDate": ticks.format_iso(session.moments[1] if ended else session.moments[0]),
        "sessionOutcome": "Booked" if is_booked else "Abandoned" if ended else None,
        "jobId": booking.job_id if has_job else None,
        "bookingId": booking.id if is_booked else None,
        "leadId": None,
        "schedulerId": session.scheduler_key,
        "timeslotStart": ticks.format_iso(slot + 8 * ticks.HOUR) if chose_slot else None,
        "timeslotEnd": ticks.format_iso(slot + 12 * ticks.HOUR) if chose_slot else None,
        "category": booking.kind.unit.name,
        "jobTypeId": booking.kind.id,
        "businessUnitId": booking.kind.unit.id,
        "customer": _render_visitor(session, is_booked=is_booked),
        "zoneId": None,
        "notes": None,
        "lastStep": session.last_step if ended else None,
        "campaignName": booking.campaign.name,
        "recurringServiceId": None,
        "previousSessionId": None,
    }


def _render_visitor(session: Session, *, is_booked: bool) -> Fields:
    location = session.booking.location
    customer = location.customer
    first, _, last = customer.name.partition(" ")
    address = render_address(customer, location.street, location.draw)
    return {
        "isNewCustomer": session.booking.draw % 3 == 0,
        "id": customer.id if is_booked else None,
        "firstName": first,
        "lastName": last or None,
        "locationId": location.id if is_booked else None,
        "isNewLocation": False,
        "address": {name: address[name] for name in _ADDRESS},
    }


def render_performance(
    company: Company, scheduler: Named, values: Mapping[str, Any], now: int
) -> Fields:
    """Count the sessions that began in a window.

    Args:
        company: whose sessions.
        scheduler: the scheduler.
        values: the query, with the bounds of the window in ticks.
        now: the simulated time (ticks). Nothing later counts.
    """
    first, last = values["sessionCreatedOnOrAfter"], values["sessionCreatedBefore"]
    sessions = [
        s for s in _list_sessions(company, scheduler) if first <= s.moments[0] < min(last, now + 1)
    ]
    booked = [s for s in sessions if 0 < s.booked <= now]
    jobs = [s for s in booked if s.booking.job_id and 0 < s.booking.converted <= now]
    left = [s for s in sessions if not s.booked and s.moments[1] <= now]
    rate = len(booked) / len(sessions) if sessions else 0.0
    reached = {
        step: sum(s.booked > 0 or STEPS.index(s.last_step) >= at for s in booked + left)
        for at, step in enumerate(STEPS)
    }
    counts = {"opened": len(sessions), "interacted": reached["zipcode"], **reached}
    return {
        **dict.fromkeys(_NEVER, 0),
        "id": make_text_key(COLLECTION, scheduler.draw, company.seed),
        "schedulerName": scheduler.name,
        "brandName": company.profile.brand,
        "schedulerCompletionRate": rate,
        "openedCompletionRate": rate,
        "totalCustomerContactsCaptured": reached["customer"],
        "totalJobsCreated": len(jobs),
        "totalBookingsCreated": len(booked),
        "totalSessions": len(sessions),
        "milestoneFrequencyCount": {**counts, "booked": len(booked), "abandoned": len(left)},
    }


STORIES = {
    COLLECTION: Story(
        entities=lambda company: company.chapter(WebScheduling).schedulers,
        fields=_render_scheduler,
    ),
}

CHILDREN = {
    "/schedulingpro/v2/tenant/{tenant}/schedulers/{id}/sessions": ChildStory(
        entities=_list_sessions, fields=_render_session
    )
}
