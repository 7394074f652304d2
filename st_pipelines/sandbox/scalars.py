"""Draws single values that fit a schema: its type, its format and the name of the field."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import msgspec

from st_pipelines.catalog.specification import Schema
from st_pipelines.sandbox import magnitudes, sample_text, ticks

TEXT_AMOUNTS = frozenset(
    {
        "allocatedOtherCosts",
        "allocatedShipping",
        "allocatedTax",
        "amount",
        "appliedAmount",
        "balance",
        "billAmount",
        "cost",
        "discountTotal",
        "fullyLandedUnitCost",
        "memberPrice",
        "otherAmount",
        "price",
        "quantity",
        "salesTax",
        "shippingAmount",
        "subTotal",
        "taxAmount",
        "total",
        "totalCost",
        "unappliedAmount",
        "vendorInvoiceTotal",
    }
)
"""Fields of the accounting API that are declared as text and hold amounts."""

LONG_DECIMALS = frozenset({"inventory", "pricebook"})
"""APIs that serve decimals with many trailing zeros, up to 19 decimals."""

_LATER = ("due", "expir", "end", "until", "next", "to", "promis", "required")
_RARE = ("cancel", "fail", "delet", "void", "error", "reject", "unknown", "notset", "declin")
_COMMON = ("active", "complet", "done", "normal", "posted", "open", "regular", "paid", "booked")


@dataclass(kw_only=True)
class Draw:
    """What the random values of one record depend on.

    Attributes:
        rng: makes the choices.
        moment: when the record was created (ticks).
        record_id: its id, from which those of its parts derive; 0 if it has none.
        number: its position among its collection's records.
        chosen: what `references` has chosen for this record, so that its references agree.
    """

    rng: random.Random
    moment: int
    record_id: int = 0
    number: int = 0
    chosen: dict[str, Any] = field(default_factory=dict)


def format_money(cents: int, places: int = 2) -> msgspec.Raw:
    """Format cents as a JSON number with exactly `places` decimals: `25.1700000000`."""
    sign, value = ("-", -cents) if cents < 0 else ("", cents)
    return msgspec.Raw(f"{sign}{value // 100}.{value % 100:02}{'0' * (places - 2)}".encode())


def format_money_text(cents: int) -> str:
    """Format cents as text, as the accounting API serves amounts: `"0.00"`."""
    sign, value = ("-", -cents) if cents < 0 else ("", cents)
    return f"{sign}{value // 100}.{value % 100:02}"


def draw_scalar(api: str, schema: Schema, name: str, draw: Draw) -> Any:
    """Draw a value that is never null. `api` determines the format of decimals."""
    if schema.enum:
        return draw_enum(schema.enum, draw.rng)
    if schema.kind == "string":
        return _draw_string(api, schema, name, draw)
    if schema.kind == "integer":
        return _draw_integer(name, schema, draw)
    if schema.kind == "number":
        return _draw_number(api, name, schema, draw)
    return name == "active" or draw.rng.random() < 0.3


@lru_cache(maxsize=1024)
def weigh_enum(values: tuple[Any, ...]) -> tuple[float, ...]:
    """Return how likely each value is: earlier ones more, failures and cancellations little."""
    weights = []
    for position, value in enumerate(values):
        text = str(value).lower()
        weight = 6 / (position + 2)
        if any(word in text for word in _RARE) or text.startswith(
            ("inactive", "invalid", "un", "not")
        ):
            weight = 0.4
        elif any(text.startswith(word) for word in _COMMON):
            weight = 6
        # `Any` is what a filter takes, and stands in two enums of records by the vendor's mistake.
        weights.append(0.0 if text == "any" and len(values) > 1 else weight)
    return tuple(weights)


def draw_enum(values: tuple[Any, ...], rng: random.Random) -> Any:
    """Draw one of the values of an enum."""
    return rng.choices(values, weigh_enum(values))[0]


def draw_moment(name: str, draw: Draw) -> int:
    """Draw a time for the field `name`, in ticks: near the record's creation, or later."""
    lowered = name.lower()
    if lowered in ("createdon", "modifiedon", "createddate"):
        return draw.moment
    if lowered.startswith(_LATER):
        return draw.moment + draw.rng.randrange(ticks.DAY, 365 * ticks.DAY)
    return draw.moment - draw.rng.randrange(30 * ticks.DAY)


