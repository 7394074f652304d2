"""An endpoint that ServiceTitan's documents no longer have is loaded until it is gone."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from st_pipelines.catalog.registry import load_catalog
from st_pipelines.sandbox.server import Sandbox
from st_pipelines.servicetitan.errors.errors import EndpointRemoved, WrongPath
from st_pipelines.servicetitan.http.retry import NO_WAIT
from st_pipelines.sync.explain import diagnose
from st_pipelines.sync.sync import extract_load, reconcile
from st_pipelines_tests.churn_reader import build_context, query

ROLES = load_catalog()["settings.user_roles"]
REMOVED = dataclasses.replace(ROLES, removed=True)


def refuse(request: Request) -> Response | None:
    found = request.url.path.endswith("/user-roles")
    return JSONResponse({"title": "Not Found", "status": 404}, 404) if found else None


@pytest.mark.parametrize("load", [lambda c, e: extract_load(c, e, None), reconcile])
def test_it_is_loaded_as_others_are_and_keeps_its_rows_when_it_is_gone(
    own_sandbox: Sandbox, tmp_path: Path, load
) -> None:
    context = build_context(own_sandbox, tmp_path / "x.duckdb", NO_WAIT)
    report = load(context, REMOVED)
    assert report.loaded.table_rows
    own_sandbox.interceptors.append(refuse)
    with pytest.raises(EndpointRemoved) as caught:
        load(context, REMOVED)
    found = diagnose(caught.value)
    assert found.code == "endpoint-removed"
    assert "ServiceTitan no longer serves settings.user_roles" in found.line
    assert "answered 404" in found.line
    assert "Leave settings.user_roles out of the selection" in found.line
    rows = query(tmp_path / "x.duckdb", "SELECT count(*) FROM settings.user_roles")
    assert rows == [(report.loaded.table_rows,)]


def test_a_404_of_an_endpoint_that_the_documents_have_is_not_taken_for_a_removal(
    own_sandbox: Sandbox, tmp_path: Path
) -> None:
    context = build_context(own_sandbox, tmp_path / "x.duckdb", NO_WAIT)
    own_sandbox.interceptors.append(refuse)
    with pytest.raises(WrongPath) as caught:
        extract_load(context, ROLES, None)
    assert type(caught.value) is WrongPath
