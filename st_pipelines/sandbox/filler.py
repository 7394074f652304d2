"""Generates values that fit a schema of the specification facts, at any depth."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Container, Mapping
from typing import Any

from st_pipelines.catalog.foreign_keys import ForeignKey, load_foreign_keys
from st_pipelines.catalog.specification import ApiSpecification, Schema
from st_pipelines.sandbox import custom_fields, magnitudes, odd_values, sample_text
from st_pipelines.sandbox.collections import Collection
from st_pipelines.sandbox.ids import compute_part_id
from st_pipelines.sandbox.references import Reference, References
from st_pipelines.sandbox.scalars import Draw, draw_enum, draw_scalar

MAX_DEPTH = 5
"""Arrays that lie deeper are empty, which ends the recursion of categories and form sections."""

NULL_SHARE = 0.12
NULL_REFERENCES = 0.3
"""How often a value, and a reference, is null where the document allows it."""


class Filler:
    """Generates values for the records of one collection, or for the body of one operation.

    Args:
        api: resolves references to schemas.
        source: the collection, or the operation's path. It determines foreign keys.
        references: chooses the records that foreign keys refer to.
        enums: the values of members that the document declares as any text, by name.
    """

    def __init__(
        self,
        api: ApiSpecification,
        source: str,
        references: References,
        enums: Mapping[str, tuple[Any, ...]] | None = None,
    ) -> None:
        self._api = api
        self._source = source
        self._references = references
        self._enums = enums or {}
        self._keys: Mapping[str, ForeignKey] = load_foreign_keys().get(source, {})
        self._odd = odd_values.BY_SOURCE.get(source, {})

    def generate(self, schema: Schema, draw: Draw, *, without: Container[str] = ()) -> Any:
        """Generate a value. `without` names the members of a record that are left out."""
        schema = self._api.resolve(schema)
        if schema.kind == "object" and schema.members:
            return self._generate_members(schema, "", draw, 0, without)
        return self._generate_value(schema, "", "", draw, 0)

    def generate_part(
        self, schema: Schema, path: str, draw: Draw, *, without: Container[str] = ()
    ) -> dict[str, Any]:
        """Generate the members of an object that lies at `path` of a record."""
        return self._generate_members(self._api.resolve(schema), path, draw, 1, without)

    def _generate_value(self, schema: Schema, path: str, name: str, draw: Draw, depth: int) -> Any:
        schema = self._api.resolve(schema)
        odd = self._odd.get(path)
        if odd is not None and draw.rng.random() < odd.share:
            return draw.rng.choice(odd.values)
        if path in self._keys and schema.kind in ("integer", "string"):
            found = self._refer(path, schema, draw)
            return None if found is None else _spell(found.value, schema)
        if schema.kind == "array":
            return self._generate_array(schema, path, name, draw, depth)
        # Never null: no filter would select such a record.
        if path in self._enums and schema.kind == "string":
            return draw_enum(self._enums[path], draw.rng)
        if schema.nullable and draw.rng.random() < NULL_SHARE:
            return None
        if schema.kind == "object":
            return self._generate_object(schema, path, draw, depth)
        if schema.kind == "any_of":
            return self._generate_alternative(schema, path, name, draw, depth)
        if path.endswith("batch.number") and schema.kind == "string":
            # Filters by the number of a batch take an integer.
            return str(draw.rng.randrange(1, 60))
        if schema.kind == "any":
            return None if schema.nullable else sample_text.draw_text(name, draw.rng) or ""
        return draw_scalar(self._api.api, schema, name, draw)

    def _generate_alternative(
        self, schema: Schema, path: str, name: str, draw: Draw, depth: int
    ) -> Any:
        """Generate one of several shapes. The member `type` says which one it is."""
        chosen = draw.rng.choice(self._find_shallow(schema, depth))
        value = self._generate_value(chosen, path, name, draw, depth)
        kind = re.search(r"(\w+?)(Field)?ApiDto$", chosen.name)
        if kind and isinstance(value, dict) and "type" in value:
            value["type"] = kind.group(1)
        return value

    def _find_shallow(self, schema: Schema, depth: int) -> list[Schema]:
        """Return the alternatives; at the greatest depth only those that contain no array."""
        if depth < MAX_DEPTH:
            return list(schema.alternatives)
        flat = [
            part
            for part in schema.alternatives
            if all(m.kind != "array" for m in self._api.resolve(part).members.values())
        ]
        return flat or list(schema.alternatives)

    def _generate_object(self, schema: Schema, path: str, draw: Draw, depth: int) -> Any:
        if schema.values is not None:
            return {}
        return self._generate_members(schema, path, draw, depth + 1, ())

    def _generate_members(
        self, schema: Schema, path: str, draw: Draw, depth: int, without: Container[str]
    ) -> dict[str, Any]:
        prefix = f"{path}." if path else ""
        names = [name for name in schema.members if name not in without]
        given: dict[str, Any] = {}
        for name in names:
            if f"{prefix}{name}" in self._keys:
                self._refer_with_names(schema, name, prefix, draw, given)
        made = {
            name: given[name]
            if name in given
            else self._generate_value(schema.members[name], f"{prefix}{name}", name, draw, depth)
            for name in names
        }
        if {"type", "value"} <= made.keys():
            _agree_on_contact(made, draw)
        if {"city", "state", "zip"} <= made.keys():
            self._agree_on_place(made)
        magnitudes.order(made, made.keys() - given.keys())
        return made

    def _agree_on_place(self, members: dict[str, Any]) -> None:
        """Give an address one of the company's cities, with its state and ZIP code."""
        cities = self._references.cities
        known = members["city"] or members["zip"] or members["state"]
        number = next((n for n, city in enumerate(sample_text.CITIES) if known in city), 0)
        place = cities[number % len(cities)]
        for name, value in zip(("city", "state", "zip"), place, strict=True):
            if isinstance(members[name], str):
                members[name] = value
        if isinstance(members.get("streetAddress"), str):
            members["streetAddress"] = members.get("street")

    def _refer_with_names(
        self, schema: Schema, name: str, prefix: str, draw: Draw, given: dict[str, Any]
    ) -> None:
        """Generate a foreign key, and the members beside it that name the same record."""
        member = self._api.resolve(schema.members[name])
        if member.kind not in ("integer", "string"):
            return
        found = self._refer(f"{prefix}{name}", member, draw)
        given[name] = None if found is None else _spell(found.value, member)
        stem = name.removesuffix("Id") if name != "id" else ""
        for suffix, text in ({} if found is None else found.texts).items():
            beside = f"{stem}{suffix.title()}" if stem else suffix
            if beside in schema.members and f"{prefix}{beside}" not in self._keys:
                other = self._api.resolve(schema.members[beside])
                if other.kind == "string" and (not other.enum or text in other.enum):
                    given.setdefault(beside, text)

    def _refer(self, path: str, schema: Schema, draw: Draw) -> Reference | None:
        """Choose what a foreign key refers to; None where it may be null and is."""
        key = self._keys[path]
        # A record refers to another of its own collection only now and then.
        share = 0.95 if key.targets == (self._source,) else NULL_REFERENCES
        if schema.nullable and draw.rng.random() < share:
            return None
        return self._references.choose(key, draw)

    def _generate_array(
        self, schema: Schema, path: str, name: str, draw: Draw, depth: int
    ) -> list[Any] | None:
        assert schema.items is not None
        if schema.nullable and draw.rng.random() < NULL_SHARE / 2:
            return None
        items = self._api.resolve(schema.items)
        if name == "customFields" and items.kind == "object":
            return self._draw_custom_fields(items, path, draw, depth)
        if depth >= MAX_DEPTH:
            return []
        key = self._keys.get(f"{path}[]")
        if key is not None:
            return self._draw_references(key, items, draw)
        has_own_id = "id" in items.members and f"{path}[].id" not in self._keys
        # Other records refer to parts that have an id, so there is always one at the first level.
        least = 1 if has_own_id and depth == 0 else 0
        count = draw.rng.randint(least, 3 if depth == 0 else 1)
        singular = name.removesuffix("s")
        return [
            self._generate_item(items, f"{path}[]", singular, draw, depth + 1, position)
            for position in range(count)
        ]

    def _draw_custom_fields(
        self, items: Schema, path: str, draw: Draw, depth: int
    ) -> list[dict[str, Any]]:
        fields = custom_fields.draw_custom_fields(self._source, draw.rng)
        return [
            {
                name: field[name]
                if name in field
                else self._generate_value(member, f"{path}[].{name}", name, draw, depth)
                for name, member in items.members.items()
            }
            for field in fields
        ]

    def _generate_item(
        self, items: Schema, path: str, name: str, draw: Draw, depth: int, position: int
    ) -> Any:
        value = self._generate_value(_without_null(items), path, name, draw, depth)
        own_id = isinstance(value, dict) and draw.record_id and f"{path}.id" not in self._keys
        if own_id and isinstance(value.get("id"), int):
            value["id"] = compute_part_id(draw.record_id, path.removesuffix("[]"), position)
        return value

    def _draw_references(self, key: ForeignKey, items: Schema, draw: Draw) -> list[Any]:
        count = draw.rng.randrange(4)
        found = [self._references.choose(key, draw) for _ in range(count)]
        values = [_spell(reference.value, items) for reference in found if reference is not None]
        return list(dict.fromkeys(values))


