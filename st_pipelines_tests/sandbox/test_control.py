"""The control endpoints, interceptors, gzip, live time, and several tenants."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import timedelta
from typing import Any

import pytest
import requests
from starlette.requests import Request
from starlette.responses import Response

from st_pipelines.sandbox.server import Sandbox
from st_pipelines_tests.sandbox.client import Client, get_ids
from st_pipelines_tests.sandbox.conftest import NO_LIMIT, NOW


def post_control(client: Client, name: str, **body: Any) -> requests.Response:
    return requests.post(f"{client.sandbox.url}/_sandbox/{name}", json=body)


def test_time_can_be_moved_and_set_by_http(client: Client) -> None:
    post_control(client, "now", move_seconds=90)
    assert client.sandbox.world.now.isoformat() == "2026-03-10T15:31:30+00:00"

    post_control(client, "now", now="2026-03-12T00:00:00Z")
    assert client.sandbox.world.now.isoformat() == "2026-03-12T00:00:00+00:00"
    assert post_control(client, "now", now="2026-03-11T00:00:00Z").status_code == 400


def test_records_can_be_created_changed_and_deleted_by_http(client: Client) -> None:
    fields = {"jobNumber": "J1"}
    job = post_control(client, "change", action="create", table="jpm.jobs", fields=fields).json()[
        "id"
    ]
    post_control(client, "change", table="jpm.jobs", id=job, fields={"priority": "Urgent"})

    [row] = client.read_rows("jpm.jobs", ids=job)
    assert (row["jobNumber"], row["priority"]) == ("J1", "Urgent")

    post_control(client, "change", action="delete", table="jpm.jobs", id=job)
    assert client.read_rows("jpm.jobs", ids=job) == []
    assert (
        post_control(client, "change", action="explode", table="jpm.jobs", id=1).status_code == 400
    )


ACTING = {"table": "jpm.jobs", "action": "change"}


@pytest.mark.parametrize(
    ("name", "body", "named"),
    [
        ("reports", "", "running_seconds"),
        ("reports", "[1]", "the body is not an object"),
        ("reports", "[" * 100_000, "the body is not JSON"),
        ("reports", b"\xff", "the body is not JSON"),
        ("reports", {"running_seconds": "x"}, "running_seconds: "),
        ("reports", {"running_seconds": None}, "running_seconds: null is not a number of seconds"),
        ("reports", {"interval_seconds": True}, "interval_seconds: true"),
        ("reports", '{"interval_seconds": NaN}', "interval_seconds: NaN"),
        ("reports", '{"interval_seconds": 1e400}', "interval_seconds: Infinity"),
        ("reports", {"skip_seconds": -1}, "skip_seconds: -1"),
        ("reports", {"slots": 1.5}, "slots: 1.5 is not an integer"),
        ("reports", {"maintenance": "no"}, 'maintenance: "no" is not true or false'),
        ("reports", {"interval": 1}, "interval: there is no such setting; name one of interval_"),
        ("reports", {"slots": 1, "interval": 1}, "interval: "),
        ("now", "", "now, move_seconds"),
        ("now", {}, "either now or move_seconds"),
        ("now", {"now": "2026-03-12T00:00Z", "move_seconds": 1}, "either now or move_seconds"),
        ("now", {"now": 5}, "now: 5 is not a time"),
        ("now", {"now": "tomorrow"}, 'now: "tomorrow" is not a time'),
        ("now", {"now": "2026-03-09T00:00:00Z"}, "now: time only moves forward"),
        ("now", {"move_seconds": "1"}, "move_seconds: "),
        ("now", {"move_seconds": 1e300}, "move_seconds: "),
        ("change", "null", "the body is not an object"),
        ("change", {}, "table: "),
        ("change", {"table": "jpm.jbos", "id": 1}, "table: there is no collection 'jpm.jbos'"),
        ("change", {"table": ["jpm.jobs"], "id": 1}, "table: "),
        ("change", {**ACTING, "tenant": "4711"}, "tenant: "),
        ("change", {**ACTING, "tenant": {}}, "tenant: {} is not one of"),
        ("change", {**ACTING, "action": "explode"}, "action: "),
        ("change", ACTING, "id: jpm.jobs has no record None"),
        ("change", {**ACTING, "id": [1]}, "id: jpm.jobs has no record [1]"),
        ("change", {**ACTING, "action": "create", "fields": [1]}, "fields: [1] is not an object"),
        (
            "change",
            {**ACTING, "action": "create", "fields": {"completedOn": 5}},
            "fields.completedOn: 5 is not of the type string",
        ),
        (
            "change",
            {**ACTING, "action": "create", "fields": {"completedOn": "x"}},
            'fields.completedOn: "x" is not a time',
        ),
        (
            "change",
            {**ACTING, "action": "create", "fields": {"tagTypeIds": ["x"]}},
            'fields.tagTypeIds[]: "x" is not of the type integer',
        ),
    ],
)
def test_a_wrong_body_changes_nothing_and_the_answer_names_the_setting(
    client: Client, name: str, body: str | bytes | dict[str, Any], named: str
) -> None:
    """A value of the wrong type was stored, and later requests failed with 500."""
    sandbox, sent = client.sandbox, json.dumps(body) if isinstance(body, dict) else body
    before = (sandbox.world.now, asdict(sandbox.reports.settings), sandbox.world.raw("jpm.jobs"))
    answer = requests.post(f"{sandbox.url}/_sandbox/{name}", data=sent)
    assert answer.status_code == 400
    assert named in answer.json()["error"]
    after = (sandbox.world.now, asdict(sandbox.reports.settings), sandbox.world.raw("jpm.jobs"))
    assert after == before


def test_fields_may_be_null_unknown_or_named_like_anything(client: Client) -> None:
    """`table` and `key` were taken for arguments of the method that changes the record."""
    fields = {"completedOn": None, "table": 1, "key": 2, "self": 3}
    for body in ({"action": "create"}, {"id": client.read_rows("jpm.jobs")[0]["id"]}):
        changed = post_control(client, "change", table="jpm.jobs", fields=fields, **body)
        [row] = client.read_rows("jpm.jobs", ids=changed.json()["id"])
        assert {name: row[name] for name in fields} == fields


def test_the_state_reports_time_records_and_requests(client: Client) -> None:
    jobs = client.read_rows("jpm.jobs")
    state = requests.get(f"{client.sandbox.url}/_sandbox/state").json()

    tenant = state["tenants"][client.sandbox.tenant_id]
    assert tenant["records"] == {"jpm.jobs": len(jobs)}
    assert tenant["now"] == NOW.isoformat()
    assert state["requests"]["/jpm/v2/tenant/{tenant}/jobs"] == 1


def test_responses_can_tell_the_simulated_time() -> None:
    """A history that jumps by days needs a server whose `Date` jumps along."""
    with Sandbox(customers=5, now=NOW, simulated_date=True) as sandbox:
        client = Client(sandbox)
        assert client.request_token().headers["Date"] == "Tue, 10 Mar 2026 15:30:00 GMT"
        sandbox.world.move(timedelta(days=2, seconds=7))
        response = client.request_list("jpm.jobs")
        assert response.headers["Date"] == "Thu, 12 Mar 2026 15:30:07 GMT"


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "rebound.example.com"},
        {"Host": "127.0.0.1.example.com"},
        {"Host": "evil@127.0.0.1"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
@pytest.mark.parametrize("path", ["/_sandbox/now", "/connect/token", "/jpm/v2/tenant/1/jobs"])
def test_a_request_of_a_web_page_is_refused(
    client: Client, path: str, headers: dict[str, str]
) -> None:
    """A page in the user's browser can reach the sandbox, by its address or by a rebound name."""
    before = client.sandbox.world.now
    sent = requests.post(client.sandbox.url + path, headers=headers, json={"move_seconds": 90})
    assert sent.status_code == 403
    assert "programs on this machine only" in sent.json()["error"]
    assert requests.get(f"{client.sandbox.url}/_sandbox/state", headers=headers).status_code == 403
    assert client.sandbox.world.now == before


