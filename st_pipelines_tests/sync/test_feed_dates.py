"""A feed that is read from a date lacks nothing, whatever time zone ServiceTitan takes the date in.

The vendor documents a date and no time zone. The tests play the hours in which the UTC date is the
next one already, so that a day that begins with local midnight begins after what is to be read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response

from st_pipelines.catalog.registry import load_catalog
from st_pipelines.sandbox import responses
from st_pipelines.sandbox.server import Sandbox
from st_pipelines.servicetitan.http.retry import NO_WAIT
from st_pipelines.sync.sync import SyncContext, extract_load
from st_pipelines_tests.churn_reader import build_context, days, query

JOBS, NOTES = load_catalog()["jpm.jobs"], load_catalog()["jpm.job_notes"]
ALL = days("2026-03-01", "2026-03-09", open_start=True)
EVENING = datetime(2026, 3, 10, 3, 30, tzinfo=timezone.utc)
"""Still March 9 in New York."""


@pytest.fixture(params=["Etc/GMT+12", "America/New_York", "Pacific/Kiritimati"])
def sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    with Sandbox(
        customers=20, now=EVENING, requests_per_second=1e9, export_timezone=request.param
    ) as sandbox:
        yield sandbox


@pytest.fixture
def context(sandbox: Sandbox, tmp_path: Path) -> Iterator[SyncContext]:
    context = build_context(sandbox, tmp_path / "w.duckdb", NO_WAIT)
    yield dataclasses.replace(context, clock=lambda: sandbox.world.now)
    context.client.close()


def refuse_tokens(request: Request) -> Response | None:
    start = request.query_params.get("from")
    if "/export/" not in request.url.path or start is None:
        return None
    try:
        date.fromisoformat(start)
    except ValueError:
        return responses.build_json_response({"title": "Not valid."}, 400)
    return None


def find_oldest(jobs: Iterable[dict[str, Any]]) -> int:
    """The active job whose last change is the oldest: the company itself does not change it."""
    return min((job["modifiedOn"], job["id"]) for job in jobs if job["active"])[1]


def test_a_feed_whose_token_is_no_longer_valid_is_read_from_before_the_last_load(
    sandbox: Sandbox, context: SyncContext
) -> None:
    extract_load(context, JOBS, ALL)
    sandbox.world.move(timedelta(minutes=5))
    id_ = find_oldest(sandbox.world.export_records(JOBS.table))
    sandbox.world.deactivate(JOBS.table, id_)
    sandbox.world.move(timedelta(days=4))
    sandbox.interceptors.append(refuse_tokens)
    extract_load(context, JOBS, days("2026-03-13", "2026-03-13"))
    active = f"SELECT active, _partition_date::VARCHAR FROM jpm.jobs WHERE id = {id_}"
    assert query(context.warehouse.name, active) == [(False, "2026-03-09")]


def test_such_a_feed_is_read_from_an_hour_before_the_last_load(
    sandbox: Sandbox, context: SyncContext
) -> None:
    """A record may be committed after its `modifiedOn`, as in every feed that has no token yet."""
    world = sandbox.world
    world.move(timedelta(hours=9))  # 12:30 UTC
    extract_load(context, JOBS, ALL)
    id_ = find_oldest(world.export_records(JOBS.table))
    late = world.now - timedelta(minutes=50)
    world.move(timedelta(minutes=1))
    world.change(JOBS.table, id_, active=False, modifiedOn=late)
    world.move(timedelta(days=4))
    sandbox.interceptors.append(refuse_tokens)
    extract_load(context, JOBS, days("2026-03-13", "2026-03-13"))
    active = f"SELECT active FROM jpm.jobs WHERE id = {id_}"
    assert query(context.warehouse.name, active) == [(False,)]


def test_an_export_without_a_list_is_read_from_the_hours_before_its_window(
    sandbox: Sandbox, context: SyncContext
) -> None:
    sandbox.world.move(timedelta(hours=2))
    extract_load(context, NOTES, ALL)
    late = sandbox.world.create(NOTES.table, modifiedOn=EVENING)
    sandbox.world.move(timedelta(days=1))
    extract_load(context, NOTES, days("2026-03-10", "2026-03-10"))
    rows = f"SELECT count(*) FROM jpm.job_notes WHERE id = {late}"
    assert query(context.warehouse.name, rows) == [(1,)]
