"""Finds the operation that a request calls, and what the operation serves."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from st_pipelines.catalog.specification import ApiSpecification, ReadOperation
from st_pipelines.catalog.specification_files import packaged_specification
from st_pipelines.sandbox.collections import TENANT, Collection, load_collections

Kind = Literal["collection", "single", "children", "child", "object", "file"]
"""What an operation serves.

- `collection`: the records of the tenant, as a list or an export.
- `single`: one record of a collection, by its id.
- `children`: what belongs to one record, as a list; `child`: one of these, by its id.
- `object`: an object that is not a record, such as settings or a summary.
- `file`: a recording, an image or an attachment.
"""

PARENTS: Mapping[str, str] = {
    "technicians": "settings.technicians",
    "employees": "settings.employees",
    "jobs": "jpm.jobs",
}
"""Collections of other APIs whose ids occur in paths."""


@dataclass(frozen=True, kw_only=True)
class Route:
    """What a request asks for.

    Attributes:
        operation: the operation.
        api: the specification of its API.
        kind: what it serves.
        collection: the collection that it lists, or the one that the record in its path is of;
            None if its path names no record, or one that no operation lists.
        parameter: the name of the path parameter with the record's id.
        values: the path parameters as they were sent, apart from the tenant.
    """

    operation: ReadOperation
    api: ApiSpecification
    kind: Kind
    collection: Collection | None = None
    parameter: str = ""
    values: Mapping[str, str] = field(default_factory=dict)


class Router:
    """Finds operations by method and path."""

    def __init__(self) -> None:
        self._exact: dict[str, Route] = {}
        self._patterns: list[tuple[re.Pattern[str], Route]] = []
        specification = packaged_specification()
        for operation in specification:
            if operation.method != "GET":
                continue
            route = derive_route(specification.api(operation.api), operation)
            if "{" in operation.path.partition(TENANT)[2]:
                self._patterns.append((compile_path(operation.path), route))
            else:
                self._exact[operation.path] = route

    @property
    def routes(self) -> list[Route]:
        """All routes, without values."""
        return [*self._exact.values(), *(route for _, route in self._patterns)]

    def find(self, method: str, path: str) -> Route | None:
        """Find the operation of a request; None if there is none.

        Args:
            method: of HTTP.
            path: with `{tenant}` in place of the tenant's id.
        """
        if method != "GET":
            return None
        if path in self._exact:
            return self._exact[path]
        for pattern, route in self._patterns:
            match = pattern.fullmatch(path)
            if match:
                return dataclasses.replace(route, values=match.groupdict())
        return None


def derive_route(api: ApiSpecification, operation: ReadOperation) -> Route:
    """Derive what an operation serves, from its path and its response."""
    collections = load_collections()
    collection = collections.by_path.get(operation.path)
    if collection is not None:
        return Route(operation=operation, api=api, kind="collection", collection=collection)
    inside = operation.path.partition(TENANT)[2].split("/")
    at = next((n for n, part in enumerate(inside) if part.startswith("{")), None)
    parent = None if at is None else _find_parent(api.api, inside[:at])
    parameter = "" if at is None else inside[at].strip("{}")

    def build(kind: Kind) -> Route:
        return Route(
            operation=operation, api=api, kind=kind, collection=parent, parameter=parameter
        )

    success = operation.success
    # The list of a job's attachments declares paging, and no body.
    if at is not None and "page" in operation.query and success and success.schema is None:
        return build("children")
    if success is None or success.schema is None or success.media_type.endswith("octet-stream"):
        return build("file")
    if at is not None and at == len(inside) - 1 and parent is not None:
        return build("single")
    record = api.find_record(operation)
    if record is not None and record.members:
        return build("children")
    is_child = at is not None and at < len(inside) - 1 and inside[-1].startswith("{")
    return build("child" if is_child else "object")


def _find_parent(api: str, before: list[str]) -> Collection | None:
    """Find the collection that the record in a path is of, from the part before its id."""
    collections = load_collections()
    name = re.sub("-", "_", "_".join(before))
    last = before[-1]
    for candidate in (f"{api}.{name}", f"{api}.{last.replace('-', '_')}", PARENTS.get(last, "")):
        if candidate in collections:
            return collections[candidate]
    return None


def compile_path(path: str) -> re.Pattern[str]:
    """Build the pattern of a path. Its names are groups, except for the tenant's."""
    return re.compile(re.sub(r"\\{(?!tenant)(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(path)))