def _draw_string(api: str, schema: Schema, name: str, draw: Draw) -> str:
    formatted = _FORMATS.get(schema.format)
    if formatted:
        return formatted(name, draw)
    if api == "accounting" and name in TEXT_AMOUNTS:
        if name == "quantity":
            return f"{draw.rng.randrange(1, 9)}.0000000000000000000"
        return format_money_text(draw.rng.randrange(90_000))
    text = sample_text.draw_text(name, draw.rng) or ""
    if schema.limits.get("minLength") and not text:
        return sample_text.draw_name(draw.rng)
    return text[: schema.limits.get("maxLength", len(text))]


_FORMATS: Mapping[str, Callable[[str, Draw], str]] = {
    "date-time": lambda name, draw: _format_time(name, draw_moment(name, draw)),
    "date": lambda name, draw: ticks.format_date(draw_moment(name, draw)),
    "duration": lambda name, draw: sample_text.draw_text(_name_span(name), draw.rng) or "",
    "guid": lambda name, draw: sample_text.draw_guid(draw.rng),
    "email": lambda name, draw: sample_text.derive_email(sample_text.draw_name(draw.rng)),
    "phone": lambda name, draw: sample_text.draw_phone(draw.rng),
}


def _name_span(name: str) -> str:
    """Return which generator draws a span: one of times of day, or of durations."""
    return "startTime" if name.lower().startswith(("shift", "start", "end")) else "duration"


def _format_time(name: str, moment: int) -> str:
    # Dates without a time come as midnight.
    return ticks.format_midnight(moment) if name.endswith("Date") else ticks.format_iso(moment)


_INTEGERS: Mapping[str, Callable[[Draw], int]] = {
    "year": lambda draw: ticks.to_datetime(draw.moment).year,
    "month": lambda draw: ticks.to_datetime(draw.moment).month,
    "dueDay": lambda draw: draw.rng.randrange(1, 29),
    "fromHour": lambda draw: draw.rng.randrange(7, 10),
    "toHour": lambda draw: draw.rng.randrange(15, 19),
    "duration": lambda draw: draw.rng.choice((6, 12, 24)),
    "durationMonths": lambda draw: draw.rng.choice((6, 12, 24)),
    "impressions": lambda draw: draw.rng.randrange(500, 20_000),
    "color": lambda draw: draw.rng.randrange(1 << 24),
    "order": lambda draw: draw.rng.randrange(1, 20),
    "position": lambda draw: draw.rng.randrange(1, 20),
}


def _draw_integer(name: str, schema: Schema, draw: Draw) -> int:
    if name in _INTEGERS:
        return _INTEGERS[name](draw)
    if schema.format == "int64" and name.endswith(("id", "Id", "By")):
        # It refers to nothing that the API serves.
        return draw.rng.randrange(1_000_000, 500_000_000)
    return draw.rng.randrange(120)


def _draw_number(api: str, name: str, schema: Schema, draw: Draw) -> Any:
    lowered = name.lower()
    if lowered in ("latitude", "longitude"):
        return round((40 if lowered == "latitude" else -75) + draw.rng.random() * 2, 6)
    if schema.format == "double" and not lowered.endswith("rating"):
        share = lowered.endswith(("rate", "share"))
        return round(draw.rng.uniform(0, 1 if share else 90), 6)
    places = 2
    if api in LONG_DECIMALS:
        places = 19 if "quantity" in lowered else 10
    return format_money(magnitudes.draw_hundredths(name, draw.rng), places)
