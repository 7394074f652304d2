"""No credential and no token can be read anywhere after a run, even at debug level.

The credentials carry a mark. The tests search all files (event log, compute logs, staged pages,
warehouse), everything printed and logged, and what the web server says about runs and resources.
"""

from __future__ import annotations

import base64
import http.client
import json
import logging
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import requests
import uvicorn
from dagster._core.origin import DEFAULT_DAGSTER_ENTRY_POINT
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import InProcessWorkspaceLoadTarget
from dagster_webserver.app import create_app_from_workspace_process_context
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from typer.testing import CliRunner

from st_pipelines.catalog.model import Catalog
from st_pipelines.catalog.registry import load_catalog
from st_pipelines.cli.app import app
from st_pipelines.config.errors import SettingsError
from st_pipelines.definitions import build_definitions
from st_pipelines.defs.resources import ServiceTitanResource, _refuse_plain_text_of_run
from st_pipelines.sandbox.server import Sandbox
from st_pipelines_tests.deadlines import DEADLINE

SECRET, NEXT_SECRET, OTHER_SECRET = "cs1.MARK-first/+=", "cs2.MARK-next", "cs3.MARK-other"
MARK = re.compile(rb"MARK-\w+|ak1\.sandbox")
TOKEN = re.compile(rb"eyJ[\w-]{20,}|(?i:bearer) [\w.-]{20,}")
TABLES = ("jpm.jobs",)

QUERY = """{
  runsOrError { ... on Runs { results { runId status runConfigYaml tags { key value }
    eventConnection { events { __typename ... on MessageEvent { message }
      ... on ExecutionStepFailureEvent {
        error { message stack errorChain { error { message stack } } }
        failureMetadata { description metadataEntries { label ... on TextMetadataEntry { text } } }
      }
      ... on MaterializationEvent { metadataEntries {
        label description ... on TextMetadataEntry { text } ... on MarkdownMetadataEntry { mdStr }
      } } } } } } }
  repositoriesOrError { ... on RepositoryConnection { nodes {
    allTopLevelResourceDetails { name configuredValues { key value type } } } } }
}"""


def small_catalog() -> Catalog:
    whole = load_catalog()
    return Catalog({table: whole[table] for table in TABLES})


def find_leaks(content: bytes) -> list[bytes]:
    encoded = [base64.b64encode(secret.encode()) for secret in (SECRET, NEXT_SECRET, OTHER_SECRET)]
    found = MARK.findall(content) + TOKEN.findall(content)
    return found + [text for text in encoded if text in content]


def find_leaking_files(folder: Path) -> list[tuple[str, list[bytes]]]:
    files = [file for file in folder.rglob("*") if file.is_file()]
    return [(str(file), leaks) for file in files if (leaks := find_leaks(file.read_bytes()))]


