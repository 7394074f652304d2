"""The dispatch capacity, compared with a count of the records that the sandbox serves."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
import requests

from st_pipelines.sandbox.server import Sandbox
from st_pipelines_tests.sandbox.client import Client
from st_pipelines_tests.sandbox.conftest import NOW

CAPACITY = "/dispatch/v2/tenant/{tenant}/capacity"
START = datetime(2026, 3, 9, 4, tzinfo=timezone.utc)
"""Midnight of a Monday in New York."""


def post_capacity(client: Client, **changes: Any) -> requests.Response:
    body = {
        "startsOnOrAfter": f"{START:%Y-%m-%dT%H:%M:%SZ}",
        "endsOnOrBefore": f"{START + timedelta(days=7):%Y-%m-%dT%H:%M:%SZ}",
        "skillBasedAvailability": False,
        **changes,
    }
    given = {name: value for name, value in body.items() if value != "leave out"}
    return client.session.post(client.url(CAPACITY), json=given)


def read_frames(client: Client, **changes: Any) -> list[dict[str, Any]]:
    response = post_capacity(client, **changes)
    assert response.status_code == 200, response.text
    return response.json()["availabilities"]


def parse(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def test_capacity_has_the_documented_members(shared: Client) -> None:
    body = post_capacity(shared).json()

    assert parse(body["timeStamp"]) == NOW
    frame = body["availabilities"][0]
    assert set(frame) == {
        "start",
        "end",
        "startUtc",
        "endUtc",
        "businessUnitIds",
        "totalAvailability",
        "openAvailability",
        "technicians",
        "isAvailable",
        "isExceedingIdealBookingPercentage",
    }
    assert set(frame["technicians"][0]) == {"id", "name", "status", "hasRequiredSkills"}
    assert {t["status"] for t in frame["technicians"]} <= {"Available", "Unavailable"}


def test_frames_lie_on_weekdays_in_the_requested_range(shared: Client) -> None:
    frames = read_frames(shared)
    later = (START + timedelta(hours=13)).strftime("%Y-%m-%dT%H:%M:%SZ")

    assert {parse(frame["startUtc"]).weekday() for frame in frames} == {0, 1, 2, 3, 4}
    assert all(parse(frame["start"]) == parse(frame["startUtc"]) for frame in frames)
    assert {frame["start"][11:] for frame in frames} == {
        f"{hour:02}:00:00-04:00" for hour in (8, 10, 12, 14, 16)
    }
    assert {f["startUtc"] for f in read_frames(shared, endsOnOrBefore=later)} == {
        "2026-03-09T12:00:00Z",
        "2026-03-09T14:00:00Z",
    }


def test_open_hours_are_those_of_the_crew_less_those_of_its_appointments(shared: Client) -> None:
    technicians = shared.read_rows("settings.technicians", active="True")
    visits = {v["id"]: v for v in shared.read_rows("jpm.appointments", active="True")}
    booked: dict[int, set[datetime]] = {t["id"]: set() for t in technicians}
    for assignment in shared.read_rows("dispatch.appointment_assignments", active="True"):
        visit = visits.get(assignment["appointmentId"])
        if visit and visit["status"] != "Canceled" and assignment["technicianId"] in booked:
            minutes = int((parse(visit["end"]) - parse(visit["start"])) / timedelta(minutes=1))
            booked[assignment["technicianId"]] |= {
                parse(visit["start"]) + timedelta(minutes=minute) for minute in range(minutes)
            }

    frames = read_frames(shared)

    for frame in frames:
        start, unit = parse(frame["startUtc"]), frame["businessUnitIds"]
        crew = [t["id"] for t in technicians if [t["businessUnitId"]] == unit]
        minutes = {start + timedelta(minutes=minute) for minute in range(120)}
        taken = {each: len(booked[each] & minutes) for each in crew}
        assert frame["totalAvailability"] == 2 * len(crew)
        assert frame["openAvailability"] == pytest.approx(2 * len(crew) - sum(taken.values()) / 60)
        assert {t["id"]: t["status"] for t in frame["technicians"]} == {
            each: "Unavailable" if taken[each] == 120 else "Available" for each in crew
        }
    assert any(frame["openAvailability"] < frame["totalAvailability"] for frame in frames)


def sum_open_hours(client: Client) -> float:
    return sum(frame["openAvailability"] for frame in read_frames(client))


def test_appointments_at_the_same_time_count_once_and_canceled_ones_never(client: Client) -> None:
    world = client.sandbox.world
    for visit in world.records("jpm.appointments"):
        world.change("jpm.appointments", visit["id"], status="Canceled")
    free = sum_open_hours(client)
    [first, *others] = client.read_rows("dispatch.appointment_assignments", active="True")
    second = next(o for o in others if o["technicianId"] == first["technicianId"])
    times = {"start": "2026-03-10T14:00:00Z", "end": "2026-03-10T15:30:00Z", "active": True}
    for assignment in (first, second):
        identity = assignment["appointmentId"]
        world.change("jpm.appointments", identity, status="Scheduled", **times)
    assert sum_open_hours(client) == pytest.approx(free - 1.5)

    world.change("jpm.appointments", second["appointmentId"], end="2026-03-10T16:00:00Z")
    assert sum_open_hours(client) == pytest.approx(free - 2)

    world.change("settings.technicians", first["technicianId"], active=False)
    assert sum_open_hours(client) < free - 2


def test_business_units_and_the_job_type_choose_the_frames(shared: Client) -> None:
    [first, second, *_] = shared.read_rows("settings.business_units", active="True")
    job_type = next(
        each
        for each in shared.read_rows("jpm.job_types", active="True")
        if each["businessUnitIds"] == [first["id"]]
    )

    units = {tuple(f["businessUnitIds"]) for f in read_frames(shared, jobTypeId=job_type["id"])}
    chosen = read_frames(shared, businessUnitIds=[second["id"]])

    assert units == {(first["id"],)}
    assert {tuple(frame["businessUnitIds"]) for frame in chosen} == {(second["id"],)}
    assert read_frames(shared, businessUnitIds=[first["id"]], jobTypeId=job_type["id"])
    assert not read_frames(shared, businessUnitIds=[second["id"]], jobTypeId=job_type["id"])


def test_skills_are_told_only_if_asked_for(shared: Client) -> None:
    job_type = shared.read_rows("jpm.job_types", active="True")[0]["id"]

    plain = read_frames(shared, jobTypeId=job_type)
    skilled = read_frames(shared, jobTypeId=job_type, skillBasedAvailability=True)

    assert {t["hasRequiredSkills"] for f in plain for t in f["technicians"]} == {None}
    assert {t["hasRequiredSkills"] for f in skilled for t in f["technicians"]} == {True}


@pytest.mark.parametrize("text", ["true", "False"])
def test_a_boolean_may_be_sent_as_text(shared: Client, text: str) -> None:
    """The Singer tap for ServiceTitan sends `"false"`."""
    frames = read_frames(shared, skillBasedAvailability=text)

    assert frames == read_frames(shared, skillBasedAvailability=text == "true")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("startsOnOrAfter", "leave out"),
        ("endsOnOrBefore", "tomorrow"),
        ("endsOnOrBefore", "2026-03-01T00:00:00Z"),
        ("startsOnOrAfter", "2026-02-20T00:00:00Z"),
        ("skillBasedAvailability", "leave out"),
        ("skillBasedAvailability", "yes"),
        ("businessUnitIds", "1"),
        ("businessUnitIds", ["a"]),
        ("jobTypeId", "1"),
    ],
)
def test_a_body_that_is_not_valid_gets_a_400_that_names_the_member(
    shared: Client, name: str, value: Any
) -> None:
    response = post_capacity(shared, **{name: value})

    body = response.json()
    assert response.status_code == 400
    assert set(body) == {"type", "title", "status", "traceId", "errors", "data"}
    assert list(body["errors"]) == [name]


@pytest.mark.parametrize("content", [b"", b"[]", b"{"])
def test_a_body_that_is_no_object_gets_a_400(shared: Client, content: bytes) -> None:
    assert shared.session.post(shared.url(CAPACITY), data=content).status_code == 400


def test_capacity_needs_its_scope_a_token_and_post() -> None:
    with Sandbox(customers=20, now=NOW, scopes=["tn.jpm.jobs:r"]) as sandbox:
        client = Client(sandbox)
        refused = post_capacity(client)
        assert (refused.status_code, refused.content) == (403, b"")
        assert client.get(CAPACITY).status_code == 404
        client.session.headers.pop("Authorization")
        assert post_capacity(client).status_code == 401


def test_capacity_counts_towards_the_rate_limit() -> None:
    with Sandbox(customers=20, now=NOW, requests_per_second=1, clock=lambda: 5.0) as sandbox:
        client = Client(sandbox)
        assert [post_capacity(client).status_code for _ in range(2)] == [200, 429]
