"""Invoices, payments, memberships and the general ledger agree with each other."""

from __future__ import annotations

from collections import Counter, defaultdict
from decimal import Decimal
from typing import Any

import pytest

from st_pipelines.sandbox.planning.profile import choose_profile
from st_pipelines.sandbox.world import World
from st_pipelines_tests.sandbox.conftest import NOW

Record = dict[str, Any]


@pytest.fixture(scope="module", params=(7, 9))
def world(request: pytest.FixtureRequest) -> World:
    return World(seed=request.param, customers=400, now=NOW)


def by_id(world: World, table: str) -> dict[int, Record]:
    return {record["id"]: record for record in world.records(table, exact=True)}


def test_an_invoice_is_the_sum_of_its_items_and_the_tax_on_its_parts(world: World) -> None:
    rate = Decimal(choose_profile(world.seed).tax_permille) / 1000
    exempt = {row["id"] for row in world.records("crm.customers") if row["taxExempt"]}

    for invoice in world.records("accounting.invoices"):
        items = sum(Decimal(item["total"]) for item in invoice["items"])
        taxed = sum(Decimal(item["total"]) for item in invoice["items"] if item["taxable"])
        assert Decimal(invoice["subTotal"]) == items
        is_taxed = invoice["job"] and invoice["customer"]["id"] not in exempt
        tax = taxed * rate if is_taxed else Decimal(0)
        assert abs(Decimal(invoice["salesTax"]) - tax) <= Decimal("0.005")
        assert Decimal(invoice["total"]) == items + Decimal(invoice["salesTax"])
        for item in invoice["items"]:
            assert Decimal(item["total"]) == Decimal(item["price"]) * Decimal(item["quantity"])


def test_the_balance_of_an_invoice_is_what_its_payments_and_credits_leave(world: World) -> None:
    paid: dict[int, Decimal] = defaultdict(Decimal)
    for memo in world.records("accounting.credit_memos", exact=True):
        for applied in memo["appliedTo"]:
            paid[applied["appliedTo"]] += applied["appliedAmount"]
    for payment in world.records("accounting.payments"):
        applied_sum = sum(Decimal(applied["appliedAmount"]) for applied in payment["appliedTo"])
        assert Decimal(payment["total"]) == applied_sum + Decimal(payment["unappliedAmount"])
        assert bool(payment["appliedTo"]) == payment["active"]
        for applied in payment["appliedTo"]:
            paid[applied["appliedTo"]] += Decimal(applied["appliedAmount"])
    invoices = by_id(world, "accounting.invoices")

    assert set(paid) <= set(invoices)
    for key, invoice in invoices.items():
        assert Decimal(invoice["balance"]) == Decimal(invoice["total"]) - paid[key]
        if invoice["paidOn"]:
            assert Decimal(invoice["balance"]) == 0
    open_amount = sum(Decimal(invoice["balance"]) for invoice in invoices.values())
    assert 0 < open_amount < sum(Decimal(invoice["total"]) for invoice in invoices.values()) / 4


def test_an_export_of_items_serves_the_items_of_the_invoices(world: World) -> None:
    exported = {item["id"]: item for item in world.records("accounting.invoice_items")}
    inside = {
        item["id"]: (invoice["id"], item)
        for invoice in world.records("accounting.invoices")
        for item in invoice["items"]
    }

    assert exported.keys() == inside.keys()
    for key, (invoice_id, item) in inside.items():
        assert exported[key]["invoiceId"] == invoice_id
        for name in ("total", "skuId", "generalLedgerAccount", "businessUnit", "type"):
            assert exported[key][name] == item[name]


