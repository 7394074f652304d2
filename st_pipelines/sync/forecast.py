"""Reads a forecast: figures of the days around today that ServiceTitan computes for each request.

A POST with a range of times is still a read. The figures of a day change until the day is over, so
each load reads all days from `Forecast.days_back` before today to `Forecast.days_ahead` after it,
and replaces their rows. Days further back keep what was last read of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

from st_pipelines.catalog.model import Forecast as ForecastFacts
from st_pipelines.servicetitan.http.model import ReadStats
from st_pipelines.sync.strategy import PlannedRead, ReadPart, Strategy
from st_pipelines.warehouse.load_spec import MergeMode
from st_pipelines.windows import Days, Window, local_day, midnight

if TYPE_CHECKING:
    from st_pipelines.servicetitan.http.client import Client

_DAY = timedelta(days=1)


class Forecast(Strategy):
    """Figures of the days around today, each day a request and a transaction of its own."""

    partitioned = False
    can_reconcile = False
    can_probe = False

    @property
    def facts(self) -> ForecastFacts:
        """How the endpoint is requested."""
        assert self.endpoint.forecast is not None
        return self.endpoint.forecast

    @property
    def description(self) -> str:
        """The days around today."""
        return (
            f"Read with every load for {self.facts.days_back} days before today, today, and "
            f"{self.facts.days_ahead} days after it. `_partition_date` is the local day."
        )

    def choose_days(self, today: date, timezone: str) -> Days:
        """The days that a load reads: all of them, whichever days were asked for."""
        return Days(
            first=today - self.facts.days_back * _DAY,
            last=today + self.facts.days_ahead * _DAY,
            timezone=timezone,
        )

    def plan(self, days: Days | None, clock: Callable[[], datetime]) -> Iterator[PlannedRead]:
        """One read a day."""
        assert days is not None, "see choose_days"
        for day in days:
            start = midnight(day.first, day.timezone)
            end = midnight(day.first + _DAY, day.timezone)
            window = Window(start=start, end=end)
            yield PlannedRead(window=window, mode=MergeMode.REPLACE_DAY, default_date=day.first)

    def plan_reconcile(self, clock: Callable[[], datetime]) -> Iterator[PlannedRead]:
        """No read: a day that is loaded again replaces its rows."""
        return iter(())

    def plan_verify(
        self, last_days: int | None, first_loaded: date | None, now: datetime, timezone: str
    ) -> Iterator[PlannedRead]:
        """One read for each day before today that a load reads, as later figures are not final."""
        today = local_day(now, timezone)
        back = self.facts.days_back if last_days is None else min(self.facts.days_back, last_days)
        first = max(first_loaded or today, today - back * _DAY)
        if first < today:
            days = Days(first=first, last=today - _DAY, timezone=timezone)
            yield from self.plan(days, lambda: now)

    def extend_to(self, window: Window | None, now: datetime) -> Window | None:
        """The same window: another one has other figures."""
        return window

    def read(self, client: Client, window: Window | None) -> Iterator[ReadPart]:
        """Yields the figures of the window's day."""
        from st_pipelines.servicetitan.reading.forecast import read_forecast

        assert window is not None
        stats = ReadStats()
        pages = read_forecast(client.session(stats), self.endpoint, window)
        yield ReadPart(stats=stats, pages=pages)
