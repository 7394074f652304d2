"""Curated facts against documents that they do not fit, or no longer."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from st_pipelines.catalog.build.build import build_catalog
from st_pipelines.catalog.build.curated import Curated, load_curated
from st_pipelines.catalog.model import Catalog, DateFilter
from st_pipelines.catalog.registry import load_catalog
from st_pipelines_tests.catalog.documents import (
    EMPTY,
    ID,
    MODIFIED,
    PAGED,
    TIME,
    document,
    operation,
    parameter,
    record,
)

BETWEEN = [parameter("fromUtc"), parameter("toUtc")]
BOUNDS = {"lower": "fromUtc", "upper": "toUtc"}
EVENTS = {"type": "array", "items": {"type": "object", "properties": {"id": ID, "date": TIME}}}


def built(tmp_path: Path, paths: dict, curated: Curated) -> tuple[Catalog, list[str]]:
    (tmp_path / "abc.json").write_text(json.dumps(document(paths)))
    lines: list[str] = []
    return build_catalog(tmp_path, curated, lines.append), lines


def facts(**of_things: Any) -> Curated:
    return dataclasses.replace(EMPTY, endpoints={"abc.things": {"reason": "a test", **of_things}})


@pytest.mark.parametrize(
    ("fact", "value", "complaint"),
    [
        ("key", ["id", "gone"], "key id, gone is not applied: its records have no gone"),
        ("key", ["events"], "key events is not applied: events is not a single value"),
        ("cursor", "gone.on", "cursor gone.on is not applied: its records have no gone.on"),
        ("cursor", "name", "cursor name is not applied: name is not a time"),
        (
            "cursor",
            "createdOn",
            "cursor createdOn is not applied: its date filter is on modifiedOn",
        ),
        ("look_back_days", 7, None),
        ("params", {"gone": "x"}, "params gone=x is not applied: the operation does not take gone"),
        (
            "variants",
            [{"gone": "x"}, {"gone": "y"}],
            "variants gone=x, gone=y is not applied: the operation does not take gone",
        ),
        ("sort", "+Id", "sort +Id is not applied: the operation does not take sort"),
        (
            "date_filter",
            BOUNDS,
            "date_filter lower=fromUtc, upper=toUtc is not applied: "
            "the operation does not take fromUtc, toUtc",
        ),
        ("max_page_size", 500, None),
        ("first_page", 0, None),
        ("sort", None, None),
        (
            "kind",
            "feed",
            "kind feed is not applied: "
            "only snapshot and forecast are facts; the other kinds follow from the documents",
        ),
    ],
    ids=str,
)
def test_a_fact_that_does_not_fit_is_dropped_and_told(
    tmp_path: Path, fact: str, value: Any, complaint: str | None
) -> None:
    members = {"events": EVENTS, "name": {"type": "string"}, "createdOn": TIME}
    paths = {"things": operation(record(**members), query=[*PAGED, *MODIFIED])}
    derived = built(tmp_path, paths, EMPTY)[0]["abc.things"]
    catalog, lines = built(tmp_path, paths, facts(**{fact: value}))
    if complaint is None:
        assert (getattr(catalog["abc.things"], fact), lines) == (value, [])
    else:
        assert catalog["abc.things"] == derived
        assert lines == [f"! curated.yaml: abc.things: {complaint}"]


@pytest.mark.parametrize("fact", ["look_back_days", "max_page_size", "first_page", "cursor"])
def test_a_fact_of_windows_and_pages_is_dropped_where_there_are_none(
    tmp_path: Path, fact: str
) -> None:
    value = "modifiedOn" if fact == "cursor" else 7
    paths = {"things": operation(record(), envelope="array")}
    catalog, lines = built(tmp_path, paths, facts(**{fact: value}))
    assert catalog["abc.things"] == built(tmp_path, paths, EMPTY)[0]["abc.things"]
    assert len(lines) == 1
    assert lines[0].startswith(f"! curated.yaml: abc.things: {fact} {value} is not applied")


def test_a_filter_and_its_cursor_go_together(tmp_path: Path) -> None:
    query = [*PAGED, *MODIFIED, *BETWEEN]
    curated = facts(date_filter=BOUNDS, cursor="happenedOn")
    kept, told = built(
        tmp_path, {"things": operation(record(happenedOn=TIME), query=query)}, curated
    )
    assert (kept["abc.things"].cursor, told) == ("happenedOn", [])
    assert kept["abc.things"].date_filter == DateFilter(lower="fromUtc", upper="toUtc")
    without, told = built(tmp_path, {"things": operation(record(), query=query)}, curated)
    things = without["abc.things"]
    assert (things.cursor, things.date_filter) == (
        "modifiedOn",
        DateFilter(lower="modifiedOnOrAfter", upper="modifiedBefore"),
    )
    assert [line.split()[3] for line in told] == ["cursor", "date_filter"]


def test_a_filter_is_dropped_where_it_would_bound_nothing(tmp_path: Path) -> None:
    untimed = {"type": "object", "properties": {"id": ID}}
    lists = {"things": operation(untimed, query=[*PAGED, *BETWEEN])}
    catalog, lines = built(tmp_path, lists, facts(date_filter=BOUNDS))
    assert (catalog["abc.things"].kind, catalog["abc.things"].date_filter) == ("snapshot", None)
    assert lines[0].endswith("is not applied: its rows have no time that decides their day")
    exports = {"export/things": operation(record(), query=BETWEEN, envelope="export")}
    catalog, lines = built(tmp_path, exports, facts(date_filter={**BOUNDS, "required": True}))
    assert (catalog["abc.things"].kind, catalog["abc.things"].date_filter) == ("feed", None)
    assert lines[0].endswith("is not applied: it is an export")


@pytest.mark.parametrize(
    ("properties", "envelope", "of_things", "reason"),
    [
        (
            {"log": EVENTS},
            "export",
            {"explode": "events", "key": ["id"], "cursor": "date"},
            "a row is a member of events, and its records have no events",
        ),
        (
            {"events": {"type": "array", "items": {}}},
            "export",
            {"explode": "events"},
            "a row is a member of events, and events is not an array of objects",
        ),
        (
            {"events": {"type": "array", "items": ID}},
            "export",
            {"explode": "events"},
            "a row is a member of events, and events is not an array of objects",
        ),
        (
            {"events": EVENTS, "daTe": TIME},
            "export",
            {"explode": "events"},
            "two of its fields would share a column",
        ),
        (
            {"events": EVENTS},
            "export",
            {"explode": "events", "key": ["number"]},
            "a feed needs its key, and its records have no number",
        ),
        (
            {},
            "page",
            {"date_filter": {**BOUNDS, "required": True}},
            "it is only served for a time range, and the operation does not take fromUtc, toUtc",
        ),
        (
            {},
            "page",
            {"date_filter": BOUNDS, "by_day": True},
            "it is only served for a time range, and the operation does not take fromUtc, toUtc",
        ),
        (
            {},
            "page",
            {"by_day": True},
            "it is only served for a time range, and it has no date filter",
        ),
    ],
    ids=["renamed", "untyped", "scalars", "clash", "key", "required", "by day", "no filter"],
)
def test_a_table_that_is_nothing_without_a_fact_is_left_out(
    tmp_path: Path, properties: dict, envelope: str, of_things: dict, reason: str
) -> None:
    paths = {"things": operation(record(**properties), query=PAGED, envelope=envelope)}
    if envelope == "export":
        paths = {"export/things": paths["things"]}
    catalog, lines = built(tmp_path, paths, facts(**of_things))
    assert not len(catalog)
    assert [entry.reason for entry in catalog.left_out] == [reason]
    assert lines == [f"! abc.things is left out: {reason}"]


def test_list_and_export_are_left_out_together(tmp_path: Path) -> None:
    paths = {
        "things": operation(record(), query=PAGED),
        "export/things": operation(record(), envelope="export"),
    }
    catalog, _ = built(tmp_path, paths, facts(explode="events"))
    assert not len(catalog)
    assert len(catalog.left_out) == 2


def test_what_only_the_export_has_is_no_key_of_the_list(tmp_path: Path) -> None:
    paths = {
        "things": operation(record(), query=PAGED),
        "export/things": operation(record(code=ID), envelope="export"),
    }
    catalog, lines = built(tmp_path, paths, facts(key=["code"]))
    assert catalog["abc.things"].key == ("id",)
    assert lines == [
        "! curated.yaml: abc.things: key code is not applied: its records have no code"
    ]


def test_a_demanded_parameter_that_a_dropped_fact_filled_leaves_the_table_out(
    tmp_path: Path,
) -> None:
    demanded = [{**one, "required": True} for one in BETWEEN]
    paths = {"things": operation({"type": "object", "properties": {"id": ID}}, query=demanded)}
    catalog, _ = built(tmp_path, paths, facts(date_filter=BOUNDS, cursor="gone"))
    assert [entry.reason for entry in catalog.left_out] == [
        "needs the query parameter fromUtc, toUtc"
    ]


def test_an_operation_that_no_longer_takes_what_splits_it_is_left_out(tmp_path: Path) -> None:
    path = "/abc/v2/tenant/{tenant}/things"
    tables = {"one": {"segment": "One"}, "two": {"segment": "Two"}}
    curated = dataclasses.replace(EMPTY, split={path: {"reason": "a test", "tables": tables}})
    taking = {"things": operation(record(), query=[*PAGED, parameter("segment")])}
    assert set(built(tmp_path, taking, curated)[0].endpoints) == {"abc.one", "abc.two"}
    catalog, _ = built(tmp_path, {"things": operation(record(), query=PAGED)}, curated)
    assert [entry.reason for entry in catalog.left_out] == [
        "is split into tables by segment, but does not take that parameter"
    ]


def test_what_splits_an_operation_wins_over_the_value_that_shows_everything(
    tmp_path: Path,
) -> None:
    path = "/abc/v2/tenant/{tenant}/things"
    tables = {"live": {"active": "True"}, "old": {"active": "False"}}
    curated = dataclasses.replace(EMPTY, split={path: {"reason": "a test", "tables": tables}})
    taking = {"things": operation(record(), query=[*PAGED, parameter("active")])}
    catalog, _ = built(tmp_path, taking, curated)
    assert {e.name: e.params["active"] for e in catalog} == {"live": "True", "old": "False"}


def test_what_is_sorted_by_id_unsaid_gives_way_to_what_a_document_says(tmp_path: Path) -> None:
    curated = dataclasses.replace(EMPTY, sorted_by_id={"tables": ["abc.things"]})

    def sort(description: str, schema: dict | None = None) -> str | None:
        asked = {**parameter("sort"), "description": description}
        paths = {"things": operation(schema or record(), query=[*PAGED, asked])}
        return built(tmp_path, paths, curated)[0]["abc.things"].sort

    assert sort("Applies sorting by specified fields") == "+Id"
    assert sort("Available fields are: Name, CreatedOn") is None
    assert sort("", {"type": "object", "properties": {"number": ID}}) is None


def test_facts_of_what_is_not_in_the_documents_are_told(tmp_path: Path) -> None:
    path = "/abc/v2/tenant/{tenant}/old"
    curated = dataclasses.replace(facts(key=[]), left_out={path: "old"})
    paths = {"others": operation(record(), query=PAGED)}
    assert built(tmp_path, paths, curated)[1] == [
        "! curated.yaml has facts about abc.things, which is not in these documents",
        f"! curated.yaml has facts about {path}, which is not in these documents",
    ]


def test_every_table_that_is_sorted_by_id_unsaid_is_in_the_packaged_catalog() -> None:
    tables = load_curated().sorted_by_id["tables"]
    assert {load_catalog()[table].sort for table in tables} == {"+Id"}
    assert load_curated().sorted_by_id["reason"]


def test_a_list_whose_times_do_not_show_every_change_is_read_whole(tmp_path: Path) -> None:
    paths = {"things": operation(record(), query=[*PAGED, *MODIFIED])}
    catalog, lines = built(tmp_path, paths, facts(kind="snapshot"))
    things = catalog["abc.things"]
    assert (things.kind, things.cursor, things.date_filter, lines) == ("snapshot", None, None, [])


def test_an_export_cannot_become_a_snapshot(tmp_path: Path) -> None:
    exports = {"export/things": operation(record(), envelope="export")}
    catalog, lines = built(tmp_path, exports, facts(kind="snapshot"))
    assert catalog["abc.things"].kind == "feed"
    assert lines == ["! curated.yaml: abc.things: kind snapshot is not applied: it is an export"]


def test_a_sort_that_is_not_one_text_is_not_sent(tmp_path: Path) -> None:
    """A server that validates its parameters rejects `+Id` where an array is declared."""
    described = {"description": "Available fields are: Id, CreatedOn"}

    def sort(**schema: Any) -> str | None:
        query = [*PAGED, parameter("sort", **schema) | described]
        return built(tmp_path, {"things": operation(record(), query=query)}, EMPTY)[0][
            "abc.things"
        ].sort

    assert sort(type="string") == "+Id"
    assert sort(type="array", items={"type": "object"}) is None


def test_external_data_of_an_export_gives_way_to_that_of_a_list_that_takes_the_application(
    tmp_path: Path,
) -> None:
    """The export takes no application, so that its externalData would empty the list's."""
    members = record(externalData={"type": "array", "items": ID})
    named = parameter("externalDataApplicationGuid")
    paths = {
        "things": operation(members, query=[*PAGED, named]),
        "export/things": operation(members, envelope="export"),
        "others": operation(members, query=PAGED),
    }
    catalog, _ = built(tmp_path, paths, EMPTY)
    export = catalog["abc.things"].export
    assert export is not None
    assert (catalog["abc.things"].external_data, export.lacks) == (True, ("externalData",))
    assert not catalog["abc.others"].external_data


def test_the_packaged_catalog_has_the_facts_that_documents_lack() -> None:
    catalog = load_catalog()
    types = [dict(variant) for variant in catalog["accounting.ap_bills"].variants]
    assert types == [{"billType": name} for name in ("Procurement", "ApBill", "NotSet")]
    assert catalog["memberships.recurring_service_events"].sort is None
    for table in ("salestech.estimate_templates", "salestech.proposal_templates"):
        assert catalog[table].kind == "snapshot"
    assert catalog["inventory.return_types"].max_page_size == 500
    assert [endpoint.table for endpoint in catalog if endpoint.external_data] == [
        "crm.customers",
        "crm.locations",
        "inventory.adjustments",
        "inventory.returns",
        "inventory.transfers",
        "inventory.trucks",
        "inventory.vendors",
        "inventory.warehouses",
        "jpm.job_types",
        "jpm.jobs",
        "jpm.projects",
        "pricebook.discounts_and_fees",
        "pricebook.equipment",
        "pricebook.materials",
        "pricebook.services",
        "settings.business_units",
    ]


def test_every_curated_endpoint_has_a_reason() -> None:
    assert all(entry.get("reason") for entry in load_curated().endpoints.values())
