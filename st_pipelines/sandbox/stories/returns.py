"""Renders returns to vendors."""

from __future__ import annotations

from st_pipelines.sandbox import ticks
from st_pipelines.sandbox.ids import compute_first_id, compute_id, compute_user_id
from st_pipelines.sandbox.planning.returns import Returns
from st_pipelines.sandbox.purchase_entities import PurchaseReturn
from st_pipelines.sandbox.scalars import format_money
from st_pipelines.sandbox.stories.ledger import render_batch
from st_pipelines.sandbox.stories.projects import find_project
from st_pipelines.sandbox.stories.purchasing import render_cost
from st_pipelines.sandbox.stories.story import Fields, RenderContext, Story


def _find_status(part: PurchaseReturn, context: RenderContext) -> str:
    if context.has_passed(part.canceled):
        return "Canceled"
    if context.has_passed(part.credited):
        return "CreditReceived"
    return "Returned" if context.has_passed(part.returned) else "Pending"


def _render_return(part: PurchaseReturn, context: RenderContext) -> Fields:
    order, created = part.receipt.order, part.moments[0]
    status, user = _find_status(part, context), compute_user_id(order.buyer.id)
    is_canceled, is_credited = status == "Canceled", status == "CreditReceived"
    returned = part.returned if context.has_passed(part.returned) else 0
    job = order.job
    batch = render_batch("Returns", part.credited) if is_credited else None
    return {
        "number": f"RT{order.number}",
        "referenceNumber": f"RMA{part.id}",
        "status": status,
        "returnTypeId": compute_id(compute_first_id("inventory.return_types"), part.draw % 4),
        "vendorId": order.vendor.id,
        "purchaseOrderId": order.id,
        "jobId": job.id if job else None,
        "projectId": find_project(job),
        "businessUnitId": order.unit.id,
        "inventoryLocationId": order.place.id,
        "createdById": user,
        "memo": ("Defective", "Not used", "Warranty", "Wrong part")[part.draw % 4],
        "returnAmount": format_money(part.total, 10),
        "taxAmount": format_money(0, 10),
        "shippingAmount": format_money(0, 10),
        "returnDate": ticks.format_local_midnight(created),
        "returnedOn": ticks.format_iso(returned) if returned else None,
        "creditReceivedOn": ticks.format_iso(part.credited) if is_credited else None,
        "batchId": batch and batch["id"],
        "batch": batch,
        "syncStatus": "Exported" if is_credited else "Pending",
        "canceledById": order.buyer.id if is_canceled else None,
        "canceledReason": "NotRequired" if is_canceled else None,
        "dateCanceled": ticks.format_iso(part.canceled) if is_canceled else None,
        "items": [context.render_part("items", part.draw, _render_item(part, user))],
    }


def _render_item(part: PurchaseReturn, user: int) -> Fields:
    line, created = part.line, ticks.format_iso(part.moments[0])
    return {
        "id": part.id + 1,
        "skuId": line.sku.id,
        "description": line.sku.name,
        "createdOn": created,
        "modifiedOn": created,
        "name": line.sku.name,
        "code": line.sku.code,
        "quantity": format_money(100 * part.quantity, 19),
        "cost": render_cost(line),
        "createdById": user,
        "active": True,
        "receiptItemId": line.id + 1,
    }


STORIES = {
    "inventory.returns": Story(
        entities=lambda company: company.chapter(Returns).returns, fields=_render_return
    ),
}
