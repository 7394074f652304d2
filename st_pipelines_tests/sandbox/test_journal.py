"""Journal entries balance, and agree with the invoices, payments and bills of their day."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
import requests

from st_pipelines.sandbox.planning.journal import Journal
from st_pipelines.sandbox.world import World
from st_pipelines_tests.sandbox.client import Client

Record = dict[str, Any]
ENTRIES = "/accounting/v2/tenant/{tenant}/journal-entries"


def read_lines(client: Client, entry: str, part: str) -> list[Record]:
    """Reads all pages of the details or the summary of an entry, with exact decimals."""
    rows: list[Record] = []
    page = 0
    while True:
        page += 1
        response = request_lines(client, entry, part, page=page, pageSize=40)
        assert response.status_code == 200, response.text
        body = response.json(parse_float=Decimal)
        rows += body["data"]
        if not body["hasMore"]:
            return rows


def request_lines(client: Client, entry: str, part: str, **query: Any) -> requests.Response:
    return client.get(f"{ENTRIES}/{entry}/{part}", **query)


@pytest.fixture(scope="module")
def details(shared: Client) -> dict[str, list[Record]]:
    """The lines of the latest entries, by day."""
    entries = shared.sandbox.world.records("accounting.journal_entries")[-40:]
    found = {e["postDate"]: read_lines(shared, e["id"], "details") for e in entries}
    assert [not found[e["postDate"]] for e in entries] == [e["isEmpty"] for e in entries]
    return found


def all_lines(details: dict[str, list[Record]]) -> Iterator[Record]:
    return (line for lines in details.values() for line in lines)


def test_the_lines_of_every_entry_balance(details: dict[str, list[Record]]) -> None:
    assert len(details) == 40
    for lines in details.values():
        assert sum(line["debit"] - line["credit"] for line in lines) == 0
        assert all(min(line["debit"], line["credit"]) == 0 for line in lines)
        assert all(line["debit"] + line["credit"] > 0 for line in lines)


def test_the_summary_has_the_totals_of_the_lines(
    shared: Client, details: dict[str, list[Record]]
) -> None:
    for entry in shared.sandbox.world.records("accounting.journal_entries")[-5:]:
        totals: dict[tuple[int, int], Decimal] = defaultdict(Decimal)
        for line in details[entry["postDate"]]:
            key = (line["account"]["id"], line["businessUnit"]["id"])
            totals[key] += line["debit"] - line["credit"]
        summary = {
            (row["account"]["id"], row["businessUnit"]["id"]): row["debit"] - row["credit"]
            for row in read_lines(shared, entry["id"], "summary")
        }
        assert summary == totals


def sum_postings(details: dict[str, list[Record]], kind: str, account: str) -> dict[int, Decimal]:
    """Adds up the debits of an account by transaction of a type."""
    sums: dict[int, Decimal] = defaultdict(Decimal)
    for line in all_lines(details):
        if line["transaction"]["type"] == kind and line["account"]["number"] == account:
            sums[line["transaction"]["id"]] += line["debit"] - line["credit"]
    return sums


def in_days(records: list[Record], field: str, details: dict[str, list[Record]]) -> list[Record]:
    return [r for r in records if r[field] and r[field].removesuffix("Z") in details]


def test_the_entries_agree_with_invoices_payments_and_bills(
    shared: Client, details: dict[str, list[Record]]
) -> None:
    world = shared.sandbox.world
    invoices = {
        i["id"]: Decimal(i["total"])
        for i in in_days(world.records("accounting.invoices"), "invoiceDate", details)
        if i["items"] and Decimal(i["total"])
    }
    payments = {
        p["id"]: Decimal(p["total"])
        for p in in_days(world.records("accounting.payments"), "date", details)
        if p["active"]
    }
    bills = {
        b["id"]: -Decimal(b["billAmount"])
        for b in in_days(world.records("accounting.ap_bills"), "billDate", details)
    }

    assert invoices
    assert sum_postings(details, "Invoice", "1100") == invoices
    assert sum_postings(details, "Payment", "1050") == payments
    assert sum_postings(details, "Bill", "2000") == bills


def test_income_in_the_entries_is_that_of_the_invoice_items(
    shared: Client, details: dict[str, list[Record]]
) -> None:
    booked: dict[int, Decimal] = defaultdict(Decimal)
    for line in all_lines(details):
        if line["account"]["type"] == "Income":
            booked[line["businessUnit"]["id"]] += line["credit"] - line["debit"]
    earned: dict[int, Decimal] = defaultdict(Decimal)
    invoices = shared.sandbox.world.records("accounting.invoices")
    for invoice in in_days(invoices, "invoiceDate", details):
        for item in invoice["items"]:
            if item["generalLedgerAccount"]["type"] == "Income":
                earned[item["businessUnit"]["id"]] += Decimal(item["total"])

    assert booked == earned


def test_an_unknown_entry_and_a_wrong_page_are_refused(shared: Client) -> None:
    [entry, *_] = shared.sandbox.world.records("accounting.journal_entries")
    unknown = "00000000-0000-0000-0000-000000000000"

    assert request_lines(shared, unknown, "details").status_code == 404
    assert request_lines(shared, entry["id"], "details", pageSize=501).status_code == 400


def test_an_entry_that_a_test_created_has_no_lines(client: Client) -> None:
    entry = client.sandbox.world.create("accounting.journal_entries")

    assert read_lines(client, entry, "details") == []


def test_later_days_only_add_entries(client: Client) -> None:
    world: World = client.sandbox.world
    before = list(world.company.chapter(Journal).entries)
    world.set_now(world.now.replace(day=25))

    after = world.company.chapter(Journal).entries
    assert after[: len(before)] == before
    assert len(after) > len(before)
