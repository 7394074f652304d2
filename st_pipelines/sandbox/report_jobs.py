"""A report that lists jobs, by the date that its parameter `DateType` names.

The numbers of the date types differ between tenants, because clients have seen different ones: a
client has to read the dynamic value set `job-date-filter-type` and choose by name.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any

from st_pipelines.sandbox.parameters import BadRequest
from st_pipelines.sandbox.report_records import CompanyRecords, Crew, Job, Visit, read_date, to_day
from st_pipelines.sandbox.world import World

DATE_TYPES = ("Invoice Date", "Job Completion Date", "Job Creation Date", "Job Start Date")


def number_date_types(world: World) -> list[tuple[int, str]]:
    """Return the date types with the numbers that they have for this tenant."""
    names = list(DATE_TYPES)
    random.Random(f"{world.seed}:date types").shuffle(names)
    return list(enumerate(names))


@dataclass(kw_only=True)
class JobDates:
    """The days of a job that decide whether it is listed, and its subtotal."""

    scheduled: date | None = None
    invoiced: set[date] = field(default_factory=set)
    subtotal: Decimal = Decimal(0)


def compute_jobs(world: World, values: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """List the jobs whose date of the chosen type is in the range, by id.

    Raises:
        BadRequest: there is no date type with this number.
    """
    name = dict(number_date_types(world)).get(values["DateType"])
    if name is None:
        raise BadRequest("DateType", f"The value '{values['DateType']}' is not valid.")
    records = CompanyRecords(world)
    dates = _read_dates(records)
    units = {each.id: each.name for each in records.read_all("settings.business_units", Crew)}
    types = {each.id: each.name for each in records.read_all("jpm.job_types", Crew)}
    for identity, job in sorted(records.jobs.items()):
        own = dates[identity]
        is_listed = any(values["From"] <= day <= values["To"] for day in _CHOICES[name](job, own))
        is_chosen = values.get("BusinessUnitId") in (None, job.business_unit_id)
        if is_listed and is_chosen:
            yield {
                "JobNumber": job.job_number,
                "JobStatus": job.job_status,
                "JobType": types.get(job.job_type_id or 0),
                "JobBusinessUnit": units.get(job.business_unit_id or 0),
                "ScheduledDate": _format(own.scheduled),
                "CompletionDate": _format(job.completion_day),
                "Subtotal": own.subtotal,
            }


def _read_dates(records: CompanyRecords) -> Mapping[int, JobDates]:
    dates: dict[int, JobDates] = defaultdict(JobDates)
    for visit in records.read("jpm.appointments", Visit):
        day = to_day(visit.start)
        if visit.job_id and day:
            own = dates[visit.job_id]
            own.scheduled = min(day, own.scheduled or day)
    for invoice in records.invoices:
        if invoice.job and invoice.adjustment_to_id is None:
            own = dates[invoice.job.id]
            own.subtotal += invoice.sub_total or 0
            if day := read_date(invoice.invoice_date):
                own.invoiced.add(day)
    return dates


def _list_day(day: date | None) -> list[date]:
    return [day] if day else []


_CHOICES: Mapping[str, Callable[[Job, JobDates], list[date]]] = {
    "Invoice Date": lambda job, own: sorted(own.invoiced),
    "Job Completion Date": lambda job, own: _list_day(job.completion_day),
    "Job Creation Date": lambda job, own: _list_day(to_day(job.created_on)),
    "Job Start Date": lambda job, own: _list_day(own.scheduled),
}


def _format(day: date | None) -> str | None:
    return day.isoformat() if day else None
