"""Lists what belongs to a record, follows from the plan, and is in no collection."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from st_pipelines.sandbox.company import Company
from st_pipelines.sandbox.planning.journal import Journal
from st_pipelines.sandbox.stories import (
    attachments,
    banking,
    estimate_changes,
    jobs,
    journal,
    notes,
    web_scheduling,
)
from st_pipelines.sandbox.stories.story import ChildStory, Fields

RenderRows: TypeAlias = Callable[[Company, Any], list[Fields]]
"""Returns the children of a planned entity, which have no time of their own."""

RenderObject: TypeAlias = Callable[[Company, Any, Mapping[str, Any], int], Fields]
"""Returns an object that belongs to a planned entity, from the query and the time (ticks)."""

_ENTRY = "/accounting/v2/tenant/{tenant}/journal-entries/{id}"

CHILDREN: Mapping[str, ChildStory] = {
    **attachments.CHILDREN,
    **banking.CHILDREN,
    **estimate_changes.CHILDREN,
    **notes.CHILDREN,
    **web_scheduling.CHILDREN,
}
"""Children with times and ids of their own, by the path of the operation that lists them."""

ROWS: Mapping[str, RenderRows] = {
    f"{_ENTRY}/details": lambda company, entry: journal.render_details(
        company.chapter(Journal), entry
    ),
    f"{_ENTRY}/summary": lambda company, entry: journal.render_summary(
        company.chapter(Journal), entry
    ),
}
"""Other children, by the path of the operation that lists them."""

OBJECTS: Mapping[str, RenderObject] = {
    "/jpm/v2/tenant/{tenant}/jobs/{id}/booked-log": (
        lambda company, job, values, now: jobs.render_booked_log(company, job)
    ),
    "/schedulingpro/v2/tenant/{tenant}/schedulers/{id}/performance": (
        web_scheduling.render_performance
    ),
}
"""Objects, by the path of the operation that serves them."""
