"""Renders journal entries and their lines, as details and as a summary."""

from __future__ import annotations

from typing import Any

from st_pipelines.sandbox import ticks
from st_pipelines.sandbox.billing_entities import Invoice, Payment
from st_pipelines.sandbox.entities import Account, Entity, Staff
from st_pipelines.sandbox.ids import compute_user_id
from st_pipelines.sandbox.planning.journal import Journal, JournalEntry, Posting
from st_pipelines.sandbox.purchase_entities import Bill, VendorPayment
from st_pipelines.sandbox.scalars import format_money
from st_pipelines.sandbox.stories.story import Fields, RenderContext, Story, refer_to


def _render_entry(entry: JournalEntry, context: RenderContext) -> Fields:
    is_exported = context.has_passed(entry.moments[1])
    midnight = ticks.from_local_day(entry.day)
    return {
        "number": entry.number,
        "name": f"Daily {ticks.format_local_midnight(midnight)[:10]}",
        "source": "ServiceTitan",
        "status": "Closed" if is_exported else "Open",
        "syncStatus": "Synced" if is_exported else "NotSynced",
        "versionId": 2 if is_exported else 1,
        "lastSyncVersionId": 2 if is_exported else None,
        "message": None,
        "postDate": _format_day(entry.day),
        "exportedOn": ticks.format_iso(entry.moments[1]) if is_exported else None,
        "exportedBy": _refer_to_user(entry.clerk) if is_exported else None,
        "customFields": [],
        "url": None,
        "isEmpty": entry.is_empty,
    }


def _refer_to_user(person: Staff) -> Fields:
    return {"id": compute_user_id(person.id), "name": person.name}


def _format_day(day: int) -> str:
    """Format a local day (days since 1970) as fields of format `date` are served."""
    return ticks.format_date(day * ticks.DAY)


def _refer_to_account(account: Account) -> Fields:
    return {
        "id": account.id,
        "number": account.number,
        "name": account.name,
        "type": account.kind,
        "subtype": account.detail,
    }


def _render_amounts(debit: int) -> Fields:
    return {"debit": format_money(max(debit, 0)), "credit": format_money(max(-debit, 0))}


def render_details(journal: Journal, entry: JournalEntry) -> list[Fields]:
    """Render the lines of an entry, one for each posting."""
    return [_render_posting(posting, entry) for posting in journal.list_postings(entry)]


def _render_posting(posting: Posting, entry: JournalEntry) -> Fields:
    sku = posting.sku
    return {
        "postDate": _format_day(entry.day),
        "account": _refer_to_account(posting.account),
        **_render_amounts(posting.debit),
        "memo": None,
        "quantity": posting.quantity if sku else None,
        "unitAmount": format_money(abs(posting.debit // posting.quantity)) if sku else None,
        "externalObjects": [],
        "businessUnit": refer_to(posting.unit),
        "sku": sku and {"id": sku.id, "type": sku.kind, "code": sku.code},
        "transactionDate": _format_day(entry.day),
        "budgetCodeId": None,
        **_render_source(posting.source),
    }


def _render_source(source: Entity) -> Fields:
    """Render the references to what is booked, and to its customer, vendor and job."""
    fields: Fields = dict.fromkeys(
        (
            "customer",
            "vendor",
            "inventoryLocation",
            "job",
            "customerLocation",
            "paymentType",
            "project",
            "serviceAgreement",
            "appliedTo",
        )
    )
    match source:
        case Invoice():
            fields |= _render_invoice_source(source)
        case Payment():
            invoice = source.invoice
            fields |= _render_invoice_source(invoice)
            fields["appliedTo"] = _refer_to_transaction(invoice, "Invoice", invoice.number)
            fields["transaction"] = _refer_to_transaction(source, "Payment", str(source.id))
        case Bill():
            fields["vendor"] = refer_to(source.vendor)
            fields["transaction"] = _refer_to_transaction(source, "Bill", f"B{source.id}")
        case VendorPayment():
            bill = source.bill
            fields["vendor"] = refer_to(bill.vendor)
            fields["appliedTo"] = _refer_to_transaction(bill, "Bill", f"B{bill.id}")
            fields["transaction"] = _refer_to_transaction(source, "VendorPayment", str(source.id))
    return fields


def _render_invoice_source(invoice: Invoice) -> Fields:
    customer, job = invoice.location.customer, invoice.job
    return {
        "transaction": _refer_to_transaction(invoice, "Invoice", invoice.number),
        "customer": refer_to(customer),
        "customerLocation": {"id": invoice.location.id, "name": customer.name},
        "job": job and {"id": job.id, "number": job.number},
    }


def _refer_to_transaction(entity: Entity, kind: str, number: str) -> Fields:
    return {"id": entity.id, "type": kind, "refNumber": number}


def render_summary(journal: Journal, entry: JournalEntry) -> list[Fields]:
    """Render the balance of each account and business unit in an entry."""
    totals: dict[tuple[int, int], int] = {}
    shown: dict[tuple[int, int], Any] = {}
    for posting in journal.list_postings(entry):
        key = (posting.account.id, posting.unit.id)
        totals[key] = totals.get(key, 0) + posting.debit
        shown[key] = posting
    return [
        {
            "postDate": _format_day(entry.day),
            "account": _refer_to_account(shown[key].account),
            **_render_amounts(totals[key]),
            "memo": None,
            "businessUnit": refer_to(shown[key].unit),
        }
        for key in sorted(totals)
    ]


STORIES = {
    "accounting.journal_entries": Story(
        entities=lambda company: company.chapter(Journal).entries, fields=_render_entry
    ),
}
