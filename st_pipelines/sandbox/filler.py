"""Generates values for fields that no story fills: any catalog type, at any depth."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from st_pipelines.catalog.model import DataType, Endpoint, Field, ListOf, Scalar, StructOf
from st_pipelines.sandbox import sample_text, ticks

VARIANTS = 48
"""Number of different fillings per endpoint. Records share them, which keeps rendering cheap."""

TEXT_TABLES = frozenset(
    f"accounting.{name}"
    for name in ("invoices", "invoice_items", "payments", "inventory_bills", "ap_bills")
)
"""Tables that serve amounts and quantities as JSON strings."""

NUMBERS_IN_TEXT_TABLES = frozenset({"taxRate", "soldHours"})
LONG_DECIMALS = frozenset({"inventory", "pricebook"})
"""APIs that serve decimals with many trailing zeros, up to 19 decimals."""

Picks = Mapping[str, Any]
"""Values that belong together, by field name: `jobId`, `customer` and so on."""

_encode = msgspec.json.Encoder().encode


def format_money(cents: int, places: int = 2) -> msgspec.Raw:
    """Format cents as a JSON number with exactly `places` decimals: `25.1700000000`."""
    sign, value = ("-", -cents) if cents < 0 else ("", cents)
    return msgspec.Raw(f"{sign}{value // 100}.{value % 100:02}{'0' * (places - 2)}".encode())


def format_money_text(cents: int) -> str:
    """Format cents as text, as the accounting API serves amounts: `"0.00"`."""
    sign, value = ("-", -cents) if cents < 0 else ("", cents)
    return f"{sign}{value // 100}.{value % 100:02}"


class Filler:
    """Generates values for the fields of one endpoint.

    Args:
        endpoint: determines the format of decimals.
        rng: makes all random choices.
        anchor: generated times lie up to 200 days before this moment (ticks).
        pick: called once per row; returns the values of fields that refer to entities.
    """

    def __init__(
        self, endpoint: Endpoint, rng: random.Random, anchor: int, pick: Callable[[], Picks]
    ) -> None:
        self.endpoint = endpoint
        self.rng = rng
        self.anchor = anchor
        self._pick = pick
        self.picks: Picks = {}
        self._scalars: Mapping[str, Callable[[str], Any]] = {
            "BIGINT": self._draw_integer,
            "DECIMAL": self._draw_decimal,
            "DOUBLE": lambda name: round(self.rng.uniform(0, 90), 6),
            "BOOLEAN": lambda name: self.rng.random() < 0.4,
            "VARCHAR": lambda name: sample_text.draw_text(name, self.rng),
            "TIMESTAMPTZ": lambda name: ticks.format_iso(self._draw_moment()),
            "DATE": lambda name: ticks.format_date(self._draw_moment()),
            "JSON": self._draw_json,
        }

    def generate_rows(self, fields: tuple[Field, ...], count: int) -> list[dict[str, Any]]:
        """Generate `count` rows of `fields`."""
        return [self._generate_object(fields) for _ in range(count)]

    def render_tails(self, fields: tuple[Field, ...]) -> list[bytes]:
        """Render fillings as the inside of a JSON object, to append to a record's other members."""
        return [_encode(filling)[1:-1] for filling in self.generate_rows(fields, VARIANTS)]

    def _generate_object(self, fields: tuple[Field, ...]) -> dict[str, Any]:
        self.picks = self._pick()
        return {field.name: self.generate_value(field.name, field.type) for field in fields}

    def generate_value(self, name: str, kind: DataType, depth: int = 0) -> Any:
        """Generate a value of type `kind` for the field `name`."""
        if name in self.picks:
            return _fit(self.picks[name], kind)
        if isinstance(kind, Scalar):
            return self._generate_scalar(name, kind)
        if isinstance(kind, ListOf):
            return self._generate_list(name, kind, depth)
        if depth < 3 and self.rng.random() < 0.1:
            return None
        return {
            part.name: self.generate_value(part.name, part.type, depth + 1) for part in kind.fields
        }

    def _generate_list(self, name: str, kind: ListOf, depth: int) -> list[Any]:
        singular = name[:-1] if name.endswith("Ids") else name
        count = self.rng.randrange(4 if depth == 0 else 2)
        if singular in self.picks and count:
            return [_fit(self.picks[singular], kind.item)]
        items = (self.generate_value(singular, kind.item, depth + 1) for _ in range(count))
        return [item for item in items if item is not None]

    def _generate_scalar(self, name: str, kind: Scalar) -> Any:
        if kind.name in ("VARCHAR", "DECIMAL", "TIMESTAMPTZ") and self.rng.random() < 0.08:
            return None
        return self._scalars[kind.name](name)

    def _draw_moment(self) -> int:
        return self.anchor - self.rng.randrange(200 * ticks.DAY)

    def _draw_integer(self, name: str) -> int | None:
        if name == "id":
            return self.rng.randrange(1_000_000, 500_000_000)
        if name.endswith(("Id", "By")):
            # An id that refers to no record would break joins; null does not.
            return None
        return self.rng.randrange(120)

    def _draw_decimal(self, name: str) -> Any:
        if self.endpoint.table in TEXT_TABLES and name not in NUMBERS_IN_TEXT_TABLES:
            return format_money_text(self.rng.randrange(90_000))
        if self.endpoint.api not in LONG_DECIMALS:
            return format_money(self.rng.randrange(90_000))
        if "uantity" in name:
            return format_money(100 * self.rng.randrange(1, 9), 19)
        return format_money(self.rng.randrange(90_000), 10)

    def _draw_json(self, name: str) -> Any:
        if name == "subcategories":
            return []
        leaf = {"type": "Number", "name": "Pressure (PSI)", "value": self.rng.randrange(30, 90)}
        unit = {"type": "Section", "units": [leaf, {"type": "Text", "value": "São"}], "value": None}
        return self.rng.choice(([], [unit], [unit, leaf]))


def _fit(pick: Any, kind: DataType) -> Any:
    """Return `pick` with the members that `kind` has, or None if it is of another type."""
    if isinstance(kind, StructOf):
        if not isinstance(pick, dict):
            return None
        return {part.name: pick.get(part.name) for part in kind.fields}
    if isinstance(kind, ListOf):
        return [_fit(pick, kind.item)] if not isinstance(pick, list) else pick
    if isinstance(pick, dict | list):
        return None
    if kind.name == "VARCHAR" and not isinstance(pick, str):
        return str(pick)
    if kind.name == "BIGINT" and not isinstance(pick, int):
        return None
    return pick
