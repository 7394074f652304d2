"""Renders vendors, stock places, purchase orders, receipts, bills and vendor payments."""

from __future__ import annotations

import msgspec

from st_pipelines.sandbox import ticks
from st_pipelines.sandbox.company import Company
from st_pipelines.sandbox.entities import Named
from st_pipelines.sandbox.ids import compute_user_id
from st_pipelines.sandbox.purchase_entities import (
    Bill,
    PurchaseLine,
    PurchaseOrder,
    Receipt,
    Truck,
    VendorPayment,
)
from st_pipelines.sandbox.scalars import format_money, format_money_text
from st_pipelines.sandbox.stories.ledger import refer_to_account, render_batch
from st_pipelines.sandbox.stories.projects import find_project
from st_pipelines.sandbox.stories.story import Fields, RenderContext, Story, refer_to


def _render_name(named: Named, context: RenderContext) -> Fields:
    return {"name": named.name}


def _render_truck(truck: Truck, context: RenderContext) -> Fields:
    return {
        "name": truck.name,
        "warehouseId": truck.warehouse.id,
        "technicianIds": [truck.technician.id],
    }


def _find_order_status(order: PurchaseOrder, context: RenderContext) -> str:
    if context.has_passed(order.canceled):
        return "Canceled"
    if context.has_passed(order.received):
        return "Received"
    return "Sent" if context.has_passed(order.sent) else "Pending"


def _render_order(order: PurchaseOrder, context: RenderContext) -> Fields:
    status, job = _find_order_status(order, context), order.job
    is_received = status == "Received"
    created = ticks.format_iso(order.moments[0])
    return {
        "number": order.number,
        "invoiceId": job.invoice_id if job else None,
        "jobId": job.id if job else None,
        "projectId": find_project(job),
        "status": status,
        "typeId": order.type.id,
        "vendorId": order.vendor.id,
        "technicianId": job.technician.id if job else None,
        "businessUnitId": order.unit.id,
        "inventoryLocationId": order.place.id,
        "date": ticks.format_local_midnight(order.moments[0]),
        "requiredOn": ticks.format_iso(order.received or order.canceled),
        "sentOn": ticks.format_iso(order.sent) if context.has_passed(order.sent) else None,
        "receivedOn": ticks.format_iso(order.received) if is_received else None,
        "total": format_money(order.total, 10),
        "tax": format_money(0, 10),
        "shipping": format_money(0, 10),
        "createdById": compute_user_id(order.buyer.id),
        "items": [
            context.render_part(
                "items",
                line.draw,
                {
                    **_render_order_line(line, is_received=is_received),
                    "createdOn": created,
                    "modifiedOn": created,
                },
            )
            for line in order.lines
        ],
    }


def _render_order_line(line: PurchaseLine, *, is_received: bool) -> Fields:
    return {
        "id": line.id,
        "skuId": line.sku.id,
        "skuName": line.sku.name,
        "skuCode": line.sku.code,
        "skuType": line.sku.kind,
        "quantity": format_money(100 * line.quantity, 19),
        "quantityReceived": format_money(100 * line.quantity if is_received else 0, 19),
        "cost": render_cost(line),
        "total": format_money(line.cents, 10),
        "status": "Received" if is_received else "Pending",
    }


def render_cost(line: PurchaseLine) -> msgspec.Raw:
    """Render the cost of one piece, with ten decimals at least."""
    whole, _, decimals = line.cost.partition(".")
    return msgspec.Raw(f"{whole}.{decimals:0<10}".encode())


def _render_receipt(receipt: Receipt, context: RenderContext) -> Fields:
    order, job = receipt.order, receipt.order.job
    return {
        "number": f"R{order.number}",
        "purchaseOrderId": order.id,
        "billId": receipt.bill_id if context.has_passed(receipt.billed) else None,
        "jobId": job.id if job else None,
        "businessUnitId": order.unit.id,
        "vendorId": order.vendor.id,
        "technicianId": job.technician.id if job else None,
        "inventoryLocationId": order.place.id,
        "receiptAmount": format_money(order.total, 10),
        "taxAmount": format_money(0, 10),
        "shippingAmount": format_money(0, 10),
        "receivedOn": ticks.format_iso(order.received),
        "createdById": compute_user_id(order.buyer.id),
        "syncStatus": "Pending",
        "items": [
            context.render_part("items", line.draw, _render_receipt_line(line))
            for line in order.lines
        ],
    }


def _render_receipt_line(line: PurchaseLine) -> Fields:
    return {
        "id": line.id + 1,
        "skuId": line.sku.id,
        "name": line.sku.name,
        "code": line.sku.code,
        "quantity": format_money(100 * line.quantity, 19),
        "cost": render_cost(line),
        "purchaseOrderItemId": line.id,
    }


