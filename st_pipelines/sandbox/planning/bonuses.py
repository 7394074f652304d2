"""Plans payroll adjustments: bonuses for sales on a job, and tools that technicians pay for."""

from __future__ import annotations

from st_pipelines.sandbox import ticks
from st_pipelines.sandbox.entities import Job
from st_pipelines.sandbox.ids import compute_id, generate_ids
from st_pipelines.sandbox.payroll_entities import Adjustment
from st_pipelines.sandbox.planning.books import Books
from st_pipelines.sandbox.planning.payroll import FIRST_EARNING_CODE
from st_pipelines.sandbox.schedule import find_midnight

TOOLS, SPIFF = 4, 5
"""Positions of the earning codes."""


class Bonuses:
    """The payroll adjustments of a company."""

    def __init__(self, company: Books) -> None:
        self._company = company
        self.adjustments: list[Adjustment] = []
        self._ids = generate_ids(495_000_000)
        self._seen = 0

    def extend(self) -> None:
        """Add what the jobs bring that were planned since the last call."""
        for job in self._company.jobs[self._seen :]:
            if job.done and (job.draw % 9 == 0 or not self.adjustments):
                self._add(job)
        self._seen = len(self._company.jobs)

    def _add(self, job: Job) -> None:
        is_spiff = job.total > 0 and job.draw % 27 > 0
        posted = find_midnight(job.done) + ticks.DAY + 9 * ticks.HOUR + job.draw % ticks.HOUR
        corrected = posted + ticks.DAY if job.draw % 5 == 0 else 0
        self.adjustments.append(
            Adjustment(
                id=next(self._ids),
                moments=(posted, corrected) if corrected else (posted,),
                deactivated=corrected if job.draw % 10 == 0 else 0,
                draw=job.draw,
                job=job,
                is_spiff=is_spiff,
                code_id=compute_id(FIRST_EARNING_CODE, SPIFF if is_spiff else TOOLS),
                cents=500 * (2 + job.draw % 19),
            )
        )
