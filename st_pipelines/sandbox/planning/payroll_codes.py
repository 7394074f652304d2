"""Defines the codes of time and earnings, and the activities."""

from __future__ import annotations

from st_pipelines.sandbox.ids import compute_id
from st_pipelines.sandbox.payroll_entities import Code

TIME_CODES = (
    ("Shop", "Paid", "SHOP"),
    ("Vacation", "PaidTimeOff", "PTO"),
    ("Lunch", "Unpaid", "MEAL"),
    ("Clock", "ClockInOut", "CLK"),
    ("Training", "Paid", "TRN"),
    ("Holiday", "PaidTimeOff", "HOL"),
)
EARNING_CODES = (
    ("Hourly", "Timesheet", "HR"),
    ("Commission", "Commission", "COM"),
    ("Salary", "Timesheet", "SAL"),
    ("Mileage", "Reimbursement", "MIL"),
    ("Tools", "Reimbursement", "TLS"),
    ("Spiff", "Commission", "SPF"),
)
ACTIVITIES = (
    ("Drive", "Travel", "DRIVE"),
    ("Work", "OnJobActivities", "WORK"),
    ("Shop time", "Other", "SHOP"),
    ("Vacation", "PaidTimeOff", "PTO"),
    ("Lunch", "Meal", "MEAL"),
    ("Training", "Training", "TRAIN"),
    ("Waiting", "Idle", "IDLE"),
)
"""Name, type and code of each code for time, for earnings, and of each activity."""


def make_codes(
    base: int, entries: tuple[tuple[str, str, str], ...], created: int
) -> tuple[Code, ...]:
    """Make the codes of `entries`, created from `created` (ticks) on, with ids from `base` on."""
    return tuple(
        Code(
            id=compute_id(base, n),
            moments=(created + n,),
            draw=n,
            name=name,
            kind=kind,
            code=code,
        )
        for n, (name, kind, code) in enumerate(entries)
    )
