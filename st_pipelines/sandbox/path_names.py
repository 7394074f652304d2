"""Finds what the parts of an operation's path name: a collection's records, members of a body."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from st_pipelines.catalog.specification import Schema
from st_pipelines.sandbox.collections import (
    Collection,
    list_paths,
    load_collections,
    resolve_members,
)
from st_pipelines.sandbox.operations import Route

OWNERS: Mapping[str, tuple[str, ...]] = {
    "settings.technicians": ("technicianId", "employeeId"),
    "settings.employees": ("employeeId",),
}
"""Members by which records refer to a person."""


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
    names = (f"{owner}_{child}", f"{stem}_{child}", f"{stem}_{child}s", f"{owner}_{stem}_{child}")
    for name in (*names, child):
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


def name_parents(route: Route, record: Schema) -> dict[str, Any]:
    """Return the members of a child that hold the ids in the path."""
    members = resolve_members(route.api, record)
    given: dict[str, Any] = {}
    for name, text in route.values.items():
        owner = route.operation.path.partition("/{" + name + "}")[0].rpartition("/")[2]
        for member in (name, f"{_camel_case(_make_singular(owner))}Id"):
            if member in members and member != "id":
                given[member] = fit(members[member], text)
    return given


def _make_singular(name: str) -> str:
    return f"{name[:-3]}y" if name.endswith("ies") else name.removesuffix("s")


def _camel_case(name: str) -> str:
    return re.sub(r"[-_](\w)", lambda match: match.group(1).upper(), name)


def fit(schema: Schema, text: Any) -> Any:
    """Return the value of a path parameter as a member of this shape."""
    if schema.kind == "integer" and isinstance(text, str) and text.lstrip("-").isdigit():
        return int(text)
    if schema.kind == "string" and not isinstance(text, str):
        return str(text)
    return text
