"""Holds what is planned so far. All planners write here; `company` extends it day by day."""

from __future__ import annotations

import random
from typing import Protocol

from st_pipelines.sandbox import ticks
from st_pipelines.sandbox.billing_entities import (
    CreditMemo,
    Invoice,
    Payment,
    RecurringService,
    ServiceEvent,
)
from st_pipelines.sandbox.entities import (
    Booking,
    Call,
    Customer,
    Estimate,
    Job,
    Location,
    Membership,
    Note,
    Origin,
    Staff,
    Visit,
)
from st_pipelines.sandbox.ids import FIRST_IDS, generate_ids
from st_pipelines.sandbox.lead_entities import Lead
from st_pipelines.sandbox.master_data import MasterData
from st_pipelines.sandbox.planning.agenda import Agenda
from st_pipelines.sandbox.planning.ledger import Ledger
from st_pipelines.sandbox.planning.profile import choose_profile
from st_pipelines.sandbox.purchase_entities import (
    Bill,
    PurchaseOrder,
    Receipt,
    VendorPayment,
)

OPENING_DAYS = 10
"""Days before the history on which a little happens, so that every table has records."""


class AddJob(Protocol):
    """Adds a job that is booked at `created` (ticks). What is not given is drawn."""

    def __call__(
        self,
        rng: random.Random,
        created: int,
        *,
        location: Location | None = None,
        kind: Staff | None = None,
        origin: Origin | None = None,
    ) -> Job:
        """Return the job."""
        ...


MAX_TRIES = 20
"""How often an active location is looked for."""


class Books:
    """The entities of a company, and what all planners need.

    Attributes:
        next_day: the first local day that is not planned yet (days since 1970).
        start: the beginning of the history (ticks).
        add_job: set by the planner of jobs, for the others.
    """

    add_job: AddJob

    def __init__(self, *, seed: int, customers: int, history_days: int, now: int) -> None:
        self.seed = seed
        self.size = customers
        self.history_days = history_days
        self.profile = choose_profile(seed)
        self.next_day = ticks.to_local_day(ticks.to_datetime(now)) - history_days
        self.start = ticks.from_local_day(self.next_day)
        self.agenda = Agenda(self.next_day - OPENING_DAYS)
        self.master_data = MasterData(
            seed=seed, start=self.start, customers=customers, profile=self.profile
        )
        self.ledger = Ledger(random.Random(seed * 7919 + 1), self.start)
        self.customers: list[Customer] = []
        self.locations: list[Location] = []
        self.jobs: list[Job] = []
        self.visits: list[Visit] = []
        self.invoices: list[Invoice] = []
        self.payments: list[Payment] = []
        self.credit_memos: list[CreditMemo] = []
        self.estimates: list[Estimate] = []
        self.calls: list[Call] = []
        self.leads: list[Lead] = []
        self.bookings: list[Booking] = []
        self.memberships: list[Membership] = []
        self.memberships_planned = 0
        self.recurring_services: list[RecurringService] = []
        self.service_events: list[ServiceEvent] = []
        self.notes: list[Note] = []
        self.purchase_orders: list[PurchaseOrder] = []
        self.receipts: list[Receipt] = []
        self.bills: list[Bill] = []
        self.vendor_payments: list[VendorPayment] = []
        self._ids = {kind: generate_ids(base) for kind, base in FIRST_IDS.items()}

    def next_id(self, kind: str) -> int:
        """Return the next id of a kind of entity."""
        return next(self._ids[kind])

    def draw_location(self, rng: random.Random, moment: int) -> Location:
        """Draw one of the locations that exist and are active at `moment` (ticks), if possible."""
        location = self.locations[0]
        # In a tiny company, all of them may be inactive.
        for _ in range(MAX_TRIES):
            location = self.locations[int(rng.random() * len(self.locations))]
            is_gone = 0 < location.deactivated <= moment
            if location.moments[0] < moment and not is_gone:
                break
        return location
