"""The stretch of time that a reading is about, and how it is written in a query."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone

from st_pipelines.catalog.model import DateFilter

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True, kw_only=True)
class Window:
    """A half-open interval `[start, end)`.

    Attributes:
        start: aware; None is open to the left, so that no record is too old to be read.
        end: aware. Close it at the moment of starting when it would lie in the future, so that
            what is changed during the reading is the next window's.
    """

    start: datetime | None
    end: datetime

    def __post_init__(self) -> None:
        """Refuse what would be a wrong question.

        Raises:
            ValueError: a bound is naive, or the window ends before it starts.
        """
        for bound in (self.start, self.end):
            if bound is not None and bound.tzinfo is None:
                raise ValueError(f"a window needs aware times, not {bound.isoformat()}")
        if self.start is not None and self.start > self.end:
            raise ValueError(f"a window must not end ({self.end}) before it starts ({self.start})")


def timestamp(moment: datetime) -> str:
    """`2026-01-02T05:00:00Z`, with microseconds only where there are any.

    Always with Z: one client found that "+00:00" is not accepted everywhere.
    """
    return moment.astimezone(timezone.utc).replace(tzinfo=None).isoformat() + "Z"


def date_params(date_filter: DateFilter, window: Window | None) -> dict[str, str]:
    """The query parameters that bound a list to a window.

    Args:
        date_filter: the endpoint's.
        window: an open start is left out, or sent as 1970 where the endpoint insists on one.
            None is open to both sides.

    Returns:
        Up to two parameters.
    """
    start = window.start if window else None
    if start is None and date_filter.required:
        start = _EPOCH
    lower = {date_filter.lower: timestamp(start)} if start else {}
    return lower | ({date_filter.upper: timestamp(window.end)} if window else {})
