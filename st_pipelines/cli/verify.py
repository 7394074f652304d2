"""`st-pipelines verify`: compares tables with ServiceTitan and prints the differences.

`sync.verify` does the comparing.
"""

from __future__ import annotations

import dataclasses
import json
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
from st_pipelines.config.environments import EnvironmentName, environment_name
from st_pipelines.servicetitan.errors.errors import AuthenticationFailed, ServiceTitanError
from st_pipelines.warehouse.errors import MalformedRecords

if TYPE_CHECKING:
    from st_pipelines.sync.sync import SyncContext
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
    deep: Annotated[bool, typer.Option("--deep", help="Also compare the values.")] = False,
    format: Format = "table",
) -> None:
    """Compare tables with ServiceTitan and print what differs; exit code 1 if anything does."""
    require_format(format, "table", "json")
    name = environment_name(environment)
    results = list(verify_tables(name, select or [], days=days, deep=deep))
    if format == "json":
        typer.echo(json.dumps([_as_json(result) for result in results], indent=1))
    else:
        _print_results(Console(), results)
    if not all(result.same for result in results):
        raise typer.Exit(1)


def verify_tables(
    environment: EnvironmentName, patterns: Sequence[str], *, days: int | None, deep: bool
) -> Iterator[Verified]:
    """Compares the selected tables; yields each result before the next table is read.

    Args:
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


def _as_json(result: Verified) -> dict[str, object]:
    return {
        "table": result.table,
        "same": result.same,
        "rows_here": result.rows_here,
        "rows_there": result.rows_there,
        **{kind: result.count(kind) for kind in _KINDS},
        "changed_meanwhile": result.changed_meanwhile,
        "requests": result.requests,
        "problem": result.problem or None,
        "differences": [dataclasses.asdict(difference) for difference in result.differences],
    }


def _print_results(console: Console, results: Sequence[Verified]) -> None:
    """Prints a row per table, a line per difference, and a summary."""
    compared = [result for result in results if not result.problem]
    if compared:
        print_table(console, _as_table(compared))
    print_failures(console, {result.table: result.problem for result in results if result.problem})
    for result in results:
        for line in _difference_lines(result):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    wrong, tables = sum(not result.same for result in results), counted(len(results), "table")
    console.print(
        f"{wrong} of {tables} differ or could not be compared"
        if wrong
        else f"{tables} {'matches' if len(results) == 1 else 'match'} ServiceTitan"
    )


def _as_table(results: Sequence[Verified]) -> Table:
    table = Table(box=SIMPLE, pad_edge=False, collapse_padding=True)
    table.add_column("table", no_wrap=True)
    for heading in ("here", "there", *_KINDS, "changed meanwhile", "requests"):
        table.add_column(heading, justify="right")
    for result in results:
        rows = [f"{result.rows_here:,}", f"{result.rows_there:,}"]
        counts = [*map(result.count, _KINDS), result.changed_meanwhile, result.requests]
        table.add_row(result.table, *rows, *(f"{count:,}" if count else "" for count in counts))
    return table


def _difference_lines(result: Verified) -> Iterator[str]:
    for difference in result.differences[:MAX_PRINTED]:
        yield f"{result.table} {difference.key}: {_describe(difference)}"
    if (more := len(result.differences) - MAX_PRINTED) > 0:
        yield f"{result.table}: {more:,} more, see --format json"


def _describe(difference: Difference) -> str:
    text = _KINDS[difference.kind]
    if difference.kind == "differs":
        here, there = _shorten(difference.here), _shorten(difference.there)
        text = f"{difference.column} is {here}, there {there}"
    elif difference.here is not None:
        text += f" ({difference.here}, there {difference.there})"
    return text + (", changed there since the last load" if difference.newer else "")


def _shorten(value: str | None) -> str:
    if value is None:
        return "NULL"
    return repr(value if len(value) <= 60 else value[:57] + "...")
