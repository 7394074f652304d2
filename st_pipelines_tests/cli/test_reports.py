"""`st-pipelines reports`: list, show, add and run, against a sandbox."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml
from typer.testing import CliRunner, Result

from st_pipelines.catalog.model import build_report_endpoint
from st_pipelines.catalog.report import Report
from st_pipelines.cli import reports_run
from st_pipelines.cli.app import app
from st_pipelines.cli.reports_add import Answers, Questions, build_entry
from st_pipelines.cli.reports_run import describe_plan, format_duration
from st_pipelines.config.project import resolve_environment
from st_pipelines.sandbox.server import Sandbox
from st_pipelines.servicetitan.http.model import ReadStats
from st_pipelines.sync.report_backfill import plan_backfill
from st_pipelines.windows import midnight
from st_pipelines_tests.report_lab import NOW, ZONE, MovedClock, connect, span
from st_pipelines_tests.sandbox.report_client import ReportClient

FILE = Path("st_reports.yaml")


@pytest.fixture(scope="module")
def running() -> Iterator[Sandbox]:
    with Sandbox(customers=60, history_days=40, now=NOW, requests_per_second=1e9) as sandbox:
        sandbox.reports.settings.interval_seconds = 0
        yield sandbox


@pytest.fixture
def sandbox(running: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Sandbox:
    for name, value in running.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SERVICETITAN_TIMEZONE", ZONE)
    monkeypatch.setenv("SERVICETITAN_START_DATE", "2026-03-02")
    monkeypatch.setenv("SERVICETITAN_REPORT_INTERVAL_SECONDS", "0")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(reports_run, "utc_now", lambda: NOW)
    return running


def find_id(sandbox: Sandbox, name: str) -> int:
    reports = sandbox.reports.list(sandbox.tenant_id)
    return next(report.id for report in reports if report.name.startswith(name))


def invoke(*arguments: str) -> Result:
    command, *rest = arguments
    return CliRunner().invoke(app, ["reports", command, "--environment", "production", *rest])


def add(*options: str) -> Result:
    return invoke("add", *options)


def entries() -> list[dict[str, Any]]:
    return yaml.safe_load(FILE.read_text())["reports"]


def test_list_shows_categories_ids_names_and_tables(sandbox: Sandbox) -> None:
    identity = find_id(sandbox, "Calls")
    FILE.write_text(f"reports: [{{name: calls, category: operations, report: {identity}}}]")
    shown = invoke("list").output
    line = next(line for line in shown.splitlines() if "Calls and Bookings" in line)
    for text in ("operations", str(identity), "reports.calls"):
        assert text in line
    found = json.loads(invoke("list", "--category", "operations", "--format", "json").output)
    assert {(each["category"], each["id"]) for each in found} == {
        ("operations", identity),
        ("operations", find_id(sandbox, "Jobs")),
    }


def test_list_of_an_unknown_category_names_the_known_ones(sandbox: Sandbox) -> None:
    with pytest.raises(ValueError, match=r"no category 'x': name one of .*operations"):
        raise_error(invoke("list", "--category", "x"))


def raise_error(result: Result) -> None:
    assert result.exception
    raise result.exception


def test_show_has_parameters_with_their_values_and_fields(sandbox: Sandbox) -> None:
    shown = invoke("show", "operations", "Jobs by Date").output
    for text in ("DateType", "Invoice Date", "required", "ScheduledDate", "Subtotal"):
        assert text in shown
    content = json.loads(invoke("show", "operations", "Jobs by Date", "--format", "json").output)
    date_type = next(p for p in content["parameters"] if p["name"] == "DateType")
    assert [name for _, name in date_type["values"]]


def read_revenue_days(sandbox: Sandbox) -> dict[str, list[str]]:
    """The days with revenue of each business unit, as the report has them, by its name."""
    client = ReportClient(sandbox)
    rows = client.read_rows_of(
        client.find_report("Revenue"), From="2026-03-02", To="2026-03-09", IncludeInactive=True
    )
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(row["Name"], []).append(row["Date"])
    return found


def test_add_writes_an_entry_that_run_loads(sandbox: Sandbox) -> None:
    days_of = read_revenue_days(sandbox)
    name = max(days_of, key=lambda unit: len(days_of[unit]))
    assert len(days_of) > 1 < len(days_of[name]), "another unit, and another day"
    result = add(
        *("--category", "business-unit-dashboard", "--report", "revenue by business unit and day"),
        *("--name", "revenue", "--look-back-days", "1", "--parameter", "IncludeInactive=true"),
        *("--parameter", f"BusinessUnitIds={name}", "--schedule", "30 4 * * *"),
    )
    assert result.exit_code == 0, result.output
    (entry,) = entries()
    units = {u["name"]: u["id"] for u in sandbox.world.records("settings.business_units")}
    assert entry == {
        "name": "revenue",
        "category": "business-unit-dashboard",
        "report": find_id(sandbox, "Revenue"),
        "parameters": {
            "BusinessUnitIds": [units[name]],
            "IncludeInactive": True,
        },
        "days": {"from": "From", "to": "To"},
        "look_back_days": 1,
        "schedule": "30 4 * * *",
        "environments": ["production"],
    }
    assert "st-pipelines reports run --environment production revenue" in result.output

    loaded = invoke("run", "revenue")

    assert loaded.exit_code == 0, loaded.output
    assert "revenue: 8 days from 2026-03-02 to 2026-03-09, 8 runs" in loaded.output
    with duckdb.connect("data/production.duckdb") as connection:
        loaded_rows = connection.execute(
            "SELECT _partition_date::VARCHAR, name FROM reports.revenue"
        ).fetchall()
    assert sorted(loaded_rows) == sorted((day, name) for day in days_of[name])


def test_add_takes_a_report_that_is_read_whole(sandbox: Sandbox) -> None:
    result = add(
        *("--category", "Technician Dashboard", "--report", "Technician Performance", "--whole"),
        *("--parameter", "From=month_start-1m", "--parameter", "To=2026-03-01"),
        *("--contract", "sync"),
    )
    assert result.exit_code == 0, result.output
    (entry,) = entries()
    assert entry["name"] == "technician_performance"
    assert entry["parameters"] == {"From": {"date": "month_start-1m"}, "To": "2026-03-01"}
    assert entry["contract"] == "sync"
    assert "days" not in entry


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--report", "5"], r"--category is missing: give it, or run this in a terminal"),
        (["--category", "operations"], r"--report is missing"),
        (
            ["--category", "operations", "--report", "Jobs by Date"],
            r"--parameter DateType=\.\.\. is missing",
        ),
        (
            ["--category", "operations", "--report", "Jobs by Date", "--parameter", "DateType=x"],
            r"DateType does not accept 'x': it accepts .*Invoice Date",
        ),
        (
            ["--category", "operations", "--report", "Jobs by Date", "--parameter", "Type=1"],
            r"no parameter 'Type': it has DateType, From, To, BusinessUnitId",
        ),
        (
            ["--category", "operations", "--report", "Jobs by Date", "--parameter", "DateType"],
            r"--parameter 'DateType': write it as NAME=VALUE",
        ),
        (
            ["--category", "operations", "--report", "Jobs by Date", "--from-parameter", "Day"],
            r"'Day' is not a date parameter of the report: it has From, To",
        ),
        (
            ["--category", "operations", "--report", "Calls and Bookings by Day", "--whole"],
            r"--parameter From=\.\.\. is missing",
        ),
        (
            [
                *("--category", "operations", "--report", "Calls and Bookings by Day", "--whole"),
                *("--parameter", "From=soon", "--parameter", "To=today"),
            ],
            r"'soon' is not a relative date",
        ),
        (
            ["--category", "operations", "--report", "Call and Booking"],
            r"Similar names have: category operations, report \d+ \(Calls and Bookings by Day\)",
        ),
    ],
)
def test_add_says_what_is_missing_or_wrong(
    sandbox: Sandbox, options: list[str], message: str
) -> None:
    with pytest.raises(Exception, match=message):
        raise_error(add(*options))
    assert not FILE.exists()


def test_add_asks_in_a_terminal(sandbox: Sandbox) -> None:
    asked: list[str] = []
    answers = {
        "Category": "operations",
        "Report": str(find_id(sandbox, "Jobs")),
        "DateType (Filter By)": "Job Completion Date",
        "BusinessUnitId (Business Unit)": "",
        "Name of the table": "jobs",
        "Look-back days": "2",
    }

    class InTerminal(Questions):
        def ask(self, text: str, option: str, default: str | None = None) -> str:
            asked.append(text)
            return answers[text]

        def confirm(self, text: str) -> bool:
            asked.append(text)
            return True

    client = connect(sandbox, MovedClock())
    config = resolve_environment("production")
    questions = InTerminal(is_terminal=lambda: True)
    entry, _ = build_entry(client.session(ReadStats()), config, Answers(), questions)
    assert (entry["name"], entry["look_back_days"]) == ("jobs", 2)
    assert entry["days"] == {"from": "From", "to": "To"}
    assert set(entry["parameters"]) == {"DateType"}
    assert set(asked) == {*answers, "Load it by days, with From and To as the day?"}


def write_calls(sandbox: Sandbox, **changes: Any) -> None:
    entry = {
        "name": "calls",
        "category": "operations",
        "report": find_id(sandbox, "Calls"),
        "days": {"from": "From", "to": "To"},
    }
    FILE.write_text(yaml.safe_dump({"reports": [entry | changes]}))


def test_run_states_the_duration_before_it_loads(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_calls(sandbox)
    monkeypatch.setenv("SERVICETITAN_REPORT_INTERVAL_SECONDS", "60")
    monkeypatch.setenv("SERVICETITAN_START_DATE", "2024-03-10")
    shown = invoke("run", "--plan").output
    assert "730 days from 2024-03-10 to 2026-03-09, 730 runs, one every 60 s: 12 h 9 min" in shown
    assert "the same command continues" in shown
    assert not Path("data").exists()


def test_run_continues_where_it_was_and_reads_the_look_back_days_again(sandbox: Sandbox) -> None:
    write_calls(sandbox, look_back_days=2)
    assert invoke("run", "--from", "2026-03-02", "--to", "2026-03-05").exit_code == 0
    shown = invoke("run").output
    # This machine's clock is after all of these days, so what was loaded is final.
    assert "4 days from 2026-03-06 to 2026-03-09 (4 days loaded before)" in shown
    assert "nothing to read (8 days loaded before)" in invoke("run").output
    assert "8 days from 2026-03-02 to 2026-03-09, 8 runs" in invoke("run", "--again").output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["cals"], r"no report 'cals' in st_reports.yaml: did you mean calls\?"),
        (["--from", "2020-01-01"], r"2020-01-01 is before the start date 2026-03-02"),
        (["--to", "2026-03-11"], r"is not a range of days up to today, 2026-03-10"),
        (["--from", "2026-03-05", "--to", "2026-03-04"], r"is not a range of days"),
    ],
)
def test_run_refuses_what_it_cannot_load(
    sandbox: Sandbox, arguments: list[str], message: str
) -> None:
    write_calls(sandbox)
    with pytest.raises(Exception, match=message):
        raise_error(invoke("run", *arguments))


def test_run_without_reports_says_how_to_add_one(sandbox: Sandbox) -> None:
    with pytest.raises(Exception, match=r"there is no file .*st_reports.yaml: .* reports add"):
        raise_error(invoke("run"))
    Path("st_reports.yaml").write_text("{}\n")
    with pytest.raises(Exception, match=r"has no report for production: .* reports add"):
        raise_error(invoke("run"))


def test_load_leaves_reports_out_unless_they_are_named(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVICETITAN_SELECT", "settings.user_roles")
    write_calls(sandbox)
    assert loaded_tables() == {"user_roles"}
    assert loaded_tables("--select", "reports") == {"calls", "user_roles"}


def loaded_tables(*options: str) -> set[str]:
    arguments = ["load", "--environment", "production", "--from", "2026-03-08", *options]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    with duckdb.connect("data/production.duckdb") as connection:
        return {row[0] for row in connection.execute("SELECT endpoint FROM _st.loads").fetchall()}


def test_the_scopes_of_reports_are_those_that_reading_them_needs(sandbox: Sandbox) -> None:
    write_calls(sandbox)
    result = CliRunner().invoke(app, ["scopes", "--select", "reports", "--format", "text"])
    assert result.output.split() == ["tn.rpr.reports:r"]
    checked = CliRunner().invoke(
        app, ["check", "--environment", "production", "--select", "reports", "--deep"]
    )
    assert "1 endpoint can be read" in checked.output, checked.output


DAILY = Report(name="r", category="c", report=1, from_parameter="From", look_back_days=2)


def plan(loaded_at: dict[str, datetime], **options: Any) -> list[str]:
    days = span("2026-03-02", "2026-03-06")
    assert days
    windows = {}
    for day, moment in loaded_at.items():
        start = midnight(date.fromisoformat(day), ZONE)
        following = date.fromordinal(date.fromisoformat(day).toordinal() + 1)
        windows[start, midnight(following, ZONE)] = moment
    found = plan_backfill(
        build_report_endpoint(DAILY), days, windows, interval_seconds=60, **options
    )
    return [day.isoformat()[-2:] for day in found.days]


def test_a_day_is_done_once_it_was_read_after_its_look_back_days() -> None:
    early, late = (datetime(2026, 3, day, 6, tzinfo=timezone.utc) for day in (5, 6))
    loaded = {"2026-03-02": early, "2026-03-03": early, "2026-03-04": late}
    assert plan(loaded) == ["03", "04", "05", "06"]
    assert plan(loaded, again=True) == ["02", "03", "04", "05", "06"]
    assert plan({}) == ["02", "03", "04", "05", "06"]


def test_ranges_have_no_gap_and_a_length() -> None:
    days = span("2026-03-01", "2026-03-09")
    assert days
    found = plan_backfill(build_report_endpoint(DAILY), days, {}, interval_seconds=60)
    ranges = [(first.day, last.day) for first, last in found.ranges(4)]
    assert ranges == [(1, 4), (5, 8), (9, 9)]
    assert describe_plan(found).endswith(
        "9 days from 2026-03-01 to 2026-03-09, 9 runs, one every 60 s: 8 min"
    )


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (29, "29 s"), (90, "2 min"), (43740, "12 h 9 min")]
)
def test_durations_are_said_in_hours_and_minutes(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
