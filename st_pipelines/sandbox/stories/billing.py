"""Renders invoices, their items, payments and estimates."""

from __future__ import annotations

from typing import Any

from st_pipelines.sandbox import ticks
from st_pipelines.sandbox.company import Company
from st_pipelines.sandbox.entities import Entity, Estimate, Invoice, Job, Line, Payment
from st_pipelines.sandbox.ids import compute_first_id, compute_id, compute_user_id
from st_pipelines.sandbox.scalars import format_money, format_money_text
from st_pipelines.sandbox.stories.story import Fields, RenderContext, Story
from st_pipelines.sandbox.vocabulary import name_record

PAYMENT_TYPES = "accounting.payment_types"


class InvoiceLine(Entity, frozen=True, kw_only=True, gc=False):
    """A line of the invoice of a job that is done."""

    invoice: Invoice
    line: Line
    order: int


class EstimateLine(Entity, frozen=True, kw_only=True, gc=False):
    """A line of an estimate."""

    line: Line


def _refer_to(named: Any) -> Fields:
    return {"id": named.id, "name": named.name}


def _render_invoice(invoice: Invoice, context: RenderContext) -> Fields:
    job = invoice.job
    done, paid = context.has_passed(job.done), context.has_passed(invoice.paid)
    total = job.total if done else 0
    day = job.done if done else invoice.moments[0]
    return {
        "referenceNumber": job.number,
        "invoiceDate": ticks.format_midnight(day),
        "dueDate": ticks.format_midnight(day + 30 * ticks.DAY),
        "subTotal": format_money_text(total),
        "salesTax": format_money_text(0),
        "total": format_money_text(total),
        "balance": format_money_text(0 if paid else total),
        "discountTotal": format_money_text(0),
        "customer": _refer_to(job.location.customer),
        "location": {"id": job.location.id, "name": job.location.customer.name},
        "businessUnit": _refer_to(job.kind.unit),
        "job": {"id": job.id, "number": job.number, "type": job.kind.name},
        "createdBy": job.booked_by.name,
        "batch": None,
        "employeeInfo": None,
        "paidOn": ticks.format_iso(invoice.paid) if paid else None,
        "adjustmentToId": None,
        "invoiceConfiguration": "JobInvoice",
        "summary": None,
        "items": [
            context.render_part(
                "items", line.draw, {"id": line.id, **_render_line(line, job, order)}
            )
            for order, line in enumerate(job.lines if done else (), start=1)
        ],
    }


def _render_line(line: Line, job: Job, order: int) -> Fields:
    done = ticks.format_iso(job.done)
    return {
        "quantity": f"{line.quantity}.0000000000000000000",
        "cost": format_money_text(line.sku.cents // 3),
        "totalCost": format_money_text(line.cents // 3),
        "price": format_money_text(line.sku.cents),
        "total": format_money_text(line.cents),
        "type": line.sku.kind,
        "skuName": line.sku.code,
        "skuId": line.sku.id,
        "displayName": line.sku.name,
        "order": order,
        "createdOn": done,
        "modifiedOn": done,
        "technicianId": job.technician.id,
        "createdById": compute_user_id(job.booked_by.id),
        "generalLedgerAccount": None,
        "costOfSaleAccount": None,
        "assetAccount": None,
    }


def _list_invoice_lines(company: Company) -> list[InvoiceLine]:
    return [
        InvoiceLine(
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


def _render_invoice_item(item: InvoiceLine, context: RenderContext) -> Fields:
    fields = _render_line(item.line, item.invoice.job, item.order)
    return {**fields, "invoiceId": item.invoice.id}


def _render_payment(payment: Payment, context: RenderContext) -> Fields:
    invoice, job = payment.invoice, payment.invoice.job
    kind = payment.draw % 4
    applied = {
        "appliedId": payment.id + 1,
        "appliedTo": invoice.id,
        "appliedAmount": format_money_text(job.total),
        "appliedOn": ticks.format_iso(payment.moments[0]),
        "appliedBy": job.booked_by.name,
        "appliedToReferenceNumber": job.number,
    }
    return {
        "customer": _refer_to(job.location.customer),
        "businessUnit": _refer_to(job.kind.unit),
        "date": ticks.format_midnight(payment.moments[0]),
        "type": name_record(PAYMENT_TYPES, kind),
        "typeId": str(compute_id(compute_first_id(PAYMENT_TYPES), kind)),
        "total": format_money_text(job.total),
        "unappliedAmount": format_money_text(0),
        "appliedTo": [applied],
        "refundedPaymentId": None,
        "createdBy": job.booked_by.name,
        "batch": None,
    }


def _render_estimate(estimate: Estimate, context: RenderContext) -> Fields:
    job, sold = estimate.job, context.has_passed(estimate.sold)
    total = sum(line.cents for line in estimate.lines)
    created = ticks.format_iso(estimate.moments[0])
    stamps = {"createdOn": created, "modifiedOn": created}
    return {
        "jobId": job.id,
        "locationId": job.location.id,
        "customerId": job.location.customer.id,
        "jobNumber": job.number,
        "name": ("Good", "Better", "Best", "Repair only")[estimate.option],
        "status": {"value": 1, "name": "Sold"} if sold else {"value": 0, "name": "Open"},
        "soldOn": ticks.format_iso(estimate.sold) if sold else None,
        "soldBy": job.technician.id if sold else None,
        "businessUnitId": job.kind.unit.id,
        "businessUnitName": job.kind.unit.name,
        "isRecommended": estimate.option == 1,
        "subtotal": format_money(total),
        "tax": format_money(0),
        "items": [
            context.render_part(
                "items", line.draw, {**stamps, "id": line.id, **_render_estimate_line(line)}
            )
            for line in estimate.lines
        ],
    }


def _render_estimate_line(line: Line) -> Fields:
    sku = {
        "id": line.sku.id,
        "name": line.sku.code,
        "displayName": line.sku.name,
        "type": line.sku.kind,
    }
    return {
        "sku": sku,
        "qty": format_money(100 * line.quantity, 4),
        "unitRate": format_money(line.sku.cents),
        "total": format_money(line.cents),
        "unitCost": format_money(line.sku.cents // 3),
        "totalCost": format_money(line.cents // 3),
    }


def _list_estimate_lines(company: Company) -> list[EstimateLine]:
    return [
        EstimateLine(id=line.id, moments=(estimate.moments[0],), draw=line.draw, line=line)
        for estimate in company.estimates
        for line in estimate.lines
    ]


STORIES = {
    "accounting.invoices": Story(entities=lambda company: company.invoices, fields=_render_invoice),
    "accounting.invoice_items": Story(entities=_list_invoice_lines, fields=_render_invoice_item),
    "accounting.payments": Story(entities=lambda company: company.payments, fields=_render_payment),
    "salestech.estimates": Story(
        entities=lambda company: company.estimates, fields=_render_estimate
    ),
    "salestech.estimates_items": Story(
        entities=_list_estimate_lines,
        fields=lambda entity, context: _render_estimate_line(entity.line),
    ),
}
