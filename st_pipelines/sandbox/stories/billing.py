"""Stories of invoices, their items, payments and estimates."""

from __future__ import annotations

from typing import Any

from st_pipelines.sandbox import ticks
from st_pipelines.sandbox.company import Company
from st_pipelines.sandbox.entities import Entity, Estimate, Invoice, Job, Line, Payment
from st_pipelines.sandbox.filler import money, money_text
from st_pipelines.sandbox.stories.story import Fields, RenderContext, Story


class Billed(Entity, frozen=True, kw_only=True, gc=False):
    """A line of an invoice that was written."""

    invoice: Invoice
    line: Line
    order: int


class Offered(Entity, frozen=True, kw_only=True, gc=False):
    """A line of an estimate."""

    line: Line


def _named(thing: Any) -> Fields:
    return {"id": thing.id, "name": thing.name}


def _invoice(invoice: Invoice, context: RenderContext) -> Fields:
    job = invoice.job
    done, paid = context.past(job.done), context.past(invoice.paid)
    total = job.total if done else 0
    day = job.done if done else invoice.moments[0]
    return {
        "referenceNumber": job.number,
        "invoiceDate": ticks.midnight_utc(day),
        "dueDate": ticks.midnight_utc(day + 30 * ticks.DAY),
        "subTotal": money_text(total),
        "salesTax": money_text(0),
        "total": money_text(total),
        "balance": money_text(0 if paid else total),
        "discountTotal": money_text(0),
        "customer": _named(job.location.customer),
        "location": {"id": job.location.id, "name": job.location.customer.name},
        "businessUnit": _named(job.kind.unit),
        "job": {"id": job.id, "number": job.number, "type": job.kind.name},
        "createdBy": job.taken_by.name,
        "batch": None,
        "employeeInfo": None,
        "paidOn": ticks.iso(invoice.paid) if paid else None,
        "adjustmentToId": None,
        "invoiceConfiguration": "JobInvoice",
        "summary": None,
        "items": [
            context.part("items", line.draw, {"id": line.id, **_line(line, job, order)})
            for order, line in enumerate(job.lines if done else (), start=1)
        ],
    }


def _line(line: Line, job: Job, order: int) -> Fields:
    written = ticks.iso(job.done)
    return {
        "quantity": f"{line.quantity}.0000000000000000000",
        "cost": money_text(line.sku.cents // 3),
        "totalCost": money_text(line.cents // 3),
        "price": money_text(line.sku.cents),
        "total": money_text(line.cents),
        "type": line.sku.kind,
        "skuName": line.sku.code,
        "skuId": line.sku.id,
        "displayName": line.sku.name,
        "order": order,
        "createdOn": written,
        "modifiedOn": written,
        "technicianId": job.technician.id,
        "createdById": job.taken_by.id,
        "generalLedgerAccount": None,
        "costOfSaleAccount": None,
        "assetAccount": None,
    }


def _billed(company: Company) -> list[Billed]:
    return [
        Billed(
            id=line.id,
            moments=(invoice.job.done,),
            draw=line.draw,
            deactivated=invoice.deactivated,
            invoice=invoice,
            line=line,
            order=order,
        )
        for invoice in company.invoices
        if invoice.job.done
        for order, line in enumerate(invoice.job.lines, start=1)
    ]


def _invoice_item(billed: Billed, context: RenderContext) -> Fields:
    line = _line(billed.line, billed.invoice.job, billed.order)
    line["invoiceId"] = billed.invoice.id
    return line


def _payment(payment: Payment, context: RenderContext) -> Fields:
    invoice, job = payment.invoice, payment.invoice.job
    kind = ("Credit Card", "Check", "Cash", "Finançiamento")[payment.draw % 4]
    applied = {
        "appliedId": payment.id + 1,
        "appliedTo": invoice.id,
        "appliedAmount": money_text(job.total),
        "appliedOn": ticks.iso(payment.moments[0]),
        "appliedBy": job.taken_by.name,
        "appliedToReferenceNumber": job.number,
    }
    return {
        "customer": _named(job.location.customer),
        "businessUnit": _named(job.kind.unit),
        "date": ticks.midnight_utc(payment.moments[0]),
        "type": kind,
        "typeId": str(payment.draw % 4 + 1),
        "total": money_text(job.total),
        "unappliedAmount": money_text(0),
        "appliedTo": [applied],
        "refundedPaymentId": None,
        "createdBy": job.taken_by.name,
        "batch": None,
    }


def _estimate(estimate: Estimate, context: RenderContext) -> Fields:
    job, sold = estimate.job, context.past(estimate.sold)
    total = sum(line.cents for line in estimate.lines)
    written = ticks.iso(estimate.moments[0])
    stamps = {"createdOn": written, "modifiedOn": written}
    return {
        "jobId": job.id,
        "locationId": job.location.id,
        "customerId": job.location.customer.id,
        "jobNumber": job.number,
        "name": ("Good", "Better", "Best", "Repair only")[estimate.option],
        "status": {"value": 1, "name": "Sold"} if sold else {"value": 0, "name": "Open"},
        "soldOn": ticks.iso(estimate.sold) if sold else None,
        "soldBy": job.technician.id if sold else None,
        "businessUnitId": job.kind.unit.id,
        "businessUnitName": job.kind.unit.name,
        "isRecommended": estimate.option == 1,
        "subtotal": money(total),
        "tax": money(0),
        "items": [
            context.part("items", line.draw, {**stamps, "id": line.id, **_offer(line)})
            for line in estimate.lines
        ],
    }


def _offer(line: Line) -> Fields:
    sku = {
        "id": line.sku.id,
        "name": line.sku.code,
        "displayName": line.sku.name,
        "type": line.sku.kind,
    }
    return {
        "sku": sku,
        "qty": money(100 * line.quantity, 4),
        "unitRate": money(line.sku.cents),
        "total": money(line.cents),
        "unitCost": money(line.sku.cents // 3),
        "totalCost": money(line.cents // 3),
    }


def _offered(company: Company) -> list[Offered]:
    return [
        Offered(id=line.id, moments=(estimate.moments[0],), draw=line.draw, line=line)
        for estimate in company.estimates
        for line in estimate.lines
    ]


STORIES = {
    "accounting.invoices": Story(entities=lambda company: company.invoices, fields=_invoice),
    "accounting.invoice_items": Story(entities=_billed, fields=_invoice_item),
    "accounting.payments": Story(entities=lambda company: company.payments, fields=_payment),
    "salestech.estimates": Story(entities=lambda company: company.estimates, fields=_estimate),
    "salestech.estimates_items": Story(
        entities=_offered, fields=lambda offered, context: _offer(offered.line)
    ),
}
