"""The local day of a moment, in SQL, by the time zones of Python.

DuckDB brings time zones of its own, of another release: where a government has changed a zone in
between, they put a row near midnight into another day than the window that it was read for.
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
_STEP = timedelta(days=7)  # no zone changes there and back within a week
_SECOND = timedelta(seconds=1)


def local_day(moment: str, zone: str) -> str:
    """SQL for the local day of a TIMESTAMPTZ, a DATE; NULL for NULL.

    Args:
        moment: SQL.
        zone: IANA name. What it was ten years ago is left to DuckDB, as both know that alike.
    """
    offsets, micros = _offsets(zone), f"epoch_us({moment})"
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
def _offsets(zone: str) -> tuple[tuple[datetime, timedelta], ...]:
    """From when on which offset from UTC holds, earliest first."""
    return tuple(_changes(ZoneInfo(zone)))


def _changes(zone: ZoneInfo) -> Iterator[tuple[datetime, timedelta]]:
    now = datetime.now(timezone.utc).replace(microsecond=0)
    at = now - _YEARS_BACK * _YEAR
    offset = _offset(zone, at)
    yield at, offset
    while at < now + _YEARS_AHEAD * _YEAR:
        following = at + _STEP
        if _offset(zone, following) != offset:
            changed = _first_other(zone, at, following)
            offset = _offset(zone, changed)
            yield changed, offset
        at = following


def _first_other(zone: ZoneInfo, same: datetime, other: datetime) -> datetime:
    """The second at which the offset changes between two moments."""
    offset = _offset(zone, same)
    while other - same > _SECOND:
        middle = same + ((other - same) // (2 * _SECOND)) * _SECOND
        same, other = (middle, other) if _offset(zone, middle) == offset else (same, middle)
    return other


def _offset(zone: ZoneInfo, moment: datetime) -> timedelta:
    return moment.astimezone(zone).utcoffset() or timedelta()


def _micros(delta: timedelta) -> int:
    return delta // timedelta(microseconds=1)
