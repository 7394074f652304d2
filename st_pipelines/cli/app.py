"""Assembles the `st-pipelines` command line.

A new command is a module of this package with a function, and that function's name in `COMMANDS`.
"""

from __future__ import annotations

import io
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from st_pipelines import __version__
from st_pipelines.cli import (
    catalog,
    check,
    demo,
    files,
    load,
    publish,
    reconcile,
    reports,
    sandbox,
    scopes,
    setup,
    verify,
)
from st_pipelines.config.errors import SettingsError
from st_pipelines.servicetitan.errors.errors import ServiceTitanError
from st_pipelines.warehouse.errors import WarehouseError

COMMANDS = (
    setup.init,
    scopes.scopes,
    check.check,
    demo.demo,
    load.load,
    sandbox.sandbox,
    publish.publish,
    catalog.endpoints,
    reconcile.reconcile,
    verify.verify,
)
"""In the order of `st-pipelines --help`."""

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="ServiceTitan's data in DuckDB, loaded by Dagster.",
)
for command in COMMANDS:
    app.command()(command)
app.add_typer(catalog.app, name="catalog")
app.add_typer(reports.app, name="reports")
app.add_typer(files.app, name="files")


def _show_version(requested: bool) -> None:
    if requested:
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
    """Declares the options that come before a command."""


def main() -> None:
    """Runs the command line. Expected errors end in one line and exit code 1, not a traceback."""
    _tolerate_encodings()
    try:
        app()
    except (SettingsError, ServiceTitanError, WarehouseError, ValueError, OSError) as error:
        console = Console(stderr=True, emoji=False)
        console.print(f"[red]Error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        raise SystemExit(1) from None


def _tolerate_encodings() -> None:
    """Prints a question mark for what the console's encoding lacks, instead of failing.

    ServiceTitan's texts and people's paths hold any character, and Windows' consoles, redirected
    output and cron do not use UTF-8.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


if __name__ == "__main__":
    main()
