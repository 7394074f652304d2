"""Calls, leads, bookings, estimates and the jobs that follow from them agree with each other."""

from __future__ import annotations

from collections import Counter, defaultdict
from decimal import Decimal
from typing import Any

import pytest

from st_pipelines.sandbox.planning.profile import choose_profile
from st_pipelines.sandbox.world import World
from st_pipelines_tests.sandbox.conftest import NOW

Record = dict[str, Any]


@pytest.fixture(scope="module", params=(7, 8))
def world(request: pytest.FixtureRequest) -> World:
    return World(seed=request.param, customers=400, now=NOW)


def by_id(world: World, table: str) -> dict[int, Record]:
    return {record["id"]: record for record in world.records(table)}


def count_outcomes(world: World) -> Counter[str | None]:
    return Counter(call["type"] for call in world.records("telecom.calls_export"))


def find_close_rate(world: World) -> float:
    """Jobs with a sold estimate, of the jobs whose estimates are two weeks old."""
    outcomes = defaultdict(set)
    for estimate in world.records("salestech.estimates"):
        if estimate["createdOn"] < "2026-02-20":
            outcomes[estimate["jobId"]].add(estimate["status"]["name"])
    return sum("Sold" in names for names in outcomes.values()) / len(outcomes)


def test_the_booking_rate_is_that_of_the_company(world: World) -> None:
    outcomes = count_outcomes(world)

    assert set(outcomes) == {"Booked", "Unbooked", "Excused", "NotLead", "Abandoned", None}
    rate = outcomes["Booked"] / (outcomes["Booked"] + outcomes["Unbooked"])
    assert abs(rate - choose_profile(world.seed).booking_rate) < 0.05
    assert 0.5 < rate < 0.95


def test_calls_have_the_agent_direction_and_duration_of_their_outcome(world: World) -> None:
    reasons = by_id(world, "jbce.call_reasons")

    for record in world.records("telecom.calls"):
        call = record["leadCall"]
        is_lead = call["callType"] in ("Booked", "Unbooked")
        hours, minutes, seconds = map(int, call["duration"].split(":"))
        assert not is_lead or hours * 3600 + minutes * 60 + seconds > 60
        assert (call["agent"] is None) == (call["callType"] == "Abandoned")
        assert (call["direction"] == "Outbound") == (call["callType"] is None)
        assert (record["jobNumber"] is not None) == (call["callType"] == "Booked")
        if call["callType"] in ("Unbooked", "Excused", "NotLead"):
            assert reasons[call["reason"]["id"]]["isLead"] == is_lead


def test_a_booked_call_and_its_job_refer_to_each_other(world: World) -> None:
    calls, jobs = by_id(world, "telecom.calls_export"), by_id(world, "jpm.jobs")

    booked = {call["job"]["id"]: call["id"] for call in calls.values() if call["job"]}
    referring = {key: job["leadCallId"] for key, job in jobs.items() if job["leadCallId"]}
    assert booked == referring
    for key, call_id in booked.items():
        assert calls[call_id]["customer"]["id"] == jobs[key]["customerId"]
        assert calls[call_id]["campaign"]["id"] == jobs[key]["campaignId"]


def test_a_converted_booking_and_its_job_refer_to_each_other(world: World) -> None:
    bookings, jobs = world.records("crm.bookings"), by_id(world, "jpm.jobs")

    converted = {row["jobId"]: row["id"] for row in bookings if row["status"] == "Converted"}
    assert converted == {key: j["bookingId"] for key, j in jobs.items() if j["bookingId"]}
    assert {row["status"] for row in bookings} >= {"Converted", "Dismissed"}
    assert all(row["jobId"] is None for row in bookings if row["status"] != "Converted")


def test_leads_follow_from_unbooked_calls_and_are_converted_for_a_customer(world: World) -> None:
    calls = by_id(world, "telecom.calls_export")
    leads = world.records("crm.leads")

    assert {lead["status"] for lead in leads} == {"Open", "Dismissed", "Converted"}
    for lead in leads:
        assert calls[lead["callId"]]["type"] == "Unbooked"
        assert calls[lead["callId"]]["lead"] == {"id": lead["id"]}
        assert lead["status"] != "Converted" or lead["customerId"]
        assert (lead["status"] == "Open") == (lead["followUpDate"] is not None)


def test_at_most_one_option_of_a_job_is_sold_and_its_work_becomes_a_job(world: World) -> None:
    estimates, jobs = by_id(world, "salestech.estimates"), by_id(world, "jpm.jobs")
    sold = Counter(e["jobId"] for e in estimates.values() if e["status"]["name"] == "Sold")
    following = [job for job in jobs.values() if job["createdFromEstimateId"]]

    assert set(sold.values()) == {1}
    assert abs(find_close_rate(world) - choose_profile(world.seed).close_rate) < 0.12
    assert following
    for job in following:
        estimate = estimates[job["createdFromEstimateId"]]
        assert estimate["status"]["name"] == "Sold"
        assert estimate["locationId"] == job["locationId"]
        assert estimate["soldOn"] < job["createdOn"]
        if job["jobStatus"] == "Completed":
            assert Decimal(str(job["total"])) == Decimal(str(estimate["subtotal"]))
    assert all(
        (estimate["soldOn"] is None) == (estimate["status"]["name"] != "Sold")
        for estimate in estimates.values()
    )


def test_recalls_are_free_and_repair_an_earlier_job_at_the_same_place(world: World) -> None:
    jobs = by_id(world, "jpm.jobs")
    repairs = [job for job in jobs.values() if job["recallForId"] or job["warrantyId"]]

    assert 0.005 < len(repairs) / len(jobs) < 0.08
    for job in repairs:
        original = jobs[job["recallForId"] or job["warrantyId"]]
        assert original["locationId"] == job["locationId"]
        assert original["completedOn"] < job["createdOn"]
        assert job["noCharge"]
        assert not job["total"]


def test_technicians_set_leads_on_jobs(world: World) -> None:
    jobs = by_id(world, "jpm.jobs")
    sources = [job["jobGeneratedLeadSource"] for job in jobs.values()]

    found = [source for source in sources if source]
    assert found
    assert {source["jobId"] for source in found} <= set(jobs)


def test_two_tenants_differ_in_names_places_and_rates() -> None:
    worlds = [World(seed=seed, customers=400, now=NOW) for seed in (7, 8)]
    names = [{unit["name"] for unit in w.records("settings.business_units")} for w in worlds]
    cities = [{c["address"]["city"] for c in w.records("crm.locations")} for w in worlds]
    outcomes = [count_outcomes(w) for w in worlds]
    rates = [o["Booked"] / (o["Booked"] + o["Unbooked"]) for o in outcomes]

    assert names[0].isdisjoint(names[1])
    assert cities[0].isdisjoint(cities[1])
    assert abs(rates[0] - rates[1]) > 0.05
    assert find_close_rate(worlds[0]) > find_close_rate(worlds[1])
