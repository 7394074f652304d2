"""What Dagster loads: one `Definitions` an environment, made when it is asked for by name.

`workspace.yaml` names `production` and `integration`; `st-pipelines demo --ui` opens `sandbox`.
Definitions load without credentials and without network. What is missing is told by the run that
needs it.
"""

from __future__ import annotations

import functools
import gc
import warnings
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import dagster as dg

from st_pipelines.catalog.model import Catalog
from st_pipelines.config.environments import ENVIRONMENTS, EnvironmentName
from st_pipelines.config.project import load_catalog, selected
from st_pipelines.config.settings import EnvironmentSettings, load_settings
from st_pipelines.defs.assets import build_assets
from st_pipelines.defs.jobs import (
    DAILY,
    INTRADAY,
    Job,
    JobKeys,
    asset_jobs,
    job_keys,
    reconcile_job,
)
from st_pipelines.defs.resources import ServiceTitanResource, WarehouseResource
from st_pipelines.defs.schedules import Schedules
from st_pipelines.defs.sensors.alerts import alerts_sensor
from st_pipelines.defs.sensors.changes import changes_sensor
from st_pipelines.defs.sensors.gaps import gaps_sensor
from st_pipelines.windows import utc_now


def build_definitions(
    environment: EnvironmentName,
    *,
    catalog: Catalog | None = None,
    resources: dict[str, Any] | None = None,
    loggers: dict[str, dg.LoggerDefinition] | None = None,
    clock: Callable[[], datetime] = utc_now,
    **overrides: Any,
) -> dg.Definitions:
    """Everything of one environment, fresh with every call.

    Args:
        environment: `production`, `integration` or `sandbox`.
        catalog: another than the packaged one.
        resources: in place of `servicetitan` and `warehouse`.
        loggers: in place of Dagster's own.
        clock: tells assets, schedules and sensors the time, aware.
        **overrides: settings that win over the environment's, such as `timezone`.

    Raises:
        SettingsError: a setting is wrong or misspelt; missing credentials are no error here.
    """
    settings = load_settings(environment, **overrides)
    catalog = selected(environment, settings, catalog or load_catalog())
    with warnings.catch_warnings():  # single-run backfills and code references, once an asset
        warnings.simplefilter("ignore", dg.BetaWarning)
        assets = build_assets(environment, settings, catalog, clock)
        reconcile = reconcile_job(environment, settings, catalog)
    keys = job_keys(environment, catalog)
    jobs = asset_jobs(environment, keys)
    by_itself = environment == "production"
    schedules = Schedules(
        environment=environment,
        of=settings,
        keys=keys,
        status=(
            dg.DefaultScheduleStatus.RUNNING if by_itself else dg.DefaultScheduleStatus.STOPPED
        ),
        clock=clock,
    )
    return dg.Definitions(
        assets=assets,
        jobs=[*jobs.values(), reconcile],
        schedules=schedules.all(jobs, reconcile),
        sensors=_sensors(environment, settings, catalog, jobs, keys, by_itself, clock),
        resources={
            "servicetitan": ServiceTitanResource(environment=environment),
            "warehouse": WarehouseResource(environment=environment),
            **(resources or {}),
        },
        loggers=loggers,
        executor=dg.in_process_executor,
    )


def _sensors(
    environment: EnvironmentName,
    of: EnvironmentSettings,
    catalog: Catalog,
    jobs: Mapping[str, Job],
    keys: JobKeys,
    by_itself: bool,
    clock: Callable[[], datetime],
) -> list[dg.SensorDefinition]:
    """Those of an environment that has partitions."""
    status = dg.DefaultSensorStatus.RUNNING if by_itself else dg.DefaultSensorStatus.STOPPED
    alerts = alerts_sensor(environment, keys, status=status, clock=clock)
    if INTRADAY not in jobs:
        return [alerts]
    return [
        alerts,
        changes_sensor(environment, of, catalog, jobs[INTRADAY], keys, status=status, clock=clock),
        gaps_sensor(environment, of, catalog, jobs[DAILY], keys, status=status, clock=clock),
    ]


@functools.cache
def _definitions(environment: EnvironmentName) -> dg.Definitions:
    """Those of a module attribute, which stay as long as their process.

    So do the 160,000 objects that they and Dagster's modules are: they are kept from the garbage
    collector, which would look through them again and again, half a second until all is loaded.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        return build_definitions(environment)
    finally:
        gc.freeze()
        if collects:
            gc.enable()


def __getattr__(name: str) -> dg.Definitions:
    """`production`, `integration` and `sandbox`, each built on first use."""
    if name in ENVIRONMENTS:
        return _definitions(name)  # pyright: ignore[reportArgumentType]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
