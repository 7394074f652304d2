"""`st-pipelines load`: a range of days from the command line, as Dagster's runs.

One run an API, in this process. Dagster's instance learns of every partition, so that the UI shows
the runs, and the sensor `gaps` asks for nothing of it again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import date

import dagster as dg
from dagster._core.errors import DagsterHomeNotSetError, DagsterInvariantViolationError
from dagster._core.events import RunFailureReason
from rich.console import Console

from st_pipelines.catalog.registry import load_catalog, select
from st_pipelines.cli.dagster_sqlite import make_events_cheap
from st_pipelines.cli.processes import terminated_as_interrupted
from st_pipelines.cli.progress import ApiOutcome, Progress, print_outcomes, progress_logger
from st_pipelines.config import connection as connecting
from st_pipelines.config import project
from st_pipelines.config.environments import EnvironmentName, setting_name
from st_pipelines.config.errors import SettingsError
from st_pipelines.config.settings import EnvironmentSettings, load_settings
from st_pipelines.definitions import build_definitions
from st_pipelines.defs.assets import asset_key
from st_pipelines.defs.run_state import ENVIRONMENT_TAG, range_tags
from st_pipelines.servicetitan.http.auth import token_source_for
from st_pipelines.servicetitan.http.retry import RetryPolicy
from st_pipelines.servicetitan.http.transport import new_session
from st_pipelines.windows import local_day, utc_now

TENANT_TAG = "st_pipelines/tenant"
"""Of every run of `load`: Dagster's own names are the same for all tenants."""


def load(
    environment: EnvironmentName,
    patterns: Sequence[str],
    console: Console,
    *,
    first: date | None = None,
    last: date | None = None,
) -> int:
    """Materialises tables for a range of days; prints progress and a summary.

    Args:
        environment: its settings say from where and where to.
        patterns: see `selection.select`; of the tables that the environment has.
        console: to print to.
        first: the start date if None; with it comes everything older.
        last: today if None.

    Returns:
        Number of tables that failed.

    Raises:
        SettingsError: a setting is missing or wrong, or Dagster has no home.
        ValueError: a pattern matches no table, or the range is none.
        ServiceTitanError: no token could be got.
        WarehouseError: the warehouse cannot be written.
        KeyboardInterrupt: Ctrl-C, or SIGTERM; what was loaded stays.
    """
    of = load_settings(environment)
    chosen = select(project.selected(environment, of, load_catalog()), patterns)
    days = _range(environment, of, first, last)
    project.warehouse(environment).check()
    connection = connecting.connection(environment, of)
    make_events_cheap(durable=True)
    definitions = build_definitions(environment, loggers={"console": progress_logger})
    job = definitions.resolve_implicit_global_asset_job_def()
    keys = [asset_key(environment, endpoint) for endpoint in chosen]
    whose = {ENVIRONMENT_TAG: environment, TENANT_TAG: connection.tenant_id}
    tags = {**range_tags(*days), **whose}
    with terminated_as_interrupted(), _home_of(environment, connection.tenant_id) as instance:
        token_source_for(connection).token(new_session(), RetryPolicy())  # or each table would fail
        outcomes = materialize(console, instance, job, keys, tags=tags)
    print_outcomes(console, outcomes)
    return sum(len(outcome.failures) for outcome in outcomes)


def materialize(
    console: Console,
    instance: dg.DagsterInstance,
    job: dg.JobDefinition,
    keys: Collection[dg.AssetKey],
    *,
    tags: Mapping[str, str],
) -> list[ApiOutcome]:
    """Runs a job once for the assets of each API, with a bar.

    Args:
        console: to draw on.
        instance: where the runs are noted.
        job: of definitions with `progress_logger` as the logger `console`.
        keys: assets of one environment.
        tags: of each run, such as `unfinished.range_tags`.

    Raises:
        KeyboardInterrupt: Ctrl-C.
    """
    by_api: dict[str, list[dg.AssetKey]] = {}
    for key in keys:
        by_api.setdefault(key.path[1], []).append(key)
    outcomes = []
    with Progress(console, by_api) as progress:
        for api, of_api in sorted(by_api.items()):
            with progress.of(api, len(of_api)):
                result = job.execute_in_process(
                    instance=instance,
                    asset_selection=of_api,
                    tags=dict(tags),
                    run_config={"loggers": {"console": {}}},
                    raise_on_error=False,
                )
                if _was_interrupted(result):
                    left = ",".join(one for one in sorted(by_api) if one >= api)
                    console.print(
                        "Interrupted. What was loaded stays, and is not doubled by loading again; "
                        f"what is left is of {left}",
                        soft_wrap=True,
                    )
                    raise KeyboardInterrupt
            outcomes.append(ApiOutcome.of(api, result))
    return outcomes


def _range(
    environment: EnvironmentName, of: EnvironmentSettings, first: date | None, last: date | None
) -> tuple[str, str]:
    today = local_day(utc_now(), of.timezone)
    first, last = first or of.start_date, last or today
    if first < of.start_date:
        raise ValueError(
            f"{first} is before the start date: its partition, {of.start_date}, has all that is "
            f"older; leave --from out, or set {setting_name(environment, 'start_date')}"
        )
    if last > today or first > last:
        raise ValueError(f"{first} to {last} is no range of days up to today, {today}")
    return first.isoformat(), last.isoformat()


def _home_of(environment: str, tenant_id: str) -> dg.DagsterInstance:
    """Dagster's instance, in which no other tenant's days are noted."""
    try:
        instance = dg.DagsterInstance.get()
    except DagsterHomeNotSetError:
        problem = "DAGSTER_HOME is not set"
    except DagsterInvariantViolationError:
        problem = "DAGSTER_HOME is not the absolute path of a folder that is there"
    else:
        noted = instance.get_runs(dg.RunsFilter(tags={ENVIRONMENT_TAG: environment}), limit=100)
        others = {run.tags[TENANT_TAG] for run in noted if TENANT_TAG in run.tags} - {tenant_id}
        if not others:
            return instance
        instance.dispose()
        raise SettingsError(
            f"DAGSTER_HOME has loads of tenant {min(others)}, this is tenant {tenant_id}: give "
            "each a home of its own (docs/setup.md, several tenants)"
        )
    raise SettingsError(
        f"{problem}: name a folder there in which Dagster keeps what was loaded, the same for "
        "dagster dev (docs/setup.md, step 8)"
    )


def _was_interrupted(result: dg.ExecuteInProcessResult) -> bool:
    """Whether Ctrl-C ended the run; Dagster catches it and only marks the run as failed."""
    return any(
        event.is_job_failure
        and event.job_failure_data.failure_reason == RunFailureReason.UNEXPECTED_TERMINATION
        for event in result.all_events
    )
