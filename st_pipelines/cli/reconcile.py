"""`st-pipelines reconcile`: reads whole tables and marks the rows ServiceTitan deleted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.table import Table

from st_pipelines.cli.console import (
    AcceptDeletions,
    Environment,
    Select,
    counted,
    print_failures,
    print_table,
    print_warning,
)
from st_pipelines.config.environments import EnvironmentName, environment_name
from st_pipelines.servicetitan.errors.errors import AuthenticationFailed, ServiceTitanError
from st_pipelines.warehouse.errors import MalformedRecords, WarehouseError

if TYPE_CHECKING:
    from st_pipelines.sync.context import LoadReport


def reconcile(
    environment: Environment, select: Select = None, accept_deletions: AcceptDeletions = False
) -> None:
    """Read whole tables and mark the rows that ServiceTitan no longer has."""
    name = environment_name(environment)
    if reconcile_tables(name, select or [], Console(), accept_deletions=accept_deletions):
        raise typer.Exit(1)


def reconcile_tables(
    environment: EnvironmentName,
    patterns: Sequence[str],
    console: Console,
    *,
    accept_deletions: bool = False,
) -> int:
    """Reconciles the selected tables and prints a row for each; returns how many failed.

    Warns if this machine's clock is wrong.

    Args:
        accept_deletions: also mark a large part of a table as deleted.

    Raises:
        SettingsError: a setting is missing or wrong.
        ValueError: a pattern matches no table.
        AuthenticationFailed: the credentials are refused.
    """
    from st_pipelines.config.project import resolve_environment
    from st_pipelines.sync import sync
    from st_pipelines.sync.explain import describe_clock
    from st_pipelines.sync.session import sync_context

    config = resolve_environment(environment)
    endpoints = config.select_endpoints(patterns)
    reports: list[LoadReport] = []
    failures: dict[str, str] = {}
    aggregates = 0
    with sync_context(
        config, "reconcile", accept_deletions=accept_deletions, announce=console.print
    ) as context:
        for endpoint in endpoints:
            with console.status(f"reading {endpoint.table}"):
                try:
                    report = sync.reconcile(context, endpoint)
                except AuthenticationFailed:
                    raise  # every further table would fail the same way
                except (ServiceTitanError, WarehouseError, MalformedRecords) as error:
                    failures[endpoint.table] = str(error)
                    continue
            if report is None:
                aggregates += 1
            else:
                reports.append(report)
        wrong_clock = describe_clock(context.clock_offset())
    if reports:
        print_table(console, _as_table(reports))
    for report in reports:
        if report.parents and report.parents.remaining:
            console.print(
                f"{report.endpoint.table}: {report.parents.remaining:,} parents are left for the "
                "next run (ST_MAX_CHILD_REQUESTS)",
                highlight=False,
            )
    if aggregates:
        console.print(f"skipped {counted(aggregates, 'aggregate')} by day: they have no deletions")
    print_warning(console, wrong_clock)
    print_failures(console, failures)
    return len(failures)


def _as_table(reports: Sequence[LoadReport]) -> Table:
    table = Table("table", "read", "new", "changed", "marked deleted", "requests")
    table.columns[0].no_wrap = True
    for column in table.columns[1:]:
        column.justify = "right"
    for report in reports:
        counts = report.loaded.counts
        changes = (counts.inserted, counts.updated, counts.deleted)
        numbers = (report.loaded.rows_read, *changes, report.read.requests)
        table.add_row(report.endpoint.table, *(f"{number:,}" for number in numbers))
    return table
