"""Bank deposits and credit memos agree with the payments and invoices that they are about."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from st_pipelines_tests.sandbox.client import Client

Record = dict[str, Any]
DEPOSITS = "/accounting/v2/tenant/{tenant}/bank-deposits"
MEMOS = "/accounting/v2/tenant/{tenant}/credit-memos"


def read(client: Client, path: str, **query: Any) -> list[Record]:
    """Reads a page of 5,000 records with exact decimals."""
    response = client.get(path, pageSize=5000, **query)
    assert response.status_code == 200, response.text
    return response.json(parse_float=Decimal)["data"]


@pytest.fixture(scope="module")
def payments(shared: Client) -> list[Record]:
    return read(shared, "/accounting/v2/tenant/{tenant}/payments")


@pytest.fixture(scope="module")
def deposits(shared: Client) -> list[Record]:
    return read(shared, DEPOSITS)


def test_a_deposit_is_the_sum_of_the_payments_that_name_it(
    payments: list[Record], deposits: list[Record]
) -> None:
    totals: dict[int, Decimal] = defaultdict(Decimal)
    for payment in payments:
        if payment["deposit"]:
            totals[payment["deposit"]["id"]] += Decimal(payment["total"])

    assert len(deposits) > 20
    assert {deposit["id"]: deposit["grossAmount"] for deposit in deposits} == totals
    for deposit in deposits:
        assert deposit["netAmount"] == deposit["grossAmount"] - deposit["fees"]
        assert 0 <= deposit["fees"] < deposit["grossAmount"]


def test_the_transactions_of_a_deposit_are_its_payments(
    shared: Client, payments: list[Record], deposits: list[Record]
) -> None:
    for deposit in deposits[:10]:
        rows = read(shared, f"{DEPOSITS}/{deposit['id']}/transactions")

        expected = {p["id"]: p for p in payments if (p["deposit"] or {}).get("id") == deposit["id"]}
        assert expected
        assert {row["id"] for row in rows} == set(expected)
        for row in rows:
            payment = expected[row["id"]]
            for name in ("total", "type", "date", "customer", "createdOn", "modifiedOn", "deposit"):
                assert row[name] == payment[name]


def test_every_payment_is_deposited_on_the_next_weekday(
    shared: Client, payments: list[Record], deposits: list[Record]
) -> None:
    made = {deposit["id"]: deposit for deposit in deposits}
    open_since = (shared.sandbox.world.now - timedelta(days=4)).isoformat()
    for payment in payments:
        if payment["deposit"] is None:
            assert payment["createdOn"] > open_since
            continue
        deposit = made[payment["deposit"]["id"]]
        paid, day = (
            datetime.fromisoformat(text[:10]) for text in (payment["date"], deposit["depositDate"])
        )
        assert day.weekday() < 5
        assert timedelta(days=1) <= day - paid <= timedelta(days=3)
        assert payment["modifiedOn"] == deposit["createdOn"]


def test_a_credit_memo_is_the_sum_of_its_items(shared: Client) -> None:
    items = read(shared, f"{MEMOS}/credit-memo-items")
    memos = read(shared, MEMOS)

    assert memos
    for memo in memos:
        own = [item for item in items if item["creditMemoId"] == memo["id"]]
        assert own
        assert sum(item["total"] for item in own) == memo["subTotal"]
        assert all(item["price"] * item["quantity"] == item["total"] for item in own)
        assert memo["total"] == memo["subTotal"] + memo["salesTax"]
        assert {item["id"] for item in read(shared, f"{MEMOS}/{memo['id']}/items")} == {
            item["id"] for item in own
        }


def test_a_credit_memo_lowers_the_balance_of_the_invoice_that_it_names(shared: Client) -> None:
    invoices = {
        i["id"]: i
        for i in read(shared, "/accounting/v2/tenant/{tenant}/invoices", activeState="All")
    }
    applied = [memo for memo in read(shared, MEMOS) if memo["appliedTo"]]

    assert applied
    for memo in applied:
        [part] = memo["appliedTo"]
        invoice = invoices[part["appliedTo"]]
        assert part["appliedAmount"] == memo["total"]
        assert memo["balance"] == 0
        assert Decimal(invoice["balance"]) == Decimal(invoice["total"]) - memo["total"]
        assert memo["customer"] == invoice["customer"]
        assert memo["date"] >= invoice["invoiceDate"][:19]
        assert invoice["modifiedOn"] >= memo["createdOn"]
