"""Draws what is sold: the lines of a job's invoice, and of the options of an estimate."""

from __future__ import annotations

import random

from st_pipelines.sandbox.entities import Line, Membership, Origin, Sku, Staff
from st_pipelines.sandbox.planning.books import Books
from st_pipelines.sandbox.trades import WORK

UNSOLD_SHARE = 0.08
"""Share of jobs of which nothing is sold."""


class Sales:
    """Draws lines from the price book of a company."""

    def __init__(self, company: Books) -> None:
        self._company = company

    def draw_job_lines(self, rng: random.Random, kind: Staff, origin: Origin) -> tuple[Line, ...]:
        """Draw the lines of a job: what was offered, what the visit costs, or what it takes."""
        if origin.estimate is not None:
            return self._copy_lines(origin.estimate.lines)
        if origin.membership is not None:
            return self._draw_visit_lines(origin.membership)
        if origin.recall_of is not None:
            return ()
        # Sometimes nothing is sold.
        return () if rng.random() < UNSOLD_SHARE else self.draw_lines(rng, kind)

    def _copy_lines(self, lines: tuple[Line, ...]) -> tuple[Line, ...]:
        copies = (
            Line(
                id=self._company.next_id("line"),
                sku=line.sku,
                draw=line.draw,
                quantity=line.quantity,
                account=line.account,
                unit=line.unit,
            )
            for line in lines
        )
        return tuple(copies)

    def _draw_visit_lines(self, membership: Membership) -> tuple[Line, ...]:
        """Return the lines of a visit: paid already, so they are income and add up to zero."""
        if not membership.kind.is_deferred:
            return ()
        company = self._company
        amounts = ((1, "4300"), (-1, "2300"))
        return tuple(
            Line(
                id=company.next_id("line"),
                sku=company.master_data.membership_visit,
                draw=membership.draw % 65_536,
                quantity=quantity,
                account=company.ledger.accounts[number],
            )
            for quantity, number in amounts
        )

    def draw_lines(
        self, rng: random.Random, kind: Staff, option: int | None = None
    ) -> tuple[Line, ...]:
        """Draw the lines of a job's invoice, or of an option of an estimate.

        Args:
            rng: draws them.
            kind: the job type. What it costs follows from its services.
            option: the number of the estimate's option; later ones are dearer. None for a job.
        """
        book, work = self._company.master_data.price_book, WORK[kind.name]
        services = book.services_of.get(kind.name)
        if services is None:
            return ()
        service = rng.choice(services) if option is None else services[option % len(services)]
        # Tune-ups and tests need few parts.
        counts = (0, 0, 0, 1) if work.dollars[1] < 200 else (0, 0, 1, 1, 2, 4)
        parts = rng.choices(book.materials_of[work.trade], k=rng.choice(counts))
        equipment = rng.sample(book.equipment_of[work.trade], work.is_install)
        return tuple(self._make_line(rng, sku) for sku in (service, *equipment, *parts))

    def draw_extra_lines(self, rng: random.Random, kind: Staff) -> tuple[Line, ...]:
        """Draw what is offered on top of a job's work: a few parts."""
        parts = self._company.master_data.price_book.materials_of[WORK[kind.name].trade]
        return tuple(self._make_line(rng, sku) for sku in rng.choices(parts, k=rng.randrange(1, 4)))

    def _make_line(self, rng: random.Random, sku: Sku) -> Line:
        company = self._company
        is_many = sku.kind == "Material" and rng.random() < 0.3
        return Line(
            id=company.next_id("line"),
            sku=sku,
            draw=rng.getrandbits(16),
            quantity=rng.randrange(2, 5) if is_many else 1,
            account=company.ledger.find_revenue(sku.kind),
            unit=rng.choice(company.master_data.units) if rng.random() < 0.03 else None,
        )
