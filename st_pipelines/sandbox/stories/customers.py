"""Renders customers, locations, contacts, calls and memberships."""

from __future__ import annotations

from st_pipelines.sandbox import sample_text, ticks
from st_pipelines.sandbox.company import Company
from st_pipelines.sandbox.entities import Call, Customer, Location, Membership
from st_pipelines.sandbox.ids import FIRST_IDS, compute_id, compute_user_id
from st_pipelines.sandbox.scalars import format_money
from st_pipelines.sandbox.stories.story import Fields, RenderContext, Story

FREQUENCIES = ("Monthly", "Annual", "OneTime")


def _render_customer(customer: Customer, context: RenderContext) -> Fields:
    return {
        "name": customer.name,
        "type": "Commercial" if customer.commercial else "Residential",
        "address": _render_address(customer, customer.street, customer.draw),
        "balance": format_money(customer.draw % 90_000 if customer.draw % 11 == 0 else 0),
        "taxExempt": customer.commercial and customer.draw % 3 == 0,
        "doNotMail": customer.draw % 7 == 0,
        "doNotService": False,
        "mergedToId": _find_merged_to(customer, context),
    }


def _find_merged_to(customer: Customer, context: RenderContext) -> int | None:
    """Return the id of an earlier customer into whom an inactive one was merged; None if not."""
    number = (customer.id - FIRST_IDS["customer"]) // 3
    was_merged = context.has_passed(customer.deactivated) and customer.draw % 2 == 0
    if not was_merged or not number:
        return None
    return compute_id(FIRST_IDS["customer"], customer.draw % number)


def _render_address(customer: Customer, street: str, draw: int) -> Fields:
    has_coordinates = draw % 9 > 0
    return {
        "street": street,
        "unit": None if draw % 4 else f"{draw % 30}A",
        "city": customer.city,
        "state": customer.state,
        # Dispatchers type anything into this field.
        "zip": customer.zip if draw % 97 else "-",
        "country": "USA",
        "latitude": 40 + draw % 1_000_000 / 500_000 if has_coordinates else None,
        "longitude": -74 + draw % 999_983 / 500_000 if has_coordinates else None,
    }


def _render_location(location: Location, context: RenderContext) -> Fields:
    return {
        "customerId": location.customer.id,
        "name": location.customer.name,
        "address": _render_address(location.customer, location.street, location.draw),
        "mergedToId": None,
        "taxExempt": False,
    }


def _render_customer_contact(customer: Customer, context: RenderContext) -> Fields:
    return {"customerId": customer.id, **_render_contact(customer.name, customer.draw)}


def _render_location_contact(location: Location, context: RenderContext) -> Fields:
    return {"locationId": location.id, **_render_contact(location.customer.name, location.draw)}


def _render_contact(name: str, draw: int) -> Fields:
    number = f"91455501{draw % 100:02}"
    is_email = draw % 3 == 0
    return {
        "type": "Email" if is_email else "MobilePhone",
        "value": sample_text.derive_email(name) if is_email else number,
        "memo": None if draw % 5 else "Büro",
        "phoneSettings": None if is_email else {"phoneNumber": number, "doNotText": draw % 2 == 0},
    }


def _find_call_type(call: Call) -> str:
    if call.location:
        return "Booked"
    return ("Unbooked", "Excused", "NotLead", "Abandoned")[call.draw % 4]


def _render_call_for_list(call: Call, context: RenderContext) -> Fields:
    customer = call.location and call.location.customer
    modified = max(moment for moment in call.moments if moment <= context.now)
    lead = {
        "createdOn": ticks.format_iso(call.moments[0]),
        "active": True,
        "id": call.id,
        "receivedOn": ticks.format_iso(call.moments[0]),
        "duration": f"00:{call.seconds // 60:02}:{call.seconds % 60:02}",
        "from": call.phone,
        "to": "9145550100",
        "direction": "Inbound" if call.draw % 6 else "Outbound",
        "callType": _find_call_type(call),
        "reason": None,
        "recordingUrl": f"https://example.com/recording/{call.id}",
        "voiceMailUrl": None,
        "createdBy": _render_agent(call),
        "customer": customer and {"id": customer.id, "name": customer.name},
        "campaign": {"id": call.campaign.id, "name": call.campaign.name},
        "modifiedOn": ticks.format_iso(modified),
        "agent": {
            "id": compute_user_id(call.agent.id),
            "name": call.agent.name,
            "externalId": None,
        },
        "sid": f"CA{call.draw:032x}",
        "tags": [],
    }
    return {"jobNumber": None, "leadCall": lead}


def _render_call_for_export(call: Call, context: RenderContext) -> Fields:
    location = call.location
    customer = location and location.customer
    return {
        "duration": _render_duration(call),
        "from": call.phone,
        "to": "9145550100",
        "direction": "Inbound" if call.draw % 6 else "Outbound",
        "status": "Completed",
        "type": _find_call_type(call),
        "reason": None,
        "customer": customer and {"id": customer.id, "name": customer.name},
        "location": location and {"id": location.id, "name": location.customer.name},
        "campaign": {"id": call.campaign.id, "name": call.campaign.name},
        "job": None,
        "agent": _render_agent(call),
        "createdBy": _render_agent(call),
        "lead": None,
    }


def _render_agent(call: Call) -> Fields:
    return {"id": compute_user_id(call.agent.id), "name": call.agent.name}


def _render_duration(call: Call) -> str:
    """Render a duration as exports were seen to serve it: `00:00:37.0670506`."""
    fraction = call.draw * 7919 % ticks.SECOND if call.draw % 8 else 0
    whole = f"00:{call.seconds // 60:02}:{call.seconds % 60:02}"
    return f"{whole}.{fraction:07}" if fraction else whole


def _render_membership(membership: Membership, context: RenderContext) -> Fields:
    ended = context.has_passed(membership.ended)
    frequency = FREQUENCIES[membership.kind]
    return {
        "from": ticks.format_midnight(membership.start),
        "to": None
        if frequency == "OneTime"
        else ticks.format_midnight(membership.start + 730 * ticks.DAY),
        "cancellationDate": ticks.format_iso(membership.ended) if ended else None,
        "billingFrequency": frequency,
        "renewalBillingFrequency": None if frequency == "OneTime" else frequency,
        "status": "Canceled" if ended else "Active",
        "duration": 12,
        "businessUnitId": membership.unit.id,
        "customerId": membership.location.customer.id,
        "locationId": membership.location.id,
    }


def _list_customers(company: Company) -> list[Customer]:
    return company.customers


STORIES = {
    "crm.customers": Story(entities=_list_customers, fields=_render_customer),
    "crm.customers_contacts": Story(
        entities=_list_customers, fields=_render_customer_contact, offset=420_000_000
    ),
    "crm.locations": Story(entities=lambda company: company.locations, fields=_render_location),
    "crm.locations_contacts": Story(
        entities=lambda company: company.locations,
        fields=_render_location_contact,
        offset=430_000_000,
    ),
    "telecom.calls": Story(entities=lambda company: company.calls, fields=_render_call_for_list),
    "telecom.calls_export": Story(
        entities=lambda company: company.calls, fields=_render_call_for_export
    ),
    "memberships.memberships": Story(
        entities=lambda company: company.memberships, fields=_render_membership
    ),
}
