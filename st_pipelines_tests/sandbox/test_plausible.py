"""The company's records are plausible: prices, trades, hours, dates and references agree."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import datetime
from statistics import mean
from typing import Any

import pytest

from st_pipelines.sandbox import ticks
from st_pipelines.sandbox.planning.payroll import PayrollOffice
from st_pipelines.sandbox.summaries import REQUESTS
from st_pipelines.sandbox.trades import WORK
from st_pipelines.sandbox.world import World
from st_pipelines_tests.sandbox.conftest import NOW

Record = dict[str, Any]


@pytest.fixture(scope="module")
def world() -> World:
    return World(customers=200, now=NOW)


def by_id(world: World, table: str) -> dict[int, Record]:
    return {record["id"]: record for record in world.records(table)}


def test_the_price_of_a_job_depends_on_its_type(world: World) -> None:
    types = by_id(world, "jpm.job_types")
    totals: dict[str, list[float]] = defaultdict(list)
    for job in world.records("jpm.jobs"):
        if job["jobStatus"] == "Completed" and job["total"]:
            totals[types[job["jobTypeId"]]["name"]].append(job["total"])

    average = {name: mean(found) for name, found in totals.items()}
    assert 110 < average["AC Tune-Up"] < 220
    assert 300 < average["No Cool"] < 900
    assert 150 < average["Drain Cleaning"] < 600
    assert 4000 < average["AC Install"] < 9000


def test_membership_fees_follow_from_the_billing_frequency(world: World) -> None:
    ranges = {"Monthly": (15, 40), "Annual": (180, 400), "OneTime": (500, 1500)}
    types = by_id(world, "memberships.membership_types")
    for kind in types.values():
        assert 5 <= kind["discount"] <= 15
        for billing in kind["durationBilling"]:
            low, high = ranges[billing["billingFrequency"]]
            assert low <= billing["billingPrice"] <= high
    memberships = by_id(world, "memberships.memberships")
    bills = [i for i in world.records("accounting.invoices") if i["membershipId"]]
    assert bills
    for bill in bills:
        billing = types[memberships[bill["membershipId"]]["membershipTypeId"]]["durationBilling"]
        assert float(bill["total"]) == billing[0]["billingPrice"]


def test_business_units_do_the_work_of_their_trade(world: World) -> None:
    types, units = by_id(world, "jpm.job_types"), by_id(world, "settings.business_units")
    for unit in units.values():
        assert unit["trade"]["name"] in unit["name"]
        assert unit["trade"]["name"] in unit["officialName"]
    jobs = by_id(world, "jpm.jobs")
    assert jobs
    for job in jobs.values():
        assert job["businessUnitId"] in types[job["jobTypeId"]]["businessUnitIds"]
    trades = {
        types[job["jobTypeId"]]["name"]: units[job["businessUnitId"]]["trade"]["name"]
        for job in jobs.values()
    }
    assert trades["Furnace Tune-Up"] == "HVAC"
    assert trades["Drain Cleaning"] == "Drains"
    visits = by_id(world, "memberships.recurring_service_types")
    for service in world.records("memberships.recurring_services"):
        trade = units[service["businessUnitId"]]["trade"]["name"]
        name = visits[service["recurringServiceTypeId"]]["name"]
        assert (trade == "Drains") == (name == "Drain Check")


def test_visits_are_spread_over_the_week(world: World) -> None:
    days = Counter(
        datetime.fromisoformat(visit["start"][:19]).weekday()
        for visit in world.records("jpm.appointments")
    )
    total = days.total()
    assert all(0.12 < days[day] / total < 0.27 for day in range(5))
    assert days[5] + days[6] < total / 8


def test_no_technician_has_two_visits_with_the_same_start(world: World) -> None:
    starts = {visit["id"]: visit["start"] for visit in world.records("jpm.appointments")}
    assigned = Counter(
        (assignment["technicianId"], starts[assignment["appointmentId"]])
        for assignment in world.records("dispatch.appointment_assignments")
    )
    assert max(assigned.values()) == 1


def test_codes_of_services_are_unique(world: World) -> None:
    codes = [service["code"] for service in world.records("pricebook.services")]
    assert len(set(codes)) == len(codes)


NUMBERS = [
    ("marketing_reputation.reviews", ("rating",), 1, 5),
    ("accounting.tax_zones", ("rates", "taxRate"), 0, 10),
    ("settings.business_units", ("defaultTaxRate",), 0, 10),
    ("settings.technicians", ("burdenRate",), 5, 40),
    ("settings.technicians", ("commissionRate",), 0, 20),
    ("salestech.estimates", ("depositPercent",), 0, 50),
    ("accounting.invoice_items", ("soldHours",), -12, 12),
    ("pricebook.services", ("hours",), 0, 12),
    ("pricebook.services", ("bonus",), 0, 100),
    ("pricebook.materialsmarkup", ("percent",), 0, 50),
    ("accounting.payment_terms", ("paymentTermDiscountModel", "discount"), 0, 20),
    ("service_agreements.service_agreements", ("laborMarkupPercentage",), 0, 50),
    ("memberships.invoice_templates", ("items", "hours"), 0, 12),
    ("inventory.purchase_orders_requests", ("items", "quantity"), 1, 9),
]


def read_numbers(value: Any, path: tuple[str, ...]) -> list[float]:
    if isinstance(value, list):
        return [number for each in value for number in read_numbers(each, path)]
    if not path or value is None:
        return [] if value is None else [value]
    return read_numbers(value.get(path[0]), path[1:])


@pytest.mark.parametrize(("table", "path", "low", "high"), NUMBERS)
def test_numbers_are_as_large_as_their_names_say(
    world: World, table: str, path: tuple[str, ...], low: float, high: float
) -> None:
    found = read_numbers(world.records(table), path)
    assert found
    assert all(low <= number <= high for number in found)


def test_ranges_and_funnels_descend(world: World) -> None:
    markups = world.records("pricebook.materialsmarkup")
    assert markups
    assert all(markup["from"] <= markup["to"] for markup in markups)
    rows = world.records("marketing_ads.performance")
    for row in rows:
        digital, leads = row["digitalStats"], row["leadStats"]
        if digital:
            assert digital["clicks"] <= digital["impressions"]
        if leads:
            assert leads["bookedJobs"] <= leads["leads"]


def test_people_are_paid_a_plausible_year(world: World) -> None:
    hours: dict[int, float] = defaultdict(float)
    pay: dict[int, float] = defaultdict(float)
    for item in world.records("payroll.gross_pay_items"):
        if "2025-02-24" <= item["date"] < "2026-02-23":
            hours[item["employeeId"]] += item["paidDurationHours"] or 0
            pay[item["employeeId"]] += item["amount"]
    technicians = [key for key, t in by_id(world, "settings.technicians").items() if t["active"]]
    office = {person["id"]: person for person in world.records("settings.employees")}
    assert all(1900 < hours[key] < 2300 for key in technicians)
    assert all(45_000 < pay[key] < 95_000 for key in technicians)
    assert sum(pay[key] for key in office) < sum(pay[key] for key in technicians)
    assert [person["role"] for person in office.values()].count("Owner") == 1


def test_only_inactive_people_have_left_and_all_were_hired_before_their_first_pay(
    world: World,
) -> None:
    first: dict[int, str] = {}
    for item in world.records("payroll.gross_pay_items"):
        first[item["employeeId"]] = min(item["date"], first.get(item["employeeId"], "9"))
    settings = world.records("payroll.payroll_settings")
    assert all(row["hireDate"] < first[row["employeeId"]] for row in settings)
    for person in world.records("settings.employees"):
        assert (person["terminationDate"] is not None) == (not person["active"])


def test_the_dates_of_an_invoice_agree(world: World) -> None:
    jobs = by_id(world, "jpm.jobs")
    deposited = 0
    for invoice in world.records("accounting.invoices"):
        if invoice["depositedOn"]:
            deposited += 1
            assert invoice["depositedOn"] > invoice["paidOn"]
        if invoice["job"]:
            completed = jobs[invoice["job"]["id"]]["completedOn"]
            assert invoice["commissionEligibilityDate"] == completed
    assert deposited


def test_the_equipment_of_a_job_is_at_its_location(world: World) -> None:
    equipment = by_id(world, "equipment_systems.installed_equipment")
    pairs = [(job, key) for job in world.records("jpm.jobs") for key in job["equipmentIds"]]
    assert pairs
    assert all(equipment[key]["locationId"] == job["locationId"] for job, key in pairs)


def test_the_type_and_the_recording_of_a_call_agree(world: World) -> None:
    jobs, exported = by_id(world, "jpm.jobs"), by_id(world, "telecom.calls_export")
    by_number = {job["jobNumber"]: job for job in jobs.values()}
    for call in world.records("telecom.calls"):
        url = call["leadCall"]["recordingUrl"]
        assert url == exported[call["id"]]["recordingUrl"]
        if call["jobNumber"]:
            assert call["type"]["id"] == by_number[call["jobNumber"]]["jobTypeId"]


def test_the_addresses_of_an_invoice_are_those_of_the_customer_and_the_location(
    world: World,
) -> None:
    customers, locations = by_id(world, "crm.customers"), by_id(world, "crm.locations")
    for invoice in world.records("accounting.invoices"):
        for name, owners in (("customer", customers), ("location", locations)):
            given, own = invoice[f"{name}Address"], owners[invoice[name]["id"]]["address"]
            assert all(given[part] == own[part] for part in ("street", "city", "state", "zip"))


def test_only_one_campaign_is_the_default(world: World) -> None:
    campaigns = world.records("marketing.campaigns")
    assert [campaign["isDefaultCampaign"] for campaign in campaigns].count(True) == 1


def test_nested_accounts_equal_the_ledger(world: World) -> None:
    ledger = by_id(world, "accounting.gl_accounts")
    for payment in world.records("accounting.ap_payments"):
        if account := payment["glAccount"]:
            assert account["type"] == ledger[account["id"]]["type"]


def find_addresses(value: Any) -> Iterator[Record]:
    if isinstance(value, dict):
        if {"city", "state", "zip"} <= value.keys():
            yield value
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from find_addresses(each)


ADDRESSES = (
    "accounting.ap_bills",
    "crm.bookings",
    "crm.locations",
    "inventory.purchase_orders",
    "inventory.vendors",
    "inventory.warehouses",
    "settings.business_units",
    "settings.technicians",
)


@pytest.mark.parametrize("seed", [7, 8])
def test_a_city_has_its_own_state_and_zip_code(world: World, seed: int) -> None:
    if seed != world.seed:
        world = World(seed=seed, customers=20, history_days=60, now=NOW)
    places = {city: (state, code) for city, state, code in world.company.profile.cities}
    for table in ADDRESSES:
        found = [a for a in find_addresses(world.records(table)) if a["city"]]
        assert found, table
        for address in found:
            state, code = places[address["city"]]
            assert address["state"] in (state, None)
            assert address["zip"] in (code, "-", None), "dispatchers type anything"


def test_the_summary_of_a_job_says_what_its_type_is_for(world: World) -> None:
    assert REQUESTS.keys() == WORK.keys()
    types = by_id(world, "jpm.job_types")
    for table in ("jpm.jobs", "crm.leads", "crm.bookings"):
        records = [record for record in world.records(table) if record["jobTypeId"]]
        assert records
        for record in records:
            requests = REQUESTS[types[record["jobTypeId"]]["name"]]
            assert any(request in record["summary"] for request in requests)
    summaries = [job["summary"] for job in world.records("jpm.jobs")]
    assert len(set(summaries)) > len(REQUESTS) * 2
    assert any(summary.startswith("<p>") for summary in summaries)


def test_only_customers_that_are_active_at_the_time_call_and_book(world: World) -> None:
    company = world.company
    moment = company.start + 365 * ticks.DAY
    for number in range(200):
        location = company.draw_location(random.Random(number), moment)
        assert location.moments[0] < moment, "not before being a customer"
        assert not 0 < location.deactivated <= moment


def test_a_visit_is_planned_for_as_long_as_its_work_may_take(world: World) -> None:
    jobs, types = by_id(world, "jpm.jobs"), by_id(world, "jpm.job_types")
    for visit in world.records("jpm.appointments"):
        start, end = (datetime.fromisoformat(visit[name][:19]) for name in ("start", "end"))
        shortest, longest = WORK[types[jobs[visit["jobId"]]["jobTypeId"]]["name"]].hours
        assert shortest <= (end - start).total_seconds() / 3600 <= longest


def test_customers_rate_most_visits_well(world: World) -> None:
    found = Counter(
        row["rating"] for row in world.records("customer_interactions.technician_ratings")
    )
    assert found[5] > found.total() * 0.4
    assert found[5] > found[4] > found[1] > 0


def test_later_options_of_an_estimate_are_dearer_and_deposits_are_a_share(world: World) -> None:
    options: dict[int, list[float]] = defaultdict(list)
    deposits = 0
    for estimate in world.records("salestech.estimates"):
        options[estimate["jobId"]].append(estimate["subtotal"])
        if estimate["depositAmount"] is not None:
            deposits += 1
            share = estimate["subtotal"] * estimate["depositPercent"] / 100
            assert estimate["depositAmount"] == pytest.approx(share, abs=0.01)
            assert estimate["requireDepositOnSignature"]
    assert deposits
    assert any(len(prices) > 1 for prices in options.values())
    assert all(prices == sorted(prices) for prices in options.values())


def test_add_ons_cost_less_than_the_same_item_alone(world: World) -> None:
    for table in ("services", "materials", "equipment"):
        for item in world.records(f"pricebook.{table}"):
            assert item["addOnMemberPrice"] < item["addOnPrice"] < item["price"]


def test_orders_are_required_after_they_are_made(world: World) -> None:
    for order in world.records("inventory.purchase_orders"):
        assert order["requiredOn"] >= (order["sentOn"] or order["createdOn"])


def test_the_company_of_the_demo_earns_more_than_it_pays_its_people() -> None:
    company = World(customers=2000, now=NOW).company
    pay = sum(item.cents for item in company.chapter(PayrollOffice).items)
    revenue = sum(job.total for job in company.jobs if job.done)
    assert 0.2 < pay / revenue < 0.75
