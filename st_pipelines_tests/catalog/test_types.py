"""Schemas that are odd, or broken in one place, and what becomes of them."""

from pathlib import Path
from typing import Any

import pytest

from st_pipelines.catalog.model import DataType, Field, ListOf, Scalar, StructOf
from st_pipelines_tests.catalog.documents import EMPTY, ID, PAGED, build, operation, record

JSON = Scalar("JSON")


def types(tmp_path: Path, properties: dict[str, Any], **schemas: dict) -> dict[str, DataType]:
    paths = {"things": operation(record(**properties), query=PAGED)}
    return {f.name: f.type for f in build(tmp_path, paths, EMPTY, **schemas)["abc.things"].columns}


@pytest.mark.parametrize(
    "schema",
    [
        True,
        False,
        None,
        "string",
        [],
        {"type": "array", "items": True},
        {"type": 5},
        {"$ref": "#/components/schemas/Gone"},
        {"$ref": "other.json#/Thing"},
        {"$ref": "#Anchor"},
        {"$ref": "#/components/schemas/Loop"},
        {"type": "array", "items": {"$ref": "x.json"}},
        {"allOf": [True]},
        {"oneOf": [{"$ref": "#/nowhere"}, {"type": "null"}]},
        {"type": "object", "properties": [1]},
        {"type": "string", "format": ["date"]},
    ],
    ids=str,
)
def test_a_property_that_cannot_be_read_is_json_and_spoils_no_other(
    tmp_path: Path, schema: Any
) -> None:
    loop = {"$ref": "#/components/schemas/Loop"}
    found = types(tmp_path, {"odd": schema, "name": {"type": "string"}}, Loop=loop)
    assert (found["odd"], found["name"], found["id"]) == (JSON, Scalar("VARCHAR"), Scalar("BIGINT"))


def test_a_record_that_cannot_be_read_is_refused_by_file_and_path(tmp_path: Path) -> None:
    paths = {"things": operation({"$ref": "#/components/schemas/Gone"}, query=PAGED)}
    complaint = r"abc-v2\.json: /abc/v2/tenant/{tenant}/things: .*schemas/Gone has no target"
    with pytest.raises(ValueError, match=complaint):
        build(tmp_path, paths)


def test_a_reference_may_count_the_places_of_an_array(tmp_path: Path) -> None:
    shared = {"oneOf": [{"type": "string"}, {"type": "boolean"}]}
    reference = {"$ref": "#/components/schemas/Shared/oneOf/1"}
    assert types(tmp_path, {"flag": reference}, Shared=shared)["flag"] == Scalar("BOOLEAN")


def test_an_envelope_that_is_a_part_of_itself_is_read_all_the_same(tmp_path: Path) -> None:
    item = operation(record(), query=PAGED)
    content = item["get"]["responses"]["200"]["content"]["application/json"]
    itself = {"allOf": [{"$ref": "#/components/schemas/Page"}, content["schema"]]}
    content["schema"] = {"$ref": "#/components/schemas/Page"}
    assert build(tmp_path, {"things": item}, Page=itself)["abc.things"].envelope == "page"


def test_what_is_null_is_read_as_if_it_were_absent(tmp_path: Path) -> None:
    page = {"name": "page", "in": "query", "description": None, "schema": {"minimum": None}}
    size = {"name": "pageSize", "in": "query", "description": None, "schema": {"maximum": None}}
    sort = {"name": "sort", "in": "query", "description": None, "schema": None}
    item = operation(record(), query=[page, size, sort]) | {"parameters": None}
    catalog = build(tmp_path, {"things": item, "empty": None, "none": {"get": None}})  # type: ignore
    things = catalog["abc.things"]
    assert (things.paged, things.first_page, things.max_page_size) == (True, 1, 5000)
    assert set(catalog.endpoints) == {"abc.things"}


def test_a_schema_that_is_only_true_allows_anything(tmp_path: Path) -> None:
    query = [*PAGED, {"name": "any", "in": "query", "schema": True}]
    things = build(tmp_path, {"things": operation(True, query=query)})["abc.things"]  # type: ignore
    assert (things.columns, things.key) == ((), ())


def test_of_members_that_duckdb_cannot_tell_apart_the_first_is_kept(tmp_path: Path) -> None:
    text = {"type": "string"}
    inner = {"aB": text, "ab": text, "a_b": text, "rowid": text, 'a"b': text, "other": text}
    found = types(tmp_path, {"inner": {"type": "object", "properties": inner}})
    kept = StructOf((Field("aB", Scalar("VARCHAR")), Field("other", Scalar("VARCHAR"))))
    assert found["inner"] == kept


def test_members_from_several_parts_are_told_apart_too(tmp_path: Path) -> None:
    parts = [{"type": "object", "properties": {name: ID}} for name in ("jobId", "job_id", "JobID")]
    found = types(tmp_path, {"inner": {"allOf": parts}})
    assert found["inner"] == StructOf((Field("jobId", Scalar("BIGINT")),))


def test_an_object_of_which_no_member_can_have_a_column_is_json(tmp_path: Path) -> None:
    inner = {"type": "object", "properties": {"$": ID}}
    found = types(tmp_path, {"inner": inner, "list": {"type": "array", "items": inner}})
    assert found["inner"] == found["list"] == JSON


def test_columns_of_list_and_export_are_told_apart(tmp_path: Path) -> None:
    objects = [{"type": "object", "properties": {name: ID}} for name in ("aB", "ab")]
    listed = record(jobId=ID, inner={"type": "array", "items": objects[0]})
    exported = record(job_id=ID, more=ID, inner={"type": "array", "items": objects[1]})
    things = build(
        tmp_path,
        {
            "things": operation(listed, query=PAGED),
            "export/things": operation(exported, envelope="export"),
        },
    )["abc.things"]
    assert [f.name for f in things.columns] == ["id", "modifiedOn", "jobId", "inner", "more"]
    assert things.column("inner").type == ListOf(StructOf((Field("aB", Scalar("BIGINT")),)))
    assert things.export is not None
    assert things.export.adds == ("more",)
