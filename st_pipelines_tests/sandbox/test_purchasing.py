"""Purchase orders, receipts, bills and their payments agree with each other and with the jobs."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from typing import Any

import pytest

from st_pipelines.sandbox.world import World
from st_pipelines_tests.sandbox.conftest import NOW

Record = dict[str, Any]
TINY = Decimal("1e-12")
"""Three pieces of 33.3333333333333333 cost 100."""


@pytest.fixture(scope="module")
def world() -> World:
    return World(customers=300, now=NOW)


def by_id(world: World, table: str) -> dict[int, Record]:
    return {record["id"]: record for record in world.records(table, exact=True)}


def test_orders_add_up_and_refer_to_what_exists(world: World) -> None:
    vendors, types = (
        by_id(world, "inventory.vendors"),
        by_id(world, "inventory.purchase_order_types"),
    )
    places = {**by_id(world, "inventory.warehouses"), **by_id(world, "inventory.trucks")}
    skus = {**by_id(world, "pricebook.materials"), **by_id(world, "pricebook.equipment")}
    orders = world.records("inventory.purchase_orders", exact=True)

    assert {order["status"] for order in orders} >= {"Received", "Canceled"}
    assert {order["typeId"] for order in orders} <= types.keys()
    for order in orders:
        assert order["vendorId"] in vendors
        assert order["inventoryLocationId"] in places
        assert order["total"] == sum(item["total"] for item in order["items"])
        for item in order["items"]:
            assert abs(item["total"] - item["cost"] * item["quantity"]) < TINY
            assert item["skuId"] in skus
            received = item["quantity"] if order["status"] == "Received" else 0
            assert item["quantityReceived"] == received


def test_orders_for_jobs_are_for_parts_on_their_invoices(world: World) -> None:
    invoices = by_id(world, "accounting.invoices")
    orders = [o for o in world.records("inventory.purchase_orders") if o["jobId"]]

    assert orders
    for order in orders:
        invoice = invoices[order["invoiceId"]]
        assert invoice["job"]["id"] == order["jobId"]
        sold = {item["skuId"] for item in invoice["items"]}
        assert not sold or {item["skuId"] for item in order["items"]} <= sold


def test_receipts_bills_and_vendor_payments_carry_the_amount_of_the_order(world: World) -> None:
    orders = by_id(world, "inventory.purchase_orders")
    bills = by_id(world, "accounting.inventory_bills")
    receipts = world.records("inventory.receipts", exact=True)
    item_ids = {item["id"] for receipt in receipts for item in receipt["items"]}

    assert {r["purchaseOrderId"] for r in receipts} == {
        key for key, order in orders.items() if order["status"] == "Received"
    }
    for receipt in receipts:
        assert receipt["receiptAmount"] == orders[receipt["purchaseOrderId"]]["total"]
        assert receipt["billId"] is None or receipt["billId"] in bills
    for bill in bills.values():
        assert Decimal(bill["billAmount"]) == orders[bill["purchaseOrderId"]]["total"]
        assert {item["receiptItemId"] for item in bill["items"]} <= item_ids
        items = sum(Decimal(i["cost"]) * Decimal(i["quantity"]) for i in bill["items"])
        assert abs(Decimal(bill["billAmount"]) - items) < TINY


def test_vendors_are_paid_what_they_billed(world: World) -> None:
    bills = by_id(world, "accounting.ap_bills")
    paid: dict[int, Decimal] = defaultdict(Decimal)
    for payment in world.records("accounting.ap_payments", exact=True):
        assert payment["amount"] == sum(split["amount"] for split in payment["splits"])
        for split in payment["splits"]:
            paid[split["documentId"]] += split["amount"]

    assert {bill["billType"] for bill in bills.values()} == {"Procurement", "ApBill", "NotSet"}
    for key, amount in paid.items():
        assert amount == Decimal(bills[key]["billAmount"])
        assert bills[key]["status"] == "Reconciled"
    for bill in bills.values():
        items = sum(Decimal(i["cost"]) * Decimal(i["quantity"]) for i in bill["items"])
        expenses = sum(Decimal(item["amount"]) for item in bill["expenseItems"])
        assert abs(Decimal(bill["billAmount"]) - items - expenses) < TINY
    assert 0 < len(paid) < len(bills)


def test_returns_are_parts_of_receipts_at_their_cost(world: World) -> None:
    receipts = {r["purchaseOrderId"]: r for r in world.records("inventory.receipts", exact=True)}
    orders = by_id(world, "inventory.purchase_orders")
    types = by_id(world, "inventory.return_types")
    returns = world.records("inventory.returns", exact=True)

    assert {part["status"] for part in returns} >= {"CreditReceived", "Canceled"}
    for part in returns:
        receipt, order = receipts[part["purchaseOrderId"]], orders[part["purchaseOrderId"]]
        for name in ("vendorId", "jobId", "businessUnitId", "inventoryLocationId"):
            assert part[name] == order[name]
        assert part["returnTypeId"] in types
        assert receipt["receivedOn"] < part["createdOn"] <= part["modifiedOn"]
        [item] = part["items"]
        [received] = [i for i in receipt["items"] if i["id"] == item["receiptItemId"]]
        assert item["skuId"] == received["skuId"]
        assert 1 <= item["quantity"] <= received["quantity"]
        amount = item["cost"] * item["quantity"]
        assert abs(amount - part["returnAmount"]) < Decimal("0.01")
        assert (part["status"] == "CreditReceived") == (part["batch"] is not None)
        assert (part["dateCanceled"] is None) == (part["status"] != "Canceled")
