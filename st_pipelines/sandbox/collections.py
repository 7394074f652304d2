"""Defines the collections that the API serves, from the specification facts.

A collection is a set of records that one or more operations list. Where the facts do not tell,
`KEYS`, `CURSORS` and `_NAMES` below do. Nothing comes from the pipeline's endpoint catalog: an
error in that catalog must not appear in the sandbox too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Literal

from st_pipelines.catalog.specification import ApiSpecification, ReadOperation, Schema
from st_pipelines.catalog.specification_files import Specification, packaged_specification

KEYS: Mapping[str, tuple[str, ...]] = {
    "customer_interactions.technician_ratings": ("technicianId", "jobId"),
    "jpm.job_history": ("jobId",),
    "payroll.payroll_settings": ("employeeId", "employeeType"),
}
"""Keys of collections whose records have no `id`. Other collections without `id` have no key."""

CURSORS: Mapping[str, str] = {
    "forms.submissions": "submittedOn",
    "marketing_ads.attributed_leads": "dateTime",
    "telecom.calls": "leadCall.modifiedOn",
}
"""Fields with the time by which a list selects, where they are not `modifiedOn` or `createdOn`."""

_NAMES: Mapping[str, str] = {
    "/accounting/v2/tenant/{tenant}/inventory-bills/paginated": "accounting.inventory_bills",
    "/sales/v2/tenant/{tenant}/estimates/export": "salestech.estimates",
    # Its records have another shape than the calls that the list serves.
    "/telecom/v2/tenant/{tenant}/export/calls": "telecom.calls_export",
}

TENANT = "/tenant/{tenant}/"

Envelope = Literal["page", "data", "array", "export"]


@dataclass(frozen=True, eq=False)
class Collection:
    """The records of a collection, and the operations that list them.

    Attributes:
        name: `api.collection`, such as `jpm.jobs`.
        specification: of its API.
        lists: the operations that list its records, the most complete first.
        exports: the operations that export them, the current one first.
        record: the shape of a record as the first list serves it, or else the first export.
    """

    name: str
    specification: ApiSpecification
    lists: tuple[ReadOperation, ...]
    exports: tuple[ReadOperation, ...]
    record: Schema

    @property
    def api(self) -> str:
        """The name of its API: `jpm`."""
        return self.specification.api

    @cached_property
    def members(self) -> Mapping[str, Schema]:
        """The shapes of the record's members, references resolved."""
        return resolve_members(self.specification, self.record)

    @cached_property
    def key(self) -> tuple[str, ...]:
        """The members that identify a record; empty if none do."""
        return KEYS.get(self.name, ("id",) if "id" in self.members else ())

    @cached_property
    def has_text_key(self) -> bool:
        """Whether `id` is text."""
        return self.key == ("id",) and self.members["id"].kind == "string"

    @cached_property
    def cursor(self) -> str | None:
        """The path of the time of modification or creation, such as `leadCall.modifiedOn`."""
        if self.name in CURSORS:
            return CURSORS[self.name]
        for leaf in ("modifiedOn", "createdOn"):
            if leaf in self.members:
                return leaf
            for name, schema in self.members.items():
                if schema.kind == "object" and leaf in schema.members:
                    return f"{name}.{leaf}"
        return None

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """The members that hold any text: not the key, an enum or a format."""
        return tuple(
            name
            for name, schema in self.members.items()
            if schema.kind == "string"
            and not schema.enum
            and schema.format in ("", "html", "multiline")
            and name not in self.key
        )

    @property
    def operations(self) -> tuple[ReadOperation, ...]:
        """All operations that list or export its records."""
        return self.lists + self.exports

    def find_record(self, operation: ReadOperation) -> Schema:
        """Return the shape of a record as `operation` serves it.

        Raises:
            ValueError: the operation lists no records.
        """
        record = self.specification.find_record(operation)
        if record is None:
            raise ValueError(f"{operation.path} lists no records")
        return record


class Collections(Mapping[str, Collection]):
    """The collections by name.

    Args:
        collections: all of them.
    """

    def __init__(self, collections: Iterable[Collection]) -> None:
        self._by_name = {collection.name: collection for collection in collections}
        self.by_path = {o.path: c for c in self._by_name.values() for o in c.operations}

    def __getitem__(self, name: str) -> Collection:
        return self._by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)


