"""Starts many runs at once on one warehouse file, under a `dagster dev` without configuration.

    python benchmarks/runs.py --days 60

Launches a daily run, a backfill of three assets over all days as one run, and one run for each of
the same days, with the sensor `changes` on. Counts failures, and lines of the log that mention a
lock. Exits with 1 if a run failed, or if the tables differ from the sandbox.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import duckdb
import requests

sys.path.insert(0, str(Path(__file__).parents[1]))

from st_pipelines.sandbox.server import Sandbox
from st_pipelines_tests.web_server import dagster_dev

TABLES = ("crm.customers", "jpm.jobs", "accounting.invoices")
TODAY = datetime.now(timezone.utc).date()
_LOCATION = {"repositoryLocationName": "production", "repositoryName": "__repository__"}
_LAUNCH = """mutation($p: ExecutionParams!) { launchRun(executionParams: $p) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
_BACKFILL = """mutation($p: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $p) {
  __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }"""
_RUNS = "{ runsOrError(limit: 500) { ... on Runs { results { runId status jobName } } } }"


def main() -> None:
    """Starts the runs, and prints how they ended."""
    parser = argparse.ArgumentParser(description="Start many runs at once on one file.")
    parser.add_argument("--days", type=int, default=60)
    parser.add_argument("--customers", type=int, default=300)
    parser.add_argument("--config", type=Path, help="a dagster.yaml, such as docs/dagster.yaml")
    options = parser.parse_args()
    now = datetime.now(timezone.utc)
    sandbox = Sandbox(customers=options.customers, now=now)
    with tempfile.TemporaryDirectory() as name, sandbox:
        folder, started = Path(name), time.monotonic()
        prepare(folder, sandbox, options.days)
        if options.config:
            (folder / "home").mkdir()
            shutil.copy(options.config, folder / "home" / "dagster.yaml")
            os.environ["DAGSTER_HOME"] = str(folder / "home")
        with dagster_dev(folder, {**os.environ, "DAGSTER_DISABLE_TELEMETRY": "yes"}) as url:
            launch(url, [TODAY - timedelta(n) for n in range(1, options.days + 1)])
            found = wait_for_runs(url, 3 + options.days)
        print(f"{sum(found.values())} runs in {time.monotonic() - started:.0f} s: {dict(found)}")
        log = (folder / "dev.log").read_text().lower()
        print(f"'lock' in the log: {sum('lock' in line for line in log.splitlines())} lines")
        right = compare(folder / "data" / "production.duckdb", sandbox, options.days)
        raise SystemExit(0 if right and not found["FAILURE"] else 1)


def prepare(folder: Path, sandbox: Sandbox, days: int) -> None:
    """Writes the `.env` that a user has."""
    lines = [f"{name}={value}" for name, value in sandbox.environment().items()]
    lines += [f"SERVICETITAN_SELECT={','.join(TABLES)}", "SERVICETITAN_TIMEZONE=UTC"]
    lines += [f"SERVICETITAN_START_DATE={TODAY - timedelta(days)}", "SERVICETITAN_GAP_DAYS=1"]
    (folder / ".env").write_text("\n".join([*lines, "SERVICETITAN_CHANGES_MINUTES=0.5", ""]))


def query(url: str, text: str, **variables: Any) -> Any:
    """Sends a GraphQL query to Dagster, and returns the data."""
    body = {"query": text, "variables": variables}
    return requests.post(f"{url}/graphql", json=body, timeout=60).json()["data"]


def launch(url: str, days: list[date]) -> None:
    """Launches all runs, as fast as Dagster accepts them."""
    keys = [{"path": ["production", *table.split(".")]} for table in TABLES]
    job = {**_LOCATION, "pipelineName": "daily"}
    for day in [days[0], *days]:
        tags = [{"key": "dagster/partition", "value": day.isoformat()}]
        answer = query(url, _LAUNCH, p={"selector": job, "executionMetadata": {"tags": tags}})
        assert answer["launchRun"]["__typename"] == "LaunchRunSuccess", answer
    wanted = {"assetSelection": keys, "partitionNames": [day.isoformat() for day in days]}
    answer = query(url, _BACKFILL, p=wanted)
    assert answer["launchPartitionBackfill"]["__typename"] == "LaunchBackfillSuccess", answer


def wait_for_runs(url: str, at_least: int) -> Counter[str]:
    """Waits until all runs have ended; returns how many ended in which status."""
    while True:
        runs = query(url, _RUNS)["runsOrError"]["results"]
        found = Counter(run["status"] for run in runs)
        if len(runs) >= at_least and found["SUCCESS"] + found["FAILURE"] == len(runs):
            return found
        time.sleep(2)


def compare(file: Path, sandbox: Sandbox, days: int) -> bool:
    """Whether each table has the source's rows for the days."""
    first, right = f"{TODAY - timedelta(days)}", True
    with duckdb.connect(str(file), read_only=True) as connection:
        for table in TABLES:
            sql = f"SELECT count(*), count(DISTINCT id) FROM {table} WHERE _partition_date >= ?"
            rows, keys = connection.execute(sql, [first]).fetchall()[0]
            there = sum(r["modifiedOn"][:10] >= first for r in sandbox.world.records(table))
            print(f"{table}: {rows:,} rows, {keys:,} keys, {there:,} at the source")
            right = right and rows == keys == there
    return right


if __name__ == "__main__":
    main()
