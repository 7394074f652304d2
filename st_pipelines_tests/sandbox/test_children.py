"""Children that no collection lists: notes, files and the booking of a job, from the plan."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from st_pipelines.sandbox.ids import USER_IDS
from st_pipelines_tests.sandbox.client import Client

Record = dict[str, Any]
TENANT = "/tenant/{tenant}"


def read_children(client: Client, path: str, **query: Any) -> list[Record]:
    response = client.get(path, **query)
    assert response.status_code == 200, response.text
    return response.json()["data"]


def find_users(client: Client, table: str) -> set[int]:
    return {row["id"] + USER_IDS for row in client.read_rows(table, active="Any")}


def read_notes(client: Client, owners: str, count: int = 40) -> Iterator[tuple[Record, Record]]:
    """Return notes of the oldest records, each with the record."""
    for owner in client.read_rows(f"crm.{owners}", pageSize=count, sort="+Id"):
        for note in read_children(client, f"/crm/v2{TENANT}/{owners}/{owner['id']}/notes"):
            yield owner, note


@pytest.mark.parametrize("owners", ["customers", "leads", "locations"])
def test_notes_are_written_by_the_office_after_their_record_was_created(
    shared: Client, owners: str
) -> None:
    office = find_users(shared, "settings.employees")
    now = shared.sandbox.world.now.isoformat()
    notes = list(read_notes(shared, owners))

    assert len(notes) > 10
    assert len({note["id"] for _, note in notes}) == len(notes)
    for owner, note in notes:
        assert note["createdById"] in office
        assert note["text"]
        assert "{" not in note["text"]
        # One location has a `createdOn` of the year 1, as real ones do.
        assert owner["createdOn"] <= note["createdOn"] <= note["modifiedOn"] <= now


def test_notes_of_a_lead_end_with_it(shared: Client) -> None:
    closed = [
        (lead, note)
        for lead, note in read_notes(shared, "leads")
        if lead["status"] in ("Converted", "Dismissed")
    ]

    assert closed
    assert all(note["modifiedOn"] <= lead["modifiedOn"] for lead, note in closed)


def test_notes_can_be_filtered_by_their_times(shared: Client) -> None:
    owner, note = next(read_notes(shared, "customers"))
    path = f"/crm/v2{TENANT}/customers/{owner['id']}/notes"

    later = read_children(shared, path, createdOnOrAfter=note["createdOn"])
    earlier = read_children(shared, path, createdBefore=note["createdOn"])

    assert note in later
    assert note not in earlier
    assert len(later) + len(earlier) == len(read_children(shared, path))


def test_the_files_of_a_completed_job_are_added_during_the_visit(shared: Client) -> None:
    technicians = find_users(shared, "settings.technicians")
    sheets = {s["jobId"]: s for s in shared.read_rows("payroll.jobs_timesheets")}
    found = 0
    for job in shared.read_rows("jpm.jobs", jobStatus="Completed", pageSize=20):
        for file in read_children(shared, f"/forms/v2{TENANT}/jobs/{job['id']}/attachments"):
            found += 1
            assert set(file) == {"id", "fileName", "createdById", "createdOn"}
            assert file["createdById"] in technicians
            sheet = sheets[job["id"]]
            assert sheet["arrivedOn"] < file["createdOn"] < sheet["doneOn"]
    assert found > 20


def test_files_can_be_filtered_and_sorted(shared: Client) -> None:
    jobs = shared.read_rows("jpm.jobs", jobStatus="Completed", pageSize=20)
    paths = [f"/forms/v2{TENANT}/jobs/{job['id']}/attachments" for job in jobs]
    path = next(path for path in paths if len(read_children(shared, path)) > 1)
    files = read_children(shared, path, sort="+CreatedOn")

    assert [f["createdOn"] for f in files] == sorted(f["createdOn"] for f in files)
    since = files[1]["createdOn"]
    assert read_children(shared, path, sort="+CreatedOn", createdOnOrAfter=since) == files[1:]
    assert read_children(shared, path, createdBefore=since) == files[:1]
    [page] = read_children(shared, path, sort="+CreatedOn", page=2, pageSize=1)
    assert page == files[1]


def test_the_booking_of_a_job_agrees_with_the_job(shared: Client) -> None:
    appointments = {a["id"]: a for a in shared.read_rows("jpm.appointments")}
    for job in shared.read_rows("jpm.jobs", pageSize=10):
        log = shared.get(f"/jpm/v2{TENANT}/jobs/{job['id']}/booked-log").json()

        assert log["jobId"] == job["id"]
        assert log["jobAppointmentId"] == job["firstAppointmentId"]
        assert log["start"] == appointments[job["firstAppointmentId"]]["start"]
        assert log["createdOn"] == job["createdOn"]
        assert log["createdById"] == job["createdById"]


def test_the_last_change_of_an_estimate_led_to_its_status(shared: Client) -> None:
    statuses = set()
    for estimate in shared.read_rows("salestech.estimates", pageSize=25):
        response = shared.get(f"/sales/v2{TENANT}/status/estimates/{estimate['id']}/changes")
        changes = sorted(response.json(), key=lambda change: change["createdOn"])

        assert (changes[0]["oldStatus"], changes[0]["newStatus"]) == (None, "Open")
        assert changes[0]["createdOn"] == estimate["createdOn"]
        assert changes[-1]["newStatus"] == estimate["status"]["name"]
        if estimate["soldOn"]:
            assert changes[-1]["createdOn"] == estimate["soldOn"]
        statuses.add(changes[-1]["newStatus"])
    assert statuses == {"Open", "Sold", "Dismissed"}
