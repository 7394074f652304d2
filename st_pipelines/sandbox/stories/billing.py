"""Renders invoices, their items, payments and estimates."""

from __future__ import annotations

import msgspec

from st_pipelines.sandbox import ticks
from st_pipelines.sandbox.billing_entities import TAXED, Invoice, Payment
from st_pipelines.sandbox.company import Company
from st_pipelines.sandbox.entities import Entity, Estimate, Line
from st_pipelines.sandbox.ids import compute_first_id, compute_id, compute_user_id
from st_pipelines.sandbox.planning.deposit_days import (
    compute_deposit_id,
    find_deposit_of,
)
from st_pipelines.sandbox.scalars import format_money, format_money_text
from st_pipelines.sandbox.stories.customers import render_address, render_billing_address
from st_pipelines.sandbox.stories.equipment import find_equipment
from st_pipelines.sandbox.stories.ledger import refer_to_account, render_batch
from st_pipelines.sandbox.stories.projects import find_project
from st_pipelines.sandbox.stories.story import Fields, RenderContext, Story, refer_to
from st_pipelines.sandbox.vocabulary import name_record

ESTIMATE_STATUSES = {
    name: {"value": value, "name": name} for value, name in enumerate(("Open", "Sold", "Dismissed"))
}


INVOICE_TYPES = ({"id": 2_054_000, "name": "Residential"}, {"id": 2_054_003, "name": "Commercial"})
"""Of invoices of people, and of businesses. Nothing lists invoice types."""

DEPOSIT_PERCENTS = (0, 0, 25, 50)
"""The shares of an estimate that are due when it is signed."""

PAYMENT_TYPES = "accounting.payment_types"
TAX_ZONES = "accounting.tax_zones"


class InvoiceLine(Entity, frozen=True, kw_only=True, gc=False):
    """A line of an issued invoice."""

    invoice: Invoice
    line: Line
    order: int


class EstimateLine(Entity, frozen=True, kw_only=True, gc=False):
    """A line of an estimate."""

    line: Line


def _find_paid(invoice: Invoice, context: RenderContext) -> int:
    """Return what is paid of an invoice so far, or credited, in cents."""
    if context.has_passed(invoice.paid):
        return invoice.total
    if context.has_passed(invoice.credited):
        return invoice.credit
    return invoice.first_part if context.has_passed(invoice.partly_paid) else 0


def _render_invoice(invoice: Invoice, context: RenderContext) -> Fields:
    job, customer = invoice.job, invoice.location.customer
    issued, paid = context.has_passed(invoice.issued), context.has_passed(invoice.paid)
    total = invoice.total if issued else 0
    day = invoice.issued if issued else invoice.moments[0]
    is_membership = invoice.membership is not None
    return {
        "referenceNumber": invoice.number,
        "invoiceDate": ticks.format_local_midnight(day),
        "dueDate": ticks.format_local_midnight(day + 30 * ticks.DAY),
        "subTotal": format_money_text(invoice.subtotal if issued else 0),
        "salesTax": format_money_text(invoice.tax if issued else 0),
        "salesTaxCode": render_tax_code(invoice),
        "total": format_money_text(total),
        "balance": format_money_text(total - _find_paid(invoice, context)),
        "discountTotal": format_money_text(0),
        "customer": refer_to(customer),
        "location": {"id": invoice.location.id, "name": customer.name},
        "businessUnit": refer_to(invoice.unit),
        "customerAddress": render_billing_address(customer),
        "locationAddress": render_address(customer, invoice.location.street, invoice.location.draw),
        "invoiceType": dict(INVOICE_TYPES[customer.commercial]),
        "depositedOn": _format_deposit(invoice, context),
        "commissionEligibilityDate": (
            ticks.format_iso(job.done) if job and context.has_passed(job.done) else None
        ),
        "job": job and {"id": job.id, "number": job.number, "type": job.kind.name},
        "projectId": find_project(job),
        "membershipId": invoice.membership.id if invoice.membership else None,
        "createdBy": invoice.clerk.name,
        **_render_batching(invoice, context),
        "employeeInfo": None,
        "paidOn": ticks.format_iso(invoice.paid) if paid else None,
        "adjustmentToId": invoice.adjusts.id if invoice.adjusts else None,
        "invoiceConfiguration": "MembershipInvoice" if is_membership else "JobInvoice",
        "summary": None,
        "items": [
            context.render_part(
                "items", line.draw, {"id": line.id, **_render_line(line, invoice, order)}
            )
            for order, line in enumerate(invoice.lines if issued else (), start=1)
        ],
    }


