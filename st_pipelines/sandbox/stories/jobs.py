"""Renders jobs, appointments, assignments, notes, histories, ratings and job time sheets."""

from __future__ import annotations

from st_pipelines.sandbox import sample_text, ticks
from st_pipelines.sandbox.company import Company
from st_pipelines.sandbox.entities import Job, JobChild, Note, Visit
from st_pipelines.sandbox.ids import compute_user_id
from st_pipelines.sandbox.planning.dispatch import TRAVEL, find_usual_duration
from st_pipelines.sandbox.scalars import format_money
from st_pipelines.sandbox.stories.equipment import find_equipment
from st_pipelines.sandbox.stories.projects import find_project
from st_pipelines.sandbox.stories.story import Fields, RenderContext, Story
from st_pipelines.sandbox.summaries import write_request

BOOKED_LOGS = 5_000_000
"""Added to a job's id, the id of the log of its booking."""


def _find_status(job: Job, context: RenderContext) -> str:
    if context.has_passed(job.done):
        return "Completed"
    if context.has_passed(job.canceled):
        return "Canceled"
    return "InProgress" if context.has_passed(job.start) else "Scheduled"


def _render_job(job: Job, context: RenderContext) -> Fields:
    location, origin = job.location, job.origin
    recall, source = origin.recall_of, origin.source
    done = context.has_passed(job.done)
    return {
        "jobNumber": job.number,
        "projectId": find_project(job),
        "customerId": location.customer.id,
        "locationId": location.id,
        "jobStatus": _find_status(job, context),
        "completedOn": ticks.format_iso(job.done) if done else None,
        "businessUnitId": job.unit.id,
        "jobTypeId": job.kind.id,
        "priority": ("Normal", "Normal", "Normal", "High", "Urgent")[job.draw % 5],
        "campaignId": job.campaign.id,
        "appointmentCount": 1,
        "firstAppointmentId": job.visit_id,
        "lastAppointmentId": job.visit_id,
        "noCharge": job.no_charge,
        "recallForId": recall.id if recall and job.kind.name == "Recall" else None,
        "warrantyId": recall.id if recall and job.kind.name == "Warranty" else None,
        "jobGeneratedLeadSource": source
        and {"jobId": source.id, "employeeId": source.technician.id},
        "createdById": compute_user_id(job.booked_by.id),
        "leadCallId": origin.call.id if origin.call else None,
        "bookingId": origin.booking.id if origin.booking else None,
        "soldById": origin.estimate.job.technician.id if origin.estimate else None,
        "membershipId": origin.membership.id if origin.membership else None,
        "createdFromEstimateId": origin.estimate.id if origin.estimate else None,
        "estimateIds": list(job.estimate_ids) if done else [],
        "equipmentIds": [found] if done and (found := find_equipment(job)) else [],
        "invoiceId": job.invoice_id,
        # Jobs with a total of zero are normal.
        "total": format_money(job.total if done else 0),
        "summary": write_request(job.kind.name, job.draw),
    }


def _render_appointment(visit: Visit, context: RenderContext) -> Fields:
    job = visit.job
    start = ticks.format_iso(job.start)
    return {
        "jobId": job.id,
        "customerId": job.location.customer.id,
        "appointmentNumber": f"{job.number}-1",
        "start": start,
        "end": ticks.format_iso(job.start + find_usual_duration(job.kind)),
        "arrivalWindowStart": start,
        "arrivalWindowEnd": ticks.format_iso(job.start + ticks.HOUR),
        "status": _find_visit_status(job, context, canceled="Canceled"),
        "createdById": compute_user_id(job.booked_by.id),
        # Nobody came to an appointment whose job was canceled.
        "unused": context.has_passed(job.canceled),
        "appointmentSummaries": [],
    }


def render_booked_log(company: Company, job: Job) -> Fields:
    """Render what the office entered when it booked a job."""
    start = ticks.format_iso(job.start)
    return {
        "id": job.id + BOOKED_LOGS,
        "jobId": job.id,
        "jobAppointmentId": job.visit_id,
        "start": start,
        "arrivalWindowStart": start,
        "arrivalWindowEnd": ticks.format_iso(job.start + ticks.HOUR),
        "createdOn": ticks.format_iso(job.moments[0]),
        "createdById": compute_user_id(job.booked_by.id),
        "active": True,
    }


