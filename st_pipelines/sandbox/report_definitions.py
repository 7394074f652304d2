"""Defines the built-in reports: their parameters and fields, and the dynamic value sets.

Report ids differ between tenants, as in ServiceTitan. `report_figures` and `report_jobs` compute
the rows.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from st_pipelines.sandbox import report_figures, report_jobs, ticks
from st_pipelines.sandbox.report_figures import Row, Selection
from st_pipelines.sandbox.world import World

Values = Mapping[str, Any]
"""The values of parameters by name: dates, ids, truth values, texts, or lists of these."""


@dataclass(frozen=True, kw_only=True)
class ReportField:
    """A column of a report. `data_type` is String, Number, Boolean, Date or Time."""

    name: str
    label: str
    data_type: str


@dataclass(frozen=True, kw_only=True)
class ReportParameter:
    """A parameter of a report.

    Attributes:
        data_type: of its value, or of the items of an array.
        dynamic_set: the id of the set with the accepted values; empty if all are.
    """

    name: str
    label: str
    data_type: str
    is_array: bool = False
    is_required: bool = False
    dynamic_set: str = ""


@dataclass(frozen=True, kw_only=True)
class Report:
    """A report.

    Attributes:
        category: the id of its category.
        modified_on: when its structure was changed, in ISO format.
        compute: returns the rows, given checked values of the parameters. A value that a row lacks
            is 0 for numbers and null otherwise.
    """

    id: int
    category: str
    name: str
    description: str
    modified_on: str
    parameters: tuple[ReportParameter, ...]
    fields: tuple[ReportField, ...]
    compute: Callable[[World, Values], Iterable[Row]]


@dataclass(frozen=True, kw_only=True)
class DynamicSet:
    """Values that a parameter accepts, with their names. `list` returns the rows."""

    label: str
    list: Callable[[World], Sequence[tuple[Any, str]]]

    def describe(self) -> Sequence[Mapping[str, str]]:
        """Return the key column and the column with the names."""
        return [{"name": "Value", "label": "Value"}, {"name": "Name", "label": self.label}]


def _name_active(table: str) -> Callable[[World], Sequence[tuple[Any, str]]]:
    return lambda world: [
        (each["id"], each["name"]) for each in world.records(table) if each["active"]
    ]


DYNAMIC_SETS: Mapping[str, DynamicSet] = {
    "business-units": DynamicSet(
        label="Business Unit", list=_name_active("settings.business_units")
    ),
    "technicians": DynamicSet(label="Technician", list=_name_active("settings.technicians")),
    "job-date-filter-type": DynamicSet(label="Date Type", list=report_jobs.number_date_types),
}
"""The sets by id. Clients have seen two of these ids; that of the technicians is assumed."""

PERIOD = (
    ReportParameter(name="From", label="From", data_type="Date", is_required=True),
    ReportParameter(name="To", label="To", data_type="Date", is_required=True),
)
UNITS = ReportParameter(
    name="BusinessUnitIds",
    label="Invoice Item Business Unit",
    data_type="Number",
    is_array=True,
    dynamic_set="business-units",
)
TECHNICIANS = ReportParameter(
    name="TechnicianIds",
    label="Technician",
    data_type="Number",
    is_array=True,
    dynamic_set="technicians",
)
DATE_TYPE = ReportParameter(
    name="DateType",
    label="Filter By",
    data_type="Number",
    is_required=True,
    dynamic_set="job-date-filter-type",
)
UNIT = ReportParameter(
    name="BusinessUnitId",
    label="Business Unit",
    data_type="Number",
    dynamic_set="business-units",
)
INACTIVE = ReportParameter(name="IncludeInactive", label="Include Inactive", data_type="Boolean")

_TYPES = {
    **dict.fromkeys(("Date", "ScheduledDate", "CompletionDate"), "Date"),
    **dict.fromkeys(("Name", "TechnicianBusinessUnit"), "String"),
    **dict.fromkeys(("JobNumber", "JobStatus", "JobType", "JobBusinessUnit"), "String"),
}


def _make_fields(*names: str) -> tuple[ReportField, ...]:
    return tuple(
        ReportField(name=name, label=_space(name), data_type=_TYPES.get(name, "Number"))
        for name in names
    )


def _space(name: str) -> str:
    return "".join(f" {letter}" if letter.isupper() else letter for letter in name).strip()


REVENUE_FIELDS = _make_fields(
    "Date",
    "Name",
    "CompletedRevenue",
    "NonJobRevenue",
    "AdjustmentRevenue",
    "TotalRevenue",
    "CompletedJobs",
    "Opportunity",
    "ConvertedJobs",
    "OpportunityConversionRate",
    "TotalSales",
    "SalesOpportunity",
    "ClosedOpportunities",
    "CloseRate",
)
CALL_FIELDS = _make_fields(
    "Date",
    "Calls",
    "LeadCalls",
    "CallsBooked",
    "InboundCallsBooked",
    "CallBookingRate",
    "ExcusedCalls",
    "NotLeadCalls",
    "AbandonedCalls",
    "Bookings",
    "BookingsConverted",
    "TotalJobsBooked",
)
TECHNICIAN_FIELDS = _make_fields(
    "Name",
    "TechnicianId",
    "TechnicianBusinessUnit",
    "CompletedJobs",
    "CompletedRevenue",
    "Opportunity",
    "ConvertedJobs",
    "OpportunityConversionRate",
    "TotalSales",
)


JOB_FIELDS = _make_fields(
    "JobNumber",
    "JobStatus",
    "JobType",
    "JobBusinessUnit",
    "ScheduledDate",
    "CompletionDate",
    "Subtotal",
)


def select(values: Values) -> Selection:
    """Turn the values of a report's parameters into a selection."""
    units, technicians = values.get("BusinessUnitIds"), values.get("TechnicianIds")
    return Selection(
        first=values["From"],
        last=values["To"],
        units=frozenset(units) if units else None,
        technicians=frozenset(technicians) if technicians else None,
        with_inactive=bool(values.get("IncludeInactive")),
    )


