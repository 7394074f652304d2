"""Every endpoint of the catalog serves records that match it, in its list and its export."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from st_pipelines.catalog.model import DataType, Endpoint, ListOf, Scalar, StructOf
from st_pipelines.sandbox.collections import load_collections
from st_pipelines.sandbox.odd_values import EXCEPTIONS, NULL_IDS
from st_pipelines_tests.churn_reader import find_served_rows
from st_pipelines_tests.sandbox.client import (
    CATALOG,
    FAR_AHEAD,
    LISTS,
    LONG_AGO,
    Client,
    find_export_path,
)

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{2,7})?Z")
DAY = re.compile(r"\d{4}-\d\d-\d\dT00:00:00")
NUMBER = re.compile(r"-?\d+(\.\d+)?")


def find_misfits(value: Any, kind: DataType, path: str) -> Iterator[str]:
    """Describe each place, at any depth, where a value does not match its type."""
    if value is None:
        return
    if isinstance(kind, ListOf):
        if not isinstance(value, list):
            yield f"{path}: {value!r} is not an array"
            return
        for item in value:
            yield from find_misfits(item, kind.item, f"{path}[]")
    elif isinstance(kind, StructOf):
        yield from find_misfits_in_object(value, kind, path)
    elif not is_of_type(value, kind):
        yield f"{path}: {value!r} is not of type {kind.name}"


def find_misfits_in_object(value: Any, kind: StructOf, path: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{path}: {value!r} is not an object"
        return
    types = {field.name: field.type for field in kind.fields}
    yield from (f"{path}.{name} is unknown" for name in value if name not in types)
    for name in value.keys() & types.keys():
        yield from find_misfits(value[name], types[name], f"{path}.{name}")


def is_of_type(value: Any, kind: Scalar) -> bool:
    if kind.name in ("DECIMAL", "DOUBLE"):
        number = isinstance(value, int | Decimal) and not isinstance(value, bool)
        as_text = kind.name == "DECIMAL" and isinstance(value, str) and NUMBER.fullmatch(value)
        return number or bool(as_text)
    if kind.name == "TIMESTAMPTZ":
        return isinstance(value, str) and TIME.fullmatch(value) is not None
    if kind.name == "DATE":
        return isinstance(value, str) and DAY.fullmatch(value) is not None
    if kind.name == "BIGINT":
        return type(value) is int
    python_type = {"BOOLEAN": bool, "VARCHAR": str, "JSON": object}[kind.name]
    return isinstance(value, python_type)


def find_unexpected(rows: list[Any], endpoint: Endpoint) -> list[str]:
    """The misfits of an endpoint's rows, without the odd values that ServiceTitan serves, too."""
    collection = load_collections().by_path.get(endpoint.path)
    name = collection.name if collection else ""
    odd = tuple(f"{endpoint.table}[].{path}: " for path in EXCEPTIONS.get(name, ()))
    misfits = find_misfits(rows, ListOf(StructOf(endpoint.columns)), endpoint.table)
    return [misfit for misfit in misfits if not misfit.startswith(odd)]


def build_query(endpoint: Endpoint) -> dict[str, Any]:
    query: dict[str, Any] = {**endpoint.params}
    if endpoint.paged:
        query |= {"page": endpoint.first_page, "pageSize": endpoint.max_page_size}
    if endpoint.includes_total:
        query["includeTotal"] = "true"
    if endpoint.date_filter:
        query |= {endpoint.date_filter.lower: LONG_AGO, endpoint.date_filter.upper: FAR_AHEAD}
    return query


def parse_exactly(text: str) -> Any:
    return json.loads(text, parse_float=Decimal)


def test_the_catalog_has_more_than_a_hundred_endpoints() -> None:
    assert len(CATALOG) > 100


@pytest.mark.parametrize(
    "endpoint",
    [e for e in CATALOG if not (e.parent or e.forecast or e.each_of)],
    ids=lambda endpoint: endpoint.table,
)
def test_a_list_has_its_envelope_and_records_of_the_right_types(
    shared: Client, endpoint: Endpoint
) -> None:
    response = shared.get(endpoint.path, **build_query(endpoint))

    assert response.status_code == 200
    body = parse_exactly(response.text)
    rows = find_served_rows(endpoint, body)
    assert rows
    assert find_unexpected(rows, endpoint) == []
    if endpoint.envelope == "page":
        assert set(body) == {"page", "pageSize", "hasMore", "totalCount", "data"}
        # The document of one list without `includeTotal` allows no null.
        counts = endpoint.includes_total or endpoint.table == "pricebook.materialsmarkup"
        assert len(rows) == min(body["totalCount"] or len(rows), endpoint.max_page_size)
        assert (body["totalCount"] is not None) is counts
    elif endpoint.envelope == "export":
        assert set(body) == {"hasMore", "continueFrom", "data"}


@pytest.mark.parametrize(
    "endpoint", [e for e in CATALOG if e.export], ids=lambda endpoint: endpoint.table
)
def test_an_export_has_records_of_the_right_types(shared: Client, endpoint: Endpoint) -> None:
    body = parse_exactly(shared.get(find_export_path(endpoint), active="Any").text)

    assert set(body) == {"hasMore", "continueFrom", "data"}
    assert body["continueFrom"]
    assert body["data"]
    assert find_unexpected(body["data"], endpoint) == []


@pytest.mark.parametrize(
    "endpoint", [e for e in LISTS if not e.by_day], ids=lambda endpoint: endpoint.table
)
def test_keys_are_present_and_unique(shared: Client, endpoint: Endpoint) -> None:
    rows = shared.sandbox.world.records(endpoint.table)
    if endpoint.explode:
        rows = [row for outer in rows for row in outer[endpoint.explode]]

    keys = [
        tuple(row[name] for name in endpoint.key) if endpoint.key else json.dumps(row)
        for row in rows
    ]

    if endpoint.table in NULL_IDS:
        keys = [key for key in keys if key != (None,)]
    assert len(set(keys)) == len(keys)
    assert not any(value is None for key in keys for value in key)


@pytest.mark.parametrize(
    "endpoint",
    [e for e in CATALOG if e.cursor and not e.explode],
    ids=lambda endpoint: endpoint.table,
)
def test_every_record_has_a_time_in_its_cursor(shared: Client, endpoint: Endpoint) -> None:
    assert endpoint.cursor is not None
    for row in shared.sandbox.world.records(endpoint.table):
        value: Any = row
        for name in endpoint.cursor.split("."):
            value = value[name]
        assert TIME.fullmatch(value)


def test_the_envelope_of_capacity_warnings_names_the_tenant(shared: Client) -> None:
    body = shared.request_list("marketing_ads.capacity_warnings").json()

    assert set(body) == {"tenantId", "tenantName", "totalCount", "data"}
    assert body["tenantId"] == int(shared.sandbox.tenant_id)


def test_contact_preferences_are_an_array_without_an_envelope(shared: Client) -> None:
    assert isinstance(shared.request_list("crm.contacts_preferences").json(), list)