@pytest.fixture
def debugging(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Debugs as a user would: all loggers write to a file, HTTP traffic goes to standard output."""
    handler = logging.FileHandler(tmp_path / "debug.log")
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    monkeypatch.setattr(http.client.HTTPConnection, "debuglevel", 1)
    yield
    root.setLevel(before)
    root.removeHandler(handler)
    handler.close()


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as made:
        yield made


def run(instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    definitions = build_definitions("production", catalog=small_catalog())
    return definitions.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=instance,
        tags={
            "dagster/asset_partition_range_start": "2026-03-09",
            "dagster/asset_partition_range_end": "2026-03-10",
        },
        raise_on_error=False,
    )


def echo(request: Request) -> Response | None:
    """Repeats the request with its token and key in the response, as some gateways do."""
    if request.url.path.endswith("/jobs"):
        sent = json.dumps(dict(request.headers)) + SECRET + NEXT_SECRET
        return PlainTextResponse(sent, status_code=403)
    return None


def fetch_pages(instance: dg.DagsterInstance, folder: Path) -> bytes:
    """Returns what the web server says about runs, events and resources."""
    file = folder / "served.py"
    file.write_text(
        "from st_pipelines.definitions import build_definitions\n"
        "from st_pipelines_tests.test_leaks import small_catalog\n"
        "definitions = build_definitions('production', catalog=small_catalog())\n"
    )
    target = LoadableTargetOrigin(
        python_file=str(file), attribute="definitions", working_directory=str(folder)
    )
    origin = InProcessCodeLocationOrigin(
        loadable_target_origin=target,
        location_name="production",
        entry_point=DEFAULT_DAGSTER_ENTRY_POINT,
    )
    with WorkspaceProcessContext(instance, InProcessWorkspaceLoadTarget([origin])) as workspace:
        app = create_app_from_workspace_process_context(workspace)
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
        listening = socket.create_server(("127.0.0.1", 0))  # the first request waits
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        try:
            url = f"http://127.0.0.1:{listening.getsockname()[1]}/graphql"
            response = requests.post(url, json={"query": QUERY}, timeout=DEADLINE)
        finally:
            server.should_exit = True
            thread.join()
            listening.close()
    return response.content


def test_nothing_readable_has_a_secret(
    debugging: None,
    instance: dg.DagsterInstance,
    own_sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    for name, value in own_sandbox.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SERVICETITAN_CLIENT_SECRET", f'"{SECRET}"')
    monkeypatch.setenv("SERVICETITAN_CLIENT_SECRET_NEXT", NEXT_SECRET)
    monkeypatch.setenv("SERVICETITAN_START_DATE", "2026-03-01")
    own_sandbox.rotate(SECRET)
    during_run: list[Any] = []
    paths: list[str] = []

    def search_and_rotate(request: Request) -> Response | None:
        during_run.extend(find_leaking_files(tmp_path))
        paths.append(request.url.path)
        if len(paths) != 2:
            return None
        own_sandbox.rotate(NEXT_SECRET)
        return Response(status_code=401)

    own_sandbox.interceptors.append(search_and_rotate)
    assert run(instance).success
    own_sandbox.interceptors.append(echo)
    assert not run(instance).success
    own_sandbox.rotate(OTHER_SECRET)
    monkeypatch.setenv("SERVICETITAN_CLIENT_SECRET", SECRET + "x")
    assert not run(instance).success
    pages = fetch_pages(instance, tmp_path)
    data = json.loads(pages)["data"]
    printed = "".join(capfd.readouterr()).encode()

    assert during_run == []
    assert find_leaking_files(tmp_path) == []
    assert find_leaks(printed) == []
    assert find_leaks(pages) == []
    # The searched places are not empty.
    assert "/connect/token" in (tmp_path / "debug.log").read_text()
    events = str(data["runsOrError"])
    assert len(data["runsOrError"]["results"]) == 3
    assert "answered 403: " in events
    assert "invalid_client" in events
    notice = events[events.index("'label': 'credentials'") :]
    assert "accepts SERVICETITAN_CLIENT_SECRET_NEXT" in notice
    assert "servicetitan" in str(data["repositoriesOrError"])


@pytest.mark.parametrize("wrong", [False, True])
def test_a_check_shows_no_secret(
    own_sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    debugging: None,
    capfd: pytest.CaptureFixture[str],
    wrong: bool,
) -> None:
    for name, value in own_sandbox.environment().items():
        monkeypatch.setenv(name, value)
    own_sandbox.rotate(SECRET, NEXT_SECRET)
    own_sandbox.interceptors.append(echo)
    monkeypatch.setenv("SERVICETITAN_CLIENT_SECRET", OTHER_SECRET if wrong else SECRET)
    monkeypatch.setenv("SERVICETITAN_CLIENT_SECRET_NEXT", OTHER_SECRET if wrong else NEXT_SECRET)
    arguments = ["check", "--environment", "production", "--select", "jpm.jobs", "--deep", "--show"]
    for form in ("table", "json"):
        result = CliRunner().invoke(app, [*arguments, "--format", form])
        assert result.exit_code == 1
        assert ("token" if wrong else "403") in result.output
        assert not find_leaks(result.output.encode())
    printed = "".join(capfd.readouterr())
    assert not find_leaks(printed.encode())
    assert not find_leaking_files(tmp_path)


def test_a_plain_text_secret_in_a_resource_is_refused() -> None:
    """Dagster's UI would show it."""
    resource = ServiceTitanResource(environment="production", client_secret=SECRET)
    with pytest.raises(SettingsError, match=r"client_secret is given .* in plain text") as caught:
        build_definitions(
            "production", catalog=small_catalog(), resources={"servicetitan": resource}
        ).resolve_implicit_global_asset_job_def()
    assert SECRET not in str(caught.value)


def test_a_plain_text_secret_in_run_config_is_refused(
    instance: dg.DagsterInstance,
) -> None:
    job = build_definitions(
        "production", catalog=small_catalog()
    ).resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(
        instance=instance,
        run_config={
            "resources": {
                "servicetitan": {"config": {"environment": "production", "app_key": "ak1.MARK"}}
            }
        },
        asset_selection=[dg.AssetKey(["production", "jpm", "jobs"])],
        raise_on_error=False,
    )
    assert not result.success
    failures = [str(event.event_specific_data) for event in result.all_events if event.is_failure]
    assert "app_key is given to ServiceTitanResource in plain text" in str(failures)
    assert "ak1.MARK" not in str(failures)


def test_a_manager_s_secret_in_a_run_s_configuration_is_refused() -> None:
    run = dg.DagsterRun(
        job_name="daily", run_config={"resources": {"x": {"config": {"vault_token": "hvs.MARK"}}}}
    )
    with pytest.raises(SettingsError, match=r"vault_token is given .* in plain text"):
        _refuse_plain_text_of_run(run)
