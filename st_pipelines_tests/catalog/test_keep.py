"""A build keeps what its documents do not say: other APIs, removed operations, known scopes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from st_pipelines.catalog import files
from st_pipelines.catalog.build.build import compare, rebuild
from st_pipelines.catalog.specification_files import Specification
from st_pipelines_tests.catalog.documents import PAGED, document, operation, parameter, record

THINGS = operation(record(), query=PAGED)
CHILD = {**THINGS, "get": {**THINGS["get"], "security": [{"oauth": ["tn.abc.notes:r"]}]}}

REMOVED = "is no longer in the documents; it is loaded as long as ServiceTitan serves it"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A catalog of the APIs abc and xyz."""
    documents = tmp_path / "both"
    write(documents, "abc", {"things": THINGS, "others": THINGS, "things/{id}/notes": CHILD})
    write(documents, "xyz", {"things": THINGS, "things/{id}/notes": CHILD})
    rebuild(documents, tmp_path / "catalog")
    return tmp_path / "catalog"


def write(documents: Path, api: str, paths: dict[str, Any], **changes: Any) -> Path:
    documents.mkdir(exist_ok=True)
    whole = {**document(paths), **changes}
    text = json.dumps(whole).replace("servicetitan.io/abc/", f"servicetitan.io/{api}/")
    (documents / f"{api}.json").write_text(text)
    return documents


def contents(folder: Path) -> dict[str, str]:
    return {str(f.relative_to(folder)): f.read_text() for f in folder.rglob("*.json")}


def without_scope(item: dict[str, Any]) -> dict[str, Any]:
    return {"get": {k: v for k, v in item["get"].items() if k != "security"}}


def test_apis_without_a_document_stay_as_they_are(tmp_path: Path, folder: Path) -> None:
    before = contents(folder)
    documents = write(tmp_path / "new", "abc", {"things": THINGS, "newer": THINGS})
    lines = rebuild(documents, folder)
    after = contents(folder)
    assert after["xyz.json"] == before["xyz.json"]
    assert after["specification/xyz.json"] == before["specification/xyz.json"]
    assert json.loads(after["left_out.json"]).keys() == {"xyz"}
    assert [line for line in lines if "xyz" in line] == []
    assert any(line.startswith("+ abc.newer") for line in lines)


def test_an_endpoint_that_its_document_no_longer_has_is_marked(
    tmp_path: Path, folder: Path
) -> None:
    lines = rebuild(write(tmp_path / "new", "abc", {"things": THINGS}), folder)
    catalog = files.read(folder)
    assert {e.table: e.removed for e in catalog} == {
        "abc.others": True,
        "abc.things": False,
        "xyz.things": False,
    }
    assert f"- abc.others {REMOVED}" in lines
    assert rebuild(tmp_path / "new", folder) == lines[-1:], "it is told once"
    rebuild(tmp_path / "both", folder)
    assert not any(endpoint.removed for endpoint in files.read(folder)), "it came back"


def test_an_operation_that_is_left_out_now_is_not_kept(tmp_path: Path, folder: Path) -> None:
    required = {**parameter("day", type="string"), "required": True}
    paths = {"things": THINGS, "others": operation(record(), query=[*PAGED, required])}
    rebuild(write(tmp_path / "new", "abc", paths), folder)
    assert "abc.others" not in files.read(folder).endpoints


def test_scopes_that_the_documents_no_longer_name_stay(tmp_path: Path, folder: Path) -> None:
    paths = {"things": without_scope(THINGS), "things/{id}/notes": without_scope(CHILD)}
    rebuild(write(tmp_path / "new", "abc", {**paths, "newer": without_scope(THINGS)}), folder)
    catalog = files.read(folder)
    assert catalog["abc.things"].scope == "tn.abc.things:r"
    assert catalog["abc.newer"].scope == ""
    facts = Specification(folder / "specification").by_path
    assert facts["/abc/v2/tenant/{tenant}/things/{id}/notes"].scope == "tn.abc.notes:r"


def test_a_scope_that_the_documents_change_is_theirs(tmp_path: Path, folder: Path) -> None:
    changed = without_scope(THINGS)
    changed["get"]["security"] = [{"oauth": ["tn.abc.others:r"]}]
    rebuild(write(tmp_path / "new", "abc", {"things": changed}), folder)
    assert files.read(folder)["abc.things"].scope == "tn.abc.others:r"
    facts = Specification(folder / "specification").by_path
    assert facts["/abc/v2/tenant/{tenant}/things"].scope == "tn.abc.others:r"


def test_differences_are_told_and_nothing_is_written(tmp_path: Path, folder: Path) -> None:
    before = contents(folder)
    changed = operation(
        record(name={"type": "string"}), query=[*PAGED, parameter("color", enum=["red"])]
    )
    changed["get"]["security"] = [{"oauth": ["tn.abc.notes.all:r"]}]
    paths = {
        "things": operation(record(name={"type": "string"}), query=PAGED),
        "things/{id}/notes": changed,
        "things/{id}/tags": THINGS,
    }
    lines = compare(write(tmp_path / "new", "abc", paths), folder)
    assert contents(folder) == before
    notes = "GET /abc/v2/tenant/{tenant}/things/{id}/notes"
    for expected in (
        "+ abc.things: column name VARCHAR",
        f"- abc.others {REMOVED}",
        "- GET /abc/v2/tenant/{tenant}/others is no longer in the documents",
        "+ GET /abc/v2/tenant/{tenant}/things/{id}/tags (tn.abc.things:r)",
        f"~ {notes}: scope tn.abc.notes:r -> tn.abc.notes.all:r",
        f"+ {notes}: parameter color {{'type': 'any', 'enum': ['red']}}",
        f"+ {notes}: field data[].name string",
    ):
        assert expected in lines, lines
    assert len(lines) == 9, lines
    rebuild(tmp_path / "new", folder)
    assert len(compare(tmp_path / "new", folder)) == 1
