"""Plans invoices and their payments: of jobs, of memberships, and adjustments."""

from __future__ import annotations

import random

import msgspec

from st_pipelines.sandbox import ticks
from st_pipelines.sandbox.billing_entities import CreditMemo, Invoice, Payment, compute_tax
from st_pipelines.sandbox.entities import Job, Line, Location, Membership
from st_pipelines.sandbox.planning.books import Books
from st_pipelines.sandbox.planning.deposit_days import (
    find_deposit_day,
    find_deposit_moment,
    find_deposit_of,
)
from st_pipelines.sandbox.schedule import draw_office_moment, sort_moments

UNPAID_SHARE = 0.1
"""Share of invoices that are never paid."""

PART_SHARE = 0.08
"""Share of invoices that are paid in two parts."""

ADJUSTED_SHARE = 0.015
"""Share of job invoices that are adjusted later."""

CREDITED_SHARE = 0.3
"""Share of the invoices that are never paid of which the office takes a line back."""

DUPLICATES = 47
"""A payment is entered twice for one of this many invoices."""

COURTESY_SHARE = 0.04
"""Share of the paid invoices for which the customer gets a credit."""


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
        memo_on = self._draw_credit(rng, job, is_paid=bool(paid))
        credited = 0 if paid else memo_on
        tax_permille = self._find_tax(job.location)
        invoice = Invoice(
            id=job.invoice_id,
            moments=sort_moments(
                job.moments[0],
                job.done or job.canceled,
                partly_paid,
                paid,
                find_deposit_of(paid),
                credited,
            ),
            deactivated=job.deactivated,
            draw=job.draw,
            job=job,
            number=job.number,
            location=job.location,
            unit=job.unit,
            clerk=job.booked_by,
            lines=job.lines,
            issued=job.done,
            partly_paid=partly_paid,
            paid=paid,
            tax_permille=tax_permille,
            credited=credited,
            credit=_price(job.lines[:1], tax_permille) if credited else 0,
        )
        self._company.invoices.append(invoice)
        self._add_payments(invoice)
        if memo_on:
            self._add_credit(rng, invoice, memo_on)
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
            moments=sort_moments(moment, paid, find_deposit_of(paid)),
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
        self._add_payments(invoice)

    def _draw_credit(self, rng: random.Random, job: Job, *, is_paid: bool) -> int:
        """Draw when a credit memo is made for a job's invoice (ticks); zero if none is."""
        share = COURTESY_SHARE if is_paid else CREDITED_SHARE
        is_first = not self._company.credit_memos
        if not job.done or job.total <= 0 or not (is_first or rng.random() < share):
            return 0
        return draw_office_moment(rng, job.done + rng.randrange(41, 90) * ticks.DAY)

    def _add_credit(self, rng: random.Random, invoice: Invoice, moment: int) -> None:
        """Credit the first line of an invoice, with its tax."""
        company = self._company
        lines = tuple(
            msgspec.structs.replace(line, id=company.next_id("line")) for line in invoice.lines[:1]
        )
        company.credit_memos.append(
            CreditMemo(
                id=company.next_id("credit_memo"),
                moments=(moment, moment + rng.randrange(5, 30) * ticks.DAY),
                draw=rng.getrandbits(24),
                invoice=invoice,
                clerk=rng.choice(company.master_data.office),
                lines=lines,
                is_applied=invoice.credited > 0,
            )
        )

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

    def _add_payments(self, invoice: Invoice) -> None:
        first = invoice.first_part
        if invoice.partly_paid:
            self._add_payment(invoice, invoice.partly_paid, first)
        if invoice.paid:
            self._add_payment(invoice, invoice.paid, invoice.total - first)

    def _add_payment(self, invoice: Invoice, moment: int, cents: int) -> None:
        day = find_deposit_day(moment)
        payment = Payment(
            id=self._company.next_id("payment"),
            moments=(moment, find_deposit_moment(day)),
            draw=invoice.draw,
            invoice=invoice,
            cents=cents,
            account=self._company.ledger.accounts["1050"],
            deposit_day=day,
        )
        self._company.payments.append(payment)
        if invoice.draw % DUPLICATES == 0:
            self._add_duplicate(payment)

    def _add_duplicate(self, payment: Payment) -> None:
        """Add a payment that is entered a second time, and deleted before the day's deposit."""
        entered = payment.moments[0] + (2 + payment.draw % 7) * ticks.MINUTE
        deleted = entered + (5 + payment.draw % 11) * ticks.MINUTE
        self._company.payments.append(
            msgspec.structs.replace(
                payment,
                id=self._company.next_id("payment"),
                moments=(entered, deleted),
                deactivated=deleted,
            )
        )


def _price(lines: tuple[Line, ...], tax_permille: int) -> int:
    return sum(line.cents for line in lines) + compute_tax(lines, tax_permille)
