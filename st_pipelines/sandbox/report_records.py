"""Reads the records that reports are computed from, as the sandbox serves them.

It says what an amount, a day, a business unit and a technician's share of a record are.
`report_figures` sums them up.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from functools import cached_property
from typing import TypeVar

import msgspec

from st_pipelines.sandbox import ticks
from st_pipelines.sandbox.world import World

INCOME = "Income"
"""The type of general ledger account whose items are revenue."""

_ZERO = Decimal(0)


class Record(msgspec.Struct, frozen=True, rename="camel", kw_only=True, gc=False):
    """A record of which only some members are read. `active` is missing in some lists."""

    id: int = 0
    active: bool = True


class Reference(msgspec.Struct, frozen=True, gc=False):
    """What a record says about another one."""

    id: int
    name: str | None = None


class Account(msgspec.Struct, frozen=True, gc=False):
    """The general ledger account of an item."""

    type: str | None = None


class Item(Record, frozen=True, rename="camel", kw_only=True, gc=False):
    """A line of an invoice."""

    total: Decimal | None = None
    general_ledger_account: Account | None = None
    business_unit: Reference | None = None

    @property
    def income(self) -> Decimal:
        """The amount that is revenue, before tax."""
        account = self.general_ledger_account
        is_income = account is not None and account.type == INCOME
        return (self.total or _ZERO) if is_income else _ZERO


class Invoice(Record, frozen=True, rename="camel", kw_only=True, gc=False):
    """An invoice."""

    job: Reference | None = None
    invoice_date: str | None = None
    adjustment_to_id: int | None = None
    business_unit: Reference | None = None
    sub_total: Decimal | None = None
    items: list[Item] | None = None


class Job(Record, frozen=True, rename="camel", kw_only=True, gc=False):
    """A job."""

    job_number: str | None = None
    job_status: str | None = None
    completed_on: str | None = None
    created_on: str | None = None
    business_unit_id: int | None = None
    job_type_id: int | None = None
    no_charge: bool | None = False

    @property
    def completion_day(self) -> date | None:
        """The local day on which it was completed; None if it was not."""
        return to_day(self.completed_on) if self.job_status == "Completed" else None


class JobType(Record, frozen=True, rename="camel", kw_only=True, gc=False):
    """A type of job."""

    sold_threshold: Decimal | None = None


class Status(msgspec.Struct, frozen=True, gc=False):
    """The status of an estimate."""

    name: str | None = None


class Estimate(Record, frozen=True, rename="camel", kw_only=True, gc=False):
    """An estimate."""

    job_id: int | None = None
    status: Status | None = None
    sold_on: str | None = None
    sold_by: int | None = None
    subtotal: Decimal | None = None


class Split(Record, frozen=True, rename="camel", kw_only=True, gc=False):
    """A technician's part of a job."""

    job_id: int | None = None
    technician_id: int | None = None
    split: Decimal | None = None


class Assignment(Record, frozen=True, rename="camel", kw_only=True, gc=False):
    """The assignment of a technician to an appointment."""

    job_id: int | None = None
    technician_id: int | None = None
    assigned_on: str | None = None


class Visit(Record, frozen=True, rename="camel", kw_only=True, gc=False):
    """An appointment of a job."""

    job_id: int | None = None
    start: str | None = None


class Crew(Record, frozen=True, rename="camel", kw_only=True, gc=False):
    """A business unit, a technician or a job type: something with a name."""

    name: str | None = None
    business_unit_id: int | None = None


class PhoneCall(Record, frozen=True, rename="camel", kw_only=True, gc=False):
    """A phone call, as the export serves it."""

    type: str | None = None
    direction: str | None = None
    created_on: str | None = None


class Booking(Record, frozen=True, rename="camel", kw_only=True, gc=False):
    """A booking that came from the web."""

    status: str | None = None
    created_on: str | None = None


R = TypeVar("R", bound=Record)


def to_day(text: str | None) -> date | None:
    """Return the local day of a moment in UTC."""
    if not text:
        return None
    return ticks.to_datetime(ticks.parse(text)).astimezone(ticks.NEW_YORK).date()


def read_date(text: str | None) -> date | None:
    """Return the day of a date that is served as midnight. It is not shifted to local time."""
    return date.fromisoformat(text[:10]) if text else None


@dataclass(frozen=True, kw_only=True)
class Sale:
    """An estimate that was sold, of a job that exists."""

    day: date
    job: Job
    amount: Decimal
    seller: int | None


