"""Projects agree with their jobs, invoices and notes."""

from __future__ import annotations

from typing import Any

import pytest

from st_pipelines.sandbox.world import World
from st_pipelines_tests.sandbox.conftest import NOW


@pytest.fixture(scope="module")
def world() -> World:
    return World(customers=200, now=NOW)


def by_id(world: World, table: str) -> dict[int, dict[str, Any]]:
    return {record["id"]: record for record in world.records(table)}


def test_a_project_agrees_with_its_job(world: World) -> None:
    jobs, statuses = by_id(world, "jpm.jobs"), by_id(world, "jpm.project_statuses")
    types, managers = by_id(world, "jpm.project_types"), by_id(world, "settings.employees")
    projects = by_id(world, "jpm.projects")

    assert {p["status"] for p in projects.values()} >= {"Completed", "Canceled"}
    for key, project in projects.items():
        [job] = [jobs[job_id] for job_id in project["jobIds"]]
        assert job["projectId"] == key
        assert project["customerId"] == job["customerId"]
        assert project["locationId"] == job["locationId"]
        assert project["createdOn"] == job["createdOn"]
        assert project["modifiedOn"] == job["modifiedOn"]
        assert project["status"] == statuses[project["statusId"]]["name"]
        assert (job["jobStatus"] == "Completed") == (project["status"] == "Completed")
        assert (project["actualCompletionDate"] is None) == (job["completedOn"] is None)
        assert project["projectTypeId"] in types
        assert set(project["projectManagerIds"]) <= managers.keys()


def test_a_job_has_a_project_if_it_does_the_work_of_an_estimate(world: World) -> None:
    projects = by_id(world, "jpm.projects")
    [first, *jobs] = sorted(world.records("jpm.jobs"), key=lambda job: job["id"])

    assert first["projectId"] in projects
    for job in jobs:
        assert (job["projectId"] is not None) == (job["createdFromEstimateId"] is not None)
        assert job["projectId"] is None or job["projectId"] in projects


def test_invoices_and_orders_of_a_job_are_in_its_project(world: World) -> None:
    jobs = by_id(world, "jpm.jobs")
    for table in ("accounting.invoices", "inventory.purchase_orders", "salestech.estimates"):
        for record in world.records(table):
            job_id = record["job"]["id"] if record.get("job") else record.get("jobId")
            expected = jobs[job_id]["projectId"] if job_id else None
            assert record["projectId"] == expected


def test_notes_are_written_after_the_project_was_created(world: World) -> None:
    projects = by_id(world, "jpm.projects")
    notes = world.records("jpm.project_notes")

    assert notes
    for note in notes:
        assert projects[note["projectId"]]["createdOn"] < note["createdOn"]
