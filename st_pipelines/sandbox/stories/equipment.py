"""Renders the equipment at locations: what a job installed, or what its technician found there."""

from __future__ import annotations

from st_pipelines.sandbox import ticks
from st_pipelines.sandbox.company import Company
from st_pipelines.sandbox.entities import Job, JobChild
from st_pipelines.sandbox.ids import FIRST_IDS
from st_pipelines.sandbox.stories.story import Fields, RenderContext, Story
from st_pipelines.sandbox.trades import EQUIPMENT, WORK

EQUIPMENT_IDS = 620_000_000
"""Added to the id of a job, the id of its equipment."""


def _find_installed(job: Job) -> str | None:
    return next((line.sku.name for line in job.lines if line.sku.kind == "Equipment"), None)


def has_equipment(job: Job) -> bool:
    """Return whether a job has equipment. The first one has, so that there is some."""
    is_found = job.draw % 6 == 0 or _find_installed(job) is not None
    return job.id == FIRST_IDS["job"] or (job.done > 0 and is_found)


def find_equipment(job: Job) -> int | None:
    """Return the id of a job's equipment; None if it has none."""
    return job.id + EQUIPMENT_IDS if has_equipment(job) else None


def _list_equipment(company: Company) -> list[JobChild]:
    return [
        JobChild(id=job.id, moments=(job.done or job.canceled,), draw=job.draw, job=job)
        for job in company.jobs
        if has_equipment(job)
    ]


def _render_equipment(equipment: JobChild, context: RenderContext) -> Fields:
    job, installed = equipment.job, _find_installed(equipment.job)
    kinds = EQUIPMENT[WORK[job.kind.name].trade]
    age = 0 if installed else (1 + equipment.draw % 12) * 365 * ticks.DAY
    return {
        "name": installed or kinds[equipment.draw % len(kinds)],
        "customerId": job.location.customer.id,
        "locationId": job.location.id,
        "installedOn": ticks.format_local_midnight(equipment.moments[0] - age),
        "serialNumber": f"{equipment.draw:08X}",
    }


STORIES = {
    "equipment_systems.installed_equipment": Story(
        entities=_list_equipment, fields=_render_equipment, offset=EQUIPMENT_IDS
    ),
}
