"""Defines the entities of the simulated company. Times are ticks of 100 ns; zero means "never".

Entities are msgspec structs rather than dataclasses, because a large world holds a million of them.
"""

from __future__ import annotations

import msgspec

NO_CHARGE = frozenset({"Recall", "Warranty"})
"""Job types whose jobs cost the customer nothing."""


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
    """An employee, technician or kind of work, which belongs to a business unit."""

    unit: Named


class JobType(Staff, frozen=True, kw_only=True, gc=False):
    """A job type. `units` are the business units that do it; the first one is `unit`."""

    units: tuple[Named, ...]


class Reason(Named, frozen=True, kw_only=True, gc=False):
    """Why a call was not booked; `is_lead` if the caller wanted something the company does."""

    is_lead: bool


class Sku(Named, frozen=True, kw_only=True, gc=False):
    """A service, material or piece of equipment in the price book.

    Attributes:
        kind: `Service`, `Material` or `Equipment`.
        cents: its usual price.
        minutes: what a service usually takes.
    """

    kind: str
    code: str
    cents: int
    category: Named
    minutes: int = 0


class Account(Named, frozen=True, kw_only=True, gc=False):
    """An account of the general ledger.

    Attributes:
        number: as accountants order them.
        kind, detail: its type and subtype.
        role: what ServiceTitan books to it by default.
    """

    number: str
    kind: str
    detail: str
    role: str


class Customer(Named, frozen=True, kw_only=True, gc=False):
    """A person or business that pays for jobs."""

    commercial: bool
    street: str
    city: str
    state: str
    zip: str

    @property
    def is_exempt(self) -> bool:
        """Whether the customer pays no sales tax."""
        return self.commercial and self.draw % 3 == 0


class Location(Entity, frozen=True, kw_only=True, gc=False):
    """A customer's address, where jobs are done."""

    customer: Customer
    street: str


class Call(Entity, frozen=True, kw_only=True, gc=False):
    """A phone call.

    Attributes:
        location: the caller's, if the caller is known.
        agent: who answered; None if nobody did.
        outcome: `Booked`, `Unbooked`, `Excused`, `NotLead` or `Abandoned`; "" if not classified.
        reason: why it was not booked; None if it was.
        kind: the job type that was booked; None if none was.
        job_id, job_number: of the job that it led to; zero and "" if none.
        lead_id: of the lead that it led to; zero if none.
    """

    location: Location | None
    seconds: int
    agent: Staff | None
    campaign: Named
    phone: str
    outcome: str
    inbound: bool
    reason: Reason | None = None
    kind: Staff | None = None
    job_id: int = 0
    job_number: str = ""
    lead_id: int = 0


class Booking(Entity, frozen=True, kw_only=True, gc=False):
    """A request from the web. The office accepts it, turns it into a job, or dismisses it.

    Attributes:
        accepted, converted, dismissed: when; zero if never.
        job_id: of the job that it led to; zero if none.
    """

    location: Location
    kind: Staff
    campaign: Named
    accepted: int
    converted: int
    dismissed: int
    job_id: int


class Line(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One line of an invoice or an estimate.

    Attributes:
        quantity: negative if the line takes something back.
        unit: the business unit that earns it, if another one than the invoice's.
        account: the account that it is booked to.
    """

    id: int
    sku: Sku
    quantity: int
    draw: int
    account: Account
    unit: Named | None = None

    @property
    def cents(self) -> int:
        """The price times the quantity, in cents."""
        return self.sku.cents * self.quantity

    @property
    def minutes(self) -> int:
        """How long the work takes that is sold; zero for things."""
        return self.sku.minutes * self.quantity


class Origin(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Why a job exists. Without any of these, the office booked it.

    Attributes:
        call, booking: what the office booked it from.
        estimate: the sold estimate whose work it does.
        recall_of: the job whose work it repairs, at no charge.
        source: the job on which its technician found the work.
        membership: the membership that pays for the visit.
    """

    call: Call | None = None
    booking: Booking | None = None
    estimate: Estimate | None = None
    recall_of: Job | None = None
    source: Job | None = None
    membership: Membership | None = None


class Job(Entity, frozen=True, kw_only=True, gc=False):
    """A job that was booked, and then done or canceled, by the business unit `unit`."""

    number: str
    location: Location
    kind: Staff
    unit: Named
    origin: Origin
    campaign: Named
    technician: Staff
    helper: Staff | None
    estimate_ids: tuple[int, ...]
    booked_by: Staff
    start: int
    done: int
    canceled: int
    invoice_id: int
    visit_id: int
    lines: tuple[Line, ...]

    @property
    def no_charge(self) -> bool:
        """Whether the customer pays nothing, whatever is sold."""
        return self.origin.recall_of is not None or self.kind.name in NO_CHARGE

    @property
    def total(self) -> int:
        """The job's price before tax, in cents."""
        return sum(line.cents for line in self.lines)


class JobChild(Entity, frozen=True, kw_only=True, gc=False):
    """An entity that belongs to a job."""

    job: Job


class Visit(JobChild, frozen=True, kw_only=True, gc=False):
    """An appointment, with the assignment of its technician."""


class Note(JobChild, frozen=True, kw_only=True, gc=False):
    """A note on a job."""


class Estimate(JobChild, frozen=True, kw_only=True, gc=False):
    """One of the options offered to a customer for a job.

    Attributes:
        kind: the job type of the work that is offered.
        sold, dismissed: when; zero if never.
    """

    kind: Staff
    sold: int
    dismissed: int
    option: int
    lines: tuple[Line, ...]

    @property
    def is_change_order(self) -> bool:
        """Whether it is offered in a project: on top of the work that was sold."""
        return self.job.origin.estimate is not None


class MembershipType(Named, frozen=True, kw_only=True, gc=False):
    """A kind of membership.

    Attributes:
        frequency: how often it is billed: `Monthly`, `Annual` or `OneTime`.
        sku: what is billed each time.
        is_deferred: whether its billing is income only when visits are made.
    """

    frequency: str
    sku: Sku
    is_deferred: bool


class BillingTemplate(Named, frozen=True, kw_only=True, gc=False):
    """What the memberships of a type and a business unit are billed with."""

    kind: MembershipType
    unit: Named


class Membership(Entity, frozen=True, kw_only=True, gc=False):
    """One term of a service contract for a location.

    Attributes:
        start, end: the term; `end` is zero if it has none.
        bills: when it is billed.
        canceled, suspended, resumed, expired: when; zero if never.
        renewed: holds the membership that follows at `end`, once that has come.
    """

    kind: MembershipType
    location: Location
    unit: Named
    template: BillingTemplate
    seller: Staff
    start: int
    end: int
    bills: tuple[int, ...]
    canceled: int
    suspended: int
    resumed: int
    expired: int
    renewed: Found


class Found(msgspec.Struct):
    """Refers to what is planned after the entity that leads to it."""

    job: Job | None = None
    membership: Membership | None = None
