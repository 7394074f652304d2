from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from st_pipelines.sandbox.server import Sandbox
from st_pipelines_tests.sandbox.client import Client, ids
from st_pipelines_tests.sandbox.conftest import NO_LIMIT, NOW


def test_an_export_is_read_in_batches_that_hold_every_record_once() -> None:
    with Sandbox(customers=60, now=NOW, requests_per_second=NO_LIMIT, export_batch=40) as sandbox:
        client = Client(sandbox)
        found, token, more = [], "", True
        while more:
            body = client.export("jpm.jobs", **{"from": token}).json()
            found += body["data"]
            token, more = body["continueFrom"], body["hasMore"]

        held = sandbox.world.export_records("jpm.jobs")
        assert len(held) > 80
        assert sorted(ids(found)) == sorted(ids(held))
        assert [row for row in held if row not in found] == []


def test_an_export_goes_by_time_of_modification(shared: Client) -> None:
    table = shared.sandbox.world.table("jpm.jobs")
    times = dict(zip(table.keys, table.modified, strict=True))

    found = [times[job] for job in ids(shared.exported("jpm.jobs"))]

    assert found == sorted(found)


def test_the_last_token_yields_later_changes_and_nothing_else(client: Client) -> None:
    world = client.sandbox.world
    token = client.export("jpm.jobs").json()["continueFrom"]
    assert client.exported("jpm.jobs", **{"from": token}) == []

    job = world.records("jpm.jobs")[3]["id"]
    world.change("jpm.jobs", job, priority="Urgent")
    world.move(timedelta(minutes=16))

    found = client.exported("jpm.jobs", **{"from": token})
    assert job in ids(found)
    assert all(row["modifiedOn"] >= "2026-03-10T15:1" for row in found)


def test_changes_of_one_moment_are_not_lost_between_two_tokens(client: Client) -> None:
    world = client.sandbox.world
    first, second = ids(world.records("jpm.jobs"))[:2]
    recent = {"includeRecentChanges": "true"}
    world.change("jpm.jobs", second)
    token = client.export("jpm.jobs", **recent).json()["continueFrom"]
    # The same `modifiedOn`, and a lower id.
    world.change("jpm.jobs", first)

    assert ids(client.exported("jpm.jobs", **{"from": token}, **recent)) == [first]


def test_a_change_is_held_back_for_fifteen_minutes(client: Client) -> None:
    world = client.sandbox.world
    job = world.create("jpm.jobs")

    assert job not in ids(client.exported("jpm.jobs"))
    assert job in ids(client.exported("jpm.jobs", includeRecentChanges="true"))
    world.move(timedelta(minutes=15))
    assert job in ids(client.exported("jpm.jobs"))


def test_from_takes_a_date_and_includes_it(client: Client) -> None:
    world = client.sandbox.world
    job = world.create("jpm.jobs", modifiedOn=datetime(2026, 2, 1, tzinfo=NOW.tzinfo))

    assert job in ids(client.exported("jpm.jobs", **{"from": "2026-02-01"}))
    assert job not in ids(client.exported("jpm.jobs", **{"from": "2026-02-01T00:00:01Z"}))


def test_a_token_is_good_for_its_own_export_only(shared: Client) -> None:
    token = shared.export("jpm.jobs").json()["continueFrom"]

    refused = shared.export("crm.customers", **{"from": token})
    assert refused.status_code == 400
    assert "from" in refused.json()["errors"]
    assert shared.export("jpm.jobs", **{"from": "gibberish"}).status_code == 400


def test_an_export_includes_inactive_records_and_marks_them(client: Client) -> None:
    world = client.sandbox.world
    world.deactivate("jpm.jobs", job := world.create("jpm.jobs"))

    rows = client.exported("jpm.jobs", includeRecentChanges="true")

    marks = {row["id"]: row["active"] for row in rows}
    assert marks[job] is False
    assert True in marks.values()


@pytest.mark.parametrize(
    ("table", "default"), [("dispatch.appointment_assignments", False), ("jpm.appointments", True)]
)
def test_only_the_export_of_assignments_hides_inactive_ones(
    client: Client, table: str, default: bool
) -> None:
    world = client.sandbox.world
    world.deactivate(table, key := world.create(table))
    recent = {"includeRecentChanges": "true"}

    assert (key in ids(client.exported(table, **recent))) is default
    assert key in ids(client.exported(table, active="Any", **recent))


def test_a_deleted_record_is_nowhere_until_it_is_revived(client: Client) -> None:
    world = client.sandbox.world
    job = ids(world.records("jpm.jobs"))[0]
    recent = {"includeRecentChanges": "true"}
    world.delete("jpm.jobs", job)
    assert job not in ids(client.exported("jpm.jobs", **recent)) + ids(client.rows("jpm.jobs"))

    world.revive("jpm.jobs", job)
    assert client.exported("jpm.jobs", **recent)[-1]["id"] == job
    assert job in ids(client.rows("jpm.jobs"))


def test_history_is_exported_by_job_with_the_events_inside(shared: Client) -> None:
    rows = shared.exported("jpm.job_history")
    events = [event for row in rows for event in row["history"]]

    assert set(rows[0]) == {"jobId", "history"}
    assert len({event["id"] for event in events}) == len(events) > len(rows)
