"""`st-pipelines load`: loads a range of days, as Dagster's runs in this process.

There is one run per API. Dagster's instance records every partition, so the UI shows the runs and
the sensor `gaps` does not request these days again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from st_pipelines.cli.console import AcceptDeletions, Environment, Select, day_option
from st_pipelines.config.environments import EnvironmentName, environment_name, setting_name
from st_pipelines.config.errors import SettingsError
from st_pipelines.windows import local_day, utc_now

if TYPE_CHECKING:
    import dagster as dg

    from st_pipelines.config.project import EnvironmentConfig
    from st_pipelines.config.settings import EnvironmentSettings

TENANT_TAG = "st_pipelines/tenant"
"""On every run of `load`, because Dagster's asset keys are the same for all tenants."""


def load(
    environment: Environment,
    select: Select = None,
    first: Annotated[
        datetime | None, day_option("--from", "First day; by default the start date.")
    ] = None,
    last: Annotated[datetime | None, day_option("--to", "Last day; by default today.")] = None,
    key_prefix: Annotated[
        str,
        typer.Option(
            metavar="A/B", help="The key_prefix of the assets, if your own Dagster project has one."
        ),
    ] = "",
    accept_timezone: Annotated[
        bool,
        typer.Option(
            "--accept-timezone",
            help="Move all rows to their days in the time zone that is set, even if it was "
            "used before another one or is the default.",
        ),
    ] = False,
    accept_deletions: AcceptDeletions = False,
) -> None:
    """Load a range of days, by default the whole history, as runs that Dagster records."""
    failed = load_range(
        environment_name(environment),
        select or [],
        Console(),
        first=first and first.date(),
        last=last and last.date(),
        key_prefix=tuple(part for part in key_prefix.split("/") if part),
        accept_timezone=accept_timezone,
        accept_deletions=accept_deletions,
    )
    if failed:
        raise typer.Exit(1)


def load_range(
    environment: EnvironmentName,
    patterns: Sequence[str],
    console: Console,
    *,
    first: date | None = None,
    last: date | None = None,
    key_prefix: tuple[str, ...] = (),
    accept_timezone: bool = False,
    accept_deletions: bool = False,
) -> int:
    """Materializes tables for a range of days; prints progress and a summary.

    Args:
        patterns: select among the tables of the environment.
        first: the start date if None; its partition includes everything older.
        last: today if None.
        key_prefix: as the code location that shows the runs gives to `build_definitions`.
        accept_timezone: change to the time zone that is set even if loads would refuse it.
        accept_deletions: also load what deletes a large part of a table.

    Returns:
        Number of tables that failed.

    Raises:
        SettingsError: a setting is missing or wrong, or DAGSTER_HOME is.
        ValueError: a pattern matches no table, or the range is empty or out of bounds.
        ServiceTitanError: no token was issued.
        WarehouseError: the warehouse cannot be written.
        KeyboardInterrupt: Ctrl-C, SIGTERM or SIGHUP; what was loaded stays.
    """
    from st_pipelines.catalog import registry
    from st_pipelines.cli import progress
    from st_pipelines.cli.partly_loaded import print_partly_loaded
    from st_pipelines.config.project import resolve_environment
    from st_pipelines.defs import run_state

    config = resolve_environment(environment)
    endpoints = registry.select(config.apply_selection(), patterns)
    if not patterns:  # reports run minutes per day: st-pipelines reports run says how long first
        endpoints = [endpoint for endpoint in endpoints if not endpoint.report]
    days = _resolve_range(environment, config.settings, first, last)
    with open_dagster(
        config, console, key_prefix=key_prefix, accept_timezone=accept_timezone
    ) as dagster:
        outcomes = progress.materialize(
            console,
            dagster.instance,
            dagster.job,
            [dagster.keys[endpoint.table] for endpoint in endpoints],
            tags=dagster.tags | run_state.range_tags(*days),
            accept_deletions=accept_deletions,
        )
    progress.print_outcomes(console, outcomes)
    print_partly_loaded(console, config, endpoints)
    return sum(len(outcome.failures) for outcome in outcomes)


@dataclass(frozen=True, kw_only=True)
class OpenDagster:
    """Dagster's instance, and a job with all assets of an environment.

    Attributes:
        tags: of every run.
        keys: the assets, by table.
    """

    instance: dg.DagsterInstance
    job: dg.JobDefinition
    tags: dict[str, str]
    keys: Mapping[str, dg.AssetKey]