class CompanyRecords:
    """The active records of a company, each table read when it is first needed."""

    def __init__(self, world: World) -> None:
        self._world = world

    def read(self, table: str, kind: type[R]) -> list[R]:
        """Read the active records of a table."""
        return [each for each in self.read_all(table, kind) if each.active]

    def read_all(self, table: str, kind: type[R]) -> list[R]:
        """Read all records of a table."""
        content = b"[" + b",".join(self._world.export_raw(table)) + b"]"
        return msgspec.json.decode(content, type=list[kind])

    @cached_property
    def jobs(self) -> Mapping[int, Job]:
        """All jobs by id."""
        return {job.id: job for job in self.read("jpm.jobs", Job)}

    @cached_property
    def invoices(self) -> list[Invoice]:
        """All invoices."""
        return self.read("accounting.invoices", Invoice)

    @cached_property
    def thresholds(self) -> Mapping[int, Decimal]:
        """The sold thresholds by job type, even of those that are no longer active."""
        types = self.read_all("jpm.job_types", JobType)
        return {each.id: each.sold_threshold or _ZERO for each in types}

    def find_threshold(self, job: Job) -> Decimal:
        """Return the amount from which on a job counts as sold. Without one it is 0."""
        return self.thresholds.get(job.job_type_id or 0, _ZERO)

    @cached_property
    def outcomes(self) -> list[JobOutcome]:
        """The jobs that were completed."""
        outcomes = {
            job.id: JobOutcome(job=job, day=day)
            for job in self.jobs.values()
            if (day := job.completion_day)
        }
        for invoice in self.invoices:
            found = outcomes.get(invoice.job.id) if invoice.job else None
            if found is None or invoice.adjustment_to_id is not None:
                continue
            found.subtotal += invoice.sub_total or _ZERO
            for item in invoice.items or ():
                unit = find_unit(item, invoice, found.job)
                found.units.add(unit)
                found.income[unit] += item.income
        for outcome in outcomes.values():
            threshold = self.find_threshold(outcome.job)
            outcome.is_converted = outcome.subtotal >= threshold
            outcome.units = outcome.units or {outcome.job.business_unit_id}
        return list(outcomes.values())

    @cached_property
    def sales(self) -> list[Sale]:
        """The sold estimates of jobs, in the order of their days."""
        sales = []
        for each in self.read("salestech.estimates", Estimate):
            job, day = self.jobs.get(each.job_id or 0), to_day(each.sold_on)
            if job and day and each.status and each.status.name == "Sold":
                amount = each.subtotal or _ZERO
                sales.append(Sale(day=day, job=job, amount=amount, seller=each.sold_by))
        return sorted(sales, key=lambda sale: sale.day)


@dataclass(kw_only=True)
class JobOutcome:
    """A completed job, with what its invoices say apart from adjustments.

    Attributes:
        day: the local day of its completion.
        subtotal: the sum of its invoices before tax.
        units: the business units of its items; the job's own if it has no items.
        income: its revenue by business unit.
        is_converted: whether the subtotal reaches the sold threshold.
    """

    job: Job
    day: date
    subtotal: Decimal = _ZERO
    units: set[int | None] = field(default_factory=set)
    income: dict[int | None, Decimal] = field(default_factory=lambda: defaultdict(Decimal))
    is_converted: bool = False

    @property
    def is_opportunity(self) -> bool:
        """Whether it counts as a chance to sell: not a free job, unless it was converted."""
        return self.is_converted or not self.job.no_charge


def find_unit(item: Item, invoice: Invoice, job: Job | None) -> int | None:
    """Return the business unit of an item: its own, or its invoice's, or its job's."""
    given = item.business_unit or invoice.business_unit
    return given.id if given else job and job.business_unit_id


def list_other_revenue(records: CompanyRecords) -> Iterator[tuple[date, str, int | None, Decimal]]:
    """List revenue outside of jobs: the day, the figure's name, the business unit, the amount."""
    for invoice in records.invoices:
        adjusts = invoice.adjustment_to_id is not None
        day = read_date(invoice.invoice_date)
        if day is None or not (adjusts or invoice.job is None):
            continue
        job = records.jobs.get(invoice.job.id) if invoice.job else None
        for item in invoice.items or ():
            name = "AdjustmentRevenue" if adjusts else "NonJobRevenue"
            yield day, name, find_unit(item, invoice, job), item.income
