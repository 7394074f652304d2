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
from st_pipelines.sandbox.control_body import (
    ANYTHING,
    MOMENT,
    OBJECT,
    SECONDS,
    TEXT,
    answers_bad_values,
    choice,
    read_body,
    refuse_misfits,
)
from st_pipelines.sandbox.table import Table
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
            Route("/_sandbox/now", answers_bad_values(self.set_time), methods=["POST"]),
            Route("/_sandbox/change", answers_bad_values(self.change_record), methods=["POST"]),
            Route("/_sandbox/state", self.report_state, methods=["GET"]),
        ]

    async def set_time(self, request: Request) -> Response:
        """Set or move the time of all tenants. Raises ValueError: the body is wrong."""
        body = await read_body(request, {"now": MOMENT, "move_seconds": SECONDS})
        if len(body) != 1:
            raise ValueError("give either now or move_seconds")
        times = [(world, _read_time(world, body)) for world in self._worlds.values()]
        for world, moment in times:
            if moment < world.now:
                raise ValueError(f"now: time only moves forward, and it is {world.now.isoformat()}")
        for world, moment in times:
            world.set_now(moment)
        return self._build_state()

    async def change_record(self, request: Request) -> Response:
        """Create, change, deactivate, delete or revive a record.

        Raises:
            ValueError: the body is wrong, or names a table or record that does not exist.
        """
        settings = {
            "tenant": choice(*self._worlds),
            "table": TEXT,
            "action": choice(*ACTIONS),
            "id": ANYTHING,
            "fields": OBJECT,
        }
        body = await read_body(request, settings)
        return responses.build_json_response({"id": self._apply(body)})

    def _apply(self, body: dict[str, Any]) -> Any:
        world = self._worlds[body.get("tenant") or next(iter(self._worlds))]
        action, fields = body.get("action", "change"), body.get("fields", {})
        table = _find_table(world, body)
        refuse_misfits(table.collection, fields)
        if action == "create":
            return world.create(table.collection.name, **fields)
        key = _find_key(table, body)
        act = getattr(world, action)
        act(table.collection.name, key, **(fields if action == "change" else {}))
        return key

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


def _find_table(world: World, body: dict[str, Any]) -> Table:
    name = body.get("table")
    if name is None:
        raise ValueError("table: name a collection, such as jpm.jobs")
    try:
        return world.table(name)
    except KeyError:
        raise ValueError(f"table: there is no collection {name!r}, such as jpm.jobs") from None


def _find_key(table: Table, body: dict[str, Any]) -> Any:
    try:
        table.find_position(key := body.get("id"))
    except (KeyError, ValueError, TypeError):
        name, key = table.collection.name, body.get("id")
        raise ValueError(f"id: {name} has no record {key!r}") from None
    return key
