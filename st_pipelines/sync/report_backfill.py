"""Plans the backfill of a report: which days to read, and how long that takes at the tenant's pace.

The load log knows the days that are done, so a backfill that was stopped continues where it was.
A day is done once it was read after its look-back days had passed; until then its figures may
change, and it is read again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from st_pipelines.catalog.model import Endpoint
from st_pipelines.catalog.report import Report
from st_pipelines.warehouse.store.base import Store
from st_pipelines.warehouse.tables.load_log import read_windows
from st_pipelines.windows import Days, midnight


@dataclass(frozen=True, kw_only=True)
class BackfillPlan:
    """What a backfill of one report does.

    Attributes:
        days: to read, in order; none for a report that is read whole.
        done: days of the range that are left out.
        interval_seconds: between two runs.
    """

    report: Report
    days: tuple[date, ...]
    done: int
    interval_seconds: float

    @property
    def runs(self) -> int:
        """Runs of the report, if each day fits on one page."""
        return len(self.days) if self.report.by_day else 1

    @property
    def seconds(self) -> float:
        """How long the runs take: they start at the tenant's pace, whatever a run takes."""
        return max(0, self.runs - 1) * self.interval_seconds

    def ranges(self, longest: int) -> Iterator[tuple[date, date]]:
        """Yields the days as ranges without a gap, both ends included.

        Args:
            longest: days of a range.
        """
        first = last = None
        for day in self.days:
            if first is None or last is None:
                first = last = day
            elif day - last == timedelta(days=1) and (day - first).days < longest:
                last = day
            else:
                yield first, last
                first = last = day
        if first is not None and last is not None:
            yield first, last


def plan_backfill(
    endpoint: Endpoint,
    days: Days,
    loaded: Mapping[tuple[datetime, datetime], datetime],
    *,
    interval_seconds: float,
    again: bool = False,
) -> BackfillPlan:
    """Returns what to read of a report.

    Args:
        days: the range to have in the end; ignored for a report that is read whole.
        loaded: of `read_loaded_windows`.
        again: also read days that are done.
    """
    report = endpoint.report
    assert report is not None
    wanted: list[date] = []
    if report.by_day:
        wanted = [day.first for day in days if again or not _is_done(report, day, loaded)]
    total = (days.last - days.first).days + 1 if report.by_day else 0
    return BackfillPlan(
        report=report,
        days=tuple(wanted),
        done=total - len(wanted),
        interval_seconds=interval_seconds,
    )


def read_loaded_windows(
    store: Store, endpoint: Endpoint, *, environment: str, tenant_id: str
) -> dict[tuple[datetime, datetime], datetime]:
    """Returns the days of a report that were loaded, as UTC windows, and when each was last.

    Raises:
        WarehouseError: the warehouse cannot be read.
    """
    if not store.exists:
        return {}
    with store.read_only() as connection:
        return read_windows(connection, endpoint, environment=environment, tenant_id=tenant_id)


def _is_done(
    report: Report, day: Days, loaded: Mapping[tuple[datetime, datetime], datetime]
) -> bool:
    start = midnight(day.first, day.timezone)
    end = midnight(day.first + timedelta(days=1), day.timezone)
    settled = midnight(day.first + timedelta(days=1 + report.look_back_days), day.timezone)
    loaded_at = loaded.get((start, end))
    return loaded_at is not None and loaded_at >= settled
