"""The curated file: what the vendor's documents do not say, each entry with its reason."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from st_pipelines.catalog.model import (
    DataType,
    DateFilter,
    Endpoint,
    Field,
    ListOf,
    Scalar,
    StructOf,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Curated:
    """The sections of `curated.yaml`; see the comments there."""

    apis: Mapping[str, str]
    left_out: Mapping[str, str]
    names: Mapping[str, Mapping[str, str]]
    decimals_as_text: Mapping[str, Mapping[str, Any]]
    split: Mapping[str, Mapping[str, Any]]
    endpoints: Mapping[str, Mapping[str, Any]]

    def correct(self, endpoint: Endpoint) -> Endpoint:
        """The endpoint with its curated facts in place of the derived ones."""
        facts = {k: v for k, v in self.endpoints.get(endpoint.table, {}).items() if k != "reason"}
        if "date_filter" in facts:
            facts["date_filter"] = DateFilter(**facts["date_filter"])
            facts.setdefault("kind", "window")
        if "params" in facts:
            facts["params"] = {**endpoint.params, **facts["params"]}
        for name in ("key", "variants"):
            if name in facts:
                facts[name] = tuple(facts[name])
        return dataclasses.replace(endpoint, **facts)

    def unmet(self, tables: Collection[str]) -> list[str]:
        """Tables with curated facts that a catalogue does not have: renamed, or gone."""
        return sorted(table for table in self.endpoints if table not in tables)

    def retype(self, api: str, columns: tuple[Field, ...]) -> tuple[Field, ...]:
        """The columns, with text that is known to hold decimals as DECIMAL, at every depth."""
        names = frozenset(self.decimals_as_text.get(api, {}).get("fields", ()))
        return tuple(_retyped(column, names) for column in columns) if names else columns


@cache
def load_curated() -> Curated:
    """The packaged file."""
    text = Path(__file__).with_name("curated.yaml").read_text(encoding="utf-8")
    return Curated(**yaml.safe_load(text))


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
