"""Serves what lies below a record: the record itself, its children, and objects of its own.

Children that a collection lists too, such as the notes of a job, are that collection's records.
Others exist only here, and are generated when a client first asks for them.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from typing import Any
from zlib import crc32

from starlette.responses import Response

from st_pipelines.catalog.specification import Schema
from st_pipelines.sandbox import records, responses, ticks
from st_pipelines.sandbox.children import PLANNED
from st_pipelines.sandbox.collections import (
    Collection,
    list_paths,
    load_collections,
    resolve_members,
)
from st_pipelines.sandbox.entities import Entity
from st_pipelines.sandbox.generic import GenericFields
from st_pipelines.sandbox.ids import compute_id
from st_pipelines.sandbox.operations import Route
from st_pipelines.sandbox.parameters import read_path_value
from st_pipelines.sandbox.projection import Projection
from st_pipelines.sandbox.scalars import Draw
from st_pipelines.sandbox.selection import find_positions, select
from st_pipelines.sandbox.stories.story import RenderContext, Story
from st_pipelines.sandbox.table import Key, Table
from st_pipelines.sandbox.world import World

MAX_CHILDREN = 4
"""The largest number of generated children of a record."""

MAX_TABLES = 500
"""Tables of generated children that are kept. Later requests generate equal ones again."""

OWNERS: Mapping[str, tuple[str, ...]] = {
    "settings.technicians": ("technicianId", "employeeId"),
    "settings.employees": ("employeeId",),
}
"""Members by which records refer to a person."""


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
        self._tables: dict[tuple[str, ...], Table] = {}

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
        # Query parameters that are ids may be members of the body.
        ids = {name: value for name, value in values.items() if name.endswith("Id")}
        return self._generate(route, _get_body(route), {**route.values, **ids})

    def _answer_children(self, route: Route, values: Mapping[str, Any]) -> bytes:
        found = self.find_parent(route)
        if found is not None and route.operation.path in PLANNED:
            rows = self._render_planned(route, *found)
        elif found is not None and (backing := self._find_backing(route, found)):
            rows = self._render_rows(route, *backing, values)
        else:
            table = self._get_generated(route, found)
            positions = select(self.world.table, table, route.operation, values)
            rows = [table.raws[at] for at in positions]
        return responses.build_list_body(route.api, route.operation, values, rows, self._tenant)

    def _render_planned(self, route: Route, table: Table, position: int) -> list[bytes]:
        """Render the children of a record; those of one that `World.create` made are unknown."""
        entity, render = table.entities[position], PLANNED[route.operation.path]
        return [records.encode(row) for row in render(self.world.company, entity)] if entity else []

    def _render_rows(
        self, route: Route, table: Table, positions: list[int], values: Mapping[str, Any]
    ) -> list[bytes]:
        chosen = find_positions(
            self.world.table, table, route.operation, values, within=frozenset(positions)
        )
        project = self._get_projection(route, table.collection, _get_record(route))
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

    def _get_generated(self, route: Route, parent: tuple[Table, int] | None) -> Table:
        """Return the table with the generated children of a record, as of now."""
        name = (route.operation.path, *route.values.values())
        if name not in self._tables:
            if len(self._tables) >= MAX_TABLES:
                self._tables.clear()
            self._tables[name] = self._build_generated(route, parent)
        table = self._tables[name]
        table.advance(self.world.now_ticks)
        return table

    def _build_generated(self, route: Route, parent: tuple[Table, int] | None) -> Table:
        path, record = route.operation.path, _get_record(route)
        collection = Collection(path, route.api, (route.operation,), (), record)
        now = self.world.now_ticks
        created = parent[0].created[parent[1]] if parent else now - 100 * ticks.DAY
        entities = _plan_children(path, tuple(route.values.values()), created)
        filler = self.world.build_filler(collection)
        fields = GenericFields(collection, filler, self.world.seed)
        given = _name_parents(route, record)

        def render(entity: Entity, context: RenderContext) -> dict[str, Any]:
            return {**fields(entity, context), **given}

        story = Story(entities=lambda company: entities, fields=render)
        return self.world.build_table(collection, story)

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
                value[name] = _fit(members[name], text)
        return records.encode(value)


def find_backing(route: Route) -> tuple[Collection, str] | None:
    """Find a collection whose records are the children that a route serves.

    Returns:
        The collection, and the path of the member that refers to the parent; None if there is
        none.
    """
    if route.collection is None:
        return None
    inside = route.operation.path.split("/")
    if inside[-2].strip("{}") != route.parameter:
        return None
    child = inside[-1].replace("-", "_")
    owner = inside[-3].replace("-", "_")
    stem = _make_singular(owner)
    collections = load_collections()
    for name in (f"{owner}_{child}", f"{stem}_{child}", f"{stem}_{child}s", child):
        collection = collections.get(f"{route.api.api}.{name}")
        if collection is None or collection is route.collection:
            continue
        paths = list_paths(collection.specification, collection.record, 2)
        singular = _camel_case(stem)
        wanted = (*OWNERS.get(route.collection.name, ()), f"{singular}Id", f"{singular}.id")
        member = next((path for path in wanted if path in paths), None)
        if member is not None:
            return collection, member
    return None


def _find_position(table: Table, key: Key) -> int:
    try:
        position = table.find_position(key)
    except (KeyError, ValueError):
        raise NotFound(str(key)) from None
    if position in table.deleted or position in table.hidden:
        raise NotFound(str(key))
    return position


def _plan_children(path: str, keys: Sequence[str], created: int) -> list[Entity]:
    """Plan the children of a record: at most `MAX_CHILDREN`, within weeks after it."""
    seed = crc32(":".join((path, *keys)).encode())
    rng = random.Random(seed)
    count = rng.randint(1, MAX_CHILDREN)
    moments = sorted(created + rng.randrange(1, 20 * ticks.DAY) for _ in range(count))
    base = 500_000_000 + seed % 4_000_000 * 10
    return [
        Entity(id=compute_id(base, number), moments=(moment,), draw=seed % 997 + number)
        for number, moment in enumerate(moments)
    ]


def _name_parents(route: Route, record: Schema) -> dict[str, Any]:
    """Return the members of a child that hold the ids in the path."""
    members = resolve_members(route.api, record)
    given: dict[str, Any] = {}
    for name, text in route.values.items():
        owner = route.operation.path.partition("/{" + name + "}")[0].rpartition("/")[2]
        for member in (name, f"{_camel_case(_make_singular(owner))}Id"):
            if member in members and member != "id":
                given[member] = _fit(members[member], text)
    return given


def _make_singular(name: str) -> str:
    return f"{name[:-3]}y" if name.endswith("ies") else name.removesuffix("s")


def _camel_case(name: str) -> str:
    return re.sub(r"[-_](\w)", lambda match: match.group(1).upper(), name)


def _get_record(route: Route) -> Schema:
    record = route.api.find_record(route.operation)
    assert record is not None
    return record


def _fit(schema: Schema, text: Any) -> Any:
    """Return the value of a path parameter as a member of this shape."""
    if schema.kind == "integer" and isinstance(text, str) and text.lstrip("-").isdigit():
        return int(text)
    if schema.kind == "string" and not isinstance(text, str):
        return str(text)
    return text


def _get_body(route: Route) -> Schema:
    success = route.operation.success
    assert success is not None
    assert success.schema is not None
    return success.schema