def _render_inventory_bill(bill: Bill, context: RenderContext) -> Fields:
    order, created = bill.order, bill.moments[0]
    job = order.job if order else None
    is_reconciled = context.has_passed(bill.reconciled)
    return {
        "purchaseOrderId": order.id if order else None,
        "syncStatus": "Exported" if context.has_passed(bill.paid) else "Pending",
        "referenceNumber": f"B{bill.id}",
        "billDate": ticks.format_local_midnight(created),
        "dueDate": ticks.format_local_midnight(created + 30 * ticks.DAY),
        "postDate": ticks.format_local_midnight(created),
        "billAmount": format_money_text(bill.total),
        "taxAmount": format_money_text(0),
        "shippingAmount": format_money_text(0),
        "otherAmount": format_money_text(0),
        "createdBy": bill.clerk.name,
        "termName": None,
        "batch": render_batch("Bills", bill.reconciled) if is_reconciled else None,
        "businessUnit": refer_to(bill.unit),
        "vendor": refer_to(bill.vendor),
        "jobId": job.id if job else None,
        "jobNumber": job.number if job else None,
        "dateReconciled": ticks.format_iso(bill.reconciled) if is_reconciled else None,
        "items": [
            context.render_part("items", line.draw, _render_bill_line(line, number))
            for number, line in enumerate(order.lines if order else (), start=1)
        ],
    }


def _render_bill_line(line: PurchaseLine, number: int) -> Fields:
    return {
        "id": line.id + 2,
        "order": number,
        "name": line.sku.name,
        "quantity": f"{line.quantity}.0000000000",
        "cost": line.cost,
        "allocatedTax": format_money_text(0),
        "allocatedShipping": format_money_text(0),
        "allocatedOtherCosts": format_money_text(0),
        "fullyLandedUnitCost": line.cost,
        "skuId": line.sku.id,
        "skuType": line.sku.kind,
        "skuCode": line.sku.code,
        "receiptItemId": line.id + 1,
    }


def _render_bill(bill: Bill, context: RenderContext) -> Fields:
    is_reconciled = context.has_passed(bill.reconciled)
    surcharge = 0 if is_reconciled else bill.surcharge
    open_status = "Discrepancy" if surcharge else "Unreconciled"
    return {
        **_render_inventory_bill(bill, context),
        "status": "Reconciled" if is_reconciled else open_status,
        "billType": bill.kind,
        "vendorInvoiceTotal": format_money_text(bill.total + surcharge),
        "doNotPay": False,
        "dateCanceled": None,
        "canceledBy": None,
        "expenseItems": [
            context.render_part("expenseItems", bill.draw, _render_expense(bill))
            for _ in range(bill.account is not None)
        ],
    }


def _render_expense(bill: Bill) -> Fields:
    return {
        "id": bill.id + 1,
        "amount": format_money_text(bill.expense),
        "description": bill.memo,
        "generalLedgerAccount": bill.account and refer_to_account(bill.account),
        "job": None,
        "businessUnit": refer_to(bill.unit),
    }


def _render_payment(payment: VendorPayment, context: RenderContext) -> Fields:
    bill, created = payment.bill, ticks.format_iso(payment.moments[0])
    amount = format_money(bill.total)
    return {
        "date": ticks.format_local_midnight(payment.moments[0]),
        "approvedDate": None,
        "method": "ServiceTitan",
        "name": f"Check to {bill.vendor.name}",
        "amount": amount,
        "errorMessage": None,
        "status": "Paid",
        "syncStatus": "Exported",
        "batch": None,
        "businessUnit": refer_to(bill.unit),
        "vendor": refer_to(bill.vendor),
        "splits": [
            {
                "id": payment.id + 1,
                "active": True,
                "createdOn": created,
                "documentId": bill.id,
                "inventoryBillId": bill.id if bill.order else None,
                "amount": amount,
            }
        ],
    }


def _list_inventory_bills(company: Company) -> list[Bill]:
    return [bill for bill in company.bills if bill.order]


STORIES = {
    "inventory.vendors": Story(
        entities=lambda company: company.purchasing.vendors, fields=_render_name
    ),
    "inventory.purchase_order_types": Story(
        entities=lambda company: company.purchasing.types, fields=_render_name
    ),
    "inventory.warehouses": Story(
        entities=lambda company: company.purchasing.warehouses, fields=_render_name
    ),
    "inventory.trucks": Story(
        entities=lambda company: company.purchasing.trucks, fields=_render_truck
    ),
    "inventory.purchase_orders": Story(
        entities=lambda company: company.purchase_orders, fields=_render_order
    ),
    "inventory.receipts": Story(entities=lambda company: company.receipts, fields=_render_receipt),
    "accounting.inventory_bills": Story(
        entities=_list_inventory_bills, fields=_render_inventory_bill
    ),
    "accounting.ap_bills": Story(entities=lambda company: company.bills, fields=_render_bill),
    "accounting.ap_payments": Story(
        entities=lambda company: company.vendor_payments, fields=_render_payment
    ),
}
