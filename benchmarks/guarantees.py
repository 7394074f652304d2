"""Measures what each guarantee costs a load: seconds and CPU seconds with and without it.

    python benchmarks/guarantees.py

A bare load trusts what it is served: pages one after the other without a proof, no comparison with
the catalog, no export feed, no lookup of missing rows, no checks, no history, no read copy. The
sandbox runs in a process of its own, so that the CPU seconds of this one are the load's.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import statistics
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec
from loading import PATHS, TABLES, history, sync_context
from rich.console import Console
from rich.table import Table
from server import Server

from st_pipelines.servicetitan.reading.completeness import CompletenessProof, PagingStrategy
from st_pipelines.servicetitan.reading.envelope import ParsedPage
from st_pipelines.sync.sync import extract_load
from st_pipelines.warehouse.staging.stage import Staging
from st_pipelines.warehouse.store.duckdb_file import DuckDBFile
from st_pipelines.warehouse.tables.load import FollowUp
from st_pipelines.warehouse.tables.load_facts import Facts

WHOLE, DAY = "whole history", "one day again"
GUARANTEES = ("proof", "drift", "deletes", "checks", "history", "publish")
CASES = ((), *((one,) for one in GUARANTEES), GUARANTEES[:4], GUARANTEES)

Cost = tuple[float, float]
"""Seconds and CPU seconds."""
Costs = dict[tuple[tuple[str, ...], str], list[Cost]]


def main() -> None:
    """Measures, and prints the ratios."""
    parser = argparse.ArgumentParser(description="Measure what each guarantee costs.")
    parser.add_argument("--customers", type=int, default=4_000)
    parser.add_argument("--runs", type=int, default=3, help="runs of each; medians are compared")
    options = parser.parse_args()
    costs: Costs = {}
    with Server(options.customers) as server:
        os.environ.update(server.environment)
        server.prepare(PATHS)
        for number in range(options.runs + 1):
            for case in CASES:
                with tempfile.TemporaryDirectory() as folder, without_all_but(case):
                    seconds = load_all(Path(folder) / "x.duckdb", case)
                if number:  # the first round only warms up
                    for what, cost in seconds.items():
                        costs.setdefault((case, what), []).append(cost)
    print_ratios(costs)


def load_all(file: Path, case: Collection[str]) -> dict[str, Cost]:
    """Loads all tables whole, and then one day again; returns what each cost."""
    bare = sync_context(DuckDBFile(uri=str(file)))
    loading = dataclasses.replace(bare, history=TABLES if "history" in case else ())
    today, costs = history(), {}
    for what, open_start in ((WHOLE, True), (DAY, False)):
        days = dataclasses.replace(today, open_start=open_start)
        started, cpu = time.monotonic(), time.process_time()
        for table in TABLES:
            extract_load(loading, loading.catalog[table], days)
        if "publish" in case:
            loading.warehouse.publish()
        costs[what] = (time.monotonic() - started, time.process_time() - cpu)
    return costs


@contextmanager
def without_all_but(case: Collection[str]) -> Iterator[None]:
    """Switches off all guarantees that are not in the case."""
    loading = "st_pipelines.warehouse.tables.load"
    off: dict[str, list[Any]] = {
        "proof": [
            mock.patch.object(CompletenessProof, "choose_paging", _page_by_page),
            mock.patch.object(CompletenessProof, "is_complete", return_value=True),
        ],
        "drift": [mock.patch.object(Staging, "_count_if_fitting", _trust)],
        "deletes": [mock.patch("st_pipelines.sync.sync.followed_up", _follow_up_nothing)],
        "checks": [
            mock.patch(f"{loading}.find_missing_fields", return_value=()),
            mock.patch(f"{loading}.count_facts", return_value=Facts()),
        ],
    }
    with ExitStack() as stack:
        for name, patches in off.items():
            for patch in () if name in case else patches:
                stack.enter_context(patch)
        yield


def _page_by_page(_: CompletenessProof, first: ParsedPage, rows: int) -> PagingStrategy:
    return PagingStrategy.ASCENDING if first.has_more else PagingStrategy.SINGLE


def _trust(_: Staging, records: bytes, rows: object = None) -> int:
    return len(msgspec.json.decode(records, type=list[msgspec.Raw]))


@contextmanager
def _follow_up_nothing(*_: Any, **__: Any) -> Any:
    yield FollowUp()


def print_ratios(costs: Costs) -> None:
    """Prints the medians, and their ratios to the bare load."""
    wanted = [(what, kind) for what in (WHOLE, DAY) for kind in (0, 1)]
    names = [f"{what}, {('s', 'CPU s')[kind]}" for what, kind in wanted]
    table = Table("load", *(column for name in names for column in (name, "ratio")))
    for case in CASES:
        cells = []
        for what, kind in wanted:
            bare = statistics.median(cost[kind] for cost in costs[(), what])
            found = statistics.median(cost[kind] for cost in costs[case, what])
            cells += [f"{found:.2f}", f"{found / bare:.2f}"]
        name = "all" if case == GUARANTEES else " + ".join(case) or "bare"
        table.add_row(name, *cells)
    Console().print(table)


if __name__ == "__main__":
    main()
