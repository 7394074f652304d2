"""Sessions of online schedulers lead to the bookings and jobs that other lists serve."""

from __future__ import annotations

from typing import Any

import pytest

from st_pipelines_tests.sandbox.client import Client

Record = dict[str, Any]
SCHEDULERS = "/schedulingpro/v2/tenant/{tenant}/schedulers"
WINDOW = {
    "sessionCreatedOnOrAfter": "2025-03-01T00:00:00Z",
    "sessionCreatedBefore": "2026-02-01T00:00:00Z",
}


def read(client: Client, path: str, **query: Any) -> Any:
    response = client.get(path, **query)
    assert response.status_code == 200, response.text
    return response.json()


@pytest.fixture(scope="module")
def sessions(shared: Client) -> dict[str, list[Record]]:
    """The sessions by scheduler."""
    schedulers = read(shared, SCHEDULERS)["data"]
    assert [scheduler["isDefault"] for scheduler in schedulers].count(True) == 1
    return {
        s["id"]: read(shared, f"{SCHEDULERS}/{s['id']}/sessions", pageSize=5000)["data"]
        for s in schedulers
    }


def test_every_booking_comes_from_one_session_of_the_same_day(
    shared: Client, sessions: dict[str, list[Record]]
) -> None:
    bookings = {b["id"]: b for b in shared.read_rows("crm.bookings")}
    booked = [s for rows in sessions.values() for s in rows if s["bookingId"]]

    assert sorted(s["bookingId"] for s in booked) == sorted(bookings)
    for session in booked:
        booking = bookings[session["bookingId"]]
        assert session["sessionOutcome"] == "Booked"
        assert session["createdOn"] < session["lastCheckinDate"] == booking["createdOn"]
        assert session["jobId"] == booking["jobId"]
        assert session["jobTypeId"] == booking["jobTypeId"]
        assert session["customer"]["id"]


def test_visitors_who_leave_have_no_booking(sessions: dict[str, list[Record]]) -> None:
    left = [s for rows in sessions.values() for s in rows if s["sessionOutcome"] == "Abandoned"]

    assert left
    for session in left:
        assert session["bookingId"] is session["jobId"] is session["customer"]["id"] is None
        assert session["lastStep"] != "booked"


def test_performance_counts_the_sessions_of_the_window(
    shared: Client, sessions: dict[str, list[Record]]
) -> None:
    for key, rows in sessions.items():
        first, last = WINDOW.values()
        inside = [s for s in rows if first <= s["createdOn"] < last]

        body = read(shared, f"{SCHEDULERS}/{key}/performance", **WINDOW)

        assert inside
        assert {s["schedulerId"] for s in rows} == {body["id"]} == {key}
        assert body["totalSessions"] == len(inside)
        assert body["totalBookingsCreated"] == sum(s["bookingId"] is not None for s in inside)
        assert body["totalJobsCreated"] == sum(s["jobId"] is not None for s in inside)
        counts = body["milestoneFrequencyCount"]
        assert counts["booked"] + counts["abandoned"] == counts["opened"] == len(inside)
