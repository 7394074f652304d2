"""Says which tables lack their older records, and which command loads them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console

from st_pipelines.catalog.model import Endpoint
from st_pipelines.config.connection import build_connection
from st_pipelines.config.project import EnvironmentConfig
from st_pipelines.sync.completeness import read_warehouse_state
from st_pipelines.windows import utc_now


def print_partly_loaded(
    console: Console, config: EnvironmentConfig, endpoints: Sequence[Endpoint]
) -> None:
    """Names the tables that lack records which were last changed before the days loaded so far."""
    coverage = read_warehouse_state(
        config.open_store(),
        endpoints,
        environment=config.environment,
        tenant_id=build_connection(config).tenant_id,
        now=utc_now(),
    ).coverage
    tables = sorted(
        endpoint.table
        for endpoint in endpoints
        if not endpoint.by_day
        and (covered := coverage[endpoint.table]).windows
        and not covered.from_the_beginning
    )
    if tables:
        console.print(
            f"{', '.join(tables)}: only records that were changed in the days loaded so far, so "
            f"that joins return too few rows. {describe_loading(config.environment, tables)}",
            style="yellow",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )


def describe_loading(environment: str, tables: Iterable[str]) -> str:
    """Says how to load tables from their beginning."""
    command = f"st-pipelines load --environment {environment} --select {','.join(tables)}"
    return f"To load everything: {command}"
