"""Lets another process control the sandbox: set its time, change records, read counters."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from st_pipelines.sandbox import responses, ticks
from st_pipelines.sandbox.api import RequestLog
from st_pipelines.sandbox.world import World

ACTIONS = ("create", "change", "deactivate", "delete", "revive")


class Control:
    """Endpoints under `/_sandbox`, which ServiceTitan does not have. They need no token.

    Web pages cannot use them: `guard` refuses requests of another origin. `reports` and `files` add
    their own routes under `/_sandbox`.

    POST now takes `{"now": "2026-01-02T03:04:05Z"}` or `{"move_seconds": 86400}`, for all tenants.
    POST change takes `{"table", "action", "id", "fields", "tenant"}`; `action` is one of `ACTIONS`.
    GET state returns time, request counts, and the number of records of each table read so far.
    """

    def __init__(self, worlds: Mapping[str, World], log: RequestLog) -> None:
        self._worlds = worlds
        self._log = log

    def build_routes(self) -> list[Route]:
        """Build the routes for the application."""
        return [
            Route("/_sandbox/now", self.set_time, methods=["POST"]),
            Route("/_sandbox/change", self.change_record, methods=["POST"]),
            Route("/_sandbox/state", self.report_state, methods=["GET"]),
        ]

    async def set_time(self, request: Request) -> Response:
        """Set or move the time of all tenants."""
        body = await request.json()
        try:
            for world in self._worlds.values():
                world.set_now(_read_time(world, body))
        except (KeyError, ValueError) as error:
            return responses.build_json_response({"error": str(error)}, 400)
        return self._build_state()

    async def change_record(self, request: Request) -> Response:
        """Create, change, deactivate, delete or revive a record."""
        body = await request.json()
        try:
            key = self._apply(body)
        except (KeyError, ValueError) as error:
            return responses.build_json_response({"error": str(error)}, 400)
        return responses.build_json_response({"id": key})

    def _apply(self, body: dict[str, Any]) -> Any:
        world = self._worlds[body.get("tenant") or next(iter(self._worlds))]
        action, table, fields = body.get("action", "change"), body["table"], body.get("fields", {})
        if action not in ACTIONS:
            raise ValueError(f"action must be one of {', '.join(ACTIONS)}")
        if action == "create":
            return world.create(table, **fields)
        act = getattr(world, action)
        act(table, body["id"], **(fields if action == "change" else {}))
        return body["id"]

    async def report_state(self, request: Request) -> Response:
        """Return the state."""
        return self._build_state()

    def _build_state(self) -> Response:
        tenants = {
            tenant: {"now": world.now.isoformat(), "records": world.count_records()}
            for tenant, world in self._worlds.items()
        }
        return responses.build_json_response(
            {"tenants": tenants, "requests": dict(self._log.counts)}
        )


def _read_time(world: World, body: dict[str, Any]) -> datetime:
    if "move_seconds" in body:
        return world.now + timedelta(seconds=body["move_seconds"])
    return ticks.to_datetime(ticks.parse(body["now"]))
