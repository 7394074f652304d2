"""Draws when things happen: demand by season and weekday, office hours, appointments.

Times are ticks. `company` and `planning` decide what happens at these times.
"""

from __future__ import annotations

import random
from datetime import timedelta

from st_pipelines.sandbox import ticks

SEASON = (1.15, 1.05, 0.9, 0.8, 0.9, 1.2, 1.45, 1.3, 0.9, 0.8, 0.9, 1.1)
"""Demand by month, with peaks in summer and winter."""

WEEKDAY = (1.25, 1.15, 1.1, 1.1, 1.15, 0.3, 0.12)
"""Demand by weekday, Monday first."""

WEEKEND_SHARE = 0.15
"""Share of the visits drawn for a weekend that take place then."""


def compute_demand(day: int) -> float:
    """Return the demand on a local day (days since 1970) as a factor."""
    date = ticks.EPOCH + timedelta(days=day)
    return SEASON[date.month - 1] * WEEKDAY[date.weekday()]


def sort_moments(*moments: int) -> tuple[int, ...]:
    """Sort moments and drop zeros, which mean "never"."""
    return tuple(sorted(moment for moment in moments if moment))


def draw_office_hours(rng: random.Random, midnight: int, mean: float) -> list[int]:
    """Draw about `mean` moments between 7 a.m. and 7 p.m., most of them before noon, in order."""
    number = int(mean * rng.uniform(0.8, 1.2) + rng.random())
    return sorted(midnight + _draw_office_hour(rng) for _ in range(number))


def _draw_office_hour(rng: random.Random) -> int:
    moment = int(rng.triangular(7, 19, 10) * ticks.HOUR)
    # ServiceTitan serves timestamps with whole seconds too, without a fraction.
    return moment if rng.random() < 0.97 else moment // ticks.SECOND * ticks.SECOND


def find_midnight(moment: int) -> int:
    """Return the start of the local day of `moment` (both ticks)."""
    return ticks.from_local_day(ticks.to_local_day(ticks.to_datetime(moment)))


def draw_office_moment(rng: random.Random, moment: int) -> int:
    """Draw a moment in the office hours of the local day of `moment`."""
    return find_midnight(moment) + _draw_office_hour(rng)


def draw_appointment(rng: random.Random, created: int, midnight: int, last_hour: int = 16) -> int:
    """Draw the start of a visit: the same day or a few days later, usually on a weekday.

    Args:
        rng: draws it.
        created: when the visit is booked (ticks).
        midnight: the start of the local day of `created` (ticks).
        last_hour: the latest hour at which it may start.
    """
    days = rng.choice((0, 0, 1, 1, 2, 3, 5, 9))
    start = midnight + days * ticks.DAY + rng.randrange(8, last_hour + 1) * ticks.HOUR
    if start <= created + ticks.HOUR:
        start += ticks.DAY
    return start if rng.random() < WEEKEND_SHARE else leave_weekend(rng, start)


def leave_weekend(rng: random.Random, moment: int) -> int:
    """Move a moment from a weekend to one of the weekdays that follow; leave others alone."""
    # 1970-01-01 was a Thursday. All weekdays are as likely, or all work would wait for Monday.
    weekday = (moment // ticks.DAY + 3) % 7
    return moment if weekday < 5 else moment + (7 - weekday + rng.randrange(5)) * ticks.DAY
