"""The dispatch capacity: figures of the days around today, read by POST."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from starlette.requests import Request
from starlette.responses import Response
from typer.testing import CliRunner

from st_pipelines.catalog.model import Endpoint
from st_pipelines.catalog.registry import load_catalog, select
from st_pipelines.cli.app import app
from st_pipelines.config.errors import SettingsError
from st_pipelines.config.project import resolve_environment
from st_pipelines.definitions import build_definitions
from st_pipelines.sandbox.server import Sandbox
from st_pipelines.servicetitan.errors.errors import ServiceTitanError
from st_pipelines.servicetitan.http.model import ReadStats
from st_pipelines.servicetitan.http.retry import NO_WAIT
from st_pipelines.servicetitan.reading.probes import probe_access
from st_pipelines.sync.sync import SyncContext, extract_load, reconcile
from st_pipelines.sync.verify import verify_table
from st_pipelines_tests.churn_reader import (
    build_context,
    build_rows,
    comparable,
    parse_timestamp,
    query,
    table_rows,
)
from st_pipelines_tests.conftest import NOW
from st_pipelines_tests.deadlines import DEADLINE
from st_pipelines_tests.sandbox.client import Client

TABLE = "dispatch.capacity"


def reaching(back: int, ahead: int) -> Endpoint:
    """The endpoint with a range of days."""
    endpoint = load_catalog()[TABLE]
    assert endpoint.forecast
    forecast = dataclasses.replace(endpoint.forecast, days_back=back, days_ahead=ahead)
    return dataclasses.replace(endpoint, forecast=forecast)


@pytest.fixture
def context(own_sandbox: Sandbox, tmp_path: Path) -> Iterator[SyncContext]:
    context = build_context(own_sandbox, tmp_path / "x.duckdb", NO_WAIT)
    with closing(context.client):
        yield dataclasses.replace(context, clock=lambda: own_sandbox.world.now)


def request_capacity(sandbox: Sandbox, first: str, last: str) -> list[dict[str, Any]]:
    """What the sandbox serves from one UTC time to another."""
    client = Client(sandbox)
    body = {"startsOnOrAfter": first, "endsOnOrBefore": last, "skillBasedAvailability": False}
    url = client.url(load_catalog()[TABLE].path)
    response = client.session.post(url, json=body, timeout=DEADLINE)
    assert response.status_code == 200, response.text
    return json.loads(response.text, parse_float=Decimal)["availabilities"]


def frame(start: str, end: str, free: float) -> dict[str, Any]:
    """A time frame as the capacity serves it."""
    return {
        "start": start, "end": end, "startUtc": start, "endUtc": end, "businessUnitIds": [7, 8],
        "totalAvailability": 8.0, "openAvailability": free, "isAvailable": free > 0,
        "technicians": [{"id": 1, "name": "A", "status": "Available", "hasRequiredSkills": None}],
        "isExceedingIdealBookingPercentage": False,
    }  # fmt: skip


def serve(sandbox: Sandbox, frames: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Serves frames from now on, those within the times of a request; returns the bodies."""
    seen: list[dict[str, Any]] = []

    def respond(request: Request) -> Response | None:
        if not request.url.path.endswith("/capacity"):
            return None
        body = json.loads(request._body)
        seen.append(body)
        within = [
            each
            for each in frames
            if body["startsOnOrAfter"] <= each["startUtc"]
            and each["endUtc"] <= body["endsOnOrBefore"]
        ]
        served = {"timeStamp": "2026-03-10T15:30:00Z", "availabilities": within}
        return Response(json.dumps(served), media_type="application/json")

    sandbox.interceptors.insert(0, respond)
    return seen


def test_every_value_equals_the_response_and_belongs_to_its_local_day(
    own_sandbox: Sandbox, context: SyncContext, tmp_path: Path
) -> None:
    file, endpoint = tmp_path / "x.duckdb", reaching(4, 3)
    report = extract_load(context, endpoint, None)
    served = request_capacity(own_sandbox, "2026-03-06T05:00:00Z", "2026-03-14T04:00:00Z")
    assert len(served) > 20
    assert report.loaded.counts.inserted == len(served)
    for row in served:  # the same moment, with the offset of the tenant's zone
        for local, utc in (("start", "startUtc"), ("end", "endUtc")):
            assert datetime.fromisoformat(row[local]) == parse_timestamp(row[utc])
            row[local] = row[utc]
    assert comparable(table_rows(file, endpoint)) == comparable(
        build_rows(served, endpoint.row_fields)
    )
    wrong = (
        f"SELECT count(*) FROM {TABLE} WHERE _extra IS NOT NULL "
        "OR _partition_date <> timezone('America/New_York', start_utc)::DATE"
    )
    assert query(file, wrong) == [(0,)]


