"""Responses of the sandbox match the vendor's schemas."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping

import pytest

from st_pipelines.sandbox.server import Sandbox
from st_pipelines_tests.conftest import NOW
from st_pipelines_tests.judges.documents import Operation, find_operation, needs_documents
from st_pipelines_tests.judges.requester import Requester, list_reads
from st_pipelines_tests.judges.response_judge import convert_nullable, judge

pytestmark = needs_documents
EXCEPTIONS: Mapping[str, str] = {
    r"landedCostMethod: 0 is not": "three clients met the number 0 in place of text",
    r"(clickRate|conversionRate|bookingRate|returnOnInvestment): '(-?Infinity|NaN)' is not": (
        "marketing-ads was seen to send such numbers as text"
    ),
    r"^audio/wav instead of application/octet-stream": "the document names the general type",
    r"serialNumbers: \{\} is not": "one client met an object in place of an empty list",
    r"(^|\.)type: \[\] is not": "clients met an empty list in place of an object",
}
"""Deviations of real responses from the documents that the sandbox repeats, and their evidence."""


@pytest.fixture(scope="module")
def requester() -> Iterator[Requester]:
    with Sandbox(customers=25, history_days=90, now=NOW, requests_per_second=1e9) as sandbox:
        yield Requester(sandbox)


def find_deviations(requester: Requester, operation: Operation) -> list[str]:
    """Describe how the response to a request for an operation deviates."""
    response = requester.send(operation)
    if response is None:
        return ["its parent has no records"]
    if response.status_code not in (200, 302):
        return [f"status {response.status_code}: {response.text[:200]}"]
    media_type = response.headers.get("Content-Type", "").partition(";")[0]
    found = judge(operation, response.status_code, media_type, response.content)
    return [text for text in found if not any(re.search(known, text) for known in EXCEPTIONS)]


def test_the_response_of_every_operation_that_reads_matches_the_documents(
    requester: Requester,
) -> None:
    reads = list_reads()
    found = {operation.path: find_deviations(requester, operation) for operation in reads}
    assert {path: deviations for path, deviations in found.items() if deviations} == {}
    assert len(found) > 300


GOOD = {
    "hasMore": False,
    "continueFrom": "x",
    "data": [{"jobId": 1, "history": []}],
}


@pytest.mark.parametrize(
    ("change", "deviation"),
    [
        ({"hasMore": "no"}, "hasMore: 'no' is not of type 'boolean'"),
        ({"continueFrom": None}, "continueFrom: None is not of type 'string'"),
        ({"more": 1}, "body: Additional properties are not allowed ('more' was unexpected)"),
        ({"data": [{"jobId": 2**63, "history": []}]}, f"data.[].jobId: {2**63} is not a 'int64'"),
        ({"data": [{"history": []}]}, "data.[]: 'jobId' is a required property"),
    ],
)
def test_the_judge_finds(change: dict[str, object], deviation: str) -> None:
    operation = find_operation("GET", "/jpm/v2/tenant/1/export/job-history")
    assert operation
    assert [*judge(operation, 200, "application/json", json.dumps(GOOD).encode())] == []
    body = json.dumps({**GOOD, **change}).encode()
    assert deviation in [*judge(operation, 200, "application/json", body)]


def test_the_judge_finds_other_media_types_and_statuses() -> None:
    operation = find_operation("GET", "/jpm/v2/tenant/1/jobs")
    assert operation
    assert [*judge(operation, 200, "text/html", b"")] == ["text/html instead of application/json"]
    assert [*judge(operation, 201, "application/json", b"{}")] == ["status 201 is not documented"]
    assert [*judge(operation, 200, "application/json", b"[NaN]")] == ["no JSON: NaN is not JSON"]


def test_nullable_is_converted() -> None:
    """OpenAPI 3.0 says `nullable`; 3.1 and JSON Schema have the type null."""
    before = {"properties": {"a": {"type": "string", "nullable": True}}}
    after = {"properties": {"a": {"anyOf": [{"type": "string"}, {"type": "null"}]}}}
    assert convert_nullable(before) == after
