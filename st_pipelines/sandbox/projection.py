"""Shapes a record for the operation that serves it.

A list, an export and a single object of one record have nearly the same members. The differences
come from the specification facts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any, TypeAlias

import msgspec

from st_pipelines.catalog.specification import ApiSpecification, Schema
from st_pipelines.sandbox import records
from st_pipelines.sandbox.collections import load_collections, resolve_members
from st_pipelines.sandbox.records import ObjectTemplate

_decode = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal).decode


class Projection:
    """Turns a record as its collection holds it into one of another shape.

    Args:
        api: resolves references.
        source: the shape of the collection's records.
        target: the shape that the operation serves.
        template: renders `target`. It generates what the record lacks.
    """

    def __init__(
        self,
        api: ApiSpecification,
        source: Schema,
        target: Schema,
        template: ObjectTemplate | None = None,
    ) -> None:
        self._api = api
        old, new = resolve_members(api, source), resolve_members(api, target)
        self._missing = [name for name in new if name not in old]
        self._dropped = [name for name in old if name not in new]
        self._kept = frozenset(
            name for name in new if name in old and new[name].kind == old[name].kind
        )
        changed = [name for name in self._kept if not self._is_same(old[name], new[name])]
        self._template = template
        self._is_reshaped = len(self._kept) + len(self._missing) < len(new) or bool(
            changed or set(self._missing) - {"active"}
        )

    def __call__(self, raw: bytes, *, active: bool, draw: int = 0) -> bytes:
        """Return the record's JSON text in the other shape.

        Args:
            raw: the record as the collection holds it.
            active: served where only the other shape has `active`.
            draw: chooses what is generated.
        """
        if self._is_reshaped and self._template is not None:
            fields = {n: value for n, value in _decode(raw).items() if n in self._kept}
            if "active" in self._missing:
                fields["active"] = active
            return bytes(self._template(fields, draw))
        if self._dropped:
            members = records.read_members(raw)
            for name in self._dropped:
                members.pop(name, None)
            raw = records.encode(members)
        if "active" in self._missing:
            raw = raw[:-1] + (b',"active":true}' if active else b',"active":false}')
        return raw

    def _is_same(self, one: Schema, other: Schema) -> bool:
        if one == other:
            return True
        one, other = self._api.resolve(one), self._api.resolve(other)
        if (one.kind, one.nullable, one.enum) != (other.kind, other.nullable, other.enum):
            return False
        if one.items is not None and other.items is not None:
            return self._is_same(one.items, other.items)
        return self._have_same_members(one.members, other.members)

    def _have_same_members(self, one: Mapping[str, Schema], other: Mapping[str, Schema]) -> bool:
        if one.keys() != other.keys():
            return False
        return all(self._is_same(one[name], other[name]) for name in one)


BuildTemplate: TypeAlias = Callable[[ApiSpecification, str, Schema], ObjectTemplate]
"""Builds the template for the records that an operation serves, from its API, path and shape."""


def build_projection(path: str, build_template: BuildTemplate | None = None) -> Projection:
    """Build the projection to the shape that the list or export at `path` serves.

    Args:
        path: of the operation.
        build_template: None leaves out what the collection's records lack.

    Raises:
        KeyError: no operation at this path lists records.
    """
    collection = load_collections().by_path[path]
    [operation] = [operation for operation in collection.operations if operation.path == path]
    api, target = collection.specification, collection.find_record(operation)
    template = build_template(api, path, target) if build_template else None
    return Projection(api, collection.record, target, template)


find_projection = lru_cache(maxsize=256)(build_projection)
"""Returns the projection that `build_projection` builds, and keeps it."""
