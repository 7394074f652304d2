"""Every read operation of the specifications answers: singles, children, objects and files."""

from __future__ import annotations

import re
from typing import Any

import pytest
import requests

from st_pipelines.sandbox.operations import Route, Router
from st_pipelines_tests.sandbox.client import Client, get_ids

ROUTES = Router().routes
TENANT = "/tenant/{tenant}"


def build_request(client: Client, route: Route) -> tuple[str, dict[str, Any]]:
    """Build a path with the id of a record that exists, and the required parameters."""
    path = route.operation.path
    if route.collection is not None and route.parameter:
        key = client.sandbox.world.table(route.collection.name).keys[4]
        path = path.replace("{" + route.parameter + "}", str(key))
    if path.endswith("/jobs/attachment/{id}"):
        path = path.replace("{id}", str(find_attachments(client)[0]["id"]))
    report = client.sandbox.reports.list(client.sandbox.tenant_id)[0]
    path = path.replace("{report_category}", report.category).replace("{reportId}", str(report.id))
    path = path.replace("{dynamicSetId}", "business-units")
    query: dict[str, Any] = {}
    for parameter in route.operation.query.values():
        schema = route.api.resolve(parameter.schema)
        if parameter.required:
            query[parameter.name] = schema.enum[0] if schema.enum else _make_value(schema)
    if "path" in route.operation.query:
        query["path"] = "folder/photo.png"
    if path.endswith(("customers/contacts", "locations/contacts")):
        query["modifiedOnOrAfter"] = "2020-01-01"
    return re.sub(r"\{(?!tenant)\w+\}", "17", path), query


def find_attachments(client: Client) -> list[dict[str, Any]]:
    """Return the files of the first completed job that has any."""
    for job in client.read_rows("jpm.jobs", jobStatus="Completed", pageSize=20):
        path = f"/forms/v2{TENANT}/jobs/{job['id']}/attachments"
        if files := send(client, path).json()["data"]:
            return files
    raise LookupError("no job has a file")


def _make_value(schema: Any) -> str:
    if schema.format == "date-time":
        return "2026-01-01T00:00:00Z"
    return {"boolean": "true"}.get(schema.kind, "17")


def send(client: Client, operation: str, **query: Any) -> requests.Response:
    return client.session.get(client.url(operation), params=query, allow_redirects=False)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.operation.path)
def test_every_operation_answers_with_a_declared_status(shared: Client, route: Route) -> None:
    path, query = build_request(shared, route)

    response = send(shared, path, **query)

    assert response.status_code in route.operation.responses
    assert response.status_code in (200, 302)


@pytest.mark.parametrize(
    "route",
    [route for route in ROUTES if route.collection is not None and route.parameter],
    ids=lambda route: route.operation.path,
)
def test_a_record_that_does_not_exist_gets_a_404(shared: Client, route: Route) -> None:
    _, query = build_request(shared, route)
    declared = next(p for p in route.operation.parameters if p.name == route.parameter)
    schema = route.api.resolve(declared.schema)
    key = "00000000-0000-4000-8000-000000000000" if schema.kind == "string" else "1"
    path = route.operation.path.replace("{" + route.parameter + "}", key)

    response = send(shared, re.sub(r"\{(?!tenant)\w+\}", "17", path), **query)

    assert response.status_code == 404
    assert response.json()["title"] == "Not Found"


def test_an_id_of_another_type_gets_a_400(shared: Client) -> None:
    assert send(shared, f"/jpm/v2{TENANT}/jobs/first").status_code == 400


def test_a_single_job_is_the_job_of_the_list(shared: Client) -> None:
    [*_, job] = shared.read_rows("jpm.jobs", sort="+Id", pageSize=20)

    single = send(shared, f"/jpm/v2{TENANT}/jobs/{job['id']}").json()

    assert {name: single[name] for name in job} == job


def test_a_deleted_record_is_gone_and_an_inactive_one_is_not(client: Client) -> None:
    world = client.sandbox.world
    gone, inactive = world.create("crm.customers"), world.create("crm.customers")
    world.delete("crm.customers", gone)
    world.deactivate("crm.customers", inactive)

    assert send(client, f"/crm/v2{TENANT}/customers/{gone}").status_code == 404
    assert send(client, f"/crm/v2{TENANT}/customers/{inactive}").json()["active"] is False


