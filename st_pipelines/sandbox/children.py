"""Computes the lists of what belongs to one record, from the company's plan.

`api` serves them as computed operations. A record that was created by `World.create` has none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.responses import Response

from st_pipelines.sandbox import records
from st_pipelines.sandbox.computed import Call, Operation, Refusal, build_page
from st_pipelines.sandbox.entities import Entity
from st_pipelines.sandbox.planning.journal import Journal
from st_pipelines.sandbox.stories import journal

PAGE_SIZE = 50
MAX_PAGE_SIZE = 500

JOURNAL = "/accounting/v2/tenant/{tenant}/journal-entries/{id}"


def _find_entity(call: Call, table: str) -> Entity | None:
    """Find the planned entity of a record; None if it was created later.

    Raises:
        Refusal: 404, there is no such record.
    """
    held, text = call.world.table(table), call.path["id"]
    try:
        position = held.find_position(int(text) if text.isdigit() else text)
    except KeyError:
        position = -1
    if position not in held.find_alive():
        raise Refusal(404, "Not Found")
    return held.entities[position]


def _answer_journal(render: Callable[[Journal, Any], list[Any]]) -> Callable[[Call], Response]:
    def answer(call: Call) -> Response:
        entry = _find_entity(call, "accounting.journal_entries")
        lines = render(call.world.company.chapter(Journal), entry) if entry else []
        return _respond(call, lines)

    return answer


def _respond(call: Call, rows: list[Any]) -> Response:
    page = build_page(call, rows, default_size=PAGE_SIZE, largest_size=MAX_PAGE_SIZE)
    return Response(records.encode(page), media_type="application/json")


OPERATIONS = tuple(
    Operation(
        method="GET",
        path=f"{JOURNAL}/{name}",
        scope="tn.acc.journalentries:r",
        answer=_answer_journal(render),
    )
    for name, render in (("details", journal.render_details), ("summary", journal.render_summary))
)
