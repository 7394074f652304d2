"""Defines the entities of the simulated company. Times are ticks of 100 ns; zero means "never".

Entities are msgspec structs rather than dataclasses, because a large world holds a million of them.
"""

from __future__ import annotations

import msgspec


class Entity(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A thing with an id and a lifetime.

    Attributes:
        id: the key, before a story adds its offset.
        moments: when it is created and changed, past and future, in order.
        deactivated: when it becomes inactive; zero if never.
        draw: a random number from which stories derive details.
    """

    id: int
    moments: tuple[int, ...]
    deactivated: int = 0
    draw: int = 0


class Named(Entity, frozen=True, kw_only=True, gc=False):
    """An entity with a name that other entities refer to."""

    name: str


class Staff(Named, frozen=True, kw_only=True, gc=False):
    """An employee, technician or job type, which belongs to a business unit."""

    unit: Named


class Sku(Named, frozen=True, kw_only=True, gc=False):
    """A service, material or piece of equipment in the price book."""

    kind: str
    code: str
    cents: int
    category: Named


class Customer(Named, frozen=True, kw_only=True, gc=False):
    """A person or business that pays for jobs."""

    commercial: bool
    street: str
    city: str
    state: str
    zip: str


class Location(Entity, frozen=True, kw_only=True, gc=False):
    """A customer's address, where jobs are done."""

    customer: Customer
    street: str


class Call(Entity, frozen=True, kw_only=True, gc=False):
    """A phone call; `location` is set if it led to a job."""

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
        """The price times the quantity, in cents."""
        return self.sku.cents * self.quantity


class Job(Entity, frozen=True, kw_only=True, gc=False):
    """A job that was booked, and then done or canceled."""

    number: str
    location: Location
    kind: Staff
    call: Call | None
    campaign: Named
    technician: Staff
    booked_by: Staff
    start: int
    done: int
    canceled: int
    invoice_id: int
    visit_id: int
    lines: tuple[Line, ...]

    @property
    def total(self) -> int:
        """The job's price, in cents."""
        return sum(line.cents for line in self.lines)


class JobChild(Entity, frozen=True, kw_only=True, gc=False):
    """An entity that belongs to a job."""

    job: Job


class Visit(JobChild, frozen=True, kw_only=True, gc=False):
    """An appointment, with the assignment of its technician."""


class Note(JobChild, frozen=True, kw_only=True, gc=False):
    """A note on a job."""


class Invoice(JobChild, frozen=True, kw_only=True, gc=False):
    """The invoice of a job. It has no items until the job is done."""

    paid: int


class Payment(Entity, frozen=True, kw_only=True, gc=False):
    """A payment of an invoice."""

    invoice: Invoice


class Estimate(JobChild, frozen=True, kw_only=True, gc=False):
    """One of the options offered to a customer for a job."""

    sold: int
    option: int
    lines: tuple[Line, ...]


class Membership(Entity, frozen=True, kw_only=True, gc=False):
    """A service contract for a location."""

    location: Location
    unit: Named
    kind: int
    start: int
    ended: int
