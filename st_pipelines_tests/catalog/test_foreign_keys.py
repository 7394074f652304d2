"""The foreign keys name fields and records that the specifications have."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from st_pipelines.catalog.foreign_keys import load_foreign_keys
from st_pipelines.catalog.specification import ApiSpecification, Schema
from st_pipelines.catalog.specification_files import packaged_specification
from st_pipelines.sandbox.collections import load_collections, resolve_path

KEYS = load_foreign_keys()
SPELLED_OTHERWISE = {
    ("/accounting/v2/tenant/{tenant}/bank-deposits/{id}/transactions", "typeId"),
    ("accounting.payments", "typeId"),
    ("settings.technicians", "skills[].id"),
}
"""Foreign keys that are text where the referenced field is a number, or the other way round."""


def find_shapes(name: str) -> Iterator[tuple[ApiSpecification, Schema]]:
    """Every shape of the records of a collection, or of an operation's records and body."""
    collection = load_collections().get(name)
    if collection is not None:
        for listing in collection.operations:
            yield collection.specification, collection.find_record(listing)
        return
    operation = packaged_specification().by_path[name]
    api = packaged_specification().api(operation.api)
    assert operation.success
    for shape in (api.find_record(operation), operation.success.schema):
        if shape is not None:
            yield api, shape


def find_fields(name: str, path: str) -> list[Schema]:
    """The shapes of a field, in those shapes of the records that have it."""
    found: list[Schema] = []
    for api, shape in find_shapes(name):
        try:
            found.append(resolve_path(api, shape, path))
        except KeyError:
            continue
    return found


def test_there_are_hundreds_of_foreign_keys() -> None:
    assert sum(map(len, KEYS.values())) > 600


@pytest.mark.parametrize("source", KEYS)
def test_a_foreign_key_connects_fields_of_one_type(source: str) -> None:
    for key in KEYS[source].values():
        kinds = {field.kind for field in find_fields(source, key.path)}
        assert kinds, key
        for target in key.targets:
            found = {field.kind for field in find_fields(target, key.field)}
            assert found, key
            if (source, key.path) not in SPELLED_OTHERWISE:
                assert kinds <= found, key
