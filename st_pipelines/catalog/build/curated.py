"""Reads `curated.yaml`: facts that the vendor's documents lack or get wrong, each with a reason."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from st_pipelines.catalog.build.openapi import Operation
from st_pipelines.catalog.model import DataType, Field, ListOf, Scalar, StructOf, snake_case

CURATED = Path(__file__).with_name("curated.yaml")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Curated:
    """The sections of `curated.yaml`, which explains each in a comment."""

    apis: Mapping[str, str]
    left_out: Mapping[str, str]
    names: Mapping[str, Mapping[str, str]]
    decimals_as_text: Mapping[str, Mapping[str, Any]]
    split: Mapping[str, Mapping[str, Any]]
    endpoints: Mapping[str, Mapping[str, Any]]
    sorted_by_id: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    reading_posts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    objects: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    children: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)

    def name(self, operation: Operation) -> str:
        """Returns the name of an operation's table within its API."""
        return self.names.get(operation.path, {}).get("name", operation.name)

    def facts(self, table: str) -> dict[str, Any]:
        """Returns the values that replace derived ones, by attribute of `Endpoint`."""
        facts = {k: v for k, v in self.endpoints.get(table, {}).items() if k != "reason"}
        if table in self.sorted_by_id.get("tables", ()):
            facts.setdefault("sort", "+Id")
        return facts

    def find_unknown(self, tables: Collection[str], paths: Collection[str]) -> list[str]:
        """Returns tables and paths with facts that the documents do not contain (any more)."""
        of_tables = {*self.endpoints, *self.sorted_by_id.get("tables", ())}
        of_paths = {*self.left_out, *self.names, *self.split, *self.objects, *self.children}
        return [*sorted(of_tables - set(tables)), *sorted(of_paths - set(paths))]

    def find_api(self, name: str) -> str:
        """Returns the API of a table (`jpm.jobs`) or of a path (`/jpm/v2/...`)."""
        if not name.startswith("/"):
            return name.partition(".")[0]
        module = name.split("/")[1]
        return snake_case(self.apis.get(module, module))

    def retype(self, api: str, columns: tuple[Field, ...]) -> tuple[Field, ...]:
        """Changes text that is known to hold decimals to DECIMAL, at every depth."""
        names = frozenset(self.decimals_as_text.get(api, {}).get("fields", ()))
        return tuple(_retyped(column, names) for column in columns) if names else columns


@cache
def load_curated() -> Curated:
    """Reads the packaged file once per process."""
    return Curated(**yaml.safe_load(CURATED.read_text(encoding="utf-8")))


def _retyped(field: Field, names: frozenset[str]) -> Field:
    if field.name in names and field.type == Scalar("VARCHAR"):
        return Field(field.name, Scalar("DECIMAL"))
    return Field(field.name, _retyped_type(field.type, names))


def _retyped_type(type_: DataType, names: frozenset[str]) -> DataType:
    match type_:
        case ListOf(item):
            return ListOf(_retyped_type(item, names))
        case StructOf(fields):
            return StructOf(tuple(_retyped(field, names) for field in fields))
    return type_