def test_each_day_is_requested_from_its_midnight_and_beyond_its_end(
    own_sandbox: Sandbox, context: SyncContext
) -> None:
    seen = serve(own_sandbox, [])
    extract_load(context, reaching(3, 1), None)
    times = [(body["startsOnOrAfter"], body["endsOnOrBefore"]) for body in seen]
    assert times == [
        ("2026-03-07T05:00:00Z", "2026-03-09T05:00:00Z"),
        ("2026-03-08T05:00:00Z", "2026-03-10T04:00:00Z"),  # clocks go forward
        ("2026-03-09T04:00:00Z", "2026-03-11T04:00:00Z"),
        ("2026-03-10T04:00:00Z", "2026-03-12T04:00:00Z"),
        ("2026-03-11T04:00:00Z", "2026-03-13T04:00:00Z"),
    ]
    assert all(body["skillBasedAvailability"] is False for body in seen)


def test_a_frame_across_midnight_is_loaded_once(
    own_sandbox: Sandbox, context: SyncContext, tmp_path: Path
) -> None:
    night = frame("2026-03-10T02:00:00Z", "2026-03-10T06:00:00Z", 2.5)
    day = frame("2026-03-10T14:00:00Z", "2026-03-10T16:00:00Z", 0.0)
    serve(own_sandbox, [night, day])
    extract_load(context, reaching(2, 2), None)
    sql = f"SELECT _partition_date::VARCHAR, open_availability FROM {TABLE} ORDER BY start_utc"
    assert query(tmp_path / "x.duckdb", sql) == [("2026-03-09", 2.5), ("2026-03-10", 0.0)]


def test_a_later_load_replaces_its_days_and_keeps_those_before(
    own_sandbox: Sandbox, context: SyncContext, tmp_path: Path
) -> None:
    sql = f"SELECT day(_partition_date), open_availability FROM {TABLE} ORDER BY ALL"
    frames = [frame(f"2026-03-{d}T15:00:00Z", f"2026-03-{d}T17:00:00Z", 6.0) for d in (10, 11, 12)]
    serve(own_sandbox, frames)
    extract_load(context, reaching(0, 1), None)
    assert query(tmp_path / "x.duckdb", sql) == [(10, 6.0), (11, 6.0)]
    own_sandbox.world.move(timedelta(days=1))
    frames[1]["openAvailability"] = 1.5
    counts = extract_load(context, reaching(0, 1), None).loaded.counts
    assert query(tmp_path / "x.duckdb", sql) == [(10, 6.0), (11, 1.5), (12, 6.0)]
    assert (counts.inserted, counts.deleted) == (2, 1)
    assert query(tmp_path / "x.duckdb", f"SELECT count(_deleted_at) FROM {TABLE}") == [(0,)]
    again = extract_load(context, reaching(0, 1), None).loaded.counts
    assert (again.inserted, again.updated, again.unchanged, again.deleted) == (0, 0, 2, 0)


@pytest.mark.parametrize("start", [None, "", "2026-03-10T15:00:00", "noon", 15])
def test_a_frame_without_a_time_loads_nothing(
    own_sandbox: Sandbox, context: SyncContext, tmp_path: Path, start: Any
) -> None:
    extract_load(context, reaching(1, 0), None)
    before = query(tmp_path / "x.duckdb", f"FROM {TABLE}")
    odd = {**frame("2026-03-09T15:00:00Z", "2026-03-09T17:00:00Z", 1.0), "startUtc": start}
    body = json.dumps({"timeStamp": "2026-03-10T15:30:00Z", "availabilities": [odd]})
    own_sandbox.interceptors.insert(
        0,
        lambda request: (
            Response(body, media_type="application/json")
            if request.url.path.endswith("/capacity")
            else None
        ),
    )
    with pytest.raises(ServiceTitanError, match="a record has no time startUtc"):
        extract_load(context, reaching(1, 0), None)
    assert query(tmp_path / "x.duckdb", f"FROM {TABLE}") == before


def test_days_that_are_over_are_verified(tmp_path: Path) -> None:
    days = ("2026-03-09", "2026-03-10")
    frames = [frame(f"{day}T15:00:00Z", f"{day}T17:00:00Z", 6.0) for day in days]
    with Sandbox(customers=5, now=NOW, simulated_date=True, requests_per_second=1e9) as sandbox:
        seen = serve(sandbox, frames)
        context = build_context(sandbox, tmp_path / "x.duckdb", NO_WAIT)
        context = dataclasses.replace(context, clock=lambda: sandbox.world.now)
        extract_load(context, reaching(1, 1), None)
        assert reconcile(context, reaching(1, 1)) is None
        del seen[:]
        verified = verify_table(context, reaching(1, 1))
        assert (verified.rows_here, verified.rows_there, verified.differences) == (1, 1, ())
        assert len(seen) == 1, "yesterday alone is final"
        frames[0]["openAvailability"] = 0.5
        assert verify_table(context, reaching(1, 1)).differences
        context.client.close()


