"""Odd values seen in real responses, and how often the sandbox serves them.

Some are outside the vendor's schema: `EXCEPTIONS` lists where. Where it is not known which records
held a value, the sandbox chooses a field, and says so below.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

NO_TIME = "0001-01-01T00:00:00Z"


@dataclass(frozen=True)
class Odd:
    """Values that a field holds now and then.

    Attributes:
        values: one of them is served.
        share: how often, from 0 to 1.
    """

    values: tuple[Any, ...]
    share: float


_NOT_A_NUMBER = Odd(("Infinity", "-Infinity", "NaN"), 0.015)
_ZERO = Odd((0,), 0.05)
_THIRDS = Odd((msgspec.Raw(b"33.3333333333333333"), msgspec.Raw(b"16.6666666666666667")), 0.05)
_EMPTY_OBJECT = Odd(({},), 0.05)
_EMPTY_LIST = Odd(([],), 0.03)
# The operation that serves price-book images takes paths that begin so (vendor). What URLs of
# assets look like is not known, so some stay as they are generated.
_IMAGES = Odd(tuple(f"Images/Service/{number:04}.png" for number in range(400)), 0.7)
_FILES = Odd(
    tuple(f"Attachments/{number:04}.{kind}" for number in range(400) for kind in ("pdf", "png")),
    0.8,
)
_ATTACHMENTS = {"attachments[].url": _FILES}
_ASSET_PATHS = {"assets[].url": _IMAGES, "defaultAssetUrl": _IMAGES}

BY_SOURCE: Mapping[str, Mapping[str, Odd]] = {
    "marketing_ads.performance": {
        "digitalStats.clickRate": _NOT_A_NUMBER,
        "digitalStats.conversionRate": _NOT_A_NUMBER,
        "leadStats.bookingRate": _NOT_A_NUMBER,
        "returnOnInvestment": _NOT_A_NUMBER,
    },
    "accounting.inventory_bills": {"landedCostMethod": _ZERO},
    "inventory.purchase_order_types": {"landedCostMethod": _ZERO},
    "inventory.receipts": {"landedCostMethod": _ZERO, "items[].cost": _THIRDS},
    # Costs by division were not seen, but other quantities and costs had up to 19 places.
    "inventory.purchase_orders": {"items[].cost": _THIRDS},
    # A client met [] where it expected an object; in which list is not known.
    "equipment_systems.installed_equipment": {"type": _EMPTY_LIST},
    "inventory.returns": {"items[].serialNumbers": _EMPTY_OBJECT},
    "/equipmentsystems/v2/tenant/{tenant}/installed-equipment/{id}": _ATTACHMENTS,
    "/findings/v2/tenant/{tenant}/location-findings/{id}": _ATTACHMENTS,
    "/findings/v2/tenant/{tenant}/location-findings/{id}/attachments": {"url": _FILES},
    "pricebook.categories": {"image": _IMAGES, "skuImages[]": _IMAGES},
    "pricebook.discounts_and_fees": _ASSET_PATHS,
    "pricebook.equipment": _ASSET_PATHS,
    "pricebook.materials": _ASSET_PATHS,
    "pricebook.services": _ASSET_PATHS,
}
"""Odd values of generated fields, by collection and path."""

NULL_IDS = frozenset({"accounting.journal_entries", "accounting.payment_terms"})
"""Collections whose document allows a null id. The rows of a third come from payrolls, with ids."""

EXCEPTIONS: Mapping[str, tuple[str, ...]] = {
    "marketing_ads.performance": (
        "digitalStats.clickRate",
        "digitalStats.conversionRate",
        "leadStats.bookingRate",
        "returnOnInvestment",
    ),
    "accounting.inventory_bills": ("landedCostMethod",),
    "inventory.purchase_order_types": ("landedCostMethod",),
    "inventory.receipts": ("landedCostMethod",),
    "equipment_systems.installed_equipment": ("type",),
    "inventory.returns": ("items[].serialNumbers",),
}
"""Fields that may hold a value that the vendor's schema does not allow, by collection."""


def has_null_id(collection: str, number: int) -> bool:
    """Return whether the record at position `number` has no id."""
    return collection in NULL_IDS and number % 23 == 22


def replace_given(collection: str, fields: dict[str, Any], draw: int) -> None:
    """Replace values that are not generated: a few locations have no time of creation."""
    if collection == "crm.locations" and draw % 151 == 7:
        fields["createdOn"] = NO_TIME
        fields["createdById"] = 0
