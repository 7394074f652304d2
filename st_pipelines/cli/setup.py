"""The commands that lead from no credentials to a working set-up: `init`, `scopes`, `check`."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from st_pipelines.catalog.model import Endpoint
from st_pipelines.cli import output as tables
from st_pipelines.cli.options import Environment, Select, one_of
from st_pipelines.config.environments import EnvironmentName, environment_name, setting_name
from st_pipelines.config.errors import SettingsError


def init(
    environment: Environment,
    client_id: Annotated[str | None, typer.Option(help="Begins with cid.")] = None,
    client_secret: Annotated[
        str | None, typer.Option(help="Better typed when asked: a shell keeps what it runs.")
    ] = None,
    app_key: Annotated[str | None, typer.Option(help="Likewise.")] = None,
    tenant_id: Annotated[str | None, typer.Option(help="A number.")] = None,
    timezone: Annotated[str | None, typer.Option(help="Such as America/New_York.")] = None,
    start_date: Annotated[
        str | None, typer.Option(help="First day with a partition, YYYY-MM-DD.")
    ] = None,
    api_url: Annotated[str | None, typer.Option(help="Another server, as the sandbox.")] = None,
    auth_url: Annotated[str | None, typer.Option(help="Likewise, for tokens.")] = None,
    append: Annotated[
        bool, typer.Option("--append", help="Add this environment to the .env that is there.")
    ] = False,
) -> None:
    """Ask for the credentials of an environment and write them to .env, for you alone to read."""
    from st_pipelines.cli import dotenv as dotenv_file
    from st_pipelines.cli import questions
    from st_pipelines.config.settings import EnvironmentSettings

    named = environment_name(environment)
    dotenv_file.refuse_if_taken(named, append=append)
    given = {
        "client_id": client_id,
        "client_secret": client_secret,
        "app_key": app_key,
        "tenant_id": tenant_id,
        "timezone": timezone,
        "start_date": start_date,
        "api_url": api_url,
        "auth_url": auth_url,
    }
    values = questions.answered(named, given)
    for line in dotenv_file.write(named, values, append=append):
        typer.echo(line)
    if start_date is None:
        field = EnvironmentSettings.model_fields["start_date"]
        typer.echo(
            f"Days begin at {field.default}, with all that is older; "
            f"{setting_name(named, 'start_date')} in .env names another."
        )
    typer.echo(f"Next: st-pipelines check --environment {named}")


def scopes(
    environment: Annotated[
        str | None, typer.Option(help="Compare with the token of this environment.")
    ] = None,
    select: Select = None,
    format: Annotated[str, typer.Option(help="table, json or text (a scope a line).")] = "table",
) -> None:
    """The least scopes to tick in the developer portal; with --environment, what its token has."""
    from st_pipelines.catalog.registry import load_catalog
    from st_pipelines.catalog.registry import select as selected
    from st_pipelines.cli import scopes as mapping

    one_of(format, "table", "json", "text")
    against = None
    if environment is None:
        endpoints = selected(load_catalog(), select or [])
    else:
        endpoints = _chosen(environment_name(environment), select or [])
        granted = _granted(environment, endpoints)
        against = None if granted is None else mapping.compared(granted, endpoints)
        if against is None:
            typer.echo("the token does not tell its scopes", err=True)
    if format == "text":
        typer.echo(mapping.as_text(endpoints))
    elif format == "json":
        typer.echo(mapping.as_json(endpoints, against))
    else:
        console = Console()
        tables.show(console, mapping.as_table(endpoints, against))
        for line in mapping.differences(against):
            console.print(escape(line), highlight=False, soft_wrap=True)


def check(
    environment: Environment,
    select: Select = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Also ask each selected endpoint for one record.")
    ] = False,
    show: Annotated[
        bool, typer.Option("--show", help="Also list each setting, its value and its source.")
    ] = False,
    format: Annotated[str, typer.Option(help="table (a line a finding) or json.")] = "table",
) -> None:
    """Look at everything a load needs, and say what to mend; exit code 0 if all is well."""
    from st_pipelines.cli.doctor import report, settings_report, steps
    from st_pipelines.cli.doctor.subject import Subject

    one_of(format, "table", "json")
    named, console = environment_name(environment), Console(emoji=False)
    with _warnings_not_logged():
        endpoints = _chosen(named, select or [])
    subject = Subject(environment=named, endpoints=endpoints, deep=deep)
    findings = []
    with _warnings_not_logged():
        shown = settings_report.shown(named) if show else None
        if shown and format == "table":
            tables.show(console, report.as_table(shown))
        for finding in steps.check(subject):
            findings.append(finding)
            if format == "table":
                console.print(escape(report.line_of(finding)), highlight=False, soft_wrap=True)
        subject.close()
    if format == "json":
        typer.echo(report.as_json(environment, findings, shown))
    else:
        typer.echo(report.summary(environment, findings))
    if not report.all_well(findings):
        raise typer.Exit(1)


@contextmanager
def _warnings_not_logged() -> Iterator[None]:
    """What would be logged is a line of the check."""
    logger = logging.getLogger("st_pipelines")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _chosen(environment: EnvironmentName, patterns: list[str]) -> list[Endpoint]:
    """The selection; everything where the environment's own cannot be read, as a step tells."""
    from st_pipelines.catalog.registry import load_catalog
    from st_pipelines.config import project

    catalog = load_catalog()
    try:
        return project.chosen(environment, catalog, patterns)
    except SettingsError:
        return list(catalog)


def _granted(environment: str, endpoints: list) -> frozenset[str] | None:
    """The scopes of a token of the environment; None where it does not tell them."""
    from st_pipelines.cli.doctor.subject import Subject

    subject = Subject(environment=environment_name(environment), endpoints=endpoints)
    try:
        return subject.claims.scopes if subject.claims else None
    finally:
        subject.close()
