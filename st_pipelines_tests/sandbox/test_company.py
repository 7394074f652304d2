"""The company is consistent, develops over time, and is the same for the same seed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from datetime import datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from st_pipelines.sandbox.collections import load_collections
from st_pipelines.sandbox.server import Sandbox
from st_pipelines.sandbox.world import World
from st_pipelines_tests.sandbox.client import Client, get_ids
from st_pipelines_tests.sandbox.conftest import NOW

REFERENCES = [
    ("crm.locations", "customerId", "crm.customers"),
    ("crm.customers_contacts", "customerId", "crm.customers"),
    ("crm.locations_contacts", "locationId", "crm.locations"),
    ("jpm.jobs", "customerId", "crm.customers"),
    ("jpm.jobs", "locationId", "crm.locations"),
    ("jpm.jobs", "businessUnitId", "settings.business_units"),
    ("jpm.jobs", "jobTypeId", "jpm.job_types"),
    ("jpm.jobs", "campaignId", "marketing.campaigns"),
    ("jpm.jobs", "invoiceId", "accounting.invoices"),
    ("jpm.jobs", "firstAppointmentId", "jpm.appointments"),
    ("jpm.jobs", "leadCallId", "telecom.calls"),
    ("jpm.jobs", "createdById", "settings.employees"),
    ("jpm.jobs", "projectId", "jpm.projects"),
    ("jpm.appointments", "jobId", "jpm.jobs"),
    ("jpm.job_notes", "jobId", "jpm.jobs"),
    ("jpm.job_canceled_logs", "jobId", "jpm.jobs"),
    ("dispatch.appointment_assignments", "appointmentId", "jpm.appointments"),
    ("dispatch.appointment_assignments", "technicianId", "settings.technicians"),
    ("accounting.invoice_items", "invoiceId", "accounting.invoices"),
    ("salestech.estimates", "jobId", "jpm.jobs"),
    ("memberships.memberships", "customerId", "crm.customers"),
    ("memberships.memberships", "membershipTypeId", "memberships.membership_types"),
    ("inventory.returns", "vendorId", "inventory.vendors"),
    ("inventory.returns", "jobId", "jpm.jobs"),
    ("crm.leads", "customerId", "crm.customers"),
]


def build_small_world(now: datetime = NOW, seed: int = 7) -> World:
    return World(seed=seed, customers=60, now=now)


def read_all_tables(world: World) -> dict[str, list[bytes]]:
    return {name: sorted(world.raw(name)) for name in load_collections()}


@pytest.mark.parametrize(("table", "field", "target"), REFERENCES)
def test_foreign_keys_refer_to_existing_records(
    shared: Client, table: str, field: str, target: str
) -> None:
    world = shared.sandbox.world
    # A user who creates something is named by the `userId`.
    key = "userId" if field == "createdById" else "id"
    existing = {row[key] for row in world.records(target)}

    references = {row[field] for row in world.records(table)} - {None}

    assert references
    assert references <= existing


def test_amounts_are_text_in_invoices_and_long_decimals_in_the_price_book(shared: Client) -> None:
    world = shared.sandbox.world
    service = world.raw("pricebook.services")[0]

    assert isinstance(world.records("accounting.invoices")[0]["total"], str)
    assert re.search(rb'"price":\d+\.\d{10}[,}]', service)
    assert world.records("pricebook.services", exact=True)[0]["price"].as_tuple().exponent == -10


def test_times_have_up_to_seven_digits_without_trailing_zeros(shared: Client) -> None:
    texts = [row["createdOn"] for row in shared.sandbox.world.records("jpm.jobs")]

    digits = Counter(len(text[20:-1]) for text in texts)
    assert digits.keys() <= {0, 2, 3, 4, 5, 6, 7}
    assert digits[7] > len(texts) * 0.8
    assert digits[0] > 0
    assert not any("." in text and text.endswith("0Z") for text in texts)


def test_jobs_are_booked_in_new_yorks_office_hours_and_rarely_on_weekends(shared: Client) -> None:
    booked = [
        datetime.fromisoformat(row["createdOn"][:19] + "+00:00").astimezone(
            ZoneInfo("America/New_York")
        )
        for row in shared.sandbox.world.records("jpm.jobs")
    ]

    assert all(7 <= moment.hour < 19 for moment in booked)
    weekdays = Counter(moment.weekday() for moment in booked)
    assert weekdays[5] + weekdays[6] < weekdays[2]


def test_some_records_share_a_time_of_modification(shared: Client) -> None:
    times = [row["modifiedOn"] for row in shared.sandbox.world.records("salestech.estimates")]

    assert len(set(times)) < len(times)


def test_some_text_is_not_ascii(shared: Client) -> None:
    assert not all(raw.isascii() for raw in shared.sandbox.world.raw("crm.customers"))


def test_no_record_is_modified_after_now(shared: Client) -> None:
    world = shared.sandbox.world

    for table in ("jpm.jobs", "accounting.payments", "telecom.calls", "inventory.returns"):
        assert max(world.table(table).modified) <= world.now_ticks


def test_the_same_seed_makes_the_same_world() -> None:
    assert read_all_tables(build_small_world()) == read_all_tables(build_small_world())


def test_another_seed_makes_another_world() -> None:
    assert build_small_world().raw("jpm.jobs") != build_small_world(seed=8).raw("jpm.jobs")


def test_the_order_in_which_tables_are_requested_does_not_matter() -> None:
    first, second = build_small_world(), build_small_world()
    second.raw("accounting.payments")

    assert first.raw("jpm.jobs") == second.raw("jpm.jobs")
    assert first.raw("accounting.payments") == second.raw("accounting.payments")


def test_many_small_steps_in_time_equal_a_large_one() -> None:
    stepped, jumped = build_small_world(), build_small_world()
    read_all_tables(stepped)
    for _ in range(4):
        stepped.move(timedelta(days=5))
    jumped.move(timedelta(days=20))

    assert read_all_tables(stepped) == read_all_tables(jumped)


def test_jobs_are_created_and_changed_as_time_moves() -> None:
    world = build_small_world()
    before = {row["id"]: row for row in world.records("jpm.jobs")}
    world.move(timedelta(days=14))
    after = {row["id"]: row for row in world.records("jpm.jobs")}

    new, old = after.keys() - before.keys(), after.keys() & before.keys()
    changed = [job for job in old if after[job] != before[job]]
    assert new
    assert changed
    assert before.keys() == old
    for job in changed:
        assert after[job]["modifiedOn"] > before[job]["modifiedOn"]
    assert all(after[job]["createdOn"] > "2026-03-10T15:30" for job in new)


def test_time_cannot_move_backward() -> None:
    with pytest.raises(ValueError, match="only moves forward"):
        build_small_world().move(timedelta(seconds=-1))


def test_a_change_survives_later_events() -> None:
    world = World(customers=1500, now=NOW)
    job = next(row["id"] for row in world.records("jpm.jobs") if row["jobStatus"] == "Scheduled")
    world.change("jpm.jobs", job, customerPo="PO 7")
    changed_on = next(row for row in world.records("jpm.jobs") if row["id"] == job)["modifiedOn"]
    world.move(timedelta(days=60))

    [row] = [row for row in world.records("jpm.jobs") if row["id"] == job]
    assert row["customerPo"] == "PO 7"
    assert row["jobStatus"] != "Scheduled"
    assert changed_on == "2026-03-10T15:30:00Z" < row["modifiedOn"]


def test_a_change_keeps_the_digits_of_other_fields() -> None:
    world = build_small_world()
    raw = world.raw("pricebook.services")[0]
    world.change("pricebook.services", world.records("pricebook.services")[0]["id"], code="X")

    price = re.search(rb'"price":[\d.]+', raw)
    assert price is not None
    assert price.group() in world.raw("pricebook.services")[0]


def test_a_created_record_has_the_given_fields_and_a_new_key() -> None:
    world = build_small_world()
    before = get_ids(world.records("jpm.jobs"))
    job = world.create("jpm.jobs", total=Decimal("12.3400"), completedOn=NOW)

    [row] = [row for row in world.records("jpm.jobs", exact=True) if row["id"] == job]
    assert job not in before
    assert str(row["total"]) == "12.3400"
    assert row["completedOn"] == row["createdOn"] == row["modifiedOn"] == "2026-03-10T15:30:00Z"


def test_a_world_without_jobs_is_served() -> None:
    with Sandbox(customers=1, history_days=3, now=NOW) as sandbox:
        client = Client(sandbox)
        assert client.request_list("inventory.returns").status_code == 200
        assert client.request_list("jpm.jobs").status_code == 200


def test_the_same_seed_makes_the_same_company_in_every_process() -> None:
    digests = [
        subprocess.run(
            [sys.executable, "-c", _DIGEST],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
        ).stdout
        for seed in ("1", "2")
    ]
    assert digests[0] == digests[1] != ""


def test_companies_that_start_on_the_same_day_differ_only_in_later_events() -> None:
    early, late = (
        World(customers=40, history_days=30, now=NOW + later)
        for later in (timedelta(), timedelta(minutes=20))
    )
    for table in ("accounting.invoices", "crm.leads", "timesheets.activities"):
        by_version = {(r["id"], r["modifiedOn"]): r for r in late.records(table)}
        common = [r for r in early.records(table) if (r["id"], r["modifiedOn"]) in by_version]
        assert len(common) > 10
        assert all(by_version[r["id"], r["modifiedOn"]] == r for r in common)


_DIGEST = """
import hashlib, datetime
from st_pipelines.sandbox.world import World
now = datetime.datetime(2026, 3, 10, tzinfo=datetime.timezone.utc)
world = World(customers=20, history_days=30, now=now)
for table in ("accounting.invoices", "crm.leads", "payroll.gross_pay_items", "jpm.jobs"):
    print(table, hashlib.sha256(b"".join(world.raw(table))).hexdigest())
"""
