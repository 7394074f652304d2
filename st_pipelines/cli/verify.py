"""`st-pipelines verify`: one table after the other, and what differs, for people or as JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from st_pipelines.catalog.model import Endpoint
from st_pipelines.catalog.registry import load_catalog
from st_pipelines.cli.output import counted, show, show_failures
from st_pipelines.config import project
from st_pipelines.config.environments import EnvironmentName
from st_pipelines.servicetitan.errors.errors import AuthenticationFailed, ServiceTitanError
from st_pipelines.sync.session import command_job
from st_pipelines.sync.sync import SyncContext
from st_pipelines.sync.verify import Verified, verify_table
from st_pipelines.warehouse.errors import MalformedRecords
from st_pipelines.warehouse.tables.compare import Difference

MOST_SHOWN = 20
"""Differences of one table that are printed; JSON has all."""

_KINDS = {
    "missing": "missing here",
    "extra": "here, but not at ServiceTitan",
    "duplicate": "here more than once",
    "differs": "differs",
}


def verify_tables(
    environment: EnvironmentName, patterns: Sequence[str], *, days: int | None, deep: bool
) -> Iterator[Verified]:
    """Compares the chosen tables, each when the one before has been taken.

    Args:
        environment: its settings say with what.
        patterns: see `selection.select`.
        days: see `verify.verify_table`.
        deep: see there.

    Raises:
        SettingsError: a setting is missing or wrong.
        ValueError: a pattern matches no table.
        AuthenticationFailed: the credentials are refused.
        WarehouseError: there is no warehouse yet, or another process holds it.
    """
    chosen, progress = project.chosen(environment, load_catalog(), patterns), Console(stderr=True)
    with command_job(environment, "verify") as job:
        for number, endpoint in enumerate(chosen, start=1):
            with progress.status(f"{number} of {len(chosen)}: reading {endpoint.table}"):
                verified = _verified(job, endpoint, days, deep)
            yield verified


def _verified(job: SyncContext, endpoint: Endpoint, days: int | None, deep: bool) -> Verified:
    try:
        return verify_table(job, endpoint, days=days, deep=deep)
    except AuthenticationFailed:
        raise  # the next would fail alike
    except (ServiceTitanError, MalformedRecords) as error:
        return Verified(table=endpoint.table, problem=str(error))


def as_json(results: Sequence[Verified]) -> str:
    """An array, one object a table, with all differences."""
    return json.dumps([_facts(result) for result in results], indent=1)


def print_table(console: Console, results: Sequence[Verified]) -> None:
    """A line a table, then what differs, then one line on the whole."""
    table = Table(box=SIMPLE, pad_edge=False, collapse_padding=True)
    table.add_column("table", no_wrap=True)
    for heading in ("here", "there", *_KINDS, "changed meanwhile", "requests"):
        table.add_column(heading, justify="right")
    for one in results:
        if not one.problem:
            counts = [one.rows_here, one.rows_there, *map(one.count, _KINDS)]
            counts += [one.changed_meanwhile, one.requests]
            table.add_row(
                one.table, *(f"{n:,}" if n or at < 2 else "" for at, n in enumerate(counts))
            )
    if table.row_count:
        show(console, table)
    show_failures(console, {one.table: one.problem for one in results if one.problem})
    for one in results:
        for line in _lines(one):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    wrong, all_ = sum(not one.same for one in results), counted(len(results), "table")
    console.print(
        f"{wrong} of {all_} differ or could not be compared"
        if wrong
        else f"{all_} as ServiceTitan has {'it' if len(results) == 1 else 'them'}"
    )


def _lines(verified: Verified) -> Iterator[str]:
    for difference in verified.differences[:MOST_SHOWN]:
        yield f"{verified.table} {difference.key}: {_told(difference)}"
    if (more := len(verified.differences) - MOST_SHOWN) > 0:
        yield f"{verified.table}: {more:,} more, see --format json"


def _told(difference: Difference) -> str:
    told = _KINDS[difference.kind]
    if difference.kind == "differs":
        told = f"{difference.column} is {_short(difference.here)}, there {_short(difference.there)}"
    elif difference.here is not None:
        told += f" ({difference.here}, there {difference.there})"
    return told + (", changed there since the last load" if difference.newer else "")


def _short(value: str | None) -> str:
    if value is None:
        return "NULL"
    return repr(value if len(value) <= 60 else value[:59] + "…")


def _facts(one: Verified) -> dict[str, object]:
    return {
        "table": one.table,
        "same": one.same,
        "rows_here": one.rows_here,
        "rows_there": one.rows_there,
        **{kind: one.count(kind) for kind in _KINDS},
        "changed_meanwhile": one.changed_meanwhile,
        "requests": one.requests,
        "problem": one.problem or None,
        "differences": [dataclasses.asdict(difference) for difference in one.differences],
    }
