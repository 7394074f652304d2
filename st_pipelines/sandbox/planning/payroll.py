"""Plans time sheets, payrolls and what they pay, from the technicians' visits.

Technicians are paid by the hour, from the moment they drive to a job until it is done, and for the
rest of their shift in the shop; beyond 40 hours in a week at one and a half times the rate.
The office has salaries. Whoever sells an estimate gets a commission when its work is done.
"""

from __future__ import annotations

from collections.abc import Iterator

from st_pipelines.sandbox import ticks
from st_pipelines.sandbox.entities import Job, Staff, Visit
from st_pipelines.sandbox.ids import generate_ids
from st_pipelines.sandbox.payroll_entities import (
    Activity,
    Code,
    PayItem,
    Payroll,
    Sheet,
    Split,
    compute_pay,
)
from st_pipelines.sandbox.planning.books import Books
from st_pipelines.sandbox.planning.dispatch import TRAVEL
from st_pipelines.sandbox.planning.payroll_codes import (
    ACTIVITIES,
    EARNING_CODES,
    TIME_CODES,
    make_codes,
)
from st_pipelines.sandbox.schedule import sort_moments

PERIOD = 14
"""Days that a payroll covers. It starts on a Monday."""

FIRST_EARNING_CODE = 2_141_000
"""The id of the first earning code."""

SHIFT = ((8, 12), (13, 17))
"""The local hours of a weekday that are paid, with a visit or without."""

REGULAR_TICKS = 40 * ticks.HOUR
COMMISSION_PERCENT = 5