@contextmanager
def open_dagster(
    config: EnvironmentConfig,
    console: Console,
    *,
    key_prefix: tuple[str, ...] = (),
    accept_timezone: bool = False,
) -> Iterator[OpenDagster]:
    """Opens what loads in this process need, and signs in.

    In the block, SIGTERM and SIGHUP raise KeyboardInterrupt.

    Raises:
        SettingsError: a setting is missing or wrong, or DAGSTER_HOME is.
        ServiceTitanError: no token was issued.
        WarehouseError: the warehouse cannot be written.
    """
    from st_pipelines.cli import dagster_sqlite, processes, progress
    from st_pipelines.config.connection import build_connection
    from st_pipelines.definitions import build_definitions
    from st_pipelines.defs import metadata, run_state
    from st_pipelines.servicetitan.http.auth import token_source_for
    from st_pipelines.servicetitan.http.retry import RetryPolicy
    from st_pipelines.servicetitan.http.transport import new_http_session

    environment = config.environment
    config.open_store().check()
    connection = build_connection(config)
    _check_timezone(console, config, connection.tenant_id, accept=accept_timezone)
    definitions = build_definitions(
        environment, key_prefix=key_prefix, loggers={"console": progress.progress_logger}
    )
    with (
        processes.terminated_as_interrupted(),
        processes.private_files(),  # of Dagster's, in its home folder
        dagster_sqlite.cheap_events(durable=True),
        _open_instance(config, connection.tenant_id) as instance,
    ):
        # Without a token every table would fail.
        token_source_for(connection).get_token(new_http_session(), RetryPolicy())
        _report_difference(console, instance, config, connection.tenant_id, key_prefix)
        yield OpenDagster(
            instance=instance,
            job=definitions.resolve_implicit_global_asset_job_def(),
            tags={run_state.ENVIRONMENT_TAG: environment, TENANT_TAG: connection.tenant_id},
            keys={
                endpoint.table: metadata.asset_key(environment, endpoint, key_prefix)
                for endpoint in config.apply_selection()
            },
        )


def _resolve_range(
    environment: EnvironmentName,
    settings: EnvironmentSettings,
    first: date | None,
    last: date | None,
) -> tuple[str, str]:
    today = local_day(utc_now(), settings.timezone)
    first, last = first or settings.start_date, last or today
    if first < settings.start_date:
        raise ValueError(
            f"{first} is before the start date {settings.start_date}, whose partition holds "
            f"everything older: omit --from, or set {setting_name(environment, 'start_date')}"
        )
    if last > today or first > last:
        raise ValueError(f"{first} to {last} is not a range of days up to today, {today}")
    return first.isoformat(), last.isoformat()


def _check_timezone(
    console: Console, config: EnvironmentConfig, tenant_id: str, *, accept: bool
) -> None:
    """Refuses a time zone before anything is read; changes to it instead if it is accepted."""
    from st_pipelines.defs.metadata import describe_zone_change
    from st_pipelines.warehouse.tables import identity

    store, zone = config.open_store(), config.settings.timezone
    owner = {"environment": config.environment, "tenant_id": tenant_id}
    if accept:
        if change := identity.accept_timezone(store, config.catalog, **owner, timezone=zone):
            console.print(describe_zone_change(change))
    elif store.exists:
        with store.read_only() as warehouse:
            stored = identity.read_identity(warehouse, **owner, schema="_st")
        is_default = config.settings.timezone_is_default
        identity.refuse_timezone(stored, config.environment, zone, is_default=is_default)


def _report_difference(
    console: Console,
    instance: dg.DagsterInstance,
    config: EnvironmentConfig,
    tenant_id: str,
    key_prefix: tuple[str, ...],
) -> None:
    """Says if the warehouse is not the one that Dagster has recorded. Refuses another tenant."""
    from st_pipelines.defs.warehouse_record import compare_warehouse, record_name

    compared = compare_warehouse(
        instance,
        config,
        config.open_store(),
        name=record_name(config.environment, key_prefix),
        endpoints=config.apply_selection(),
        tenant_id=tenant_id,
        now=utc_now(),
    )
    if compared.difference:
        console.print(compared.difference, style="yellow", highlight=False, markup=False)


def _open_instance(config: EnvironmentConfig, tenant_id: str) -> dg.DagsterInstance:
    """Opens Dagster's instance. Refuses one that has runs of another tenant."""
    import dagster as dg

    from st_pipelines.config.sources.local import set_dagster_home
    from st_pipelines.defs.run_state import ENVIRONMENT_TAG
    from st_pipelines.defs.warehouse_record import refuse_other_tenants

    home = config.dagster_home
    if home is None or not home.is_dir():
        problem = "is not set" if home is None else f"is not an existing folder ({home})"
        raise SettingsError(
            f"DAGSTER_HOME {problem}: set it to the folder in which Dagster records loads, the "
            "same as for dagster dev (docs/setup.md, step 8)"
        )
    set_dagster_home(home)
    instance = dg.DagsterInstance.from_config(str(home))
    try:
        tagged = dg.RunsFilter(tags={ENVIRONMENT_TAG: config.environment})
        runs = instance.get_runs(tagged, limit=100)
        refuse_other_tenants(
            (run.tags[TENANT_TAG] for run in runs if TENANT_TAG in run.tags), tenant_id
        )
    except BaseException:
        instance.dispose()
        raise
    return instance
