"""The catalog: derived from OpenAPI documents, corrected by the curated file, complete."""

import dataclasses
import json
from collections import Counter
from pathlib import Path

import pytest

from st_pipelines.catalog import files
from st_pipelines.catalog.build.build import build_catalog
from st_pipelines.catalog.build.curated import load_curated
from st_pipelines.catalog.build.differences import describe_changes
from st_pipelines.catalog.model import (
    Catalog,
    Field,
    LeftOut,
    ListOf,
    Scalar,
    StructOf,
    snake_case,
)
from st_pipelines.catalog.registry import DATA, load_catalog
from st_pipelines_tests.catalog.documents import (
    EMPTY,
    ID,
    MODIFIED,
    PAGED,
    TIME,
    build,
    document,
    operation,
    parameter,
)

DOCUMENTS = Path(__file__).parents[3] / "shared" / "openapi"
with_documents = pytest.mark.skipif(not DOCUMENTS.is_dir(), reason="no OpenAPI documents beside")


@with_documents
def test_every_get_operation_is_a_table_an_export_or_left_out_with_a_reason() -> None:
    operations = {
        (file.stem, path)
        for file in DOCUMENTS.glob("*.json")
        for path, item in json.loads(file.read_bytes())["paths"].items()
        if "get" in item
    }
    catalog = build_catalog(DOCUMENTS)
    served = {e.path for e in catalog if not e.forecast}
    served |= {e.export.path for e in catalog if e.export}
    left_out = {entry.path for entry in catalog.left_out}
    assert not served & left_out
    assert len(served) + len(left_out) == len(operations)
    assert all(entry.reason for entry in catalog.left_out)


@with_documents
def test_the_committed_catalog_is_the_one_the_documents_give_byte_for_byte() -> None:
    rendered = files.render(build_catalog(DOCUMENTS))
    assert rendered == {f.name: f.read_text(encoding="utf-8") for f in DATA.glob("*.json")}
    assert rendered == files.render(build_catalog(DOCUMENTS))


@with_documents
def test_no_sentence_of_the_documents_is_in_the_catalog() -> None:
    committed = "".join(file.read_text(encoding="utf-8") for file in DATA.glob("*.json"))
    for file in DOCUMENTS.glob("*.json"):
        for item in json.loads(file.read_bytes())["paths"].values():
            for verb in item.values():
                text = verb.get("description", "") if isinstance(verb, dict) else ""
                assert len(text) < 30 or text not in committed


def test_the_packaged_catalog_holds_what_people_use() -> None:
    catalog = load_catalog()
    assert len(catalog) >= 130
    assert len(catalog.apis) == 24
    assert Counter(e.kind for e in catalog)["window"] > 100
    jobs = catalog["jpm.jobs"]
    assert (jobs.key, jobs.cursor, jobs.sort) == (("id",), "modifiedOn", "+Id")
    assert jobs.export is not None
    assert "active" in {f.name for f in jobs.columns}, "active comes from the export alone"
    for feed in (
        "jpm.job_history",
        "jpm.job_notes",
        "jpm.project_notes",
        "jpm.job_canceled_logs",
        "accounting.invoice_items",
        "memberships.membership_status_changes",
    ):
        assert catalog[feed].kind == "feed"


def test_an_endpoint_says_what_identifies_its_rows_and_records() -> None:
    catalog = load_catalog()
    jobs, history = catalog["jpm.jobs"], catalog["jpm.job_history"]
    assert (jobs.has_key, jobs.record_key, jobs.is_feed) == (True, ("id",), False)
    assert (history.has_key, history.record_key, history.is_feed) == (True, (), True)
    assert not catalog["marketing_reputation.reviews"].has_key


def test_money_that_arrives_as_text_is_decimal_at_every_depth() -> None:
    invoices = load_catalog()["accounting.invoices"]
    assert invoices.column("total").type == Scalar("DECIMAL")
    items = invoices.column("items").type
    assert isinstance(items, ListOf)
    assert isinstance(items.item, StructOf)
    assert {f.name: f.type for f in items.item.fields}["price"] == Scalar("DECIMAL")


