"""Serves single records, their children, and single objects such as settings.

Children that a collection also lists, such as the notes of a job, are that collection's records.
Some others follow from the company's plan (`children`). The rest are generated when first requested
(`child_tables`).
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from st_pipelines.catalog.specification import Schema
from st_pipelines.sandbox import records, responses, ticks
from st_pipelines.sandbox.child_tables import ChildTables, find_record
from st_pipelines.sandbox.children import OBJECTS, ROWS
from st_pipelines.sandbox.collections import Collection, resolve_members
from st_pipelines.sandbox.operations import Route
from st_pipelines.sandbox.parameters import read_path_value
from st_pipelines.sandbox.path_names import find_backing, fit, name_parents
from st_pipelines.sandbox.projection import Projection
from st_pipelines.sandbox.scalars import Draw
from st_pipelines.sandbox.selection import find_positions, select
from st_pipelines.sandbox.table import Key, Table
from st_pipelines.sandbox.world import World


class NotFound(Exception):
    """The record in the path does not exist."""


class Details:
    """Serves the details of one tenant.

    Args:
        world: the tenant's records. Callers hold its lock.
        tenant: the tenant's id.
    """

    def __init__(self, world: World, tenant: str) -> None:
        self.world = world
        self._tenant = tenant
        self._projections: dict[str, Projection] = {}
        self._children = ChildTables(world)

    def answer(self, route: Route, values: Mapping[str, Any]) -> Response:
        """Answer a request for a detail.

        Args:
            route: what the request asks for.
            values: the query parameters, see `parameters.read_query`.

        Raises:
            NotFound: the record in the path does not exist.
            BadRequest: a parameter is invalid.
        """
        body = {
            "single": self._answer_single,
            "children": self._answer_children,
            "child": self._answer_child,
            "object": self._answer_object,
        }[route.kind](route, values)
        return responses.build_json_response(body)

    def find_parent(self, route: Route) -> tuple[Table, int] | None:
        """Find the record in the path; None if no operation lists such records.

        Raises:
            NotFound: it does not exist.
            BadRequest: its id is of another type.
        """
        if route.collection is None or not route.parameter:
            return None
        declared = next(p for p in route.operation.parameters if p.name == route.parameter)
        key = read_path_value(route.api, declared, route.values[route.parameter])
        table = self.world.table(route.collection.name)
        return table, _find_position(table, key)

    def _answer_single(self, route: Route, values: Mapping[str, Any]) -> bytes:
        found = self.find_parent(route)
        assert found is not None
        return self._render(route, *found)

    def _answer_child(self, route: Route, values: Mapping[str, Any]) -> bytes:
        """Serve a child by its id, which is the last part of the path."""
        self.find_parent(route)
        schema = _get_body(route)
        members = resolve_members(route.api, schema)
        last = list(route.values)[-1]
        given = {name: text for name, text in route.values.items() if name in members}
        for name in ("id", re.sub("^.*(?=Name$)", "", last)):
            if name in members:
                given[name] = route.values[last]
        return self._generate(route, schema, given)

    def _answer_object(self, route: Route, values: Mapping[str, Any]) -> bytes:
        found = self.find_parent(route)
        if found is not None:
            table, positions = self._find_backing(route, found) or (None, [])
            if table is not None and positions:
                return self._render(route, table, positions[0])
            entity, render = found[0].entities[found[1]], OBJECTS.get(route.operation.path)
            if entity is not None and render is not None:
                body = render(self.world.company, entity, values, self.world.now_ticks)
                return records.encode(body)
        # Query parameters that are ids may be members of the body.
        ids = {name: value for name, value in values.items() if name.endswith("Id")}
        schema = _get_body(route)
        given = {**route.values, **ids, **name_parents(route, schema)}
        return self._generate(route, schema, given)

    def _answer_children(self, route: Route, values: Mapping[str, Any]) -> bytes:
        found = self.find_parent(route)
        if found is not None and route.operation.path in ROWS:
            rows = self._render_planned(route, *found)
        elif found is not None and (backing := self._find_backing(route, found)):
            rows = self._render_rows(route, *backing, values)
        else:
            table = self._children.get(route, found)
            positions = select(self.world.table, table, route.operation, values)
            rows = [table.raws[at] for at in positions]
        return responses.build_list_body(route.api, route.operation, values, rows, self._tenant)

    def _render_planned(self, route: Route, table: Table, position: int) -> list[bytes]:
        """Render the children of a record; those of one that `World.create` made are unknown."""
        entity, render = table.entities[position], ROWS[route.operation.path]
        return [records.encode(row) for row in render(self.world.company, entity)] if entity else []

    def _render_rows(
        self, route: Route, table: Table, positions: list[int], values: Mapping[str, Any]
    ) -> list[bytes]:
        chosen = find_positions(
            self.world.table, table, route.operation, values, within=frozenset(positions)
        )
        project = self._get_projection(route, table.collection, find_record(route))
        return [project(table.raws[at], active=table.active[at], draw=at) for at in chosen]

    def _find_backing(
        self, route: Route, parent: tuple[Table, int]
    ) -> tuple[Table, list[int]] | None:
        """Find the collection that lists the children of a record too, and their positions."""
        found = find_backing(route)
        if found is None:
            return None
        collection, path = found
        table = self.world.table(collection.name)
        key = parent[0].keys[parent[1]]
        column = table.read_values(path.partition(".")[0])
        leaf = path.partition(".")[2]
        values = [
            value.get(leaf) if leaf and isinstance(value, dict) else value for value in column
        ]
        return table, [at for at in table.find_alive() if values[at] == key]

    def _get_projection(self, route: Route, source: Collection, target: Schema) -> Projection:
        path = route.operation.path
        if path not in self._projections:
            template = self.world.build_template(route.api, path, target)
            self._projections[path] = Projection(route.api, source.record, target, template)
        return self._projections[path]

    def _render(self, route: Route, table: Table, position: int) -> bytes:
        """Render a record as the body of an operation."""
        body = route.api.resolve(_get_body(route))
        is_wrapped = body.kind == "object" and set(body.members) == {"data"}
        target = route.api.resolve(body.members["data"]) if is_wrapped else body
        project = self._get_projection(route, table.collection, target)
        raw = project(table.raws[position], active=table.active[position], draw=position)
        return b'{"data":' + raw + b"}" if is_wrapped else raw

    def _generate(self, route: Route, schema: Schema, given: Mapping[str, Any]) -> bytes:
        """Generate a body. Equal requests get equal ones."""
        api, path = route.api, route.operation.path
        seed = f"{self.world.seed}:{path}:{sorted((k, str(v)) for k, v in given.items())}"
        rng = random.Random(seed)
        # Only the day counts: a body should not change from one request to the next.
        moment = self.world.now_ticks - self.world.now_ticks % ticks.DAY
        value = self.world.build_operation_filler(api, path).generate(
            schema, Draw(rng=rng, moment=moment - rng.randrange(60 * ticks.DAY))
        )
        members = resolve_members(api, schema)
        for name, text in given.items():
            if name in members and isinstance(value, dict):
                value[name] = fit(members[name], text)
        return records.encode(value)


def _find_position(table: Table, key: Key) -> int:
    try:
        position = table.find_position(key)
    except (KeyError, ValueError):
        raise NotFound(str(key)) from None
    if position in table.deleted or position in table.hidden:
        raise NotFound(str(key))
    return position


def _get_body(route: Route) -> Schema:
    success = route.operation.success
    assert success is not None
    assert success.schema is not None
    return success.schema