def test_there_are_invoices_without_a_job_and_adjustments(world: World) -> None:
    """Completed, non-job and adjustment revenue, as the dashboards separate them."""
    invoices = by_id(world, "accounting.invoices")
    memberships = by_id(world, "memberships.memberships")
    kinds = Counter(
        "adjustment" if i["adjustmentToId"] else "job" if i["job"] else "membership"
        for i in invoices.values()
    )

    assert min(kinds[name] for name in ("adjustment", "job", "membership")) > 2
    for invoice in invoices.values():
        is_membership = invoice["invoiceConfiguration"] == "MembershipInvoice"
        assert is_membership == (invoice["job"] is None)
        assert not is_membership or invoice["membershipId"] in memberships
        if invoice["adjustmentToId"]:
            adjusted = invoices[invoice["adjustmentToId"]]
            assert adjusted["job"] == invoice["job"]
            assert Decimal(invoice["total"]) < 0


def test_items_are_booked_to_accounts_and_some_to_another_unit(world: World) -> None:
    accounts = by_id(world, "accounting.gl_accounts")
    types = {row["name"] for row in world.records("accounting.gl_accounts_types")}
    units = by_id(world, "settings.business_units")
    invoices = world.records("accounting.invoices")
    items = [(invoice, item) for invoice in invoices for item in invoice["items"]]

    for _, item in items:
        account = item["generalLedgerAccount"]
        assert accounts[account["id"]]["type"] == account["type"]
        assert account["type"] in types
        assert item["businessUnit"]["id"] in units
    assert {item["generalLedgerAccount"]["type"] for _, item in items} == {"Income", "Liability"}
    elsewhere = [i for i, item in items if item["businessUnit"] != i["businessUnit"]]
    assert 0 < len(elsewhere) < len(items) / 10


def test_memberships_are_billed_and_end_as_their_status_says(world: World) -> None:
    memberships = by_id(world, "memberships.memberships")
    types = by_id(world, "memberships.membership_types")
    templates = by_id(world, "memberships.invoice_templates")
    bills = Counter(i["membershipId"] for i in world.records("accounting.invoices"))

    assert {m["status"] for m in memberships.values()} >= {"Active", "Expired", "Canceled"}
    for key, membership in memberships.items():
        kind = types[membership["membershipTypeId"]]
        [price] = kind["durationBilling"]
        assert price["billingFrequency"] == membership["billingFrequency"]
        assert templates[membership["billingTemplateId"]]["total"] == price["billingPrice"]
        assert (membership["to"] is None) == (membership["billingFrequency"] == "OneTime")
        assert (membership["status"] == "Canceled") == bool(membership["cancellationDate"])
        if membership["status"] == "Expired":
            assert membership["to"] <= "2026-03-10T00:00:00Z"
        elif membership["status"] == "Active" and membership["to"]:
            assert membership["to"] >= "2026-03-10T00:00:00Z"
        if membership["renewedById"]:
            renewal = memberships[membership["renewedById"]]
            assert membership["status"] == "Expired"
            assert renewal["from"] == membership["to"]
            assert renewal["locationId"] == membership["locationId"]
        assert bills[key] <= (12 if membership["billingFrequency"] == "Monthly" else 1)
    assert sum(bills.values()) > 0


def test_status_changes_lead_to_the_status_of_the_membership(world: World) -> None:
    memberships = by_id(world, "memberships.memberships")
    last: dict[int, Record] = {}
    for change in world.records("memberships.membership_status_changes"):
        earlier = last.get(change["membershipId"])
        if earlier is None or earlier["createdOn"] < change["createdOn"]:
            last[change["membershipId"]] = change

    assert last.keys() <= memberships.keys()
    for key, membership in memberships.items():
        assert membership["status"] == (last[key]["newStatus"] if key in last else "Active")


def test_visits_of_members_become_jobs(world: World) -> None:
    services = by_id(world, "memberships.recurring_services")
    jobs = by_id(world, "jpm.jobs")
    events = world.records("memberships.recurring_service_events")

    assert {event["status"] for event in events} == {"Won", "Dismissed", "NotAttempted"}
    for event in events:
        assert (event["status"] == "Won") == (event["jobId"] is not None)
        service = services[event["locationRecurringServiceId"]]
        assert service["membershipId"] == event["membershipId"]
        if event["jobId"]:
            assert jobs[event["jobId"]]["locationId"] == service["locationId"]
            assert jobs[event["jobId"]]["membershipId"] == event["membershipId"]
