"""Every declared filter of twenty lists selects some rows and leaves others out."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from st_pipelines.catalog.specification import Schema
from st_pipelines.sandbox import ticks
from st_pipelines.sandbox.collections import Collection, load_collections
from st_pipelines.sandbox.filters import list_unexplained
from st_pipelines.sandbox.operations import Router
from st_pipelines.sandbox.parameters import NEEDS_ONE_OF
from st_pipelines.sandbox.selection import get_filters, read_column
from st_pipelines_tests.sandbox.client import Client

COLLECTIONS = load_collections()
TABLES = (
    "accounting.ap_bills",
    "accounting.credit_memos",
    "accounting.gl_accounts",
    "accounting.invoices",
    "accounting.journal_entries",
    "accounting.payments",
    "crm.bookings",
    "crm.customers",
    "crm.leads",
    "crm.locations",
    "dispatch.appointment_assignments",
    "dispatch.technician_shifts",
    "forms.forms",
    "inventory.purchase_orders",
    "jpm.appointments",
    "jpm.jobs",
    "memberships.memberships",
    "payroll.gross_pay_items",
    "salestech.estimates",
    "settings.employees",
    "task_management.tasks",
    "telecom.calls",
)
FILTERS = [
    (table, name)
    for table in TABLES
    for name in get_filters(COLLECTIONS[table], COLLECTIONS[table].lists[0])
    if not name.endswith((".Comparer", ".Operator"))
]
PROCUREMENT = "Procurement"
"""What the list of bills serves unless another type is requested."""

EQUAL_EVERYWHERE = {
    # None has a custom field.
    ("accounting.journal_entries", "customField"),
    ("telecom.calls", "agentExternalId"),
}
"""Filters by a field in which all records of the company agree."""

UNEXPLAINED = {
    "billType",
    "transactionType",
    "transactionPostedFrom",
    "transactionPostedTo",
    "businessUnitIds",
    "serviceAgreementIds",
    "customerName",
    "locationName",
    "vendorName",
    "inventoryLocationName",
    "refNumber",
    "transactionTypes",
    "excludeAccountingChangesFromModifiedDateRange",
    "transferTypeIds",
    "fromUtc",
    "toUtc",
    "performanceSegmentationType",
    "reportType",
    "responseTypes",
    "locationIds",
    "sources",
    "reviewStatuses",
    "campaignIds",
    "includeReviewsWithoutLocation",
    "includeReviewsWithoutCampaign",
    "searchTerm",
    "agentIsExternal",
    "tag",
}
"""Filters by something that the records of some list do not show, so they select all records."""


def choose_value(client: Client, collection: Collection, name: str) -> str:
    """Choose a value that some records have and others do not."""
    world = client.sandbox.world
    table, rule = world.table(collection.name), get_filters(collection, collection.lists[0])[name]
    schema = collection.specification.resolve(collection.lists[0].query[name].schema)
    schema = collection.specification.resolve(schema.items) if schema.items else schema
    column = list(read_column(world.table, table, rule))
    if collection.name == "accounting.ap_bills" and name != "billType":
        types = table.read_values("billType")
        column = [row for row, kind in zip(column, types, strict=True) if kind == PROCUREMENT]
    values = [v for row in column for v in row if v is not None]
    if schema.kind == "boolean":
        return "true"
    if schema.enum:
        spelled = Counter(str(value) for value in values)
        known = [v for v in schema.enum if spelled[v] and str(v) != PROCUREMENT]
        return str(known[0] if known else schema.enum[-1])
    if name.endswith("Duration") and isinstance(values[0], str):
        return "300"
    if rule.moments:
        return ticks.format_iso(sorted(values)[len(values) // 2])
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        if name.endswith(("Ids", "Id", "ids")):
            return str(Counter(values).most_common(1)[0][0])
        return str(sorted(values)[len(values) // 2])
    numbers = _read_numbers([*dict.fromkeys(values)])
    if numbers and ("Filter." in name or name.endswith(("Greater", "Less", "Cost"))):
        return str(numbers[len(numbers) // 2])
    return str(Counter(values).most_common()[-1][0])


def choose_custom_field(client: Client, collection: Collection) -> tuple[str, str]:
    """Choose the name and the value of a custom field that some records have."""
    rows = client.sandbox.world.records(collection.name)
    if collection.name == "accounting.ap_bills":
        rows = [row for row in rows if row["billType"] == PROCUREMENT]
    field = next(field for row in rows for field in row["customFields"] or ())
    return field["name"], field["value"]


def _read_numbers(values: list[Any]) -> list[float]:
    try:
        return sorted(float(value) for value in values)
    except (TypeError, ValueError):
        return []


def build_query(collection: Collection, name: str, value: str) -> dict[str, str]:
    query = {name: value}
    operation = collection.lists[0].query
    everything = {"active": "Any", "activeState": "All"}
    query |= {n: v for n, v in everything.items() if n in operation and n != name}
    comparer = f"{name.rpartition('.')[0]}.Comparer"
    if comparer in operation:
        schema = collection.specification.resolve(operation[comparer].schema)
        query[comparer] = next(value for value in schema.enum if value.startswith("Less"))
    return query


def read_ids(client: Client, collection: Collection, **query: str) -> set[Any]:
    response = client.get(collection.lists[0].path, pageSize=500, **query)
    assert response.status_code == 200, response.text
    found = {row["id"] for row in response.json()["data"]}
    page = 2
    while response.json()["hasMore"]:
        response = client.get(collection.lists[0].path, pageSize=500, page=page, **query)
        found |= {row["id"] for row in response.json()["data"]}
        page += 1
    return found


@pytest.mark.parametrize(("table", "name"), FILTERS, ids=lambda value: value)
def test_a_declared_filter_splits_the_rows(shared: Client, table: str, name: str) -> None:
    if (table, name) in EQUAL_EVERYWHERE:
        pytest.skip("all records agree in this field")
    collection = COLLECTIONS[table]
    everything = read_ids(shared, collection, **build_query(collection, "", ""))
    if name.endswith(".Fields"):
        field, value = choose_custom_field(shared, collection)
        name = f"{name}.{field}"
    else:
        value = choose_value(shared, collection, name)

    if name == "billType":
        everything |= read_ids(shared, collection, billType=value)

    selected = read_ids(shared, collection, **build_query(collection, name, value))

    assert selected, f"{name}={value} selects nothing"
    assert selected < everything, f"{name}={value} selects everything"


@pytest.mark.parametrize(
    ("table", "lower", "upper", "field"),
    [
        ("jpm.jobs", "createdOnOrAfter", "createdBefore", "createdOn"),
        ("jpm.jobs", "completedOnOrAfter", "completedBefore", "completedOn"),
        ("jpm.appointments", "startsOnOrAfter", "startsBefore", "start"),
        ("accounting.invoices", "invoicedOnOrAfter", "invoicedOnBefore", "invoiceDate"),
        ("salestech.estimates", "soldAfter", "soldBefore", "soldOn"),
        ("telecom.calls", "createdOnOrAfter", "createdBefore", "leadCall.createdOn"),
    ],
)
def test_two_bounds_split_the_rows_that_have_a_time(
    shared: Client, table: str, lower: str, upper: str, field: str
) -> None:
    collection = COLLECTIONS[table]
    rows: dict[Any, Any] = {row["id"]: row for row in shared.sandbox.world.records(table)}
    for part in field.split("."):
        rows = {key: row and row[part] for key, row in rows.items()}
    timed = sorted(value for value in rows.values() if value)
    moment = timed[len(timed) // 3]
    before = {key for key, value in rows.items() if value and value < moment}
    after = {key for key, value in rows.items() if value and value >= moment}
    if lower == "soldAfter":
        after = {key for key, value in rows.items() if value and value > moment}

    everything = build_query(collection, "", "")
    everything.pop("")
    assert read_ids(shared, collection, **{lower: moment}, **everything) == after
    assert read_ids(shared, collection, **{upper: moment}, **everything) == before


def make_value(schema: Schema) -> str:
    """Return some value of this type."""
    if schema.enum:
        return str(schema.enum[-1])
    if schema.format in ("date-time", "date"):
        return "2026-01-01T00:00:00Z"
    if schema.format == "guid":
        return "00000000-0000-4000-8000-000000000000"
    return "true" if schema.kind == "boolean" else "12"


@pytest.mark.parametrize("path", COLLECTIONS.by_path)
def test_every_declared_filter_of_every_list_is_answered(shared: Client, path: str) -> None:
    collection = COLLECTIONS.by_path[path]
    operation = next(one for one in collection.operations if one.path == path)
    resolve = collection.specification.resolve
    values: dict[str, str] = {}
    for parameter in operation.query.values():
        schema = resolve(parameter.schema)
        values[parameter.name] = make_value(resolve(schema.items) if schema.items else schema)
    required = {name: values[name] for name, one in operation.query.items() if one.required}
    if path in NEEDS_ONE_OF:
        required["modifiedOnOrAfter"] = "2020-01-01"

    for name in values.keys() - {"page", "pageSize", "sort", "sortBy", "orderBy", "from"}:
        response = shared.get(path, **{**required, name: values[name]})
        assert response.status_code == 200, f"{name}={values[name]}: {response.text}"


def test_a_search_finds_a_text_in_any_of_several_fields(shared: Client) -> None:
    collection = COLLECTIONS["pricebook.discounts_and_fees"]
    rows = shared.sandbox.world.records("pricebook.discounts_and_fees")
    for name in ("code", "displayName"):
        row = next(row for row in rows if row[name])
        found = read_ids(shared, collection, searchText=row[name][:20], active="Any")
        assert row["id"] in found
        assert len(found) < len(rows)


def test_jobs_are_found_by_their_technician_and_appointment(shared: Client) -> None:
    collection = COLLECTIONS["jpm.jobs"]
    world = shared.sandbox.world
    assignments = world.records("dispatch.appointment_assignments")
    technician = assignments[3]["technicianId"]
    expected = {row["jobId"] for row in assignments if row["technicianId"] == technician}
    appointments = world.records("jpm.appointments")
    status = appointments[-1]["status"]
    with_status = {row["jobId"] for row in appointments if row["status"] == status}

    assert read_ids(shared, collection, technicianId=str(technician)) == expected
    assert read_ids(shared, collection, appointmentStatus=status) == with_status


def test_custom_fields_are_found_together_or_by_one_of_them(shared: Client) -> None:
    collection = COLLECTIONS["accounting.invoices"]
    pairs = {
        row["id"]: {(field["name"], field["value"]) for field in row["customFields"] or ()}
        for row in shared.sandbox.world.records("accounting.invoices")
    }
    first = next(found for found in pairs.values() if len(found) == 2)
    second = next(found for found in pairs.values() if found and not found & first)
    either = {min(first), min(second)}
    assert len(dict(either)) == 2

    for wanted, operator in ((first, "And"), (either, "And"), (either, "Or")):
        query = {f"customField.Fields.{name}": value for name, value in wanted}
        query |= {"customField.Operator": operator, "activeState": "All"}
        combine = any if operator == "Or" else all
        expected = {key for key, found in pairs.items() if combine(p in found for p in wanted)}
        assert read_ids(shared, collection, **query) == expected
        assert wanted is either or expected


def test_more_custom_fields_than_a_document_allows_are_refused(shared: Client) -> None:
    path = COLLECTIONS["accounting.journal_entries"].lists[0].path
    fields = {f"customField.Field {number}": "A" for number in range(6)}
    assert shared.get(path, **fields).status_code == 400
    fields.popitem()
    assert shared.get(path, **fields).status_code == 200


def test_prospects_are_leads_without_a_customer_or_whose_customer_has_no_job(
    shared: Client,
) -> None:
    collection, world = COLLECTIONS["crm.leads"], shared.sandbox.world
    served = {job["customerId"] for job in world.records("jpm.jobs")}
    leads = {lead["id"]: lead["customerId"] for lead in world.records("crm.leads")}

    prospects = {key for key, customer in leads.items() if customer not in served}
    assert any(leads[key] for key in prospects)
    assert any(not leads[key] for key in prospects)
    assert read_ids(shared, collection, isProspect="true") == prospects
    assert read_ids(shared, collection, isProspect="false") == leads.keys() - prospects


def test_a_text_filter_finds_a_part_in_any_case(shared: Client) -> None:
    collection = COLLECTIONS["crm.customers"]
    names = {row["id"]: row["name"] for row in shared.sandbox.world.records("crm.customers")}
    part = next(iter(names.values()))[1:4]

    found = read_ids(shared, collection, name=part.upper(), active="Any")

    assert found == {key for key, name in names.items() if part.lower() in name.lower()}


def test_the_filters_without_a_rule_are_known() -> None:
    found: set[str] = set()
    for route in Router().routes:
        record = route.api.find_record(route.operation)
        if record is not None and record.members:
            name = route.collection.name if route.kind == "collection" and route.collection else ""
            found.update(list_unexplained(route.api, route.operation, record, name))

    assert found == UNEXPLAINED
