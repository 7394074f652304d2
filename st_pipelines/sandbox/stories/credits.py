"""Renders credit memos and their items."""

from __future__ import annotations

from st_pipelines.sandbox import ticks
from st_pipelines.sandbox.billing_entities import TAXED, CreditMemo
from st_pipelines.sandbox.company import Company
from st_pipelines.sandbox.entities import Entity, Line
from st_pipelines.sandbox.scalars import format_money
from st_pipelines.sandbox.stories.billing import render_tax_code
from st_pipelines.sandbox.stories.customers import render_address, render_billing_address
from st_pipelines.sandbox.stories.ledger import refer_to_account, render_batch
from st_pipelines.sandbox.stories.story import Fields, RenderContext, Story, refer_to


class CreditLine(Entity, frozen=True, kw_only=True, gc=False):
    """A line of a credit memo."""

    memo: CreditMemo
    line: Line


def _render_memo(memo: CreditMemo, context: RenderContext) -> Fields:
    invoice, (created, exported) = memo.invoice, memo.moments
    is_exported = context.has_passed(exported)
    location = invoice.location
    customer = location.customer
    day = ticks.format_date(created)
    applied = {
        "appliedId": memo.id + 1,
        "appliedTo": invoice.id,
        "appliedAmount": format_money(memo.total),
        "appliedOn": day,
        "appliedBy": memo.clerk.name,
        "appliedToReferenceNumber": invoice.number,
    }
    return {
        "date": day,
        "referenceNumber": f"C{memo.id}",
        "subTotal": format_money(memo.subtotal),
        "salesTax": format_money(memo.tax),
        "salesTaxCode": render_tax_code(invoice),
        "total": format_money(memo.total),
        "balance": format_money(0 if memo.is_applied else memo.total),
        "appliedTo": [applied] if memo.is_applied else [],
        "customer": refer_to(customer),
        "customerAddress": render_billing_address(customer),
        "location": {"id": location.id, "name": customer.name},
        "locationAddress": render_address(customer, location.street, location.draw),
        "businessUnit": refer_to(invoice.unit),
        "syncStatus": "Exported" if is_exported else "Pending",
        "batch": render_batch("Credit memos", exported) if is_exported else None,
        "createdBy": memo.clerk.name,
        "modifiedBy": memo.clerk.name,
        "description": f"Credit for invoice {invoice.number}",
        "importId": None,
        "exportId": None,
    }


def _list_lines(company: Company) -> list[CreditLine]:
    return [
        CreditLine(id=line.id, moments=memo.moments[:1], draw=line.draw, memo=memo, line=line)
        for memo in company.credit_memos
        for line in memo.lines
    ]


def _render_line(item: CreditLine, context: RenderContext) -> Fields:
    memo, line = item.memo, item.line
    return {
        "description": line.sku.name,
        "quantity": format_money(100 * line.quantity),
        "cost": format_money(line.sku.cents // 3),
        "price": format_money(line.sku.cents),
        "type": line.sku.kind,
        "skuName": line.sku.code,
        "skuId": line.sku.id,
        "total": format_money(line.cents),
        "taxable": line.sku.kind in TAXED,
        "revenueGeneralLedgerAccount": refer_to_account(line.account),
        "expensesGeneralLedgerAccount": None,
        "createdBy": memo.clerk.name,
        "businessUnit": refer_to(line.unit or memo.invoice.unit),
        "creditMemoId": memo.id,
    }


STORIES = {
    "accounting.credit_memos": Story(
        entities=lambda company: company.credit_memos, fields=_render_memo
    ),
    "accounting.credit_memos_credit_memo_items": Story(entities=_list_lines, fields=_render_line),
}
