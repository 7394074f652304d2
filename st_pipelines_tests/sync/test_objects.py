"""Tables of operations that serve one object: the object is a row, or its arrays have the rows."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import Response

from st_pipelines.catalog.registry import load_catalog
from st_pipelines.sandbox.server import Sandbox
from st_pipelines.servicetitan.errors.errors import ServiceTitanError, WrongPath
from st_pipelines.servicetitan.http.retry import NO_WAIT
from st_pipelines.sync.sync import SyncContext, extract_load, reconcile
from st_pipelines_tests.churn_reader import (
    build_context,
    build_rows,
    comparable,
    days,
    find_served_rows,
    query,
    table_rows,
)
from st_pipelines_tests.sandbox.client import Client

CATALOG = load_catalog()
OBJECTS = [
    e.table for e in CATALOG if e.kind == "snapshot" and (e.envelope == "object" or e.member)
]
HOURS = "dispatch.business_hours"
PERFORMANCE = "scheduling_pro.schedulers_performance"
COSTS, EMAIL = "marketing.campaign_cost_summary", "marketing.email_channel_cost"


@pytest.fixture
def context(own_sandbox: Sandbox, tmp_path: Path) -> Iterator[SyncContext]:
    context = build_context(own_sandbox, tmp_path / "x.duckdb", NO_WAIT)
    with closing(context.client):
        yield dataclasses.replace(context, clock=lambda: own_sandbox.world.now)


def answer(sandbox: Sandbox, end: str, body: str) -> None:
    """Lets a path answer with a body from now on."""

    def respond(request: Request) -> Response | None:
        served = Response(body, media_type="application/json")
        return served if request.url.path.endswith(end) else None

    sandbox.interceptors.insert(0, respond)


def test_there_are_tables_of_objects() -> None:
    assert len(OBJECTS) >= 10
    assert {HOURS, "dispatch.arrival_windows_configuration", "task_management.employees"} < {
        *OBJECTS
    }


@pytest.mark.parametrize("table", OBJECTS)
def test_every_value_equals_the_response(sandbox: Sandbox, tmp_path: Path, table: str) -> None:
    endpoint, file = CATALOG[table], tmp_path / "x.duckdb"
    context = build_context(sandbox, file)
    with closing(context.client):
        report = extract_load(context, endpoint, None)
    served = json.loads(Client(sandbox).get(endpoint.path).text, parse_float=Decimal)
    rows = find_served_rows(endpoint, served)
    assert rows
    assert comparable(table_rows(file, endpoint)) == comparable(
        build_rows(rows, endpoint.row_fields)
    )
    assert report.loaded.counts.inserted == len(rows)
    assert query(file, f"SELECT count(*) FROM {table} WHERE _extra IS NOT NULL") == [(0,)]


def test_a_changed_object_replaces_its_row(
    own_sandbox: Sandbox, context: SyncContext, tmp_path: Path
) -> None:
    file, endpoint = tmp_path / "x.duckdb", CATALOG[HOURS]
    for hour in (8, 7):
        day = f'{{"weekdays":[{{"fromHour":{hour},"toHour":17}}],"saturday":[],"sunday":[]}}'
        answer(own_sandbox, "/business-hours", day)
        extract_load(context, endpoint, None)
        counts = extract_load(context, endpoint, None).loaded.counts
        assert (counts.inserted, counts.updated, counts.deleted) == (0, 0, 0)
    present = f"SELECT weekdays[1].from_hour, len(sunday) FROM {HOURS} WHERE _deleted_at IS NULL"
    assert query(file, present) == [(7, 0)]
    assert query(file, f"SELECT count(*) FROM {HOURS}") == [(2,)], "the former hours stay, marked"


@pytest.mark.parametrize(
    "body",
    ["{}", '{"message": "The service is suspended."}', "[]", "null", '"x"', '{"sunday":[]},{}'],
)
def test_a_body_that_is_not_the_object_loads_nothing(
    own_sandbox: Sandbox, context: SyncContext, tmp_path: Path, body: str
) -> None:
    extract_load(context, CATALOG[HOURS], None)
    before = query(tmp_path / "x.duckdb", f"FROM {HOURS}")
    answer(own_sandbox, "/business-hours", body)
    with pytest.raises(ServiceTitanError, match="answered 200, but"):
        extract_load(context, CATALOG[HOURS], None)
    assert query(tmp_path / "x.duckdb", f"FROM {HOURS}") == before


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ('{"employees": []}', "it holds no taskStatuses"),
        ('{"taskStatuses": [], "taskStatuses": []}', "it holds taskStatuses twice"),
        ('{"taskStatuses": null}', "the records are not an array"),
        ('{"taskStatuses": {"name": "Open"}}', "the records are not an array"),
        ("[]", "not an object"),
    ],
)
def test_an_object_without_the_array_loads_nothing(
    own_sandbox: Sandbox, context: SyncContext, tmp_path: Path, body: str, complaint: str
) -> None:
    table = "task_management.task_statuses"
    extract_load(context, CATALOG[table], None)
    before = query(tmp_path / "x.duckdb", f"FROM {table}")
    answer(own_sandbox, "/taskmanagement/v2/tenant/1000000001/data", body)
    with pytest.raises(ServiceTitanError, match=complaint):
        extract_load(context, CATALOG[table], None)
    assert query(tmp_path / "x.duckdb", f"FROM {table}") == before


def test_an_array_of_an_object_loses_and_gains_rows(
    own_sandbox: Sandbox, context: SyncContext, tmp_path: Path
) -> None:
    table = "task_management.business_units"
    for units in ([("A", 1), ("B", 2)], [("B", 2), ("Ç", 3)]):
        served = {"businessUnits": [{"name": name, "value": value} for name, value in units]}
        answer(own_sandbox, "/data", json.dumps(served))
        extract_load(context, CATALOG[table], None)
    sql = f"SELECT name, value, _deleted_at IS NOT NULL FROM {table} ORDER BY value"
    expected = [("A", 1, True), ("B", 2, False), ("Ç", 3, False)]
    assert query(tmp_path / "x.duckdb", sql) == expected


def serve_performance(
    sandbox: Sandbox, listed: list[str], gone: set[str], seen: list[tuple[str, str]]
) -> None:
    """Serves schedulers, and figures that differ by scheduler and day; notes what is requested."""

    def respond(request: Request) -> Response | None:
        parts = request.url.path.split("/")
        if parts[-1] == "schedulers":
            rows = [{"id": each, "name": each} for each in listed]
            body = {"page": 1, "pageSize": 5000, "hasMore": False, "totalCount": len(rows)}
            return Response(json.dumps({**body, "data": rows}), media_type="application/json")
        if parts[-1] != "performance":
            return None
        start = request.query_params["sessionCreatedOnOrAfter"]
        assert request.query_params["sessionCreatedBefore"] > start
        seen.append((parts[-2], start))
        if parts[-2] in gone:
            return Response('{"status": 404}', status_code=404, media_type="application/json")
        figures = {"id": parts[-2], "totalSessions": int(start[8:10]), "schedulerName": parts[-2]}
        return Response(json.dumps(figures), media_type="application/json")

    sandbox.interceptors.insert(0, respond)


def test_the_figures_of_each_scheduler_are_read_for_each_day(
    own_sandbox: Sandbox, context: SyncContext, tmp_path: Path
) -> None:
    file, seen = tmp_path / "x.duckdb", list[tuple[str, str]]()
    serve_performance(own_sandbox, ["b-1", "a-2", "c-3"], {"c-3"}, seen)
    extract_load(context, CATALOG[PERFORMANCE], days("2026-03-08", "2026-03-09"))
    assert seen == [
        (each, start)
        for start in ("2026-03-08T05:00:00Z", "2026-03-09T04:00:00Z")
        for each in ("b-1", "a-2", "c-3")
    ]
    sql = f"SELECT day(_partition_date), id, total_sessions FROM {PERFORMANCE} ORDER BY ALL"
    assert query(file, sql) == [(8, "a-2", 8), (8, "b-1", 8), (9, "a-2", 9), (9, "b-1", 9)]


def test_without_schedulers_there_are_no_figures(
    own_sandbox: Sandbox, context: SyncContext, tmp_path: Path
) -> None:
    serve_performance(own_sandbox, [], set(), [])
    report = extract_load(context, CATALOG[PERFORMANCE], days("2026-03-09", "2026-03-09"))
    assert report.loaded.counts.inserted == 0


def test_figures_that_no_scheduler_has_are_a_wrong_path(
    own_sandbox: Sandbox, context: SyncContext
) -> None:
    serve_performance(own_sandbox, ["a", "b"], {"a", "b"}, [])
    with pytest.raises(WrongPath):
        extract_load(context, CATALOG[PERFORMANCE], days("2026-03-09", "2026-03-09"))


def test_every_figure_of_each_scheduler_equals_the_response(
    own_sandbox: Sandbox, context: SyncContext, tmp_path: Path
) -> None:
    endpoint, file = CATALOG[PERFORMANCE], tmp_path / "x.duckdb"
    extract_load(context, endpoint, days("2026-03-09", "2026-03-09"))
    client = Client(own_sandbox)
    served = [
        json.loads(
            client.get(
                endpoint.path.replace("{id}", record["id"]),
                sessionCreatedOnOrAfter="2026-03-09T04:00:00Z",
                sessionCreatedBefore="2026-03-10T04:00:00Z",
            ).text
        )
        for record in own_sandbox.world.records("scheduling_pro.schedulers")
    ]
    assert len(served) > 0
    assert comparable(table_rows(file, endpoint)) == comparable(
        build_rows(served, endpoint.row_fields)
    )


def serve_costs(sandbox: Sandbox, seen: list[tuple[str, str]]) -> None:
    """Serves costs that differ from day to day, and notes the ranges that are requested."""

    def respond(request: Request) -> Response | None:
        path = request.url.path
        if not path.endswith(("/campaign-cost-summary", "/email-channel-cost")):
            return None
        start, end = request.query_params["from"], request.query_params["to"]
        seen.append((start, end))
        day = int(start[8:10])
        if path.endswith("/email-channel-cost"):
            return Response(f'{{"totalCost":{day}.05}}', media_type="application/json")
        items = [
            {"campaignId": 1, "campaignName": "Radio", "totalCost": day},
            {"campaignId": 2, "campaignName": "TV", "totalCost": None},
        ]
        return Response(json.dumps({"items": items}), media_type="application/json")

    sandbox.interceptors.insert(0, respond)


def test_costs_are_read_day_by_day(
    own_sandbox: Sandbox, context: SyncContext, tmp_path: Path
) -> None:
    file, seen = tmp_path / "x.duckdb", list[tuple[str, str]]()
    serve_costs(own_sandbox, seen)
    extract_load(context, CATALOG[COSTS], days("2026-03-07", "2026-03-08"))
    assert seen == [
        ("2026-03-07T05:00:00Z", "2026-03-08T05:00:00Z"),
        ("2026-03-08T05:00:00Z", "2026-03-09T04:00:00Z"),  # clocks go forward
    ]
    sql = f"SELECT _partition_date::VARCHAR, campaign_id, total_cost FROM {COSTS} ORDER BY ALL"
    expected = [
        ("2026-03-07", 1, Decimal(7)),
        ("2026-03-07", 2, None),
        ("2026-03-08", 1, Decimal(8)),
        ("2026-03-08", 2, None),
    ]
    assert query(file, sql) == expected
    again = extract_load(context, CATALOG[COSTS], days("2026-03-07", "2026-03-08"))
    counts = again.loaded.counts
    assert (counts.inserted, counts.updated, counts.deleted) == (0, 0, 0)
    assert query(file, sql) == expected


def test_the_cost_of_the_e_mail_channel_has_a_row_for_each_day(
    own_sandbox: Sandbox, context: SyncContext, tmp_path: Path
) -> None:
    serve_costs(own_sandbox, [])
    extract_load(context, CATALOG[EMAIL], days("2026-03-07", "2026-03-09"))
    sql = f"SELECT day(_partition_date), total_cost FROM {EMAIL} ORDER BY ALL"
    expected = [(day, Decimal(f"{day}.05")) for day in (7, 8, 9)]
    assert query(tmp_path / "x.duckdb", sql) == expected
    assert reconcile(context, CATALOG[EMAIL]) is None
