"""Each fault breaks a response as described, and the seed decides which requests get one."""

from __future__ import annotations

import dataclasses
import gzip
import json
import socket
from collections.abc import Iterator
from contextlib import suppress

import pytest
import requests
from typer.testing import CliRunner

from st_pipelines.cli.app import app
from st_pipelines.sandbox.fault_kinds import FALSE_KINDS, FAULT_KINDS
from st_pipelines.sandbox.faults import Faults, read_faults
from st_pipelines.sandbox.server import Sandbox
from st_pipelines_tests.sandbox.client import CATALOG, Client
from st_pipelines_tests.sandbox.conftest import NO_LIMIT, NOW


@pytest.fixture(scope="module")
def faulty() -> Iterator[Client]:
    sandbox = Sandbox(customers=40, now=NOW, requests_per_second=NO_LIMIT, export_batch=10)
    with sandbox:
        yield Client(sandbox)


def request_with_fault(
    client: Client, kind: str, table: str = "crm.customers", **query
) -> requests.Response:
    client.sandbox.set_faults({kind: 1})
    try:
        return client.request_list(table, **{"pageSize": 10, "includeTotal": "true", **query})
    finally:
        client.sandbox.set_faults({})


@pytest.mark.parametrize(
    ("kind", "status", "text"),
    [
        ("500", 500, "<title>500 Internal"),
        ("502", 502, "<title>502 Bad Gateway"),
        ("503", 503, "<title>503 Service"),
        ("html", 200, "<!DOCTYPE html>"),
        ("not-json", 200, "The operation was"),
        ("401", 401, '"statusCode":401'),
        ("409", 409, "suspended for maintenance"),
        ("429", 429, "Try again in 1 seconds"),
        ("423", 423, "locked"),
        ("425", 425, "Too early"),
        ("quota", 403, "will be replenished in 00:00:01"),
        ("204", 204, ""),
    ],
)
def test_an_error_has_the_status_and_text_of_its_kind(faulty, kind, status, text):
    response = request_with_fault(faulty, kind)
    assert response.status_code == status
    assert text in response.text


@pytest.mark.parametrize(
    ("kind", "header"), [("429", "1"), ("429-fraction", "0.25"), ("429-bare", None)]
)
def test_a_429_may_give_whole_seconds_a_fraction_or_no_wait(faulty, kind, header):
    response = request_with_fault(faulty, kind)
    assert response.headers.get("Retry-After") == header
    assert ("seconds" in response.text) is (kind == "429")


def test_json_may_have_the_wrong_structure(faulty):
    assert "data" not in request_with_fault(faulty, "no-data").json()
    assert isinstance(request_with_fault(faulty, "data-object").json()["data"], dict)
    assert isinstance(request_with_fault(faulty, "wrapped").json(), list)
    assert isinstance(
        request_with_fault(faulty, "wrapped", "crm.contacts_preferences").json(), dict
    )


def test_truncated_json_is_a_complete_http_response(faulty):
    response = request_with_fault(faulty, "truncated")
    assert len(response.content) == int(response.headers["Content-Length"])
    with pytest.raises(json.JSONDecodeError):
        response.json()


def test_a_reset_connection_sends_no_response(faulty):
    with pytest.raises(requests.ConnectionError, match="reset by peer"):
        request_with_fault(faulty, "reset")


@pytest.mark.parametrize("kind", ["hang", "drip"])
def test_a_body_that_hangs_or_drips_starts_but_never_ends(faulty, kind):
    faulty.sandbox.set_faults({kind: 1})
    host, port = faulty.sandbox.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=0.3) as connection:
        path = CATALOG["jpm.jobs"].path
        token = faulty.session.headers["Authorization"]
        connection.sendall(
            f"GET {path.replace('{tenant}', faulty.sandbox.tenant_id)} HTTP/1.1\r\nHost: {host}\r\n"
            f"ST-App-Key: {faulty.sandbox.app_key}\r\nAuthorization: {token}\r\n\r\n".encode()
        )
        received = b""
        with suppress(TimeoutError):
            for _ in range(20):
                received += connection.recv(1 << 20)
    faulty.sandbox.set_faults({})
    head, _, body = received.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].split()[0])
    assert 0 < len(body) < length


def test_a_body_may_be_declared_as_brotli(faulty):
    with faulty.session.get(faulty.url("/nothing"), stream=True) as response:
        assert "Content-Encoding" not in response.headers
    faulty.sandbox.set_faults({"encoding": 1})
    path = faulty.url(CATALOG["crm.customers"].path)
    with faulty.session.get(path, stream=True) as response:
        assert response.headers["Content-Encoding"] == "br"
    faulty.sandbox.set_faults({})


def test_a_redirect_leads_to_another_host(faulty):
    faulty.sandbox.set_faults({"redirect": 1})
    path = faulty.url(CATALOG["crm.customers"].path)
    response = faulty.session.get(path, allow_redirects=False)
    faulty.sandbox.set_faults({})
    assert response.headers["Location"].startswith("https://login.example.com")


def test_a_list_may_be_empty_or_short_and_say_that_it_is_complete(faulty):
    served = faulty.request_list("crm.customers", pageSize=500, includeTotal="true").json()
    for kind, expected in (("empty-list", []), ("short-list", served["data"][::2])):
        body = request_with_fault(faulty, kind, pageSize=500).json()
        assert (body["data"], body["hasMore"]) == (expected, False)
        assert body["totalCount"] == len(expected)


