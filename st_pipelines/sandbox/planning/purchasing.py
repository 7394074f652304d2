"""Plans purchases: orders for jobs and for the stock, their receipts, bills and payments."""

from __future__ import annotations

import random

from st_pipelines.sandbox import sample_text, ticks
from st_pipelines.sandbox.entities import Job, Named, Staff
from st_pipelines.sandbox.ids import compute_id
from st_pipelines.sandbox.planning.books import Books
from st_pipelines.sandbox.purchase_entities import (
    Bill,
    PurchaseLine,
    PurchaseOrder,
    Receipt,
    Truck,
    VendorPayment,
)
from st_pipelines.sandbox.schedule import draw_office_moment, sort_moments

ORDERED_SHARE = 0.45
"""Share of jobs with parts for which the parts are ordered; others take them from the stock."""

EXPENSES = (
    ("Rent", 420_000),
    ("Fuel", 95_000),
    ("Phones", 31_000),
    ("Insurance", 180_000),
    ("Software", 64_000),
)
"""Monthly expenses, in cents, before they vary."""

VENDORS = ("Supply", "Wholesale", "Parts", "Trade Center")
ORDER_TYPES = ("Job", "Stock", "Emergency", "Special Order")


class Purchasing:
    """Adds what a company buys."""

    def __init__(self, company: Books, rng: random.Random) -> None:
        self._company = company
        self._created = company.start - 400 * ticks.DAY
        names = [
            f"{last} {kind}"
            for last, kind in zip(sample_text.LAST, VENDORS * len(sample_text.LAST), strict=False)
        ]
        self.vendors = self._make_named(rng, 2_100_000, rng.sample(names, 14))
        self.types = self._make_named(rng, 2_110_000, ORDER_TYPES)
        self.warehouses = self._make_named(
            rng, 2_120_000, [f"{city[0]} Warehouse" for city in company.profile.cities[:3]]
        )
        self.trucks = tuple(
            Truck(
                id=compute_id(2_130_000, n),
                moments=(self._created + rng.randrange(ticks.DAY),),
                draw=rng.getrandbits(24),
                name=f"Truck {n + 1}",
                technician=technician,
                warehouse=self.warehouses[n % len(self.warehouses)],
            )
            for n, technician in enumerate(company.master_data.technicians)
        )
        self._truck_of = {truck.technician.id: truck for truck in self.trucks}

    def _make_named(
        self, rng: random.Random, base: int, names: list[str] | tuple[str, ...]
    ) -> tuple[Named, ...]:
        return tuple(
            Named(
                id=compute_id(base, n),
                moments=(self._created + rng.randrange(ticks.DAY),),
                # One vendor or type in seven is not used any more.
                deactivated=self._created + ticks.DAY if n % 7 == 6 else 0,
                draw=rng.getrandbits(24),
                name=name,
            )
            for n, name in enumerate(names)
        )

    def plan_day(self, rng: random.Random, day: int) -> None:
        """Fill the stock once a week, and get the bills of an expense every six days."""
        midnight = ticks.from_local_day(day)
        if day % 7 == 5:  # 1970-01-01 was a Thursday, so this is a Tuesday.
            self._fill_stock(rng, draw_office_moment(rng, midnight))
        if day % 6 == 0:
            self._add_expense(rng, draw_office_moment(rng, midnight), day // 6)

    def order_for(self, rng: random.Random, job: Job) -> None:
        """Order the parts of some of the jobs that have any, so that they arrive before it."""
        parts = [line for line in job.lines if line.sku.kind != "Service" and line.quantity > 0]
        if not parts or not job.done or rng.random() >= ORDERED_SHARE:
            return
        created = job.moments[0] + rng.randrange(ticks.MINUTE, 20 * ticks.MINUTE)
        lines = tuple(
            PurchaseLine(
                id=self._company.next_id("purchase_line"),
                sku=line.sku,
                quantity=line.quantity,
                draw=line.draw,
            )
            for line in parts
        )
        self._add_order(
            rng,
            created,
            lines,
            kind=self._choose_type(job, lines),
            job=job,
            unit=job.unit,
            place=self._truck_of[job.technician.id],
            arrival=max(created + 20 * ticks.MINUTE, job.start - 20 * ticks.MINUTE),
        )

    def _choose_type(self, job: Job, lines: tuple[PurchaseLine, ...]) -> Named:
        """Choose the type of an order for a job: by what is ordered, and how soon it is needed."""
        ordinary, _, emergency, special = self.types
        if any(line.sku.kind == "Equipment" for line in lines):
            return special
        return emergency if job.start - job.moments[0] < 8 * ticks.HOUR else ordinary

    def _fill_stock(self, rng: random.Random, created: int) -> None:
        company = self._company
        materials = company.master_data.price_book.materials
        lines = tuple(
            PurchaseLine(
                id=company.next_id("purchase_line"),
                sku=sku,
                quantity=rng.randrange(2, 12),
                draw=rng.getrandbits(16),
            )
            for sku in rng.sample(materials, rng.randrange(2, 6))
        )
        self._add_order(
            rng,
            created,
            lines,
            kind=self.types[1],
            job=None,
            unit=rng.choice(company.master_data.units),
            place=rng.choice(self.warehouses),
            arrival=created + rng.randrange(ticks.DAY, 9 * ticks.DAY),
        )

    def _add_order(
        self,
        rng: random.Random,
        created: int,
        lines: tuple[PurchaseLine, ...],
        *,
        kind: Named,
        job: Job | None,
        unit: Named,
        place: Named,
        arrival: int,
    ) -> None:
        company = self._company
        is_canceled = rng.random() < 0.04
        sent = created + rng.randrange(1, 15 * ticks.MINUTE)
        order = PurchaseOrder(
            id=company.next_id("purchase_order"),
            moments=sort_moments(created, sent, arrival),
            draw=rng.getrandbits(24),
            number=f"{job.number}-001" if job else f"S{5000 + len(company.purchase_orders)}",
            vendor=rng.choice(self.vendors),
            type=kind,
            job=job,
            unit=unit,
            place=place,
            buyer=rng.choice(company.master_data.office),
            lines=lines,
            sent=sent,
            received=0 if is_canceled else arrival,
            canceled=arrival if is_canceled else 0,
        )
        company.purchase_orders.append(order)
        if order.received:
            self._receive(rng, order)

    def _receive(self, rng: random.Random, order: PurchaseOrder) -> None:
        company = self._company
        billed = order.received + rng.randrange(ticks.HOUR, 9 * ticks.DAY)
        bill = self._add_bill(
            rng, billed, kind="Procurement", vendor=order.vendor, unit=order.unit, order=order
        )
        company.receipts.append(
            Receipt(
                id=company.next_id("receipt"),
                moments=(order.received, billed),
                draw=order.draw,
                order=order,
                bill_id=bill.id,
                billed=billed,
            )
        )

    def _add_expense(self, rng: random.Random, moment: int, number: int) -> None:
        company = self._company
        memo, cents = EXPENSES[number % len(EXPENSES)]
        self._add_bill(
            rng,
            moment,
            kind="NotSet" if rng.random() < 0.3 else "ApBill",
            vendor=rng.choice(self.vendors),
            unit=rng.choice(company.master_data.units),
            expense=cents * rng.randrange(80, 120) // 100,
            account=company.ledger.accounts["6100"],
            memo=memo,
        )

    def _add_bill(self, rng: random.Random, moment: int, **what: object) -> Bill:
        company = self._company
        reconciled = moment + rng.randrange(ticks.HOUR, 6 * ticks.DAY) if rng.random() < 0.9 else 0
        paid = moment + rng.randrange(10, 35) * ticks.DAY if reconciled else 0
        clerk: Staff = rng.choice(company.master_data.office)
        bill = Bill(
            id=company.next_id("bill"),
            moments=sort_moments(moment, reconciled, paid),
            draw=rng.getrandbits(24),
            clerk=clerk,
            reconciled=reconciled,
            paid=paid,
            **what,  # pyright: ignore[reportArgumentType]
        )
        company.bills.append(bill)
        if paid:
            payment = VendorPayment(
                id=company.next_id("vendor_payment"), moments=(paid,), draw=bill.draw, bill=bill
            )
            company.vendor_payments.append(payment)
        return bill
