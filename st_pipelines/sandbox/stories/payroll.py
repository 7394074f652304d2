"""Renders non-job time sheets, activities, splits, payrolls and what they pay."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from st_pipelines.sandbox import ticks
from st_pipelines.sandbox.company import Company
from st_pipelines.sandbox.payroll_entities import (
    Activity,
    Adjustment,
    Code,
    PayItem,
    Payroll,
    Sheet,
    Split,
)
from st_pipelines.sandbox.planning.bonuses import Bonuses
from st_pipelines.sandbox.planning.payroll import PayrollOffice
from st_pipelines.sandbox.scalars import format_money
from st_pipelines.sandbox.stories.projects import find_project, has_project
from st_pipelines.sandbox.stories.story import Fields, RenderContext, Story


def _render_time_code(code: Code, context: RenderContext) -> Fields:
    return {
        "code": code.code,
        "description": code.name,
        "type": code.kind,
        "applicableEmployeeType": "All",
        "rateInfo": {
            "hourlyRate": "EmployeeHourlyRate",
            "customHourlyRate": None,
            "rateMultiplier": format_money(0 if code.kind == "Unpaid" else 100),
        },
    }


def _render_earning_code(code: Code, context: RenderContext) -> Fields:
    return {
        "name": code.name,
        "code": code.code,
        "earningCategory": code.kind,
        "isDiscretionary": False,
    }


def _render_category(code: Code, context: RenderContext) -> Fields:
    return {"name": code.name, "type": code.kind, "allowEdit": True, "isDefault": True}


def _render_activity_type(code: Code, context: RenderContext) -> Fields:
    return {
        "code": code.code,
        # Categories have the ids of their types, in a range of their own.
        "categoryId": code.id + 1000,
        "description": code.name,
        "jobAssociation": "Require" if code.code in ("DRIVE", "WORK") else "DoNotAllow",
        "isArchived": False,
        "isDraft": False,
        "isDefault": True,
        "isInUse": True,
    }


def _render_sheet(sheet: Sheet, context: RenderContext) -> Fields:
    return {
        "employeeId": sheet.technician.id,
        "employeeType": "Technician",
        "timesheetCodeId": sheet.code.id if sheet.code else None,
        "startedOn": ticks.format_iso(sheet.start),
        "endedOn": ticks.format_iso(sheet.stop) if context.has_passed(sheet.stop) else None,
    }


def _render_activity(activity: Activity, context: RenderContext) -> Fields:
    visit = activity.sheet.visit
    return {
        "employeeId": activity.sheet.technician.id,
        "employeeType": "Technician",
        "activityTypeId": activity.kind.id,
        "startTime": ticks.format_iso(activity.start),
        "endTime": ticks.format_iso(activity.stop) if context.has_passed(activity.stop) else None,
        "jobId": visit.job.id if visit else None,
        "appointmentId": visit.id if visit else None,
    }


def _render_split(split: Split, context: RenderContext) -> Fields:
    return {
        "jobId": split.job.id,
        "technicianId": split.technician.id,
        "split": format_money(split.percent * 100),
    }


def _render_payroll(payroll: Payroll, context: RenderContext) -> Fields:
    approved, paid = context.has_passed(payroll.approved), context.has_passed(payroll.paid)
    return {
        "startedOn": _format_day(payroll.start),
        "endedOn": _format_day(payroll.end),
        "employeeId": payroll.person.id,
        "employeeType": "Technician" if payroll.is_technician else "Employee",
        "status": "Paid" if paid else "Approved" if approved else "Pending",
        "burdenRate": format_money(1800),
        "managerApprovedOn": ticks.format_iso(payroll.approved) if approved else None,
    }


def _format_day(day: int) -> str:
    return ticks.format_midnight(day * ticks.DAY)


def _render_item(item: PayItem, context: RenderContext) -> Fields:
    payroll, sheet, job = item.payroll, item.sheet, item.job
    person, location = payroll.person, job.location if job else None
    return {
        "employeeId": person.id,
        "employeeType": "Technician" if payroll.is_technician else "Employee",
        "businessUnitName": person.unit.name,
        "payrollId": payroll.id,
        "employeePayrollId": None,
        "date": _format_day(item.day),
        "activity": item.code.name,
        "activityCodeId": item.code.id,
        "activityCode": item.code.code,
        "amount": format_money(item.cents),
        "amountAdjustment": None,
        "payoutBusinessUnitName": job.unit.name if job else person.unit.name,
        "grossPayItemType": item.kind,
        "startedOn": ticks.format_iso(sheet.start) if sheet else None,
        "endedOn": ticks.format_iso(sheet.stop) if sheet else None,
        "paidDurationHours": _format_hours(sheet.duration) if sheet else None,
        "paidTimeType": item.time_type or None,
        "sourceEntityId": None,
        # Zero where no job is paid: the field is never null.
        "jobId": job.id if job else 0,
        "jobNumber": job.number if job else None,
        "jobTypeName": job.kind.name if job else None,
        "projectNumber": f"P{job.number}" if job and has_project(job) else None,
        "projectId": find_project(job),
        "invoiceId": job.invoice_id if job else None,
        "invoiceNumber": job.number if job else None,
        "invoiceItemId": None,
        "customerId": location.customer.id if location else None,
        "customerName": location.customer.name if location else None,
        "locationId": location.id if location else None,
        "locationName": location.customer.name if location else None,
    }


def _render_adjustment(adjustment: Adjustment, context: RenderContext) -> Fields:
    job, is_spiff = adjustment.job, adjustment.is_spiff
    return {
        "employeeType": "Technician",
        "employeeId": job.technician.id,
        "postedOn": _format_day(_find_day(adjustment.moments[0])),
        "amount": format_money(adjustment.cents),
        "memo": f"Spiff for invoice {job.number}" if is_spiff else f"Tools for job {job.number}",
        "activityCodeId": adjustment.code_id,
        "invoiceId": job.invoice_id if is_spiff else None,
        "hours": None,
        "rate": None,
        "quantity": None,
        "type": "CommissionBased" if is_spiff else "Direct",
    }


def _find_day(moment: int) -> int:
    return ticks.to_local_day(ticks.to_datetime(moment))


def _format_hours(duration: int) -> msgspec.Raw:
    """Format a duration (ticks) as hours with four decimals."""
    units = (duration * 10_000 + ticks.HOUR // 2) // ticks.HOUR
    return msgspec.Raw(f"{units // 10_000}.{units % 10_000:04}".encode())


def _list_from(
    choose: Callable[[PayrollOffice], Sequence[Any]],
) -> Callable[[Company], Sequence[Any]]:
    return lambda company: choose(company.chapter(PayrollOffice))


STORIES = {
    "payroll.timesheet_codes": Story(
        entities=_list_from(lambda office: office.time_codes), fields=_render_time_code
    ),
    "payroll.activity_codes": Story(
        entities=_list_from(lambda office: office.earning_codes), fields=_render_earning_code
    ),
    "payroll.non_job_timesheets": Story(
        entities=_list_from(lambda office: office.time_off), fields=_render_sheet
    ),
    "payroll.jobs_splits": Story(
        entities=_list_from(lambda office: office.splits), fields=_render_split
    ),
    "payroll.payrolls": Story(
        entities=_list_from(lambda office: office.payrolls), fields=_render_payroll
    ),
    "payroll.payroll_adjustments": Story(
        entities=lambda company: company.chapter(Bonuses).adjustments, fields=_render_adjustment
    ),
    "payroll.gross_pay_items": Story(
        entities=_list_from(lambda office: office.items), fields=_render_item
    ),
    "timesheets.activities": Story(
        entities=_list_from(lambda office: office.activities), fields=_render_activity
    ),
    "timesheets.activity_types": Story(
        entities=_list_from(lambda office: office.activity_types), fields=_render_activity_type
    ),
    "timesheets.activity_categories": Story(
        entities=_list_from(lambda office: office.activity_categories), fields=_render_category
    ),
}
