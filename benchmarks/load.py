"""Compares loading three tables with st_pipelines, and with a script on servicepytan and pandas.

A third contender, HTTP and `read_json` without any check, shows the least that a load can cost.
Each load is a process of its own and starts with an empty DuckDB file. Exits with 1 unless all
end with the same number of rows in each table.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from measure import Cost, median, run
from rich import box
from rich.console import Console
from rich.table import Table
from server import TOKEN_PATH, Server

PATHS = {
    "crm.customers": "/crm/v2/tenant/{tenant}/customers",
    "jpm.jobs": "/jpm/v2/tenant/{tenant}/jobs",
    "accounting.invoices": "/accounting/v2/tenant/{tenant}/invoices",
}
OURS, THEIRS, LEAST = "st_pipelines", "servicepytan", "read_json"
_SCRIPTS = {
    OURS: "with_st_pipelines.py",
    THEIRS: "with_servicepytan.py",
    LEAST: "with_read_json.py",
}
_ROWS_A_CUSTOMER = 5.51  # in the three tables together


@dataclass(frozen=True, kw_only=True)
class Result:
    """One load.

    Attributes:
        requests: by path, as counted by the server.
        rows: by table.
    """

    cost: Cost
    requests: Counter[str]
    rows: dict[str, int]


def main() -> int:
    options = _options()
    customers = options.customers or round(options.rows / _ROWS_A_CUSTOMER)
    theirs = shutil.which(options.servicepytan_python) or options.servicepytan_python
    programs = {OURS: sys.executable, THEIRS: os.path.abspath(theirs), LEAST: sys.executable}
    contenders = [name for name in programs if name not in options.skip]
    results: dict[str, list[Result]] = {name: [] for name in contenders}
    with Server(customers) as server, tempfile.TemporaryDirectory() as folder:
        server.prepare(tuple(PATHS.values()))
        for number in range(options.runs):
            for name in contenders:
                file = Path(folder) / f"{name}-{number}.duckdb"
                results[name].append(load(server, programs[name], name, file))
    print_results(results)
    every = [result.rows for of_contender in results.values() for result in of_contender]
    return 0 if all(rows == every[0] for rows in every) else 1


def load(server: Server, program: str, name: str, file: Path) -> Result:
    """Runs one load into a new file, and removes the file.

    Args:
        program: the contender's Python interpreter.
        name: the contender.
    """
    script = Path(__file__).with_name(_SCRIPTS[name])
    before = server.requests()
    cost = run(
        [program, str(script), str(file)], environment=server.environment, folder=str(file.parent)
    )
    result = Result(cost=cost, requests=server.requests() - before, rows=_rows(file))
    file.unlink()
    return result


def print_results(results: dict[str, list[Result]]) -> None:
    """Prints the medians, and their ratios to the first contender."""
    titles = ("", "rows", "seconds", "CPU s", "peak MB", "requests", "tokens", "rows/s")
    table = Table(*titles, box=box.SIMPLE, pad_edge=False, padding=(0, 1, 0, 0))
    table.columns[0].no_wrap = True
    for column in table.columns[1:]:
        column.justify = "right"
    costs = {
        name: median([result.cost for result in of_contender])
        for name, of_contender in results.items()
    }
    for name, of_contender in results.items():
        table.add_row(name, *_cells(of_contender, costs[name]))
    for other in (THEIRS, LEAST):
        if OURS not in costs or other not in costs:
            continue
        ours, theirs = costs[OURS], costs[other]
        table.add_row(
            f"{other} / {OURS}",
            "",
            f"{theirs.seconds / ours.seconds:.2f}",
            f"{theirs.cpu_seconds / ours.cpu_seconds:.2f}",
            f"{theirs.peak_mb / ours.peak_mb:.2f}",
        )
    console = Console()
    console.print(table)
    for name, of_contender in results.items():
        seconds = ", ".join(f"{result.cost.seconds:.1f}" for result in of_contender)
        cpu = ", ".join(f"{result.cost.cpu_seconds:.1f}" for result in of_contender)
        console.print(f"{name}: seconds {seconds}; CPU s {cpu}", soft_wrap=True)
        console.print(f"{name}: {of_contender[-1].rows}", soft_wrap=True)


def _cells(of_contender: Sequence[Result], cost: Cost) -> tuple[str, ...]:
    rows = sum(of_contender[-1].rows.values())
    tokens = statistics.median(result.requests[TOKEN_PATH] for result in of_contender)
    requests = statistics.median(sum(_data(result).values()) for result in of_contender)
    return (
        f"{rows:,}",
        f"{cost.seconds:.1f}",
        f"{cost.cpu_seconds:.1f}",
        f"{cost.peak_mb:,.0f}",
        f"{requests:.0f}",
        f"{tokens:.0f}",
        f"{rows / cost.seconds:,.0f}",
    )


def _data(result: Result) -> dict[str, int]:
    return {path: n for path, n in result.requests.items() if path in PATHS.values()}


def _rows(file: Path) -> dict[str, int]:
    import duckdb  # not above: a child's peak memory is never below that of its parent

    with duckdb.connect(str(file), read_only=True) as connection:
        return {
            table: connection.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0]
            for table in PATHS
        }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rows", type=int, default=350_000, help="approximate rows in all tables")
    parser.add_argument("--customers", type=int, help="size of the company, instead of --rows")
    parser.add_argument("--runs", type=int, default=3, help="runs of each; medians are shown")
    parser.add_argument("--skip", action="append", default=[], choices=list(_SCRIPTS))
    parser.add_argument(
        "--servicepytan-python",
        default=sys.executable,
        metavar="PYTHON",
        help="interpreter of an environment that has requirements.txt",
    )
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
