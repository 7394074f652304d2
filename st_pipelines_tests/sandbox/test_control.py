"""Driving the sandbox from outside, and what may stand between it and its clients."""

from __future__ import annotations

from typing import Any

import requests
from starlette.requests import Request
from starlette.responses import Response

from st_pipelines.sandbox.server import Sandbox
from st_pipelines_tests.sandbox.client import Client, ids
from st_pipelines_tests.sandbox.conftest import NO_LIMIT, NOW


def control(client: Client, name: str, **body: Any) -> requests.Response:
    return requests.post(f"{client.sandbox.url}/_sandbox/{name}", json=body)


def test_time_can_be_moved_and_set_from_outside(client: Client) -> None:
    control(client, "now", move_seconds=90)
    assert client.sandbox.world.now.isoformat() == "2026-03-10T15:31:30+00:00"

    control(client, "now", now="2026-03-12T00:00:00Z")
    assert client.sandbox.world.now.isoformat() == "2026-03-12T00:00:00+00:00"
    assert control(client, "now", now="2026-03-11T00:00:00Z").status_code == 400


def test_records_can_be_created_changed_and_deleted_from_outside(client: Client) -> None:
    fields = {"jobNumber": "J1"}
    job = control(client, "change", action="create", table="jpm.jobs", fields=fields).json()["id"]
    control(client, "change", table="jpm.jobs", id=job, fields={"priority": "Urgent"})

    [row] = client.rows("jpm.jobs", ids=job)
    assert (row["jobNumber"], row["priority"]) == ("J1", "Urgent")

    control(client, "change", action="delete", table="jpm.jobs", id=job)
    assert client.rows("jpm.jobs", ids=job) == []
    assert control(client, "change", action="explode", table="jpm.jobs", id=1).status_code == 400


def test_the_state_tells_time_records_and_requests(client: Client) -> None:
    jobs = client.rows("jpm.jobs")
    state = requests.get(f"{client.sandbox.url}/_sandbox/state").json()

    tenant = state["tenants"][client.sandbox.tenant_id]
    assert tenant["records"] == {"jpm.jobs": len(jobs)}
    assert tenant["now"] == NOW.isoformat()
    assert state["requests"]["/jpm/v2/tenant/{tenant}/jobs"] == 1


def test_a_fault_answers_before_the_sandbox_does(client: Client) -> None:
    def unavailable(request: Request) -> Response | None:
        return Response("<html>down</html>", 503) if "jobs" in request.url.path else None

    client.sandbox.interceptors.append(unavailable)

    assert client.list("jpm.jobs").status_code == 503
    assert client.list("crm.customers").status_code == 200


def test_large_bodies_are_packed_where_that_is_switched_on() -> None:
    with Sandbox(customers=60, now=NOW, requests_per_second=NO_LIMIT, gzip_level=1) as sandbox:
        client = Client(sandbox)
        packed = client.list("jpm.jobs")
        plain = client.session.get(packed.url, headers={"Accept-Encoding": "identity"})

        assert packed.headers["Content-Encoding"] == "gzip"
        assert "Content-Encoding" not in plain.headers
        assert packed.json() == plain.json()


def test_a_live_sandbox_moves_with_the_real_time() -> None:
    times = [100.0]
    with Sandbox(customers=20, now=NOW, live=True, clock=lambda: times[-1]) as sandbox:
        client = Client(sandbox)
        times.append(105.0)
        client.list("jpm.jobs")

        assert (sandbox.world.now - NOW).total_seconds() == 5


def test_tenants_hold_companies_of_their_own() -> None:
    with Sandbox(customers=30, now=NOW, tenants=2) as sandbox:
        first, second = (sandbox.worlds[known.tenant_id] for known in sandbox.tenants)

        assert first.records("jpm.jobs") != second.records("jpm.jobs")
        first.create("jpm.jobs", id=499_999_999)
        assert 499_999_999 not in ids(second.records("jpm.jobs"))
