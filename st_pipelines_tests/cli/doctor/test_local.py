"""`check` when something is wrong on this machine: settings, warehouse, time zone, definitions."""

from __future__ import annotations

import dataclasses
import io
import re
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path

import duckdb
import pytest
from rich.console import Console

from st_pipelines.catalog.registry import load_catalog, select
from st_pipelines.cli.doctor import loaded, local, network
from st_pipelines.cli.doctor.plausibility import doubts
from st_pipelines.cli.doctor.report import as_line
from st_pipelines.cli.doctor.subject import Subject
from st_pipelines.cli.load import load_range
from st_pipelines.config.project import resolve_environment
from st_pipelines.sync.completeness import settled_days
from st_pipelines.sync.explain import Finding
from st_pipelines.sync.session import sync_context
from st_pipelines.sync.sync import extract_load
from st_pipelines.warehouse.store.write_queue import Deadline, acquire
from st_pipelines.windows import Days, local_day, utc_now
from st_pipelines_tests.cli.doctor.check_runner import problem_lines, run_check
from st_pipelines_tests.cli.doctor.conftest import Portal
from st_pipelines_tests.deadlines import DEADLINE
from st_pipelines_tests.servicetitan.fake_server import ScriptedServer

GOOD = {
    "CLIENT_ID": "cid.abcdef",
    "CLIENT_SECRET": "cs1.abcdef",
    "APP_KEY": "ak1.abcdef",
    "TENANT_ID": "4711",
    "TIMEZONE": "America/Denver",
}


def subject() -> Subject:
    return Subject(environment="production", endpoints=select(load_catalog(), ["jpm.jobs"]))


def settings_lines(monkeypatch: pytest.MonkeyPatch, **changes: str) -> list[str]:
    """Returns the lines of the step `settings`, which uses no network."""
    for name, value in (GOOD | changes).items():
        monkeypatch.setenv(f"SERVICETITAN_{name}", value)
    return lines(list(local.check_settings(subject())))


def lines(findings: list[Finding]) -> list[str]:
    return [as_line(finding) for finding in findings]


def test_missing_settings_are_named() -> None:
    assert problem_lines() == [
        "❌ settings: production is not configured: set SERVICETITAN_CLIENT_ID, "
        "SERVICETITAN_CLIENT_SECRET, SERVICETITAN_APP_KEY, SERVICETITAN_TENANT_ID in the "
        "environment or in .env. Where there is no .env yet, st-pipelines init asks for them and "
        "writes it."
    ]


def test_a_misspelled_setting_is_named(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVICETITAN_TIMEZON", "UTC")
    assert problem_lines() == [
        "❌ settings: unknown setting SERVICETITAN_TIMEZON: did you mean SERVICETITAN_TIMEZONE?"
    ]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"CLIENT_ID": "your-client-id"},
            "❌ settings: SERVICETITAN_CLIENT_ID still holds a placeholder. Replace it with the "
            "client id.",
        ),
        (
            {"APP_KEY": "ak1.xxxxxxx"},
            "❌ settings: SERVICETITAN_APP_KEY still holds a placeholder. Replace it with the app "
            "key.",
        ),
        (
            {"CLIENT_ID": "cs2.abcdef", "CLIENT_SECRET": "cs2.abcdef"},
            "❌ settings: SERVICETITAN_CLIENT_ID holds what looks like the client secret. Replace "
            "it "
            "with the client id, which begins with cid.",
        ),
        (
            {"CLIENT_SECRET": "cs1.abc def"},
            "❌ settings: SERVICETITAN_CLIENT_SECRET contains white space. Copy the client secret "
            "again from where it is shown, without a line break.",
        ),
        (
            {"API_URL": "https://api-integration.servicetitan.io"},
            "❌ settings: SERVICETITAN_API_URL is the host of integration. Remove it: production "
            "has its own, which needs no setting.",
        ),
        (
            {"TENANT_ID": "cs1.abcdef"},
            "❌ settings: SERVICETITAN_TENANT_ID: a tenant ID is a number, without quotes",
        ),
    ],
)
def test_a_value_that_cannot_be_right_fails(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], line: str
) -> None:
    for name, value in (GOOD | changes).items():
        monkeypatch.setenv(f"SERVICETITAN_{name}", value)
    assert problem_lines()[0] == line
    assert [f.step for f in run_check() if f.status == "skipped"][:2] == ["auth host", "api host"]


