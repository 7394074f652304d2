"""`st-pipelines reports`: find reports, add them to `st_reports.yaml`, and run them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from st_pipelines.cli.console import (
    AcceptDeletions,
    Environment,
    Format,
    day_option,
    print_table,
    require_format,
)
from st_pipelines.cli.reports_add import Answers, Questions, as_report, build_entry, describe_values
from st_pipelines.config.environments import environment_name

if TYPE_CHECKING:
    from st_pipelines.config.project import EnvironmentConfig
    from st_pipelines.servicetitan.http.client import Session
    from st_pipelines.servicetitan.http.model import ReadStats
    from st_pipelines.servicetitan.reporting.directory import ReportDescription

app = typer.Typer(no_args_is_help=True, help="Custom reports: find, add and run them.")

Category = Annotated[str, typer.Argument(help="Id or name of the category.", metavar="CATEGORY")]
ReportName = Annotated[str, typer.Argument(help="Id of the report, or its name.", metavar="REPORT")]


@contextmanager
def open_reporting(
    environment: str,
) -> Iterator[tuple[EnvironmentConfig, Session[ReadStats]]]:
    """Opens an environment for requests to the reporting API. Raises SettingsError."""
    from st_pipelines.config.connection import build_connection
    from st_pipelines.config.project import resolve_environment
    from st_pipelines.servicetitan.http.client import Client
    from st_pipelines.servicetitan.http.model import ReadStats

    config = resolve_environment(environment_name(environment))
    with closing(Client(build_connection(config))) as client:
        yield config, client.session(ReadStats())


@app.command("list")
def list_reports(
    environment: Environment,
    category: Annotated[str | None, typer.Option(help="Only this category, by its id.")] = None,
    format: Format = "table",
) -> None:
    """List the tenant's categories and reports, with their ids."""
    from st_pipelines.servicetitan.reporting import directory

    require_format(format, "table", "json")
    with open_reporting(environment) as (config, session):
        categories = directory.list_categories(session)
        chosen = [each for each in categories if category in (None, each.id, each.name)]
        if not chosen:
            known = ", ".join(each.id for each in categories)
            raise ValueError(f"no category {category!r}: name one of {known}")
        found = [(c, r) for c in chosen for r in directory.list_reports(session, c.id)]
    if format == "json":
        typer.echo(json.dumps([asdict(report) for _, report in found], indent=1))
        return
    names = {(r.category, str(r.report)): r.name for r in config.reports}
    table = Table()
    for heading in ("name", "category", "report", "table"):
        table.add_column(heading, no_wrap=heading != "name")
    for each, report in found:
        own = names.get((each.id, str(report.id))) or names.get((each.id, report.name), "")
        shown = f"reports.{own}" if own else ""
        table.add_row(escape(report.name), each.id, str(report.id), shown)
    print_table(Console(), table)


@app.command()
def show(
    category: Category, report: ReportName, environment: Environment, format: Format = "table"
) -> None:
    """Show a report's parameters, the values they accept, and its fields."""
    from st_pipelines.servicetitan.reporting import directory

    require_format(format, "table", "json")
    with open_reporting(environment) as (_, session):
        target = directory.resolve_report(session, category, as_report(report))
        description = directory.describe_report(session, target)
        values = {p.name: directory.list_values(session, p) for p in description.parameters}
    if format == "json":
        content = asdict(description)
        for parameter in content["parameters"]:
            parameter["values"] = values[parameter["name"]]
        typer.echo(json.dumps(content, indent=1, default=str))
        return
    _print_description(Console(), description, values)


@app.command()
def add(
    environment: Environment,
    category: Annotated[str | None, typer.Option(help="Id or name of the category.")] = None,
    report: Annotated[str | None, typer.Option(help="Id or name of the report.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the table.")] = None,
    parameter: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="A parameter's value; several for a list are separated by commas. A date may be "
            "relative, such as today-30d.",
        ),
    ] = None,
    from_parameter: Annotated[
        str | None, typer.Option(help="The date parameter that gets the day as its beginning.")
    ] = None,
    to_parameter: Annotated[
        str | None, typer.Option(help="The date parameter that gets the day as its end.")
    ] = None,
    whole: Annotated[
        bool, typer.Option("--whole", help="Not by days: give dates by --parameter.")
    ] = False,
    look_back_days: Annotated[
        int | None, typer.Option(min=0, help="Days before the last one to read again.")
    ] = None,
    schedule: Annotated[
        str | None, typer.Option(help="A cron expression, or none; by default the daily time.")
    ] = None,
    contract: Annotated[str, typer.Option(help="auto, async or sync.")] = "auto",
) -> None:
    """Add a report to st_reports.yaml. Asks for what is not given, in a terminal."""
    from st_pipelines.config.reports_file import add_report, render_entry

    answers = Answers(
        category=category,
        report=report,
        name=name,
        parameters=dict(map(_split_parameter, parameter or [])),
        from_parameter=from_parameter,
        to_parameter=to_parameter,
        whole=whole,
        look_back_days=look_back_days,
        schedule=schedule,
        contract=contract,
    )
    with open_reporting(environment) as (config, session):
        entry, comments = build_entry(session, config, answers, Questions())
        added = add_report(config.reports_file, entry, comments)
    console = Console()
    console.print(f"Added to {config.reports_file.name}:", highlight=False)
    console.print(render_entry(entry, comments), highlight=False, markup=False, soft_wrap=True)
    command = f"st-pipelines reports run --environment {environment} {added.name}"
    console.print(f"Load it: {command}", highlight=False, soft_wrap=True)


@app.command()
def run(
    environment: Environment,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Names of tables; by default all.")
    ] = None,
    first: Annotated[
        datetime | None, day_option("--from", "First day; by default the start date.")
    ] = None,
    last: Annotated[datetime | None, day_option("--to", "Last day; by default yesterday.")] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Also read days that were loaded before.")
    ] = False,
    accept_deletions: AcceptDeletions = False,
    plan: Annotated[
        bool, typer.Option("--plan", help="Only say what would run, and how long it takes.")
    ] = False,
) -> None:
    """Load reports for a range of days, as runs that Dagster records. Continues after a stop."""
    from st_pipelines.cli.reports_run import run_reports

    failed = run_reports(
        environment_name(environment),
        names or [],
        Console(),
        first=first and first.date(),
        last=last and last.date(),
        again=again,
        accept_deletions=accept_deletions,
        only_plan=plan,
    )
    if failed:
        raise typer.Exit(1)


def _split_parameter(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ValueError(f"--parameter {text!r}: write it as NAME=VALUE")
    return name, value


def _print_description(
    console: Console, report: ReportDescription, values: dict[str, list[tuple[Any, ...]]]
) -> None:
    console.print(f"{report.name} (category {report.category}, report {report.id})", style="bold")
    if report.description:
        console.print(report.description, markup=False, highlight=False)
    table = Table(title="Parameters", title_justify="left")
    for heading in ("name", "label", "type", "required", "accepts"):
        table.add_column(heading, no_wrap=heading != "accepts")
    for each in report.parameters:
        type_ = f"list of {each.data_type}" if each.is_array else each.data_type
        shown = escape(describe_values(values[each.name]))
        is_required = "yes" if each.is_required else ""
        table.add_row(escape(each.name), escape(each.label), type_, is_required, shown)
    print_table(console, table)
    table = Table(title="Fields", title_justify="left")
    for heading in ("name", "label", "declared type"):
        table.add_column(heading, no_wrap=True)
    for name, label, type_ in report.fields:
        table.add_row(escape(name), escape(label), type_)
    print_table(console, table)
