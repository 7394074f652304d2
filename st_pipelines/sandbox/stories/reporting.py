"""Renders the report categories. Their ids are the slugs used in paths."""

from __future__ import annotations

from collections.abc import Mapping

from st_pipelines.sandbox import ticks
from st_pipelines.sandbox.company import Company
from st_pipelines.sandbox.entities import Named
from st_pipelines.sandbox.stories.story import Story

CATEGORIES: Mapping[str, str] = {
    "business-unit-dashboard": "Business Unit Dashboard",
    "technician-dashboard": "Technician Dashboard",
    "operations": "Operations",
    "accounting": "Accounting",
    "marketing": "Marketing",
    "technician": "Technician",
}
"""Names by slug."""


def _list_categories(company: Company) -> list[Named]:
    moments = (company.start - 900 * ticks.DAY,)
    names = enumerate(CATEGORIES.values())
    return [Named(id=number, moments=moments, draw=number, name=name) for number, name in names]


STORIES = {
    "reporting.report_categories": Story(
        entities=_list_categories,
        fields=lambda category, context: {"name": category.name},
        text_key=lambda category: list(CATEGORIES)[category.id],
    )
}
