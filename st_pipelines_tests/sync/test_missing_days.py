"""Which days the warehouse lacks, of each kind of table."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from st_pipelines.catalog.registry import load_catalog
from st_pipelines.config.settings import EnvironmentSettings
from st_pipelines.sync.completeness import WarehouseState, settled_days
from st_pipelines.windows import Coverage, Days, Window, describe_days, midnight

CATALOG = load_catalog()
JOBS, ADS = CATALOG["jpm.jobs"], CATALOG["marketing_ads.performance_by_campaign"]
EASTERN, PACIFIC = "America/New_York", "America/Los_Angeles"


def march(day: int) -> date:
    return date(2026, 3, day)


def days(first: int, last: int, zone: str = EASTERN) -> Days:
    return Days(first=march(first), last=march(last), timezone=zone, open_start=True)


def window(first: int | None, last: int, zone: str = EASTERN) -> Window:
    start = midnight(march(first), zone) if first else None
    return Window(start=start, end=midnight(march(last + 1), zone))


def missing(endpoint: object, coverage: Coverage, wanted: Days) -> list[int]:
    state = WarehouseState(coverage={endpoint.table: coverage})  # pyright: ignore
    return [day.day for day in state.find_missing_days(endpoint, wanted)]  # pyright: ignore


def test_a_table_that_was_never_loaded_lacks_every_day() -> None:
    assert WarehouseState().find_missing_days(JOBS, days(5, 6)) == [march(5), march(6)]


def test_the_first_day_includes_everything_older() -> None:
    assert missing(JOBS, Coverage((window(None, 9),)), days(2, 9)) == []
    assert missing(JOBS, Coverage((window(1, 9),)), days(2, 9)) == [2]


def test_a_hole_is_missing_on_both_of_its_days() -> None:
    whole = (window(None, 4), window(7, 9))
    assert missing(JOBS, Coverage(whole), days(2, 9)) == [5, 6]
    hour = timedelta(hours=1)
    partly = (window(None, 4), Window(start=midnight(march(5), EASTERN) + hour, end=whole[1].end))
    assert missing(JOBS, Coverage(partly), days(2, 9)) == [5]


def test_days_in_another_zone_lack_the_hours_at_the_end() -> None:
    assert missing(JOBS, Coverage((window(None, 9),)), days(2, 9, PACIFIC)) == [9]


def test_an_aggregate_lacks_each_day_that_was_not_read_as_one() -> None:
    by_day = Coverage(tuple(window(day, day) for day in (2, 3, 5)))
    assert missing(ADS, by_day, days(2, 5)) == [4]
    assert missing(ADS, Coverage((window(2, 5),)), days(2, 3)) == [2, 3]
    assert missing(ADS, by_day, days(2, 3, PACIFIC)) == [2, 3], "their days are other days"


@pytest.mark.parametrize(("hour", "last"), [(2, 8), (4, 9)])
def test_yesterday_is_due_when_its_daily_run_has_had_its_time(hour: int, last: int) -> None:
    settings = EnvironmentSettings(start_date=march(1), timezone=EASTERN)
    now = midnight(march(10), EASTERN) + timedelta(hours=hour)
    assert settled_days(settings, now) == days(1, last)
    assert settled_days(settings, now - timedelta(days=20)) is None


def test_days_are_described_by_their_number_and_bounds() -> None:
    assert describe_days([march(4)]) == "2026-03-04"
    assert describe_days([march(4), march(2)]) == "2 days from 2026-03-02 to 2026-03-04"
