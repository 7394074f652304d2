"""Churn changes records while they are read, in every way, as the seed decides."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import pytest

from st_pipelines.catalog.registry import load_catalog
from st_pipelines.sandbox.churn import Churn
from st_pipelines.sandbox.collections import load_collections
from st_pipelines.sandbox.world import World
from st_pipelines_tests.sandbox.conftest import NOW


def build_world() -> World:
    return World(customers=30, history_days=60, now=NOW)


def churn_world(table: str, seed: int, times: int = 60) -> World:
    world, churn = build_world(), Churn(1, seed)
    for _ in range(times):
        churn.perturb(world, load_collections()[table])
    return world


TABLES = (
    "crm.customers",
    "crm.contacts",
    "accounting.credit_memos_credit_memo_items",
    "jpm.job_history",
    "customer_interactions.technician_ratings",
    "payroll.payroll_settings",
    "telecom.calls",
    "marketing_reputation.reviews",
    "marketing_ads.attributed_leads",
    "payroll.locations_rates",
    "jpm.job_notes",
    "accounting.invoices",
)


@pytest.mark.parametrize("table", TABLES)
def test_churn_never_duplicates_a_key_in_any_kind_of_table(table):
    endpoint = load_catalog()[table]
    records = churn_world(table, seed=1, times=8).records(table)
    if endpoint.key and not endpoint.explode:
        keys = Counter(tuple(record.get(name) for name in endpoint.key) for record in records)
        assert max(keys.values()) == 1
    elif not endpoint.key:
        assert max(Counter(map(str, records)).values()) == 1


def test_churn_creates_changes_ties_deactivates_and_deletes_records():
    before = {record["id"]: record for record in build_world().records("crm.customers")}
    world = churn_world("crm.customers", seed=3)
    after = {record["id"]: record for record in world.records("crm.customers")}
    assert set(after) - set(before), "created"
    assert set(before) - set(after), "deleted"
    changed = [key for key in set(before) & set(after) if before[key] != after[key]]
    assert any(after[key]["modifiedOn"] > before[key]["modifiedOn"] for key in changed)
    assert any(not after[key]["active"] and before[key]["active"] for key in changed)
    assert max(Counter(record["modifiedOn"] for record in after.values()).values()) > 1, "tied"
    assert world.now - NOW > timedelta(seconds=60)


def test_churn_revives_deleted_records():
    world, churn = build_world(), Churn(1, 5)
    collection = load_collections()["crm.customers"]
    deleted: set[int] = set()
    for _ in range(60):
        present = {record["id"] for record in world.records("crm.customers")}
        churn.perturb(world, collection)
        now = {record["id"] for record in world.records("crm.customers")}
        deleted |= present - now
        if deleted & now:
            return
    pytest.fail("no record was revived")


def test_the_same_seed_changes_the_same_records():
    assert churn_world("jpm.jobs", 1).raw("jpm.jobs") == churn_world("jpm.jobs", 1).raw("jpm.jobs")
    assert churn_world("jpm.jobs", 1).raw("jpm.jobs") != churn_world("jpm.jobs", 2).raw("jpm.jobs")


def test_records_change_between_two_pages_of_a_list(client):
    client.sandbox.set_churn(1, seed=1)
    totals = [
        page["totalCount"]
        for page in client.read_pages("crm.customers", includeTotal="true", pageSize=5)
    ]
    assert len(set(totals)) > 1


def test_without_churn_nothing_changes(client):
    before = client.sandbox.world.raw("crm.customers")
    list(client.read_pages("crm.customers", pageSize=5))
    assert client.sandbox.world.raw("crm.customers") == before
    assert client.sandbox.world.now == NOW
