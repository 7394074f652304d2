"""The assets of files on a real Dagster instance, against the sandbox."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from starlette.requests import Request
from starlette.responses import Response

from st_pipelines.config.errors import SettingsError
from st_pipelines.definitions import build_definitions
from st_pipelines.sandbox.server import Sandbox
from st_pipelines_tests.churn_reader import query
from st_pipelines_tests.conftest import NOW

RECORDINGS = dg.AssetKey(["production", "files", "recordings"])
CALLS = dg.AssetKey(["production", "telecom", "calls"])


@pytest.fixture(scope="module")
def company() -> Iterator[Sandbox]:
    with Sandbox(customers=12, seed=4, now=NOW, requests_per_second=1e9) as running:
        yield running


@pytest.fixture
def configured(company: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for name, value in company.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SERVICETITAN_START_DATE", "2026-03-01")
    monkeypatch.setenv("SERVICETITAN_TIMEZONE", "America/New_York")
    monkeypatch.setenv("SERVICETITAN_SELECT", "telecom.calls")
    monkeypatch.setenv("ST_FILES", "recordings")
    return tmp_path / "data"


def materialize(
    instance: dg.DagsterInstance, *keys: dg.AssetKey, **config: Any
) -> dg.ExecuteInProcessResult:
    job = build_definitions("production").resolve_implicit_global_asset_job_def()
    ops = {"production__files__recordings": {"config": config}}
    return job.execute_in_process(
        instance=instance,
        tags={
            "dagster/asset_partition_range_start": "2026-03-01",
            "dagster/asset_partition_range_end": "2026-03-10",
        },
        run_config={"ops": ops} if config else None,
        raise_on_error=False,
        asset_selection=list(keys),
    )


def facts_of(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    (event,) = result.get_asset_materialization_events()[-1:]
    metadata = event.step_materialization_data.materialization.metadata
    return {name: entry.value for name, entry in metadata.items()}


def test_an_asset_follows_its_source_in_one_run_and_goes_on_in_the_next(
    configured: Path, tmp_path: Path
) -> None:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        first = materialize(instance, CALLS, RECORDINGS, limit=7)
        assert first.success
        facts = facts_of(first)
        assert facts["stored"] + facts["missing"] == 7
        assert facts["left"] == facts["due"] - 7 > 0
        assert facts["rows_in_table"] == facts["dagster/row_count"] == 7
        second = facts_of(materialize(instance, RECORDINGS))
        assert (second["due"], second["left"]) == (facts["left"], 0)
        events = instance.all_logs(first.run_id)
        assert [e for e in events if "call recordings: 7 to download" in e.user_message]
        text = " ".join(event.user_message for event in events)
        assert ".wav" not in text
        calls = query(configured / "production.duckdb", "SELECT id::VARCHAR FROM telecom.calls")
        assert not [id_ for (id_,) in calls if id_ in text]
    stored = query(
        configured / "production.duckdb", "SELECT path FROM files.recordings WHERE path IS NOT NULL"
    )
    folder = configured / "files"
    assert {path for (path,) in stored} == {
        str(file.relative_to(folder)) for file in folder.rglob("*.wav")
    }
    assert stored


def test_a_file_that_fails_is_a_warning_and_a_refusal_fails_the_step(
    company: Sandbox, configured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = 400

    def refuse(request: Request) -> Response | None:
        if request.url.path.endswith("/recording"):
            return Response(status_code=status)
        return None

    company.interceptors.append(refuse)
    monkeypatch.setattr("st_pipelines.defs.failures.FIRST_DELAY", 0)
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        result = materialize(instance, CALLS, RECORDINGS, limit=2)
        assert result.success
        (check,) = [e for e in result.get_asset_check_evaluations() if e.check_name == "downloads"]
        assert not check.passed
        assert check.severity == dg.AssetCheckSeverity.WARN
        assert "2 files could not be downloaded: BadRequest, status 400" in str(check.description)
        status = 403
        result = materialize(instance, RECORDINGS, limit=2)
        assert not result.success
        (failure,) = [e for e in result.all_events if e.is_step_failure]
        assert "tn.tlc.calls:r" in str(failure.step_failure_data.user_failure_data)
    company.interceptors.clear()


def test_files_are_opt_in_and_belong_to_the_jobs_of_assets_without_partitions(
    configured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    definitions = build_definitions("production")
    graph = definitions.resolve_asset_graph()
    assert graph.get(RECORDINGS).parent_keys == {CALLS}
    for job in ("daily", "snapshots", "files", "full_refresh"):
        nodes = definitions.resolve_job_def(job).asset_layer.executable_asset_keys
        assert RECORDINGS in nodes, job
    assert RECORDINGS not in definitions.resolve_job_def("intraday").asset_layer.selected_asset_keys
    monkeypatch.delenv("ST_FILES")
    assert RECORDINGS not in build_definitions("production").resolve_all_asset_keys()


def test_a_kind_whose_source_is_not_selected_is_an_error_or_left_out(
    configured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ST_FILES", "recordings,pricebook_images")
    with pytest.raises(SettingsError, match=r"pricebook_images.*add it to SERVICETITAN_SELECT"):
        build_definitions("production")
    keys = build_definitions("production", select="pricebook.services").resolve_all_asset_keys()
    assert dg.AssetKey(["production", "files", "pricebook_images"]) in keys
    assert RECORDINGS not in keys
    prefixed = build_definitions("production", select="telecom", key_prefix="st")
    assert dg.AssetKey(["st", *RECORDINGS.path]) in prefixed.resolve_all_asset_keys()