def test_it_is_only_selected_by_its_own_name() -> None:
    catalog = load_catalog()
    for patterns in ([], ["dispatch"], ["*"], ["dispatch.*"], ["dispatch,jpm.jobs"]):
        assert TABLE not in {endpoint.table for endpoint in select(catalog, patterns)}
    assert [e.table for e in select(catalog, ["jpm.jobs, dispatch.capacity"])] == [
        TABLE,
        "jpm.jobs",
    ]


def test_an_environment_has_it_only_if_its_setting_names_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = resolve_environment("production")
    assert TABLE in config.catalog.endpoints
    assert TABLE not in config.apply_selection().endpoints
    monkeypatch.setenv("SERVICETITAN_SELECT", f"jpm.jobs,{TABLE}")
    assert set(resolve_environment("production").apply_selection().endpoints) == {
        TABLE,
        "jpm.jobs",
    }


def test_its_scope_is_listed_apart_with_the_reason() -> None:
    everything = CliRunner().invoke(app, ["scopes"]).output
    assert "not included: tn.dis.capacity:w for dispatch.capacity, which is read by a POST" in (
        everything
    )
    assert "tn.dis.capacity:w" not in CliRunner().invoke(app, ["scopes", "--format", "text"]).output
    named = CliRunner().invoke(app, ["scopes", "--select", TABLE]).output
    assert "tn.dis.capacity:w" in named
    assert "not included" not in named


def test_settings_decide_on_the_days(monkeypatch: pytest.MonkeyPatch) -> None:
    forecast = resolve_environment("production").catalog[TABLE].forecast
    assert forecast
    assert (forecast.days_back, forecast.days_ahead) == (1, 14)
    monkeypatch.setenv("ST_CAPACITY_DAYS_BACK", "13")
    monkeypatch.setenv("ST_CAPACITY_DAYS_AHEAD", "0")
    config = resolve_environment("production")
    forecast = config.catalog[TABLE].forecast
    assert forecast
    assert (forecast.days_back, forecast.days_ahead) == (13, 0)
    assert (config.capacity_days_back, config.capacity_days_ahead) == (13, 0)


@pytest.mark.parametrize(
    ("name", "value", "most"),
    [
        ("ST_CAPACITY_DAYS_BACK", "14", 13),
        ("ST_CAPACITY_DAYS_BACK", "-1", 13),
        ("ST_CAPACITY_DAYS_AHEAD", "91", 90),
        ("ST_CAPACITY_DAYS_AHEAD", "1.5", 90),
        ("ST_CAPACITY_DAYS_AHEAD", "²", 90),
        ("ST_CAPACITY_DAYS_AHEAD", "a week", 90),
    ],
)
def test_a_number_of_days_that_is_none_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, most: int
) -> None:
    monkeypatch.setenv(name, value)
    wanted = f"{name} is '{value}': give a whole number of days from 0 to {most}"
    with pytest.raises(SettingsError, match=wanted.replace(".", r"\.")):
        _ = resolve_environment("production").catalog


def test_access_is_probed_by_a_post(own_sandbox: Sandbox, context: SyncContext) -> None:
    seen = serve(own_sandbox, [])
    probe_access(context.client.session(ReadStats()), load_catalog()[TABLE])
    assert len(seen) == 1


def test_dagster_and_the_command_line_load_it(
    own_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in own_sandbox.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SERVICETITAN_START_DATE", "2026-03-01")
    monkeypatch.setenv("SERVICETITAN_SELECT", TABLE)
    monkeypatch.setenv("ST_CAPACITY_DAYS_BACK", "2")
    monkeypatch.setenv("ST_CAPACITY_DAYS_AHEAD", "2")
    definitions = build_definitions("production", clock=lambda: own_sandbox.world.now)
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        result = definitions.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=instance
        )
        assert result.success
        keys = [event.asset_key for event in result.get_asset_materialization_events()]
    assert keys == [dg.AssetKey(["production", "dispatch", "capacity"])]
    file = tmp_path / "data" / "production.duckdb"
    served = request_capacity(own_sandbox, "2026-03-08T05:00:00Z", "2026-03-13T04:00:00Z")
    assert query(file, f"SELECT count(*) FROM {TABLE}") == [(len(served),)]
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    outcome = CliRunner().invoke(app, ["load", "--environment", "production"])
    assert outcome.exit_code == 0, outcome.output
