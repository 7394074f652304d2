"""Each fault of the sandbox is survived, or fails with a clear error and loads nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from st_pipelines.catalog.registry import load_catalog
from st_pipelines.sandbox.fault_kinds import FAULT_KINDS, TOKEN_PREFIX
from st_pipelines.sandbox.server import Sandbox
from st_pipelines.servicetitan.errors.errors import ServiceTitanError
from st_pipelines.servicetitan.http.retry import RetryPolicy
from st_pipelines.sync.sync import SyncContext, extract_load
from st_pipelines_tests.churn_reader import build_context, comparable, days, expected_rows
from st_pipelines_tests.conftest import NOW

TABLES = ("crm.customers", "jpm.job_notes")
ALL = days("2026-03-01", "2026-03-10", open_start=True)
PATIENT = RetryPolicy(attempts=12, backoff=0, max_backoff=0, max_retry_after_seconds=0)
HASTY = RetryPolicy(attempts=2, backoff=0, max_backoff=0, max_retry_after_seconds=0)
FEEDS_ONLY = {"repeated-token"}
MESSAGES = {
    "401": "answered 401",
    "409": "maintenance",
    "429": "Rate limit",
    "429-fraction": "Rate limit",
    "429-bare": "Rate limit",
    "500": "500 Internal Server Error",
    "502": "502 Bad Gateway",
    "503": "503 Service Unavailable",
    "html": "HTML page titled 'Sign in'",
    "truncated": "not the expected object",
    "not-json": "29 bytes of text/plain",
    "wrapped": "not the expected object",
    "no-data": "not the expected object",
    "data-object": "not the expected",
    "reset": "connection was closed",
    "hang": "no answer in time",
    "drip": "no answer in time",
    "gzip-garbage": "not compressed as its Content-Encoding says",
    "gzip-cut": "not the expected object",
    "repeated-token": "repeats a continuation token",
    "endless": "hasMore is still true",
    "empty-page": "could not be proven complete",
    "204": "no complete content",
    "423": "tenant is locked",
    "425": "Too early",
    "quota": "call volume quota",
    "429-beyond": "Rate limit",
    "encoding": "Content-Encoding 'br'",
    "redirect": "redirected the request",
}
PERMANENT = {"401", "quota", "redirect"}
"""Faults of which a retry within the load is of no use."""


@pytest.fixture(scope="module")
def faulty_sandbox() -> Iterator[Sandbox]:
    with Sandbox(customers=40, now=NOW, requests_per_second=1e9, export_batch=10) as running:
        yield running


def build_faulty_context(
    sandbox: Sandbox, file: Path, policy: RetryPolicy, timeout: float = 5
) -> SyncContext:
    return build_context(sandbox, file, policy, page_size=10, timeout=timeout)


def rows(file: Path, table: str) -> list[tuple]:
    columns = ", ".join(f'"{f.column}"' for f in load_catalog()[table].row_fields)
    with duckdb.connect(str(file), read_only=True) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        return connection.execute(f"SELECT {columns} FROM {table}").fetchall()


@pytest.mark.parametrize("kind", [kind for kind in FAULT_KINDS if kind not in PERMANENT])
def test_a_fault_of_some_requests_is_survived(faulty_sandbox, tmp_path, kind):
    file = tmp_path / "x.duckdb"
    # a feed that repeats a token five times is an error
    faulty_sandbox.set_faults({kind: 0.2 if kind in FEEDS_ONLY else 0.3})
    context = build_faulty_context(
        faulty_sandbox, file, PATIENT, timeout=0.3 if kind in ("hang", "drip") else 5
    )
    for table in TABLES:
        extract_load(context, load_catalog()[table], ALL)
    faulty_sandbox.set_faults({})
    for table in TABLES:
        expected = expected_rows(faulty_sandbox, load_catalog()[table])
        assert comparable(rows(file, table)) == comparable(expected)


@pytest.mark.parametrize("kind", MESSAGES)
def test_a_fault_of_every_request_fails_clearly_and_loads_nothing(faulty_sandbox, tmp_path, kind):
    file = tmp_path / "x.duckdb"
    faulty_sandbox.set_faults({kind: 1})
    context = build_faulty_context(
        faulty_sandbox, file, HASTY, timeout=0.1 if kind in ("hang", "drip") else 5
    )
    table = "jpm.job_notes" if kind in FEEDS_ONLY else "crm.customers"
    with pytest.raises(ServiceTitanError, match=MESSAGES[kind]) as caught:
        extract_load(context, load_catalog()[table], ALL)
    faulty_sandbox.set_faults({})
    assert not file.exists()
    assert not list((tmp_path / ".staging").glob("*/"))
    assert context.client.connection.client_secret.get_secret_value() not in str(caught.value)


def test_every_fault_either_fails_clearly_or_is_harmless():
    assert set(MESSAGES) | {"slow"} == set(FAULT_KINDS)


def test_a_list_that_refuses_sort_is_read_without_it(faulty_sandbox, tmp_path):
    """A 400 for `sort` once kept a table out of reach, although the list serves it unsorted."""
    file, endpoint = tmp_path / "x.duckdb", load_catalog()["crm.customers"]
    faulty_sandbox.set_faults({"sort-refused": 1})
    extract_load(build_faulty_context(faulty_sandbox, file, HASTY), endpoint, ALL)
    faulty_sandbox.set_faults({})
    expected = expected_rows(faulty_sandbox, endpoint)
    assert comparable(rows(file, endpoint.table)) == comparable(expected)


def test_a_feed_whose_new_token_leads_nowhere_is_not_taken_for_read(faulty_sandbox, tmp_path):
    """A token answered with neither records nor a token was taken for the feed's end."""
    file, endpoint = tmp_path / "x.duckdb", load_catalog()["jpm.job_notes"]
    faulty_sandbox.set_faults({"stale-token": 1})
    with pytest.raises(ServiceTitanError, match="its own continuation token with neither"):
        extract_load(build_faulty_context(faulty_sandbox, file, HASTY), endpoint, ALL)
    faulty_sandbox.set_faults({})
    assert not file.exists()


