"""Defines invoices, payments, and the visits that memberships include. See `entities`."""

from __future__ import annotations

from st_pipelines.sandbox.entities import (
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


class Invoice(Entity, frozen=True, kw_only=True, gc=False):
    """An invoice: of a job, of a membership, or an adjustment of another invoice.

    Attributes:
        job, membership, adjusts: what it is for; one of them, or the job too for an adjustment.
        number: its reference number.
        issued: when its items and amounts appear; zero if never.
        partly_paid: when half of it is paid, if it is paid in two parts.
        paid: when all of it is paid; zero if never.
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

    @property
    def subtotal(self) -> int:
        """The sum of its lines, in cents."""
        return sum(line.cents for line in self.lines)

    @property
    def tax(self) -> int:
        """The sales tax, in cents, rounded half up."""
        taxed = sum(line.cents for line in self.lines if line.sku.kind in TAXED)
        return (taxed * self.tax_permille + 500) // 1000

    @property
    def total(self) -> int:
        """What the customer owes, in cents."""
        return self.subtotal + self.tax

    @property
    def first_part(self) -> int:
        """What is paid at `partly_paid`, in cents; zero if it is paid at once."""
        return self.total // 2 if self.partly_paid else 0


class Payment(Entity, frozen=True, kw_only=True, gc=False):
    """A payment of an invoice, in cents."""

    invoice: Invoice
    cents: int


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
