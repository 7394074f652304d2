"""Renders projects and their notes: each does the work of a sold estimate, with one job."""

from __future__ import annotations

from st_pipelines.sandbox import sample_text, ticks
from st_pipelines.sandbox.company import Company
from st_pipelines.sandbox.entities import Job, JobChild
from st_pipelines.sandbox.ids import FIRST_IDS, compute_first_id, compute_id, compute_user_id
from st_pipelines.sandbox.stories.story import Fields, RenderContext, Story
from st_pipelines.sandbox.summaries import write_request
from st_pipelines.sandbox.vocabulary import name_record

PROJECTS, NOTES = 540_000_000, 545_000_000
"""Added to the id of a job, the ids of its project and of the project's note."""

STATUSES = "jpm.project_statuses"
PLANNING, IN_PROGRESS, COMPLETED, CANCELED = 0, 1, 3, 4
"""Positions of the statuses."""


def has_project(job: Job) -> bool:
    """Return whether a job is the work of a project. The first one is, so that there is one."""
    return job.origin.estimate is not None or job.id == FIRST_IDS["job"]


def find_project(job: Job | None) -> int | None:
    """Return the id of a job's project; None if it has none."""
    return job.id + PROJECTS if job and has_project(job) else None


def _list_projects(company: Company) -> list[JobChild]:
    return [
        JobChild(id=job.id, moments=job.moments, draw=job.draw, job=job)
        for job in company.jobs
        if has_project(job)
    ]


def _find_status(job: Job, context: RenderContext) -> int:
    if context.has_passed(job.canceled):
        return CANCELED
    if context.has_passed(job.done):
        return COMPLETED
    return IN_PROGRESS if context.has_passed(job.start) else PLANNING


def _render_project(project: JobChild, context: RenderContext) -> Fields:
    job, status = project.job, _find_status(project.job, context)
    customer = job.location.customer
    return {
        "number": f"P{job.number}",
        "name": f"{customer.name}, {job.kind.name}",
        "summary": write_request(job.kind.name, job.draw),
        "status": name_record(STATUSES, status),
        "statusId": compute_id(compute_first_id(STATUSES), status),
        "subStatus": None,
        "subStatusId": None,
        "customerId": customer.id,
        "locationId": job.location.id,
        "projectTypeId": compute_id(compute_first_id("jpm.project_types"), job.draw % 4),
        "projectManagerIds": [job.booked_by.id],
        "businessUnitIds": [job.unit.id],
        "startDate": ticks.format_local_midnight(job.start),
        "targetCompletionDate": ticks.format_local_midnight(job.start + 7 * ticks.DAY),
        "actualCompletionDate": (
            ticks.format_local_midnight(job.done) if status == COMPLETED else None
        ),
        "jobIds": [job.id],
    }


def _list_notes(company: Company) -> list[JobChild]:
    return [
        JobChild(id=job.id, moments=(job.canceled or job.start,), draw=job.draw, job=job)
        for job in company.jobs
        if has_project(job)
    ]


def _render_note(note: JobChild, context: RenderContext) -> Fields:
    job = note.job
    texts = sample_text.CANCELED_NOTES if job.canceled else sample_text.PROJECT_NOTES
    return {
        "text": texts[job.draw % len(texts)],
        "isPinned": job.draw % 10 == 0,
        "createdById": compute_user_id(job.booked_by.id),
        "projectId": job.id + PROJECTS,
    }


STORIES = {
    "jpm.projects": Story(entities=_list_projects, fields=_render_project, offset=PROJECTS),
    "jpm.project_notes": Story(entities=_list_notes, fields=_render_note, offset=NOTES),
}