def test_a_value_of_an_unusual_form_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings_lines(monkeypatch, APP_KEY="abcdef") == [
        "⚠  settings: SERVICETITAN_APP_KEY does not begin with ak1. as other app keys do. If the "
        "token or the first request is refused, check this value first.",
        "✅ settings: complete, for tenant 4711 at api.servicetitan.io",
    ]


def test_the_same_credentials_in_two_environments_are_a_warning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("CLIENT_ID", "CLIENT_SECRET", "APP_KEY"):
        monkeypatch.setenv(f"SERVICETITAN_INTEGRATION_{name}", GOOD[name])
    assert settings_lines(monkeypatch)[0] == (
        "⚠  settings: integration has the same client id and client secret. Each environment and "
        "tenant has its own; only the app key is the same."
    )


def test_copied_quotes_are_doubted() -> None:
    """Docker's env files pass them on. The settings may remove them, and `init` does."""
    [doubt] = doubts({"client_secret": '"cs1.abcdef"'})
    assert (doubt.code, doubt.text, doubt.hint) == (
        "quotes",
        "begins or ends with a quote",
        "Remove the quotes: Docker's and systemd's env files pass them on.",
    )


@pytest.mark.parametrize(
    "value",
    ["<client id>", "your-client-id", "xxx", "cid.xxx", "cid.", "CHANGE_ME", "...", "${ID}"],
)
def test_placeholders_are_recognized(value: str) -> None:
    [doubt] = doubts({"client_id": value})
    assert (doubt.code, doubt.sure) == ("placeholder", True)


@pytest.mark.parametrize(
    "values",
    [
        {"client_id": "cid.7hk2thexxx", "client_secret": "cs12.your", "app_key": "ak1.q"},
        {"tenant_id": "1000000001"},
    ],
)
def test_real_values_are_not_doubted(values: dict[str, str]) -> None:
    assert list(doubts(values)) == []


