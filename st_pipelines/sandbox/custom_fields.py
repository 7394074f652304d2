"""Describes custom field types, and draws values.

A record's field names a type from its collection's list of types.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from st_pipelines.sandbox.ids import compute_first_id, compute_id, count_initial_rows

TYPES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("Gate Code", "Text", ()),
    ("Preferred Time", "Dropdown", ("Morning", "Afternoon", "Evening")),
    ("Filter Size", "Text", ()),
    ("Square Feet", "Numeric", ()),
    ("Permit Status", "Dropdown", ("Not Needed", "Requested", "Granted")),
    ("Cost Center", "Numeric", ()),
    ("Größe", "Text", ()),
    ("Priority", "Dropdown", ("A", "B", "C")),
)
"""The name, the data type and the options of the types, in a cycle."""

LISTS: Mapping[str, str] = {
    "accounting.ap_bills": "accounting.ap_bills_custom_fields",
    "accounting.ap_credits": "accounting.ap_credits_custom_fields",
    "accounting.ap_payments": "accounting.ap_payments_custom_fields",
    "accounting.credit_memos": "accounting.credit_memos_custom_fields",
    "accounting.inventory_bills": "accounting.inventory_bills_custom_fields",
    "accounting.invoices": "accounting.invoices_custom_fields",
    "accounting.payments": "accounting.payments_custom_fields",
    "crm.customers": "crm.customers_custom_fields",
    "crm.locations": "crm.locations_custom_fields",
    "equipment_systems.installed_equipment": (
        "equipment_systems.installed_equipment_custom_field_types"
    ),
    "inventory.vendors": "inventory.vendors_custom_fields",
    "jpm.jobs": "jpm.jobs_custom_fields",
    "jpm.projects": "jpm.projects_custom_fields",
    "memberships.memberships": "memberships.memberships_custom_fields",
}
"""The list of the types of a collection's custom fields. Other collections have no such list."""


def is_type_list(collection: str) -> bool:
    """Return whether a collection lists types of custom fields."""
    return collection.endswith(("_custom_fields", "_custom_field_types"))


def describe_type(number: int) -> dict[str, Any]:
    """Return the members of the type at position `number` of its list, apart from id and times."""
    name, data_type, options = TYPES[number % len(TYPES)]
    around = number // len(TYPES)
    return {
        "name": f"{name} {around + 1}" if around else name,
        "dataType": data_type,
        "dataTypeOptions": list(options),
    }


def draw_custom_fields(collection: str, rng: random.Random) -> list[dict[str, Any]]:
    """Draw up to three custom fields of a record: type, name and value."""
    types = LISTS.get(collection, f"{collection}_custom_fields")
    count = max(1, count_initial_rows(types) // 2)
    numbers = sorted(rng.sample(range(count), min(count, rng.choice((0, 0, 1, 2, 3)))))
    return [_draw_custom_field(types, number, rng) for number in numbers]


def _draw_custom_field(types: str, number: int, rng: random.Random) -> dict[str, Any]:
    kind = describe_type(number)
    value = {
        "Text": lambda: f"{rng.choice('ABC')}{rng.randrange(100, 999)}",
        "Numeric": lambda: str(rng.randrange(1, 5000)),
        "Dropdown": lambda: rng.choice(kind["dataTypeOptions"]),
    }[kind["dataType"]]()
    return {
        "typeId": compute_id(compute_first_id(types), number),
        "name": kind["name"],
        "value": value,
    }
