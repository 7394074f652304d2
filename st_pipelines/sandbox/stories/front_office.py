"""Renders calls, the reasons why they were not booked, leads and web bookings."""

from __future__ import annotations

from typing import Any

from st_pipelines.sandbox import sample_text, ticks
from st_pipelines.sandbox.entities import Booking, Call, Reason, Staff
from st_pipelines.sandbox.ids import compute_user_id
from st_pipelines.sandbox.lead_entities import Lead
from st_pipelines.sandbox.stories.customers import render_address
from st_pipelines.sandbox.stories.story import Fields, RenderContext, Story, refer_to
from st_pipelines.sandbox.summaries import write_request

OFFICE_PHONE = "9145550100"
UNRECORDED = 5
"""One call of this many has no recording and no voicemail."""

PRIORITIES = ("Normal", "Normal", "Normal", "High", "Urgent")


def _render_reason(reason: Reason, context: RenderContext) -> Fields:
    return {"name": reason.name, "isLead": reason.is_lead}


def _render_call_for_list(call: Call, context: RenderContext) -> Fields:
    created, ended = call.moments
    customer = call.location and call.location.customer
    has_ended = context.has_passed(ended)
    reason = call.reason if has_ended else None
    lead_call = {
        "createdOn": ticks.format_iso(created),
        "active": True,
        "id": call.id,
        "receivedOn": ticks.format_iso(created),
        "duration": _format_duration(call) if has_ended else "00:00:00",
        "from": call.phone if call.inbound else OFFICE_PHONE,
        "to": OFFICE_PHONE if call.inbound else call.phone,
        "direction": "Inbound" if call.inbound else "Outbound",
        "callType": (call.outcome or None) if has_ended else None,
        "reason": reason and {**_refer_to_reason(reason), "active": True},
        "recordingUrl": _format_recording(call) if has_ended else None,
        "voiceMailUrl": _format_voicemail(call) if has_ended else None,
        "createdBy": _refer_to_agent(call),
        "customer": customer and refer_to(customer),
        "campaign": refer_to(call.campaign),
        "modifiedOn": ticks.format_iso(ended if has_ended else created),
        "agent": call.agent and {**_refer_to_user(call.agent), "externalId": None},
        "sid": f"CA{call.draw:032x}",
        "tags": [],
    }
    is_booked = has_ended and call.kind is not None
    return {
        "jobNumber": call.job_number if is_booked else None,
        "businessUnit": refer_to(call.kind.unit) if is_booked and call.kind else None,
        "leadCall": lead_call,
        "projectId": None,
        "type": refer_to(call.kind) if is_booked and call.kind else None,
    }


def has_recording(call: Call) -> bool:
    """Return whether a call was recorded: most of those that somebody answered."""
    return call.agent is not None and call.id % UNRECORDED > 0


def has_voicemail(call: Call) -> bool:
    """Return whether the caller left a message: most of those whom nobody answered."""
    return call.agent is None and call.id % UNRECORDED > 0


def _format_recording(call: Call) -> str | None:
    return f"https://example.com/recording/{call.id}" if has_recording(call) else None


def _format_voicemail(call: Call) -> str | None:
    return f"https://example.com/voicemail/{call.id}" if has_voicemail(call) else None


def _refer_to_user(person: Staff) -> Fields:
    return {"id": compute_user_id(person.id), "name": person.name}


def _refer_to_agent(call: Call) -> Fields | None:
    return _refer_to_user(call.agent) if call.agent else None


def _render_duration(call: Call) -> str:
    """Render a duration as exports were seen to serve it: `00:00:37.0670506`."""
    fraction = call.draw * 7919 % ticks.SECOND if call.draw % 8 else 0
    return f"{_format_duration(call)}.{fraction:07}" if fraction else _format_duration(call)


def _refer_to_reason(reason: Reason) -> Fields:
    return {**refer_to(reason), "lead": reason.is_lead}


def _format_duration(call: Call) -> str:
    return f"00:{call.seconds // 60:02}:{call.seconds % 60:02}"


