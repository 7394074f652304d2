"""Documents that say the same in another way, and several documents of one API."""

import json
from pathlib import Path
from typing import Any

import pytest

from st_pipelines.catalog.build.build import build_catalog
from st_pipelines_tests.catalog.documents import (
    EMPTY,
    FROM,
    ID,
    MODIFIED,
    PAGED,
    build,
    build_whole,
    document,
    operation,
    parameter,
    record,
)

THINGS = "/abc/v2/tenant/{tenant}/things"


def test_path_items_behind_references_are_read(tmp_path: Path) -> None:
    whole = document({"things": {"$ref": "#/components/pathItems/Things"}})
    whole["components"]["pathItems"] = {"Things": operation(record(), query=PAGED)}
    assert build_whole(tmp_path, whole)["abc.things"].path == THINGS


def test_a_path_item_that_is_not_in_the_document_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"abc-v2\.json: .*/things: .*paths\.json#/x leaves"):
        build(tmp_path, {"things": {"$ref": "paths.json#/x"}})


@pytest.mark.parametrize("name", ["Tenant", "tenantId", "tenant-id", "tenant_id", "TENANT", "id"])
def test_the_tenant_is_known_by_its_place_in_the_path(tmp_path: Path, name: str) -> None:
    whole = document({})
    whole["paths"] = {
        f"/tenant/{{{name}}}/things": operation(record(), query=PAGED),
        f"/tenant/{{{name}}}/things/{{thing-id}}/notes": operation(record(), query=PAGED),
    }
    catalog = build_whole(tmp_path, whole)
    assert [endpoint.path for endpoint in catalog] == [THINGS]
    assert {entry.path: entry.reason for entry in catalog.left_out} == {
        f"{THINGS}/{{thing-id}}/notes": "child: needs thing-id"
    }


@pytest.mark.parametrize(
    ("part", "value", "complaint"),
    [
        ("paths", [], "servers and paths"),
        ("servers", [None], "servers and paths"),
        ("paths", {"/tenant/{tenant}/x": []}, "/abc/v2/tenant/{tenant}/x"),
        ("paths", {"/tenant/{tenant}/x": {"get": []}}, None),
        ("paths", {"/tenant/{tenant}/x": {"get": [1]}}, "/abc/v2/tenant/{tenant}/x"),
        (
            "paths",
            {"/tenant/{tenant}/x": {"get": {"parameters": [{"in": "query"}]}}},
            "/abc/v2/tenant/{tenant}/x: the document is malformed there ('name' is missing)",
        ),
        ("paths", None, None),
    ],
    ids=str,
)
def test_what_is_malformed_is_named_with_its_file(
    tmp_path: Path, part: str, value: Any, complaint: str | None
) -> None:
    whole = document({}) | {part: value}
    if complaint is None:
        assert not len(build_whole(tmp_path, whole))
        return
    with pytest.raises(ValueError, match="correct it or download it again") as raised:
        build_whole(tmp_path, whole)
    assert str(raised.value).startswith(f"abc-v2.json: {complaint}")


@pytest.mark.parametrize("kind", ["*/*", "application/*", "text/json", "application/x+json"])
@pytest.mark.parametrize("status", ["200", "2XX", "default"])
def test_an_answer_is_found_under_any_kind_and_status(
    tmp_path: Path, kind: str, status: str
) -> None:
    item = operation(record(), query=PAGED)
    content = item["get"]["responses"]["200"]["content"]["application/json"]
    item["get"]["responses"] = {status: {"content": {kind: content}}, "404": {}}
    assert build(tmp_path, {"things": item})["abc.things"].envelope == "page"


def test_a_file_of_any_kind_and_an_error_are_no_answer(tmp_path: Path) -> None:
    file, silent = operation(record()), operation(record())
    file["get"]["responses"]["200"]["content"] = {"*/*": {"schema": {"type": "string"}}}
    silent["get"]["responses"] = {"204": {}, "default": silent["get"]["responses"]["200"]}
    catalog = build(tmp_path, {"file": file, "silent": silent})
    assert [entry.reason for entry in catalog.left_out] == ["binary download"] * 2


@pytest.mark.parametrize(
    ("path", "query", "envelope"),
    [("things", PAGED, "page"), ("things", FROM, "export"), ("export/things", [], "export")],
    ids=["pages", "from", "export"],
)
def test_a_page_that_tells_a_token_is_an_export_only_where_one_can_go_on_from_it(
    tmp_path: Path, path: str, query: list[dict], envelope: str
) -> None:
    things = build(tmp_path, {path: operation(record(), query=query, envelope="export")})
    assert (things["abc.things"].envelope, things["abc.things"].paged) == (envelope, query == PAGED)


def test_an_export_without_a_token_is_left_out_and_not_taken_for_the_list(tmp_path: Path) -> None:
    catalog = build(
        tmp_path,
        {
            "things": operation(record(), query=PAGED),
            "export/things": operation(record()),
        },
    )
    assert catalog["abc.things"].export is None
    assert [entry.reason for entry in catalog.left_out] == [
        "an export without a continuation token"
    ]


