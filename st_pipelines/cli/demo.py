"""`st-pipelines demo`: fills a warehouse from a simulated ServiceTitan on this machine.

A sandbox runs in a process of its own. The assets are those of production, materialized by Dagster
as single-run ranges, one run per API. Everything the demo writes is next to the warehouse file.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from st_pipelines.catalog.file_kinds import FILE_KINDS, FileKind
from st_pipelines.catalog.registry import load_catalog, select
from st_pipelines.cli.console import Customers, Seed, counted
from st_pipelines.cli.processes import child, free_port, terminated_as_interrupted
from st_pipelines.windows import local_day

if TYPE_CHECKING:
    from st_pipelines.cli.progress import ApiOutcome
    from st_pipelines.warehouse.store.base import Store

TIMEZONE = "America/New_York"
REQUESTS_PER_SECOND = 1000
"""ServiceTitan allows 60. A demo of child lists would mostly wait."""

MAX_CHILD_REQUESTS = 100
"""Enough to see the children of the latest records; more would make the demo long."""

FIRST_QUERY = f"""\
SELECT strftime(j.completed_on AT TIME ZONE '{TIMEZONE}', '%Y-%m') AS month,
       b.name AS business_unit, count(DISTINCT j.id) AS jobs, count(DISTINCT c.id) AS customers,
       sum(i.total)::DECIMAL(18,2) AS invoiced
FROM jpm.jobs j
JOIN crm.customers c ON c.id = j.customer_id
JOIN settings.business_units b ON b.id = j.business_unit_id
JOIN accounting.invoices i ON i.id = j.invoice_id
WHERE j.job_status = 'Completed'
GROUP BY ALL ORDER BY month DESC, invoiced DESC LIMIT 5"""

REPORTS = """\
reports:
  - name: calls_by_day
    category: operations
    report: Calls and Bookings by Day
    days: {{from: From, to: To}}
    contract: sync
  - name: technician_performance
    category: technician-dashboard
    report: Technician Performance
    parameters: {{From: "{first}", To: "{last}"}}
    contract: async
"""
"""A report for each of ServiceTitan's two contracts, in the form of `st_reports.yaml`."""

_FILES = "pricebook_images"
_REPORT_DAYS = timedelta(days=365)
_DAGSTER_YAML = "telemetry:\n  enabled: false\nnux:\n  enabled: false\n"


def demo(
    warehouse: Annotated[Path, typer.Option(help="DuckDB file to fill.")] = Path(
        "data/sandbox.duckdb"
    ),
    days: Annotated[
        int, typer.Option(min=1, max=3650, help="Number of days, one partition each.")
    ] = 30,
    seed: Seed = 7,
    customers: Customers = 2000,
    ui: Annotated[bool, typer.Option("--ui", help="Open the Dagster UI afterwards.")] = False,
    load: Annotated[bool, typer.Option(help="Load first; --no-load only opens the UI.")] = True,
    port: Annotated[int, typer.Option(help="Port of the UI.")] = 3000,
) -> None:
    """Fill a DuckDB file from a simulated ServiceTitan on this machine, without credentials."""
    if not (load or ui):
        raise ValueError("--no-load leaves nothing to do: add --ui to open the UI")
    with Demo(warehouse=warehouse, days=days, seed=seed, customers=customers) as running:
        failed = running.load() if load else 0
        if ui:
            running.open_ui(port)
    if failed:
        raise typer.Exit(1)


@dataclass(frozen=True, kw_only=True)
class Company:
    """The parameters of the sandbox's company.

    They are kept next to the warehouse, so that a second demo simulates the same company at the
    same time and changes nothing.
    """

    seed: int
    customers: int
    now: str

    @classmethod
    def load_or_create(cls, file: Path, seed: int, customers: int) -> Company:
        """Reads the saved company if it has this seed and size; otherwise saves a new one."""
        if file.exists():
            saved = cls(**json.loads(file.read_text()))
            if (saved.seed, saved.customers) == (seed, customers):
                return saved
        now = datetime.now(timezone.utc).replace(microsecond=0).isoformat()
        company = cls(seed=seed, customers=customers, now=now)
        file.write_text(json.dumps(asdict(company)))
        return company