@lru_cache(maxsize=1)
def load_collections() -> Collections:
    """Return the collections of the packaged specification facts."""
    return derive_collections(packaged_specification())


def derive_collections(specification: Specification) -> Collections:
    """Derive the collections: one for all operations of a path that list records."""
    found: dict[str, list[ReadOperation]] = {}
    for operation in specification:
        if operation.method == "GET" and is_collection(specification.api(operation.api), operation):
            found.setdefault(derive_name(operation), []).append(operation)
    return Collections(
        _build(name, specification.api(operations[0].api), operations)
        for name, operations in found.items()
    )


def is_collection(api: ApiSpecification, operation: ReadOperation) -> bool:
    """Return whether an operation lists records of the whole tenant."""
    record = api.find_record(operation)
    inside = operation.path.partition(TENANT)[2]
    return "{" not in inside and record is not None and bool(record.members)


def derive_name(operation: ReadOperation) -> str:
    """Derive the collection's name from the path: `jpm.jobs` from `/jpm/v2/.../export/jobs`."""
    if operation.path in _NAMES:
        return _NAMES[operation.path]
    inside = operation.path.partition(TENANT)[2].removeprefix("export/")
    return f"{operation.api}.{re.sub('[-/]', '_', inside)}"


def derive_envelope(api: ApiSpecification, operation: ReadOperation) -> Envelope:
    """Return how an operation that lists records wraps them."""
    assert operation.success
    assert operation.success.schema
    body = api.resolve(operation.success.schema)
    if body.kind == "array":
        return "array"
    if "continueFrom" in body.members:
        return "export"
    return "page" if "hasMore" in body.members else "data"


def resolve_members(api: ApiSpecification, schema: Schema) -> dict[str, Schema]:
    """Return the members of an object, references resolved; empty for any other value."""
    return {name: api.resolve(member) for name, member in api.resolve(schema).members.items()}


def list_paths(api: ApiSpecification, record: Schema, depth: int = 3) -> dict[str, Schema]:
    """Return the shapes of a record's values by path: `job.id`, `items[].skuId`."""
    found: dict[str, Schema] = {}
    for name, schema in resolve_members(api, record).items():
        inner = schema
        path = name
        if inner.kind == "array" and inner.items is not None:
            inner, path = api.resolve(inner.items), f"{name}[]"
        found[path] = inner
        if inner.kind == "object" and depth > 1:
            inside = list_paths(api, inner, depth - 1)
            found.update({f"{path}.{deeper}": shape for deeper, shape in inside.items()})
    return found


def resolve_path(api: ApiSpecification, schema: Schema, path: str) -> Schema:
    """Return the shape of the value at a path such as `items[].sku.id`.

    Raises:
        KeyError: there is no such member.
    """
    schema = api.resolve(schema)
    for part in path.split("."):
        name, _, brackets = part.partition("[")
        schema = api.resolve(schema.members[name])
        for _ in range(brackets.count("]")):
            if schema.items is None:
                raise KeyError(path)
            schema = api.resolve(schema.items)
    return schema


def _build(name: str, api: ApiSpecification, operations: list[ReadOperation]) -> Collection:
    exports = [o for o in operations if derive_envelope(api, o) == "export"]
    lists = [o for o in operations if o not in exports]
    exports.sort(key=lambda o: "/export/" not in o.path)
    lists.sort(key=lambda o: _rank(api, o))
    # A list that requires ids does not enumerate its records.
    complete = [o for o in lists if not _requires_ids(o)] or exports or lists
    record = api.find_record(complete[0])
    assert record is not None
    return Collection(name, api, tuple(lists), tuple(exports), record)


def _rank(api: ApiSpecification, operation: ReadOperation) -> tuple[Any, ...]:
    version = re.search(r"/v(\d+)/", operation.path)
    paged = derive_envelope(api, operation) == "page"
    return _requires_ids(operation), not paged, -int(version.group(1) if version else 0)


def _requires_ids(operation: ReadOperation) -> bool:
    return "ids" in operation.query and operation.query["ids"].required