def test_a_wrong_history_setting_is_reported(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ST_HISTORY", "jpm.jbos")
    assert problem_lines() == [
        "❌ settings: ST_HISTORY: no table 'jpm.jbos': did you mean jpm.jobs or "
        "jpm.job_types or jpm.job_notes?"
    ]


def test_a_wrong_warehouse_setting_is_reported_by_its_step(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ST_PUBLISH_SECONDS", "often")
    assert problem_lines()[-1] == (
        "❌ warehouse: ST_PUBLISH_SECONDS: 'often' is not a number of seconds: give one such as "
        "300, or 0 to publish no read copy"
    )


@pytest.mark.parametrize("zone", [None, "UTC"])
def test_a_missing_time_zone_is_a_warning(
    portal: Portal, monkeypatch: pytest.MonkeyPatch, zone: str | None
) -> None:
    portal()
    if zone is None:
        monkeypatch.delenv("SERVICETITAN_TIMEZONE")
    else:
        monkeypatch.setenv("SERVICETITAN_TIMEZONE", zone)
    assert problem_lines() == [
        "⚠  time zone: SERVICETITAN_TIMEZONE is not set or is UTC, so days begin at midnight UTC. "
        "Set your company's time zone, such as America/New_York, before the first load: it decides "
        "which day a record belongs to."
    ]


@pytest.fixture
def warehouse(tmp_path: Path) -> Path:
    file = tmp_path / "data" / "production.duckdb"
    file.parent.mkdir()
    duckdb.connect(str(file)).close()
    file.chmod(0o600)
    return file


def warehouse_lines(**options: int) -> list[str]:
    return lines(list(local.check_warehouse(subject(), **options)))


def test_a_writable_warehouse_passes(warehouse: Path) -> None:
    [line] = warehouse_lines()
    assert re.match(
        re.escape(f"✅ warehouse: {warehouse}: ") + r"[1-9][\d.]* [kM]B, writable; ", line
    )


def last_settled_day() -> date:
    """Yesterday, or the day before until the daily run has had its time."""
    days = settled_days(resolve_environment("production").settings, utc_now())
    assert days
    return days.last


def test_tables_that_lack_days_are_named(portal: Portal, monkeypatch: pytest.MonkeyPatch) -> None:
    portal()
    today = local_day(utc_now(), "UTC")
    start = today - timedelta(days=10)
    monkeypatch.setenv("SERVICETITAN_START_DATE", str(start))
    tables = ["crm.customers", "jpm.jobs", "settings.user_roles"]
    said = [as_line(f) for f in run_check(selection=tables) if f.step == "history"]
    assert said == ["✅ history: nothing is loaded yet: st-pipelines load --environment production"]
    days = Days(first=start + timedelta(days=4), last=today, timezone="UTC")
    with sync_context(resolve_environment("production"), "test") as job:
        extract_load(job, load_catalog()["jpm.jobs"], days)
        before = last_settled_day()
        lacking = [f for f in run_check(selection=tables) if f.code == "history"]
        assert [finding.items for finding in lacking] == [("crm.customers", "jpm.jobs")]
        first = f"4 days from {start} to {start + timedelta(days=3)}"
        whole = [  # the day may settle while the check runs
            f"days are missing in 2 of 2 tables (crm.customers: {(last - start).days + 1} days "
            f"from {start} to {last}, "
            for last in (before, last_settled_day())
        ]
        assert lacking[0].text.startswith(tuple(whole))
        assert f"jpm.jobs: {first}" in lacking[0].text
        for table in ("jpm.jobs", "crm.customers"):
            everything = Days(first=start, last=today, timezone="UTC", open_start=True)
            extract_load(job, load_catalog()[table], everything)
    said = [as_line(f) for f in run_check(selection=tables) if f.step == "history"]
    assert said == ["✅ history: 2 tables loaded from the beginning"]


def history_lines(tables: list[str]) -> list[str]:
    return [as_line(f) for f in run_check(selection=tables) if f.step == "history"]


def test_a_later_start_date_does_not_call_an_ordinary_day_the_beginning(
    portal: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One old day was loaded as the first, then the last days; between them months were missing."""
    portal()
    today = local_day(utc_now(), "UTC")
    old, recent = today - timedelta(days=300), today - timedelta(days=8)
    monkeypatch.setenv("SERVICETITAN_START_DATE", str(old))
    with sync_context(resolve_environment("production"), "test") as job:
        jobs = load_catalog()["jpm.jobs"]
        extract_load(job, jobs, Days(first=old, last=old, timezone="UTC", open_start=True))
        extract_load(job, jobs, Days(first=recent, last=today, timezone="UTC"))
        monkeypatch.setenv("SERVICETITAN_START_DATE", str(recent))
        [line] = history_lines(["jpm.jobs"])
        assert f"days are missing in 1 of 1 table (jpm.jobs: {recent})" in line
        job = dataclasses.replace(job, start_date=recent)
        extract_load(job, jobs, Days(first=recent, last=recent, timezone="UTC", open_start=True))
    assert history_lines(["jpm.jobs"]) == [
        f"✅ history: the start date was {old}: rows of the days since stay in the tables",
        "✅ history: 1 table loaded from the beginning",
    ]


def test_a_load_of_a_moment_ago_is_not_from_the_future(
    portal: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`Date` is cut to a second, so the hosts' clock may seem to be half a second behind."""
    portal()

    def measure(subject: Subject, *_: object) -> None:
        subject.skew = timedelta(seconds=-0.5)
        before = utc_now()
        assert before <= loaded._now(subject) <= utc_now()
        measured.append(subject)

    measured: list[Subject] = []
    monkeypatch.setattr(network, "_measure_skew", measure)
    run_check(selection=["settings.user_roles"])
    assert measured


def test_a_table_that_is_no_longer_selected_is_named(
    portal: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    portal()
    with sync_context(resolve_environment("production"), "test") as job:
        extract_load(job, load_catalog()["settings.user_roles"], None)
    monkeypatch.setenv("SERVICETITAN_SELECT", "settings.business_units")
    [line, _] = history_lines(["settings.business_units"])
    assert "1 table in the warehouse no longer refreshed (settings.user_roles)" in line
    assert "SERVICETITAN_SELECT or the catalog leaves them out" in line


def test_loads_from_the_future_by_the_servers_clock_are_named(portal: Portal) -> None:
    """They count for no day, so days were loaded again and again without anybody knowing why."""
    portal()
    config = resolve_environment("production")
    with sync_context(config, "test") as job:
        extract_load(job, load_catalog()["settings.user_roles"], None)

    def date_load(minutes: int) -> None:
        with duckdb.connect(str(config.warehouse_uri)) as warehouse:
            warehouse.execute("UPDATE _st.loads SET loaded_at = now() + to_minutes(?)", [minutes])

    assert not future_loads()
    date_load(8)
    [finding] = future_loads()
    assert finding.items == ("settings.user_roles",)
    assert as_line(finding).startswith("⚠  history: loads from the future in 1 table (settings.")
    portal("wrong-clock:600")  # our clock is behind: by the server's, the load is in the past
    assert not future_loads()
    date_load(0)
    portal("wrong-clock:-600")
    assert future_loads()


def future_loads() -> list[Finding]:
    return [f for f in run_check(selection=["settings.user_roles"]) if f.code == "future-loads"]


def step_lines(name: str) -> list[str]:
    return [as_line(f) for f in run_check(selection=["settings.user_roles"]) if f.step == name]


def test_the_time_zone_is_compared_with_that_of_the_rows(
    portal: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    portal()
    with sync_context(resolve_environment("production"), "test") as job:
        extract_load(job, load_catalog()["settings.user_roles"], None)
    monkeypatch.setenv("SERVICETITAN_TIMEZONE", "America/Denver")
    assert step_lines("time zone") == [
        "✅ time zone: America/Denver; the next load moves all rows from their days in "
        "America/New_York"
    ]
    monkeypatch.delenv("SERVICETITAN_TIMEZONE")
    [line] = step_lines("time zone")
    assert line.startswith("❌ time zone: SERVICETITAN_TIMEZONE is UTC, but the rows")
    assert "UTC is only the default, as the setting is missing" in line


@pytest.mark.parametrize("source", ["environment", "dotenv"])
def test_a_warehouse_that_dagster_does_not_know_fails(
    portal: Portal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: str
) -> None:
    portal()
    if source == "environment":
        monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    else:
        monkeypatch.delenv("DAGSTER_HOME", raising=False)
        with Path(".env").open("a") as dotenv:
            dotenv.write(f"\nDAGSTER_HOME={tmp_path}\n")
    monkeypatch.setenv("SERVICETITAN_SELECT", "settings.user_roles")
    assert load_range("production", [], Console(quiet=True)) == 0
    well = ["✅ history: 0 tables loaded from the beginning"]
    assert step_lines("history") == well
    Path("data/production.duckdb").rename("data/other")
    [line, _] = step_lines("history")
    assert "is missing or empty, but Dagster has loads of 1 table (settings.user_roles)" in line
    console = Console(record=True, width=400, quiet=False, file=io.StringIO())
    with sync_context(resolve_environment("production"), "test") as job:
        extract_load(job, load_catalog()["settings.user_roles"], None)
    [line, _] = step_lines("history")
    assert "is not the one that Dagster recorded for 1 table (settings.user_roles)" in line
    assert line.startswith("❌ history: ")
    assert load_range("production", [], console) == 0
    assert "is not the one that Dagster recorded for 1 table" in console.export_text()
    assert step_lines("history") == well
    monkeypatch.setenv("SERVICETITAN_TENANT_ID", "12")
    [line] = step_lines("history")
    assert "DAGSTER_HOME has loads of tenant" in line


def test_a_warehouse_of_another_environment_fails(
    portal: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    portal(prefix="SERVICETITAN_INTEGRATION_")
    with sync_context(resolve_environment("integration"), "test") as job:
        extract_load(job, load_catalog()["settings.user_roles"], None)
    Path("data/integration.duckdb").rename("data/production.duckdb")
    portal()
    [line] = [line for line in problem_lines() if "history" in line]
    assert line.startswith("❌ history: this warehouse holds the tables of integration")


def test_the_check_creates_no_warehouse() -> None:
    [line] = warehouse_lines()
    assert "does not exist yet, the first load creates it" in line
    assert not Path("data/production.duckdb").exists()


def test_a_warehouse_that_another_program_holds_fails(warehouse: Path) -> None:
    script = f"import duckdb; c = duckdb.connect({str(warehouse)!r}); print('held'); input()"
    holder = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        [line] = [t for t in problem_lines() if "warehouse" in t]
    finally:
        holder.communicate("\n", timeout=DEADLINE)
    program = Path(sys.executable).resolve()
    assert line == (
        f"❌ warehouse: {warehouse} is held by process {holder.pid} "
        f"({program}): close it there (a DuckDB shell or notebook keeps the file to itself), or "
        "wait for its load"
    )


def test_a_warehouse_that_a_load_is_writing_is_a_warning(warehouse: Path) -> None:
    with acquire(Path("data/production.duckdb"), Deadline(0), "jpm.jobs, run 1a2b"):
        [line] = warehouse_lines()
    assert line.startswith(f"⚠  warehouse: {warehouse} is held by process ")
    assert line.endswith(": jpm.jobs, run 1a2b): wait for its load")


def test_a_warehouse_folder_that_is_a_file_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "notes").write_text("text")
    monkeypatch.setenv("ST_WAREHOUSE_DIR", "notes")
    assert [t for t in problem_lines() if "warehouse" in t] == [
        f"❌ warehouse: ST_WAREHOUSE_DIR is 'notes': {tmp_path}/notes is a file: name a folder"
    ]


def test_a_nearly_full_disk_is_a_warning(warehouse: Path) -> None:
    [line] = warehouse_lines(min_free_bytes=10**18)
    assert line.startswith(f"⚠  warehouse: {warehouse}: ")
    assert line.endswith(
        " GB are free on its disk. A load needs space for staged records, and a read copy as much "
        "as the warehouse: free some space, or set ST_WAREHOUSE_DIR to a folder on another disk."
    )


def test_definitions_that_load_pass() -> None:
    """It says nothing of dagster dev: the token may be refused."""
    number = len(select(load_catalog(), []))
    everything = Subject(environment="production", endpoints=select(load_catalog(), []))
    assert lines(list(local.check_definitions(everything))) == [
        f"✅ definitions: Dagster loads {number} assets"
    ]
    assert lines(list(local.check_definitions(subject()))) == [
        f"✅ definitions: Dagster loads {number} assets; this check is about 1 of them"
    ]


def test_definitions_that_do_not_load_fail() -> None:
    looking = subject()
    Path("st_catalog.json").write_text("[]")
    [line] = lines(list(local.check_definitions(looking)))
    assert line == (
        f"❌ definitions: Dagster cannot load them: {Path('st_catalog.json').absolute()}: expected "
        "an object of tables, {'jpm.jobs': {...}}"
    )
