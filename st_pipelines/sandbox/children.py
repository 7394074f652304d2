"""Computes what belongs to one record from the company's plan, where no collection lists it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from st_pipelines.sandbox.company import Company
from st_pipelines.sandbox.planning.journal import Journal
from st_pipelines.sandbox.stories import journal
from st_pipelines.sandbox.stories.story import Fields

RenderChildren: TypeAlias = Callable[[Company, Any], list[Fields]]
"""Returns the children of a planned entity."""

_ENTRY = "/accounting/v2/tenant/{tenant}/journal-entries/{id}"

PLANNED: Mapping[str, RenderChildren] = {
    f"{_ENTRY}/details": lambda company, entry: journal.render_details(
        company.chapter(Journal), entry
    ),
    f"{_ENTRY}/summary": lambda company, entry: journal.render_summary(
        company.chapter(Journal), entry
    ),
}
"""Children by the path of the operation that lists them."""
