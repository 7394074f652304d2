"""The sandbox plays its faults: what arrives is what is said to arrive, and by seed."""

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
from st_pipelines.sandbox.fault_kinds import FAULT_KINDS
from st_pipelines.sandbox.faults import Faults, read_faults
from st_pipelines.sandbox.server import Sandbox
from st_pipelines_tests.sandbox.client import Client
from st_pipelines_tests.sandbox.conftest import NO_LIMIT, NOW


@pytest.fixture(scope="module")
def faulty() -> Iterator[Client]:
    sandbox = Sandbox(customers=40, now=NOW, requests_per_second=NO_LIMIT, export_batch=10)
    with sandbox:
        yield Client(sandbox)


def ask(client: Client, kind: str, table: str = "crm.customers", **query) -> requests.Response:
    client.sandbox.set_faults({kind: 1})
    try:
        return client.list(table, **{"pageSize": 10, "includeTotal": "true", **query})
    finally:
        client.sandbox.set_faults({})


@pytest.mark.parametrize(
    ("kind", "status", "words"),
    [
        ("500", 500, "<title>500 Internal"),
        ("502", 502, "<title>502 Bad Gateway"),
        ("503", 503, "<title>503 Service"),
        ("html", 200, "<!DOCTYPE html>"),
        ("not-json", 200, "The operation was"),
        ("401", 401, '"statusCode":401'),
        ("409", 409, "suspended for maintenance"),
        ("429", 429, "Try again in 1 seconds"),
    ],
)
def test_a_fault_answers_with_its_status_and_words(faulty, kind, status, words):
    answer = ask(faulty, kind)
    assert answer.status_code == status
    assert words in answer.text


@pytest.mark.parametrize(
    ("kind", "header"), [("429", "1"), ("429-fraction", "0.25"), ("429-bare", None)]
)
def test_a_limit_tells_the_wait_in_whole_seconds_in_a_fraction_or_not_at_all(faulty, kind, header):
    answer = ask(faulty, kind)
    assert answer.headers.get("Retry-After") == header
    assert ("seconds" in answer.text) is (kind == "429")


def test_json_of_the_wrong_shape(faulty):
    assert "data" not in ask(faulty, "no-data").json()
    assert isinstance(ask(faulty, "data-object").json()["data"], dict)
    assert isinstance(ask(faulty, "wrapped").json(), list)
    assert isinstance(ask(faulty, "wrapped", "crm.contacts_preferences").json(), dict)


def test_truncated_json_comes_whole_as_far_as_http_can_tell(faulty):
    answer = ask(faulty, "truncated")
    assert len(answer.content) == int(answer.headers["Content-Length"])
    with pytest.raises(json.JSONDecodeError):
        answer.json()


def test_a_connection_is_reset_without_a_byte(faulty):
    with pytest.raises(requests.ConnectionError, match="reset by peer"):
        ask(faulty, "reset")


@pytest.mark.parametrize("kind", ["hang", "drip"])
def test_a_body_that_hangs_or_drips_begins_and_does_not_end(faulty, kind):
    faulty.sandbox.set_faults({kind: 1})
    host, port = faulty.sandbox.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=0.3) as connection:
        path = faulty.sandbox.world.catalog["jpm.jobs"].path
        token = faulty.session.headers["Authorization"]
        connection.sendall(
            f"GET {path.replace('{tenant}', faulty.sandbox.tenant_id)} HTTP/1.1\r\nHost: x\r\n"
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


def test_a_slow_body_completes(faulty):
    true = faulty.list("crm.customers", pageSize=10, includeTotal="true").content
    assert ask(faulty, "slow").content == true


def test_gzip_that_is_none_and_gzip_that_is_cut(faulty):
    with pytest.raises(requests.exceptions.ContentDecodingError):
        ask(faulty, "gzip-garbage")
    faulty.sandbox.set_faults({"gzip-cut": 1})
    with faulty.session.get(
        faulty.url(faulty.sandbox.world.catalog["crm.customers"].path), stream=True
    ) as answer:
        raw = answer.raw.read(decode_content=False)
    faulty.sandbox.set_faults({})
    with pytest.raises(EOFError):
        gzip.decompress(raw)


def test_a_page_in_the_middle_comes_empty_and_the_last_one_does_not(faulty):
    body = ask(faulty, "empty-page").json()
    assert (body["data"], body["hasMore"]) == ([], True)
    assert ask(faulty, "empty-page", pageSize=500).json()["data"]


def test_more_is_said_to_follow_for_ever(faulty):
    assert ask(faulty, "endless", pageSize=500).json()["hasMore"] is True
    assert ask(faulty, "endless", page=99).json()["hasMore"] is True


def test_an_export_repeats_the_token_it_was_asked_for_or_stays_there_without_rows(faulty):
    token = faulty.export("jpm.job_notes").json()["continueFrom"]
    for kind, rows in (("repeated-token", True), ("empty-page", False)):
        faulty.sandbox.set_faults({kind: 1})
        body = faulty.export("jpm.job_notes", **{"from": token}).json()
        faulty.sandbox.set_faults({})
        assert (body["continueFrom"], body["hasMore"], bool(body["data"])) == (token, True, rows)


def test_token_requests_have_faults_of_their_own(faulty):
    faulty.sandbox.set_faults({"token-503": 1})
    assert faulty.ask_token().status_code == 503
    assert faulty.list("crm.customers").status_code == 200
    faulty.sandbox.set_faults({"503": 1})
    assert faulty.ask_token().status_code == 200
    faulty.sandbox.set_faults({})


def test_the_same_seed_hits_the_same_requests_in_the_measure_asked_for():
    def hit(seed: int) -> list[bool]:
        faults = Faults({"503": 0.2}, seed)
        return [faults.draw(token=False) is not None for _ in range(1000)]

    assert hit(1) == hit(1) != hit(2)
    assert 150 < sum(hit(1)) < 250


@pytest.mark.parametrize("kind", ["5o3", "token-endless", ""])
def test_an_unknown_fault_is_refused_with_the_list_of_those_there_are(kind):
    with pytest.raises(ValueError, match=f"there is no fault '{kind}'.*empty-page.*token-"):
        Sandbox(customers=10, faults={kind: 0.5})


def test_a_probability_is_from_nought_to_one():
    with pytest.raises(ValueError, match=r"fault 503: the probability must be from 0 to 1, not 5"):
        Sandbox(customers=10, faults={"503": 5})
    with pytest.raises(ValueError, match="churn: the probability"):
        Sandbox(customers=10, churn=-0.1)


def test_the_command_reads_kinds_with_and_without_a_probability():
    assert read_faults(["503:0.05", "hang"]) == {"503": 0.05, "hang": 1.0}
    with pytest.raises(ValueError, match="--fault 503:x: 'x' is not a number"):
        read_faults(["503:x"])


def test_the_commands_help_names_every_kind():
    shown = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["sandbox", "--help"]).stdout
    assert [kind for kind in FAULT_KINDS if kind not in shown] == []


def test_the_sandbox_takes_its_faults_from_the_start():
    with Sandbox(customers=10, now=NOW, faults={"500": 1}) as sandbox:
        assert Client(sandbox).list("crm.customers").status_code == 500


def test_a_fault_is_noted_as_it_was_answered(faulty):
    ask(faulty, "502")
    assert dataclasses.astuple(faulty.sandbox.seen[-1])[2] == 502
