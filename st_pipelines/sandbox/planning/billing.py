"""Plans invoices and their payments: of jobs, of memberships, and adjustments."""

from __future__ import annotations

import random

from st_pipelines.sandbox import ticks
from st_pipelines.sandbox.billing_entities import Invoice, Payment
from st_pipelines.sandbox.entities import Job, Line, Location, Membership
from st_pipelines.sandbox.planning.books import Books
from st_pipelines.sandbox.schedule import draw_office_moment, sort_moments

UNPAID_SHARE = 0.1
"""Share of invoices that are never paid."""

PART_SHARE = 0.08
"""Share of invoices that are paid in two parts."""

ADJUSTED_SHARE = 0.015
"""Share of job invoices that are adjusted later."""


class Billing:
    """Adds invoices and payments to a company."""

    def __init__(self, company: Books) -> None:
        self._company = company

    def add_job_invoice(self, rng: random.Random, job: Job) -> None:
        """Add the invoice of a job, which has no items until the job is done."""
        paid = partly_paid = 0
        if job.done and job.total > 0 and rng.random() >= UNPAID_SHARE:
            paid = job.done + rng.choice((1, 1, 20, 40)) * rng.randrange(ticks.HOUR, ticks.DAY)
            if rng.random() < PART_SHARE:
                partly_paid = job.done + (paid - job.done) // 3
        invoice = Invoice(
            id=job.invoice_id,
            moments=sort_moments(job.moments[0], job.done or job.canceled, partly_paid, paid),
            deactivated=job.deactivated,
            draw=job.draw,
            job=job,
            number=job.number,
            location=job.location,
            unit=job.kind.unit,
            clerk=job.booked_by,
            lines=job.lines,
            issued=job.done,
            partly_paid=partly_paid,
            paid=paid,
            tax_permille=self._find_tax(job.location),
        )
        self._company.invoices.append(invoice)
        self._add_payments(rng, invoice)
        if job.done and job.lines and rng.random() < ADJUSTED_SHARE:
            self._plan_adjustment(rng, invoice, job)

    def add_membership_invoice(
        self, rng: random.Random, membership: Membership, moment: int
    ) -> None:
        """Bill a membership at `moment` (ticks). Most customers pay at once, by card."""
        company, kind = self._company, membership.kind
        paid = moment + rng.randrange(ticks.MINUTE, ticks.HOUR) if rng.random() < 0.96 else 0
        account = "2300" if kind.is_deferred else "4300"
        line = Line(
            id=company.next_id("line"),
            sku=kind.sku,
            quantity=1,
            draw=rng.getrandbits(16),
            account=company.ledger.accounts[account],
        )
        key = company.next_id("invoice")
        invoice = Invoice(
            id=key,
            moments=sort_moments(moment, paid),
            draw=rng.getrandbits(24),
            membership=membership,
            number=f"M{key}",
            location=membership.location,
            unit=membership.unit,
            clerk=membership.seller,
            lines=(line,),
            issued=moment,
            partly_paid=0,
            paid=paid,
            tax_permille=0,
        )
        company.invoices.append(invoice)
        self._add_payments(rng, invoice)

    def _plan_adjustment(self, rng: random.Random, invoice: Invoice, job: Job) -> None:
        moment = draw_office_moment(rng, invoice.issued + rng.randrange(1, 40) * ticks.DAY)
        self._company.agenda.add(
            moment, lambda rng, moment: self._add_adjustment(rng, invoice, job, moment)
        )

    def _add_adjustment(self, rng: random.Random, invoice: Invoice, job: Job, moment: int) -> None:
        """Take the first line of an invoice back. The customer gets a credit."""
        company, taken = self._company, invoice.lines[0]
        line = Line(
            id=company.next_id("line"),
            sku=taken.sku,
            quantity=-taken.quantity,
            draw=taken.draw,
            account=taken.account,
            unit=taken.unit,
        )
        company.invoices.append(
            Invoice(
                id=company.next_id("invoice"),
                moments=(moment,),
                draw=rng.getrandbits(24),
                job=job,
                adjusts=invoice,
                number=f"{job.number}-A",
                location=invoice.location,
                unit=invoice.unit,
                clerk=rng.choice(company.master_data.office),
                lines=(line,),
                issued=moment,
                partly_paid=0,
                paid=0,
                tax_permille=invoice.tax_permille,
            )
        )

    def _find_tax(self, location: Location) -> int:
        return 0 if location.customer.is_exempt else self._company.profile.tax_permille

    def _add_payments(self, rng: random.Random, invoice: Invoice) -> None:
        first = invoice.first_part
        if invoice.partly_paid:
            self._add_payment(rng, invoice, invoice.partly_paid, first)
        if invoice.paid:
            self._add_payment(rng, invoice, invoice.paid, invoice.total - first)

    def _add_payment(self, rng: random.Random, invoice: Invoice, moment: int, cents: int) -> None:
        self._company.payments.append(
            Payment(
                id=self._company.next_id("payment"),
                moments=(moment, moment + rng.randrange(1, 3 * ticks.DAY)),
                draw=invoice.draw,
                invoice=invoice,
                cents=cents,
            )
        )
