"""`st-pipelines verify`: compares tables with ServiceTitan and prints the differences.

`sync.verify` does the comparing.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from st_pipelines.catalog.model import Endpoint
from st_pipelines.cli.console import (
    Environment,
    Format,
    Select,
    counted,
    print_failures,
    print_table,
    require_format,
)
from st_pipelines.cli.partly_loaded import describe_loading
from st_pipelines.config.environments import EnvironmentName, environment_name
from st_pipelines.servicetitan.errors.errors import AuthenticationFailed, ServiceTitanError
from st_pipelines.warehouse.errors import MalformedRecords

if TYPE_CHECKING:
    from st_pipelines.sync.context import SyncContext
    from st_pipelines.sync.verify import Verified
    from st_pipelines.warehouse.tables.compare import Difference

MAX_PRINTED = 20
"""Differences printed per table; `--format json` has all of them."""

_KINDS = {
    "missing": "missing here",
    "extra": "here, but not at ServiceTitan",
    "duplicate": "here more than once",
    "differs": "differs",
}


def verify(
    environment: Environment,
    select: Select = None,
    days: Annotated[
        int | None, typer.Option(min=1, help="Only this many of the last days.")
    ] = None,
    deep: Annotated[
        bool,
        typer.Option("--deep", help="Also compare what only export feeds serve."),
    ] = False,
    show_values: Annotated[
        bool, typer.Option("--show-values", help="Print differing values: customers' data.")
    ] = False,
    format: Format = "table",
) -> None:
    """Compare the values of tables with ServiceTitan; exit code 1 if anything differs."""
    require_format(format, "table", "json")
    name = environment_name(environment)
    results = list(verify_tables(name, select or [], days=days, deep=deep))
    unloaded = sorted(result.table for result in results if result.since)
    if format == "json":
        typer.echo(json.dumps([_as_json(result, show_values) for result in results], indent=1))
    else:
        _print_results(console := Console(), results, show_values)
        if unloaded:
            console.print(
                f"Nothing older was compared in {', '.join(unloaded)}: it was never loaded. "
                f"{describe_loading(name, unloaded)}",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )
    if not all(result.same for result in results):
        raise typer.Exit(1)


def verify_tables(
    environment: EnvironmentName, patterns: Sequence[str], *, days: int | None, deep: bool
) -> Iterator[Verified]:
    """Compares the selected tables; yields each result before the next table is read.

    Args:
        patterns: none selects all tables but reports.
        days: see `sync.verify.verify_table`; `deep` likewise.

    Raises:
        SettingsError: a setting is missing or wrong.
        ValueError: a pattern matches no table.
        AuthenticationFailed: the credentials are refused.
        WarehouseError: there is no warehouse yet, or another process holds it.
    """
    from st_pipelines.config.project import resolve_environment
    from st_pipelines.sync.session import sync_context

    config = resolve_environment(environment)
    endpoints = config.select_endpoints(patterns)
    if not patterns:  # a day of a report takes a minute
        endpoints = [endpoint for endpoint in endpoints if not endpoint.report]
    progress = Console(stderr=True)
    with sync_context(config, "verify", writes=False) as context:
        for number, endpoint in enumerate(endpoints, start=1):
            with progress.status(f"{number} of {len(endpoints)}: reading {endpoint.table}"):
                result = _verify_table(context, endpoint, days, deep)
            yield result


def _verify_table(
    context: SyncContext, endpoint: Endpoint, days: int | None, deep: bool
) -> Verified:
    from st_pipelines.sync.verify import Verified, verify_table

    try:
        return verify_table(context, endpoint, days=days, deep=deep)
    except AuthenticationFailed:
        raise  # every further table would fail the same way
    except (ServiceTitanError, MalformedRecords) as error:
        return Verified(table=endpoint.table, problem=str(error))


def _as_json(result: Verified, show_values: bool) -> dict[str, object]:
    return {
        "table": result.table,
        "same": result.same,
        "compared": result.compared,
        "not_compared": result.not_compared,
        "compared_since": result.since.isoformat() if result.since else None,
        "rows_here": result.rows_here,
        "rows_there": result.rows_there,
        **{kind: result.count(kind) for kind in _KINDS},
        "changed_meanwhile": result.changed_meanwhile,
        "reordered": result.reordered,
        "requests": result.requests,
        "parents": result.parents,
        "problem": result.problem or None,
        "columns": _count_columns(result),
        "differences": [_difference_as_json(one, show_values) for one in result.differences],
    }


def _difference_as_json(difference: Difference, show_values: bool) -> dict[str, object]:
    shown = dataclasses.asdict(difference)
    if difference.kind == "differs" and not show_values:
        del shown["here"], shown["there"]
    return shown


def _count_columns(result: Verified) -> dict[str, int]:
    """The number of rows that differ in each column."""
    return dict(Counter(one.column for one in result.differences if one.column))


def _print_results(console: Console, results: Sequence[Verified], show_values: bool) -> None:
    """Prints a row per table, the columns that differ, a line per difference, and a summary."""
    compared = [result for result in results if not result.problem]
    if compared:
        print_table(console, _as_table(compared))
    print_failures(console, {result.table: result.problem for result in results if result.problem})
    for result in results:
        for line in _difference_lines(result, show_values):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    for line in _summary(results):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _summary(results: Sequence[Verified]) -> Iterator[str]:
    wrong, tables = sum(not result.same for result in results), counted(len(results), "table")
    yield (
        f"{wrong} of {tables} differ or could not be compared"
        if wrong
        else f"{tables} {'matches' if len(results) == 1 else 'match'} ServiceTitan"
    )
    left = sorted({f"{result.table}.{name}" for result in results for name in result.not_compared})
    if left:
        yield f"not compared, as only the export feed serves it (--deep): {', '.join(left)}"
    for result in results:
        if result.parents and result.parents[0] < result.parents[1]:
            compared, live = result.parents
            yield f"{result.table}: compared for {compared:,} of {counted(live, 'parent')}"
    if reordered := sum(result.reordered for result in results):
        yield f"{counted(reordered, 'list')} with the same members in another order"


def _describe_compared(result: Verified) -> str:
    return result.compared + (f" since {result.since}" if result.since else "")


def _as_table(results: Sequence[Verified]) -> Table:
    table = Table(box=SIMPLE, pad_edge=False, collapse_padding=True)
    table.add_column("table", no_wrap=True)
    table.add_column("compared")
    for heading in ("here", "there", *_KINDS, "changed meanwhile", "requests"):
        table.add_column(heading, justify="right")
    for result in results:
        rows = [f"{result.rows_here:,}", f"{result.rows_there:,}"]
        numbers = [*map(result.count, _KINDS), result.changed_meanwhile, result.requests]
        counts = (f"{number:,}" if number else "" for number in numbers)
        table.add_row(result.table, _describe_compared(result), *rows, *counts)
    return table


def _difference_lines(result: Verified, show_values: bool) -> Iterator[str]:
    for column, rows in _count_columns(result).items():
        yield f"{result.table}: {column} differs in {counted(rows, 'row')}"
    for difference in result.differences[:MAX_PRINTED]:
        yield f"{result.table} {difference.key}: {_describe(difference, show_values)}"
    if (more := len(result.differences) - MAX_PRINTED) > 0:
        yield f"{result.table}: {more:,} more, see --format json"


def _describe(difference: Difference, show_values: bool) -> str:
    text = _KINDS[difference.kind]
    if difference.kind == "differs":
        text = f"{difference.column} {text}"
        if show_values:
            text += f": {_shorten(difference.here)}, there {_shorten(difference.there)}"
    elif difference.here is not None:
        text += f" ({difference.here}, there {difference.there})"
    return text + (", changed there since the last load" if difference.newer else "")


def _shorten(value: str | None) -> str:
    if value is None:
        return "NULL"
    return repr(value if len(value) <= 60 else value[:57] + "...")