def _render_batching(invoice: Invoice, context: RenderContext) -> Fields:
    """Render how far the accounting of an invoice is.

    The office puts it into a batch once nothing is owed, and exports it once its payment is at the
    bank.
    """
    batched = invoice.paid or (invoice.issued if invoice.total <= 0 else 0)
    is_batched = context.has_passed(batched)
    is_exported = _format_deposit(invoice, context) is not None
    return {
        "batch": render_batch("Invoices", batched) if is_batched else None,
        "syncStatus": "Exported" if is_exported else "Posted" if is_batched else "Pending",
    }


def _format_deposit(invoice: Invoice, context: RenderContext) -> str | None:
    """Format when the last payment was taken to the bank; None if it was not."""
    deposited = find_deposit_of(invoice.paid)
    return ticks.format_iso(deposited) if context.has_passed(deposited) else None


def _render_line(line: Line, invoice: Invoice, order: int) -> Fields:
    issued = ticks.format_iso(invoice.issued)
    membership = invoice.membership
    return {
        "quantity": f"{line.quantity}.0000000000000000000",
        "cost": format_money_text(line.sku.cents // 3),
        "totalCost": format_money_text(line.cents // 3),
        "price": format_money_text(line.sku.cents),
        "total": format_money_text(line.cents),
        "soldHours": format_money(line.minutes * 100 // 60),
        "type": line.sku.kind,
        "skuName": line.sku.code,
        "skuId": line.sku.id,
        "displayName": line.sku.name,
        "taxable": line.sku.kind in TAXED,
        "order": order,
        "serviceDate": ticks.format_local_midnight(
            invoice.job.done if invoice.job and invoice.job.done else invoice.issued
        ),
        "createdOn": issued,
        "modifiedOn": issued,
        "technicianId": invoice.job.technician.id if invoice.job else None,
        "createdById": compute_user_id(invoice.clerk.id),
        "businessUnit": refer_to(line.unit or invoice.unit),
        # Zero where the line sells no membership: the field is never null.
        "membershipTypeId": membership.kind.id if membership else 0,
        "generalLedgerAccount": refer_to_account(line.account),
        "installedEquipmentId": (
            find_equipment(invoice.job)
            if invoice.job and line.sku.kind == "Equipment" and line.quantity > 0
            else None
        ),
        "costOfSaleAccount": None,
        "assetAccount": None,
    }


def _list_invoice_lines(company: Company) -> list[InvoiceLine]:
    return [
        InvoiceLine(
            id=line.id,
            moments=(invoice.issued,),
            draw=line.draw,
            deactivated=invoice.deactivated,
            invoice=invoice,
            line=line,
            order=order,
        )
        for invoice in company.invoices
        if invoice.issued
        for order, line in enumerate(invoice.lines, start=1)
    ]


def _render_invoice_item(item: InvoiceLine, context: RenderContext) -> Fields:
    fields = _render_line(item.line, item.invoice, item.order)
    return {**fields, "invoiceId": item.invoice.id}


def render_payment(payment: Payment, context: RenderContext) -> Fields:
    """Render a payment, which names its deposit once that is made."""
    invoice, moment = payment.invoice, payment.moments[0]
    kind, deposited = payment.kind, payment.moments[1]
    is_duplicate = payment.deactivated > 0
    is_deposited = context.has_passed(deposited) and not is_duplicate
    applied = {
        "appliedId": payment.id + 1,
        "appliedTo": invoice.id,
        "appliedAmount": format_money_text(payment.cents),
        "appliedOn": ticks.format_iso(moment),
        "appliedBy": invoice.clerk.name,
        "appliedToReferenceNumber": invoice.number,
    }
    return {
        "customer": refer_to(invoice.location.customer),
        "businessUnit": refer_to(invoice.unit),
        "date": ticks.format_local_midnight(moment),
        "type": name_record(PAYMENT_TYPES, kind),
        "typeId": str(compute_id(compute_first_id(PAYMENT_TYPES), kind)),
        "total": format_money_text(payment.cents),
        "unappliedAmount": format_money_text(payment.cents if is_duplicate else 0),
        "appliedTo": [] if is_duplicate else [applied],
        "refundedPaymentId": None,
        "createdBy": invoice.clerk.name,
        "batch": render_batch("Payments", deposited) if is_deposited else None,
        "syncStatus": "Exported" if is_deposited else "Pending",
        "authCode": f"{payment.draw % 1_000_000:06}" if payment.is_card else None,
        "checkNumber": str(1000 + payment.draw % 9000) if kind == 1 else None,
        "referenceNumber": str(payment.id),
        "memo": None,
        "generalLedgerAccount": refer_to_account(payment.account),
        "deposit": _refer_to_deposit(payment) if is_deposited else None,
    }


def _refer_to_deposit(payment: Payment) -> Fields:
    day = payment.deposit_day
    return {"id": compute_deposit_id(day), "name": name_deposit(day)}


def name_deposit(day: int) -> str:
    """Return the name of the deposit of a local day (days since 1970)."""
    return f"Deposit {ticks.format_midnight(day * ticks.DAY)[:10]}"


def render_tax_code(invoice: Invoice) -> Fields | None:
    """Render the tax that an invoice's parts are sold with; None if the customer is exempt."""
    if not invoice.tax_permille:
        return None
    return {
        "id": compute_id(compute_first_id(TAX_ZONES), 0),
        "name": name_record(TAX_ZONES, 0),
        "taxRate": msgspec.Raw(f"0.{invoice.tax_permille:03}".encode()),
    }


def _render_estimate(estimate: Estimate, context: RenderContext) -> Fields:
    job, sold = estimate.job, context.has_passed(estimate.sold)
    dismissed = context.has_passed(estimate.dismissed)
    total = sum(line.cents for line in estimate.lines)
    created = ticks.format_iso(estimate.moments[0])
    stamps = {"createdOn": created, "modifiedOn": created}
    return {
        "jobId": job.id,
        "locationId": job.location.id,
        "customerId": job.location.customer.id,
        "jobNumber": job.number,
        "projectId": find_project(job),
        "name": _name_estimate(estimate),
        "status": ESTIMATE_STATUSES["Sold" if sold else "Dismissed" if dismissed else "Open"],
        "soldOn": ticks.format_iso(estimate.sold) if sold else None,
        "soldBy": job.technician.id if sold else None,
        "businessUnitId": job.unit.id,
        "businessUnitName": job.unit.name,
        "isRecommended": estimate.option == 1,
        "isChangeOrder": estimate.is_change_order,
        "subtotal": format_money(total),
        "tax": format_money(0),
        **_render_estimate_deposit(estimate, total),
        "items": [
            context.render_part(
                "items", line.draw, {**stamps, "id": line.id, **_render_estimate_line(line)}
            )
            for line in estimate.lines
        ],
    }


def _name_estimate(estimate: Estimate) -> str:
    if estimate.is_change_order:
        return "Change order"
    return ("Good", "Better", "Best", "Premium")[estimate.option]


def _render_estimate_line(line: Line) -> Fields:
    sku = {
        "id": line.sku.id,
        "name": line.sku.code,
        "displayName": line.sku.name,
        "type": line.sku.kind,
        "soldHours": format_money(line.minutes * 100 // 60),
    }
    return {
        "sku": sku,
        "qty": format_money(100 * line.quantity, 4),
        "unitRate": format_money(line.sku.cents),
        "total": format_money(line.cents),
        "unitCost": format_money(line.sku.cents // 3),
        "totalCost": format_money(line.cents // 3),
    }


def _render_estimate_deposit(estimate: Estimate, total: int) -> Fields:
    """Render what the customer pays when signing, of `total` cents: nothing, or a share."""
    percent = DEPOSIT_PERCENTS[estimate.draw % len(DEPOSIT_PERCENTS)]
    return {
        "depositPercent": format_money(percent * 100) if percent else None,
        "depositAmount": format_money(total * percent // 100) if percent else None,
        "requireDepositOnSignature": percent > 0,
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
    "accounting.payments": Story(entities=lambda company: company.payments, fields=render_payment),
    "salestech.estimates": Story(
        entities=lambda company: company.estimates, fields=_render_estimate
    ),
    "salestech.estimates_items": Story(
        entities=_list_estimate_lines,
        fields=lambda entity, context: _render_estimate_line(entity.line),
    ),
}
