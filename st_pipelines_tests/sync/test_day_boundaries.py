"""Records near a midnight arrive with the next daily load, whatever the clocks say."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import closing
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from st_pipelines.catalog.model import Endpoint
from st_pipelines.catalog.registry import load_catalog
from st_pipelines.sync.sync import LoadReport, SyncContext, extract_load
from st_pipelines.warehouse.errors import DayUnfinished
from st_pipelines.warehouse.store.duckdb_file import DuckDBFile
from st_pipelines.windows import Days
from st_pipelines_tests.churn_reader import query
from st_pipelines_tests.servicetitan.fake_server import Canned, ScriptedServer, Seen

NEW_YORK, LOS_ANGELES, HONOLULU = "America/New_York", "America/Los_Angeles", "Pacific/Honolulu"
MIDNIGHT = datetime(2026, 3, 11, 4, tzinfo=timezone.utc)
"""The end of March 10 in New York."""

JOBS = dataclasses.replace(load_catalog()["jpm.jobs"], export=None)
REVIEWS = load_catalog()["marketing_reputation.reviews"]
ADS = load_catalog()["marketing_ads.performance_by_campaign"]
CALLS = load_catalog()["telecom.calls_export"]


class Source:
    """A ServiceTitan that honors windows, and whose clock and records the test sets."""

    def __init__(self, server: ScriptedServer) -> None:
        self.server = server
        self.moments: dict[int, datetime] = {}
        server.rule = self._answer

    def _answer(self, seen: Seen) -> Canned | None:
        if "/export/" in seen.path:
            return Canned(body={"hasMore": False, "continueFrom": "end", "data": []})
        since, until = seen.query.get("modifiedOnOrAfter"), seen.query.get("modifiedBefore")
        ids = {int(text) for text in seen.query.get("ids", "").split(",") if text}
        self.server.records = [
            {"id": number, "modifiedOn": moment.strftime("%Y-%m-%dT%H:%M:%SZ")}
            for number, moment in self.moments.items()
            if (not ids or number in ids)
            and (since is None or moment >= datetime.fromisoformat(since))
            and (until is None or moment < datetime.fromisoformat(until))
        ]
        return None


@pytest.fixture
def source() -> Iterator[Source]:
    server = ScriptedServer()
    yield Source(server)
    server.close()


@pytest.fixture
def context(source: Source, tmp_path: Path) -> Iterator[SyncContext]:
    client = source.server.client()
    with closing(client):
        yield SyncContext(
            client=client,
            warehouse=DuckDBFile(uri=str(tmp_path / "x.duckdb"), wait_seconds=5),
            timezone=NEW_YORK,
            run_id="test",
        )


def load(
    context: SyncContext,
    endpoint: Endpoint,
    first: int,
    last: int,
    *,
    now: datetime,
    zone: str = NEW_YORK,
) -> LoadReport:
    days = Days(first=date(2026, 3, first), last=date(2026, 3, last), timezone=zone)
    at = dataclasses.replace(context, clock=lambda: now, timezone=zone)
    return extract_load(at, endpoint, days)


def loaded_ids(context: SyncContext) -> list[int]:
    rows = query(Path(context.warehouse.name), "SELECT id FROM jpm.jobs ORDER BY 1")
    return [row[0] for row in rows]


def loaded_windows(context: SyncContext) -> list[datetime]:
    """The ends of the windows in the load log, in the order of the loads."""
    ends = query(Path(context.warehouse.name), "SELECT window_end FROM _st.loads ORDER BY sequence")
    return [row[0] for row in ends]


def test_a_record_committed_after_its_day_was_loaded_arrives_with_the_next_day(
    source: Source, context: SyncContext
) -> None:
    """60 tables have neither a feed nor a look-back: such a record waited for the reconcile."""
    source.moments = {1: MIDNIGHT - timedelta(hours=5)}
    load(context, JOBS, 10, 10, now=MIDNIGHT + timedelta(minutes=30))
    source.moments[2] = MIDNIGHT - timedelta(minutes=3)
    load(context, JOBS, 11, 11, now=MIDNIGHT + timedelta(hours=24.5))
    assert loaded_ids(context) == [1, 2]


@pytest.mark.parametrize("endpoint", [JOBS, REVIEWS, CALLS], ids=lambda e: e.table)
def test_a_window_never_ends_after_the_servers_time(
    source: Source, context: SyncContext, endpoint: Endpoint
) -> None:
    """A clock 45 minutes ahead closed the day half an hour before it ended at ServiceTitan."""
    source.server.date = MIDNIGHT - timedelta(minutes=15)
    report = load(context, endpoint, 10, 10, now=MIDNIGHT + timedelta(minutes=30))
    assert report.window
    assert MIDNIGHT - timedelta(minutes=16) <= report.window.end < MIDNIGHT


def test_an_aggregate_is_read_over_its_whole_day_only_after_that_day_ended_at_the_server(
    source: Source, context: SyncContext
) -> None:
    source.server.date = MIDNIGHT - timedelta(minutes=15)
    report = load(context, ADS, 10, 10, now=MIDNIGHT + timedelta(minutes=30))
    assert report.window
    assert report.window.start == MIDNIGHT - timedelta(days=1)
    assert report.window.end < MIDNIGHT


def test_a_clock_that_is_behind_does_not_replace_a_finished_aggregate(
    source: Source, context: SyncContext
) -> None:
    """The day became a part of itself and still counted as complete."""
    source.server.date = MIDNIGHT + timedelta(hours=3)
    load(context, ADS, 10, 10, now=MIDNIGHT + timedelta(hours=3))
    with pytest.raises(DayUnfinished, match=r"2026-03-10 was read up to .* behind by 5:00:0"):
        load(context, ADS, 10, 10, now=MIDNIGHT - timedelta(hours=2))
    assert loaded_windows(context) == [MIDNIGHT]


def test_an_aggregate_that_is_overtaken_is_read_to_the_end_that_its_day_has_by_then(
    source: Source, context: SyncContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second attempt read the window of the first one: two minutes less than the day."""
    from st_pipelines.sync import sync

    commit, overtaken = sync.commit_load, []
    now = [MIDNIGHT - timedelta(minutes=2)]
    moving = dataclasses.replace(context, clock=lambda: now[0])
    march_10 = Days(first=date(2026, 3, 10), last=date(2026, 3, 10), timezone=NEW_YORK)

    def commit_later(*args: Any, **more: Any) -> Any:
        if not overtaken:
            overtaken.append(True)
            now[0] = MIDNIGHT + timedelta(hours=3)
            extract_load(moving, ADS, march_10)
        return commit(*args, **more)

    monkeypatch.setattr(sync, "commit_load", commit_later)
    report = extract_load(moving, ADS, march_10)
    assert report.window
    assert report.window.end == MIDNIGHT
    assert loaded_windows(context) == [MIDNIGHT, MIDNIGHT]