class Demo:
    """A running sandbox, and the settings that point Dagster at it."""

    def __init__(self, *, warehouse: Path, days: int, seed: int, customers: int) -> None:
        from st_pipelines.warehouse.store.base import open_store

        self.file = warehouse.resolve()
        self.warehouse = open_store(str(self.file), wait_seconds=20)
        self.console = Console()
        self._days = days
        self._seed = seed
        self._customers = customers
        self._stack = ExitStack()

    def __enter__(self) -> Demo:
        """Starts the sandbox. Raises WarehouseError first if the file cannot be written."""
        self.warehouse.check()
        with self._stack:
            self._stack.enter_context(terminated_as_interrupted())
            home = self.file.parent / f".{self.file.stem}"
            home.mkdir(exist_ok=True, mode=0o700)
            (home / "dagster.yaml").write_text(_DAGSTER_YAML)
            company = Company.load_or_create(home / "company.json", self._seed, self._customers)
            self.console.print(
                f"Starting a simulated ServiceTitan (about {self._customers:,} customers)",
                highlight=False,
            )
            self._set_environment(home, company, self._start_sandbox(company))
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Stops every process that was started."""
        self._stack.close()

    def load(self) -> int:
        """Materializes every asset for all days; prints progress and a summary.

        Returns:
            Number of assets that failed.
        """
        import dagster as dg

        from st_pipelines.cli.dagster_sqlite import cheap_events
        from st_pipelines.cli.progress import materialize, progress_logger
        from st_pipelines.definitions import build_definitions
        from st_pipelines.defs.run_state import range_tags

        definitions = build_definitions("sandbox", loggers={"console": progress_logger})
        job = definitions.resolve_implicit_global_asset_job_def()
        self.console.print(
            f"Loading {counted(self._days, 'daily partition')}. The first, {self._first}, also "
            "holds everything older.",
            highlight=False,
        )
        tags = range_tags(self._first.isoformat(), self._last.isoformat())
        with cheap_events(durable=False), dg.DagsterInstance.get() as instance:
            keys = definitions.resolve_all_asset_keys()
            outcomes = materialize(self.console, instance, job, keys, tags=tags)
        print_summary(self.console, outcomes, self.warehouse, self._ui_command())
        return sum(len(outcome.failures) for outcome in outcomes)

    def open_ui(self, port: int) -> None:
        """Runs the Dagster UI until Ctrl-C."""
        port = free_port(port)
        self.console.print(f"Dagster UI on http://127.0.0.1:{port} (Ctrl-C stops it)")
        command = [sys.executable, "-W", "ignore", "-m", "dagster", "dev"]
        command += ["-m", "st_pipelines.definitions"]
        command += ["-a", "sandbox", "-h", "127.0.0.1", "-p", str(port)]
        process = self._stack.enter_context(child(command))
        process.wait()

    def _start_sandbox(self, company: Company) -> str:
        """Returns the URL of the sandbox, with its credentials set in the environment."""
        import requests

        command = [sys.executable, "-m", "st_pipelines.cli.app", "sandbox", "--until-input-ends"]
        command += ["--seed", str(company.seed), "--customers", str(company.customers)]
        command += ["--now", company.now, "--requests-per-second", str(REQUESTS_PER_SECOND)]
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
        unlimited = {"interval_seconds": 0}  # a day of a report would take a minute
        requests.post(f"{url}/_sandbox/reports", json=unlimited, timeout=30).raise_for_status()
        return url

    def _set_environment(self, home: Path, company: Company, url: str) -> None:
        """Sets what the code location `sandbox` reads, here and in the UI's processes."""
        self._last = local_day(datetime.fromisoformat(company.now), TIMEZONE)
        self._first = self._last - timedelta(days=self._days - 1)
        reports = home / "st_reports.yaml"
        reports.write_text(REPORTS.format(first=self._last - _REPORT_DAYS, last=self._last))
        os.environ.update(
            {
                "DAGSTER_HOME": str(home),
                "DAGSTER_DISABLE_TELEMETRY": "yes",
                "ST_REPORTS": str(reports).replace("$", "$$"),
                "ST_SANDBOX_WAREHOUSE": str(self.file).replace("$", "$$"),
                "ST_FILES": _FILES if _has_sources(FILE_KINDS[_FILES]) else "",
                "ST_FILES_PER_RUN": "50",
                "ST_FILES_URL": str(self.file.parent / "files").replace("$", "$$"),
                "SERVICETITAN_SANDBOX_TIMEZONE": TIMEZONE,
                "SERVICETITAN_SANDBOX_START_DATE": self._first.isoformat(),
                "SERVICETITAN_SANDBOX_REPORT_INTERVAL_SECONDS": "0",
                "SERVICETITAN_SANDBOX_API_URL": url,
                "SERVICETITAN_SANDBOX_AUTH_URL": url,
                "SERVICETITAN_SANDBOX_REQUESTS_PER_SECOND": str(REQUESTS_PER_SECOND),
            }
        )
        os.environ.setdefault("ST_MAX_CHILD_REQUESTS", str(MAX_CHILD_REQUESTS))

    def _ui_command(self) -> str:
        options = ["--ui", "--no-load", "--warehouse", os.path.relpath(self.file)]
        options += ["--days", str(self._days), "--seed", str(self._seed)]
        options += ["--customers", str(self._customers)]
        return shlex.join(["st-pipelines", "demo", *options])


