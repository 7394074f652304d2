"""Export feeds: batches, continuation tokens, the delay, and inactive records."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from st_pipelines.sandbox.server import Sandbox
from st_pipelines_tests.sandbox.client import Client, get_ids
from st_pipelines_tests.sandbox.conftest import NO_LIMIT, NOW


def test_the_batches_of_an_export_contain_every_record_once() -> None:
    with Sandbox(customers=60, now=NOW, requests_per_second=NO_LIMIT, export_batch=40) as sandbox:
        client = Client(sandbox)
        found, token, more = [], "", True
        while more:
            body = client.request_export("jpm.jobs", **{"from": token}).json()
            found += body["data"]
            token, more = body["continueFrom"], body["hasMore"]

        records = sandbox.world.export_records("jpm.jobs")
        assert len(records) > 80
        assert sorted(get_ids(found)) == sorted(get_ids(records))
        assert [row for row in records if row not in found] == []


def test_an_export_is_ordered_by_time_of_modification(shared: Client) -> None:
    table = shared.sandbox.world.table("jpm.jobs")
    times = dict(zip(table.keys, table.modified, strict=True))

    found = [times[job] for job in get_ids(shared.read_export("jpm.jobs"))]

    assert found == sorted(found)


def test_the_last_token_returns_later_changes_only(client: Client) -> None:
    world = client.sandbox.world
    token = client.request_export("jpm.jobs").json()["continueFrom"]
    assert client.read_export("jpm.jobs", **{"from": token}) == []

    job = world.records("jpm.jobs")[3]["id"]
    world.change("jpm.jobs", job, priority="Urgent")
    world.move(timedelta(minutes=16))

    found = client.read_export("jpm.jobs", **{"from": token})
    assert job in get_ids(found)
    assert all(row["modifiedOn"] >= "2026-03-10T15:1" for row in found)


def test_changes_with_equal_times_are_not_lost_between_two_tokens(client: Client) -> None:
    world = client.sandbox.world
    first, second = get_ids(world.records("jpm.jobs"))[:2]
    recent = {"includeRecentChanges": "true"}
    world.change("jpm.jobs", second)
    token = client.request_export("jpm.jobs", **recent).json()["continueFrom"]
    # The same `modifiedOn`, and a lower id.
    world.change("jpm.jobs", first)

    assert get_ids(client.read_export("jpm.jobs", **{"from": token}, **recent)) == [first]


def test_a_change_appears_in_the_export_after_fifteen_minutes(client: Client) -> None:
    world = client.sandbox.world
    job = world.create("jpm.jobs")

    assert job not in get_ids(client.read_export("jpm.jobs"))
    assert job in get_ids(client.read_export("jpm.jobs", includeRecentChanges="true"))
    world.move(timedelta(minutes=15))
    assert job in get_ids(client.read_export("jpm.jobs"))


def test_from_accepts_a_date_and_includes_it(client: Client) -> None:
    world = client.sandbox.world
    job = world.create("jpm.jobs", modifiedOn=datetime(2026, 2, 1, tzinfo=NOW.tzinfo))

    assert job in get_ids(client.read_export("jpm.jobs", **{"from": "2026-02-01"}))
    assert job not in get_ids(client.read_export("jpm.jobs", **{"from": "2026-02-01T00:00:01Z"}))


def test_a_date_begins_in_the_time_zone_of_the_exports() -> None:
    """A later date at Etc/GMT+12 than in UTC: the zone that is meant is not documented."""
    with Sandbox(customers=2, now=NOW, export_timezone="Etc/GMT+12") as sandbox:
        client = Client(sandbox)
        for hour in (11, 12):
            sandbox.world.create(
                "jpm.jobs", modifiedOn=datetime(2026, 2, 1, hour, tzinfo=NOW.tzinfo)
            )
        late = client.read_export("jpm.jobs", **{"from": "2026-02-01"})
        earliest = client.read_export("jpm.jobs", **{"from": "2026-02-01T00:00:00Z"})
    assert min(row["modifiedOn"] for row in late) == "2026-02-01T12:00:00Z"
    assert len(earliest) >= len(late) + 1


def test_a_token_is_valid_for_its_own_export_only(shared: Client) -> None:
    token = shared.request_export("jpm.jobs").json()["continueFrom"]

    refused = shared.request_export("crm.customers", **{"from": token})
    assert refused.status_code == 400
    assert "from" in refused.json()["errors"]
    assert shared.request_export("jpm.jobs", **{"from": "gibberish"}).status_code == 400


def test_an_export_includes_inactive_records_and_marks_them(client: Client) -> None:
    world = client.sandbox.world
    world.deactivate("jpm.jobs", job := world.create("jpm.jobs"))

    rows = client.read_export("jpm.jobs", includeRecentChanges="true")

    marks = {row["id"]: row["active"] for row in rows}
    assert marks[job] is False
    assert True in marks.values()


@pytest.mark.parametrize(
    ("table", "default"), [("dispatch.appointment_assignments", False), ("jpm.appointments", True)]
)
def test_only_the_export_of_assignments_hides_inactive_records(
    client: Client, table: str, default: bool
) -> None:
    world = client.sandbox.world
    world.deactivate(table, key := world.create(table))
    recent = {"includeRecentChanges": "true"}

    assert (key in get_ids(client.read_export(table, **recent))) is default
    assert key in get_ids(client.read_export(table, active="Any", **recent))


def test_a_deleted_record_is_not_served_until_it_is_revived(client: Client) -> None:
    world = client.sandbox.world
    job = get_ids(world.records("jpm.jobs"))[0]
    recent = {"includeRecentChanges": "true"}
    world.delete("jpm.jobs", job)
    assert job not in get_ids(client.read_export("jpm.jobs", **recent)) + get_ids(
        client.read_rows("jpm.jobs")
    )

    world.revive("jpm.jobs", job)
    assert client.read_export("jpm.jobs", **recent)[-1]["id"] == job
    assert job in get_ids(client.read_rows("jpm.jobs"))


def test_the_export_of_job_history_nests_events_in_jobs(shared: Client) -> None:
    rows = shared.read_export("jpm.job_history")
    events = [event for row in rows for event in row["history"]]

    assert set(rows[0]) == {"jobId", "history"}
    assert len({event["id"] for event in events}) == len(events) > len(rows)
