"""Builds the Dagster definitions of an environment, and offers them as module attributes.

`workspace.yaml` names the attributes `production` and `integration`; `st-pipelines demo --ui` opens
`sandbox`. Another project calls `build_definitions`, or uses `component`, and merges the result
into its own. Definitions load without credentials and without network: the run that needs a setting
says that it is missing.
"""

from __future__ import annotations

import difflib
import functools
import gc
import warnings
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import dagster as dg

from st_pipelines.catalog.model import Catalog
from st_pipelines.catalog.registry import add_reports
from st_pipelines.catalog.registry import select as select_endpoints
from st_pipelines.catalog.report import API as REPORTS
from st_pipelines.catalog.report import NO_SCHEDULE
from st_pipelines.config.environments import ENVIRONMENTS, EnvironmentName, setting_name
from st_pipelines.config.errors import SettingsError
from st_pipelines.config.project import EnvironmentConfig, resolve_environment
from st_pipelines.config.settings import EnvironmentSettings
from st_pipelines.config.sources.places import AllPlaces
from st_pipelines.defs.assets import build_assets
from st_pipelines.defs.dagster_internals import is_valid_cron_string
from st_pipelines.defs.environment import DAILY, INTRADAY, EnvironmentDefs
from st_pipelines.defs.files import build_file_assets
from st_pipelines.defs.jobs import Job, build_asset_jobs, build_reconcile_job
from st_pipelines.defs.metadata import ServiceTitanTranslator
from st_pipelines.defs.resources import ServiceTitanResource, WarehouseResource, with_overrides
from st_pipelines.defs.run_lock import in_process_executor
from st_pipelines.defs.schedules import build_report_schedules, build_schedules
from st_pipelines.defs.sensors.alerts import build_alerts_sensor
from st_pipelines.defs.sensors.changes import build_changes_sensor
from st_pipelines.defs.sensors.gaps import build_gaps_sensor
from st_pipelines.windows import utc_now


def build_definitions(
    environment: EnvironmentName,
    *,
    select: str | Sequence[str] | None = None,
    key_prefix: str | Sequence[str] | None = None,
    resource_prefix: str = "",
    job_prefix: str = "",
    translator: ServiceTitanTranslator | None = None,
    catalog: Catalog | None = None,
    reports: str | Path | Sequence[Mapping[str, Any]] | None = None,
    resources: Mapping[str, Any] | None = None,
    loggers: Mapping[str, dg.LoggerDefinition] | None = None,
    executor: dg.ExecutorDefinition | None = None,
    clock: Callable[[], datetime] = utc_now,
    **overrides: Any,
) -> dg.Definitions:
    """Builds everything of one environment; every call builds it again.

    The prefixes keep names apart where `dg.Definitions.merge` puts the result together with
    definitions of a host project, or with those of another environment.

    Args:
        environment: `production`, `integration` or `sandbox`.
        select: tables (`jpm.jobs`), patterns (`crm.*`) or APIs (`crm`), instead of the setting
            SERVICETITAN_SELECT. Reports are selected by being in `reports`.
        key_prefix: components in front of every asset key `[environment, api, endpoint]`.
        resource_prefix: in front of the resource keys `servicetitan` and `warehouse`.
        job_prefix: in front of the names of jobs, schedules and sensors.
        translator: describes the assets; see `ServiceTitanTranslator`.
        catalog: instead of the packaged catalog with the user's additions and reports.
        reports: instead of those of the setting ST_REPORTS: a file like `st_reports.yaml`, or its
            entries.
        resources: by resource key (prefix included), instead of those built here.
        loggers: instead of Dagster's own.
        executor: for runs of no job, such as Materialize in the UI. Our own jobs always run in one
            process. Leave it out where the host has jobs or an executor: it would apply to all.
        clock: returns the current time, timezone-aware.
        **overrides: settings that win over the environment's, such as `timezone`, in runs,
            schedules and sensors too. Secrets among them stay out of what Dagster stores and shows.
            A resource in `resources` does not get them.

    Raises:
        SettingsError: a setting or `select` is wrong. Missing credentials are not an error here.
    """
    _refuse_unknown(overrides)
    config = resolve_environment(environment, **overrides).with_reports(reports)
    own_catalog = select is None and catalog is None
    settings = config.settings
    if catalog is None:
        catalog = config.catalog
    elif reports is not None:
        catalog = add_reports(catalog, config.reports)
    _check_crons(environment, settings)
    _check_report_crons(config)
    if select is None:
        catalog = config.apply_selection(catalog)
    else:
        catalog = _select(catalog, _as_list(select))
    warehouse_key, given = f"{resource_prefix}warehouse", resources or {}
    warehouse = given.get(warehouse_key) or with_overrides(
        WarehouseResource, environment, config.overrides
    )(environment=environment)
    env = EnvironmentDefs(
        environment=environment,
        settings=settings,
        overrides=config.overrides,
        catalog=catalog,
        translator=translator or ServiceTitanTranslator(),
        key_prefix=tuple(_as_list(key_prefix)),
        resource_prefix=resource_prefix,
        job_prefix=job_prefix,
        warehouse=warehouse if isinstance(warehouse, WarehouseResource) else None,
        clock=clock,
        file_kinds=config.file_kinds if own_catalog else config.available_file_kinds(catalog),
    )
    with warnings.catch_warnings():  # single-run backfills and code references, per asset
        warnings.simplefilter("ignore", dg.BetaWarning)
        assets = [*build_assets(env), *build_file_assets(env)]
        reconcile = build_reconcile_job(env)
    jobs = build_asset_jobs(env)
    return dg.Definitions(
        assets=assets,
        jobs=[*jobs.values(), reconcile],
        schedules=[
            *build_schedules(env, jobs, reconcile),
            *(build_report_schedules(env, jobs[REPORTS]) if REPORTS in jobs else ()),
        ],
        sensors=_build_sensors(env, jobs),
        resources={
            env.servicetitan_key: with_overrides(ServiceTitanResource, environment, env.overrides)(
                environment=environment
            ),
            env.warehouse_key: warehouse,
            **given,
        },
        loggers=loggers,
        executor=executor,
    )


