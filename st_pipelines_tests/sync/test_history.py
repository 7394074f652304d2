"""`ST_HISTORY` keeps each version of a row that a load saw, once."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from st_pipelines.catalog.registry import load_catalog
from st_pipelines.sandbox.server import Sandbox
from st_pipelines.sync.sync import SyncContext, extract_load, reconcile
from st_pipelines_tests.churn_reader import build_context, days, query

CUSTOMERS = load_catalog()["crm.customers"]
ALL = days("2026-03-01", "2026-03-10", open_start=True)


@pytest.fixture
def context(own_sandbox: Sandbox, tmp_path: Path) -> Iterator[SyncContext]:
    context = build_context(own_sandbox, tmp_path / "w.duckdb")
    yield dataclasses.replace(context, history={"crm.customers", "settings.user_roles"})
    context.client.close()


def versions(context: SyncContext, id_: int) -> list[tuple]:
    return query(
        context.warehouse.name,
        "SELECT name, valid_to IS NULL FROM history.crm_customers "
        f"WHERE id = {id_} ORDER BY valid_from",
    )


def test_each_version_is_one_row_and_the_last_is_open(
    own_sandbox: Sandbox, context: SyncContext
) -> None:
    world = own_sandbox.world
    id_ = world.records("crm.customers")[0]["id"]
    world.change("crm.customers", id_, name="One")
    extract_load(context, CUSTOMERS, ALL)
    for name in ("Two", "Three"):
        world.move(timedelta(minutes=5))
        world.change("crm.customers", id_, name=name)
        extract_load(context, CUSTOMERS, ALL)
    extract_load(context, CUSTOMERS, ALL)
    assert versions(context, id_) == [("One", False), ("Two", False), ("Three", True)]
    total = len(world.records("crm.customers"))
    assert query(context.warehouse.name, "SELECT count(*) FROM history.crm_customers") == [
        (total + 2,)
    ]


def test_versions_of_a_row_follow_one_another_without_gap_or_overlap(
    own_sandbox: Sandbox, context: SyncContext
) -> None:
    world = own_sandbox.world
    record = world.records("crm.customers")[0]
    extract_load(context, CUSTOMERS, ALL)
    # one change moves the cursor, the next does not
    world.move(timedelta(minutes=5))
    world.change("crm.customers", record["id"], name="Moved")
    extract_load(context, CUSTOMERS, ALL)
    moved = world.records("crm.customers")[0]["modifiedOn"]
    world.change("crm.customers", record["id"], name="Still", modifiedOn=moved)
    extract_load(context, CUSTOMERS, ALL)
    found = query(
        context.warehouse.name,
        "SELECT valid_from, valid_to, lead(valid_from) OVER (ORDER BY valid_from), modified_on "
        f"FROM history.crm_customers WHERE id = {record['id']} ORDER BY valid_from",
    )
    assert len(found) == 3
    assert [row[1] for row in found] == [row[2] for row in found]
    assert all(row[0] < row[1] for row in found[:-1])
    assert [row[0] == row[3] for row in found] == [True, True, False]


def test_a_deleted_row_has_no_open_version_until_it_comes_back(
    own_sandbox: Sandbox, context: SyncContext
) -> None:
    world = own_sandbox.world
    id_ = world.records("crm.customers")[0]["id"]
    extract_load(context, CUSTOMERS, ALL)
    world.delete("crm.customers", id_)
    reconcile(context, CUSTOMERS)
    assert [is_open for _, is_open in versions(context, id_)] == [False]
    reconcile(context, CUSTOMERS)
    assert [is_open for _, is_open in versions(context, id_)] == [False]
    world.revive("crm.customers", id_)
    reconcile(context, CUSTOMERS)
    assert [is_open for _, is_open in versions(context, id_)] == [False, True]


def test_history_that_is_turned_on_later_starts_with_the_present_rows(
    own_sandbox: Sandbox, context: SyncContext
) -> None:
    extract_load(dataclasses.replace(context, history=()), CUSTOMERS, ALL)
    extract_load(context, CUSTOMERS, days("2026-03-10", "2026-03-10"))
    counts = query(
        context.warehouse.name,
        "SELECT (SELECT count(*) FROM history.crm_customers), (SELECT count(*) FROM crm.customers)",
    )
    assert counts[0][0] == counts[0][1] > 0


def test_versions_without_a_cursor_start_at_the_time_of_the_load(
    own_sandbox: Sandbox, context: SyncContext
) -> None:
    roles, world = load_catalog()["settings.user_roles"], own_sandbox.world
    extract_load(context, roles, None)
    id_ = world.records("settings.user_roles")[0]["id"]
    world.change("settings.user_roles", id_, name="Chief")
    extract_load(context, roles, None)
    extract_load(context, roles, None)
    found = query(
        context.warehouse.name,
        f"SELECT count(*), min(valid_to) = max(valid_from) FROM history.settings_user_roles "
        f"WHERE id = {id_}",
    )
    assert found == [(2, True)]


def test_changes_while_history_was_off_become_versions_of_the_next_load(
    own_sandbox: Sandbox, context: SyncContext
) -> None:
    world = own_sandbox.world
    id_ = world.records("crm.customers")[0]["id"]
    extract_load(context, CUSTOMERS, ALL)
    world.move(timedelta(minutes=5))
    world.change("crm.customers", id_, name="Meanwhile")
    extract_load(dataclasses.replace(context, history=()), CUSTOMERS, ALL)
    extract_load(context, CUSTOMERS, ALL)
    assert [is_open for _, is_open in versions(context, id_)] == [False, True]
    assert versions(context, id_)[-1] == ("Meanwhile", True)
