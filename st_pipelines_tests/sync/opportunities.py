"""Serves a collection that ServiceTitan's documents do not have: opportunities, and their feed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from st_pipelines.sandbox.server import Sandbox

LIST = "/sales/v2/tenant/{tenant}/opportunities"
FEED = "/sales/v2/tenant/{tenant}/export/opportunities"
YAML = f"""\
salestech.opportunities:
  path: {LIST}
  scope: tn.sal.opportunities:r
  cursor: modifiedOn
  date_filter: {{lower: modifiedOnOrAfter, upper: modifiedBefore}}
  params: {{active: Any}}
  sort: +Id
"""


def opportunity(number: int, **changes: Any) -> dict[str, Any]:
    """A record, with a day of March for its number."""
    return {
        "id": number,
        "modifiedOn": f"2026-03-{1 + number % 9:02}T15:00:00.1234567Z",
        "name": f"Opportunity {number}",
        "amount": number + 0.25,
        "open": number % 2 == 0,
        "customer": {"id": 10 * number, "tags": [number, number + 1]},
        "lostReason": None,
        **changes,
    }


@dataclass
class Opportunities:
    """The records, and the requests for them so far, as path and query."""

    records: list[dict[str, Any]] = field(default_factory=list)
    seen: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def serve(self, sandbox: Sandbox) -> None:
        """Adds the list and the feed to a sandbox."""
        paths: dict[str, Callable[[dict[str, str]], Any]] = {
            LIST.replace("{tenant}", sandbox.tenant_id): self._answer_list,
            FEED.replace("{tenant}", sandbox.tenant_id): self._answer_feed,
        }

        def respond(request: Request) -> Response | None:
            answer = paths.get(request.url.path)
            if answer is None:
                return None
            query = dict(request.query_params)
            self.seen.append((request.url.path, query))
            return Response(json.dumps(answer(query)), media_type="application/json")

        sandbox.interceptors.insert(0, respond)

    def _answer_list(self, query: dict[str, str]) -> Any:
        lower, upper = query.get("modifiedOnOrAfter", ""), query.get("modifiedBefore", "9")
        chosen = [r for r in self.records if lower <= r["modifiedOn"] < upper]
        page, size = int(query["page"]), int(query["pageSize"])
        rows = chosen[(page - 1) * size : page * size]
        return {
            "page": page,
            "pageSize": size,
            "hasMore": page * size < len(chosen),
            "totalCount": len(chosen) if query.get("includeTotal") == "true" else None,
            "data": rows,
        }

    def _answer_feed(self, query: dict[str, str]) -> Any:
        start = query.get("from", "")
        known = int(start.removeprefix("token-")) if start.startswith("token-") else 0
        rows = [{**record, "active": record["id"] != 3} for record in self.records[known:]]
        token = f"token-{len(self.records)}"
        return {"hasMore": False, "continueFrom": token, "data": rows}
