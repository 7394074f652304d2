"""Daily partitions in the environment's time zone; today has one, the first is open to the left."""

from __future__ import annotations

from datetime import date

import dagster as dg

from st_pipelines.config.settings import EnvironmentSettings
from st_pipelines.windows import Days


def daily_partitions(settings: EnvironmentSettings) -> dg.DailyPartitionsDefinition:
    """From the start date to today, today included."""
    return dg.DailyPartitionsDefinition(
        start_date=settings.start_date.isoformat(), timezone=settings.timezone, end_offset=1
    )


def days_of(partitions: dg.DailyPartitionsDefinition, keys: dg.PartitionKeyRange) -> Days:
    """The days of a run. With the first partition come all older records."""
    first, last = date.fromisoformat(keys.start), date.fromisoformat(keys.end)
    return Days(
        first=first,
        last=last,
        timezone=partitions.timezone,
        open_start=first <= partitions.start.date(),
    )