def test_keys_and_cursors_of_the_packaged_catalog_are_fields_of_their_rows() -> None:
    for endpoint in load_catalog():
        names = {f.name for f in endpoint.row_fields}
        assert set(endpoint.key) <= names, endpoint.table
        if endpoint.cursor:
            assert endpoint.cursor.split(".")[0] in names, endpoint.table
        columns = [f.column for f in endpoint.row_fields]
        assert len(columns) == len(set(columns)), endpoint.table
        assert not any(column.startswith("_") for column in columns), endpoint.table


def test_every_curated_entry_has_a_reason_and_meets_an_endpoint() -> None:
    curated, catalog = load_curated(), load_catalog()
    for table, facts in curated.endpoints.items():
        assert facts["reason"], table
        assert table in catalog.endpoints, table
    left_out = {entry.path: entry.reason for entry in catalog.left_out}
    assert curated.left_out.items() <= left_out.items()


def test_openapi_3_0_and_3_1_give_the_same_types(tmp_path: Path) -> None:
    old = {"type": "object", "properties": {"id": ID, "note": {"type": "string", "nullable": True}}}
    new = {"type": "object", "properties": {"id": ID, "note": {"type": ["string", "null"]}}}
    first = build(tmp_path, {"things": operation(old, query=PAGED)}, version="3.0.1")
    second = build(tmp_path, {"things": operation(new, query=PAGED)}, version="3.1.0")
    assert first["abc.things"].columns == second["abc.things"].columns
    assert first["abc.things"].columns[1] == Field("note", Scalar("VARCHAR"))


def test_recursion_alternatives_and_open_objects_are_json(tmp_path: Path) -> None:
    tree = {
        "type": "object",
        "properties": {
            "id": ID,
            "children": {"type": "array", "items": {"$ref": "#/components/schemas/Tree"}},
            "either": {"oneOf": [{"type": "string"}, {"type": "number"}]},
            "maybe": {"oneOf": [{"type": "null"}, {"type": "boolean"}]},
            "open": {"type": "object", "additionalProperties": {"type": "string"}},
            "price": {"type": "number", "format": "decimal"},
            "day": {"type": ["string", "null"], "format": "date"},
        },
    }
    record = {"$ref": "#/components/schemas/Tree"}
    catalog = build(tmp_path, {"trees": operation(record, query=PAGED)}, Tree=tree)
    types = {f.name: f.type for f in catalog["abc.trees"].columns}
    assert types["children"] == types["either"] == types["open"] == Scalar("JSON")
    assert types["maybe"] == Scalar("BOOLEAN")
    assert (types["price"], types["day"]) == (Scalar("DECIMAL"), Scalar("DATE"))


def test_list_and_export_of_one_collection_are_one_table_with_the_union_of_their_columns(
    tmp_path: Path,
) -> None:
    listed = {"type": "object", "properties": {"id": ID, "modifiedOn": TIME}}
    exported = {"type": "object", "properties": {"id": ID, "active": {"type": "boolean"}}}
    catalog = build(
        tmp_path,
        {
            "things": operation(listed, query=[*PAGED, *MODIFIED]),
            "export/things": operation(exported, envelope="export"),
        },
    )
    things = catalog["abc.things"]
    assert [f.name for f in things.columns] == ["id", "modifiedOn", "active"]
    assert things.kind == "window"
    assert things.export is not None
    assert things.export.path == "/abc/v2/tenant/{tenant}/export/things"


def test_an_export_with_another_type_under_the_same_name_stays_a_table_of_its_own(
    tmp_path: Path,
) -> None:
    listed = {
        "type": "object",
        "properties": {"id": ID, "type": {"type": "object", "properties": {"id": ID}}},
    }
    exported = {"type": "object", "properties": {"id": ID, "type": {"type": "string"}}}
    catalog = build(
        tmp_path,
        {
            "calls": operation(listed, query=PAGED),
            "export/calls": operation(exported, envelope="export"),
        },
    )
    assert set(catalog.endpoints) == {"abc.calls", "abc.calls_export"}


