"""Time sheets, activities and payrolls add up to the same hours."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest

from st_pipelines.sandbox.world import World
from st_pipelines_tests.sandbox.conftest import NOW

Record = dict[str, Any]


@pytest.fixture(scope="module")
def world() -> World:
    return World(customers=300, now=NOW)


def by_id(world: World, table: str) -> dict[int, Record]:
    return {record["id"]: record for record in world.records(table, exact=True)}


def hours_between(start: str, end: str) -> float:
    parse = datetime.fromisoformat
    return (parse(end[:19]) - parse(start[:19])).total_seconds() / 3600


def test_the_paid_hours_are_those_of_the_time_sheets(world: World) -> None:
    codes = by_id(world, "payroll.timesheet_codes")
    sheets: dict[int, float] = defaultdict(float)
    count: dict[int, int] = defaultdict(int)
    for sheet in world.records("payroll.jobs_timesheets"):
        if sheet["doneOn"]:
            key = sheet["technicianId"]
            sheets[key] += hours_between(sheet["dispatchedOn"], sheet["doneOn"])
            count[key] += 1
    for sheet in world.records("payroll.non_job_timesheets"):
        assert codes[sheet["timesheetCodeId"]]["type"] in ("Paid", "PaidTimeOff")
        if sheet["endedOn"]:
            key = sheet["employeeId"]
            sheets[key] += hours_between(sheet["startedOn"], sheet["endedOn"])
            count[key] += 1

    paid: dict[int, float] = defaultdict(float)
    for item in world.records("payroll.gross_pay_items"):
        if item["grossPayItemType"] == "TimesheetTime":
            paid[item["employeeId"]] += item["paidDurationHours"]

    assert sheets.keys() == paid.keys()
    for technician, hours in sheets.items():
        # The fractions of seconds are not compared.
        assert abs(hours - paid[technician]) < count[technician] / 3600


def test_activities_cover_the_time_sheets_of_jobs(world: World) -> None:
    types = by_id(world, "timesheets.activity_types")
    categories = by_id(world, "timesheets.activity_categories")
    by_visit: dict[int, list[Record]] = defaultdict(list)
    for activity in world.records("timesheets.activities"):
        kind = categories[types[activity["activityTypeId"]]["categoryId"]]["type"]
        assert (kind in ("Travel", "OnJobActivities")) == (activity["jobId"] is not None)
        if activity["appointmentId"]:
            by_visit[activity["appointmentId"]].append(activity)

    sheets = [s for s in world.records("payroll.jobs_timesheets") if s["doneOn"]]
    assert sheets
    for sheet in sheets:
        drive, work = sorted(by_visit[sheet["appointmentId"]], key=lambda a: a["startTime"])
        assert drive["startTime"] == sheet["dispatchedOn"]
        assert drive["endTime"] == work["startTime"] == sheet["arrivedOn"]
        assert work["endTime"] == sheet["doneOn"]
        assert work["jobId"] == sheet["jobId"]


def test_items_are_paid_by_the_hour_in_the_payroll_of_their_day(world: World) -> None:
    payrolls = by_id(world, "payroll.payrolls")
    rates = {r["id"]: r["hourlyRate"] for r in by_id(world, "settings.technicians").values()}
    kinds = set()
    for item in world.records("payroll.gross_pay_items", exact=True):
        payroll = payrolls[item["payrollId"]]
        assert payroll["employeeId"] == item["employeeId"]
        assert payroll["startedOn"] <= item["date"] <= payroll["endedOn"]
        kinds.add((item["grossPayItemType"], item["paidTimeType"]))
        if item["grossPayItemType"] == "TimesheetTime":
            factor = Decimal("1.5") if item["paidTimeType"] == "Overtime" else 1
            pay = item["paidDurationHours"] * rates[item["employeeId"]] * factor
            assert abs(pay - item["amount"]) < Decimal("0.02")

    assert kinds >= {
        ("TimesheetTime", "Regular"),
        ("TimesheetTime", "PaidTimeOff"),
        ("Salary", None),
        ("InvoiceRelatedBonus", None),
    }


def test_payrolls_of_past_weeks_are_paid(world: World) -> None:
    payrolls = world.records("payroll.payrolls")

    assert {payroll["status"] for payroll in payrolls} >= {"Pending", "Paid"}
    for payroll in payrolls:
        if payroll["endedOn"] < "2026-03-01":
            assert payroll["status"] == "Paid"
        if payroll["endedOn"] >= "2026-03-10":
            assert payroll["status"] == "Pending"


def test_the_splits_of_a_job_add_up_to_all_of_it(world: World) -> None:
    jobs = by_id(world, "jpm.jobs")
    shares: dict[int, Decimal] = defaultdict(Decimal)
    technicians = defaultdict(set)
    for split in world.records("payroll.jobs_splits", exact=True):
        shares[split["jobId"]] += split["split"]
        technicians[split["jobId"]].add(split["technicianId"])

    assert shares.keys() == jobs.keys()
    assert set(shares.values()) == {Decimal(100)}
    assert {len(found) for found in technicians.values()} == {1, 2}


def test_technicians_are_seldom_at_two_jobs_at_once(world: World) -> None:
    by_day: dict[tuple[int, str], list[Record]] = defaultdict(list)
    for sheet in world.records("payroll.jobs_timesheets"):
        if sheet["doneOn"]:
            by_day[sheet["technicianId"], sheet["arrivedOn"][:10]].append(sheet)
    overlaps = total = 0
    for sheets in by_day.values():
        sheets.sort(key=lambda sheet: sheet["dispatchedOn"])
        total += len(sheets)
        overlaps += sum(
            later["dispatchedOn"] < earlier["doneOn"] for earlier, later in pairwise(sheets)
        )

    assert total
    assert overlaps < total / 50


def test_adjustments_are_for_the_technicians_who_did_the_work(world: World) -> None:
    invoices = by_id(world, "accounting.invoices")
    codes = by_id(world, "payroll.activity_codes")
    assigned = {
        (a["jobId"], a["technicianId"]): a
        for a in world.records("dispatch.appointment_assignments")
    }
    adjustments = world.records("payroll.payroll_adjustments", exact=True)

    assert {adjustment["type"] for adjustment in adjustments} == {"Direct", "CommissionBased"}
    for adjustment in adjustments:
        assert adjustment["amount"] > 0
        assert adjustment["activityCodeId"] in codes
        if adjustment["invoiceId"]:
            invoice = invoices[adjustment["invoiceId"]]
            assert (invoice["job"]["id"], adjustment["employeeId"]) in assigned
            assert invoice["referenceNumber"] in adjustment["memo"]
            assert invoice["createdOn"] < adjustment["createdOn"]
