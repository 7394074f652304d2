"""Measures the CPU seconds until Dagster has loaded all definitions, against a single asset."""

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
    parser.add_argument("--runs", type=int, default=3, help="runs of each; medians are compared")
    runs = parser.parse_args().runs
    costs: dict[str, list[Cost]] = {module: [] for module in MODULES}
    for _ in range(runs):
        for module in MODULES:
            costs[module].append(validate(module))
    print_costs(costs)


def validate(module: str) -> Cost:
    """Runs `dagster definitions validate` in an empty folder, with its own instance."""
    command = [sys.executable, "-m", "dagster", "definitions", "validate", "-a", "production"]
    command += ["-m", module, "-d", str(Path(__file__).parent)]
    with tempfile.TemporaryDirectory() as folder:
        environment = {"DAGSTER_HOME": folder, "DAGSTER_DISABLE_TELEMETRY": "yes"}
        return run(command, environment=environment, folder=folder)


def print_costs(costs: dict[str, list[Cost]]) -> None:
    """Prints the medians and their ratio."""
    table = Table("module", "CPU s", "each run", "seconds", "peak MB")
    medians = {module: median(runs_of_module) for module, runs_of_module in costs.items()}
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