def test_filters_that_hide_records_are_opened(tmp_path: Path) -> None:
    record = {"type": "object", "properties": {"id": ID}}
    query = [
        *PAGED,
        parameter("active"),
        parameter("activeOnly", type="boolean"),
        parameter("includeInactive", type="boolean"),
        parameter("includeTotal", type="boolean"),
        {**parameter("activeState"), "description": "Values: [ActiveOnly, InactiveOnly, All]"},
    ]
    things = build(tmp_path, {"things": operation(record, query=query)})["abc.things"]
    assert things.params == {
        "active": "Any",
        "activeOnly": "false",
        "includeInactive": "true",
        "activeState": "All",
    }
    assert things.includes_total


def test_an_operation_that_needs_more_than_the_tenant_is_left_out(tmp_path: Path) -> None:
    record = {"type": "object", "properties": {"id": ID}}
    child = operation(record, query=[{"name": "id", "in": "path", "required": True}])
    asking = operation(record, query=[{**parameter("ids"), "required": True}])
    catalog = build(tmp_path, {"things/{id}/notes": child, "notes": asking})
    assert not len(catalog)
    assert {entry.reason for entry in catalog.left_out} == {
        "child: needs id",
        "needs the query parameter ids",
    }


@with_documents
def test_the_names_of_the_files_do_not_matter(tmp_path: Path) -> None:
    for number, file in enumerate(sorted(DOCUMENTS.glob("*.json"))):
        (tmp_path / f"api{number}.v2.json").write_bytes(file.read_bytes())
    assert build_catalog(tmp_path).endpoints == load_catalog().endpoints


def test_a_document_without_a_server_path_is_refused_by_name(tmp_path: Path) -> None:
    record = {"type": "object", "properties": {"id": ID}}
    whole = document({"things": operation(record)}) | {"servers": [{"url": "https://api.host"}]}
    (tmp_path / "abc.json").write_text(json.dumps(whole))
    with pytest.raises(ValueError, match=r"abc\.json: .*names no module"):
        build_catalog(tmp_path, EMPTY)


def test_variables_of_the_server_and_references_of_parameters_are_followed(tmp_path: Path) -> None:
    record = {"type": "object", "properties": {"id": ID}}
    reference = {"$ref": "#/components/schemas/Flag"}
    query = [*PAGED, {"name": "includeInactive", "in": "query", "schema": reference}]
    whole = document({"things": operation(record, query=query)}, Flag={"type": ["boolean", "null"]})
    whole["servers"] = [{"url": "https://h/{mod}/v2", "variables": {"mod": {"default": "abc"}}}]
    (tmp_path / "x.json").write_text(json.dumps(whole))
    things = build_catalog(tmp_path, EMPTY)["abc.things"]
    assert things.path == "/abc/v2/tenant/{tenant}/things"
    assert things.params == {"includeInactive": "true"}


def test_an_envelope_behind_allof_and_null_is_a_list(tmp_path: Path) -> None:
    rows = {"type": "array", "items": {"type": "object", "properties": {"id": ID}}}
    base = {"type": "object", "properties": {"hasMore": {"type": "boolean"}}}
    own = {"type": "object", "properties": {"data": {"oneOf": [rows, {"type": "null"}]}}}
    item = operation({"type": "object"}, query=PAGED)
    content = item["get"]["responses"]["200"]["content"]["application/json"]
    content["schema"] = {"allOf": [{"$ref": "#/components/schemas/Base"}, own]}
    things = build(tmp_path, {"things": item}, Base=base)["abc.things"]
    assert (things.envelope, things.columns) == ("page", (Field("id", Scalar("BIGINT")),))


