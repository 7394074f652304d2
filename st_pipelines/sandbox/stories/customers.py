"""Renders customers, locations and contacts."""

from __future__ import annotations

from st_pipelines.sandbox import sample_text
from st_pipelines.sandbox.company import Company
from st_pipelines.sandbox.entities import Customer, Location
from st_pipelines.sandbox.ids import FIRST_IDS, compute_id
from st_pipelines.sandbox.scalars import format_money
from st_pipelines.sandbox.stories.story import Fields, RenderContext, Story

HEAD_OFFICES = (("Toronto", "ON", "M5H 2N2"), ("Montréal", "QC", "H3B 4W5"))
"""Where businesses get their bills that have their offices in Canada."""


def _render_customer(customer: Customer, context: RenderContext) -> Fields:
    return {
        "name": customer.name,
        "type": "Commercial" if customer.commercial else "Residential",
        "address": render_billing_address(customer),
        "balance": format_money(customer.draw % 90_000 if customer.draw % 11 == 0 else 0),
        "taxExempt": customer.is_exempt,
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


def render_billing_address(customer: Customer) -> Fields:
    """Render where a customer gets bills: one business in four has its office abroad."""
    address = render_address(customer, customer.street, customer.draw)
    if not customer.commercial or customer.draw % 4:
        return address
    city, state, zip_code = HEAD_OFFICES[customer.draw // 4 % len(HEAD_OFFICES)]
    place = {"city": city, "state": state, "zip": zip_code, "country": "Canada"}
    return {**address, **place, "latitude": None, "longitude": None}


def render_address(customer: Customer, street: str, draw: int) -> Fields:
    """Render an address of a customer. `draw` decides what is missing."""
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
        "address": render_address(location.customer, location.street, location.draw),
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
}
