"""Jobs and what belongs to doing them: appointments, assignments, notes, history, time sheets."""

from __future__ import annotations

from st_pipelines.sandbox import sample_text, ticks
from st_pipelines.sandbox.company import Company
from st_pipelines.sandbox.entities import Job, Note, OfJob, Visit
from st_pipelines.sandbox.filler import money
from st_pipelines.sandbox.stories.story import Fields, Look, Story


def _status(job: Job, look: Look) -> str:
    if look.past(job.done):
        return "Completed"
    if look.past(job.canceled):
        return "Canceled"
    return "InProgress" if look.past(job.start) else "Scheduled"


def _job(job: Job, look: Look) -> Fields:
    location, call = job.location, job.call
    done = look.past(job.done)
    return {
        "jobNumber": job.number,
        "customerId": location.customer.id,
        "locationId": location.id,
        "jobStatus": _status(job, look),
        "completedOn": ticks.iso(job.done) if done else None,
        "businessUnitId": job.kind.unit.id,
        "jobTypeId": job.kind.id,
        "priority": ("Normal", "Normal", "Normal", "High", "Urgent")[job.draw % 5],
        "campaignId": job.campaign.id,
        "appointmentCount": 1,
        "firstAppointmentId": job.visit_id,
        "lastAppointmentId": job.visit_id,
        "noCharge": job.total == 0,
        "createdById": job.taken_by.id,
        "leadCallId": call.id if call else None,
        "invoiceId": job.invoice_id,
        # Jobs of nothing are normal (facts 7.19).
        "total": money(job.total if done else 0),
        "summary": sample_text.NOTES[job.draw % len(sample_text.NOTES)],
    }


def _appointment(visit: Visit, look: Look) -> Fields:
    job = visit.job
    start = ticks.iso(job.start)
    return {
        "jobId": job.id,
        "customerId": job.location.customer.id,
        "appointmentNumber": f"{job.number}-1",
        "start": start,
        "end": ticks.iso(job.start + 2 * ticks.HOUR),
        "arrivalWindowStart": start,
        "arrivalWindowEnd": ticks.iso(job.start + ticks.HOUR),
        "status": _visit_status(job, look, canceled="Canceled"),
        "createdById": job.taken_by.id,
        "unused": False,
        "appointmentSummaries": [],
    }


def _visit_status(job: Job, look: Look, *, canceled: str) -> str:
    words = {"Completed": "Done", "Canceled": canceled, "InProgress": "Working"}
    return words.get(_status(job, look), "Scheduled")


def _assignment(visit: Visit, look: Look) -> Fields:
    job = visit.job
    return {
        "technicianId": job.technician.id,
        "technicianName": job.technician.name,
        "assignedById": job.taken_by.id,
        "assignedOn": ticks.iso(visit.moments[0]),
        "status": _visit_status(job, look, canceled="Scheduled"),
        "isPaused": False,
        "jobId": job.id,
        "appointmentId": visit.id,
    }


def _time_sheet(visit: Visit, look: Look) -> Fields:
    job = visit.job
    started, done = look.past(job.start), look.past(job.done)
    return {
        "jobId": job.id,
        "appointmentId": visit.id,
        "technicianId": job.technician.id,
        "dispatchedOn": ticks.iso(job.start - 20 * ticks.MINUTE) if started else None,
        "arrivedOn": ticks.iso(job.start) if started else None,
        "doneOn": ticks.iso(job.done) if done else None,
    }


def _note(note: Note, look: Look) -> Fields:
    return {
        "jobId": note.job.id,
        "text": sample_text.NOTES[note.draw // 3 % len(sample_text.NOTES)],
        "isPinned": note.draw % 10 == 0,
        "createdById": note.job.taken_by.id,
    }


def _history(job: Job, look: Look) -> Fields:
    events = (("Job Booked", job.moments[0]), ("Job Started", 0 if job.canceled else job.start),
              ("Job Completed", job.done), ("Job Canceled", job.canceled))  # fmt: skip
    return {
        "jobId": job.id,
        "history": [
            {
                "id": job.id * 5 + number,
                "employeeId": job.taken_by.id,
                "eventType": name,
                "date": ticks.iso(moment),
                "usedSchedulingTool": "Manual",
            }
            for number, (name, moment) in enumerate(events)
            if look.past(moment)
        ],
    }


def _cancellations(company: Company) -> list[OfJob]:
    return [
        OfJob(id=job.id, moments=(job.canceled,), job=job, draw=job.draw)
        for job in company.jobs
        if job.canceled
    ]


def _cancellation(log: OfJob, look: Look) -> Fields:
    return {"jobId": log.job.id, "memo": None, "createdById": log.job.taken_by.id}


def _rated_jobs(company: Company) -> list[OfJob]:
    return [
        OfJob(id=job.id, moments=(job.done + ticks.HOUR,), job=job, draw=job.draw)
        for job in company.jobs
        if job.done and job.draw % 4 == 0
    ]


def _rating(rated: OfJob, look: Look) -> Fields:
    return {
        "technicianId": rated.job.technician.id,
        "jobId": rated.job.id,
        "rating": float(5 - rated.draw // 4 % 3),
    }


STORIES = {
    "jpm.jobs": Story(items=lambda company: company.jobs, fields=_job),
    "jpm.appointments": Story(items=lambda company: company.visits, fields=_appointment),
    "jpm.job_notes": Story(items=lambda company: company.notes, fields=_note),
    "jpm.job_history": Story(items=lambda company: company.jobs, fields=_history),
    "jpm.job_canceled_logs": Story(items=_cancellations, fields=_cancellation, offset=10_000_000),
    "dispatch.appointment_assignments": Story(
        items=lambda company: company.visits, fields=_assignment, offset=15_000_000
    ),
    "payroll.jobs_timesheets": Story(
        items=lambda company: company.visits, fields=_time_sheet, offset=25_000_000
    ),
    "customer_interactions.technician_ratings": Story(items=_rated_jobs, fields=_rating),
}
