"""The facts of the vendor's documents: what is kept of them, and how it is spelled."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from st_pipelines.catalog import specification
from st_pipelines.catalog.build.build import read_facts
from st_pipelines.catalog.registry import packaged_catalog
from st_pipelines.catalog.specification import Schema
from st_pipelines.catalog.specification_files import (
    FOLDER,
    Specification,
    packaged_specification,
    read_file,
    render,
    schema_from_json,
    schema_to_json,
)
from st_pipelines_tests.catalog.documents import PAGED, document, operation, parameter, record

DOCUMENTS = Path(__file__).parents[3] / "shared" / "openapi"


def facts(tmp_path: Path, paths: dict, **schemas: Any) -> specification.ApiSpecification:
    (tmp_path / "abc-v2.json").write_text(json.dumps(document(paths, **schemas)))
    return read_facts(tmp_path)["abc"]


@pytest.mark.parametrize(
    "spelling",
    [
        "integer:int64",
        "string|null",
        "any",
        "#Job",
        "#Job|null",
        ["#Job"],
        {"array": ["number:decimal"], "nullable": True},
        {"array": "string", "maxItems": 50},
        {"object": {"id": "integer", "name?": "string|null"}},
        {"map": ["string"]},
        {"any_of": ["#A", "string"], "nullable": True},
        {"type": "string", "enum": ["Open", "Closed"]},
        {"type": "integer:int32", "minimum": 1, "maximum": 500, "nullable": True},
    ],
)
def test_every_spelling_of_a_schema_is_read_and_written_alike(spelling: Any) -> None:
    assert schema_to_json(schema_from_json(spelling)) == spelling


def test_the_packaged_facts_survive_being_written_and_read(tmp_path: Path) -> None:
    for api in packaged_specification().apis:
        before = packaged_specification().api(api)
        file = tmp_path / f"{api}.json"
        file.write_text(render(before))
        assert read_file(file) == before
        assert file.read_text() == (FOLDER / file.name).read_text()


def test_references_nullability_and_missing_members_are_kept(tmp_path: Path) -> None:
    job = {
        "type": "object",
        "required": ["id"],
        "properties": {
            "id": {"type": "integer", "format": "int64"},
            "status": {"oneOf": [{"$ref": "#/components/schemas/Status"}, {"type": "null"}]},
            "parent": {"$ref": "#/components/schemas/Job"},
            "note": {"type": ["string", "null"], "maxLength": 9},
        },
    }
    status = {"type": "string", "enum": ["Open", "Closed"]}
    paths = {"jobs": operation({"$ref": "#/components/schemas/Job"}, query=PAGED)}
    found = facts(tmp_path, paths, Job=job, Status=status, Unused={"type": "object"})
    row = found.find_record(found.operations[0])
    assert row is not None
    assert row.optional == {"status", "parent", "note"}
    assert found.resolve(row.members["status"]).enum == ("Open", "Closed")
    assert found.resolve(row.members["status"]).nullable
    assert found.resolve(row.members["parent"]) == row
    assert row.members["note"] == Schema(kind="string", nullable=True, limits={"maxLength": 9})
    assert set(found.schemas) == {"Job", "Status"}


def test_what_only_a_sentence_says_becomes_a_fact_and_the_sentence_is_dropped(
    tmp_path: Path,
) -> None:
    described = {
        "sort": 'Applies sorting by the specified field:\\\n"?sort=+FieldName" for ascending '
        "order.\\\n\\\nAvailable fields are: Id, Date (Year + Month), CreatedOn.",
        "ids": "Perform lookup by multiple IDs (maximum 50)",
        "active": "What kind of items should be returned (only active items will be returned by "
        "default)\\\nValues: [True, Any, False]",
        "pageSize": "How many records to return (50 by default). Maximum value is 500.",
        "number": "Filters by the number of the visit",
    }
    query = [{**parameter(name), "description": text} for name, text in described.items()]
    found = facts(tmp_path, {"jobs": operation(record(), query=query)}).operations[0].query
    assert found["sort"].sort_fields == ("Id", "Date", "CreatedOn")
    assert found["ids"].max_items == 50
    assert found["active"].default == "True"
    assert (found["pageSize"].default, found["pageSize"].schema.limits) == (50, {"maximum": 500})
    assert found["number"] == specification.Parameter(
        name="number", location="query", schema=Schema(kind="string")
    )


def test_a_post_counts_only_if_it_reads(tmp_path: Path) -> None:
    reading = operation(record())["get"]
    writing = {**reading, "security": [{"oauth": ["tn.abc.things:w"]}]}
    found = facts(tmp_path, {"data": {"post": reading}, "things": {"post": writing}})
    assert [(o.method, o.path) for o in found.operations] == [
        ("POST", "/abc/v2/tenant/{tenant}/data")
    ]


def test_two_documents_of_one_api_keep_schemas_of_the_same_name_apart(tmp_path: Path) -> None:
    thing = {"$ref": "#/components/schemas/Thing"}
    for name, kind in (("one", "string"), ("two", "integer")):
        schema = {"type": "object", "properties": {"value": {"type": kind}}}
        text = json.dumps(document({name: operation(thing, query=PAGED)}, Thing=schema))
        (tmp_path / f"abc-{name}.json").write_text(text)
    found = read_facts(tmp_path)["abc"]
    rows = [found.find_record(operation) for operation in found.operations]
    assert [row and row.members["value"].kind for row in rows] == ["string", "integer"]


def test_a_file_of_another_shape_is_named_in_the_error(tmp_path: Path) -> None:
    file = tmp_path / "abc.json"
    file.write_text('{"operations": {"GET /x": {}}, "schemas": {}}')
    with pytest.raises(ValueError, match=r"abc\.json is not a file of specification facts"):
        Specification(tmp_path).api("abc")


def test_the_facts_cover_every_operation_of_the_catalog() -> None:
    found = {operation.path for operation in packaged_specification()}
    reports = {path for path in found if path.endswith("/reports/{reportId}/data")}
    catalog = packaged_catalog()
    current = [endpoint for endpoint in catalog if not endpoint.removed]
    served = {e.path for e in current} | {e.export.path for e in current if e.export}
    assert served | {entry.path for entry in catalog.left_out} == found - reports
    assert {o.path.rpartition("/")[2] for o in packaged_specification() if o.method == "POST"} == {
        "capacity",
        "data",
    }


def test_no_sentence_of_the_vendor_is_in_the_facts() -> None:
    """The vendor's descriptions must not be copied; enum values of a few words are facts."""
    for file in sorted(FOLDER.glob("*.json")):
        for text in re.findall(r'"((?:[^"\\]|\\.)*)"', file.read_text()):
            words = text.removeprefix("GET ").removeprefix("POST ").split()
            assert len(words) <= 4, f"{file.name}: {text}"


@pytest.mark.skipif(not DOCUMENTS.exists(), reason="needs the vendor's documents")
def test_the_packaged_facts_are_those_of_the_documents() -> None:
    for api, found in read_facts(DOCUMENTS).items():
        assert found == packaged_specification().api(api)
