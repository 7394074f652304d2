"""What Dagster stores of customers' data: nothing by default."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from st_pipelines.catalog.model import Scalar
from st_pipelines.catalog.registry import load_catalog
from st_pipelines.defs.privacy import (
    code_span,
    describe_example,
    display_path,
    is_safe,
)
from st_pipelines.sandbox.server import Sandbox
from st_pipelines_tests.defs.test_assets import materialize

PAYLOAD = "![x](http://127.0.0.1:9/b.png) [Reset](http://evil.example) `|` <b>Doe</b>\n\n# Heading"
BOOKING = {
    "id": 1,
    "source": "web",
    "createdOn": "2026-03-09T00:00:00Z",
    "modifiedOn": "2026-03-09T12:00:00Z",
    "name": f"Jane MARKED {PAYLOAD}",
    "summary": "call MARKED back",
    "status": "New",
    "isFirstTimeClient": True,
    "ssn": "MARKED-078-05-1120",
    "jobId": "MARKED is not a number",
    "guest.MARKED@example.com": {"phone": 5551230000},
}
DAY = ("2026-03-09", "2026-03-09")


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as made:
        yield made


@pytest.fixture
def booked(own_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    """Production, at a ServiceTitan whose bookings hold marked values of every kind."""
    for name, value in own_sandbox.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SERVICETITAN_START_DATE", "2026-03-01")

    def answer(request: Request) -> Response | None:
        if "/export/" in request.url.path or not request.url.path.endswith("/bookings"):
            return None
        page = {"page": 1, "pageSize": 50, "hasMore": False, "totalCount": 1, "data": [BOOKING]}
        return JSONResponse(page)

    own_sandbox.interceptors.append(answer)
    return own_sandbox


def stored(folder: Path) -> str:
    """Returns everything that Dagster has stored: events, runs, and what steps have printed."""
    texts = []
    for file in (f for f in folder.rglob("*") if f.is_file() and "data" not in f.parts):
        if file.suffix == ".db":
            with sqlite3.connect(file) as database:
                texts += list(database.iterdump())
        else:
            texts.append(file.read_text(errors="replace"))
    return "\n".join(texts)


def metadata_of(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    (event,) = result.asset_materializations_for_node("production__crm__bookings")
    return dict(event.metadata)


def test_no_value_that_a_customer_has_written_is_stored(
    instance: dg.DagsterInstance,
    booked: Sandbox,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    result = materialize(instance, "crm.bookings", partitions=DAY)
    assert result.success
    everything = stored(tmp_path) + "".join(capfd.readouterr()) + caplog.text
    assert "MARKED" not in everything
    assert "555123" not in everything
    assert "evil.example" not in everything
    metadata = metadata_of(result)
    preview = metadata["preview"].value.splitlines()
    assert preview[0].startswith("| id | created_on |")
    assert preview[2].startswith("| 1 | 2026-03-09 00:00:00")
    drift = metadata["drift"].value
    assert drift["ssn"] == {"records": 1, "example": "string of 18 characters"}
    assert drift["jobId"]["example"] == "string of 22 characters"
    assert drift["[name of 24 characters]"]["records"] == 1
    assert "ssn differs from the catalog in 1 records" in everything


def test_full_previews_show_values_and_no_markup_in_them(
    instance: dg.DagsterInstance, booked: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ST_FULL_PREVIEWS", "true")
    metadata = metadata_of(materialize(instance, "crm.bookings", partitions=DAY))
    head, _, row = metadata["preview"].value.splitlines()
    assert " name |" in head
    assert row.count("|") == head.count("|"), "the value does not end its cell"
    name = row[row.index("`Jane MARKED") :]
    assert name.index("`", 1) > name.index("# Heading"), "all of it is code"
    assert metadata["drift"].value["ssn"]["example"] == '"MARKED-078-05-1120"'


def test_a_wrong_setting_of_previews_fails_the_load_before_it_reads(
    instance: dg.DagsterInstance, booked: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ST_FULL_PREVIEWS", "perhaps")
    result = materialize(instance, "crm.bookings", partitions=DAY)
    assert not result.success
    assert "ST_FULL_PREVIEWS is 'perhaps': give true" in failure_text(result)
    assert booked.data_requests == 0


def failure_text(result: dg.ExecuteInProcessResult) -> str:
    return "".join(
        str(event.event_specific_data) for event in result.all_events if event.is_failure
    )


@pytest.mark.parametrize("full", [False, True])
def test_an_error_of_duckdb_that_quotes_a_value_is_stored_without_it(
    instance: dg.DagsterInstance,
    booked: Sandbox,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    full: bool,
) -> None:
    value = BOOKING["jobId"]

    def fail(*_: object) -> None:
        duckdb.execute("SELECT $1::INTEGER", [value])

    monkeypatch.setattr("st_pipelines.sync.sync.extract_load", fail)
    monkeypatch.setenv("ST_FULL_PREVIEWS", str(full).lower())
    result = materialize(instance, "crm.bookings", partitions=DAY)
    assert not result.success
    everything = stored(tmp_path)
    assert "unexpected ConversionException at assets.py:" in everything
    assert ("MARKED" in everything) == full
    assert ("ST_FULL_PREVIEWS=true shows it" in everything) != full


@pytest.mark.parametrize(
    ("example", "shown"),
    [
        ('"Jane Doe"', "string of 8 characters"),
        ('"' + "x" * 79, "string of more than 78 characters"),
        ("5551230000", "number of 10 characters"),
        ("true", "boolean"),
        ("null", "null"),
        ('{"name":"Jane"}', "object of 15 characters"),
        ('["Jane"]', "array of 8 characters"),
    ],
)
def test_an_example_of_drift_shows_type_and_length(example: str, shown: str) -> None:
    assert describe_example(example, full=False) == shown
    assert describe_example(example, full=True) == example


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("items[].sku", "items[].sku"),
        ("customFields[].typeId", "customFields[].typeId"),
        ("(invalid text)", "(invalid text)"),
        ('["jane@example.com"].phone', "[name of 16 characters].phone"),
        ("5551230000", "[name of 10 characters]"),
        ("Jane Doe", "[name of 8 characters]"),
        ("a.b|c", "a.[name of 3 characters]"),
    ],
)
def test_a_path_shows_names_that_look_like_fields(path: str, shown: str) -> None:
    assert display_path(path, full=False) == shown


def test_text_that_is_code_in_markdown_cannot_end_its_cell_or_its_line() -> None:
    span = code_span(f"a\\|b\\ {PAYLOAD} \u202e\x1b[31m`")
    assert span.count("`") == 2
    assert span[0] == span[-1] == "`"
    assert "|" not in span
    assert span.isprintable()


def test_columns_of_text_are_not_safe_unless_they_are_a_key() -> None:
    for endpoint in load_catalog():
        for field in endpoint.row_fields:
            if field.type == Scalar("VARCHAR") and field.name not in endpoint.key:
                assert not is_safe(endpoint, field), (endpoint.table, field.name)


def test_every_table_has_a_preview_without_text() -> None:
    lacking = [
        endpoint.table
        for endpoint in load_catalog()
        if not any(is_safe(endpoint, field) for field in endpoint.row_fields)
    ]
    assert lacking == [
        "dispatch.arrival_windows_configuration",  # one text
        "dispatch.business_hours",  # lists only
        "task_management.task_priorities",  # names only
        "task_management.task_resolution_types",
        "task_management.task_statuses",
    ]


def test_words_of_servicetitan_are_one_line_that_can_be_printed(
    instance: dg.DagsterInstance, booked: Sandbox
) -> None:
    title = "Refused\n\n# Heading \x1b[31m\u202e"
    booked.interceptors.insert(
        0,
        lambda request: (
            JSONResponse({"title": title}, 403) if request.url.path.endswith("/bookings") else None
        ),
    )
    result = materialize(instance, "crm.bookings", partitions=DAY)
    (failed,) = (event for event in result.all_events if event.is_step_failure)
    description = str(failed.step_failure_data.user_failure_data.description)  # pyright: ignore
    assert "Refused # Heading" in description
    assert description.isprintable()
