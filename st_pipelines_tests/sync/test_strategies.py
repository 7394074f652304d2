"""What each kind of endpoint reads for a load, and how its rows merge."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from datetime import date, datetime, timezone
from unittest.mock import Mock

import pytest

from st_pipelines.catalog.registry import load_catalog
from st_pipelines.servicetitan.http.model import ReadStats
from st_pipelines.sync.child_lists import ChildList
from st_pipelines.sync.forecast import Forecast
from st_pipelines.sync.strategies import (
    AggregateOfEach,
    DailyAggregate,
    ExportFeed,
    KeylessWindow,
    Snapshot,
    WindowedList,
    strategy_for,
)
from st_pipelines.sync.strategy import PlannedRead, Strategy
from st_pipelines.sync.sync import LoadReport
from st_pipelines.warehouse.load_spec import MergeMode
from st_pipelines.warehouse.staging.stage import Drift
from st_pipelines.warehouse.tables.load import Loaded
from st_pipelines.warehouse.tables.load_facts import Facts, MissingField
from st_pipelines.warehouse.tables.table_load import Counts
from st_pipelines.windows import Coverage, Days, Window
from st_pipelines_tests.churn_reader import TIMEZONE, days

CATALOG = load_catalog()
NOW = datetime(2026, 3, 10, 15, 30, tzinfo=timezone.utc)
KINDS = {
    "jpm.jobs": WindowedList,
    "marketing_reputation.reviews": KeylessWindow,
    "marketing_ads.performance_by_campaign": DailyAggregate,
    "telecom.calls_export": ExportFeed,
    "dispatch.capacity": Forecast,
    "scheduling_pro.schedulers_performance": AggregateOfEach,
    "settings.user_roles": Snapshot,
    "payroll.locations_rates": Snapshot,
    "crm.customers_notes": ChildList,
}


def utc(day: int, hour: int = 0) -> datetime:
    return datetime(2026, 3, day, hour, tzinfo=timezone.utc)


def plan(table: str, range_: Days | None) -> list[PlannedRead]:
    return list(strategy_for(CATALOG[table]).plan(range_, lambda: NOW))


@pytest.mark.parametrize(("table", "kind"), KINDS.items())
def test_each_kind_has_its_strategy(table: str, kind: type[Strategy]) -> None:
    assert type(strategy_for(CATALOG[table])) is kind


def test_every_endpoint_agrees_with_its_strategy_on_partitions() -> None:
    for endpoint in CATALOG:
        assert strategy_for(endpoint).partitioned == endpoint.partitioned


def test_only_aggregates_cannot_be_reconciled_and_only_days_can_be_probed() -> None:
    strategies = [strategy_for(endpoint) for endpoint in CATALOG]
    assert {type(s) for s in strategies if not s.can_reconcile} == {
        AggregateOfEach,
        DailyAggregate,
        Forecast,
    }
    assert {type(s) for s in strategies if not s.can_probe} == {
        AggregateOfEach,
        ChildList,
        DailyAggregate,
        Forecast,
        Snapshot,
    }
    for strategy in strategies:
        assert strategy.can_reconcile == bool(list(strategy.plan_reconcile(lambda: NOW)))


@pytest.mark.parametrize(
    ("table", "mode"),
    [
        ("jpm.jobs", MergeMode.UPSERT),
        ("telecom.calls_export", MergeMode.UPSERT),
        ("marketing_reputation.reviews", MergeMode.REPLACE_SCOPE),
    ],
)
def test_a_window_is_one_read_of_all_days_up_to_now(table: str, mode: MergeMode) -> None:
    assert plan(table, days("2026-03-08", "2026-03-10")) == [
        PlannedRead(
            window=Window(start=utc(8, 2), end=NOW),
            mode=mode,
            default_date=date(2026, 3, 10),
            midnight=utc(8, 5),
            until=utc(11, 4),
        )
    ]


@pytest.mark.parametrize(
    ("windows", "start"),
    [
        ([], utc(8, 2)),
        ([Window(start=None, end=utc(8, 2))], utc(8, 2)),
        ([Window(start=None, end=utc(8, 1))], utc(7, 22)),
        ([Window(start=utc(1), end=utc(6, 18)), Window(start=utc(8, 2), end=NOW)], utc(6, 15)),
        ([Window(start=None, end=utc(6)), Window(start=utc(7), end=utc(7, 9))], utc(7, 6)),
        ([Window(start=utc(1), end=utc(6, 17))], utc(8, 2)),
        ([Window(start=utc(8, 3), end=NOW)], utc(8, 2)),
    ],
    ids=["nothing", "no hole", "an hour", "loaded since", "the last hole", "36 hours", "later"],
)
def test_a_short_hole_before_the_first_midnight_is_read_along(
    windows: list[Window], start: datetime
) -> None:
    """An intraday load that no daily load followed leaves one, and so does another time zone."""
    [read] = plan("jpm.jobs", days("2026-03-08", "2026-03-10"))
    assert read.after(Coverage(windows)).window == Window(start=start, end=NOW)


def test_what_is_read_from_the_beginning_or_as_a_day_stays_as_it_is() -> None:
    covered = Coverage([Window(start=None, end=utc(7, 18))])
    for table, open_start in (
        ("jpm.jobs", True),
        ("marketing_ads.performance_by_campaign", False),
    ):
        [read] = plan(table, days("2026-03-08", "2026-03-08", open_start=open_start))
        assert read.after(covered) == read


@pytest.mark.parametrize(
    ("zone", "day", "start", "end"),
    [
        ("Pacific/Kiritimati", "2026-03-08", "2026-03-07T07:00", "2026-03-08T10:00"),
        ("Pacific/Pago_Pago", "2026-03-08", "2026-03-08T08:00", "2026-03-09T11:00"),
        ("America/New_York", "2026-03-08", "2026-03-08T02:00", "2026-03-09T04:00"),
        ("America/New_York", "2026-03-09", "2026-03-09T01:00", "2026-03-10T04:00"),
        ("Africa/Cairo", "2025-04-25", "2025-04-24T19:00", "2025-04-25T21:00"),
        ("Asia/Beirut", "2025-03-30", "2025-03-29T19:00", "2025-03-30T21:00"),
    ],
    ids=["+14", "-11", "23 hours", "after 23 hours", "no midnight", "no midnight in the west"],
)
def test_a_window_begins_three_hours_early_in_every_zone(
    zone: str, day: str, start: str, end: str
) -> None:
    local = Days(first=date.fromisoformat(day), last=date.fromisoformat(day), timezone=zone)
    [read] = plan("jpm.jobs", local)
    assert read.window == Window(
        start=datetime.fromisoformat(f"{start}+00:00"), end=datetime.fromisoformat(f"{end}+00:00")
    )


def test_a_window_begins_earlier_where_records_change_without_moving_their_cursor() -> None:
    endpoint = dataclasses.replace(CATALOG["jpm.jobs"], look_back_days=7)
    [read] = strategy_for(endpoint).plan(days("2026-03-08", "2026-03-09"), lambda: NOW)
    assert read.window == Window(start=utc(1, 5), end=utc(10, 4))


def test_an_aggregate_is_one_read_a_day_and_replaces_the_day() -> None:
    table = "marketing_ads.performance_by_campaign"
    range_ = days("2026-03-07", "2026-03-08", open_start=True)
    assert plan(table, range_) == [
        PlannedRead(
            window=Window(start=utc(7, 5), end=utc(8, 5)),
            mode=MergeMode.REPLACE_DAY,
            default_date=date(2026, 3, 7),
            until=utc(8, 5),
        ),
        PlannedRead(
            window=Window(start=utc(8, 5), end=utc(9, 4)),
            mode=MergeMode.REPLACE_DAY,
            default_date=date(2026, 3, 8),
            until=utc(9, 4),
        ),
    ]


def test_a_read_that_is_repeated_is_closed_at_its_own_start() -> None:
    [read] = plan("jpm.jobs", days("2026-03-08", "2026-03-10"))
    assert read.window
    for now, end in ((utc(10, 20), utc(10, 20)), (utc(12), utc(11, 4)), (utc(7), NOW)):
        again = read.closed_at(now)
        assert again == dataclasses.replace(read, window=Window(start=read.window.start, end=end))
    snapshot = PlannedRead(window=None, mode=MergeMode.REPLACE_ALL)
    assert snapshot.closed_at(utc(12)) == snapshot


def test_each_day_of_an_aggregate_is_planned_when_it_starts() -> None:
    strategy = strategy_for(CATALOG["marketing_ads.performance_by_campaign"])
    times = iter([utc(9, 12), utc(10, 12)])
    reads = strategy.plan(days("2026-03-09", "2026-03-10"), lambda: next(times))
    assert [read.window.end for read in reads if read.window] == [utc(9, 12), utc(10, 12)]


def test_a_snapshot_is_one_read_that_replaces_all() -> None:
    whole = [PlannedRead(window=None, mode=MergeMode.REPLACE_ALL)]
    assert plan("settings.user_roles", None) == whole
    assert plan("settings.user_roles", days("2026-03-08", "2026-03-10")) == whole


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ("jpm.jobs", PlannedRead(window=None, mode=MergeMode.REPLACE_ALL)),
        ("telecom.calls_export", PlannedRead(window=None, mode=MergeMode.UPSERT)),
        (
            "marketing_reputation.reviews",
            PlannedRead(
                window=Window(start=None, end=NOW),
                mode=MergeMode.REPLACE_SCOPE,
                until=datetime.max.replace(tzinfo=timezone.utc),
            ),
        ),
        ("settings.user_roles", PlannedRead(window=None, mode=MergeMode.REPLACE_ALL)),
    ],
)
def test_reconciling_reads_everything(table: str, expected: PlannedRead) -> None:
    assert list(strategy_for(CATALOG[table]).plan_reconcile(lambda: NOW)) == [expected]


@pytest.mark.parametrize(
    ("window", "start"),
    [
        (Window(start=utc(8), end=NOW), utc(8)),
        (Window(start=None, end=NOW), None),
        (None, None),
    ],
)
def test_a_feed_is_read_from_the_start_of_its_window(
    window: Window | None, start: datetime | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_feed = Mock(return_value=iter(()))
    monkeypatch.setattr("st_pipelines.servicetitan.reading.export_feed.read_feed", read_feed)
    endpoint = CATALOG["telecom.calls_export"]

    [part] = strategy_for(endpoint).read(Mock(), window)

    assert list(part.pages) == []
    assert read_feed.call_args.args[1:] == (endpoint, start)


def test_a_feed_has_nothing_to_follow_up() -> None:
    follow_up = {e.table for e in CATALOG if strategy_for(e).can_follow_up}
    assert {"jpm.jobs", "settings.user_roles"} <= follow_up
    assert not {"telecom.calls_export", "payroll.locations_rates"} & follow_up


def test_a_list_is_verified_over_local_days_up_to_now_or_from_its_beginning() -> None:
    strategy = strategy_for(CATALOG["jpm.jobs"])
    late = datetime(2026, 3, 10, 3, 30, tzinfo=timezone.utc)  # March 9 in New York

    def verified(last_days: int | None) -> Window | None:
        [read] = strategy.plan_verify(last_days, date(2026, 3, 1), late, TIMEZONE)
        return read.window

    assert verified(1) == Window(start=utc(9, 4), end=late)
    assert verified(3) == Window(start=utc(7, 5), end=late)
    assert verified(None) == Window(start=None, end=late)


def test_each_strategy_says_in_a_sentence_how_its_endpoint_is_read() -> None:
    for endpoint in CATALOG:
        description = strategy_for(endpoint).description
        assert description.startswith("Read "), endpoint.table
        assert description.endswith("."), endpoint.table


def test_only_reports_leave_out_what_an_earlier_try_has_loaded() -> None:
    """For the others, reading again is cheaper than a gap between two tries."""
    assert {e.table for e in CATALOG if strategy_for(e).resumes} == set()


def test_an_aggregate_is_verified_from_its_first_loaded_day_to_yesterday() -> None:
    strategy = strategy_for(CATALOG["marketing_ads.performance_by_campaign"])

    def verified(last_days: int | None, first: date | None) -> list[date | None]:
        reads = strategy.plan_verify(last_days, first, NOW, TIMEZONE)
        return [read.default_date for read in reads]

    assert verified(None, date(2026, 3, 8)) == [date(2026, 3, 8), date(2026, 3, 9)]
    assert verified(1, date(2026, 3, 1)) == [date(2026, 3, 9)]
    assert verified(None, None) == []


def test_a_record_that_changes_is_looked_for_up_to_now_but_an_aggregate_stays_in_its_day() -> None:
    window, later = Window(start=utc(8), end=utc(9)), utc(10)
    jobs = strategy_for(CATALOG["jpm.jobs"])
    aggregate = strategy_for(CATALOG["marketing_ads.performance_by_campaign"])
    assert jobs.extend_to(window, later) == Window(start=utc(8), end=later)
    assert jobs.extend_to(None, later) is None
    assert aggregate.extend_to(window, later) == window


def test_strategies_load_neither_duckdb_nor_requests() -> None:
    """Dagster's definitions ask them while they load."""
    code = (
        "import sys; import st_pipelines.sync.strategies;"
        "print(*({'duckdb', 'requests', 'dagster'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_the_reports_of_consecutive_days_add_up() -> None:
    first = LoadReport(
        endpoint=CATALOG["jpm.jobs"],
        window=Window(start=utc(8), end=utc(9)),
        seconds=1.0,
        read=ReadStats(requests=2, bytes=10, token_requests=1, readings=3, records=4, total=4),
        loaded=Loaded(
            rows_read=4,
            counts=Counts(inserted=3, unchanged=1),
            rows_by_date={date(2026, 3, 8): 4},
            table_rows_by_date={date(2026, 3, 8): 4},
            table_rows=4,
            missing_fields=(MissingField(path="a", share=0.5, rows=4),),
            facts=Facts(rows_before=1, lost=1, misplaced=7),
        ),
        notices=("old",),
    )
    first.drift.add({"x": 1}, ())
    second = LoadReport(
        endpoint=CATALOG["jpm.jobs"],
        window=Window(start=utc(9), end=utc(10)),
        seconds=0.5,
        read=ReadStats(requests=1, bytes=5, readings=1, records=2, total=2),
        loaded=Loaded(
            rows_read=2,
            counts=Counts(inserted=1, updated=1),
            rows_by_date={date(2026, 3, 8): 1, date(2026, 3, 9): 1},
            table_rows_by_date={date(2026, 3, 9): 1},
            table_rows=5,
            preview=({"id": 1},),
            missing_fields=(MissingField(path="a", share=0.6, rows=2),),
            facts=Facts(rows_before=4, lost=2, misplaced=0),
        ),
        notices=("new",),
    )
    second.drift.add({"x": 2, "y": 3}, ())
    both = first + second
    assert both.window == Window(start=utc(8), end=utc(10))
    assert (both.seconds, both.notices, both.source_total) == (1.5, ("new",), 6)
    assert (both.read.requests, both.read.bytes, both.read.token_requests) == (3, 15, 1)
    assert (both.read.readings, both.read.records) == (3, 6)
    loaded = both.loaded
    assert (loaded.rows_read, loaded.table_rows, loaded.preview) == (6, 5, ({"id": 1},))
    assert loaded.counts == Counts(inserted=4, updated=1, unchanged=1)
    assert loaded.rows_by_date == {date(2026, 3, 8): 5, date(2026, 3, 9): 1}
    assert loaded.table_rows_by_date == {date(2026, 3, 8): 4, date(2026, 3, 9): 1}
    assert loaded.missing_fields == (MissingField(path="a", share=0.6, rows=2),)
    assert (loaded.facts.rows_before, loaded.facts.lost, loaded.facts.misplaced) == (1, 3, 0)
    assert both.drift == Drift(counts=both.drift.counts, examples={"x": "1", "y": "3"})
    assert both.drift.counts == {"x": 2, "y": 1}
    unknown = dataclasses.replace(second, read=ReadStats(total=None))
    assert (first + unknown).source_total is None
