"""Says when a payment is taken to the bank. Days are local, in days since 1970; times are ticks."""

from __future__ import annotations

from st_pipelines.sandbox import ticks

FIRST_ID = 373_000_000


def find_deposit_day(paid: int) -> int:
    """Return the first weekday after the local day of a payment (ticks), in days since 1970."""
    day = ticks.to_local_day(ticks.to_datetime(paid)) + 1
    # 1970-01-01 was a Thursday.
    return day + max(0, 7 - (day + 3) % 7) if (day + 3) % 7 >= 5 else day


def find_deposit_moment(day: int) -> int:
    """Return when the deposit of a local day is made: about 4 p.m. (ticks)."""
    return ticks.from_local_day(day) + 16 * ticks.HOUR + day * 7919 % 1800 * ticks.SECOND


def find_deposit_of(paid: int) -> int:
    """Return when a payment is taken to the bank (ticks); 0 for one that was never made."""
    return paid and find_deposit_moment(find_deposit_day(paid))


def compute_deposit_id(day: int) -> int:
    """Return the id of the deposit of a local day."""
    return FIRST_ID + day
