"""Records move while they are read, in every way that there is, and by seed."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import pytest

from st_pipelines.catalog.registry import load_catalog
from st_pipelines.sandbox.churn import Churn
from st_pipelines.sandbox.world import World
from st_pipelines_tests.sandbox.conftest import NOW


def world() -> World:
    return World(catalog=load_catalog(), customers=30, history_days=60, now=NOW)


def stirred(table: str, seed: int, times: int = 60) -> World:
    moved, churn = world(), Churn(1, seed)
    for _ in range(times):
        churn.perturb(moved, load_catalog()[table])
    return moved


FORMS = (
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
    "marketing_ads.performance_by_keyword",
    "jpm.job_notes",
    "accounting.invoices",
)


@pytest.mark.parametrize("table", FORMS)
def test_every_form_of_table_can_be_stirred_without_two_records_of_one_key(table):
    endpoint = load_catalog()[table]
    records = stirred(table, seed=1, times=8).records(table)
    if endpoint.key and not endpoint.explode:
        keys = Counter(tuple(record.get(name) for name in endpoint.key) for record in records)
        assert max(keys.values()) == 1
    elif not endpoint.by_day:
        assert max(Counter(map(str, records)).values()) == 1


def test_records_are_created_changed_tied_deactivated_deleted_and_revived():
    before = {record["id"]: record for record in world().records("crm.customers")}
    moved = stirred("crm.customers", seed=3)
    after = {record["id"]: record for record in moved.records("crm.customers")}
    assert set(after) - set(before), "created"
    assert set(before) - set(after), "deleted"
    changed = [key for key in set(before) & set(after) if before[key] != after[key]]
    assert any(after[key]["modifiedOn"] > before[key]["modifiedOn"] for key in changed)
    assert any(not after[key]["active"] and before[key]["active"] for key in changed)
    assert max(Counter(record["modifiedOn"] for record in after.values()).values()) > 1, "tied"
    assert moved.now - NOW > timedelta(seconds=60)


def test_a_deleted_record_comes_back():
    moved, churn, endpoint = world(), Churn(1, 5), load_catalog()["crm.customers"]
    gone: set[int] = set()
    for _ in range(60):
        present = {record["id"] for record in moved.records("crm.customers")}
        churn.perturb(moved, endpoint)
        now = {record["id"] for record in moved.records("crm.customers")}
        gone |= present - now
        if gone & now:
            return
    pytest.fail("none was revived")


def test_the_same_seed_moves_the_same_records():
    assert stirred("jpm.jobs", 1).raw("jpm.jobs") == stirred("jpm.jobs", 1).raw("jpm.jobs")
    assert stirred("jpm.jobs", 1).raw("jpm.jobs") != stirred("jpm.jobs", 2).raw("jpm.jobs")


def test_records_move_between_two_pages_of_one_reading(client):
    client.sandbox.set_churn(1, seed=1)
    totals = [
        page["totalCount"]
        for page in client.pages("crm.customers", includeTotal="true", pageSize=5)
    ]
    assert len(set(totals)) > 1


def test_without_churn_nothing_moves(client):
    before = client.sandbox.world.raw("crm.customers")
    list(client.pages("crm.customers", pageSize=5))
    assert client.sandbox.world.raw("crm.customers") == before
    assert client.sandbox.world.now == NOW
