"""Generates the price book: services by job type, materials and equipment by trade, and fees."""

from __future__ import annotations

from collections.abc import Sequence

from st_pipelines.sandbox.entities import Named, Sku
from st_pipelines.sandbox.lifetimes import Lifetimes
from st_pipelines.sandbox.trades import (
    EQUIPMENT,
    EQUIPMENT_DOLLARS,
    MATERIALS,
    TRADES,
    VARIANTS,
    WORK,
    Work,
)

MATERIAL_COUNT, EQUIPMENT_COUNT = 150, 50
MATERIAL_CENTS = (450, 9_500)

KINDS = ("Services", "Materials", "Equipment", "Supplies")
"""The categories of each trade."""


class PriceBook:
    """What the company sells.

    Args:
        lifetimes: draws when the items were created, and their prices.
        percent: prices, compared with the usual ones.
        fees: names and usual prices (cents) of what is sold on no job.

    Attributes:
        categories: the categories, by kind and then by trade.
        services_of: the services of each job type that costs something, the cheapest first.
        materials_of, equipment_of: what each trade uses and installs.
        fees: what is sold on no job, in the order of the argument.
    """

    def __init__(self, lifetimes: Lifetimes, percent: int, fees: Sequence[tuple[str, int]]) -> None:
        self._lifetimes = lifetimes
        self._percent = percent
        self.categories = tuple(
            Named(**lifetimes.draw(1_600_000, n, 0.08), name=f"{trade} {kind}")
            for n, (kind, trade) in enumerate((k, t) for k in KINDS for t in TRADES)
        )
        self.services_of = self._make_services()
        self.materials_of = self._make_materials()
        self.equipment_of = self._make_equipment()
        self.fees = tuple(
            self._make(1_950_000, n, "Service", f"F{1000 + n}", name, cents, trade=TRADES[0])
            for n, (name, cents) in enumerate(fees)
        )

    @property
    def services(self) -> tuple[Sku, ...]:
        """The services of all job types, and the fees."""
        return (*(sku for found in self.services_of.values() for sku in found), *self.fees)

    @property
    def materials(self) -> tuple[Sku, ...]:
        """The materials of all trades."""
        return tuple(sku for found in self.materials_of.values() for sku in found)

    @property
    def equipment(self) -> tuple[Sku, ...]:
        """The equipment of all trades."""
        return tuple(sku for found in self.equipment_of.values() for sku in found)

    def _make_services(self) -> dict[str, tuple[Sku, ...]]:
        found: dict[str, tuple[Sku, ...]] = {}
        sold = [(name, work) for name, work in WORK.items() if work.dollars[1]]
        for position, (name, work) in enumerate(sold):
            first = position * len(VARIANTS)
            found[name] = tuple(
                self._make_service(first + step, name, work, step) for step in range(len(VARIANTS))
            )
        return found

    def _make_service(self, number: int, name: str, work: Work, step: int) -> Sku:
        last = len(VARIANTS) - 1
        (low, high), (short, long) = work.dollars, work.hours
        cents = (low * (last - step) + high * step) * 100 // last
        hours = short + (long - short) * step / last
        return self._make(
            1_700_000,
            number,
            "Service",
            f"S{1000 + number}",
            f"{name}, {VARIANTS[step]}",
            cents,
            trade=work.trade,
            # To the quarter of an hour, as price books have it.
            minutes=round(hours * 4) * 15,
        )

    def _make_materials(self) -> dict[str, tuple[Sku, ...]]:
        rng, found = self._lifetimes.rng, {trade: [] for trade in TRADES}
        for number in range(MATERIAL_COUNT):
            trade = TRADES[number % len(TRADES)]
            names, turn = MATERIALS[trade], number // len(TRADES)
            name = f"{names[turn % len(names)]} {'ABCDEF'[turn // len(names)]}"
            cents = rng.randrange(*MATERIAL_CENTS)
            code = f"M{1000 + number}"
            sku = self._make(1_800_000, number, "Material", code, name, cents, trade=trade)
            found[trade].append(sku)
        return {trade: tuple(skus) for trade, skus in found.items()}

    def _make_equipment(self) -> dict[str, tuple[Sku, ...]]:
        rng, found = self._lifetimes.rng, {trade: [] for trade in TRADES}
        for number in range(EQUIPMENT_COUNT):
            trade = TRADES[number % len(TRADES)]
            names, (low, high) = EQUIPMENT[trade], EQUIPMENT_DOLLARS[trade]
            name = f"{names[number // len(TRADES) % len(names)]} {rng.randrange(100, 999)}"
            cents = rng.randrange(low, high) * 100
            code = f"E{1000 + number}"
            sku = self._make(1_900_000, number, "Equipment", code, name, cents, trade=trade)
            found[trade].append(sku)
        return {trade: tuple(skus) for trade, skus in found.items()}

    def _make(
        self,
        base: int,
        number: int,
        kind: str,
        code: str,
        name: str,
        cents: int,
        *,
        trade: str,
        minutes: int = 0,
    ) -> Sku:
        group = {"Service": 0, "Material": 1, "Equipment": 2}[kind]
        return Sku(
            **self._lifetimes.draw(base, number, 0.05),
            kind=kind,
            code=code,
            name=name,
            cents=cents * self._percent // 100,
            category=self.categories[group * len(TRADES) + TRADES.index(trade)],
            minutes=minutes,
        )
