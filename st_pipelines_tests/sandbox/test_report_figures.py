"""The built-in reports, compared with figures that are counted here, from the lists and exports.

Nothing here uses the code of the reports: each figure is one expression over the records, as they
come over HTTP.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from st_pipelines.sandbox.world import World
from st_pipelines_tests.sandbox.report_client import Clock, ReportClient, open_reports

ZONE = ZoneInfo("America/New_York")
Row = dict[str, Any]


def to_day(text: str) -> date:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(ZONE).date()


def complicate(world: World) -> None:
    """Give the company everything that the definitions distinguish."""
    rng = random.Random(5)
    units = [{"id": u["id"], "name": u["name"]} for u in world.records("settings.business_units")]
    for job_type in world.records("jpm.job_types"):
        threshold = rng.choice((None, 0, 150, 400, 900))
        world.change("jpm.job_types", job_type["id"], soldThreshold=threshold)
    complicate_jobs(world, rng)
    complicate_invoices(world, rng, units)
    complicate_estimates(world, rng)
    complicate_splits(world, rng)
    visits = world.records("jpm.appointments")
    for visit in visits[::7]:  # a second visit to another job
        other = rng.choice(visits)["jobId"]
        world.change("jpm.appointments", visit["id"], jobId=other)
    for call in world.records("telecom.calls_export")[::9]:
        kind = rng.choice((None, "Booked", "Unbooked"))
        world.change("telecom.calls_export", call["id"], type=kind)
    for booking in world.records("crm.bookings"):
        status = rng.choice(("New", "Converted", "Accepted", "Dismissed"))
        world.change("crm.bookings", booking["id"], status=status, active=rng.random() < 0.8)
    for technician in world.records("settings.technicians")[:3]:
        world.change("settings.technicians", technician["id"], active=False)
    world.deactivate("settings.business_units", units[1]["id"])
    world.move(timedelta(hours=1))


def complicate_jobs(world: World, rng: random.Random) -> None:
    for job in world.records("jpm.jobs"):
        if rng.random() < 0.4:
            world.change("jpm.jobs", job["id"], noCharge=rng.random() < 0.8)
        elif rng.random() < 0.05:
            world.change("jpm.jobs", job["id"], jobStatus="Hold")
        elif rng.random() < 0.05:
            world.deactivate("jpm.jobs", job["id"])


def complicate_invoices(world: World, rng: random.Random, units: list[Row]) -> None:
    invoices = world.records("accounting.invoices")
    kinds = ("Income", "Income", "Income", "Liability", "Expense", None)
    for invoice in invoices:
        items = [
            {
                **item,
                "total": f"{rng.randrange(-9_000, 60_000) / 100:.2f}",
                "generalLedgerAccount": rng.choice((None, *({"id": 1, "type": k} for k in kinds))),
                "businessUnit": rng.choice((None, *units)),
            }
            for item in invoice["items"]
        ]
        total = sum(Decimal(item["total"]) for item in items)
        fields: Row = {"items": items, "subTotal": str(total), "adjustmentToId": None}
        draw = rng.random()
        if draw < 0.1:
            fields["adjustmentToId"] = rng.choice(invoices)["id"]
        elif draw < 0.2:
            fields["job"] = None
        elif draw < 0.35:
            fields["job"] = rng.choice(invoices[-40:])["job"]  # a job with several invoices
        elif draw < 0.4:
            fields["active"] = False
        elif draw < 0.45:
            fields["businessUnit"] = None
        world.change("accounting.invoices", invoice["id"], **fields)


def complicate_estimates(world: World, rng: random.Random) -> None:
    office = [each["id"] for each in world.records("settings.employees")]
    thresholds = {t["id"]: t["soldThreshold"] for t in world.records("jpm.job_types")}
    jobs = {job["id"]: thresholds[job["jobTypeId"]] for job in world.records("jpm.jobs")}
    latest = list(jobs)[-30:]
    for estimate in world.records("salestech.estimates"):
        fields: Row = {}
        if rng.random() < 0.5:
            sold = to_iso(world.now - timedelta(minutes=rng.randrange(500_000)))
            name = rng.choice(("Sold", "Sold", "Sold", "Dismissed"))
            fields = {"status": {"value": 1, "name": name}, "soldOn": sold}
        # Some jobs have several sold estimates, on different days.
        fields["jobId"] = rng.choice((None, estimate["jobId"], rng.choice(latest)))
        threshold = jobs.get(fields["jobId"]) or 100
        fields["subtotal"] = rng.choice((threshold, rng.randrange(50_000) / 100))
        fields["active"] = rng.random() < 0.9
        if rng.random() < 0.3:
            fields["soldBy"] = rng.choice(office)
        world.change("salestech.estimates", estimate["id"], **fields)


def complicate_splits(world: World, rng: random.Random) -> None:
    technicians = [each["id"] for each in world.records("settings.technicians")]
    jobs = [job["id"] for job in world.records("jpm.jobs") if job["jobStatus"] == "Completed"]
    for split in world.records("payroll.jobs_splits"):
        world.delete("payroll.jobs_splits", split["id"])
    for job in jobs[::2]:
        crew = rng.sample(technicians, rng.choice((1, 2, 3)))
        for technician in crew:
            fields = {"jobId": job, "technicianId": technician, "split": rng.choice((0, 20, 35))}
            world.create("payroll.jobs_splits", **fields, active=rng.random() < 0.9)


def to_iso(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


class Company:
    """The records of the company, as lists and exports serve them."""

    def __init__(self, client: ReportClient) -> None:
        self.client = client
        self.jobs = {row["id"]: row for row in self.read_active_export("jpm.jobs")}
        invoices = client.read_rows("accounting.invoices", activeState="ActiveOnly")
        self.invoices: list[Row] = invoices
        job_types = client.read_rows("jpm.job_types", active="Any")
        self.thresholds = {row["id"]: row["soldThreshold"] or 0 for row in job_types}
        self.estimates = [
            row
            for row in client.read_rows("salestech.estimates", active="True")
            if row["status"]["name"] == "Sold" and row["soldOn"] and row["jobId"] in self.jobs
        ]
        self.units = client.read_rows("settings.business_units", active="Any")
        self.technicians = client.read_rows("settings.technicians", active="Any")
        self.splits = [
            row for row in self.read_active_export("payroll.jobs_splits") if row["split"] > 0
        ]
        self.assignments = client.read_rows("dispatch.appointment_assignments", active="True")

    def read_active_export(self, table: str) -> list[Row]:
        return [row for row in self.client.read_export(table) if row["active"]]

    def done(self, first: date, last: date) -> list[Row]:
        return [
            job
            for job in self.jobs.values()
            if job["jobStatus"] == "Completed" and first <= to_day(job["completedOn"]) <= last
        ]

    def invoices_of(self, job: Row) -> list[Row]:
        return [
            invoice
            for invoice in self.invoices
            if invoice["job"] and invoice["job"]["id"] == job["id"]
            if invoice["adjustmentToId"] is None
        ]

    def items_of(self, job: Row) -> list[tuple[int, Fraction]]:
        return [
            (self.unit_of(item, invoice), self.income_of(item))
            for invoice in self.invoices_of(job)
            for item in invoice["items"]
        ]

    def unit_of(self, item: Row, invoice: Row) -> int:
        job = self.jobs.get((invoice["job"] or {}).get("id"))
        own = item["businessUnit"] or invoice["businessUnit"]
        return own["id"] if own else job["businessUnitId"] if job else 0

    @staticmethod
    def income_of(item: Row) -> Fraction:
        account = item["generalLedgerAccount"]
        return Fraction(item["total"]) if account and account["type"] == "Income" else Fraction(0)

    def units_of(self, job: Row) -> set[int]:
        return {unit for unit, _ in self.items_of(job)} or {job["businessUnitId"]}

    def is_converted(self, job: Row) -> bool:
        subtotal = sum(Fraction(invoice["subTotal"]) for invoice in self.invoices_of(job))
        return subtotal >= Fraction(str(self.thresholds[job["jobTypeId"]]))

    def shares_of(self, job: Row) -> dict[int, Fraction]:
        own = [split for split in self.splits if split["jobId"] == job["id"]]
        whole = sum(Fraction(str(split["split"])) for split in own)
        if own:
            return {
                each["technicianId"]: Fraction(str(each["split"])) / Fraction(whole) for each in own
            }
        assigned = [a for a in self.assignments if a["jobId"] == job["id"]]
        return {min(assigned, key=lambda a: a["assignedOn"])["technicianId"]: Fraction(1)}


@pytest.fixture(scope="module")
def client() -> Iterator[ReportClient]:
    with open_reports(Clock(), customers=90, history_days=150) as client:
        client.sandbox.reports.settings.interval_seconds = 0
        complicate(client.sandbox.world)
        yield client


@pytest.fixture(scope="module")
def company(client: ReportClient) -> Company:
    return Company(client)


def is_close(value: Any, expected: Fraction) -> bool:
    return abs(Fraction(str(value)) - expected) <= Fraction(1, 20_000)


def rate(part: int, whole: int) -> Any:
    return pytest.approx(part / whole) if whole else None


def count_revenue(company: Company, day: date, unit: int) -> Row:
    """Count the figures of one business unit on one day."""
    done = [job for job in company.done(day, day) if unit in company.units_of(job)]
    converted = [job for job in done if company.is_converted(job)]
    chances = [job for job in done if company.is_converted(job) or not job["noCharge"]]

    def sum_others(chosen: Callable[[Row], bool]) -> Fraction:
        return sum(
            (
                company.income_of(item)
                for invoice in company.invoices
                if chosen(invoice) and invoice["invoiceDate"][:10] == day.isoformat()
                for item in invoice["items"]
                if company.unit_of(item, invoice) == unit
            ),
            Fraction(0),
        )

    non_job = sum_others(lambda i: i["job"] is None and i["adjustmentToId"] is None)
    adjusted = sum_others(lambda i: i["adjustmentToId"] is not None)
    completed = sum(
        (income for job in done for own, income in company.items_of(job) if own == unit),
        Fraction(0),
    )
    sold = [e for e in company.estimates if company.jobs[e["jobId"]]["businessUnitId"] == unit]
    closed, open_jobs = count_sales(company, day, unit)
    return {
        "CompletedRevenue": completed,
        "NonJobRevenue": non_job,
        "AdjustmentRevenue": adjusted,
        "TotalRevenue": completed + non_job + adjusted,
        "TotalSales": sum(
            (Fraction(str(e["subtotal"])) for e in sold if to_day(e["soldOn"]) == day), Fraction(0)
        ),
        "CompletedJobs": len(done),
        "Opportunity": len(chances),
        "ConvertedJobs": len(converted),
        "OpportunityConversionRate": rate(len(converted), len(chances)),
        "SalesOpportunity": open_jobs,
        "ClosedOpportunities": closed,
        "CloseRate": rate(closed, open_jobs),
    }


def count_sales(company: Company, day: date, unit: int) -> tuple[int, int]:
    """Count the closed opportunities and the opportunities of one business unit on one day."""
    closed = opportunities = 0
    for job in company.jobs.values():
        sales = [e for e in company.estimates if e["jobId"] == job["id"]]
        days = [to_day(e["soldOn"]) for e in sales]
        if job["jobStatus"] == "Completed" and not days:
            days = [to_day(job["completedOn"])]
        if job["businessUnitId"] != unit or not days or min(days) != day:
            continue
        total = sum(Fraction(str(e["subtotal"])) for e in sales)
        closed += bool(sales) and total >= Fraction(str(company.thresholds[job["jobTypeId"]]))
        opportunities += not job["noCharge"]
    return closed, opportunities


MONEY = {"CompletedRevenue", "NonJobRevenue", "AdjustmentRevenue", "TotalRevenue", "TotalSales"}


def assert_equal(row: Row, expected: Row) -> None:
    for name, value in expected.items():
        if name in MONEY:
            assert is_close(row[name], value), f"{name}: {row[name]} is not {float(value)}"
        else:
            assert row[name] == value, f"{name}: {row[name]} is not {value}"


def test_revenue_by_business_unit_and_day(client: ReportClient, company: Company) -> None:
    first, last = date(2025, 9, 1), date(2026, 2, 15)
    rows = client.read_rows_of(
        client.find_report("Revenue"), From=str(first), To=str(last), IncludeInactive=True
    )

    names = {unit["id"]: unit["name"] for unit in company.units}
    found = {(row["Date"], row["Name"]): row for row in rows}
    assert len(found) == len(rows) > 40
    for number in range((last - first).days + 1):
        day = first + timedelta(days=number)
        for unit, name in names.items():
            expected = count_revenue(company, day, unit)
            row = found.pop((day.isoformat(), name), None)
            if row is not None:
                assert_equal(row, expected)
            else:
                assert not any(expected.values())
    assert not found
    for name in MONEY:
        assert any(row[name] for row in rows), f"nothing tests {name}"
    assert any(row["ConvertedJobs"] < row["Opportunity"] for row in rows)
    assert any(row["Opportunity"] < row["CompletedJobs"] for row in rows)
    assert any(row["ClosedOpportunities"] for row in rows)


def test_business_units_and_their_state_choose_the_rows(client: ReportClient) -> None:
    report = client.find_report("Revenue")
    units = client.read_rows("settings.business_units", active="Any")
    inactive = next(unit for unit in units if not unit["active"])
    active = next(unit for unit in units if unit["active"])

    everything = client.read_rows_of(report, IncludeInactive="true")
    usual = client.read_rows_of(report)
    one = client.read_rows_of(report, BusinessUnitIds=[active["id"]])
    both = client.read_rows_of(
        report, BusinessUnitIds=[active["id"], inactive["id"]], IncludeInactive=True
    )

    assert {row["Name"] for row in everything} - {row["Name"] for row in usual} == {
        inactive["name"]
    }
    assert usual == [row for row in everything if row["Name"] != inactive["name"]]
    assert one == [row for row in usual if row["Name"] == active["name"]]
    names = (active["name"], inactive["name"])
    assert both == [row for row in everything if row["Name"] in names]


def test_calls_and_bookings_by_day(client: ReportClient, company: Company) -> None:
    calls = company.read_active_export("telecom.calls_export")
    bookings = company.read_active_export("crm.bookings")
    first, last = date(2025, 12, 1), date(2026, 3, 9)

    rows = client.read_rows_of(client.find_report("Calls"), From=str(first), To=str(last))

    found = {row["Date"]: row for row in rows}
    assert len(found) == len(rows) > 50
    for number in range((last - first).days + 1):
        day = first + timedelta(days=number)
        kinds = [(c["type"], c["direction"]) for c in calls if to_day(c["createdOn"]) == day]
        types = [kind for kind, _ in kinds]
        leads, booked = types.count("Booked") + types.count("Unbooked"), types.count("Booked")
        statuses = [b["status"] for b in bookings if to_day(b["createdOn"]) == day]
        expected = {
            "Calls": len(types),
            "LeadCalls": leads,
            "CallsBooked": booked,
            "InboundCallsBooked": kinds.count(("Booked", "Inbound")),
            "CallBookingRate": rate(booked, leads),
            "ExcusedCalls": types.count("Excused"),
            "NotLeadCalls": types.count("NotLead"),
            "AbandonedCalls": types.count("Abandoned"),
            "Bookings": len(statuses),
            "BookingsConverted": statuses.count("Converted"),
            "TotalJobsBooked": sum(
                to_day(job["createdOn"]) == day for job in company.jobs.values()
            ),
        }
        row = found.pop(day.isoformat(), None)
        if row is not None:
            assert_equal(row, expected)
        else:
            assert not any(expected.values())
    assert not found
    assert any(row["CallBookingRate"] not in (None, 0, 1) for row in rows)
    assert any(row["BookingsConverted"] for row in rows)


@pytest.mark.parametrize("with_units", [False, True])
def test_technician_performance(client: ReportClient, company: Company, with_units: bool) -> None:
    first, last = date(2025, 12, 20), date(2026, 2, 20)
    units = {unit["id"] for unit in (company.units[2:4] if with_units else company.units)}
    values: Row = {"BusinessUnitIds": sorted(units)} if with_units else {}
    rows = client.read_rows_of(
        client.find_report("Technician"),
        From=str(first),
        To=str(last),
        IncludeInactive=True,
        **values,
    )

    found = {row["TechnicianId"]: row for row in rows}
    names = {unit["id"]: unit["name"] for unit in company.units}
    jobs = [job for job in company.done(first, last) if company.units_of(job) & units]
    shares = {job["id"]: company.shares_of(job) for job in jobs}
    sales = [e for e in company.estimates if first <= to_day(e["soldOn"]) <= last]
    assert len(found) == len(rows) > 5
    for technician in company.technicians:
        own = [job for job in jobs if technician["id"] in shares[job["id"]]]
        converted = [job for job in own if company.is_converted(job)]
        chances = [job for job in own if company.is_converted(job) or not job["noCharge"]]
        expected: Row = {
            "CompletedJobs": len(own),
            "CompletedRevenue": sum(
                shares[job["id"]][technician["id"]] * income
                for job in own
                for unit, income in company.items_of(job)
                if unit in units
            ),
            "Opportunity": len(chances),
            "ConvertedJobs": len(converted),
            "TotalSales": sum(
                Fraction(str(sale["subtotal"]))
                for sale in sales
                if sale["soldBy"] == technician["id"]
                if company.jobs[sale["jobId"]]["businessUnitId"] in units
            ),
            "OpportunityConversionRate": rate(len(converted), len(chances)),
        }
        row = found.pop(technician["id"], None)
        if row is None:
            assert not any(expected.values())
            continue
        assert_equal(row, expected)
        assert row["Name"] == technician["name"]
        assert row["TechnicianBusinessUnit"] == names[technician["businessUnitId"]]
    assert not found
    assert any(len(each) > 1 for each in shares.values())


def test_technicians_can_be_chosen_and_inactive_ones_are_left_out(client: ReportClient) -> None:
    report = client.find_report("Technician")
    people = client.read_rows("settings.technicians", active="Any")
    active = {each["id"] for each in people if each["active"]}

    everybody = client.read_rows_of(report, IncludeInactive=True)
    usual = client.read_rows_of(report)
    chosen = [row["TechnicianId"] for row in usual[:2]]

    assert [row for row in everybody if row["TechnicianId"] in active] == usual != everybody
    assert client.read_rows_of(report, TechnicianIds=chosen) == usual[:2]


def test_revenue_of_technicians_adds_up_to_that_of_completed_jobs(client: ReportClient) -> None:
    by_unit = client.read_rows_of(client.find_report("Revenue"), IncludeInactive=True)
    by_person = client.read_rows_of(client.find_report("Technician"), IncludeInactive=True)

    total = sum(Fraction(str(row["CompletedRevenue"])) for row in by_unit)
    assert sum(Fraction(str(row["CompletedRevenue"])) for row in by_person) == pytest.approx(
        total, abs=0.01
    )


@pytest.mark.parametrize("kind", ["Completion", "Creation", "Start", "Invoice"])
def test_jobs_are_listed_by_the_date_type(
    client: ReportClient, company: Company, kind: str
) -> None:
    first, last = date(2025, 12, 20), date(2026, 1, 31)
    visits = client.read_rows("jpm.appointments", active="True")
    path = "/reporting/v2/tenant/{tenant}/dynamic-value-sets/job-date-filter-type"
    numbers = {name: number for number, name in client.get(path).json()["data"]}
    number = numbers[f"{kind} Date" if kind == "Invoice" else f"Job {kind} Date"]

    def list_days(job: Row) -> set[date]:
        starts = [to_day(v["start"]) for v in visits if v["jobId"] == job["id"]]
        invoices = company.invoices_of(job)
        return {
            "Completion": {to_day(job["completedOn"])}
            if job["jobStatus"] == "Completed"
            else set(),
            "Creation": {to_day(job["createdOn"])},
            "Start": {min(starts)} if starts else set(),
            "Invoice": {date.fromisoformat(i["invoiceDate"][:10]) for i in invoices},
        }[kind]

    rows = client.read_rows_of(
        client.find_report("Jobs"), DateType=number, From=str(first), To=str(last)
    )

    names = {unit["id"]: unit["name"] for unit in company.units}
    listed = {
        job["jobNumber"]: job
        for job in company.jobs.values()
        if any(first <= day <= last for day in list_days(job))
    }
    assert sorted(row["JobNumber"] for row in rows) == sorted(listed)
    for row in rows:
        job = listed[row["JobNumber"]]
        assert row["JobStatus"] == job["jobStatus"]
        assert row["JobBusinessUnit"] == names[job["businessUnitId"]]
        subtotal = sum(Fraction(invoice["subTotal"]) for invoice in company.invoices_of(job))
        assert is_close(row["Subtotal"], Fraction(subtotal))
    unit = next(u["id"] for u in company.units if u["name"] == rows[0]["JobBusinessUnit"])
    assert client.read_rows_of(
        client.find_report("Jobs"),
        DateType=number,
        From=str(first),
        To=str(last),
        BusinessUnitId=unit,
    ) == [row for row in rows if row["JobBusinessUnit"] == rows[0]["JobBusinessUnit"]]
