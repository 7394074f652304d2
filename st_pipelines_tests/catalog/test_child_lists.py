"""Child lists of the catalog: whose ids they need, and what the build does where those are gone."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from st_pipelines.catalog.build.build import build_catalog
from st_pipelines.catalog.build.curated import load_curated
from st_pipelines.catalog.files import endpoint_from_json, endpoint_to_json
from st_pipelines.catalog.model import Catalog, Field, Parent, Scalar
from st_pipelines.catalog.registry import load_catalog
from st_pipelines_tests.catalog.documents import (
    EMPTY,
    ID,
    MODIFIED,
    PAGED,
    document,
    operation,
    parameter,
    record,
)

IN_PATH = {"name": "id", "in": "path", "required": True}
NOTES = "/abc/v2/tenant/{tenant}/things/{id}/notes"
THINGS = operation(record(), query=[*PAGED, *MODIFIED])
ENTRY = {"parent": "abc.things", "ids": {"thingId": "id"}}


def build(
    tmp_path: Path, entry: dict[str, Any], notes: dict, path: str = "things/{id}/notes"
) -> tuple[Catalog, list[str]]:
    """A catalog of things and their notes, and what the build complains about."""
    (tmp_path / "abc.json").write_text(json.dumps(document({"things": THINGS, path: notes})))
    key = f"/abc/v2/tenant/{{tenant}}/{path}"
    lines: list[str] = []
    curated = dataclasses.replace(EMPTY, children={key: entry})
    return build_catalog(tmp_path, curated, lines.append), lines


def test_every_list_that_needs_an_id_is_a_table_or_has_a_reason() -> None:
    for entry in load_catalog().left_out:
        assert not entry.reason.startswith("child:"), entry.path


def test_a_reason_that_names_a_table_names_one_that_exists() -> None:
    catalog = load_catalog()
    for reason in load_curated().left_out.values():
        first = reason.split()[0]
        if first.partition(".")[0] in catalog.apis and " has the same " in reason:
            assert first in catalog.endpoints


def test_every_child_has_a_parent_with_its_ids() -> None:
    catalog = load_catalog()
    for endpoint in catalog:
        assert (endpoint.kind == "child") == (endpoint.parent is not None)
        if endpoint.parent is None:
            continue
        parent = catalog[endpoint.parent.table]
        assert parent.has_key
        for field in endpoint.parent.ids.values():
            assert isinstance(parent.column(field).type, Scalar)
        in_path = endpoint.path.count("{") - 1
        assert in_path == (len(endpoint.parent.ids) if endpoint.parent.per_request == 1 else 0)


def test_the_ids_of_the_parent_come_first_in_columns_and_key(tmp_path: Path) -> None:
    catalog, lines = build(tmp_path, ENTRY, operation(record(), query=[*PAGED, IN_PATH]))
    notes = catalog["abc.things_notes"]
    assert lines == []
    assert notes.columns[0] == Field("thingId", Scalar("BIGINT"))
    assert (notes.kind, notes.key) == ("child", ("thingId", "id"))
    assert (notes.cursor, notes.date_filter, notes.partitioned) == (None, None, False)
    assert notes.parent == Parent(table="abc.things", ids={"thingId": "id"})


def test_a_field_that_the_records_serve_stays_where_it_is(tmp_path: Path) -> None:
    served = operation(record(thingId={"type": "string"}), query=[IN_PATH])
    catalog, _ = build(tmp_path, ENTRY, served)
    columns = catalog["abc.things_notes"].columns
    assert [column.name for column in columns] == ["id", "modifiedOn", "thingId"]
    assert columns[2].type == Scalar("VARCHAR")


def test_records_without_id_or_key_are_identified_by_their_content(tmp_path: Path) -> None:
    without = operation({"type": "object", "properties": {"text": {"type": "string"}}})
    catalog, _ = build(tmp_path, ENTRY, without)
    assert catalog["abc.things_notes"].key == ()
    catalog, _ = build(tmp_path, {**ENTRY, "key": None}, operation(record()))
    assert catalog["abc.things_notes"].key == ()
    catalog, _ = build(tmp_path, {**ENTRY, "key": []}, without)
    assert catalog["abc.things_notes"].key == ("thingId",)


def test_a_child_is_left_out_if_its_ids_are_gone(tmp_path: Path) -> None:
    notes = operation(record(), query=[IN_PATH])
    for entry, reason in (
        ({**ENTRY, "parent": "abc.gone"}, "it needs ids of abc.gone, and there is no such table"),
        ({**ENTRY, "ids": {"thingId": "gone"}}, "abc.things has no gone"),
        ({**ENTRY, "ids": {"a": "id", "b": "id"}}, "its path has 1 parameters, and not 2"),
        ({**ENTRY, "key": ["gone"]}, "its records have no gone"),
        ({**ENTRY, "per_request": 50}, "the operation does not take ids"),
    ):
        catalog, lines = build(tmp_path, entry, notes)
        assert [(e.path, e.reason) for e in catalog.left_out] == [(NOTES, reason)]
        assert lines == [f"! abc.things_notes is left out: {reason}"]


def test_a_list_by_ids_is_a_child_too(tmp_path: Path) -> None:
    asking = operation(
        {"type": "object", "properties": {"thingId": ID}},
        query=[{**parameter("ids"), "required": True}],
    )
    catalog, lines = build(tmp_path, {**ENTRY, "per_request": 50}, asking, "things/reasons")
    assert lines == []
    parent = catalog["abc.things_reasons"].parent
    assert parent is not None
    assert parent.per_request == 50


def test_a_child_of_a_child_is_built_after_its_parent(tmp_path: Path) -> None:
    item = operation(record(), query=[IN_PATH])
    paths = {"things": THINGS, "things/{id}/a/{b}/c": item, "things/{id}/a": item}
    (tmp_path / "abc.json").write_text(json.dumps(document(paths)))
    base = "/abc/v2/tenant/{tenant}/things/{id}/a"
    children = {
        base: ENTRY,
        f"{base}/{{b}}/c": {"parent": "abc.things_a", "ids": {"thingId": "thingId", "aId": "id"}},
    }
    catalog = build_catalog(tmp_path, dataclasses.replace(EMPTY, children=children))
    assert set(catalog.endpoints) == {"abc.things", "abc.things_a", "abc.things_a_c"}
    assert catalog["abc.things_a_c"].key == ("thingId", "aId", "id")


def test_a_parent_survives_the_file_of_the_catalog() -> None:
    for endpoint in load_catalog():
        if endpoint.parent:
            entry = json.loads(json.dumps(endpoint_to_json(endpoint)))
            assert endpoint_from_json(endpoint.api, endpoint.name, entry) == endpoint
