"""What a file of the user's endpoints may say, and what each wrong value is answered with."""

from __future__ import annotations

from pathlib import Path

import pytest

from st_pipelines.catalog import configured
from st_pipelines.catalog.model import DateFilter, Export, Field, ListOf, Scalar, StructOf
from st_pipelines.catalog.registry import load_base_catalog, load_catalog, packaged_catalog

TABLE = "salestech.opportunities"
PATH = "/sales/v2/tenant/{tenant}/opportunities"
LEAST = f"{TABLE}: {{path: '{PATH}', scope: tn.sal.opportunities:r}}"


def write(text: str) -> Path:
    file = Path("st_endpoints.yaml")
    file.write_text(text)
    return file


def refusal(text: str) -> str:
    """The message for a file, without the name of the file."""
    file = write(text)
    with pytest.raises(ValueError, match="st_endpoints") as caught:
        load_base_catalog(file)
    return str(caught.value).removeprefix(f"{file.absolute()}: ")


def with_more(*lines: str) -> str:
    return "\n".join([f"{TABLE}:", f"  path: {PATH}", "  scope: tn.sal.opportunities:r", *lines])


def test_path_and_scope_are_enough() -> None:
    endpoint = load_base_catalog(write(LEAST))[TABLE]
    assert (endpoint.kind, endpoint.envelope, endpoint.key) == ("snapshot", "page", ("id",))
    assert (endpoint.path, endpoint.scope) == (PATH, "tn.sal.opportunities:r")
    assert (endpoint.open, endpoint.untyped) == (True, True)
    assert endpoint.paged
    assert endpoint.includes_total


def test_everything_can_be_said() -> None:
    text = with_more(
        "  key: [number]",
        "  cursor: changed.on",
        "  date_filter: {lower: changedFrom, upper: changedTo, required: true}",
        "  params: {active: Any, archived: true, depth: 2}",
        "  variants: [{kind: A}, {kind: B}]",
        "  sort: +Id",
        "  ids: true",
        "  first_page: 0",
        "  max_page_size: 500",
        "  look_back_days: 7",
        "  export: {path: '/sales/v2/tenant/{tenant}/export/opportunities'}",
        "  columns:",
        "    number: BIGINT",
        "    changed: {on: TIMESTAMPTZ}",
        "    items: [{amount: DECIMAL}]",
    )
    endpoint = load_base_catalog(write(text))[TABLE]
    assert endpoint.kind == "window"
    assert endpoint.date_filter == DateFilter(lower="changedFrom", upper="changedTo", required=True)
    assert endpoint.params == {"active": "Any", "archived": "true", "depth": "2"}
    assert endpoint.variants == ({"kind": "A"}, {"kind": "B"})
    assert endpoint.export == Export(path="/sales/v2/tenant/{tenant}/export/opportunities")
    assert (endpoint.first_page, endpoint.max_page_size, endpoint.look_back_days) == (0, 500, 7)
    items = ListOf(StructOf((Field("amount", Scalar("DECIMAL")),)))
    assert endpoint.column("items") == Field("items", items)
    assert not endpoint.open


def test_without_a_file_or_with_an_empty_one_nothing_is_added() -> None:
    assert load_base_catalog(Path("st_endpoints.yaml")) is packaged_catalog()
    assert load_base_catalog(write("# none yet\n")).endpoints == packaged_catalog().endpoints


