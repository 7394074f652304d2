"""Lists what belongs to a record, follows from the plan, and is in no collection."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from st_pipelines.sandbox.company import Company
from st_pipelines.sandbox.planning.journal import Journal
from st_pipelines.sandbox.stories import attachments, banking, jobs, journal, notes
from st_pipelines.sandbox.stories.story import ChildStory, Fields

RenderRows: TypeAlias = Callable[[Company, Any], list[Fields]]
"""Returns the children of a planned entity, which have no time of their own."""

RenderObject: TypeAlias = Callable[[Company, Any], Fields]
"""Returns an object that belongs to a planned entity."""

_ENTRY = "/accounting/v2/tenant/{tenant}/journal-entries/{id}"

CHILDREN: Mapping[str, ChildStory] = {
    **attachments.CHILDREN,
    **banking.CHILDREN,
    **notes.CHILDREN,
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
    "/jpm/v2/tenant/{tenant}/jobs/{id}/booked-log": jobs.render_booked_log,
}
"""Objects, by the path of the operation that serves them."""
