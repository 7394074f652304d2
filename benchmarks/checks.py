"""What the checks cost a load: CPU seconds with and without them, in turns, in one process.

The sandbox serves from a process of its own, so that the CPU seconds of this one are the load's.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from contextlib import ExitStack
from datetime import datetime, timezone
from pathlib import Path
from unittest import mock

from load import PATHS
from pydantic import SecretStr
from rich.console import Console
from rich.table import Table
from server import Server

from st_pipelines.catalog.loader import load_catalog
from st_pipelines.days import Days, local_day
from st_pipelines.extract_load import Job, extract_load
from st_pipelines.servicetitan.client import Client
from st_pipelines.servicetitan.connection import Connection
from st_pipelines.warehouse.checks import Facts
from st_pipelines.warehouse.connect import Warehouse

ZONE = "America/New_York"
WHOLE, DAY = "whole history into an empty table", "one day into the full table"


def main() -> None:
    """Measures and prints the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--customers", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=5, help="of each; medians are compared")
    options = parser.parse_args()
    seconds: dict[tuple[str, bool], list[float]] = {}
    with Server(options.customers) as server:
        server.prepare(tuple(PATHS.values()))
        for number in range(2 * options.runs + 1):
            with tempfile.TemporaryDirectory() as folder:
                checked = number % 2 == 0
                costs = load_all(server, Path(folder) / "x.duckdb", checked=checked)
            if number:  # the first only warms up
                for what, cost in costs.items():
                    seconds.setdefault((what, checked), []).append(cost)
    print_ratios(seconds)


def load_all(server: Server, file: Path, *, checked: bool) -> dict[str, float]:
    """CPU seconds of loading all tables whole, and then of one day again."""
    today = local_day(datetime.now(timezone.utc), ZONE)
    job = Job(
        client=Client(connection(server)),
        warehouse=Warehouse(uri=str(file)),
        timezone=ZONE,
        run_id="benchmark",
    )
    costs = {}
    with ExitStack() as stack:
        if not checked:
            module = "st_pipelines.warehouse.load"
            stack.enter_context(mock.patch(f"{module}.find_vanished", return_value=()))
            stack.enter_context(mock.patch(f"{module}.count_facts", return_value=Facts()))
        for what, open_start in ((WHOLE, True), (DAY, False)):
            days = Days(first=today, last=today, timezone=ZONE, open_start=open_start)
            started = time.process_time()
            for table in PATHS:
                extract_load(job, load_catalog()[table], days)
            costs[what] = time.process_time() - started
    return costs


def connection(server: Server) -> Connection:
    """To the sandbox."""
    of = {name.removeprefix("SERVICETITAN_"): v for name, v in server.environment.items()}
    return Connection(
        environment="sandbox",
        api_url=of["API_URL"],
        auth_url=of["AUTH_URL"],
        client_id=of["CLIENT_ID"],
        client_secret=SecretStr(of["CLIENT_SECRET"]),
        app_key=SecretStr(of["APP_KEY"]),
        tenant_id=of["TENANT_ID"],
    )


def print_ratios(seconds: dict[tuple[str, bool], list[float]]) -> None:
    """The medians, and their ratio."""
    table = Table("load", "CPU s with checks", "without", "ratio")
    for what in (WHOLE, DAY):
        with_, without = (statistics.median(seconds[what, checked]) for checked in (True, False))
        table.add_row(what, f"{with_:.3f}", f"{without:.3f}", f"{with_ / without:.3f}")
    Console().print(table)


if __name__ == "__main__":
    main()