def _render_call_for_export(call: Call, context: RenderContext) -> Fields:
    location = call.location
    customer = location and location.customer
    has_ended = context.has_passed(call.moments[-1])
    job: Any = {"id": call.job_id, "number": call.job_number}
    return {
        "duration": _render_duration(call) if has_ended else "00:00:00",
        "from": call.phone if call.inbound else OFFICE_PHONE,
        "to": OFFICE_PHONE if call.inbound else call.phone,
        "direction": "Inbound" if call.inbound else "Outbound",
        "recordingUrl": _format_recording(call) if has_ended else None,
        "voiceMailPath": _format_voicemail(call) if has_ended else None,
        "excuseMemo": call.reason.name
        if has_ended and call.outcome == "Excused" and call.reason
        else None,
        "status": "Completed" if has_ended else "Answered",
        "type": (call.outcome or None) if has_ended else None,
        "reason": refer_to(call.reason) if has_ended and call.reason else None,
        "customer": customer and refer_to(customer),
        "location": location and customer and {"id": location.id, "name": customer.name},
        "campaign": refer_to(call.campaign),
        "job": job if has_ended and call.job_id else None,
        "agent": _refer_to_agent(call),
        "createdBy": _refer_to_agent(call),
        "lead": {"id": call.lead_id} if has_ended and call.lead_id else None,
    }


def _render_lead(lead: Lead, context: RenderContext) -> Fields:
    call, location = lead.call, lead.location
    converted, dismissed = context.has_passed(lead.converted), context.has_passed(lead.dismissed)
    is_customer = lead.known or converted
    customer = location.customer
    return {
        "status": "Converted" if converted else "Dismissed" if dismissed else "Open",
        "priority": PRIORITIES[lead.draw % len(PRIORITIES)],
        "customerId": customer.id if is_customer else None,
        "locationId": location.id if is_customer else None,
        "businessUnitId": lead.kind.unit.id,
        "jobTypeId": lead.kind.id,
        "campaignId": call.campaign.id,
        "followUpDate": None if converted or dismissed else ticks.format_midnight(lead.follow_up),
        "createdById": compute_user_id(call.agent.id) if call.agent else None,
        "dismissingReasonId": call.reason.id if dismissed and call.reason else None,
        "summary": write_request(lead.kind.name, lead.draw),
        "callReasonId": call.reason.id if call.reason else None,
        "callId": call.id,
        "bookingId": None,
        "manualCallId": None,
        "leadUrl": None,
        "captureSource": "Form" if lead.draw % 6 == 0 else "Call",
        "leadCustomerName": None if is_customer else customer.name,
        "leadPhone": None if is_customer else call.phone,
        "leadEmail": None if is_customer else sample_text.derive_email(customer.name),
        **_render_lead_address(lead, is_known=is_customer),
    }


def _render_lead_address(lead: Lead, *, is_known: bool) -> Fields:
    """Render where a caller lives whose location is not known; None if it is."""
    location = lead.location
    address = render_address(location.customer, location.street, location.draw)
    names = ("street", "unit", "city", "state", "zip", "country")
    return {f"lead{name.title()}": None if is_known else address[name] for name in names}


def _render_booking(booking: Booking, context: RenderContext) -> Fields:
    converted = context.has_passed(booking.converted)
    customer = booking.location.customer
    return {
        "source": booking.campaign.name,
        "name": customer.name,
        "address": _render_typed_address(booking),
        "customerType": "Commercial" if customer.commercial else "Residential",
        "start": ticks.format_midnight(booking.moments[0] + 2 * ticks.DAY),
        "campaignId": booking.campaign.id,
        "businessUnitId": booking.kind.unit.id,
        "isFirstTimeClient": booking.draw % 3 == 0,
        "status": _find_booking_status(booking, context),
        "jobId": booking.job_id if converted else None,
        "externalId": f"web-{booking.id}",
        "priority": PRIORITIES[booking.draw % len(PRIORITIES)],
        "jobTypeId": booking.kind.id,
        "summary": write_request(booking.kind.name, booking.draw),
    }


def _render_typed_address(booking: Booking) -> Fields:
    names = ("street", "unit", "city", "state", "zip", "country")
    address = render_address(booking.location.customer, booking.location.street, booking.draw)
    return {name: address[name] for name in names}


def _find_booking_status(booking: Booking, context: RenderContext) -> str:
    if context.has_passed(booking.converted):
        return "Converted"
    if context.has_passed(booking.dismissed):
        return "Dismissed"
    return "Accepted" if context.has_passed(booking.accepted) else "New"


STORIES = {
    "jbce.call_reasons": Story(
        entities=lambda company: company.master_data.call_reasons, fields=_render_reason
    ),
    "telecom.calls": Story(entities=lambda company: company.calls, fields=_render_call_for_list),
    "telecom.calls_export": Story(
        entities=lambda company: company.calls, fields=_render_call_for_export
    ),
    "crm.leads": Story(entities=lambda company: company.leads, fields=_render_lead),
    "crm.bookings": Story(entities=lambda company: company.bookings, fields=_render_booking),
}
