"""CPU seconds until Dagster has loaded all definitions, compared with a module of one asset."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from measure import Cost, median, run
from rich.console import Console
from rich.table import Table

MODULES = ("st_pipelines.definitions", "one_asset")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="of each; medians are compared")
    runs = parser.parse_args().runs
    costs: dict[str, list[Cost]] = {module: [] for module in MODULES}
    for _ in range(runs):
        for module in MODULES:
            costs[module].append(validate(module))
    print_costs(costs)


def validate(module: str) -> Cost:
    """What `dagster definitions validate` costs, in an empty folder with an instance of its own."""
    command = [sys.executable, "-m", "dagster", "definitions", "validate", "-a", "production"]
    command += ["-m", module, "-d", str(Path(__file__).parent)]
    with tempfile.TemporaryDirectory() as folder:
        environment = {"DAGSTER_HOME": folder, "DAGSTER_DISABLE_TELEMETRY": "yes"}
        return run(command, environment=environment, folder=folder)


def print_costs(costs: dict[str, list[Cost]]) -> None:
    """The medians, and their ratio."""
    table = Table("module", "CPU s", "of each run", "seconds", "peak MB")
    medians = {module: median(of_one) for module, of_one in costs.items()}
    for module, cost in medians.items():
        each = ", ".join(f"{one.cpu_seconds:.2f}" for one in costs[module])
        table.add_row(
            module, f"{cost.cpu_seconds:.2f}", each, f"{cost.seconds:.2f}", f"{cost.peak_mb:.0f}"
        )
    ours, least = (medians[module].cpu_seconds for module in MODULES)
    table.add_row("ratio", f"{ours / least:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
