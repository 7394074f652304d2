"""Counts the modules and functions that a reader walks through to follow one load.

    python benchmarks/walk.py
    python benchmarks/walk.py --table accounting.invoices --list

Materializes one day of one table twice, in one process and with the same definitions, as a run of
Dagster does, on an instance of its own and against a sandbox in another process. The second, warm
materialization is counted: what runs once a process (imports, the catalog, the definitions) is
left out.

A function is a distinct code object of `st_pipelines` that was entered in any thread, methods and
nested functions included. Lambdas, comprehensions, generator expressions, class and module bodies
count as part of the function or module around them, generated methods of dataclasses and of
Pydantic as none. The package's sandbox is left out. A module is counted with its first function.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from types import CodeType, FrameType

import dagster as dg
from server import Server

import st_pipelines

PACKAGE = Path(st_pipelines.__file__).parent


class Walk:
    """The functions of the package that were entered while it was switched on."""

    def __init__(self) -> None:
        self._entered: set[CodeType] = set()

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Profiles this thread and those that start meanwhile."""
        threading.setprofile(self._profile)
        sys.setprofile(self._profile)
        try:
            yield
        finally:
            sys.setprofile(None)
            threading.setprofile(None)

    def forget(self) -> None:
        """Starts counting again. Threads that are profiled already stay so."""
        self._entered = set()

    def functions(self) -> dict[str, list[str]]:
        """Qualified names of the functions, by module, both in order."""
        found: dict[str, list[str]] = defaultdict(list)
        for code in list(self._entered):
            if (module := _module(code)) and not code.co_name.startswith("<"):
                found[module].append(getattr(code, "co_qualname", code.co_name))
        return {module: sorted(found[module]) for module in sorted(found)}

    def _profile(self, frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_flags & 1:  # CO_OPTIMIZED: not a class or module
            self._entered.add(frame.f_code)


def main() -> None:
    options = _options()
    with Server(customers=100) as server, tempfile.TemporaryDirectory() as folder:
        functions = walk(options.table, server.environment, Path(folder))
    if options.list:
        print_functions(functions)
    total = sum(len(of_module) for of_module in functions.values())
    print(f"{options.table}: {len(functions)} modules, {total} functions")


def walk(table: str, environment: Mapping[str, str], folder: Path) -> dict[str, list[str]]:
    """Qualified names of the functions that a warm load of yesterday enters, by module."""
    yesterday = datetime.now(timezone.utc).date() - timedelta(days=1)
    os.environ.update(environment, DAGSTER_DISABLE_TELEMETRY="yes")
    os.environ["SERVICETITAN_START_DATE"] = f"{yesterday - timedelta(days=9)}"
    os.chdir(folder)  # the warehouse lands in its `data`
    from st_pipelines.definitions import build_definitions

    job = build_definitions("production").resolve_implicit_global_asset_job_def()
    recorded = Walk()
    with dg.DagsterInstance.local_temp(str(folder)) as instance, recorded.recording():
        _materialize(job, table, yesterday, instance)
        recorded.forget()
        _materialize(job, table, yesterday, instance)
    return recorded.functions()


def print_functions(functions: Mapping[str, Sequence[str]]) -> None:
    """Prints each module and, indented, its functions."""
    for module, names in functions.items():
        print(f"{module} ({len(names)})")
        for name in names:
            print(f"    {name}")


def _materialize(
    job: dg.JobDefinition, table: str, day: date, instance: dg.DagsterInstance
) -> None:
    job.execute_in_process(
        instance=instance,
        partition_key=day.isoformat(),
        asset_selection=[dg.AssetKey(["production", *table.split(".")])],
    )


def _module(code: CodeType) -> str | None:
    """The module's path inside the package, or None for other code and for the sandbox."""
    file = Path(code.co_filename)
    if not file.is_relative_to(PACKAGE) or file.is_relative_to(PACKAGE / "sandbox"):
        return None
    return file.relative_to(PACKAGE).as_posix()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--table", default="jpm.jobs", help="a table that is loaded by day")
    parser.add_argument("--list", action="store_true", help="print the functions by module")
    return parser.parse_args()


if __name__ == "__main__":
    main()
