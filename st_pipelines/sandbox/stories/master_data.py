"""Renders the master data: business units, people, tags, campaigns, job types, price book."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from st_pipelines.sandbox import sample_text, ticks
from st_pipelines.sandbox.company import Company
from st_pipelines.sandbox.entities import NO_CHARGE, JobType, Named, Sku, Staff
from st_pipelines.sandbox.ids import compute_user_id
from st_pipelines.sandbox.master_data import (
    FIRST_CAMPAIGN,
    FIRST_EMPLOYEE,
    MasterData,
)
from st_pipelines.sandbox.payroll_entities import get_hourly_rate, is_technician
from st_pipelines.sandbox.scalars import format_money
from st_pipelines.sandbox.stories.story import Fields, RenderContext, Story
from st_pipelines.sandbox.trades import TRADES

FIRST_TRADE = 2_052_000
"""The id of the first trade. Nothing lists trades."""

SOLD_THRESHOLDS = (0, 4900, 9900, 15000)
"""From which subtotal (cents) a job counts as sold, by job type."""


def _render_name(named: Named, context: RenderContext) -> Fields:
    return {"name": named.name}


def _render_unit(unit: Named, context: RenderContext) -> Fields:
    trade, brand = unit.name.split(" ", 1)
    return {
        "name": unit.name,
        "officialName": f"{brand} {trade} Services LLC",
        "trade": {"id": FIRST_TRADE + TRADES.index(trade), "name": trade},
        "division": {"id": FIRST_TRADE - 1, "name": brand},
    }


def _render_intacct_unit(unit: Named, context: RenderContext) -> Fields:
    return {"name": unit.name, "tradeName": unit.name.split(" ", 1)[0]}


def _render_campaign(campaign: Named, context: RenderContext) -> Fields:
    return {
        "name": campaign.name,
        "isDefaultCampaign": campaign.id == FIRST_CAMPAIGN,
        "medium": campaign.name.rpartition(" ")[0],
        "otherMedium": None,
        "source": None,
        "otherSource": None,
    }


def _render_job_type(kind: JobType, context: RenderContext) -> Fields:
    return {
        "name": kind.name,
        "businessUnitIds": [unit.id for unit in kind.units],
        "soldThreshold": format_money(SOLD_THRESHOLDS[kind.draw % len(SOLD_THRESHOLDS)]),
        "noCharge": kind.name in NO_CHARGE,
    }


def _render_person(person: Staff, context: RenderContext) -> Fields:
    first, last = person.name.split(" ", 1)
    return {
        "userId": compute_user_id(person.id),
        "name": person.name,
        "firstName": first,
        "lastName": last,
        "email": sample_text.derive_email(person.name),
        "loginName": sample_text.derive_email(person.name).split("@")[0],
        "businessUnitId": person.unit.id,
        "hourlyRate": format_money(get_hourly_rate(person)),
    }


def _render_employee(person: Staff, context: RenderContext) -> Fields:
    number = (person.id - FIRST_EMPLOYEE) // 3
    return {
        **_render_person(person, context),
        "role": "Owner" if number == 0 else sample_text.ROLES[number % len(sample_text.ROLES)],
        **_render_employment(person, context),
    }


def _render_employment(person: Staff, context: RenderContext) -> Fields:
    """Render when somebody was hired, and when an inactive person left."""
    has_left = context.has_passed(person.deactivated)
    return {
        "startDate": _format_hired(person),
        "terminationDate": ticks.format_midnight(person.deactivated) if has_left else None,
    }


def _render_technician(person: Staff, context: RenderContext) -> Fields:
    return {
        **_render_person(person, context),
        "shiftStart": "08:00:00",
        "shiftEnd": "17:00:00",
        "startDate": _format_hired(person),
    }


def _render_payroll_settings(person: Staff, context: RenderContext) -> Fields:
    return {
        "employeeId": person.id,
        "employeeType": "Technician" if is_technician(person) else "Employee",
        "hourlyRate": format_money(get_hourly_rate(person)),
        "hireDate": _format_hired(person),
    }


def _format_hired(person: Staff) -> str:
    """Format when somebody was hired: weeks before the first visit or payroll."""
    return ticks.format_midnight(person.moments[0] - 30 * ticks.DAY)


def _render_sku(sku: Sku, context: RenderContext) -> Fields:
    return {
        "code": sku.code,
        "displayName": sku.name,
        "description": f"<p>{sku.name}, {_describe(sku)}</p>",
        "price": format_money(sku.cents, 10),
        "memberPrice": format_money(sku.cents * 9 // 10, 10),
        # Cheaper as part of a bigger job.
        "addOnPrice": format_money(sku.cents * 4 // 5, 10),
        "addOnMemberPrice": format_money(sku.cents * 3 // 4, 10),
        "cost": format_money(sku.cents // 3, 10),
        "hours": format_money(sku.minutes * 100 // 60, 10),
    }


def _describe(sku: Sku) -> str:
    if sku.draw % 40 == 0:
        return "geprüft"
    return {
        "Service": "labor and usual parts included",
        "Material": "from truck stock",
        "Equipment": "installed and tested",
    }[sku.kind]


def _render_service(sku: Sku, context: RenderContext) -> Fields:
    category = {"id": sku.category.id, "name": sku.category.name, "active": True}
    return {**_render_sku(sku, context), "categories": [category]}


def _render_material(sku: Sku, context: RenderContext) -> Fields:
    return {**_render_sku(sku, context), "categories": [sku.category.id]}


def _list_from(
    choose: Callable[[MasterData], Sequence[Named]],
) -> Callable[[Company], Sequence[Named]]:
    return lambda company: choose(company.master_data)


STORIES = {
    "settings.business_units": Story(
        entities=_list_from(lambda data: data.units), fields=_render_unit
    ),
    "settings.business_units_intacct": Story(
        entities=_list_from(lambda data: data.units), fields=_render_intacct_unit
    ),
    "settings.tag_types": Story(entities=_list_from(lambda data: data.tags), fields=_render_name),
    "settings.employees": Story(
        entities=_list_from(lambda data: data.office), fields=_render_employee
    ),
    "settings.technicians": Story(
        entities=_list_from(lambda data: data.technicians + data.former_technicians),
        fields=_render_technician,
    ),
    "payroll.payroll_settings": Story(
        entities=_list_from(lambda data: data.office + data.technicians),
        fields=_render_payroll_settings,
    ),
    "marketing.campaigns": Story(
        entities=_list_from(lambda data: data.campaigns), fields=_render_campaign
    ),
    "jpm.job_types": Story(
        entities=_list_from(lambda data: data.job_types), fields=_render_job_type
    ),
    "pricebook.categories": Story(
        entities=_list_from(lambda data: data.price_book.categories), fields=_render_name
    ),
    "pricebook.categories_export": Story(
        entities=_list_from(lambda data: data.price_book.categories), fields=_render_name
    ),
    "pricebook.services": Story(
        entities=_list_from(lambda data: data.price_book.services), fields=_render_service
    ),
    "pricebook.materials": Story(
        entities=_list_from(lambda data: data.price_book.materials), fields=_render_material
    ),
    "pricebook.equipment": Story(
        entities=_list_from(lambda data: data.price_book.equipment), fields=_render_material
    ),
}
