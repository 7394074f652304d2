"""Generates the company's master data: business units, people, job types, campaigns, price book.

All of it is created before the history starts. `stories.master_data` renders it.
"""

from __future__ import annotations

import random
from itertools import product
from typing import Any

from st_pipelines.sandbox import sample_text, ticks
from st_pipelines.sandbox.entities import (
    NO_CHARGE,
    BillingTemplate,
    MembershipType,
    Named,
    Reason,
    Sku,
    Staff,
)
from st_pipelines.sandbox.ids import compute_id
from st_pipelines.sandbox.planning.profile import Profile

NOT_BOOKABLE = NO_CHARGE | {"Membership Visit"}
"""Job types that only follow from other records."""

MEMBERSHIPS = (
    ("Silver Plan", "Monthly", False),
    ("Gold Plan", "Annual", True),
    ("Lifetime Plan", "OneTime", True),
    ("Bronze Plan", "Monthly", False),
    ("Commercial Plan", "Annual", True),
    ("Legacy Plan", "Annual", False),
)
"""Name, billing and deferral of each membership type."""

SERVICE_TYPES = (
    "Spring Tune-Up",
    "Fall Tune-Up",
    "Drain Check",
    "Safety Inspection",
    "Filter Change",
)

"""Names of the recurring service types."""

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
        self._start = start
        self._percent = profile.price_percent
        self.units = tuple(
            Named(**self._draw_lifetime(1_000_000, n, 0), name=f"{trade} {profile.brand}")
            for n, trade in enumerate(sample_text.TRADES)
        )
        self.tags = self._make_named(
            1_100_000, [f"Tag {word}" for word in sample_text.SKUS + sample_text.WORDS * 2]
        )
        self.campaigns = self._make_named(
            1_200_000, [f"{c} {t}" for c in sample_text.CHANNELS for t in sample_text.TRADES[:3]]
        )
        self.job_types = self._make_staff(1_300_000, list(sample_text.JOB_TYPES), 0.02)
        self.office = self._make_staff(1_400_000, self._draw_names(max(6, customers // 250)), 0.15)
        technicians = self._draw_names(max(12, customers // 120))
        self.technicians = self._make_staff(1_500_000, technicians, 0.15)
        self.crews = {
            unit.id: [t for t in self.technicians if t.unit is unit] for unit in self.units
        }
        self.categories = self._make_named(
            1_600_000, [f"{t} Parts" for t in sample_text.TRADES] * 4
        )
        self.services = self._make_skus(1_700_000, "Service", 120)
        self.materials = self._make_skus(1_800_000, "Material", 150)
        self.equipment = self._make_skus(1_900_000, "Equipment", 50)
        self.skus = self.services * 2 + self.materials + self.equipment
        fees = self._make_skus(1_950_000, "Service", len(MEMBERSHIPS) + 1)
        self.membership_visit = fees[-1]
        self.membership_types = tuple(
            MembershipType(
                **self._draw_lifetime(2_060_000, n, 0),
                name=name,
                frequency=frequency,
                sku=sku,
                is_deferred=is_deferred,
            )
            for n, ((name, frequency, is_deferred), sku) in enumerate(
                zip(MEMBERSHIPS, fees, strict=False)
            )
        )
        self.templates = tuple(
            BillingTemplate(
                **self._draw_lifetime(2_070_000, n, 0),
                name=f"{kind.name} {unit.name}",
                kind=kind,
                unit=unit,
            )
            for n, (kind, unit) in enumerate(product(self.membership_types, self.units))
        )
        self.service_types = self._make_named(2_080_000, list(SERVICE_TYPES))
        # They are in the price book, but nobody sells them on a job.
        self.services += fees
        self.bookable = tuple(kind for kind in self.job_types if kind.name not in NOT_BOOKABLE)
        self.call_reasons = tuple(
            Reason(**self._draw_lifetime(2_050_000, n, 0), name=name, is_lead=is_lead)
            for n, (name, is_lead) in enumerate(CALL_REASONS)
        )

    def find_job_type(self, name: str) -> Staff:
        """Return the job type with this name."""
        return next(kind for kind in self.job_types if kind.name == name)

    def _draw_lifetime(self, base: int, number: int, deactivated_share: float) -> dict[str, Any]:
        rng = self._rng
        created = self._start - rng.randrange(ticks.DAY, 900 * ticks.DAY)
        edits = sorted(self._start + rng.randrange(1500 * ticks.DAY) for _ in range(2))
        deactivated = edits[0] if rng.random() < deactivated_share else 0
        return {
            "id": compute_id(base, number),
            "moments": (created, *edits),
            "deactivated": deactivated,
            "draw": rng.getrandbits(24),
        }

    def _draw_names(self, number: int) -> list[str]:
        return [sample_text.draw_name(self._rng) for _ in range(number)]

    def _make_named(self, base: int, names: list[str]) -> tuple[Named, ...]:
        return tuple(
            Named(**self._draw_lifetime(base, n, 0.08), name=name) for n, name in enumerate(names)
        )

    def _make_staff(
        self, base: int, names: list[str], deactivated_share: float
    ) -> tuple[Staff, ...]:
        return tuple(
            Staff(
                **self._draw_lifetime(base, n, deactivated_share),
                name=name,
                unit=self.units[n % len(self.units)],
            )
            for n, name in enumerate(names)
        )

    def _make_skus(self, base: int, kind: str, number: int) -> tuple[Sku, ...]:
        rng = self._rng
        return tuple(
            Sku(
                **self._draw_lifetime(base, n, 0.05),
                kind=kind,
                code=f"{kind[0]}{1000 + n}",
                name=f"{rng.choice(sample_text.TRADES)} {rng.choice(sample_text.SKUS)} {n}",
                cents=rng.randrange(900, 95_000) * self._percent // 100,
                category=rng.choice(self.categories),
            )
            for n in range(number)
        )
