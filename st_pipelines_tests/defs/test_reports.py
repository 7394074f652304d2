"""Reports in Dagster: assets, partitions, schedules, checks, runs that are tried again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest

import st_pipelines as st
from st_pipelines.component import ServiceTitanComponent
from st_pipelines.config.errors import SettingsError
from st_pipelines.definitions import build_definitions
from st_pipelines.defs.run_state import range_tags
from st_pipelines.sandbox.parameters import BadRequest
from st_pipelines.sandbox.report_definitions import PERIOD
from st_pipelines_tests.report_lab import CATEGORY, NOW, NUMBER, Lab, open_lab

YAML = f"""
reports:
  - name: daily
    category: {CATEGORY}
    report: {NUMBER}
    days: {{from: From}}
    look_back_days: 2
  - name: whole
    category: technician-dashboard
    report: Technician Performance
    parameters: {{From: "2026-01-01", To: {{date: today}}}}
    schedule: "0 5 * * 1"
  - {{name: by_hand, category: {CATEGORY}, report: 1, schedule: none}}
"""
DAILY = dg.AssetKey(["production", "reports", "daily"])
WHOLE = dg.AssetKey(["production", "reports", "whole"])


@pytest.fixture
def file(monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SERVICETITAN_TIMEZONE", "America/New_York")
    monkeypatch.setenv("SERVICETITAN_START_DATE", "2026-03-01")
    monkeypatch.setenv("SERVICETITAN_SELECT", "jpm.jobs")
    monkeypatch.setenv("SERVICETITAN_REPORT_INTERVAL_SECONDS", "0")
    file = Path("st_reports.yaml")
    file.write_text(YAML)
    return file


@pytest.fixture
def lab(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    with open_lab(tmp_path, customers=8) as lab:
        lab.sandbox.reports.settings.interval_seconds = 0
        for name, value in lab.sandbox.environment().items():
            monkeypatch.setenv(name, value)
        yield lab


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    home = tmp_path / "dagster"
    home.mkdir()
    with dg.DagsterInstance.local_temp(str(home)) as instance:
        yield instance


def build(**options: Any) -> dg.Definitions:
    return build_definitions("production", clock=lambda: NOW, **options)


def materialize(
    instance: dg.DagsterInstance, key: dg.AssetKey, *days: str, **options: Any
) -> dg.ExecuteInProcessResult:
    job = build().resolve_implicit_global_asset_job_def()
    tags = range_tags(days[0], days[-1]) if days else {}
    tags |= options.pop("tags", {})
    return job.execute_in_process(
        instance=instance, asset_selection=[key], tags=tags, raise_on_error=False, **options
    )


def metadata(instance: dg.DagsterInstance, key: dg.AssetKey) -> dict[str, Any]:
    event = instance.get_latest_materialization_event(key)
    assert event
    assert event.asset_materialization
    return {k: v.value for k, v in event.asset_materialization.metadata.items()}


def test_definitions_load_from_the_file_alone(file: Path) -> None:
    definitions = build()
    graph = definitions.resolve_asset_graph()
    assert (
        graph.get(DAILY).partitions_def
        == graph.get(dg.AssetKey(["production", "jpm", "jobs"])).partitions_def
    )
    assert graph.get(WHOLE).partitions_def is None
    assert graph.get(DAILY).group_name == "reports"
    jobs = {job.name: job for job in definitions.resolve_all_job_defs()}
    in_jobs = {
        n: {k.path[-1] for k in j.asset_layer.executable_asset_keys} for n, j in jobs.items()
    }
    assert in_jobs["reports"] == {"daily", "whole", "by_hand"}
    assert in_jobs["daily"] == in_jobs["intraday"] == in_jobs["full_refresh"] == {"jobs"}
    schedules: dict[str, Any] = {s.name: s for s in definitions.schedules or ()}
    assert schedules["report_whole"].cron_schedule == "0 5 * * 1"
    assert schedules["report_daily"].cron_schedule == schedules["daily"].cron_schedule
    assert "report_by_hand" not in schedules


def test_a_range_of_days_is_one_run_with_a_count_for_each_day(
    lab: Lab, instance: dg.DagsterInstance
) -> None:
    rows = {date(2026, 3, 3): [[1], [2]], date(2026, 3, 4): []}
    lab.serve(["N"], lambda values: rows[values["From"]], parameters=PERIOD[:1])

    result = materialize(instance, DAILY, "2026-03-03", "2026-03-04")

    assert result.success
    assert instance.get_materialized_partitions(DAILY) == {"2026-03-03", "2026-03-04"}
    facts = metadata(instance, DAILY)
    assert (facts["rows_read"], facts["contract"], facts["pages"]) == (2, "asynchronous", 1)
    columns = {c.name: c.type for c in facts["dagster/column_schema"].columns}
    assert columns["n"] == "BIGINT"
    assert all(check.passed for check in result.get_asset_check_evaluations())


def test_a_report_without_days_is_an_asset_without_partitions(
    lab: Lab, instance: dg.DagsterInstance
) -> None:
    assert materialize(instance, WHOLE).success
    facts = metadata(instance, WHOLE)
    assert facts["dagster/row_count"] == facts["rows_read"] > 0


def test_changed_columns_are_a_warning_of_the_check_schema_drift(
    lab: Lab, instance: dg.DagsterInstance
) -> None:
    lab.serve(["A", "B"], [[1, 2]], parameters=PERIOD[:1])
    materialize(instance, DAILY, "2026-03-03")
    lab.serve(["A", "C"], [["x", 2]], parameters=PERIOD[:1])

    result = materialize(instance, DAILY, "2026-03-04")

    checks = {check.check_name: check for check in result.get_asset_check_evaluations()}
    drift = checks["schema_drift"]
    assert not drift.passed
    assert drift.severity is dg.AssetCheckSeverity.WARN
    for text in ("new field 'C'", "'B' is no longer served", "becomes VARCHAR"):
        assert text in (drift.description or "")
    assert "new field 'C'" in metadata(instance, DAILY)["column_changes"]


def test_a_run_that_is_executed_again_leaves_out_the_days_it_has_loaded(
    lab: Lab, instance: dg.DagsterInstance
) -> None:
    read: list[str] = []

    def rows(values: Any) -> list[list[Any]]:
        read.append(str(values["From"]))
        if len(read) == 3:
            raise BadRequest("From", "is not valid")
        return [[1], [2]]

    lab.serve(["N"], rows, parameters=PERIOD[:1])
    days = ("2026-03-03", "2026-03-06")
    first = materialize(instance, DAILY, *days)
    assert not first.success
    assert read[2:] == ["2026-03-05"]
    group = {"dagster/root_run_id": first.run_id, "dagster/parent_run_id": first.run_id}

    again = materialize(instance, DAILY, *days, tags=group)

    assert again.success
    assert read[3:] == ["2026-03-05", "2026-03-06"]
    assert len(instance.get_materialized_partitions(DAILY)) == 4
    with duckdb.connect("data/production.duckdb") as connection:
        rows_by_day = connection.execute(
            "SELECT _partition_date::VARCHAR, count(*) FROM reports.daily GROUP BY ALL"
        ).fetchall()
    assert dict(rows_by_day) == dict.fromkeys(
        ("2026-03-03", "2026-03-04", "2026-03-05", "2026-03-06"), 2
    )
    materialize(instance, DAILY, *days)
    assert read[5:] == ["2026-03-03", "2026-03-04", "2026-03-05", "2026-03-06"]


def tick(instance: dg.DagsterInstance, name: str, at: datetime) -> Any:
    definitions = build()
    schedule = next(s for s in definitions.schedules or () if s.name == name)
    assert isinstance(schedule, dg.ScheduleDefinition)
    with dg.build_schedule_context(
        instance=instance,
        scheduled_execution_time=at,
        repository_def=definitions.get_repository_def(),
    ) as context:
        return schedule.evaluate_tick(context)


def test_a_schedule_requests_yesterday_and_the_look_back_days(
    lab: Lab, instance: dg.DagsterInstance
) -> None:
    (request,) = tick(instance, "report_daily", NOW).run_requests
    assert request.asset_selection == [DAILY]
    assert range_tags("2026-03-07", "2026-03-09").items() <= request.tags.items()
    first_day = datetime(2026, 3, 2, 12, tzinfo=timezone.utc)
    (request,) = tick(instance, "report_daily", first_day).run_requests
    assert request.partition_key == "2026-03-01"
    assert (
        "before the start date"
        in tick(instance, "report_daily", first_day - timedelta(days=1)).skip_message
    )
    (request,) = tick(instance, "report_whole", NOW).run_requests
    assert (request.asset_selection, request.partition_key) == ([WHOLE], None)
    late = tick(instance, "report_whole", NOW - timedelta(days=1))
    assert "too late" in late.skip_message


def test_a_schedule_waits_for_the_run_before_and_for_credentials(
    lab: Lab, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = build().resolve_job_def("reports")
    instance.create_run_for_job(
        job, asset_selection=frozenset({DAILY}), status=dg.DagsterRunStatus.NOT_STARTED
    )
    assert "is unfinished" in tick(instance, "report_daily", NOW).skip_message
    assert tick(instance, "report_whole", NOW).run_requests
    monkeypatch.delenv("SERVICETITAN_CLIENT_ID")
    assert "SERVICETITAN_CLIENT_ID" in tick(instance, "report_whole", NOW).skip_message


def test_a_report_that_is_gone_fails_without_a_retry_and_names_near_matches(
    lab: Lab, instance: dg.DagsterInstance
) -> None:
    result = materialize(instance, dg.AssetKey(["production", "reports", "by_hand"]))
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    reason = failure.step_failure_data.user_failure_data
    description = reason.description if reason else None
    assert description
    assert "there is no report 1 in the category" in description
    assert "st-pipelines reports list" in description


def test_the_component_takes_reports_inline_and_as_a_file(file: Path) -> None:
    entries = [{"name": "r", "category": "c", "report": 1, "days": {"from": "From"}}]
    Path("other.yaml").write_text(YAML.replace("daily", "other"))
    keys = {}
    for given in (entries, "other.yaml", None):
        component = ServiceTitanComponent(
            environment="production", select=["jpm.jobs"], key_prefix=["x"], reports=given
        )
        definitions = component.build_defs(None)  # pyright: ignore[reportArgumentType]
        found = [key.path for key in definitions.resolve_all_asset_keys()]
        keys[str(given)] = {
            path[-1] for path in found if path[:3] == ["x", "production", "reports"]
        }
    assert list(keys.values()) == [
        {"r"},
        {"other", "whole", "by_hand"},
        {"daily", "whole", "by_hand"},
    ]


@pytest.mark.parametrize(
    ("reports", "message"),
    [
        ("missing.yaml", r"reports: .*missing.yaml does not exist"),
        ([{"name": "r"}], r"reports: report 1 \(r\): `category` is missing"),
        ([{"name": "r", "category": "c", "report": 1, "schedule": "0 0 * * mon,tue#1"}], "five"),
    ],
)
def test_a_wrong_list_of_reports_is_refused_by_name(file: Path, reports: Any, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        build(reports=reports)


def test_reports_can_be_loaded_without_dagster(lab: Lab) -> None:
    lab.serve(["N"], [[7]], parameters=PERIOD[:1])
    with st.connect("production") as session:
        session.load("reports.daily", "2026-03-03", "2026-03-04")
        assert len(session.query("FROM reports.daily")) == 2
        assert session.reconcile("reports.daily") is None
    assert os.path.exists("data/production.duckdb")
