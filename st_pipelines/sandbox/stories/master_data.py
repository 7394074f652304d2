"""The set-up: business units, people, tags, job types, campaigns and the price book."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from st_pipelines.sandbox import sample_text
from st_pipelines.sandbox.company import Company
from st_pipelines.sandbox.entities import Named, Sku, Staff
from st_pipelines.sandbox.filler import money
from st_pipelines.sandbox.master_data import Setup
from st_pipelines.sandbox.stories.story import Fields, Look, Story


def _name(named: Named, look: Look) -> Fields:
    return {"name": named.name}


def _job_type(kind: Staff, look: Look) -> Fields:
    return {"name": kind.name, "businessUnitIds": [kind.unit.id]}


def _person(person: Staff, look: Look) -> Fields:
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


def _employee(person: Staff, look: Look) -> Fields:
    return {
        **_person(person, look),
        "role": sample_text.ROLES[person.draw % len(sample_text.ROLES)],
    }


def _technician(person: Staff, look: Look) -> Fields:
    return {**_person(person, look), "shiftStart": "08:00:00", "shiftEnd": "17:00:00"}


def _pay(person: Staff, look: Look) -> Fields:
    technician = person.id >= 1_500_000
    return {
        "employeeId": person.id,
        "employeeType": "Technician" if technician else "Employee",
    }


def _sku(sku: Sku, look: Look) -> Fields:
    return {
        "code": sku.code,
        "displayName": sku.name,
        "description": f"<p>{sku.name}, geprüft</p>",
        "price": money(sku.cents, 10),
        "memberPrice": money(sku.cents * 9 // 10, 10),
        "cost": money(sku.cents // 3, 10),
    }


def _service(sku: Sku, look: Look) -> Fields:
    category = {"id": sku.category.id, "name": sku.category.name, "active": True}
    return {**_sku(sku, look), "categories": [category]}


def _material(sku: Sku, look: Look) -> Fields:
    return {**_sku(sku, look), "categories": [sku.category.id]}


def _of(choose: Callable[[Setup], Sequence[Named]]) -> Callable[[Company], Sequence[Named]]:
    return lambda company: choose(company.setup)


STORIES = {
    "settings.business_units": Story(items=_of(lambda setup: setup.units), fields=_name),
    "settings.tag_types": Story(items=_of(lambda setup: setup.tags), fields=_name),
    "settings.employees": Story(items=_of(lambda setup: setup.office), fields=_employee),
    "settings.technicians": Story(items=_of(lambda setup: setup.technicians), fields=_technician),
    "payroll.payroll_settings": Story(
        items=_of(lambda setup: setup.office + setup.technicians), fields=_pay
    ),
    "marketing.campaigns": Story(items=_of(lambda setup: setup.campaigns), fields=_name),
    "jpm.job_types": Story(items=_of(lambda setup: setup.job_types), fields=_job_type),
    "pricebook.categories": Story(items=_of(lambda setup: setup.categories), fields=_name),
    "pricebook.categories_export": Story(items=_of(lambda setup: setup.categories), fields=_name),
    "pricebook.services": Story(items=_of(lambda setup: setup.services), fields=_service),
    "pricebook.materials": Story(items=_of(lambda setup: setup.materials), fields=_material),
    "pricebook.equipment": Story(items=_of(lambda setup: setup.equipment), fields=_material),
}
