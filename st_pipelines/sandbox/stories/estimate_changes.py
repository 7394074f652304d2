"""Tells how the status of an estimate changed: it is open first, then perhaps sold or dismissed."""

from __future__ import annotations

from st_pipelines.sandbox.company import Company
from st_pipelines.sandbox.entities import Entity, Estimate, Staff
from st_pipelines.sandbox.ids import FIRST_IDS, compute_user_id
from st_pipelines.sandbox.stories.story import ChildStory, Fields, RenderContext

FIRST_ID = 550_000_000


class StatusChange(Entity, frozen=True, kw_only=True, gc=False):
    """A change of an estimate's status; `old` is None when it is created."""

    old: str | None
    new: str
    author: Staff


def _list_changes(company: Company, estimate: Estimate) -> list[StatusChange]:
    job = estimate.job
    changes: list[tuple[int, str | None, str, Staff]] = [
        (estimate.moments[0], None, "Open", job.technician)
    ]
    if estimate.sold:
        changes.append((estimate.sold, "Open", "Sold", job.technician))
    elif estimate.dismissed:
        changes.append((estimate.dismissed, "Open", "Dismissed", job.booked_by))
    first = FIRST_ID + (estimate.id - FIRST_IDS["estimate"]) * 2
    return [
        StatusChange(
            id=first + number,
            moments=(moment,),
            draw=estimate.draw + number,
            old=old,
            new=new,
            author=author,
        )
        for number, (moment, old, new, author) in enumerate(changes)
    ]


def _render(change: StatusChange, context: RenderContext) -> Fields:
    return {
        "oldStatus": change.old,
        "newStatus": change.new,
        "createdById": compute_user_id(change.author.id),
    }


CHILDREN = {
    "/sales/v2/tenant/{tenant}/status/estimates/{id}/changes": ChildStory(
        entities=_list_changes, fields=_render
    )
}
