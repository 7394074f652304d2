"""Defines invoices, payments, and the visits that memberships include. See `entities`."""

from __future__ import annotations

from collections.abc import Iterable

from st_pipelines.sandbox.entities import (
    Account,
    Entity,
    Found,
    Job,
    Line,
    Location,
    Membership,
    Named,
    Staff,
)

TAXED = frozenset({"Material", "Equipment"})
"""Kinds of price book items that are taxed."""


def compute_tax(lines: Iterable[Line], permille: int) -> int:
    """Return the sales tax on lines, in cents, rounded half up."""
    taxed = sum(line.cents for line in lines if line.sku.kind in TAXED)
    return (taxed * permille + 500) // 1000


class Invoice(Entity, frozen=True, kw_only=True, gc=False):
    """An invoice: of a job, of a membership, or an adjustment of another invoice.

    Attributes:
        job, membership, adjusts: what it is for; one of them, or the job too for an adjustment.
        number: its reference number.
        issued: when its items and amounts appear; zero if never.
        partly_paid: when half of it is paid, if it is paid in two parts.
        paid: when all of it is paid; zero if never.
        credited, credit: when a credit memo is applied to it, and its amount in cents; or zero.
        tax_permille: the tax on materials and equipment, in thousandths.
    """

    job: Job | None = None
    membership: Membership | None = None
    adjusts: Invoice | None = None
    number: str
    location: Location
    unit: Named
    clerk: Staff
    lines: tuple[Line, ...]
    issued: int
    partly_paid: int
    paid: int
    tax_permille: int
    credited: int = 0
    credit: int = 0

    @property
    def subtotal(self) -> int:
        """The sum of its lines, in cents."""
        return sum(line.cents for line in self.lines)

    @property
    def tax(self) -> int:
        """The sales tax, in cents, rounded half up."""
        return compute_tax(self.lines, self.tax_permille)

    @property
    def total(self) -> int:
        """What the customer owes, in cents."""
        return self.subtotal + self.tax

    @property
    def first_part(self) -> int:
        """What is paid at `partly_paid`, in cents; zero if it is paid at once."""
        return self.total // 2 if self.partly_paid else 0


class Payment(Entity, frozen=True, kw_only=True, gc=False):
    """A payment of an invoice, in cents.

    An inactive one was entered twice: it is applied to nothing, deposited and booked nowhere.

    Attributes:
        account: where it is until it is deposited.
        deposit_day: the local day on which it is (days since 1970).
    """

    invoice: Invoice
    cents: int
    account: Account
    deposit_day: int

    @property
    def kind(self) -> int:
        """The number of its payment type."""
        return 4 if self.draw % 31 == 0 else self.draw % 4

    @property
    def is_card(self) -> bool:
        """Whether it is made by credit card, the first payment type."""
        return self.kind == 0


class CreditMemo(Entity, frozen=True, kw_only=True, gc=False):
    """What the office takes back of an invoice: some of its lines. It is exported later.

    Attributes:
        is_applied: whether it lowers the invoice's balance; otherwise the customer keeps a credit.
    """

    invoice: Invoice
    clerk: Staff
    lines: tuple[Line, ...]
    is_applied: bool

    @property
    def subtotal(self) -> int:
        """The sum of its lines, in cents."""
        return sum(line.cents for line in self.lines)

    @property
    def tax(self) -> int:
        """The sales tax, in cents, rounded half up."""
        return compute_tax(self.lines, self.invoice.tax_permille)

    @property
    def total(self) -> int:
        """What the customer gets, in cents."""
        return self.subtotal + self.tax


class RecurringService(Entity, frozen=True, kw_only=True, gc=False):
    """The visits that a membership includes, for its term.

    Attributes:
        type: the recurring service type.
        kind: the type of its jobs.
    """

    membership: Membership
    type: Named
    kind: Staff
    campaign: Named


class ServiceEvent(Entity, frozen=True, kw_only=True, gc=False):
    """One of these visits.

    Attributes:
        due: when the visit is planned for.
        booked: when its job is booked; zero if never.
        dismissed: when the office gives up; zero if never.
        found: holds the job, once it is booked.
    """

    service: RecurringService
    due: int
    booked: int
    dismissed: int
    found: Found
