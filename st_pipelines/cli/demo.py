"""`st-pipelines demo`: the main job on this machine, from an empty folder to a filled warehouse.

A sandbox runs in a process of its own; the assets are the same that production has, materialised
by Dagster as single-run ranges, one run an API. Everything lies beside the warehouse file.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

import dagster as dg
from rich.console import Console

from st_pipelines.cli.dagster_sqlite import make_events_cheap
from st_pipelines.cli.demo_report import print_summary
from st_pipelines.cli.load import materialize
from st_pipelines.cli.processes import child, free_port, terminated_as_interrupted
from st_pipelines.cli.progress import progress_logger
from st_pipelines.definitions import build_definitions
from st_pipelines.defs.run_state import range_tags
from st_pipelines.warehouse.store.duckdb_file import Warehouse
from st_pipelines.windows import local_day

TIMEZONE = "America/New_York"

_DAGSTER_YAML = "telemetry:\n  enabled: false\nnux:\n  enabled: false\n"


@dataclass(frozen=True, kw_only=True)
class Company:
    """What makes the sandbox's company.

    It is kept beside the warehouse, so that a second demo finds the same company at the same
    moment and changes nothing.
    """

    seed: int
    customers: int
    now: str

    @classmethod
    def of(cls, file: Path, seed: int, customers: int) -> Company:
        """The one that was kept, if it is of this seed and size; else a new one of now."""
        if file.exists():
            kept = cls(**json.loads(file.read_text()))
            if (kept.seed, kept.customers) == (seed, customers):
                return kept
        now = datetime.now(timezone.utc).replace(microsecond=0).isoformat()
        company = cls(seed=seed, customers=customers, now=now)
        file.write_text(json.dumps(asdict(company)))
        return company


class Demo:
    """A sandbox and a Dagster instance for as long as the `with` lasts."""

    def __init__(self, *, warehouse: Path, days: int, seed: int, customers: int) -> None:
        """Nothing is started or written yet."""
        self.warehouse = Warehouse(uri=str(warehouse.resolve()), wait=20)
        self.console = Console()
        self._days = days
        self._seed = seed
        self._customers = customers
        self._stack = ExitStack()

    def __enter__(self) -> Demo:
        """Starts the sandbox. Raises WarehouseError, before that, where it could not write."""
        self.warehouse.check()
        with self._stack:
            self._stack.enter_context(terminated_as_interrupted())
            home = self.warehouse.path.parent / f".{self.warehouse.path.stem}"
            home.mkdir(exist_ok=True, mode=0o700)
            (home / "dagster.yaml").write_text(_DAGSTER_YAML)
            company = Company.of(home / "company.json", self._seed, self._customers)
            self.console.print(
                f"Starting a ServiceTitan on this machine ({self._customers} customers)"
            )
            self._set_environment(home, company, self._start_sandbox(company))
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Stops all that was started."""
        self._stack.close()

    def load(self) -> int:
        """Materialises every asset for all days; prints progress and a summary.

        Returns:
            Number of assets that failed.
        """
        definitions = build_definitions("sandbox", loggers={"console": progress_logger})
        job = definitions.resolve_implicit_global_asset_job_def()
        make_events_cheap()
        with dg.DagsterInstance.get() as instance:
            keys = definitions.resolve_all_asset_keys()
            outcomes = materialize(self.console, instance, job, keys, tags=self._range_tags())
        print_summary(self.console, outcomes, self.warehouse, self._ui_command())
        return sum(len(outcome.failures) for outcome in outcomes)

    def open_ui(self, port: int) -> None:
        """Runs the Dagster UI until Ctrl-C."""
        port = free_port(port)
        self.console.print(f"Dagster UI on http://127.0.0.1:{port} (Ctrl-C ends it)")
        command = [sys.executable, "-W", "ignore", "-m", "dagster", "dev"]
        command += ["-m", "st_pipelines.definitions"]
        command += ["-a", "sandbox", "-h", "127.0.0.1", "-p", str(port)]
        process = self._stack.enter_context(child(command))
        process.wait()

    def _start_sandbox(self, company: Company) -> str:
        command = [sys.executable, "-m", "st_pipelines.cli.app", "sandbox", "--until-input-ends"]
        command += ["--seed", str(company.seed), "--customers", str(company.customers)]
        command += ["--now", company.now]
        process = self._stack.enter_context(
            child(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        )
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        if not url.startswith("http"):
            raise OSError(f"the sandbox did not start: {url or process.stdout.read()}")
        for line in process.stdout:
            name, _, value = line.strip().removeprefix("export ").partition("=")
            os.environ[name.replace("SERVICETITAN_", "SERVICETITAN_SANDBOX_", 1)] = value
            if name.endswith("TENANT_ID"):
                break
        return url

    def _set_environment(self, home: Path, company: Company, url: str) -> None:
        """What the code location of the sandbox reads, here and in the UI's processes."""
        self._last = local_day(datetime.fromisoformat(company.now), TIMEZONE)
        self._first = self._last - timedelta(days=self._days - 1)
        os.environ.update(
            {
                "DAGSTER_HOME": str(home),
                "DAGSTER_DISABLE_TELEMETRY": "yes",
                "ST_SANDBOX_WAREHOUSE": str(self.warehouse.path),
                "SERVICETITAN_SANDBOX_TIMEZONE": TIMEZONE,
                "SERVICETITAN_SANDBOX_START_DATE": self._first.isoformat(),
                "SERVICETITAN_SANDBOX_API_URL": url,
                "SERVICETITAN_SANDBOX_AUTH_URL": url,
            }
        )

    def _range_tags(self) -> dict[str, str]:
        return range_tags(self._first.isoformat(), self._last.isoformat())

    def _ui_command(self) -> str:
        options = ["--ui", "--no-load", "--warehouse", os.path.relpath(self.warehouse.path)]
        options += ["--days", str(self._days), "--seed", str(self._seed)]
        options += ["--customers", str(self._customers)]
        return shlex.join(["st-pipelines", "demo", *options])
