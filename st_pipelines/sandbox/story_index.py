"""Lists the stories of all tables that follow from the company's plan, by table."""

from __future__ import annotations

from st_pipelines.sandbox.stories import (
    banking,
    billing,
    credits,
    customers,
    equipment,
    front_office,
    jobs,
    journal,
    ledger,
    master_data,
    memberships,
    payroll,
    projects,
    purchasing,
    reporting,
    returns,
    web_scheduling,
)
from st_pipelines.sandbox.stories.story import Story

STORIES: dict[str, Story] = {
    **customers.STORIES,
    **equipment.STORIES,
    **front_office.STORIES,
    **jobs.STORIES,
    **journal.STORIES,
    **banking.STORIES,
    **billing.STORIES,
    **credits.STORIES,
    **ledger.STORIES,
    **memberships.STORIES,
    **master_data.STORIES,
    **payroll.STORIES,
    **projects.STORIES,
    **purchasing.STORIES,
    **reporting.STORIES,
    **returns.STORIES,
    **web_scheduling.STORIES,
}