def _has_sources(kind: FileKind) -> bool:
    """Whether the demo loads all tables that point to such files."""
    selection = os.environ.get("SERVICETITAN_SANDBOX_SELECT")
    try:
        chosen = select(load_catalog(), [selection] if selection else [])
    except ValueError:  # the load says what is wrong
        return False
    tables = {endpoint.table for endpoint in chosen}
    return tables >= {source.table for source in kind.sources}


def print_summary(
    console: Console, outcomes: Sequence[ApiOutcome], warehouse: Store, ui_command: str
) -> None:
    """Prints a row per API, the failures, and the commands to try next."""
    from st_pipelines.cli.progress import print_outcomes

    print_outcomes(console, outcomes)
    path = os.path.relpath(warehouse.name)
    opening = f"import duckdb; db = duckdb.connect('{path}', read_only=True)"
    console.print(f"\nOpen {path} in Python, then db.sql('...'):", highlight=False)
    quoted = shlex.quote(opening) if set(path) & set("\"'$`\\!") else f'"{opening}"'
    console.print(f"  python -i -c {quoted}\n", highlight=False, soft_wrap=True)
    console.print("A first query:\n")
    console.print(FIRST_QUERY, highlight=False, soft_wrap=True)
    console.print(_run_query(warehouse, FIRST_QUERY))
    console.print("\nOpen the Dagster UI:")
    console.print(f"  {ui_command}", highlight=False, soft_wrap=True)


def _run_query(warehouse: Store, query: str) -> Table | str:
    """Returns the rows as a table, or why there are none."""
    if not warehouse.exists:
        return "(nothing was loaded)"
    with warehouse.read_only() as connection:
        try:
            result = connection.execute(query)
        except Exception as error:  # a table is missing because its load failed: print why, go on
            return f"(the query failed: {error})"
        names, rows = [column[0] for column in result.description or ()], result.fetchall()
    table = Table()
    for index, name in enumerate(names):
        numeric = all(isinstance(row[index], int | float | Decimal) for row in rows)
        table.add_column(name, justify="right" if numeric else "left")
    for row in rows:
        table.add_row(*[str(value) for value in row])
    return table
