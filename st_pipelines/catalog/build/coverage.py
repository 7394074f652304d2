"""Decides where the data of each reading operation is: in a table, in a file, in a report.

`coverage.yaml` has what does not follow from the catalog. `coverage_document` writes the result
down, and a test keeps the document true. Operations that no release covers yet are `not yet`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import yaml

from st_pipelines.catalog import model
from st_pipelines.catalog.file_kinds import FILE_KINDS
from st_pipelines.catalog.model import (
    Catalog,
    DataType,
    Endpoint,
    ListOf,
    Scalar,
    StructOf,
)
from st_pipelines.catalog.specification import ApiSpecification, ReadOperation, Schema
from st_pipelines.catalog.specification_files import Specification

FILE = Path(__file__).with_name("coverage.yaml")

Place: TypeAlias = Literal["table", "part", "file", "report", "excluded", "not yet"]
PLACES: tuple[Place, ...] = get_args(Place)

_TENANT = re.compile(r"^(/[^/]+)/v\d+/tenant/\{tenant\}/(?:export/)?")
_PARAMETER = re.compile(r"\{[^{}]+\}")


@dataclass(frozen=True, kw_only=True)
class Facts:
    """The sections of `coverage.yaml`, which explains each in a comment."""

    part_of: Mapping[str, str]
    excluded: Mapping[str, tuple[str, ...]]
    tap: Mapping[str, str]
    servicepytan: Mapping[str, str | tuple[str, ...]]


@dataclass(frozen=True, kw_only=True)
class Covered:
    """Where the data of one operation is.

    Attributes:
        operation: what serves it.
        place: `table` if tables are loaded from the operation; `part` if tables that are loaded
            from other operations have its records; `file` if it serves files that are stored;
            `not yet` if nothing has.
        tables: those tables; of `file`, those that list the stored files.
        adds: the fields, as paths, that none of these tables has a column for.
        reason: of `excluded` and `not yet`.
    """

    operation: ReadOperation
    place: Place
    tables: tuple[str, ...] = ()
    adds: tuple[str, ...] = ()
    reason: str = ""


@cache
def load_facts() -> Facts:
    """Reads the packaged file once per process."""
    sections = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    excluded = {reason: tuple(paths) for reason, paths in sections["excluded"].items()}
    functions = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in sections["servicepytan"].items()
    }
    return Facts(**{**sections, "excluded": excluded, "servicepytan": functions})


def cover(catalog: Catalog, specification: Specification, facts: Facts) -> list[Covered]:
    """Returns where the data of each operation is, in the order of the specification.

    Args:
        catalog: the packaged one, as a user's has tables of their own.
        specification: the operations.
        facts: what does not follow from the two.
    """
    rules = _Rules(catalog, specification, facts)
    return [rules.find_place(operation) for operation in specification]


def find_unknown_facts(
    catalog: Catalog, specification: Specification, facts: Facts
) -> Iterator[str]:
    """Yields a sentence for each fact that names an operation or a table that does not exist."""
    paths = {operation.path for operation in specification}
    used = [*facts.part_of, *facts.tap.values()]
    used += [path for excluded in facts.excluded.values() for path in excluded]
    used += [p for value in facts.servicepytan.values() if isinstance(value, tuple) for p in value]
    yield from (f"no operation {path}" for path in used if path not in paths)
    tables = facts.part_of.values()
    yield from (f"no table {table}" for table in tables if table not in catalog.endpoints)


class _Rules:
    """Finds the place of operations."""

    def __init__(self, catalog: Catalog, specification: Specification, facts: Facts) -> None:
        self._catalog = catalog
        self._specification = specification
        self._facts = facts
        self._reasons = {operation.path: operation.reason for operation in catalog.left_out}
        self._excluded = {
            path: reason for reason, paths in facts.excluded.items() for path in paths
        }
        self._by_path: dict[str, list[Endpoint]] = {}
        self._by_collection: dict[str, list[Endpoint]] = {}
        for endpoint in catalog:
            for path in filter(None, (endpoint.path, endpoint.export and endpoint.export.path)):
                self._by_path.setdefault(path, []).append(endpoint)
                self._by_collection.setdefault(_collection(path), []).append(endpoint)

    def find_place(self, operation: ReadOperation) -> Covered:
        """Returns where the data of an operation is."""
        path = operation.path
        if endpoints := self._by_path.get(path):
            return Covered(operation=operation, place="table", tables=_names(endpoints))
        if files := tuple(k.table for k in FILE_KINDS.values() if k.path == path):
            return Covered(operation=operation, place="file", tables=files)
        if path in self._excluded:
            return Covered(operation=operation, place="excluded", reason=self._excluded[path])
        if endpoints := self._find_related(path):
            return Covered(
                operation=operation,
                place="part",
                tables=_names(endpoints),
                adds=self._find_added(operation, endpoints),
            )
        if operation.api == "reporting" and "report" in get_args(model.Kind):
            return Covered(operation=operation, place="report")
        reason = self._reasons.get(path, f"{operation.method} request")
        return Covered(operation=operation, place="not yet", reason=reason)

    def _find_related(self, path: str) -> list[Endpoint]:
        """Returns endpoints that serve the records of an operation that is not theirs.

        These are: another version or the export of a list, the list that an object is one of, and
        the list of all children of a list that needs the id of a parent.
        """
        if path in self._facts.part_of:
            return [self._catalog[self._facts.part_of[path]]]
        collection = _collection(path)
        listed = collection.removesuffix("/{}")
        for candidate in (listed, collection.replace("/{}", "")):
            if found := self._by_collection.get(candidate):
                return found
        return []

    def _find_added(self, operation: ReadOperation, endpoints: list[Endpoint]) -> tuple[str, ...]:
        api = self._specification.api(operation.api)
        record = _find_object(api, operation)
        if record is None:
            return ()
        added = [
            set(_find_unknown(api, record, StructOf((*e.columns, *e.row_fields)), ""))
            for e in endpoints
        ]
        return tuple(sorted(set.intersection(*added)))


def _collection(path: str) -> str:
    """Returns what a list, its export and its other versions have in common."""
    return _PARAMETER.sub("{}", _TENANT.sub(r"\1/", path))


def _names(endpoints: list[Endpoint]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(endpoint.table for endpoint in endpoints))


def _find_object(api: ApiSpecification, operation: ReadOperation) -> Schema | None:
    """Returns the shape of a record, or of the object that is the whole response."""
    success = operation.success
    if record := api.find_record(operation):
        return record
    if success is None or success.schema is None:
        return None
    body = api.resolve(success.schema)
    return api.resolve(body.members["data"]) if {*body.members} == {"data"} else body


def _find_unknown(
    api: ApiSpecification, schema: Schema, known: DataType, path: str
) -> Iterator[str]:
    """Yields the paths of members for which a type has no place."""
    schema = api.resolve(schema)
    if known == Scalar("JSON"):
        return
    if schema.kind == "array" and schema.items and isinstance(known, ListOf):
        yield from _find_unknown(api, schema.items, known.item, f"{path}[]")
    elif schema.kind == "object" and isinstance(known, StructOf):
        types: dict[str, Any] = {field.name: field.type for field in known.fields}
        for name, member in schema.members.items():
            where = f"{path}.{name}" if path else name
            if name not in types:
                yield where
            else:
                yield from _find_unknown(api, member, types[name], where)
