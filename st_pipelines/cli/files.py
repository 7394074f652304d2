"""`st-pipelines files`: which files are due and stored, and storing them without Dagster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from st_pipelines.cli.console import Environment, day_option, print_failures, print_table
from st_pipelines.config.environments import environment_name
from st_pipelines.config.errors import SettingsError
from st_pipelines.servicetitan.errors.errors import AuthenticationFailed, ServiceTitanError
from st_pipelines.warehouse.errors import WarehouseError

if TYPE_CHECKING:
    from st_pipelines.catalog.file_kinds import FileKind
    from st_pipelines.config.files import FileSettings
    from st_pipelines.sync.files import FilesReport
    from st_pipelines.sync.sync import SyncContext

app = typer.Typer(no_args_is_help=True, help="List and store recordings, images and attachments.")

Kinds = Annotated[
    list[str] | None, typer.Argument(help="Such as recordings; by default those of ST_FILES.")
]

_RESULTS = ("stored", "bytes", "missing", "empty", "too large", "failed")


@app.command("list")
def list_files(environment: Environment, kinds: Kinds = None) -> None:
    """Count the files of each kind: due, stored, and why others are not."""
    from st_pipelines.sync.files import describe_missing_tables, find_due, open_table

    console, absent = Console(), list[str]()
    table = _build_table("due", *_RESULTS, "not served")
    with _opened(environment, kinds) as (context, chosen, settings):
        context.require_warehouse()
        for kind in chosen:
            due = find_due(context, kind, settings, limit=0)
            states = open_table(context, kind).count_states()
            counts = {state: count for state, (count, _) in states.items()}
            numbers = [
                due.count,
                counts.get("stored", 0),
                states.get("stored", (0, 0))[1],
                *(counts.get(state, 0) for state in ("missing", "empty", "too_large", "failed")),
                due.elsewhere,
            ]
            table.add_row(kind.name, *(f"{number:,}" for number in numbers))
            if due.missing_tables:
                absent.append(f"{kind.title}: {describe_missing_tables(due)}")
    print_table(console, table)
    for text in absent:
        console.print(text, highlight=False, soft_wrap=True)


@app.command("load")
def load_files(
    environment: Environment,
    kinds: Kinds = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="The most files of a kind; see ST_FILES_PER_RUN.")
    ] = None,
    first: Annotated[
        datetime | None, day_option("--from", "Only files of rows from this local day on.")
    ] = None,
    last: Annotated[
        datetime | None, day_option("--to", "Only files of rows up to this local day.")
    ] = None,
) -> None:
    """Download the files that are due, the newest first, and store them."""
    from st_pipelines.sync import files
    from st_pipelines.windows import parse_days

    console, reports, failures = Console(), list["FilesReport"](), dict[str, str]()
    days = parse_days(first and first.date(), last and last.date())

    def announce(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True)

    with _opened(environment, kinds) as (context, chosen, settings):
        for kind in chosen:
            try:
                reports.append(
                    files.load_files(
                        context, kind, settings, limit=limit, days=days, announce=announce
                    )
                )
            except AuthenticationFailed:
                raise  # every further kind would fail the same way
            except (ServiceTitanError, WarehouseError) as error:
                failures[kind.name] = str(error)
    if reports:
        print_table(console, _as_table(reports))
    failures |= {
        report.kind.name: f"{report.failed} files: {'; '.join(report.problems)}"
        for report in reports
        if report.failed
    }
    print_failures(console, failures)
    if failures:
        raise typer.Exit(1)


@contextmanager
def _opened(
    environment: str, names: Sequence[str] | None
) -> Iterator[tuple[SyncContext, Sequence[FileKind], FileSettings]]:
    """Yields the context of an environment, the kinds to work on, and the settings of files."""
    from st_pipelines.config.project import resolve_environment
    from st_pipelines.sync.session import sync_context

    config = resolve_environment(environment_name(environment))
    settings = config.files
    chosen = [settings.find(name) for name in names] if names else list(config.file_kinds)
    if not chosen:
        raise SettingsError("ST_FILES names no kind of files: set it, such as ST_FILES=recordings")
    with sync_context(config, "files") as context:
        yield context, chosen, settings


def _build_table(*headings: str) -> Table:
    """Returns a table whose first column is the kind; the others contain numbers."""
    table = Table("kind")
    for heading in headings:
        table.add_column(heading, justify="right")
    return table


def _as_table(reports: Sequence[FilesReport]) -> Table:
    table = _build_table("due", *_RESULTS, "left", "requests", "seconds")
    for report in reports:
        numbers = (
            report.due,
            report.stored,
            report.bytes,
            report.missing,
            report.empty,
            report.too_large,
            report.failed,
            report.left,
            report.requests,
        )
        cells = (f"{number:,}" for number in numbers)
        table.add_row(report.kind.name, *cells, f"{report.seconds:.1f}")
    return table