@pytest.mark.parametrize(
    ("schema", "key", "cursor"),
    [
        ({"type": "string", "format": "date"}, "id", "modifiedOn"),
        ({"type": "integer"}, "id", None),
        ({"oneOf": [{"type": "string"}, {"type": "integer"}]}, "id", None),
        ({"type": "object", "properties": {"value": ID}}, "id", None),
    ],
    ids=["date", "integer", "alternatives", "object"],
)
def test_only_a_time_is_a_cursor(tmp_path: Path, schema: dict, key: str, cursor: str) -> None:
    things = {
        "things": operation(record(modifiedOn=schema), query=[*PAGED, *MODIFIED]),
        "export/notes": operation(record(modifiedOn=schema), envelope="export"),
    }
    catalog = build(tmp_path, things)
    for endpoint in catalog:
        assert (endpoint.key, endpoint.cursor) == ((key,), cursor)
    assert catalog["abc.things"].kind == ("window" if cursor else "snapshot")
    assert (catalog["abc.things"].date_filter is None) == (cursor is None)


def test_only_a_single_value_is_a_key(tmp_path: Path) -> None:
    whole = record(id={"type": "object", "properties": {"value": ID}})
    assert build(tmp_path, {"things": operation(whole, query=PAGED)})["abc.things"].key == ()


def test_an_export_that_has_no_time_for_the_cursor_stays_a_table_of_its_own(
    tmp_path: Path,
) -> None:
    catalog = build(
        tmp_path,
        {
            "things": operation(record(), query=[*PAGED, *MODIFIED]),
            "export/things": operation(record(modifiedOn={}), envelope="export"),
        },
    )
    assert {e.table: e.cursor for e in catalog} == {
        "abc.things": "modifiedOn",
        "abc.things_export": None,
    }


@pytest.mark.parametrize(
    ("description", "values", "sort"),
    [
        (None, None, None),
        ("Applies sorting by specified fields", None, None),
        ("Available fields are: Id, Name.", None, "+Id"),
        ("Available fields are: Name", None, None),
        ("Use sort=-Id to sort descending", None, "+Id"),
        (None, ["+Id", "-Id"], "+Id"),
        (None, ["Id", "Name"], "Id"),
        ("By Id", ["Name"], None),
    ],
    ids=str,
)
def test_a_list_is_sorted_by_id_where_the_document_offers_it(
    tmp_path: Path, description: str | None, values: list[str] | None, sort: str | None
) -> None:
    asked = parameter("sort", type="string", **({"enum": values} if values else {}))
    query = [*PAGED, {**asked, "description": description}]
    assert build(tmp_path, {"things": operation(record(), query=query)})["abc.things"].sort == sort


def of_version(version: int, paths: dict) -> dict:
    return document(paths) | {"servers": [{"url": f"https://h/abc/v{version}"}]}


def write(folder: Path, **documents: dict) -> None:
    for name, whole in documents.items():
        (folder / f"{name}.json").write_text(json.dumps(whole))


def test_of_two_versions_the_higher_is_the_table_and_the_other_is_left_out(tmp_path: Path) -> None:
    listed, exported = operation(record(), query=PAGED), operation(record(), envelope="export")
    write(
        tmp_path,
        a=of_version(10, {"things": listed}),
        b=of_version(2, {"things": listed, "export/things": exported, "old": listed}),
        c=of_version(9, {"things": listed}),
    )
    catalog = build_catalog(tmp_path, EMPTY)
    assert set(catalog.endpoints) == {"abc.things", "abc.old"}
    things = catalog["abc.things"]
    newest = "/abc/v10/tenant/{tenant}/things"
    assert things.path == newest
    assert things.export is not None, "an export goes with the list of another version"
    assert {entry.path: entry.reason for entry in catalog.left_out} == {
        f"/abc/v{version}/tenant/{{tenant}}/things": f"older version of {newest}"
        for version in (2, 9)
    }


def test_a_higher_version_that_has_no_table_takes_none_away(tmp_path: Path) -> None:
    asking = operation(record(), query=[{**parameter("ids"), "required": True}])
    write(
        tmp_path,
        a=of_version(2, {"things": operation(record())}),
        b=of_version(3, {"things": asking}),
    )
    catalog = build_catalog(tmp_path, EMPTY)
    assert catalog["abc.things"].path == THINGS
    assert [entry.reason for entry in catalog.left_out] == ["needs the query parameter ids"]


def test_a_document_that_is_there_twice_counts_once(tmp_path: Path) -> None:
    whole = document({"things": operation(record(), query=PAGED), "x": operation({})})
    write(tmp_path, a=whole, b=whole)
    once = build_whole(tmp_path, whole)
    assert set(once.endpoints) == {"abc.things", "abc.x"}


def test_two_editions_of_one_document_are_refused_by_name(tmp_path: Path) -> None:
    write(
        tmp_path,
        a=document({"things": operation(record())}),
        b=document({"things": operation(record(more=ID))}),
    )
    with pytest.raises(ValueError, match=r"a\.json and b\.json describe .*/things differently"):
        build_catalog(tmp_path, EMPTY)
