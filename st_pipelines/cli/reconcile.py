"""`st-pipelines reconcile`: whole tables, one after the other, with what became of each."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from st_pipelines.catalog.registry import load_catalog
from st_pipelines.cli.output import counted, show, show_failures
from st_pipelines.config import project
from st_pipelines.config.environments import EnvironmentName
from st_pipelines.servicetitan.errors.errors import AuthenticationFailed, ServiceTitanError
from st_pipelines.sync.session import command_job
from st_pipelines.sync.sync import LoadReport, reconcile
from st_pipelines.warehouse.errors import MalformedRecords, WarehouseError


def reconcile_tables(
    environment: EnvironmentName, patterns: Sequence[str], console: Console
) -> int:
    """Reconciles the chosen tables and prints a line for each; returns how many failed.

    Args:
        environment: its settings say from where and where to.
        patterns: see `selection.select`.
        console: to print to.

    Raises:
        SettingsError: a setting is missing or wrong.
        ValueError: a pattern matches no table.
        AuthenticationFailed: the credentials are refused.
    """
    catalog = load_catalog()
    chosen = project.chosen(environment, catalog, patterns)
    table = Table("table", "read", "new", "changed", "marked deleted", "requests")
    table.columns[0].no_wrap = True
    for column in table.columns[1:]:
        column.justify = "right"
    failed: dict[str, str] = {}
    aggregates = 0
    with command_job(environment, "reconcile", history=project.history(catalog)) as job:
        for endpoint in chosen:
            with console.status(f"reading {endpoint.table}"):
                try:
                    report = reconcile(job, endpoint)
                except AuthenticationFailed:
                    raise  # the next would fail alike
                except (ServiceTitanError, WarehouseError, MalformedRecords) as error:
                    failed[endpoint.table] = str(error)
                    continue
            if report is None:
                aggregates += 1
            else:
                _add(table, report)
    if table.row_count:
        show(console, table)
    if aggregates:
        console.print(f"left out {counted(aggregates, 'aggregate')} by day: nothing can be gone")
    show_failures(console, failed)
    return len(failed)


def _add(table: Table, report: LoadReport) -> None:
    loaded, counts = report.loaded, report.loaded.counts
    changes = (counts.inserted, counts.updated, counts.deleted)
    numbers = (loaded.rows_read, *changes, report.read.requests)
    table.add_row(report.endpoint.table, *(f"{n:,}" for n in numbers))
