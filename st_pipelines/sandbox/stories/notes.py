"""Tells of the notes that the office writes on customers, locations and leads."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

from st_pipelines.sandbox import sample_text, ticks
from st_pipelines.sandbox.company import Company
from st_pipelines.sandbox.entities import Customer, Entity, Location, Staff
from st_pipelines.sandbox.ids import FIRST_IDS, compute_user_id
from st_pipelines.sandbox.lead_entities import Lead
from st_pipelines.sandbox.schedule import draw_office_moment, sort_moments
from st_pipelines.sandbox.stories.story import ChildStory, Fields, RenderContext

MAX_NOTES = 4

NOTE_IDS = {"customer": 500_000_000, "location": 510_000_000, "lead": 520_000_000}
"""The first id of the notes, by what they are written on."""


class OfficeNote(Entity, frozen=True, kw_only=True, gc=False):
    """A note that somebody in the office wrote."""

    author: Staff
    text: str


def _list_customer_notes(company: Company, customer: Customer) -> list[OfficeNote]:
    end = customer.deactivated or customer.moments[0] + 600 * ticks.DAY
    return _write(company, "customer", customer, end, sample_text.CUSTOMER_NOTES)


def _list_location_notes(company: Company, location: Location) -> list[OfficeNote]:
    end = location.deactivated or location.moments[0] + 600 * ticks.DAY
    return _write(company, "location", location, end, sample_text.LOCATION_NOTES)


def _list_lead_notes(company: Company, lead: Lead) -> list[OfficeNote]:
    end = lead.converted or lead.dismissed or lead.moments[0] + 14 * ticks.DAY
    return _write(company, "lead", lead, end, sample_text.LEAD_NOTES)


def _write(
    company: Company, kind: str, owner: Entity, end: int, texts: tuple[str, ...]
) -> list[OfficeNote]:
    """Write up to `MAX_NOTES` notes in office hours, from the owner's creation until `end`."""
    rng = random.Random(f"{company.seed}:notes:{kind}:{owner.id}")
    count = rng.choice((0, 1, 1, 2, 2, 3, MAX_NOTES))
    chosen = rng.sample(texts, count)
    first = NOTE_IDS[kind] + (owner.id - FIRST_IDS[kind]) * MAX_NOTES
    return [
        OfficeNote(
            id=first + number,
            moments=moments,
            draw=rng.getrandbits(16),
            author=rng.choice(company.master_data.office),
            text=text.format(number=rng.randrange(1000, 9999)),
        )
        for number, (text, moments) in enumerate(
            zip(chosen, _draw_moments(rng, owner.moments[0], end, count), strict=True)
        )
    ]


def _draw_moments(
    rng: random.Random, start: int, end: int, count: int
) -> Iterator[tuple[int, ...]]:
    """Draw when notes are created, in order; a third of them are edited an hour later.

    Most are written soon after `start`.
    """
    drawn = (
        draw_office_moment(rng, start + int((end - start) * rng.random() ** 4))
        for _ in range(count)
    )
    for moment in sorted(min(max(moment, start), end - 1) for moment in drawn):
        is_edited = rng.random() < 1 / 3
        yield sort_moments(moment, min(moment + ticks.HOUR, end) if is_edited else 0)


def _render(note: OfficeNote, context: RenderContext) -> Fields:
    return {
        "text": note.text,
        "isPinned": note.draw % 10 == 0,
        "createdById": compute_user_id(note.author.id),
    }


_LISTS: dict[str, Callable[[Company, Any], list[OfficeNote]]] = {
    "customers": _list_customer_notes,
    "locations": _list_location_notes,
    "leads": _list_lead_notes,
}

CHILDREN = {
    f"/crm/v2/tenant/{{tenant}}/{owners}/{{id}}/notes": ChildStory(entities=list_, fields=_render)
    for owners, list_ in _LISTS.items()
}