def test_a_lookup_may_look_at_the_first_ids_only(faulty):
    ids = [record["id"] for record in faulty.sandbox.world.records("crm.customers")[:15]]
    query = {"ids": ",".join(map(str, ids)), "active": "Any", "pageSize": 50}
    body = request_with_fault(faulty, "short-lookup", **query)
    assert {record["id"] for record in body.json()["data"]} == {*ids[:10]}


def test_an_export_may_answer_a_token_by_nothing(faulty):
    token = faulty.request_export("jpm.job_notes").json()["continueFrom"]
    faulty.sandbox.set_faults({"stale-token": 1})
    body = faulty.request_export("jpm.job_notes", **{"from": token}).json()
    dated = faulty.request_export("jpm.job_notes", **{"from": "2026-01-01"}).json()
    faulty.sandbox.set_faults({})
    assert (body["data"], body["hasMore"], body["continueFrom"]) == ([], False, None)
    assert dated["data"]


def test_sort_may_be_refused(faulty):
    assert request_with_fault(faulty, "sort-refused", sort="+Id").status_code == 400
    assert request_with_fault(faulty, "sort-refused").status_code == 200


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("nan", b'{"odd":NaN,"id":'),
        ("raw-control", b'{"odd":"a\tb\nc","id":'),
        ("twice", b'{"odd":1,"odd":2,"id":'),
        ("deep", b'{"odd":' + b"[" * 3000 + b"]" * 3000 + b',"id":'),
        ("null-key", b'{"id":null,'),
    ],
)
def test_the_last_record_of_a_page_may_be_odd(faulty, kind, text):
    body = request_with_fault(faulty, kind, "jpm.job_cancel_reasons").content
    assert body.count(text) == 1
    assert body.rindex(b'{"odd"' if kind != "null-key" else text) == body.rindex(text)


def test_a_slow_body_completes(faulty):
    complete = faulty.request_list("crm.customers", pageSize=10, includeTotal="true").content
    assert request_with_fault(faulty, "slow").content == complete


def test_gzip_may_be_garbage_or_truncated(faulty):
    with pytest.raises(requests.exceptions.ContentDecodingError):
        request_with_fault(faulty, "gzip-garbage")
    faulty.sandbox.set_faults({"gzip-cut": 1})
    with faulty.session.get(faulty.url(CATALOG["crm.customers"].path), stream=True) as response:
        raw = response.raw.read(decode_content=False)
    faulty.sandbox.set_faults({})
    with pytest.raises(EOFError):
        gzip.decompress(raw)


def test_a_page_is_empty_unless_it_is_the_last(faulty):
    body = request_with_fault(faulty, "empty-page").json()
    assert (body["data"], body["hasMore"]) == ([], True)
    assert request_with_fault(faulty, "empty-page", pageSize=500).json()["data"]


def test_an_endless_list_has_more_on_every_page(faulty):
    assert request_with_fault(faulty, "endless", pageSize=500).json()["hasMore"] is True
    assert request_with_fault(faulty, "endless", page=99).json()["hasMore"] is True


def test_an_export_may_repeat_the_requested_token_with_or_without_records(faulty):
    token = faulty.request_export("jpm.job_notes").json()["continueFrom"]
    for kind, rows in (("repeated-token", True), ("empty-page", False)):
        faulty.sandbox.set_faults({kind: 1})
        body = faulty.request_export("jpm.job_notes", **{"from": token}).json()
        faulty.sandbox.set_faults({})
        assert (body["continueFrom"], body["hasMore"], bool(body["data"])) == (token, True, rows)


def test_token_requests_have_separate_faults(faulty):
    faulty.sandbox.set_faults({"token-503": 1})
    assert faulty.request_token().status_code == 503
    assert faulty.request_list("crm.customers").status_code == 200
    faulty.sandbox.set_faults({"503": 1})
    assert faulty.request_token().status_code == 200
    faulty.sandbox.set_faults({})


def test_the_same_seed_hits_the_same_requests_with_the_given_probability():
    def draw(seed: int) -> list[bool]:
        faults = Faults({"503": 0.2}, seed)
        return [faults.draw(token=False) is not None for _ in range(1000)]

    assert draw(1) == draw(1) != draw(2)
    assert 150 < sum(draw(1)) < 250


@pytest.mark.parametrize("kind", ["5o3", "token-endless", ""])
def test_an_unknown_fault_is_rejected_with_a_list_of_all_kinds(kind):
    with pytest.raises(ValueError, match=f"there is no fault '{kind}'.*empty-page.*token-"):
        Sandbox(customers=10, faults={kind: 0.5})


def test_a_probability_outside_0_to_1_is_rejected():
    with pytest.raises(ValueError, match=r"fault 503: the probability must be from 0 to 1, not 5"):
        Sandbox(customers=10, faults={"503": 5})
    with pytest.raises(ValueError, match="churn: the probability"):
        Sandbox(customers=10, churn=-0.1)


def test_a_fault_may_be_given_with_or_without_a_probability():
    assert read_faults(["503:0.05", "hang"]) == {"503": 0.05, "hang": 1.0}
    with pytest.raises(ValueError, match="--fault 503:x: 'x' is not a number"):
        read_faults(["503:x"])


def test_the_help_of_the_command_names_every_kind():
    help_text = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["sandbox", "--help"]).stdout
    kinds = (*FAULT_KINDS, *FALSE_KINDS)
    assert [kind for kind in kinds if kind not in help_text] == []


def test_faults_apply_from_the_first_request():
    with Sandbox(customers=10, now=NOW, faults={"500": 1}) as sandbox:
        assert Client(sandbox).request_list("crm.customers").status_code == 500


def test_the_request_log_has_the_status_of_a_fault(faulty):
    request_with_fault(faulty, "502")
    assert dataclasses.astuple(faulty.sandbox.seen[-1])[2] == 502