def test_a_clock_behind_the_servers_closes_the_window_at_its_own_time(
    source: Source, context: SyncContext
) -> None:
    source.server.date = MIDNIGHT + timedelta(hours=1)
    now = MIDNIGHT - timedelta(hours=1)
    report = load(context, JOBS, 10, 10, now=now)
    assert report.window
    assert report.window.end == now


def test_what_an_intraday_load_left_before_midnight_is_read_with_the_next_day(
    source: Source, context: SyncContext
) -> None:
    """No daily load followed it, and the sensor `gaps` would have come hours later."""
    evening = MIDNIGHT - timedelta(hours=8)
    load(context, JOBS, 10, 10, now=evening)
    source.moments = {1: evening - timedelta(minutes=5), 2: evening + timedelta(hours=1)}
    report = load(context, JOBS, 11, 11, now=MIDNIGHT + timedelta(hours=6))
    assert report.window
    assert report.window.start == evening - timedelta(hours=4)
    assert loaded_ids(context) == [1, 2]


def test_a_record_committed_after_its_day_was_loaded_arrives_although_a_day_was_left_out(
    source: Source, context: SyncContext
) -> None:
    """The hole was read from the midnight on, and every day was complete without the record."""
    load(context, JOBS, 10, 10, now=MIDNIGHT + timedelta(minutes=20))
    source.moments = {1: MIDNIGHT - timedelta(minutes=20)}
    load(context, JOBS, 12, 12, now=MIDNIGHT + timedelta(hours=30))
    assert loaded_ids(context) == [1]


@pytest.mark.parametrize("zone", [LOS_ANGELES, HONOLULU])
def test_the_hours_between_the_midnights_of_two_time_zones_are_read(
    source: Source, context: SyncContext, zone: str
) -> None:
    """After a move to the west they were in no window, and every day was green."""
    source.moments = {
        1: MIDNIGHT - timedelta(hours=5),
        2: MIDNIGHT + timedelta(minutes=10),
        3: MIDNIGHT + timedelta(hours=8),
    }
    load(context, JOBS, 8, 10, now=MIDNIGHT + timedelta(days=5))
    load(context, JOBS, 11, 14, now=MIDNIGHT + timedelta(days=5), zone=zone)
    assert loaded_ids(context) == [1, 2, 3]