def _refuse_unknown(overrides: Mapping[str, Any]) -> None:
    known = {*EnvironmentSettings.model_fields, *AllPlaces.model_fields}
    for name in overrides:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else "see the settings in .env.example"
            raise SettingsError(f"build_definitions has no setting {name!r}: {hint}")


def _check_crons(environment: EnvironmentName, settings: EnvironmentSettings) -> None:
    """Names the setting of a cron expression that passed `config` and that Dagster refuses.

    Raises:
        SettingsError: Dagster cannot schedule it, such as `0 0 * * mon,tue#1`.
    """
    for field in ("daily_cron", "intraday_cron", "snapshots_cron"):
        cron = getattr(settings, field)
        if not is_valid_cron_string(cron):
            raise SettingsError(
                f"{setting_name(environment, field)} is {cron!r}: Dagster cannot schedule it, "
                "write it as five fields: minute, hour, day, month, weekday"
            )


def _check_report_crons(config: EnvironmentConfig) -> None:
    """The same for the schedules of reports."""
    for report in config.reports:
        cron = report.schedule
        if cron not in (None, NO_SCHEDULE) and not is_valid_cron_string(cron):
            raise SettingsError(
                f"report {report.name}: schedule: {cron!r}: Dagster cannot schedule it, write it "
                "as five fields: minute, hour, day, month, weekday"
            )


def _as_list(names: str | Sequence[str] | None) -> list[str]:
    return [name for name in ([names] if isinstance(names, str) else names or ()) if name]


def _select(catalog: Catalog, patterns: Sequence[str]) -> Catalog:
    if not patterns:
        raise SettingsError("select is empty: name tables or APIs, or leave it out")
    try:
        endpoints = select_endpoints(catalog, patterns)
    except ValueError as error:
        raise SettingsError(f"select: {error}") from None
    endpoints = dict.fromkeys([*endpoints, *(e for e in catalog if e.report)])
    return Catalog({endpoint.table: endpoint for endpoint in endpoints}, catalog.left_out)


def _build_sensors(env: EnvironmentDefs, jobs: Mapping[str, Job]) -> list[dg.SensorDefinition]:
    """Returns `alerts`, and `changes` and `gaps` if the environment has partitions."""
    alerts = build_alerts_sensor(env)
    if INTRADAY not in jobs:
        return [alerts]
    return [alerts, build_changes_sensor(env, jobs[INTRADAY]), build_gaps_sensor(env, jobs[DAILY])]


@functools.cache
def _definitions(environment: EnvironmentName) -> dg.Definitions:
    """Builds the definitions of a module attribute, which live as long as their process.

    So do the 160,000 objects that they and Dagster's modules consist of. They are hidden from the
    garbage collector, which would traverse them again and again, for half a second in all.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return build_definitions(environment, executor=in_process_executor)
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()


def __getattr__(name: str) -> dg.Definitions:
    """Returns `production`, `integration` and `sandbox`, each built on first use."""
    if name in ENVIRONMENTS:
        return _definitions(name)  # pyright: ignore[reportArgumentType]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
