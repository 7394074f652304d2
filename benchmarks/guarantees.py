"""What each guarantee costs a load: CPU seconds with and without it, in turns, in one process.

    python benchmarks/guarantees.py

A bare load believes what it is served: pages one after the other without a proof, no comparison
with the catalogue, no look at the feed or at what is missing, no checks, no history, no read copy.
The sandbox serves from a process of its own, so that the CPU seconds of this one are the load's.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec
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
from st_pipelines.servicetitan.envelope import Served
from st_pipelines.servicetitan.proof import Course, Proof
from st_pipelines.warehouse.checks import Facts
from st_pipelines.warehouse.connect import Warehouse
from st_pipelines.warehouse.load import Besides, Typed
from st_pipelines.warehouse.publish import publish
from st_pipelines.warehouse.staging import Staging

ZONE = "America/New_York"
WHOLE, DAY = "whole history", "one day again"
GUARANTEES = ("proof", "drift", "deletes", "checks", "history", "publish")
CASES = ((), *((one,) for one in GUARANTEES), GUARANTEES[:4], GUARANTEES)

Costs = dict[tuple[tuple[str, ...], str], list[float]]


def main() -> None:
    """Measures and prints the ratios."""
    parser = argparse.ArgumentParser(description="What each guarantee costs.")
    parser.add_argument("--customers", type=int, default=4_000)
    parser.add_argument("--runs", type=int, default=3, help="of each; medians are compared")
    options = parser.parse_args()
    costs: Costs = {}
    with Server(options.customers) as server:
        server.prepare(tuple(PATHS.values()))
        for number in range(options.runs + 1):
            for case in CASES:
                with tempfile.TemporaryDirectory() as folder, without_all_but(case):
                    seconds = load_all(server, Path(folder) / "x.duckdb", case)
                if number:  # the first round only warms up
                    for what, cost in seconds.items():
                        costs.setdefault((case, what), []).append(cost)
    print_ratios(costs)


def load_all(server: Server, file: Path, case: Collection[str]) -> dict[str, float]:
    """CPU seconds of loading all tables whole, and then of one day again."""
    today = local_day(datetime.now(timezone.utc), ZONE)
    job = Job(
        client=Client(connection(server)),
        warehouse=Warehouse(uri=str(file)),
        timezone=ZONE,
        run_id="benchmark",
        history=frozenset(PATHS) if "history" in case else (),
    )
    costs = {}
    for what, open_start in ((WHOLE, True), (DAY, False)):
        days = Days(first=today, last=today, timezone=ZONE, open_start=open_start)
        started = time.process_time()
        for table in PATHS:
            extract_load(job, load_catalog()[table], days)
        if "publish" in case:
            publish(job.warehouse)
        costs[what] = time.process_time() - started
    return costs


@contextmanager
def without_all_but(case: Collection[str]) -> Iterator[None]:
    """Takes the guarantees out of the code that are not in the case."""
    loading = "st_pipelines.warehouse.load"
    off: dict[str, list[Any]] = {
        "proof": [
            mock.patch.object(Proof, "course", _straight_on),
            mock.patch.object(Proof, "accepts", return_value=True),
        ],
        "drift": [mock.patch.object(Staging, "_count_if_fitting", _believed)],
        "deletes": [mock.patch("st_pipelines.extract_load.followed_up", _nothing_besides)],
        "checks": [
            mock.patch(f"{loading}.find_vanished", return_value=()),
            mock.patch(f"{loading}.count_facts", return_value=Facts()),
        ],
    }
    with ExitStack() as stack:
        for name, patches in off.items():
            for patch in () if name in case else patches:
                stack.enter_context(patch)
        yield


def _straight_on(_: Proof, first: Served, rows: int) -> Course:
    return Course.ASCENDING if first.has_more else Course.SINGLE


def _believed(_: Staging, records: bytes) -> int:
    return len(msgspec.json.decode(records, type=list[msgspec.Raw]))


@contextmanager
def _nothing_besides(_client: Any, _warehouse: Any, listed: Typed, *_: Any, **__: Any) -> Any:
    listed.finish()
    yield Besides()


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


def print_ratios(costs: Costs) -> None:
    """The medians, and their ratios to the bare load."""
    table = Table("load", *(f"{what}, CPU s" for what in (WHOLE, DAY)), "ratio", "ratio")
    bare = {what: statistics.median(costs[(), what]) for what in (WHOLE, DAY)}
    for case in CASES:
        found = [statistics.median(costs[case, what]) for what in (WHOLE, DAY)]
        ratios = [f"{one / bare[what]:.2f}" for one, what in zip(found, bare, strict=True)]
        name = "all" if case == GUARANTEES else " + ".join(case) or "bare"
        table.add_row(name, *(f"{one:.3f}" for one in found), *ratios)
    Console().print(table)


if __name__ == "__main__":
    main()
