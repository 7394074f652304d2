"""`st-pipelines check`: runs the steps of `doctor.steps` and prints their findings."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from st_pipelines.cli.console import Environment, Select, require_format
from st_pipelines.config.environments import environment_name


def check(
    environment: Environment,
    select: Select = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Also request one record from each selected endpoint.")
    ] = False,
    show: Annotated[
        bool, typer.Option("--show", help="Also list each setting with its value and source.")
    ] = False,
    format: Annotated[str, typer.Option(help="table (one line per finding) or json.")] = "table",
) -> None:
    """Check everything that a load needs, and say what to fix; exit code 0 if all is well."""
    from st_pipelines.cli.doctor import report, steps
    from st_pipelines.cli.doctor.subject import Subject, select_endpoints

    require_format(format, "table", "json")
    name, console = environment_name(environment), Console(emoji=False)
    findings = []
    with _warnings_silenced():
        subject = Subject(
            environment=name, endpoints=select_endpoints(name, select or []), deep=deep
        )
        settings = report.read_settings(name) if show else None
        if settings and format == "table":
            for line in report.setting_lines(settings):
                console.print(escape(line), highlight=False, soft_wrap=True)
        for finding in steps.check(subject):
            findings.append(finding)
            if format == "table":
                console.print(escape(report.as_line(finding)), highlight=False, soft_wrap=True)
        subject.close()
    if format == "json":
        typer.echo(report.as_json(environment, findings, settings))
    else:
        typer.echo(report.summary(environment, findings))
    if not report.passed(findings):
        raise typer.Exit(1)


@contextmanager
def _warnings_silenced() -> Iterator[None]:
    """Keeps our warnings out of the log, as the check prints them as findings."""
    logger = logging.getLogger("st_pipelines")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
