"""`st-pipelines reconcile`: whole tables, one after the other, with what became of each."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from st_pipelines.catalog.loader import load_catalog
from st_pipelines.command_job import command_job
from st_pipelines.extract_load import LoadReport, reconcile
from st_pipelines.servicetitan.errors import AuthenticationFailed, ServiceTitanError
from st_pipelines.settings import project
from st_pipelines.settings.environments import EnvironmentName
from st_pipelines.warehouse.errors import MalformedRecords, WarehouseError

Outcome = LoadReport | str | None


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
    table = Table("table", "read", "new", "changed", "marked deleted", "requests", "what failed")
    table.columns[0].overflow = "fold"
    for column in table.columns[1:6]:
        column.justify = "right"
    failed = 0
    with command_job(environment, "reconcile", history=project.history(catalog)) as job:
        for endpoint in chosen:
            with console.status(f"reading {endpoint.table}"):
                outcome: Outcome
                try:
                    outcome = reconcile(job, endpoint)
                except AuthenticationFailed:
                    raise  # the next would fail alike
                except (ServiceTitanError, WarehouseError, MalformedRecords) as error:
                    outcome, failed = str(error), failed + 1
            _add(table, endpoint.table, outcome)
    console.print(table)
    return failed


def _add(table: Table, name: str, outcome: Outcome) -> None:
    match outcome:
        case None:
            table.add_row(name, "", "", "", "", "", "an aggregate by day: nothing can be gone")
        case str():
            table.add_row(name, "", "", "", "", "", outcome)
        case LoadReport(counts=counts):
            numbers = (outcome.rows_read, counts.inserted, counts.updated, counts.deleted)
            table.add_row(name, *(f"{n:,}" for n in (*numbers, outcome.requests)), "")
