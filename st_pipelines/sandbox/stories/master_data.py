"""Renders the master data: business units, people, tags, campaigns, job types, price book."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from st_pipelines.sandbox import sample_text
from st_pipelines.sandbox.company import Company
from st_pipelines.sandbox.entities import NO_CHARGE, Named, Sku, Staff
from st_pipelines.sandbox.ids import compute_user_id
from st_pipelines.sandbox.master_data import MasterData
from st_pipelines.sandbox.payroll_entities import get_hourly_rate
from st_pipelines.sandbox.scalars import format_money
from st_pipelines.sandbox.stories.story import Fields, RenderContext, Story

SOLD_THRESHOLDS = (0, 4900, 9900, 15000)
"""From which subtotal (cents) a job counts as sold, by job type."""


def _render_name(named: Named, context: RenderContext) -> Fields:
    return {"name": named.name}


def _render_job_type(kind: Staff, context: RenderContext) -> Fields:
    return {
        "name": kind.name,
        "businessUnitIds": [kind.unit.id],
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
    return {
        **_render_person(person, context),
        "role": sample_text.ROLES[person.draw % len(sample_text.ROLES)],
    }


def _render_technician(person: Staff, context: RenderContext) -> Fields:
    return {**_render_person(person, context), "shiftStart": "08:00:00", "shiftEnd": "17:00:00"}


def _render_payroll_settings(person: Staff, context: RenderContext) -> Fields:
    technician = person.id >= 1_500_000
    return {
        "employeeId": person.id,
        "employeeType": "Technician" if technician else "Employee",
        "hourlyRate": format_money(get_hourly_rate(person)),
    }


def _render_sku(sku: Sku, context: RenderContext) -> Fields:
    return {
        "code": sku.code,
        "displayName": sku.name,
        "description": f"<p>{sku.name}, geprüft</p>",
        "price": format_money(sku.cents, 10),
        "memberPrice": format_money(sku.cents * 9 // 10, 10),
        "cost": format_money(sku.cents // 3, 10),
    }


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
        entities=_list_from(lambda data: data.units), fields=_render_name
    ),
    "settings.business_units_intacct": Story(
        entities=_list_from(lambda data: data.units), fields=_render_name
    ),
    "settings.tag_types": Story(entities=_list_from(lambda data: data.tags), fields=_render_name),
    "settings.employees": Story(
        entities=_list_from(lambda data: data.office), fields=_render_employee
    ),
    "settings.technicians": Story(
        entities=_list_from(lambda data: data.technicians), fields=_render_technician
    ),
    "payroll.payroll_settings": Story(
        entities=_list_from(lambda data: data.office + data.technicians),
        fields=_render_payroll_settings,
    ),
    "marketing.campaigns": Story(
        entities=_list_from(lambda data: data.campaigns), fields=_render_name
    ),
    "jpm.job_types": Story(
        entities=_list_from(lambda data: data.job_types), fields=_render_job_type
    ),
    "pricebook.categories": Story(
        entities=_list_from(lambda data: data.categories), fields=_render_name
    ),
    "pricebook.categories_export": Story(
        entities=_list_from(lambda data: data.categories), fields=_render_name
    ),
    "pricebook.services": Story(
        entities=_list_from(lambda data: data.services), fields=_render_service
    ),
    "pricebook.materials": Story(
        entities=_list_from(lambda data: data.materials), fields=_render_material
    ),
    "pricebook.equipment": Story(
        entities=_list_from(lambda data: data.equipment), fields=_render_material
    ),
}
