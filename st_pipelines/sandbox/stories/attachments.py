"""Tells of the files that technicians attach to jobs: photos, a signature, the printed invoice.

The vendor's document declares no body for the list. The members are those that a public client
reads.
"""

from __future__ import annotations

import random

from st_pipelines.catalog.specification import Schema
from st_pipelines.sandbox.company import Company
from st_pipelines.sandbox.entities import Job, JobChild
from st_pipelines.sandbox.ids import FIRST_IDS, compute_user_id
from st_pipelines.sandbox.stories.story import ChildStory, Fields, RenderContext

FIRST_ID = 560_000_000
MAX_FILES = 4


class Attachment(JobChild, frozen=True, kw_only=True, gc=False):
    """A file of a job."""

    name: str


def list_attachments(company: Company, job: Job) -> list[Attachment]:
    """List the files of a job, in the order in which the technician adds them during the visit."""
    rng = random.Random(f"{company.seed}:attachments:{job.id}")
    photo = rng.randrange(1000, 9000)
    names = [f"before-{photo}.png", f"after-{photo + 1}.png"][: rng.choice((0, 1, 2, 2))]
    if job.done:
        names += ["signature.png"] * (rng.random() < 0.6)
        names.append(f"invoice-{job.number}.pdf")
    last = job.done or job.canceled
    # A job that is canceled early has no visit: only the caller's photo, if any.
    first = job.start if job.done else job.moments[0]
    names = names if job.done else names[:1]
    step = max((last - first) // (len(names) + 1), 1)
    return [
        Attachment(
            id=FIRST_ID + (job.id - FIRST_IDS["job"]) * MAX_FILES + number,
            moments=(first + step * (number + 1),),
            draw=job.draw + number,
            job=job,
            name=name,
        )
        for number, name in enumerate(names)
    ]


def find_attachment(company: Company, key: int) -> Attachment | None:
    """Find a file by its id; None if there is none."""
    job_id = FIRST_IDS["job"] + (key - FIRST_ID) // MAX_FILES
    # Ids of jobs ascend in threes, see `ids.compute_id`.
    number = (job_id - FIRST_IDS["job"]) // 3
    if not 0 <= number < len(company.jobs):
        return None
    files = list_attachments(company, company.jobs[number])
    return next((file for file in files if file.id == key), None)


def _render(file: Attachment, context: RenderContext) -> Fields:
    job = file.job
    author = job.technician if job.done else job.booked_by
    return {"fileName": file.name, "createdById": compute_user_id(author.id)}


RECORD = Schema(
    kind="object",
    members={
        "id": Schema(kind="integer", format="int64"),
        "fileName": Schema(kind="string"),
        "createdById": Schema(kind="integer", format="int64"),
        "createdOn": Schema(kind="string", format="date-time"),
    },
)

CHILDREN = {
    "/forms/v2/tenant/{tenant}/jobs/{jobId}/attachments": ChildStory(
        entities=list_attachments, fields=_render, record=RECORD
    )
}
