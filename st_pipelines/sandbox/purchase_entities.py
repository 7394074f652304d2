"""Defines vendors, purchase orders, receipts, bills and vendor payments. See `entities`."""

from __future__ import annotations

import msgspec

from st_pipelines.sandbox.entities import Account, Entity, Job, Named, Sku, Staff


class Truck(Named, frozen=True, kw_only=True, gc=False):
    """A technician's truck, which holds stock."""

    technician: Staff
    warehouse: Named


class PurchaseLine(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One line of a purchase order; its receipt and bill have the same line."""

    id: int
    sku: Sku
    quantity: int
    draw: int

    @property
    def is_third(self) -> bool:
        """Whether three pieces cost 100 together, so that the cost of one has no end."""
        return self.quantity == 3 and self.draw % 3 == 0

    @property
    def cost(self) -> str:
        """The cost of one piece: a third of its price, or of 100."""
        cents = self.sku.cents // 3
        return "33.3333333333333333" if self.is_third else f"{cents // 100}.{cents % 100:02}"

    @property
    def cents(self) -> int:
        """The cost of all pieces, in cents."""
        return 10_000 if self.is_third else self.sku.cents // 3 * self.quantity


class PurchaseOrder(Entity, frozen=True, kw_only=True, gc=False):
    """An order for parts: for a job, or to fill the stock of a warehouse.

    Attributes:
        place: where the parts go, a truck or a warehouse.
        sent, received, canceled: when; zero if never.
    """

    number: str
    vendor: Named
    type: Named
    job: Job | None
    unit: Named
    place: Named
    buyer: Staff
    lines: tuple[PurchaseLine, ...]
    sent: int
    received: int
    canceled: int

    @property
    def first_item_id(self) -> int:
        """The id of its first item."""
        return self.lines[0].id

    @property
    def total(self) -> int:
        """The sum of its lines, in cents."""
        return sum(line.cents for line in self.lines)


class Receipt(Entity, frozen=True, kw_only=True, gc=False):
    """The arrival of an order's parts, all at once."""

    order: PurchaseOrder
    bill_id: int
    billed: int

    @property
    def first_item_id(self) -> int:
        """The id of its first item."""
        return self.order.first_item_id + 1


class PurchaseReturn(Entity, frozen=True, kw_only=True, gc=False):
    """Parts of a receipt that go back to the vendor: some pieces of one line.

    Attributes:
        returned, credited, canceled: when; zero if never.
    """

    receipt: Receipt
    line: PurchaseLine
    quantity: int
    returned: int
    credited: int
    canceled: int

    @property
    def total(self) -> int:
        """What the vendor gives back, in cents, rounded down."""
        return self.line.cents * self.quantity // self.line.quantity


class Bill(Entity, frozen=True, kw_only=True, gc=False):
    """What a vendor wants to be paid: for an order, or for an expense.

    Attributes:
        kind: `Procurement`, `ApBill` or `NotSet`.
        order: whose lines it has; None for an expense.
        expense, account, memo: of the only line of an expense, in cents.
        reconciled, paid: when; zero if never.
    """

    kind: str
    vendor: Named
    unit: Named
    clerk: Staff
    order: PurchaseOrder | None = None
    expense: int = 0
    account: Account | None = None
    memo: str = ""
    reconciled: int
    paid: int

    @property
    def total(self) -> int:
        """What is to be paid, in cents."""
        return self.order.total if self.order else self.expense

    @property
    def surcharge(self) -> int:
        """By how much the vendor's invoice differs from the order at first, in cents."""
        return self.order.total // 40 + 1 if self.order and self.draw % 3 == 0 else 0


class VendorPayment(Entity, frozen=True, kw_only=True, gc=False):
    """The payment of one bill."""

    bill: Bill
