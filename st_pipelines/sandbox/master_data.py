"""Generates the company's master data: business units, people, job types, campaigns.

All of it is created before the history starts. `price_book` generates what is sold;
`stories.master_data` renders both.
"""

from __future__ import annotations

import random
from itertools import product

from st_pipelines.sandbox import sample_text, ticks
from st_pipelines.sandbox.entities import (
    BillingTemplate,
    JobType,
    MembershipType,
    Named,
    Reason,
    Staff,
)
from st_pipelines.sandbox.ids import compute_id
from st_pipelines.sandbox.lifetimes import Lifetimes
from st_pipelines.sandbox.planning.profile import Profile
from st_pipelines.sandbox.price_book import PriceBook
from st_pipelines.sandbox.trades import SHARED, TRADES, WORK

FIRST_CAMPAIGN = 1_200_000
FIRST_EMPLOYEE, FIRST_TECHNICIAN = 1_400_000, 1_500_000
"""The ids of the default campaign, and of the first people in the office and in the field."""

MEMBERSHIPS = (
    ("Silver Plan", "Monthly", False, 2_400),
    ("Gold Plan", "Annual", True, 24_900),
    ("Lifetime Plan", "OneTime", True, 89_900),
    ("Bronze Plan", "Monthly", False, 1_900),
    ("Commercial Plan", "Annual", True, 31_900),
    ("Legacy Plan", "Annual", False, 21_900),
)
"""Name, billing, deferral and usual fee (cents) of each membership type."""

VISIT_CENTS = 8_900
"""What a visit earns of a fee that was deferred."""

SERVICE_TYPES = (
    ("Spring Tune-Up", "HVAC"),
    ("Fall Tune-Up", "HVAC"),
    ("Drain Check", "Drains"),
    ("Safety Inspection", "Electrical"),
    ("Filter Change", "HVAC"),
)
"""Names of the recurring service types, and the trades that do them."""

CALL_REASONS = (
    ("Price too high", True),
    ("Called for information", True),
    ("No appointment soon enough", True),
    ("Shopping around", True),
    ("Outside the service area", False),
    ("Service not offered", False),
    ("Existing appointment", False),
    ("Billing question", False),
    ("Solicitor", False),
    ("Wrong number", False),
)
"""Names of call reasons, and whether the call counts as a lead."""


class MasterData:
    """The master data that other entities refer to: created before `start`, edited after it."""

    def __init__(self, *, seed: int, start: int, customers: int, profile: Profile) -> None:
        self._rng = random.Random(seed * 7919)
        self._lifetimes = Lifetimes(self._rng, start)
        self.units = tuple(
            Named(**self._lifetimes.draw(1_000_000, n, 0), name=f"{trade} {profile.brand}")
            for n, trade in enumerate(TRADES)
        )
        self.unit_of = dict(zip(TRADES, self.units, strict=True))
        self.tags = self._make_named(
            1_100_000, [f"Tag {word}" for word in sample_text.SKUS + sample_text.WORDS * 2]
        )
        self.campaigns = self._make_named(
            FIRST_CAMPAIGN, [f"{c} {t}" for c in sample_text.CHANNELS for t in TRADES[:3]]
        )
        self.job_types = self._make_job_types()
        self.office = self._make_staff(
            FIRST_EMPLOYEE, self._draw_names(max(6, customers // 400)), 0.15
        )
        technicians = self._draw_names(max(12, customers // 300))
        self.technicians = self._make_staff(FIRST_TECHNICIAN, technicians, 0.15)
        self.former_technicians = (self._make_former(seed, start),)
        self.crews = {
            unit.id: [t for t in self.technicians if t.unit is unit] for unit in self.units
        }
        fees = [(f"{name} fee", cents) for name, _, _, cents in MEMBERSHIPS]
        self.price_book = PriceBook(
            self._lifetimes, profile.price_percent, [*fees, ("Membership visit", VISIT_CENTS)]
        )
        self.membership_visit = self.price_book.fees[-1]
        self.membership_types = self._make_membership_types()
        self.templates = tuple(
            BillingTemplate(
                **self._lifetimes.draw(2_070_000, n, 0),
                name=f"{kind.name} {unit.name}",
                kind=kind,
                unit=unit,
            )
            for n, (kind, unit) in enumerate(product(self.membership_types, self.units))
        )
        self.service_types = tuple(
            Staff(**self._lifetimes.draw(2_080_000, n, 0.08), name=name, unit=self.unit_of[trade])
            for n, (name, trade) in enumerate(SERVICE_TYPES)
        )
        self.bookable = self._list_bookable()
        self.call_reasons = tuple(
            Reason(**self._lifetimes.draw(2_050_000, n, 0), name=name, is_lead=is_lead)
            for n, (name, is_lead) in enumerate(CALL_REASONS)
        )

    def _make_former(self, seed: int, start: int) -> Staff:
        """Make a technician who left before the history, and is on no crew."""
        rng, count = random.Random(f"{seed}:former technician"), len(self.technicians)
        left = start - rng.randrange(40, 200) * ticks.DAY
        return Staff(
            id=compute_id(FIRST_TECHNICIAN, count),
            moments=(left - rng.randrange(300, 2000) * ticks.DAY, left),
            deactivated=left,
            draw=rng.getrandbits(24),
            name=sample_text.draw_name(rng),
            unit=self.units[count % len(self.units)],
        )

    def find_job_type(self, name: str) -> JobType:
        """Return the job type with this name."""
        return next(kind for kind in self.job_types if kind.name == name)

    def _make_job_types(self) -> tuple[JobType, ...]:
        return tuple(
            JobType(
                **self._lifetimes.draw(1_300_000, n, 0.02),
                name=name,
                unit=self.unit_of[work.trade],
                units=self.units if name in SHARED else (self.unit_of[work.trade],),
            )
            for n, (name, work) in enumerate(WORK.items())
        )

    def _list_bookable(self) -> tuple[JobType, ...]:
        """Return the job types that customers ask for; three times, if they are no big work."""
        kinds = [kind for kind in self.job_types if kind.name not in SHARED]
        return tuple(k for k in kinds for _ in range(1 if WORK[k.name].is_install else 3))

    def _make_membership_types(self) -> tuple[MembershipType, ...]:
        return tuple(
            MembershipType(
                **self._lifetimes.draw(2_060_000, n, 0),
                name=name,
                frequency=frequency,
                sku=self.price_book.fees[n],
                is_deferred=is_deferred,
            )
            for n, (name, frequency, is_deferred, _) in enumerate(MEMBERSHIPS)
        )

    def _draw_names(self, number: int) -> list[str]:
        return [sample_text.draw_name(self._rng) for _ in range(number)]

    def _make_named(self, base: int, names: list[str]) -> tuple[Named, ...]:
        return tuple(
            Named(**self._lifetimes.draw(base, n, 0.08), name=name) for n, name in enumerate(names)
        )

    def _make_staff(
        self, base: int, names: list[str], deactivated_share: float
    ) -> tuple[Staff, ...]:
        return tuple(
            Staff(
                **self._lifetimes.draw(base, n, deactivated_share),
                name=name,
                unit=self.units[n % len(self.units)],
            )
            for n, name in enumerate(names)
        )
