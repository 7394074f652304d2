"""Records fit the vendor's schemas, refer to records that exist, and are odd only now and then."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from typing import Any

import pytest

from st_pipelines.catalog.foreign_keys import ForeignKey, load_foreign_keys
from st_pipelines.catalog.specification import ReadOperation
from st_pipelines.sandbox import custom_fields
from st_pipelines.sandbox.collections import Collection, load_collections
from st_pipelines.sandbox.odd_values import EXCEPTIONS, NO_TIME, NULL_IDS
from st_pipelines.sandbox.scalars import draw_enum
from st_pipelines_tests.sandbox.client import Client
from st_pipelines_tests.sandbox.schema_judge import find_deviations, read_path

SERVED = {
    collection.name: collection
    for collection in load_collections().values()
    if collection.name != "marketing_ads.performance"
}
"""The collections whose records are kept. Those of performance are computed for a window."""

KEYS = [key for source in SERVED for key in load_foreign_keys().get(source, {}).values()]


def read_all(
    client: Client, collection: Collection
) -> list[tuple[ReadOperation, list[dict[str, Any]]]]:
    """Every record as the first list and the first export serve it."""
    world = client.sandbox.world
    found = [(collection.lists[0], world.records(collection.name))] if collection.lists else []
    if collection.exports:
        found.append((collection.exports[0], world.export_records(collection.name)))
    return found


@pytest.mark.parametrize("collection", SERVED.values(), ids=lambda collection: collection.name)
def test_every_record_fits_the_schema_of_its_list_and_of_its_export(
    shared: Client, collection: Collection
) -> None:
    odd = tuple(f"{path}: " for path in EXCEPTIONS.get(collection.name, ()))

    deviations = Counter(
        deviation
        for operation, rows in read_all(shared, collection)
        for row in rows
        for deviation in find_deviations(
            collection.specification, collection.find_record(operation), row, ""
        )
        if not deviation.startswith(odd or " ")
    )

    assert deviations == {}


@pytest.mark.parametrize("key", KEYS, ids=lambda key: f"{key.source}:{key.path}")
def test_a_reference_points_to_a_record_that_exists(shared: Client, key: ForeignKey) -> None:
    targets = [target for target in key.targets if target in SERVED]
    if len(targets) < len(key.targets):
        pytest.skip("the target needs more than the tenant's id")
    existing = {
        str(value) for target in targets for value in read_values(shared, target, key.field)
    }

    references = {str(value) for value in read_values(shared, key.source, key.path)}

    # 0 stands for nobody, beside a time of creation that is missing.
    assert references - {"0"} <= existing


def read_values(client: Client, collection: str, path: str) -> list[Any]:
    rows = client.sandbox.world.export_records(collection)
    return [value for row in rows for value in read_path(row, path)]


def test_most_references_are_there(shared: Client) -> None:
    empty = [key for key in KEYS if not read_values(shared, key.source, key.path)]

    assert len(empty) < len(KEYS) * 0.1


@pytest.mark.parametrize(("source", "types"), custom_fields.LISTS.items())
def test_a_custom_field_is_of_a_type_that_the_list_contains(
    shared: Client, source: str, types: str
) -> None:
    listed = {row["id"]: row for row in shared.sandbox.world.records(types)}
    names = {row["name"] for row in listed.values()}
    values = read_values(shared, source, "customFields[]")

    for field in values:
        assert field["name"] in names
        if "typeId" not in field:
            continue
        kind = listed[field["typeId"]]
        assert field["name"] == kind["name"]
        if kind["dataType"] == "Dropdown":
            assert field["value"] in kind["dataTypeOptions"]
        if kind["dataType"] == "Numeric":
            assert field["value"].isdecimal()
    assert values or "customFields" not in SERVED[source].members


def test_odd_values_of_real_responses_are_served_at_low_rates(shared: Client) -> None:
    world = shared.sandbox.world

    def share(table: str, text: str) -> float:
        raws = [raw.decode() for raw in world.export_raw(table)]
        return sum(text in raw for raw in raws) / len(raws)

    assert 0 < share("crm.locations", f'"createdOn":"{NO_TIME}"') < 0.05
    assert 0 < share("inventory.receipts", '"landedCostMethod":0') < 0.3
    assert 0 < share("inventory.purchase_orders", "33.3333333333333333") < 0.5
    assert any(0 < share(table, '"id":null') < 0.1 for table in NULL_IDS)


def test_some_customers_are_merged_into_others(shared: Client) -> None:
    customers = {row["id"]: row for row in shared.sandbox.world.records("crm.customers")}

    merged = [row for row in customers.values() if row["mergedToId"]]

    assert 0 < len(merged) < len(customers) / 10
    assert not any(row["active"] for row in merged)
    assert {row["mergedToId"] for row in merged} <= customers.keys()


def test_some_metrics_are_infinite_or_not_a_number(shared: Client) -> None:
    path = "/marketingads/v2/tenant/{tenant}/performance"
    query = {"performanceSegmentationType": "Campaign", "pageSize": 5000}
    rows = [
        json.dumps(row)
        for month in range(1, 9)
        for row in shared.get(
            path, fromUtc=f"2026-0{month}-01", toUtc=f"2026-0{month}-02", **query
        ).json()["data"]
    ]

    odd = [row for row in rows if '"Infinity"' in row or '"NaN"' in row]
    assert 0 < len(odd) < len(rows) / 3


def test_durations_of_exported_calls_have_fractions_of_a_second(shared: Client) -> None:
    rows = shared.sandbox.world.export_records("telecom.calls_export")

    assert all(re.fullmatch(r"\d\d:\d\d:\d\d(\.\d{7})?", row["duration"]) for row in rows)
    assert sum("." in row["duration"] for row in rows) > len(rows) / 2


def test_enums_prefer_the_usual_values() -> None:
    values = ("Canceled", "Completed", "InProgress", "Any")
    drawn = Counter(draw_enum(values, random.Random(n)) for n in range(1000))

    assert drawn["Completed"] > 10 * drawn["Canceled"] > 0
    assert drawn["InProgress"] > 0
    assert drawn["Any"] == 0


def test_a_unit_of_a_form_says_what_it_is(shared: Client) -> None:
    units = [
        unit
        for row in shared.sandbox.world.records("forms.submissions")
        for unit in row["units"] or ()
    ]

    assert all(isinstance(u["value"], float | None) for u in units if u["type"] == "Number")
    assert all("units" in unit for unit in units if unit["type"] == "Section")
    assert len({unit["type"] for unit in units}) > 5
