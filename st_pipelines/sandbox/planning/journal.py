"""Plans journal entries: one for each local day on which something is booked to the ledger.

An entry is made in the night after its day. Its lines follow from the invoices, payments, bills and
vendor payments of the day, and balance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from st_pipelines.sandbox import ticks
from st_pipelines.sandbox.billing_entities import Invoice, Payment
from st_pipelines.sandbox.entities import Account, Entity, Named, Sku, Staff
from st_pipelines.sandbox.planning.books import Books
from st_pipelines.sandbox.purchase_entities import Bill, VendorPayment

COSTS = {"Material": "5000", "Equipment": "5100"}
"""The account of what is bought, by kind of price book item."""


class JournalEntry(Entity, frozen=True, kw_only=True, gc=False):
    """What is booked on one local day (days since 1970)."""

    number: int
    day: int
    clerk: Staff
    is_empty: bool


@dataclass(frozen=True, kw_only=True)
class Posting:
    """One line of a journal entry.

    Attributes:
        account: the account.
        debit: in cents; negative for a credit.
        source: what is booked.
        unit: the business unit.
        sku, quantity: what was sold or bought, if it is the line of one.
    """

    account: Account
    debit: int
    source: Entity
    unit: Named
    sku: Sku | None = None
    quantity: int = 0


class Journal:
    """The journal entries of a company, and the postings of each."""

    def __init__(self, company: Books) -> None:
        self._company = company
        self.entries: list[JournalEntry] = []
        self._by_day: dict[int, list[Any]] = {}
        self._next_day = 0
        self._seen: dict[str, int] = {}

    def extend(self) -> None:
        """Add the entries of the days that were planned since the last call."""
        company = self._company
        self._collect("invoices", company.invoices, lambda invoice: invoice.issued)
        self._collect(
            "payments", company.payments, lambda paid: 0 if paid.deactivated else paid.moments[0]
        )
        self._collect("bills", company.bills, lambda bill: bill.moments[0])
        self._collect("paid", company.vendor_payments, lambda payment: payment.moments[0])
        for day in sorted(self._by_day):
            if self._next_day <= day < company.next_day:
                self._add_entry(day)
        self._next_day = company.next_day

    def _collect(self, name: str, entities: list[Any], moment: Callable[[Any], int]) -> None:
        first = self._seen.get(name, 0)
        for entity in entities[first:]:
            booked = moment(entity)
            if booked:
                day = ticks.to_local_day(ticks.to_datetime(booked))
                self._by_day.setdefault(day, []).append(entity)
        self._seen[name] = len(entities)

    def _add_entry(self, day: int) -> None:
        number = len(self.entries)
        created = ticks.from_local_day(day + 1) + 2 * ticks.HOUR + day % 97 * ticks.SECOND
        self.entries.append(
            JournalEntry(
                id=number + 1,
                number=number + 1,
                moments=(created, created + 3 * ticks.DAY),
                draw=_skip_null_ids(number),
                day=day,
                clerk=self._company.master_data.office[0],
                # Invoices without items book nothing.
                is_empty=all(isinstance(e, Invoice) and not e.lines for e in self._by_day[day]),
            )
        )

    def list_postings(self, entry: JournalEntry) -> list[Posting]:
        """Return the lines of an entry. Their debits add up to zero."""
        return [
            posting
            for entity in self._by_day[entry.day]
            for posting in self._post(entity)
            if posting.debit
        ]

    def _post(self, entity: Any) -> Iterator[Posting]:
        match entity:
            case Invoice():
                yield from self._post_invoice(entity)
            case Payment():
                unit = entity.invoice.unit
                yield self._post_to("1050", entity.cents, entity, unit)
                yield self._post_to("1100", -entity.cents, entity, unit)

            case Bill():
                yield from self._post_bill(entity)
            case VendorPayment():
                bill = entity.bill
                yield self._post_to("2000", bill.total, entity, bill.unit)
                yield self._post_to("1000", -bill.total, entity, bill.unit)

    def _post_bill(self, bill: Bill) -> Iterator[Posting]:
        if bill.account:
            yield Posting(account=bill.account, debit=bill.expense, source=bill, unit=bill.unit)
        for line in bill.order.lines if bill.order else ():
            yield Posting(
                account=self._company.ledger.accounts[COSTS[line.sku.kind]],
                debit=line.cents,
                source=bill,
                unit=bill.unit,
                sku=line.sku,
                quantity=line.quantity,
            )
        yield self._post_to("2000", -bill.total, bill, bill.unit)

    def _post_invoice(self, invoice: Invoice) -> Iterator[Posting]:
        yield self._post_to("1100", invoice.total, invoice, invoice.unit)
        for line in invoice.lines:
            yield Posting(
                account=line.account,
                debit=-line.cents,
                source=invoice,
                unit=line.unit or invoice.unit,
                sku=line.sku,
                quantity=line.quantity,
            )
        yield self._post_to("2100", -invoice.tax, invoice, invoice.unit)

    def _post_to(self, number: str, debit: int, source: Entity, unit: Named) -> Posting:
        account = self._company.ledger.accounts[number]
        return Posting(account=account, debit=debit, source=source, unit=unit)


def _skip_null_ids(number: int) -> int:
    """Return a number for an entry. Only two entries have no id, see `odd_values.has_null_id`."""
    later = number - 46
    return number if later < 0 else number + later // 22