def test_the_notes_of_a_job_are_those_of_the_export(shared: Client) -> None:
    exported = shared.read_export("jpm.job_notes")
    job = exported[7]["jobId"]

    notes = send(shared, f"/jpm/v2{TENANT}/jobs/{job}/notes").json()["data"]

    expected = sorted(note["text"] for note in exported if note["jobId"] == job)
    assert sorted(note["text"] for note in notes) == expected


def test_the_history_of_a_job_is_that_of_the_export(shared: Client) -> None:
    entry = shared.read_export("jpm.job_history")[5]

    history = send(shared, f"/jpm/v2{TENANT}/jobs/{entry['jobId']}/history").json()["history"]

    # The export leaves the memo out.
    assert [{name: event[name] for name in event if name != "memo"} for event in history] == entry[
        "history"
    ]


def test_the_settings_of_a_technician_are_those_of_the_list(shared: Client) -> None:
    listed = shared.read_rows("payroll.payroll_settings", employeeType="Technician", active="Any")
    path = f"/payroll/v2{TENANT}/technicians/{listed[0]['employeeId']}/payroll-settings"

    assert send(shared, path).json()["employeeId"] == listed[0]["employeeId"]


def test_generated_children_stay_the_same_and_are_paged(shared: Client) -> None:
    customers = get_ids(shared.read_rows("crm.customers", pageSize=20, sort="+Id"))
    paths = [f"/crm/v2{TENANT}/customers/{customer}/notes" for customer in customers]
    first = [send(shared, path, includeTotal="true").json() for path in paths]

    assert [send(shared, path, includeTotal="true").json() for path in paths] == first
    several = next(at for at, body in enumerate(first) if body["totalCount"] > 1)
    page = send(shared, paths[several], page=2, pageSize=1).json()
    assert page["data"] == first[several]["data"][1:2]


def test_children_are_filtered_by_time(shared: Client) -> None:
    customer = get_ids(shared.read_rows("crm.customers", sort="+Id"))[0]
    path = f"/crm/v2{TENANT}/customers/{customer}/notes"

    assert send(shared, path).json()["data"]
    assert send(shared, path, createdOnOrAfter="2100-01-01").json()["data"] == []


@pytest.mark.parametrize("leaf", ["recording", "voicemail"])
def test_a_call_has_audio_unless_it_has_none(shared: Client, leaf: str) -> None:
    keys = shared.sandbox.world.table("telecom.calls").keys[:40]
    found = [send(shared, f"/telecom/v2{TENANT}/calls/{key}/{leaf}") for key in keys]

    audio = [response for response in found if response.status_code == 200]
    assert {response.status_code for response in found} == {200, 404}
    assert audio[0].headers["Content-Type"] == "audio/wav"
    assert audio[0].content[:4] + audio[0].content[8:12] == b"RIFFWAVE"


@pytest.mark.parametrize(
    ("name", "media_type", "start"),
    [("a/b.png", "image/png", b"\x89PNG\r\n"), ("offer.PDF", "application/pdf", b"%PDF-")],
)
def test_an_image_is_redirected_to_a_file_without_a_token(
    shared: Client, name: str, media_type: str, start: bytes
) -> None:
    response = send(shared, f"/pricebook/v2{TENANT}/images", path=name)

    assert response.status_code == 302
    file = requests.get(shared.sandbox.url + response.headers["Location"])
    assert file.headers["Content-Type"] == media_type
    assert file.content.startswith(start)


def test_a_file_without_a_path_is_not_found(shared: Client) -> None:
    assert send(shared, f"/pricebook/v2{TENANT}/images").status_code == 404


def test_the_files_of_a_job_can_be_listed_and_read(shared: Client) -> None:
    for attachment in find_attachments(shared):
        file = send(shared, f"/forms/v2{TENANT}/jobs/attachment/{attachment['id']}")

        kind = "application/pdf" if attachment["fileName"].endswith(".pdf") else "image/png"
        assert file.headers["Content-Type"] == kind


def test_a_file_that_no_job_has_gets_a_404(shared: Client) -> None:
    last = find_attachments(shared)[0]["id"]
    for key in ("17", str(last + 400_000_000), "x"):
        assert send(shared, f"/forms/v2{TENANT}/jobs/attachment/{key}").status_code == 404