def test_of_columns_that_duckdb_cannot_tell_apart_one_is_kept(tmp_path: Path) -> None:
    members = {"id": ID, "jobId": ID, "job_id": ID, "Name": ID, "name": ID, "_extra": ID, "$": ID}
    record = {"type": "object", "properties": members}
    things = build(tmp_path, {"things": operation(record)})["abc.things"]
    assert [f.name for f in things.columns] == ["id", "jobId", "Name", "_extra"]
    assert [f.column for f in things.columns] == ["id", "job_id", "name", "extra"]


def test_two_operations_for_one_table_are_refused(tmp_path: Path) -> None:
    record = {"type": "object", "properties": {"id": ID}}
    paths = {"job-types": operation(record), "job/types": operation(record)}
    with pytest.raises(ValueError, match=r"abc\.job_types.*curated\.yaml"):
        build(tmp_path, paths)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [("{", "is not JSON"), ('{"swagger": "1.2"}', "is neither an OpenAPI 3")],
)
def test_a_file_that_is_no_openapi_document_is_named(
    tmp_path: Path, content: str, complaint: str
) -> None:
    (tmp_path / "broken-v2.json").write_text(content)
    with pytest.raises(ValueError, match=f"broken-v2.json {complaint}"):
        build_catalog(tmp_path, EMPTY)


def test_a_catalog_survives_its_files(tmp_path: Path) -> None:
    files.write(load_catalog(), tmp_path)
    assert files.read(tmp_path).endpoints == load_catalog().endpoints
    assert files.read(tmp_path).left_out == load_catalog().left_out


def test_newer_documents_are_reported_change_by_change(tmp_path: Path) -> None:
    record = {"type": "object", "properties": {"id": ID, "name": {"type": "string"}}}
    before = build(tmp_path, {"things": operation(record, query=PAGED), "old": operation(record)})
    record["properties"]["inner"] = {"type": "object", "properties": {"count": ID}}
    record["properties"]["name"] = {"type": "integer"}
    after = build(tmp_path, {"things": operation(record, query=PAGED), "new": operation(record)})
    assert list(describe_changes(before, after)) == [
        "+ abc.new (snapshot, 3 columns) from /abc/v2/tenant/{tenant}/new",
        "- abc.old is no longer in the documents; its table in a warehouse stays",
        "+ abc.things: column inner.count BIGINT",
        "~ abc.things: column name VARCHAR -> BIGINT",
        "2 endpoints from 1 APIs; 0 operations left out; 2 operations in all",
    ]
    assert list(describe_changes(after, after))[:-1] == []


def test_an_export_that_is_gone_is_described_by_its_members() -> None:
    jobs = load_catalog()["jpm.jobs"]
    before = Catalog({jobs.table: jobs})
    after = Catalog({jobs.table: dataclasses.replace(jobs, export=None)})
    [line, _] = describe_changes(before, after)
    path = "/jpm/v2/tenant/{tenant}/export/jobs"
    assert line == f"~ jpm.jobs: export path {path}, adds active, lacks externalData -> none"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("modifiedOn", "modified_on"),
        ("job-types", "job_types"),
        ("averageCPC", "average_cpc"),
        ("customers/contacts", "customers_contacts"),
        ("id", "id"),
        ("isOTDeduct", "is_ot_deduct"),
    ],
)
def test_names_become_snake_case(name: str, expected: str) -> None:
    assert snake_case(name) == expected


def test_a_changed_reason_for_leaving_an_operation_out_is_reported() -> None:
    path = "/abc/v2/tenant/{tenant}/things"
    before, after = (
        Catalog({}, (LeftOut(api="abc", path=path, reason=reason),))
        for reason in ("binary download", "single object, not a collection")
    )
    assert list(describe_changes(before, after))[:-1] == [
        f"~ left out {path}: binary download -> single object, not a collection"
    ]
    assert list(describe_changes(after, after))[:-1] == []