class PayrollOffice:
    """The time sheets and payrolls of a company."""

    def __init__(self, company: Books) -> None:
        self._company = company
        created = company.start - 200 * ticks.DAY
        self.time_codes = make_codes(2_140_000, TIME_CODES, created)
        self.earning_codes = make_codes(FIRST_EARNING_CODE, EARNING_CODES, created)
        self.activity_types = make_codes(2_142_000, ACTIVITIES, created)
        self.activity_categories = make_codes(2_143_000, ACTIVITIES, created)
        self.payrolls: list[Payroll] = []
        self.items: list[PayItem] = []
        self.time_off: list[Sheet] = []
        """Sheets that belong to no job: time in the shop, and vacations."""
        self.activities: list[Activity] = []
        self.splits: list[Split] = []
        self._ids = {
            kind: generate_ids(base)
            for kind, base in (
                ("payroll", 455_000_000),
                ("item", 460_000_000),
                ("sheet", 470_000_000),
                ("activity", 480_000_000),
                ("split", 490_000_000),
            )
        }
        self._current: dict[int, Payroll] = {}
        self._worked: dict[tuple[int, int], int] = {}
        self._visits: dict[int, list[Visit]] = {}
        self._seen = 0
        self._next_day = 0

    def extend(self) -> None:
        """Add what the days that were planned since the last call bring."""
        for visit in self._company.visits[self._seen :]:
            self._add_splits(visit.job)
            if visit.job.done:
                self._visits.setdefault(_find_day(visit.job.start), []).append(visit)
        self._seen = len(self._company.visits)
        first = min(self._visits, default=self._company.next_day)
        for day in range(self._next_day or first, self._company.next_day):
            self._add_day(day)
        self._next_day = self._company.next_day

    def _add_day(self, day: int) -> None:
        if not self._current or (day + 3) % PERIOD == 0:
            self._start_payrolls(day)
        visits = sorted(self._visits.pop(day, ()), key=lambda visit: visit.job.start)
        for technician in self._company.master_data.technicians:
            own = [visit for visit in visits if visit.job.technician is technician]
            is_weekday = (day + 3) % 7 < 5
            if is_weekday and not own and (technician.draw + day * 7919) % 23 == 0:
                self._add_vacation(day, technician)
            elif is_weekday or own:
                self._add_working_day(day, technician, own, has_shift=is_weekday)

    def _start_payrolls(self, day: int) -> None:
        data = self._company.master_data
        end = day + PERIOD - 1 - (day + 3) % PERIOD
        after = ticks.from_local_day(end + 1)
        created = ticks.from_local_day(day) + 5 * ticks.HOUR
        for number, person in enumerate(data.technicians + data.office):
            approved = after + 9 * ticks.HOUR + number
            paid = after + 3 * ticks.DAY + number
            payroll = Payroll(
                id=next(self._ids["payroll"]),
                moments=(created + number * ticks.SECOND, approved, paid),
                draw=person.draw,
                person=person,
                is_technician=number < len(data.technicians),
                start=day,
                end=end,
                approved=approved,
                paid=paid,
            )
            self.payrolls.append(payroll)
            self._current[person.id] = payroll
            if not payroll.is_technician:
                self._add_salary(payroll)

    def _add_salary(self, payroll: Payroll) -> None:
        self.items.append(
            PayItem(
                id=next(self._ids["item"]),
                moments=(payroll.approved,),
                draw=self._number_item(),
                payroll=payroll,
                kind="Salary",
                code=self.earning_codes[2],
                day=payroll.end,
                cents=compute_pay(80 * ticks.HOUR, payroll.person),
            )
        )

    def _number_item(self) -> int:
        """Return a number that gives the item an id, see `odd_values`."""
        return len(self.items) * 23

    def _add_working_day(
        self, day: int, technician: Staff, visits: list[Visit], *, has_shift: bool
    ) -> None:
        if has_shift:
            busy = [(visit.job.start - TRAVEL, visit.job.done) for visit in visits]
            for start, stop in _list_free_time(ticks.from_local_day(day), busy):
                sheet = self._make_sheet(technician, start, stop, self.time_codes[0])
                self._add_time_off(day, sheet, self.activity_types[2], time_type="")
        for visit in visits:
            job = visit.job
            sheet = Sheet(
                id=visit.id,
                moments=(job.done,),
                draw=visit.draw,
                technician=technician,
                start=job.start - TRAVEL,
                stop=job.done,
                visit=visit,
            )
            self._pay_time(day, sheet, time_type="")
            self._add_activity(sheet, self.activity_types[0], sheet.start, job.start)
            self._add_activity(sheet, self.activity_types[1], job.start, job.done)
            self._pay_commission(day, job)

    def _add_vacation(self, day: int, technician: Staff) -> None:
        start = ticks.from_local_day(day) + 8 * ticks.HOUR
        sheet = self._make_sheet(technician, start, start + 8 * ticks.HOUR, self.time_codes[1])
        self._add_time_off(day, sheet, self.activity_types[3], time_type="PaidTimeOff")

    def _make_sheet(self, technician: Staff, start: int, stop: int, code: Code) -> Sheet:
        return Sheet(
            id=next(self._ids["sheet"]),
            moments=(start, stop),
            draw=technician.draw,
            technician=technician,
            start=start,
            stop=stop,
            code=code,
        )

    def _add_time_off(self, day: int, sheet: Sheet, kind: Code, *, time_type: str) -> None:
        self.time_off.append(sheet)
        self._pay_time(day, sheet, time_type=time_type)
        self._add_activity(sheet, kind, sheet.start, sheet.stop)

    def _pay_time(self, day: int, sheet: Sheet, *, time_type: str) -> None:
        week = (sheet.technician.id, (day + 3) // 7)
        worked = self._worked.get(week, 0)
        if not time_type:
            self._worked[week] = worked + sheet.duration
            time_type = "Overtime" if worked >= REGULAR_TICKS else "Regular"
        percent = 150 if time_type == "Overtime" else 100
        self.items.append(
            PayItem(
                id=next(self._ids["item"]),
                moments=(sheet.stop,),
                draw=self._number_item(),
                payroll=self._current[sheet.technician.id],
                kind="TimesheetTime",
                code=self.earning_codes[0],
                day=day,
                cents=compute_pay(sheet.duration, sheet.technician, percent),
                sheet=sheet,
                job=sheet.visit.job if sheet.visit else None,
                time_type=time_type,
            )
        )

    def _pay_commission(self, day: int, job: Job) -> None:
        estimate = job.origin.estimate
        if estimate is None:
            return
        self.items.append(
            PayItem(
                id=next(self._ids["item"]),
                moments=(job.done,),
                draw=self._number_item(),
                payroll=self._current[estimate.job.technician.id],
                kind="InvoiceRelatedBonus",
                code=self.earning_codes[1],
                day=day,
                cents=job.total * COMMISSION_PERCENT // 100,
                job=job,
            )
        )

    def _add_activity(self, sheet: Sheet, kind: Code, start: int, stop: int) -> None:
        removed = stop + ticks.HOUR if len(self.activities) % 61 == 60 else 0
        self.activities.append(
            Activity(
                id=next(self._ids["activity"]),
                moments=sort_moments(start, stop, removed),
                deactivated=removed,
                draw=sheet.draw,
                sheet=sheet,
                kind=kind,
                start=start,
                stop=stop,
            )
        )

    def _add_splits(self, job: Job) -> None:
        shares = [(job.technician, 60), (job.helper, 40)] if job.helper else [(job.technician, 100)]
        for technician, percent in shares:
            if technician is not None:
                self.splits.append(
                    Split(
                        id=next(self._ids["split"]),
                        moments=(job.moments[0],),
                        draw=job.draw,
                        job=job,
                        technician=technician,
                        percent=percent,
                    )
                )


def _list_free_time(midnight: int, busy: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield when a technician is in the shop: the shift without lunch, travel and visits."""
    for first, last in SHIFT:
        start, end = midnight + first * ticks.HOUR, midnight + last * ticks.HOUR
        for left, back in busy:
            if start < min(left, end):
                yield start, min(left, end)
            start = max(start, back)
        if start < end:
            yield start, end


def _find_day(moment: int) -> int:
    return ticks.to_local_day(ticks.to_datetime(moment))