def test_a_page_of_the_sandbox_itself_and_its_other_name_are_served(client: Client) -> None:
    named = client.sandbox.url.replace("127.0.0.1", "localhost")
    for url in (client.sandbox.url, named):
        headers = {"Origin": url, "Sec-Fetch-Site": "same-origin", "Host": url[7:]}
        state = requests.get(f"{client.sandbox.url}/_sandbox/state", headers=headers)
        assert state.status_code == 200


def test_an_interceptor_answers_before_the_sandbox_does(client: Client) -> None:
    def unavailable(request: Request) -> Response | None:
        return Response("<html>down</html>", 503) if "jobs" in request.url.path else None

    client.sandbox.interceptors.append(unavailable)

    assert client.request_list("jpm.jobs").status_code == 503
    assert client.request_list("crm.customers").status_code == 200


def test_large_bodies_are_compressed_if_gzip_is_turned_on() -> None:
    with Sandbox(customers=60, now=NOW, requests_per_second=NO_LIMIT, gzip_level=1) as sandbox:
        client = Client(sandbox)
        compressed = client.request_list("jpm.jobs")
        plain = client.session.get(compressed.url, headers={"Accept-Encoding": "identity"})

        assert compressed.headers["Content-Encoding"] == "gzip"
        assert "Content-Encoding" not in plain.headers
        assert compressed.json() == plain.json()


def test_the_time_of_a_live_sandbox_follows_the_clock() -> None:
    times = [100.0]
    with Sandbox(customers=20, now=NOW, live=True, clock=lambda: times[-1]) as sandbox:
        client = Client(sandbox)
        times.append(105.0)
        client.request_list("jpm.jobs")

        assert (sandbox.world.now - NOW).total_seconds() == 5


def test_each_tenant_has_its_own_company() -> None:
    with Sandbox(customers=30, now=NOW, tenants=2) as sandbox:
        first, second = sandbox.worlds.values()

        assert first.records("jpm.jobs") != second.records("jpm.jobs")
        first.create("jpm.jobs", id=499_999_999)
        assert 499_999_999 not in get_ids(second.records("jpm.jobs"))
