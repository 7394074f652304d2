"""Writes the SQL for a timestamp's local day, by Python's time zone database.

DuckDB has its own copy of the database, from another release. If a government changed a zone in
between, DuckDB would put a row near midnight on another day than the window it was read for.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

from st_pipelines.warehouse.columns import literal

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_YEARS_BACK, _YEARS_AHEAD = 10, 2
_YEAR = timedelta(days=365)
_STEP = timedelta(days=7)  # no zone changes and changes back within a week
_SECOND = timedelta(seconds=1)


def local_day(moment: str, zone: str) -> str:
    """Returns SQL for the local day of a TIMESTAMPTZ, as a DATE; NULL for NULL.

    Times more than ten years ago are left to DuckDB, as both databases agree on them.

    Args:
        moment: a SQL expression.
        zone: an IANA name.
    """
    offsets, micros = _read_offsets(zone), f"epoch_us({moment})"
    cases = " ".join(
        f"WHEN {micros} >= {_micros(since - _EPOCH)} THEN {_micros(offset)}"
        for since, offset in reversed(offsets)
    )
    recent = f"make_timestamp({micros} + CASE {cases} END)"
    return (
        f"CAST(CASE WHEN {micros} >= {_micros(offsets[0][0] - _EPOCH)} THEN {recent} "
        f"ELSE timezone({literal(zone)}, {moment}) END AS DATE)"
    )


@functools.lru_cache(maxsize=16)
def _read_offsets(zone: str) -> tuple[tuple[datetime, timedelta], ...]:
    """Returns the offsets from UTC, and since when each holds; the earliest first."""
    return tuple(_find_changes(ZoneInfo(zone)))


def _find_changes(zone: ZoneInfo) -> Iterator[tuple[datetime, timedelta]]:
    now = datetime.now(timezone.utc).replace(microsecond=0)
    at = now - _YEARS_BACK * _YEAR
    offset = _offset(zone, at)
    yield at, offset
    while at < now + _YEARS_AHEAD * _YEAR:
        following = at + _STEP
        if _offset(zone, following) != offset:
            changed = _find_change(zone, at, following)
            offset = _offset(zone, changed)
            yield changed, offset
        at = following


def _find_change(zone: ZoneInfo, same: datetime, other: datetime) -> datetime:
    """Returns the second at which the offset changes between two moments."""
    offset = _offset(zone, same)
    while other - same > _SECOND:
        middle = same + ((other - same) // (2 * _SECOND)) * _SECOND
        same, other = (middle, other) if _offset(zone, middle) == offset else (same, middle)
    return other


def _offset(zone: ZoneInfo, moment: datetime) -> timedelta:
    return moment.astimezone(zone).utcoffset() or timedelta()


def _micros(delta: timedelta) -> int:
    return delta // timedelta(microseconds=1)
