"""The command `st-pipelines`. Each command is a few lines here and a module behind it."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from st_pipelines import __version__
from st_pipelines.cli import setup as cli_setup
from st_pipelines.cli.options import Environment, Select, one_of
from st_pipelines.cli.output import show
from st_pipelines.config.environments import environment_name
from st_pipelines.config.errors import SettingsError
from st_pipelines.sandbox.kinds import DEFECTS, KINDS
from st_pipelines.servicetitan.errors.errors import ServiceTitanError
from st_pipelines.warehouse.errors import WarehouseError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="ServiceTitan's data in DuckDB, loaded by Dagster.",
)
catalog_app = typer.Typer(no_args_is_help=True, help="The list of endpoints.")
app.add_typer(catalog_app, name="catalog")
for command in (cli_setup.init, cli_setup.scopes, cli_setup.check):
    app.command()(command)

Customers = Annotated[int, typer.Option(min=1, help="Size of the company in the sandbox.")]
Seed = Annotated[int, typer.Option(help="The same seed makes the same company.")]
Faults = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KIND:PROBABILITY",
        help="Answer some requests wrongly, such as 503:0.05; repeatable. Kinds: "
        + ", ".join(KINDS)
        + "; and for token requests token-500 and so on.",
    ),
]
Defects = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KIND[:VALUE]",
        help="Set the app up wrongly; repeatable. Kinds: " + ", ".join(DEFECTS) + ".",
    ),
]
Api = Annotated[str | None, typer.Option(help="Only this API, such as jpm.")]
Format = Annotated[str, typer.Option(help="table or json.")]


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"st_pipelines {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the version and exit.", is_eager=True, callback=_show_version
        ),
    ] = False,
) -> None:
    """What can be said before a command."""


def main() -> None:
    """Entry point. What is understood ends with one line and exit code 1, without a traceback."""
    try:
        app()
    except (SettingsError, ServiceTitanError, WarehouseError, ValueError, OSError) as error:
        console = Console(stderr=True, emoji=False)
        console.print(f"[red]Error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        raise SystemExit(1) from None


@app.command()
def demo(
    warehouse: Annotated[Path, typer.Option(help="DuckDB file to fill.")] = Path(
        "data/sandbox.duckdb"
    ),
    days: Annotated[int, typer.Option(min=1, max=3650, help="Days that get a partition.")] = 30,
    seed: Seed = 7,
    customers: Customers = 2000,
    ui: Annotated[bool, typer.Option("--ui", help="Open the Dagster UI at the end.")] = False,
    load: Annotated[bool, typer.Option(help="Load before; --no-load only opens the UI.")] = True,
    port: Annotated[int, typer.Option(help="Port of the UI.")] = 3000,
) -> None:
    """Fill a DuckDB file from a ServiceTitan on this machine, without credentials."""
    from st_pipelines.cli.demo import Demo

    if not (load or ui):
        raise ValueError("--no-load leaves nothing to do: add --ui, which opens the UI")
    with Demo(warehouse=warehouse, days=days, seed=seed, customers=customers) as running:
        failed = running.load() if load else 0
        if ui:
            running.open_ui(port)
    if failed:
        raise typer.Exit(1)


@app.command()
def load(
    environment: Environment,
    select: Select = None,
    first: Annotated[
        datetime | None,
        typer.Option(
            "--from",
            metavar="YYYY-MM-DD",
            formats=["%Y-%m-%d"],
            help="First day; the start date if not given.",
        ),
    ] = None,
    last: Annotated[
        datetime | None,
        typer.Option("--to", metavar="YYYY-MM-DD", formats=["%Y-%m-%d"], help="Last day; today."),
    ] = None,
) -> None:
    """Load a range of days, by default the whole history; runs and days are Dagster's."""
    from st_pipelines.cli.load import load as load_range

    failed = load_range(
        environment_name(environment), select or [], Console(),
        first=first and first.date(), last=last and last.date(),
    )  # fmt: skip
    if failed:
        raise typer.Exit(1)


