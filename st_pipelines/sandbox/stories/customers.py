"""Stories of customers, locations, contacts, calls and memberships."""

from __future__ import annotations

from st_pipelines.sandbox import sample_text, ticks
from st_pipelines.sandbox.company import Company
from st_pipelines.sandbox.entities import Call, Customer, Location, Membership
from st_pipelines.sandbox.filler import money
from st_pipelines.sandbox.stories.story import Fields, RenderContext, Story

FREQUENCIES = ("Monthly", "Annual", "OneTime")


def _customer(customer: Customer, context: RenderContext) -> Fields:
    return {
        "name": customer.name,
        "type": "Commercial" if customer.commercial else "Residential",
        "address": _address(customer, customer.street, customer.draw),
        "balance": money(customer.draw % 90_000 if customer.draw % 11 == 0 else 0),
        "taxExempt": customer.commercial and customer.draw % 3 == 0,
        "doNotMail": customer.draw % 7 == 0,
        "doNotService": False,
        "mergedToId": None,
    }


def _address(customer: Customer, street: str, draw: int) -> Fields:
    located = draw % 9 > 0
    return {
        "street": street,
        "unit": None if draw % 4 else f"{draw % 30}A",
        "city": customer.city,
        "state": customer.state,
        # Dispatchers type into this field whatever they like.
        "zip": customer.zip if draw % 97 else "-",
        "country": "USA",
        "latitude": 40 + draw % 1_000_000 / 500_000 if located else None,
        "longitude": -74 + draw % 999_983 / 500_000 if located else None,
    }


def _location(location: Location, context: RenderContext) -> Fields:
    return {
        "customerId": location.customer.id,
        "name": location.customer.name,
        "address": _address(location.customer, location.street, location.draw),
        "mergedToId": None,
        "taxExempt": False,
    }


def _customer_contact(customer: Customer, context: RenderContext) -> Fields:
    return {"customerId": customer.id, **_contact(customer.name, customer.draw)}


def _location_contact(location: Location, context: RenderContext) -> Fields:
    return {"locationId": location.id, **_contact(location.customer.name, location.draw)}


def _contact(name: str, draw: int) -> Fields:
    number = f"91455501{draw % 100:02}"
    mail = draw % 3 == 0
    return {
        "type": "Email" if mail else "MobilePhone",
        "value": sample_text.email(name) if mail else number,
        "memo": None if draw % 5 else "Büro",
        "phoneSettings": None if mail else {"phoneNumber": number, "doNotText": draw % 2 == 0},
    }


def _call_type(call: Call) -> str:
    if call.location:
        return "Booked"
    return ("Unbooked", "Excused", "NotLead", "Abandoned")[call.draw % 4]


def _call_of_list(call: Call, context: RenderContext) -> Fields:
    customer = call.location and call.location.customer
    modified = max(moment for moment in call.moments if moment <= context.now)
    lead = {
        "createdOn": ticks.iso(call.moments[0]),
        "active": True,
        "id": call.id,
        "receivedOn": ticks.iso(call.moments[0]),
        "duration": f"00:{call.seconds // 60:02}:{call.seconds % 60:02}",
        "from": call.phone,
        "to": "9145550100",
        "direction": "Inbound" if call.draw % 6 else "Outbound",
        "callType": _call_type(call),
        "reason": None,
        "recordingUrl": f"https://example.com/recording/{call.id}",
        "voiceMailUrl": None,
        "createdBy": {"id": call.agent.id, "name": call.agent.name},
        "customer": customer and {"id": customer.id, "name": customer.name},
        "campaign": {"id": call.campaign.id, "name": call.campaign.name},
        "modifiedOn": ticks.iso(modified),
        "agent": {"id": call.agent.id, "name": call.agent.name, "externalId": None},
        "sid": f"CA{call.draw:032x}",
        "tags": [],
    }
    return {"jobNumber": None, "leadCall": lead}


def _call_of_export(call: Call, context: RenderContext) -> Fields:
    location = call.location
    customer = location and location.customer
    return {
        "duration": f"PT{call.seconds // 60}M{call.seconds % 60}S",
        "from": call.phone,
        "to": "9145550100",
        "direction": "Inbound" if call.draw % 6 else "Outbound",
        "status": "Completed",
        "type": _call_type(call),
        "reason": None,
        "customer": customer and {"id": customer.id, "name": customer.name},
        "location": location and {"id": location.id, "name": location.customer.name},
        "campaign": {"id": call.campaign.id, "name": call.campaign.name},
        "job": None,
        "agent": {"id": call.agent.id, "name": call.agent.name},
        "createdBy": {"id": call.agent.id, "name": call.agent.name},
        "lead": None,
    }


def _membership(membership: Membership, context: RenderContext) -> Fields:
    ended = context.past(membership.ended)
    frequency = FREQUENCIES[membership.kind]
    return {
        "from": ticks.midnight_utc(membership.start),
        "to": None
        if frequency == "OneTime"
        else ticks.midnight_utc(membership.start + 730 * ticks.DAY),
        "cancellationDate": ticks.iso(membership.ended) if ended else None,
        "billingFrequency": frequency,
        "renewalBillingFrequency": None if frequency == "OneTime" else frequency,
        "status": "Canceled" if ended else "Active",
        "duration": 12,
        "businessUnitId": membership.unit.id,
        "customerId": membership.location.customer.id,
        "locationId": membership.location.id,
    }


def _customers(company: Company) -> list[Customer]:
    return company.customers


STORIES = {
    "crm.customers": Story(entities=_customers, fields=_customer),
    "crm.customers_contacts": Story(
        entities=_customers, fields=_customer_contact, offset=420_000_000
    ),
    "crm.locations": Story(entities=lambda company: company.locations, fields=_location),
    "crm.locations_contacts": Story(
        entities=lambda company: company.locations, fields=_location_contact, offset=430_000_000
    ),
    "telecom.calls": Story(entities=lambda company: company.calls, fields=_call_of_list),
    "telecom.calls_export": Story(entities=lambda company: company.calls, fields=_call_of_export),
    "memberships.memberships": Story(
        entities=lambda company: company.memberships, fields=_membership
    ),
}
