"""`st-pipelines publish`: brings the read copy of a warehouse up to date."""

from __future__ import annotations

import typer

from st_pipelines.cli.console import Environment
from st_pipelines.config.environments import environment_name


def publish(environment: Environment) -> None:
    """Bring the read copy of a warehouse, `<name>_read.duckdb`, up to date."""
    from st_pipelines.config.project import resolve_environment

    warehouse = resolve_environment(environment_name(environment)).open_store()
    published = warehouse.publish()
    if published is None:
        typer.echo(f"{warehouse.read_location} is up to date")
    else:
        megabytes = published.bytes / 1e6
        typer.echo(f"{published.location}: {megabytes:,.1f} MB in {published.seconds:.1f} s")
