"""The data of every reading operation has a place, and docs/coverage.md says which."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from typer.testing import CliRunner

from st_pipelines.catalog.build.coverage import (
    Covered,
    Facts,
    cover,
    find_unknown_facts,
    load_facts,
)
from st_pipelines.catalog.build.coverage_document import render_document
from st_pipelines.catalog.model import Catalog, Endpoint, Field, ListOf, StructOf
from st_pipelines.catalog.registry import packaged_catalog
from st_pipelines.catalog.specification_files import packaged_specification
from st_pipelines.cli.app import app

DOCUMENT = Path(__file__).parents[2] / "docs" / "coverage.md"
MAX_NOT_YET = 0
"""Operations that nothing reads: a new one needs a place, or a reason to be excluded."""
MAX_EXCLUDED, MAX_REASONS = 12, 5
ONE_JOB = "/jpm/v2/tenant/{tenant}/jobs/{id}"


def cover_package(catalog: Catalog | None = None, facts: Facts | None = None) -> list[Covered]:
    """The place of every operation, by the packaged facts unless others are given."""
    return cover(catalog or packaged_catalog(), packaged_specification(), facts or load_facts())


def find(covered: list[Covered], path: str) -> Covered:
    """The place of the operation at a path."""
    return next(one for one in covered if one.operation.path == path)


def test_every_operation_of_the_specification_has_a_place() -> None:
    covered = cover_package()
    assert [one.operation for one in covered] == list(packaged_specification())
    assert all(one.tables for one in covered if one.place in ("table", "part"))
    assert all(one.reason for one in covered if one.place in ("excluded", "not yet"))
    not_yet = [one.operation.path for one in covered if one.place == "not yet"]
    assert len(not_yet) <= MAX_NOT_YET, not_yet


def test_few_operations_are_excluded_and_for_few_reasons() -> None:
    reasons = [one.reason for one in cover_package() if one.place == "excluded"]
    assert len(reasons) <= MAX_EXCLUDED
    assert len(set(reasons)) <= MAX_REASONS


def test_every_path_of_an_endpoint_is_an_operation_of_its_table() -> None:
    tables = {one.operation.path: one.tables for one in cover_package() if one.place == "table"}
    for endpoint in packaged_catalog():
        if not endpoint.removed:
            assert endpoint.table in tables[endpoint.path]
            assert not endpoint.export or endpoint.table in tables[endpoint.export.path]


def test_the_facts_name_operations_and_tables_that_exist() -> None:
    catalog, specification, facts = packaged_catalog(), packaged_specification(), load_facts()
    assert list(find_unknown_facts(catalog, specification, facts)) == []
    wrong = dataclasses.replace(facts, part_of={"/jpm/gone": "jpm.jobs"}, tap={"jobs": "/jpm/away"})
    found = list(find_unknown_facts(catalog, specification, wrong))
    assert found == ["no operation /jpm/gone", "no operation /jpm/away"]


def test_an_object_with_a_field_that_its_list_lacks_is_reported() -> None:
    assert find(cover_package(), ONE_JOB).adds == ()
    fewer = find(cover_package(without("jpm.jobs", "summary")), ONE_JOB)
    assert (fewer.place, fewer.tables, fewer.adds) == ("part", ("jpm.jobs",), ("summary",))


def test_a_nested_field_that_the_list_lacks_is_reported_by_its_path() -> None:
    catalog = packaged_catalog()
    bills = catalog["accounting.ap_bills"]
    items = bills.column("items").type
    assert isinstance(items, ListOf)
    assert isinstance(items.item, StructOf)
    fewer = ListOf(StructOf(items.item.fields[1:]))
    columns = tuple(Field("items", fewer) if f.name == "items" else f for f in bills.columns)
    changed = with_endpoint(catalog, dataclasses.replace(bills, columns=columns))
    one = find(cover_package(changed), "/accounting/v2/tenant/{tenant}/ap-bills/{billId}")
    assert one.adds == (f"items[].{items.item.fields[0].name}",)


def test_files_have_a_place_of_their_own() -> None:
    one = find(cover_package(), "/telecom/v2/tenant/{tenant}/calls/{id}/recording")
    assert (one.place, one.tables) == ("file", ("files.recordings",))


def test_an_operation_without_table_or_fact_is_not_covered() -> None:
    catalog = packaged_catalog()
    endpoints = {e.table: e for e in catalog if e.table != "settings.user_roles"}
    one = find(
        cover_package(Catalog(endpoints, catalog.left_out)),
        "/settings/v2/tenant/{tenant}/user-roles",
    )
    assert (one.place, one.reason) == ("not yet", "GET request")


def test_the_document_is_what_the_command_writes(tmp_path: Path) -> None:
    file = tmp_path / "coverage.md"
    result = CliRunner().invoke(app, ["catalog", "coverage", "--output", str(file)])
    assert result.exit_code == 0, result.output
    assert file.read_text(encoding="utf-8") == DOCUMENT.read_text(encoding="utf-8"), (
        "run st-pipelines catalog coverage --output docs/coverage.md"
    )


def test_the_document_has_every_operation_stream_and_function() -> None:
    facts = load_facts()
    lines = render_document(cover_package(), facts).splitlines()
    rows = [line for line in lines if line.startswith("| `")]
    names = len(facts.tap) + len(facts.servicepytan)
    assert len(rows) == len(list(packaged_specification())) + names
    assert len(facts.tap) == 127


@pytest.mark.parametrize("format", ["table", "json"])
def test_the_command_lists_every_operation(format: str) -> None:
    result = CliRunner().invoke(app, ["catalog", "coverage", "--format", format])
    assert result.exit_code == 0
    missing = [one.path for one in packaged_specification() if one.path not in result.output]
    assert missing == []


def without(table: str, *names: str) -> Catalog:
    """The packaged catalog, with a table that lacks fields."""
    endpoint = packaged_catalog()[table]
    columns = tuple(field for field in endpoint.columns if field.name not in names)
    return with_endpoint(packaged_catalog(), dataclasses.replace(endpoint, columns=columns))


def with_endpoint(catalog: Catalog, endpoint: Endpoint) -> Catalog:
    """The catalog, with another version of an endpoint."""
    return Catalog({**catalog.endpoints, endpoint.table: endpoint}, catalog.left_out)
