"""A row's local day is the day of its window, whatever time zone database DuckDB has."""

from __future__ import annotations

import random
from datetime import datetime, timedelta, timezone

import duckdb
import pytest

from st_pipelines.warehouse import columns
from st_pipelines.warehouse.columns import local_day_sql
from st_pipelines.windows import local_day

ZONES = (
    "UTC",
    "America/New_York",
    "America/Vancouver",
    "America/Phoenix",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "Africa/Casablanca",
    "Pacific/Apia",
    "Europe/Dublin",
)


def days_of(moments: list[datetime], zone: str) -> list:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        sql = f"SELECT {local_day_sql('m', zone)} FROM (SELECT unnest(?::TIMESTAMPTZ[]) AS m)"
        return [row[0] for row in connection.execute(sql, [moments]).fetchall()]


@pytest.mark.parametrize("zone", ZONES)
def test_sql_and_python_agree_on_the_day(zone: str) -> None:
    now, rng = datetime.now(timezone.utc), random.Random(zone)
    moments = [now - timedelta(seconds=rng.uniform(-6e7, 9e8)) for _ in range(3000)]
    for since, _ in columns._read_offsets(zone):
        moments += [since + timedelta(seconds=s) for s in (-3601, -1, 0, 1, 3601)]
    assert days_of(moments, zone) == [local_day(m, zone) for m in moments]


def test_python_decides_where_duckdbs_time_zones_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a newer time zone database had moved UTC by an hour."""
    moved = columns._read_offsets("Etc/GMT-1")
    monkeypatch.setattr(columns, "_read_offsets", lambda zone: moved)
    assert days_of([datetime(2026, 1, 1, 23, 30, tzinfo=timezone.utc)], "UTC") == [
        datetime(2026, 1, 2).date()
    ]


def test_null_has_no_day() -> None:
    with duckdb.connect() as connection:
        sql = f"SELECT {local_day_sql('NULL::TIMESTAMPTZ', 'America/New_York')}"
        assert connection.execute(sql).fetchall() == [(None,)]