def test_deletions_are_found_where_a_lookup_looks_at_the_first_ids_only(tmp_path):
    file, endpoint = tmp_path / "x.duckdb", load_catalog()["crm.customers"]
    with Sandbox(customers=80, now=NOW, requests_per_second=1e9, export_batch=10) as sandbox:
        extract_load(build_faulty_context(sandbox, file, HASTY), endpoint, ALL)
        records = sandbox.world.records(endpoint.table)
        keys = sorted(record["id"] for record in records if record["active"])[:12]
        for key in keys:
            sandbox.world.delete(endpoint.table, key)
        sandbox.set_faults({"short-lookup": 1})
        extract_load(build_faulty_context(sandbox, file, HASTY), endpoint, ALL)
    with duckdb.connect(str(file), read_only=True) as connection:
        sql = f"SELECT id FROM {endpoint.table} WHERE _deleted_at IS NOT NULL ORDER BY id"
        assert connection.execute(sql).fetchall() == [(key,) for key in keys]


def test_a_load_that_fails_leaves_the_table_as_it_was(faulty_sandbox, tmp_path):
    file = tmp_path / "x.duckdb"
    endpoint = load_catalog()["jpm.job_types"]
    extract_load(build_faulty_context(faulty_sandbox, file, HASTY), endpoint, ALL)
    before = rows(file, endpoint.table)
    faulty_sandbox.world.change(
        endpoint.table, faulty_sandbox.world.records(endpoint.table)[0]["id"], name="new"
    )
    faulty_sandbox.set_faults({"truncated": 1})
    with pytest.raises(ServiceTitanError):
        extract_load(build_faulty_context(faulty_sandbox, file, HASTY), endpoint, ALL)
    faulty_sandbox.set_faults({})
    assert rows(file, endpoint.table) == before


def test_a_token_that_expires_during_a_run_is_renewed(faulty_sandbox, tmp_path):
    requests: list[str] = []

    def refuse_the_third(request):
        requests.append(request.url.path)
        faulty_sandbox.set_faults({"401": 1} if len(requests) == 3 else {})

    faulty_sandbox.interceptors[:] = [refuse_the_third]
    report = extract_load(
        build_faulty_context(faulty_sandbox, tmp_path / "x.duckdb", HASTY),
        load_catalog()["crm.customers"],
        ALL,
    )
    faulty_sandbox.interceptors.clear()
    faulty_sandbox.set_faults({})
    assert report.read.token_requests == 2
    assert report.loaded.counts.inserted == len(faulty_sandbox.world.records("crm.customers"))


@pytest.mark.parametrize("kind", ["500", "html", "truncated", "reset", "429", "not-json"])
def test_a_fault_of_a_token_request_is_survived(tmp_path, kind):
    with Sandbox(customers=10, now=NOW, faults={f"{TOKEN_PREFIX}{kind}": 0.7}, seed=1) as sandbox:
        context = build_faulty_context(sandbox, tmp_path / "x.duckdb", PATIENT)
        report = extract_load(context, load_catalog()["crm.customers"], ALL)
        assert report.read.token_requests > 1


@pytest.mark.parametrize("kind", ["401", "503", "html"])
def test_a_token_endpoint_that_always_fails_is_named(tmp_path, kind):
    with Sandbox(customers=10, now=NOW, faults={f"{TOKEN_PREFIX}{kind}": 1}) as sandbox:
        context = build_faulty_context(sandbox, tmp_path / "x.duckdb", HASTY)
        with pytest.raises(ServiceTitanError, match="connect/token"):
            extract_load(context, load_catalog()["crm.customers"], ALL)
        assert not (tmp_path / "x.duckdb").exists()