def _run(compute: Callable[[World, Selection], Iterable[Row]]) -> Callable[..., Iterable[Row]]:
    return lambda world, values: compute(world, select(values))


def build_reports(world: World) -> Sequence[Report]:
    """Build a tenant's reports. Their ids are the tenant's own."""
    rng = random.Random(f"{world.seed}:reports")
    first, second, third, fourth = sorted(rng.sample(range(150, 2400), 4))
    modified = (world.now - timedelta(days=rng.randrange(200, 900))).replace(microsecond=0)
    modified_on = ticks.format_iso(ticks.from_datetime(modified))
    return (
        Report(
            id=first,
            category="business-unit-dashboard",
            name="Revenue by Business Unit and Day",
            description="Revenue, jobs and sales of each business unit on each day",
            modified_on=modified_on,
            parameters=(*PERIOD, UNITS, INACTIVE),
            fields=REVENUE_FIELDS,
            compute=_run(report_figures.compute_revenue),
        ),
        Report(
            id=second,
            category="operations",
            name="Calls and Bookings by Day",
            description="Calls by outcome, bookings and booked jobs on each day",
            modified_on=modified_on,
            parameters=PERIOD,
            fields=CALL_FIELDS,
            compute=_run(report_figures.compute_calls),
        ),
        Report(
            id=third,
            category="technician-dashboard",
            name="Technician Performance",
            description="Jobs, revenue and sales of each technician",
            modified_on=modified_on,
            parameters=(*PERIOD, UNITS, TECHNICIANS, INACTIVE),
            fields=TECHNICIAN_FIELDS,
            compute=_run(report_figures.compute_technicians),
        ),
        Report(
            id=fourth,
            category="operations",
            name="Jobs by Date",
            description="Jobs with a date of the chosen type in the range",
            modified_on=modified_on,
            parameters=(DATE_TYPE, *PERIOD, UNIT),
            fields=JOB_FIELDS,
            compute=report_jobs.compute_jobs,
        ),
    )