def _agree_on_contact(members: dict[str, Any], draw: Draw) -> None:
    """Give a way to contact somebody the value that its type needs."""
    kind = members["type"]
    if isinstance(members["value"], str) and kind in ("Email", "Phone", "MobilePhone", "Fax"):
        name = sample_text.draw_name(draw.rng)
        is_email = kind == "Email"
        members["value"] = (
            sample_text.derive_email(name) if is_email else sample_text.draw_phone(draw.rng)
        )


def find_filter_enums(collection: Collection) -> dict[str, tuple[Any, ...]]:
    """Return the values that a list's filters allow for members that are declared as any text."""
    found: dict[str, tuple[Any, ...]] = {}
    for operation in collection.lists:
        for name, parameter in operation.query.items():
            schema = collection.specification.resolve(parameter.schema)
            if schema.items is not None:
                schema = collection.specification.resolve(schema.items)
            singular = re.sub(r"(?<=s)es$|(?<!s)s$", "", name)
            for member in (name, singular):
                if schema.enum and member in collection.texts:
                    found[member] = tuple(v for v in schema.enum if v not in ("Any", "All"))
    return found


def _without_null(schema: Schema) -> Schema:
    return dataclasses.replace(schema, nullable=False) if schema.nullable else schema


def _spell(value: Any, schema: Schema) -> Any:
    """Return a referenced value as the foreign key's own type spells it."""
    if schema.kind == "string" and not isinstance(value, str):
        return str(value)
    if schema.kind == "integer" and isinstance(value, str) and value.isdigit():
        return int(value)
    return value
