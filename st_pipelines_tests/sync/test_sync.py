"""`extract_load`: afterwards the tables equal what the sandbox serves."""

from __future__ import annotations

import json
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

import pytest
import requests

from st_pipelines.catalog.model import Endpoint
from st_pipelines.catalog.registry import load_catalog
from st_pipelines.sandbox.server import Sandbox
from st_pipelines.servicetitan.errors.errors import ServiceTitanError
from st_pipelines.sync.sync import extract_load
from st_pipelines_tests.churn_reader import (
    build_context,
    build_rows,
    comparable,
    days,
    find_served_rows,
    list_records,
    query,
    table_rows,
)
from st_pipelines_tests.deadlines import DEADLINE

ALL = days("2026-03-01", "2026-03-10", open_start=True)
JOINED = ("crm.customers", "settings.business_units", "accounting.invoices")
SOME = (
    "jpm.jobs",
    "accounting.invoice_items",
    "settings.user_roles",
    "jpm.job_history",
    "marketing_ads.capacity_warnings",
    "marketing_ads.attributed_leads",
)


@pytest.fixture(scope="module")
def shared_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared") / "x.duckdb"


@pytest.fixture(scope="module")
def filled(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A warehouse with endpoints of every kind, loaded from the beginning to today."""
    file = tmp_path_factory.mktemp("filled") / "sandbox.duckdb"
    context = build_context(sandbox, file)
    for table in (*JOINED, *SOME):
        endpoint = load_catalog()[table]
        extract_load(context, endpoint, ALL if endpoint.partitioned else None)
    return file


@pytest.mark.parametrize("table", [e.table for e in load_catalog() if e.by_day and not e.each_of])
def test_each_day_of_an_aggregate_equals_the_response_for_that_day(
    sandbox: Sandbox, tmp_path: Path, table: str
) -> None:
    endpoint, day = load_catalog()[table], ALL.last - timedelta(days=1)
    assert endpoint.date_filter
    file = tmp_path / "day.duckdb"
    extract_load(build_context(sandbox, file), endpoint, days(str(day), str(day)))
    token = requests.post(
        f"{sandbox.url}/connect/token",
        data={
            "grant_type": "client_credentials",
            "client_id": sandbox.client_id,
            "client_secret": sandbox.client_secret,
        },
        timeout=DEADLINE,
    ).json()["access_token"]
    response = requests.get(
        sandbox.url + endpoint.path.replace("{tenant}", sandbox.tenant_id),
        params={
            **endpoint.params,
            endpoint.date_filter.lower: f"{day}T04:00:00Z",
            endpoint.date_filter.upper: f"{day + timedelta(days=1)}T04:00:00Z",
            "pageSize": "5000",
        },
        headers={"Authorization": token, "ST-App-Key": sandbox.app_key},
        timeout=DEADLINE,
    )
    served = find_served_rows(endpoint, json.loads(response.text, parse_float=Decimal))
    rows = table_rows(file, endpoint, f"_partition_date = DATE '{day}'")
    assert len(rows) == len(served) > 0
    fields = endpoint.row_fields[:1]  # further ones hold odd values, which no column takes
    first = table_rows(file, endpoint, fields=fields)
    assert comparable(first) == comparable(build_rows(served, fields))


def test_keys_join_across_four_tables(filled: Path) -> None:
    rows = query(
        filled,
        "SELECT count(*), count(c.id), count(b.id), count(i.id) FROM jpm.jobs j "
        "LEFT JOIN crm.customers c ON c.id = j.customer_id "
        "LEFT JOIN settings.business_units b ON b.id = j.business_unit_id "
        "LEFT JOIN accounting.invoices i ON i.id = j.invoice_id WHERE j.invoice_id IS NOT NULL",
    )
    assert len(set(rows[0])) == 1
    assert rows[0][0] > 100


def test_loading_everything_again_changes_no_row(
    filled: Path, sandbox: Sandbox, tmp_path: Path
) -> None:
    file = tmp_path / "copy.duckdb"
    file.write_bytes(filled.read_bytes())
    context = build_context(sandbox, file)
    for table in SOME:
        endpoint = load_catalog()[table]
        report = extract_load(context, endpoint, ALL if endpoint.partitioned else None)
        counts = report.loaded.counts
        assert (counts.inserted, counts.updated, counts.deleted) == (0, 0, 0)
        assert counts.unchanged == report.loaded.rows_read > 0


def test_days_loaded_one_by_one_in_any_order_equal_a_range(
    filled: Path, sandbox: Sandbox, tmp_path: Path
) -> None:
    endpoint, context = load_catalog()["jpm.jobs"], build_context(sandbox, tmp_path / "days.duckdb")
    for day in reversed(list(ALL)):
        extract_load(context, endpoint, day)
    assert comparable(table_rows(tmp_path / "days.duckdb", endpoint)) == comparable(
        table_rows(filled, endpoint)
    )


def test_a_day_holds_only_the_records_of_that_local_day(sandbox: Sandbox, tmp_path: Path) -> None:
    endpoint, day = load_catalog()["jpm.jobs"], days("2026-03-08", "2026-03-08")
    report = extract_load(build_context(sandbox, tmp_path / "day.duckdb"), endpoint, day)
    assert report.window
    assert report.window.start == datetime(2026, 3, 8, 2, tzinfo=timezone.utc), "three hours early"
    assert report.window.end == datetime(2026, 3, 9, 4, tzinfo=timezone.utc), "23 hours: DST begins"
    moments = [record["modifiedOn"] for record in list_records(sandbox, endpoint)]
    of_the_day = [moment for moment in moments if "2026-03-08T05" <= moment < "2026-03-09T04"]
    before = [moment for moment in moments if "2026-03-08T02" <= moment < "2026-03-08T05"]
    loaded = report.loaded
    assert loaded.table_rows_by_date.get(date(2026, 3, 8), 0) == len(of_the_day)
    assert loaded.rows_read == len(of_the_day) + len(before)


def test_money_adds_up_to_the_cent(filled: Path, sandbox: Sandbox) -> None:
    invoices = load_catalog()["accounting.invoices"]
    total = sum((Decimal(r["total"]) for r in list_records(sandbox, invoices)), Decimal())
    assert query(filled, "SELECT sum(total) FROM accounting.invoices") == [(total,)]


def test_changed_and_new_records_arrive_in_the_newest_day(
    own_sandbox: Sandbox, tmp_path: Path
) -> None:
    endpoint, context = (
        load_catalog()["crm.customers"],
        build_context(own_sandbox, tmp_path / "x.duckdb"),
    )
    first = extract_load(context, endpoint, ALL)
    own_sandbox.world.move(timedelta(days=1))
    key = list_records(own_sandbox, endpoint)[0]["id"]
    own_sandbox.world.change("crm.customers", key, name="Neu & Söhne")
    second = extract_load(context, endpoint, days("2026-03-11", "2026-03-11"))
    assert second.loaded.counts.updated >= 1
    assert second.loaded.rows_read < first.loaded.rows_read / 2
    names = query(tmp_path / "x.duckdb", f"SELECT name FROM crm.customers WHERE id = {key}")
    assert names == [("Neu & Söhne",)]


@pytest.mark.parametrize(
    "endpoint",
    [e for e in load_catalog() if e.kind == "window" and not e.by_day],
    ids=lambda endpoint: endpoint.table,
)
def test_an_endpoint_without_rows_takes_at_most_one_request_per_variant_and_one_more(
    sandbox: Sandbox, shared_file: Path, endpoint: Endpoint
) -> None:
    report = extract_load(
        build_context(sandbox, shared_file), endpoint, days("2001-01-01", "2001-01-01")
    )
    assert report.loaded.rows_read == 0
    assert report.read.requests <= max(2, len(endpoint.variants))


def test_a_wrong_secret_loads_nothing_and_the_error_says_what_to_do(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    context = build_context(sandbox, tmp_path / "x.duckdb")
    from dataclasses import replace

    from pydantic import SecretStr

    from st_pipelines.servicetitan.http.client import Client

    wrong = replace(
        context.client.connection, client_secret=SecretStr("cs1.wrong"), client_id="cid.other"
    )
    with pytest.raises(ServiceTitanError) as caught:
        extract_load(replace(context, client=Client(wrong)), load_catalog()["jpm.jobs"], ALL)
    assert "secret" in str(caught.value)
    assert "cs1.wrong" not in str(caught.value)
    assert not (tmp_path / "x.duckdb").exists()
    assert not list(tmp_path.glob(".staging/*/")), "nothing was staged"


def test_an_unknown_tenant_says_so(sandbox: Sandbox, tmp_path: Path) -> None:
    from dataclasses import replace

    from st_pipelines.servicetitan.http.client import Client

    context = build_context(sandbox, tmp_path / "x.duckdb")
    wrong = replace(context.client.connection, tenant_id="999")
    with pytest.raises(ServiceTitanError, match="tenant"):
        extract_load(replace(context, client=Client(wrong)), load_catalog()["jpm.jobs"], ALL)


def test_days_that_have_not_begun_are_refused(sandbox: Sandbox, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="2999-01-01 has not begun in America/New_York"):
        extract_load(
            build_context(sandbox, tmp_path / "x.duckdb"),
            load_catalog()["jpm.jobs"],
            days("2999-01-01", "2999-01-01"),
        )