def test_additions_apply_to_the_added_endpoints() -> None:
    file, additions = write(LEAST), Path("st_catalog.json")
    additions.write_text(f'{{"{TABLE}": {{"id": "VARCHAR", "stage": "VARCHAR"}}}}')
    endpoint = load_catalog(additions, file)[TABLE]
    assert endpoint.column("id").type == Scalar("VARCHAR")
    assert not endpoint.untyped
    additions.write_text(f'{{"{TABLE}": {{"stage": "VARCHAR"}}}}')
    assert load_catalog(additions, file)[TABLE].untyped


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "expected tables, such as 'salestech.opportunities: {...}'"),
        ("a: {", "is not valid YAML: "),
        (f"{LEAST}\n{LEAST}", "duplicate name 'salestech.opportunities'"),
        ("opportunities: {}", "opportunities: name a table as <api>.<name> in lower case, such as"),
        ("Sales.Opps: {}", "Sales.Opps: name a table as <api>.<name> in lower case, such as"),
        ("history.x: {}", "history.x: history is a schema with another purpose"),
        (f"{TABLE}: 3", f"{TABLE}: expected path, scope and the like"),
        (f"{TABLE}: {{scope: x}}", f"{TABLE}: path: is missing"),
        (f"{TABLE}: {{path: '{PATH}'}}", f"{TABLE}: scope: is missing"),
        (f"{TABLE}: {{path: /sales/v2/opps, scope: x}}", f"{TABLE}: path: give the path below"),
        (
            f"{TABLE}: {{path: 'https://api.servicetitan.io{PATH}', scope: x}}",
            f"{TABLE}: path: give the path below the host, with {{tenant}} and no other parameter",
        ),
        (
            f"{TABLE}: {{path: '{PATH}/{{id}}/followups', scope: x}}",
            f"{TABLE}: path: give the path below the host, with {{tenant}} and no other parameter",
        ),
        (with_more("  keys: [id]"), f"{TABLE}: keys: is not a setting: did you mean key?"),
        (with_more("  zzz: 1"), f"{TABLE}: zzz: is not a setting: give path, scope, envelope"),
        (with_more("  envelope: pages"), f"{TABLE}: envelope: 'pages' is wrong: input should be"),
        (with_more("  key: id"), f"{TABLE}: key: 'id' is wrong: input should be a valid list"),
        (with_more("  cursor: modifiedOn"), f"{TABLE}: cursor and date_filter belong together"),
        (
            with_more("  date_filter: {lower: a, upper: b}"),
            f"{TABLE}: cursor and date_filter belong together",
        ),
        (
            with_more("  cursor: on", "  date_filter: {lower: a}"),
            f"{TABLE}: date_filter: upper: is missing",
        ),
        (with_more("  max_page_size: 9999"), f"{TABLE}: max_page_size: 9999 is wrong"),
        (with_more("  first_page: 2"), f"{TABLE}: first_page: 2 is wrong"),
        (with_more("  member: items"), f"{TABLE}: member goes with the envelope data"),
        (with_more("  look_back_days: 3"), f"{TABLE}: look_back_days needs a cursor"),
        (with_more("  envelope: export"), f"{TABLE}: an export needs a key and a cursor"),
        (
            with_more("  envelope: export", "  cursor: on", "  date_filter: {lower: a, upper: b}"),
            f"{TABLE}: date_filter does not go with the envelope export",
        ),
        (with_more("  export: {path: here}"), f"{TABLE}: export: path: give the path below"),
        (with_more("  columns: {}"), f"{TABLE}: columns: {{}} is wrong"),
        (with_more("  columns: {id: int}"), f'{TABLE}: columns: id: "int" is not a type'),
        (with_more("  columns: {name: VARCHAR}"), f"{TABLE}: key: columns lacks id"),
        (
            with_more("  columns: {id: {a: BIGINT}}"),
            f"{TABLE}: key: id is not a single value in columns",
        ),
        (
            with_more(
                "  cursor: on",
                "  date_filter: {lower: a, upper: b}",
                "  columns: {id: BIGINT, on: VARCHAR}",
            ),
            f"{TABLE}: cursor: columns must have on as TIMESTAMPTZ or DATE",
        ),
        (
            with_more("  columns: {id: BIGINT, aB: VARCHAR, a_b: VARCHAR}"),
            f"{TABLE}: columns: 'a_b' can be no column: its column name is already taken by aB",
        ),
        (
            "jpm.jobs: {path: '/x/v2/tenant/{tenant}/y', scope: x}",
            "jpm.jobs: the catalog has this table already: choose another name",
        ),
        (
            f"{TABLE}: {{path: '/jpm/v2/tenant/{{tenant}}/jobs', scope: x}}",
            f"{TABLE}: /jpm/v2/tenant/{{tenant}}/jobs is read into jpm.jobs already",
        ),
        (
            with_more("  export: {path: '/jpm/v2/tenant/{tenant}/export/jobs'}"),
            f"{TABLE}: /jpm/v2/tenant/{{tenant}}/export/jobs is read into jpm.jobs already",
        ),
    ],
)
def test_each_wrong_value_is_named(text: str, message: str) -> None:
    assert message in refusal(text)


def test_a_file_that_is_no_text_is_named() -> None:
    file = Path("st_endpoints.yaml")
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"st_endpoints\.yaml: is not UTF-8 text"):
        configured.read(file)
