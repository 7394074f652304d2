"""Converts between times and ticks: units of 100 ns since 1970, as in .NET.

ServiceTitan serves seven digits of a second; Python's datetime holds six.
"""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta, timezone
from functools import lru_cache
from zoneinfo import ZoneInfo

SECOND = 10_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
EPOCH = date(1970, 1, 1)
EPOCH_MOMENT = datetime(1970, 1, 1, tzinfo=timezone.utc)
NEW_YORK = ZoneInfo("America/New_York")

_FRACTION = re.compile(r"\.(\d{1,9})")
_CLOCK = tuple(f"{minute // 60:02}:{minute % 60:02}" for minute in range(1440))


def from_datetime(moment: datetime) -> int:
    """Convert an aware datetime to ticks."""
    return (moment - EPOCH_MOMENT) // timedelta(microseconds=1) * 10


def to_datetime(ticks: int) -> datetime:
    """Convert ticks to an aware UTC datetime, truncated to microseconds."""
    return EPOCH_MOMENT + timedelta(microseconds=ticks // 10)


def parse(text: str) -> int:
    """Parse ISO 8601 into ticks. Time, fraction and offset are optional; UTC is the default.

    Raises:
        ValueError: the text is not ISO 8601.
    """
    fraction = _FRACTION.search(text)
    # A plus sign without percent-encoding arrives as a blank.
    whole = _FRACTION.sub("", text.strip()).replace(" ", "+" if "T" in text else "T")
    if whole.endswith("Z"):
        whole = whole[:-1] + "+00:00"
    moment = datetime.fromisoformat(whole)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    digits = fraction.group(1)[:7].ljust(7, "0") if fraction else "0"
    return from_datetime(moment) + int(digits)


@lru_cache(maxsize=8192)
def _format_day(number: int) -> str:
    return (EPOCH + timedelta(days=number)).isoformat()


def format_iso(ticks: int) -> str:
    """Format ticks as `2025-10-13T14:05:09.8446003Z`, without trailing zeros of the fraction."""
    seconds, fraction = divmod(ticks, SECOND)
    days, second = divmod(seconds, 86_400)
    head = f"{_format_day(days)}T{_CLOCK[second // 60]}:{second % 60:02}"
    if not fraction:
        return head + "Z"
    digits = f"{fraction:07}".rstrip("0")
    # ServiceTitan has never been seen to serve a single digit.
    return f"{head}.{digits if len(digits) > 1 else digits + '0'}Z"


def format_midnight(ticks: int) -> str:
    """Format the day of `ticks` as ServiceTitan serves date-only times: `2025-10-13T00:00:00Z`."""
    return f"{_format_day(ticks // DAY)}T00:00:00Z"


def format_local_midnight(ticks: int) -> str:
    """Format the local day of `ticks` in New York as ServiceTitan serves date-only times."""
    return f"{_format_day(to_local_day(to_datetime(ticks)))}T00:00:00Z"


def format_date(ticks: int) -> str:
    """Format the day of `ticks` as fields of format `date` are served: `2025-10-13T00:00:00`."""
    return f"{_format_day(ticks // DAY)}T00:00:00"


def to_local_day(moment: datetime) -> int:
    """Convert an aware datetime to its local day in New York, in days since 1970."""
    return (moment.astimezone(NEW_YORK).date() - EPOCH).days


@lru_cache(maxsize=16_384)
def from_local_day(day: int) -> int:
    """Return the ticks at which a local day (days since 1970) starts in New York."""
    start = EPOCH + timedelta(days=day)
    return from_datetime(datetime(start.year, start.month, start.day, tzinfo=NEW_YORK))
