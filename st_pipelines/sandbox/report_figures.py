"""Computes the figures of the built-in reports from the records that the sandbox serves.

The definitions are those that ServiceTitan publishes for its performance reports; docs/sandbox.md
lists them, and where something is not published, what is assumed here. Nothing is shared with the
pipeline's SQL, so figures computed from its tables can be checked against these.

Days are local days in New York, where all companies of the sandbox are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

from st_pipelines.sandbox.report_records import (
    Assignment,
    Booking,
    CompanyRecords,
    Crew,
    Job,
    PhoneCall,
    Sale,
    Split,
    list_other_revenue,
    to_day,
)
from st_pipelines.sandbox.world import World

Row = dict[str, Any]
"""The values of a row by the names of the report's fields."""

_TEN_THOUSANDTH = Decimal("0.0001")


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What a report is run for.

    Attributes:
        first: the first day.
        last: the last day, which is included.
        units: ids of business units; None for all.
        technicians: ids of technicians; None for all.
        with_inactive: whether inactive business units and technicians have rows.
    """

    first: date
    last: date
    units: frozenset[int] | None = None
    technicians: frozenset[int] | None = None
    with_inactive: bool = False

    def has_day(self, day: date | None) -> bool:
        """Return whether a day is selected."""
        return day is not None and self.first <= day <= self.last

    def has_unit(self, unit: int | None) -> bool:
        """Return whether a business unit is selected."""
        return self.units is None or unit in self.units

    def choose(self, everybody: Iterable[Crew]) -> dict[int, Crew]:
        """Return the business units or technicians that may have rows, by id."""
        return {each.id: each for each in everybody if self.with_inactive or each.active}


class Figures(dict[Any, Row]):
    """Sums by key and by name. A key that nothing was added to has no row."""

    def add(self, key: Any, **amounts: Decimal | int) -> None:
        """Add amounts to the figures of a key."""
        row = self.setdefault(key, {})
        for name, amount in amounts.items():
            row[name] = row.get(name, 0) + amount


def compute_revenue(world: World, selection: Selection) -> list[Row]:
    """Compute revenue, jobs and sales by local day and business unit."""
    records, figures = CompanyRecords(world), Figures()
    for day, unit, amounts in _list_revenue(records):
        if selection.has_day(day) and selection.has_unit(unit):
            figures.add((day, unit), **amounts)
    units = selection.choose(records.read_all("settings.business_units", Crew))
    rows = []
    for (day, unit), row in sorted(figures.items(), key=lambda item: (item[0][0], item[0][1] or 0)):
        if unit not in units:
            continue
        parts = ("CompletedRevenue", "NonJobRevenue", "AdjustmentRevenue")
        row["TotalRevenue"] = sum((row.get(part, Decimal(0)) for part in parts), Decimal(0))
        row["OpportunityConversionRate"] = _divide(row, "ConvertedJobs", "Opportunity")
        row["CloseRate"] = _divide(row, "ClosedOpportunities", "SalesOpportunity")
        rows.append({"Date": day.isoformat(), "Name": units[unit].name, **row})
    return rows


def _list_revenue(records: CompanyRecords) -> Iterator[tuple[date, int | None, Row]]:
    """List amounts with the day and the business unit that they belong to."""
    for outcome in records.outcomes:
        for unit, amount in outcome.income.items():
            yield outcome.day, unit, {"CompletedRevenue": amount}
        counts = {
            "CompletedJobs": 1,
            "Opportunity": int(outcome.is_opportunity),
            "ConvertedJobs": int(outcome.is_converted),
        }
        for unit in outcome.units:
            yield outcome.day, unit, counts
    for day, name, unit, amount in list_other_revenue(records):
        yield day, unit, {name: amount}
    for sale in records.sales:
        yield sale.day, sale.job.business_unit_id, {"TotalSales": sale.amount}
    for day, job, is_closed in _list_sales_opportunities(records):
        counts = {"SalesOpportunity": int(not job.no_charge), "ClosedOpportunities": int(is_closed)}
        yield day, job.business_unit_id, counts


def _list_sales_opportunities(records: CompanyRecords) -> Iterator[tuple[date, Job, bool]]:
    """List the jobs that could be sold or were, with their day and whether they were closed.

    The day is that of the first sale, or else of the completion.
    """
    sales: dict[int, list[Sale]] = defaultdict(list)
    for sale in records.sales:
        sales[sale.job.id].append(sale)
    for job in records.jobs.values():
        sold = sales.get(job.id, [])
        day = sold[0].day if sold else job.completion_day
        if day is not None:
            total = sum((sale.amount for sale in sold), Decimal(0))
            yield day, job, bool(sold) and total >= records.find_threshold(job)


def compute_calls(world: World, selection: Selection) -> list[Row]:
    """Compute calls, bookings and booked jobs by local day."""
    records, figures = CompanyRecords(world), Figures()
    for call in records.read("telecom.calls_export", PhoneCall):
        figures.add(to_day(call.created_on), **_count_call(call))
    for booking in records.read("crm.bookings", Booking):
        counts = {"Bookings": 1, "BookingsConverted": int(booking.status == "Converted")}
        figures.add(to_day(booking.created_on), **counts)
    for job in records.jobs.values():
        figures.add(to_day(job.created_on), TotalJobsBooked=1)
    days = sorted(day for day in figures if day is not None and selection.has_day(day))
    return [
        {
            "Date": day.isoformat(),
            **figures[day],
            "CallBookingRate": _divide(figures[day], "CallsBooked", "LeadCalls"),
        }
        for day in days
    ]


def _count_call(call: PhoneCall) -> dict[str, int]:
    booked = call.type == "Booked"
    return {
        "Calls": 1,
        "LeadCalls": int(call.type in ("Booked", "Unbooked")),
        "CallsBooked": int(booked),
        "InboundCallsBooked": int(booked and call.direction == "Inbound"),
        "ExcusedCalls": int(call.type == "Excused"),
        "NotLeadCalls": int(call.type == "NotLead"),
        "AbandonedCalls": int(call.type == "Abandoned"),
    }


def compute_technicians(world: World, selection: Selection) -> list[Row]:
    """Compute each technician's jobs, revenue and sales in the selected days.

    A job counts once for each technician who has a share in it, and its revenue by the shares.
    """
    records, figures = CompanyRecords(world), Figures()
    shares = _compute_shares(records)
    for outcome in records.outcomes:
        if selection.has_day(outcome.day) and any(map(selection.has_unit, outcome.units)):
            chosen = [amount for unit, amount in outcome.income.items() if selection.has_unit(unit)]
            for technician, share in shares.get(outcome.job.id, {}).items():
                figures.add(
                    technician,
                    CompletedJobs=1,
                    CompletedRevenue=share * sum(chosen, Decimal(0)),
                    Opportunity=int(outcome.is_opportunity),
                    ConvertedJobs=int(outcome.is_converted),
                )
    for sale in records.sales:
        if selection.has_day(sale.day) and selection.has_unit(sale.job.business_unit_id):
            figures.add(sale.seller, TotalSales=sale.amount)
    return list(_render_technicians(records, selection, figures))


def _compute_shares(records: CompanyRecords) -> Mapping[int, Mapping[int, Decimal]]:
    """Compute each technician's share of each job, from 0 to 1.

    A job without splits belongs to the technician who was assigned first.
    """
    splits: dict[int, dict[int, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
    for each in records.read("payroll.jobs_splits", Split):
        if each.job_id and each.technician_id and (each.split or 0) > 0:
            splits[each.job_id][each.technician_id] += each.split or Decimal(0)
    shares: dict[int, Mapping[int, Decimal]] = {
        job: {technician: part / sum(parts.values()) for technician, part in parts.items()}
        for job, parts in splits.items()
    }
    assignments = records.read("dispatch.appointment_assignments", Assignment)
    for each in sorted(assignments, key=lambda each: (each.assigned_on or "", each.id)):
        if each.job_id and each.technician_id:
            shares.setdefault(each.job_id, {each.technician_id: Decimal(1)})
    return shares


def _render_technicians(
    records: CompanyRecords, selection: Selection, figures: Mapping[Any, Row]
) -> Iterator[Row]:
    units = {each.id: each.name for each in records.read_all("settings.business_units", Crew)}
    technicians = selection.choose(records.read_all("settings.technicians", Crew))
    for identity, technician in sorted(technicians.items()):
        is_chosen = selection.technicians is None or identity in selection.technicians
        if not is_chosen or identity not in figures:
            continue
        row = figures[identity]
        revenue = row.get("CompletedRevenue", Decimal(0)).quantize(_TEN_THOUSANDTH)
        yield {
            **row,
            "Name": technician.name,
            "TechnicianId": identity,
            "TechnicianBusinessUnit": units.get(technician.business_unit_id or 0),
            "CompletedRevenue": revenue,
            "OpportunityConversionRate": _divide(row, "ConvertedJobs", "Opportunity"),
        }


def _divide(row: Mapping[str, Any], part: str, whole: str) -> float | None:
    """Return a rate as a fraction; None if there is nothing to divide by."""
    return row.get(part, 0) / row[whole] if row.get(whole) else None
