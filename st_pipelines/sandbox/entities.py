"""The things of the company, as planned. Times are ticks (100 ns), zero where they never come.

These are msgspec structs, not dataclasses, because a big world holds a million of them.
"""

from __future__ import annotations

import msgspec


class Item(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Anything with an id and a life.

    Attributes:
        id: its key, whatever the table that shows it.
        moments: when it was created and when it changed or will, in order.
        gone: the moment at which it becomes inactive, zero if it never does.
        draw: a number of its own, for what the story leaves to chance.
    """

    id: int
    moments: tuple[int, ...]
    gone: int = 0
    draw: int = 0


class Named(Item, frozen=True, kw_only=True, gc=False):
    """A row of the set-up that other rows point to."""

    name: str


class Staff(Named, frozen=True, kw_only=True, gc=False):
    """An employee, a technician, or a job type: what belongs to a business unit."""

    unit: Named


class Sku(Named, frozen=True, kw_only=True, gc=False):
    """A service, a material or a piece of equipment of the price book."""

    kind: str
    code: str
    cents: int
    category: Named


class Customer(Named, frozen=True, kw_only=True, gc=False):
    """Who pays."""

    commercial: bool
    street: str
    city: str
    state: str
    zip: str


class Location(Item, frozen=True, kw_only=True, gc=False):
    """Where the work is done."""

    customer: Customer
    street: str


class Call(Item, frozen=True, kw_only=True, gc=False):
    """A telephone call, with the location that it led to a job for."""

    location: Location | None
    seconds: int
    agent: Staff
    campaign: Named
    phone: str


class Line(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One line of an invoice or an estimate."""

    id: int
    sku: Sku
    quantity: int
    draw: int

    @property
    def cents(self) -> int:
        """Its total."""
        return self.sku.cents * self.quantity


class Job(Item, frozen=True, kw_only=True, gc=False):
    """A piece of work: booked, then done or canceled."""

    number: str
    location: Location
    kind: Staff
    call: Call | None
    campaign: Named
    technician: Staff
    taken_by: Staff
    start: int
    done: int
    canceled: int
    invoice_id: int
    visit_id: int
    lines: tuple[Line, ...]

    @property
    def total(self) -> int:
        """What it costs, in cents."""
        return sum(line.cents for line in self.lines)


class OfJob(Item, frozen=True, kw_only=True, gc=False):
    """Something that a job brings with it."""

    job: Job


class Visit(OfJob, frozen=True, kw_only=True, gc=False):
    """An appointment and the assignment of its technician."""


class Note(OfJob, frozen=True, kw_only=True, gc=False):
    """A note on a job."""


class Invoice(OfJob, frozen=True, kw_only=True, gc=False):
    """The bill of a job; empty until the job is done."""

    paid: int


class Payment(Item, frozen=True, kw_only=True, gc=False):
    """The money for an invoice."""

    invoice: Invoice


class Estimate(OfJob, frozen=True, kw_only=True, gc=False):
    """One option that was offered."""

    sold: int
    option: int
    lines: tuple[Line, ...]


class Membership(Item, frozen=True, kw_only=True, gc=False):
    """A service contract of a location."""

    location: Location
    unit: Named
    kind: int
    start: int
    ended: int
