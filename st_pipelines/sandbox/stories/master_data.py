"""Stories of the master data: business units, people, tags, job types, price book."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from st_pipelines.sandbox import sample_text
from st_pipelines.sandbox.company import Company
from st_pipelines.sandbox.entities import Named, Sku, Staff
from st_pipelines.sandbox.filler import money
from st_pipelines.sandbox.master_data import MasterData
from st_pipelines.sandbox.stories.story import Fields, RenderContext, Story


def _name(named: Named, context: RenderContext) -> Fields:
    return {"name": named.name}


def _job_type(kind: Staff, context: RenderContext) -> Fields:
    return {"name": kind.name, "businessUnitIds": [kind.unit.id]}


def _person(person: Staff, context: RenderContext) -> Fields:
    first, last = person.name.split(" ", 1)
    return {
        "userId": person.id + 7_000_000,
        "name": person.name,
        "firstName": first,
        "lastName": last,
        "email": sample_text.email(person.name),
        "loginName": sample_text.email(person.name).split("@")[0],
        "businessUnitId": person.unit.id,
        "hourlyRate": money(2200 + person.draw % 3000),
    }


def _employee(person: Staff, context: RenderContext) -> Fields:
    return {
        **_person(person, context),
        "role": sample_text.ROLES[person.draw % len(sample_text.ROLES)],
    }


def _technician(person: Staff, context: RenderContext) -> Fields:
    return {**_person(person, context), "shiftStart": "08:00:00", "shiftEnd": "17:00:00"}


def _pay(person: Staff, context: RenderContext) -> Fields:
    technician = person.id >= 1_500_000
    return {
        "employeeId": person.id,
        "employeeType": "Technician" if technician else "Employee",
    }


def _sku(sku: Sku, context: RenderContext) -> Fields:
    return {
        "code": sku.code,
        "displayName": sku.name,
        "description": f"<p>{sku.name}, geprüft</p>",
        "price": money(sku.cents, 10),
        "memberPrice": money(sku.cents * 9 // 10, 10),
        "cost": money(sku.cents // 3, 10),
    }


def _service(sku: Sku, context: RenderContext) -> Fields:
    category = {"id": sku.category.id, "name": sku.category.name, "active": True}
    return {**_sku(sku, context), "categories": [category]}


def _material(sku: Sku, context: RenderContext) -> Fields:
    return {**_sku(sku, context), "categories": [sku.category.id]}


def _of(choose: Callable[[MasterData], Sequence[Named]]) -> Callable[[Company], Sequence[Named]]:
    return lambda company: choose(company.master_data)


STORIES = {
    "settings.business_units": Story(entities=_of(lambda data: data.units), fields=_name),
    "settings.tag_types": Story(entities=_of(lambda data: data.tags), fields=_name),
    "settings.employees": Story(entities=_of(lambda data: data.office), fields=_employee),
    "settings.technicians": Story(entities=_of(lambda data: data.technicians), fields=_technician),
    "payroll.payroll_settings": Story(
        entities=_of(lambda data: data.office + data.technicians), fields=_pay
    ),
    "marketing.campaigns": Story(entities=_of(lambda data: data.campaigns), fields=_name),
    "jpm.job_types": Story(entities=_of(lambda data: data.job_types), fields=_job_type),
    "pricebook.categories": Story(entities=_of(lambda data: data.categories), fields=_name),
    "pricebook.categories_export": Story(entities=_of(lambda data: data.categories), fields=_name),
    "pricebook.services": Story(entities=_of(lambda data: data.services), fields=_service),
    "pricebook.materials": Story(entities=_of(lambda data: data.materials), fields=_material),
    "pricebook.equipment": Story(entities=_of(lambda data: data.equipment), fields=_material),
}