def _find_visit_status(job: Job, context: RenderContext, *, canceled: str) -> str:
    words = {"Completed": "Done", "Canceled": canceled, "InProgress": "Working"}
    return words.get(_find_status(job, context), "Scheduled")


def _render_assignment(visit: Visit, context: RenderContext) -> Fields:
    job = visit.job
    return {
        "technicianId": job.technician.id,
        "technicianName": job.technician.name,
        "assignedById": compute_user_id(job.booked_by.id),
        "assignedOn": ticks.format_iso(visit.moments[0]),
        "status": _find_visit_status(job, context, canceled="Scheduled"),
        "isPaused": False,
        "jobId": job.id,
        "appointmentId": visit.id,
    }


def _render_time_sheet(visit: Visit, context: RenderContext) -> Fields:
    job = visit.job
    done = context.has_passed(job.done)
    started = context.has_passed(job.start) and not job.canceled
    return {
        "jobId": job.id,
        "appointmentId": visit.id,
        "technicianId": job.technician.id,
        "dispatchedOn": ticks.format_iso(job.start - TRAVEL) if started else None,
        "arrivedOn": ticks.format_iso(job.start) if started else None,
        "doneOn": ticks.format_iso(job.done) if done else None,
        "canceledOn": ticks.format_iso(job.canceled) if context.has_passed(job.canceled) else None,
    }


def _render_note(note: Note, context: RenderContext) -> Fields:
    texts = sample_text.DONE_NOTES if note.job.done else sample_text.CANCELED_NOTES
    return {
        "jobId": note.job.id,
        "text": texts[note.draw // 3 % len(texts)],
        "isPinned": note.draw % 10 == 0,
        "createdById": compute_user_id(note.job.booked_by.id),
    }


def _render_history(job: Job, context: RenderContext) -> Fields:
    events = (
        ("Job Booked", job.moments[0]),
        ("Job Started", 0 if job.canceled else job.start),
        ("Job Completed", job.done),
        ("Job Canceled", job.canceled),
    )
    return {
        "jobId": job.id,
        "history": [
            {
                "id": job.id * 5 + number,
                "employeeId": job.booked_by.id,
                "eventType": name,
                "date": ticks.format_iso(moment),
                "usedSchedulingTool": "Manual",
            }
            for number, (name, moment) in enumerate(events)
            if context.has_passed(moment)
        ],
    }


def _list_cancellations(company: Company) -> list[JobChild]:
    return [
        JobChild(id=job.id, moments=(job.canceled,), job=job, draw=job.draw)
        for job in company.jobs
        if job.canceled
    ]


def _render_cancellation(log: JobChild, context: RenderContext) -> Fields:
    return {"jobId": log.job.id, "memo": None, "createdById": compute_user_id(log.job.booked_by.id)}


def _list_rated_jobs(company: Company) -> list[JobChild]:
    return [
        JobChild(id=job.id, moments=(job.done + ticks.HOUR,), job=job, draw=job.draw)
        for job in company.jobs
        if job.done and job.draw % 4 == 0
    ]


def _render_rating(rated: JobChild, context: RenderContext) -> Fields:
    return {
        "technicianId": rated.job.technician.id,
        "jobId": rated.job.id,
        "rating": float((5, 5, 4, 5, 3, 5, 4, 1)[rated.draw // 4 % 8]),
    }


STORIES = {
    "jpm.jobs": Story(entities=lambda company: company.jobs, fields=_render_job),
    "jpm.appointments": Story(entities=lambda company: company.visits, fields=_render_appointment),
    "jpm.job_notes": Story(entities=lambda company: company.notes, fields=_render_note),
    "jpm.job_history": Story(entities=lambda company: company.jobs, fields=_render_history),
    "jpm.job_canceled_logs": Story(
        entities=_list_cancellations, fields=_render_cancellation, offset=10_000_000
    ),
    "dispatch.appointment_assignments": Story(
        entities=lambda company: company.visits, fields=_render_assignment, offset=15_000_000
    ),
    "payroll.jobs_timesheets": Story(
        entities=lambda company: company.visits, fields=_render_time_sheet, offset=25_000_000
    ),
    "customer_interactions.technician_ratings": Story(
        entities=_list_rated_jobs, fields=_render_rating
    ),
}
