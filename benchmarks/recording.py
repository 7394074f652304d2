"""Measures what Dagster's record of each day costs `st-pipelines load`.

Loads two small tables from a sandbox, once for few days and once for many. Both loads request the
same data, so the difference is the cost of recording the additional days. Prints it per day and
table.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

from st_pipelines.sandbox.server import Sandbox

TABLES = ("settings.business_units", "jpm.job_types")


def measure(sandbox: Sandbox, days: int) -> tuple[float, float]:
    """Returns the seconds and the CPU seconds of a load that begins so many days ago."""
    start = sandbox.world.now.date() - timedelta(days=days)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder, "home")
        home.mkdir()
        (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
        changes = {"DAGSTER_HOME": str(home), "SERVICETITAN_START_DATE": start.isoformat()}
        command = [sys.executable, "-m", "st_pipelines.cli.app", "load"]
        command += ["--environment", "production", "--select", ",".join(TABLES)]
        before, began = _read_cpu_seconds(), time.perf_counter()
        environment = {**os.environ, **sandbox.environment(), **changes}
        subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - began, _read_cpu_seconds() - before


def _read_cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Prints the milliseconds for one day of one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=330, help="days of the longer load")
    days = parser.parse_args().days
    now = datetime.now(timezone.utc)
    with Sandbox(customers=20, now=now, requests_per_second=1e9) as sandbox:
        few, many = measure(sandbox, 30), measure(sandbox, days)
    for what, short, long in zip(("elapsed", "CPU"), few, many, strict=True):
        each = (long - short) / (days - 30) / len(TABLES)
        print(f"{what}: {each * 1000:.1f} ms for one day of one table")


if __name__ == "__main__":
    main()
