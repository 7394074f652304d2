"""`dagster dev` as a user runs it, with two sandboxes, driven through its web pages."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from datetime import date, datetime, timedelta, timezone
from pathlib import Path

import duckdb
import pytest

from st_pipelines.sandbox.server import Sandbox
from st_pipelines_tests.browser import CHROMIUM, DRIVER, Browser
from st_pipelines_tests.deadlines import wait_until
from st_pipelines_tests.web_server import dagster_dev

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER),
        reason="needs chromium and chromedriver (Debian: chromium-driver)",
    ),
]

TODAY = datetime.now(timezone.utc).date()
TEN_DAYS = (TODAY - timedelta(days=11), TODAY - timedelta(days=2))


def settings_of(sandbox: Sandbox, prefix: str) -> str:
    lines = [f"{n.replace('SERVICETITAN_', prefix)}={v}" for n, v in sandbox.environment().items()]
    facts = {"SELECT": "jpm.jobs,settings.user_roles", "START_DATE": f"{TODAY - timedelta(20)}"}
    facts |= {"CHANGES_MINUTES": "0.5", "GAP_DAYS": "1", "TIMEZONE": "UTC"}
    return "\n".join([*lines, *(f"{prefix}{name}={value}" for name, value in facts.items()), ""])


@pytest.fixture(scope="module")
def sandboxes() -> Iterator[tuple[Sandbox, Sandbox]]:
    now = datetime.now(timezone.utc)
    with (
        Sandbox(customers=60, now=now, seed=1) as production,
        Sandbox(customers=90, now=now, seed=2) as integration,
    ):
        yield production, integration


@pytest.fixture(scope="module")
def folder(sandboxes: tuple[Sandbox, Sandbox], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a user has: `.env` and a DAGSTER_HOME."""
    made = tmp_path_factory.mktemp("user")
    production, integration = sandboxes
    (made / ".env").write_text(
        settings_of(production, "SERVICETITAN_")
        + settings_of(integration, "SERVICETITAN_INTEGRATION_")
    )
    (made / "home").mkdir()
    (made / "home" / "dagster.yaml").write_text(
        "telemetry: {enabled: false}\nnux: {enabled: false}\n"
    )
    return made


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    """The running webserver and daemon."""
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("SERVICETITAN_", "ST_"))}
    with dagster_dev(folder, {**kept, "DAGSTER_HOME": str(folder / "home")}) as made:
        yield made


@pytest.fixture
def browser(url: str, tmp_path: Path) -> Iterator[Browser]:
    made = Browser(url, tmp_path / "profile")
    yield made
    made.close()


def jobs_of(sandbox: Sandbox, first: date, last: date) -> int:
    """Returns how many jobs of the sandbox were last modified on these days."""
    days = [record["modifiedOn"][:10] for record in sandbox.world.records("jpm.jobs")]
    return sum(f"{first}" <= day <= f"{last}" for day in days)


def rows(file: Path, where: str) -> int:
    """Counts rows, as soon as no load holds the file."""

    def count() -> list[tuple[int]] | None:
        with contextlib.suppress(duckdb.IOException), duckdb.connect(file, read_only=True) as there:
            return there.execute(f"SELECT count(*) FROM jpm.jobs WHERE {where}").fetchall()
        return None

    return wait_until(count, f"moment in which nobody holds {file}", interval=0.1)[0][0]


def test_a_user_loads_a_day_and_a_range_and_turns_a_schedule_on(
    browser: Browser, folder: Path, sandboxes: tuple[Sandbox, Sandbox]
) -> None:
    _, integration = sandboxes
    file = folder / "data" / "integration.duckdb"
    browser.open("/assets/integration/jpm/jobs")
    browser.click("Materialize…")
    browser.click("Latest")
    browser.click("Launch 1 run")
    browser.wait_for("Launched run")
    browser.open("/assets/integration/jpm/jobs?view=partitions")
    browser.wait_for("Materialized (1)", reload=True)
    assert rows(file, f"_partition_date = '{TODAY}'") == jobs_of(integration, TODAY, TODAY)

    browser.open("/assets/integration/jpm/jobs")
    browser.click("Materialize…")
    browser.write(f"[{TEN_DAYS[0]}...{TEN_DAYS[1]}]")
    browser.click("Launch backfill")
    browser.wait_for("backfill")
    browser.open("/assets/integration/jpm/jobs?view=partitions")
    browser.wait_for("Materialized (11)", reload=True)
    wanted = jobs_of(integration, *TEN_DAYS)
    assert wanted > 0
    assert rows(file, f"_partition_date BETWEEN '{TEN_DAYS[0]}' AND '{TEN_DAYS[1]}'") == wanted
    browser.open("/assets/integration/jpm/jobs")
    browser.wait_for("rows_in_table\n")
    total = rows(file, "true")
    assert f"\n{total:,}\n" in browser.text.split("rows_in_table")[1].split("requests")[0]

    browser.open("/locations/integration/schedules/daily")
    browser.switch()
    browser.open("/locations/integration/schedules/daily")
    browser.wait("switch that is on", browser.switched_on)
    browser.wait_for("Next tick")


def test_production_loads_changes_automatically(
    browser: Browser, folder: Path, sandboxes: tuple[Sandbox, Sandbox]
) -> None:
    production, _ = sandboxes
    file = folder / "data" / "production.duckdb"
    browser.open("/locations/production/sensors/changes")
    browser.wait_for("\n1 run requested", reload=True)
    browser.wait_for("\n0 runs requested", reload=True)
    production.world.set_now(datetime.now(timezone.utc))
    key = production.world.create("jpm.jobs", summary="A leaking tap")
    browser.open("/assets/production/jpm/jobs?view=events")
    browser.wait(
        "row of the new job",
        lambda: rows(file, f"id = {key} AND summary = 'A leaking tap'") == 1,
    )
    browser.open("/runs")
    browser.wait_for("changes")
    browser.wait_for("gaps")