@app.command()
def sandbox(
    port: Annotated[int, typer.Option(help="0 takes a free one.")] = 0,
    seed: Seed = 7,
    customers: Customers = 2000,
    now: Annotated[str | None, typer.Option(help="Its time at the start, ISO 8601.")] = None,
    fault: Faults = None,
    churn: Annotated[
        float, typer.Option(help="Probability of a data request to find records moved, 0 to 1.")
    ] = 0,
    defect: Defects = None,
    until_input_ends: Annotated[
        bool, typer.Option("--until-input-ends", hidden=True, help="Stop with the caller.")
    ] = False,
) -> None:
    """Run a ServiceTitan on this machine, until Ctrl-C.

    With --fault it answers some requests wrongly, by seed and number of the request.

    With --churn it creates, changes, ties, deactivates and deletes records while they are read.

    With --defect the app is set up wrongly, for practising docs/setup.md.
    """
    from st_pipelines.sandbox.faults import read_faults
    from st_pipelines.sandbox.server import serve

    moment = _moment("--now", now) if now else None
    if moment is not None and moment.tzinfo is None:
        raise ValueError(f"--now {now}: add the offset from UTC, such as {now}+00:00")
    if until_input_ends:
        threading.Thread(target=_stop_with_the_caller, daemon=True).start()
    faults = read_faults(fault or ())
    try:
        serve(
            port=port, seed=seed, customers=customers, now=moment, faults=faults, churn=churn,
            defects=defect or (),
        )  # fmt: skip
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        raise ValueError(f"--port {port} is taken: name another one, or 0 for a free one") from None


def _moment(option: str, text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{option} {text!r}: give a time such as 2026-03-10T09:00+00:00") from None


def _stop_with_the_caller() -> None:
    """Ends this process when its standard input does: its caller is gone, however it ended."""
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)


@app.command()
def publish(environment: Environment) -> None:
    """Replace the read copy of a warehouse, `<name>_read.duckdb`, by its present state."""
    from st_pipelines.config import project
    from st_pipelines.warehouse.store import read_copy as publishing

    warehouse = project.warehouse(environment_name(environment))
    made = publishing.publish(warehouse)
    if made is None:
        typer.echo(f"{publishing.read_copy(warehouse)} is up to date")
    else:
        typer.echo(f"{made.path}: {made.bytes / 1e6:,.1f} MB in {made.seconds:.1f} s")


@app.command()
def endpoints(api: Api = None, format: Format = "table") -> None:
    """List every endpoint: asset, table, path, kind, cursor, key, scope, columns."""
    from st_pipelines.catalog.registry import load_catalog
    from st_pipelines.cli import catalog as listing

    catalog = load_catalog()
    if api is not None and api not in catalog.apis:
        raise ValueError(f"no API {api!r}: name one of {', '.join(catalog.apis)}")
    one_of(format, "table", "json")
    if format == "json":
        typer.echo(listing.as_json(catalog, api))
    else:
        show(Console(), listing.as_table(catalog, api))


@app.command()
def reconcile(
    environment: Environment,
    select: Select = None,
) -> None:
    """Read whole tables and mark what ServiceTitan no longer has."""
    from st_pipelines.cli.reconcile import reconcile_tables

    if reconcile_tables(environment_name(environment), select or [], Console()):
        raise typer.Exit(1)


@app.command()
def verify(
    environment: Environment,
    select: Select = None,
    days: Annotated[int | None, typer.Option(min=1, help="Only the last so many days.")] = None,
    deep: Annotated[bool, typer.Option("--deep", help="Compare the values too.")] = False,
    format: Format = "table",
) -> None:
    """Compare tables with ServiceTitan and print what differs; exit code 1 if anything does."""
    from st_pipelines.cli import verify as verify_report

    one_of(format, "table", "json")
    named = environment_name(environment)
    results = list(verify_report.verify_tables(named, select or [], days=days, deep=deep))
    if format == "json":
        typer.echo(verify_report.as_json(results))
    else:
        verify_report.print_table(Console(), results)
    if not all(result.same for result in results):
        raise typer.Exit(1)


@catalog_app.command("build")
def catalog_build(
    folder: Annotated[Path, typer.Argument(help="Folder of OpenAPI documents, *.json.")],
    output: Annotated[Path | None, typer.Option(help="Where to; the package's own data.")] = None,
) -> None:
    """Build the catalogue from OpenAPI documents and print what changed."""
    from st_pipelines.catalog.build.build import rebuild
    from st_pipelines.catalog.registry import DATA

    for line in rebuild(folder, output or DATA):
        typer.echo(line)


@catalog_app.command("left-out")
def catalog_left_out(format: Format = "table") -> None:
    """List the GET operations that have no table, with the reason."""
    from st_pipelines.catalog.registry import load_catalog
    from st_pipelines.cli import catalog as listing

    one_of(format, "table", "json")
    if format == "json":
        typer.echo(listing.left_out_as_json(load_catalog()))
    else:
        show(Console(), listing.left_out_as_table(load_catalog()))


@catalog_app.command("adopt")
def catalog_adopt(
    environment: Environment,
    select: Select = None,
    widen: Annotated[
        bool, typer.Option("--widen", help="Also change the type of columns that held not all.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be.")] = False,
) -> None:
    """Make columns of what loads kept in _extra, and move the values into them."""
    from st_pipelines.cli import adoption

    console = Console()
    for part in adoption.run(environment, select or (), widen=widen, dry_run=dry_run):
        console.print(part, highlight=False)


if __name__ == "__main__":
    main()
