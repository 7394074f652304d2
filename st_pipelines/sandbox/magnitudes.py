"""Says how large a number is, by the name of its field: percents, rates, ratings, hours, amounts.

The documents give no ranges. What a field means follows from the end of its name, for all APIs.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, MutableMapping
from functools import lru_cache
from typing import Any

import msgspec

_RULES: tuple[tuple[tuple[str, ...], tuple[int, int, int]], ...] = (
    # Fractions, as in the tax code of invoices: 0.08.
    (("taxrate",), (4, 10, 1)),
    (("hourlyrate", "perhour"), (1_800, 4_600, 25)),
    (("burdenrate",), (1_000, 3_000, 50)),
    (("depositpercent",), (1_000, 5_000, 500)),
    (("discount", "discountpercent", "commissionrate", "soldbyrate"), (100, 1_500, 50)),
    (("percent", "percentage", "percentageratevalue", "rate", "allocation"), (500, 4_000, 50)),
    (("flatratevalue",), (500, 5_000, 100)),
    (("rating",), (300, 501, 100)),
    (("hours",), (50, 1_201, 25)),
    (("bonus", "soldbycommission"), (0, 10_001, 500)),
    (("quantity", "quantityreceived", "quantitypicked", "qty"), (100, 900, 100)),
    (("goal",), (80_000, 300_000, 5_000)),
    (("depth", "height", "width"), (500, 8_000, 25)),
)
"""The smallest number, the end and the step in hundredths, by how the name of a field ends."""

ANY_AMOUNT = (0, 90_000, 1)
"""The range of other numbers: up to 900."""

DESCENDING = (
    ("to", "from"),
    ("maxQuantity", "minQuantity"),
    ("impressions", "clicks", "conversions"),
    ("leads", "bookedJobs", "ranJobs", "soldJobs"),
    ("quantity", "quantityReceived"),
    ("quantity", "quantityPicked"),
    ("creditLimit", "creditLimitBalance"),
    ("price", "memberPrice", "cost"),
    ("addOnPrice", "addOnMemberPrice"),
)
"""Members of one object of which the earlier ones are at least as large."""


@lru_cache(maxsize=2048)
def find_range(name: str) -> tuple[int, int, int]:
    """Return the range of the numbers in the field `name`: first, end and step, in hundredths."""
    lowered = name.lower()
    for endings, found in _RULES:
        if lowered.endswith(endings):
            return found
    return ANY_AMOUNT


def draw_hundredths(name: str, rng: random.Random) -> int:
    """Draw a number for the field `name`, in hundredths."""
    return rng.randrange(*find_range(name))


def order(members: MutableMapping[str, Any], drawn: Iterable[str]) -> None:
    """Put numbers that belong together in order, if all of them were drawn.

    Args:
        members: the members of one object. Changed.
        drawn: the names of those that were drawn.
    """
    names = set(drawn)
    for chain in DESCENDING:
        present = [name for name in chain if name in names and _is_number(members[name])]
        values = sorted((members[name] for name in present), key=_read, reverse=True)
        if len({type(value) for value in values}) == 1:
            members.update(zip(present, values, strict=True))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | msgspec.Raw) and not isinstance(value, bool)


def _read(value: Any) -> float:
    return float(bytes(value)) if isinstance(value, msgspec.Raw) else value
