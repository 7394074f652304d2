"""The day of a row is that of the windows, whatever release of the time zones DuckDB has."""

from __future__ import annotations

import random
from datetime import datetime, timedelta, timezone

import duckdb
import pytest

from st_pipelines.warehouse.staging import local_day as local_day_sql
from st_pipelines.warehouse.staging.local_day import local_day
from st_pipelines.windows import local_day as day_of_a_window

ZONES = (
    "UTC", "America/New_York", "America/Vancouver", "America/Phoenix", "Australia/Lord_Howe",
    "Asia/Kathmandu", "Africa/Casablanca", "Pacific/Apia", "Europe/Dublin",
)  # fmt: skip


def days_of(moments: list[datetime], zone: str) -> list:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        sql = f"SELECT {local_day('m', zone)} FROM (SELECT unnest(?::TIMESTAMPTZ[]) AS m)"
        return [row[0] for row in connection.execute(sql, [moments]).fetchall()]


@pytest.mark.parametrize("zone", ZONES)
def test_sql_and_python_agree_on_the_day(zone: str) -> None:
    now, rng = datetime.now(timezone.utc), random.Random(zone)
    moments = [now - timedelta(seconds=rng.uniform(-6e7, 9e8)) for _ in range(3000)]
    for since, _ in local_day_sql._read_offsets(zone):
        moments += [since + timedelta(seconds=s) for s in (-3601, -1, 0, 1, 3601)]
    assert days_of(moments, zone) == [day_of_a_window(m, zone) for m in moments]


def test_a_zone_that_duckdb_knows_otherwise_is_pythons(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a release of the zones that DuckDB does not have had moved UTC by an hour."""
    moved = local_day_sql._read_offsets("Etc/GMT-1")
    monkeypatch.setattr(local_day_sql, "_read_offsets", lambda zone: moved)
    assert days_of([datetime(2026, 1, 1, 23, 30, tzinfo=timezone.utc)], "UTC") == [
        datetime(2026, 1, 2).date()
    ]


def test_no_moment_has_no_day() -> None:
    with duckdb.connect() as connection:
        sql = f"SELECT {local_day('m', 'America/New_York')} FROM (SELECT NULL::TIMESTAMPTZ AS m)"
        assert connection.execute(sql).fetchall() == [(None,)]
