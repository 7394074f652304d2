"""Defines time sheets, payrolls and what they pay. See `entities`."""

from __future__ import annotations

from st_pipelines.sandbox import ticks
from st_pipelines.sandbox.entities import Entity, Job, Named, Staff, Visit
from st_pipelines.sandbox.master_data import FIRST_TECHNICIAN


class Code(Named, frozen=True, kw_only=True, gc=False):
    """A code for time or earnings; `kind` is its type or category."""

    kind: str
    code: str


class Sheet(Entity, frozen=True, kw_only=True, gc=False):
    """The time from `start` to `stop` (ticks) that a technician works or takes off.

    Attributes:
        visit: the appointment; None if the time belongs to no job.
        code: the time sheet code of time that belongs to no job.
    """

    technician: Staff
    start: int
    stop: int
    visit: Visit | None = None
    code: Code | None = None

    @property
    def duration(self) -> int:
        """In ticks."""
        return self.stop - self.start


class Payroll(Entity, frozen=True, kw_only=True, gc=False):
    """What an employee is paid for two weeks.

    Attributes:
        start, end: the local days (days since 1970), `end` included.
        approved, paid: when.
    """

    person: Staff
    is_technician: bool
    start: int
    end: int
    approved: int
    paid: int


class PayItem(Entity, frozen=True, kw_only=True, gc=False):
    """One line of a payroll.

    Attributes:
        kind: `TimesheetTime`, `Salary` or `InvoiceRelatedBonus`.
        sheet: whose time is paid; None for other kinds.
        job: whose work is paid; None if no job's.
        time_type: `Regular`, `Overtime` or `PaidTimeOff`; "" for other kinds.
        cents: the amount.
        day: the local day (days since 1970).
    """

    payroll: Payroll
    kind: str
    code: Code
    day: int
    cents: int
    sheet: Sheet | None = None
    job: Job | None = None
    time_type: str = ""


class Activity(Entity, frozen=True, kw_only=True, gc=False):
    """What a technician does during a part of a time sheet; `kind` is its activity type."""

    sheet: Sheet
    kind: Code
    start: int
    stop: int


class Split(Entity, frozen=True, kw_only=True, gc=False):
    """A technician's share of a job, in percent."""

    job: Job
    technician: Staff
    percent: int


class Adjustment(Entity, frozen=True, kw_only=True, gc=False):
    """What the technician of a job gets on top of the pay, in cents.

    Attributes:
        is_spiff: whether it is a bonus for the job's invoice; otherwise it pays back tools.
        code_id: the id of its earning code.
    """

    job: Job
    is_spiff: bool
    code_id: int
    cents: int


def is_technician(person: Staff) -> bool:
    """Return whether an employee works in the field."""
    return person.id >= FIRST_TECHNICIAN


def get_hourly_rate(person: Staff) -> int:
    """Return what an employee earns in an hour, in cents: technicians more than the office."""
    return 2300 + person.draw % 1500 if is_technician(person) else 1900 + person.draw % 900


def compute_pay(duration: int, person: Staff, percent: int = 100) -> int:
    """Return what an employee earns in `duration` (ticks), in cents, rounded."""
    scale = ticks.HOUR * 100
    return (duration * get_hourly_rate(person) * percent + scale // 2) // scale
