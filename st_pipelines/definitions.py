"""What Dagster loads: one `Definitions` an environment, made when it is asked for by name.

`workspace.yaml` names `production` and `integration`; `st-pipelines demo --ui` opens `sandbox`.
Definitions load without credentials and without network. What is missing is told by the run that
needs it.
"""

from __future__ import annotations

import functools
import warnings
from typing import Any

import dagster as dg

from st_pipelines.assets.factory import build_assets
from st_pipelines.catalog.loader import load_catalog
from st_pipelines.catalog.model import Catalog
from st_pipelines.jobs import reconcile_job
from st_pipelines.resources import ServiceTitanResource, WarehouseResource
from st_pipelines.schedules import weekly_reconcile
from st_pipelines.settings import ENVIRONMENTS, EnvironmentName, load_settings


def build_definitions(
    environment: EnvironmentName,
    *,
    catalog: Catalog | None = None,
    resources: dict[str, Any] | None = None,
    loggers: dict[str, dg.LoggerDefinition] | None = None,
    **overrides: Any,
) -> dg.Definitions:
    """Everything of one environment, fresh with every call.

    Args:
        environment: `production`, `integration` or `sandbox`.
        catalog: another than the packaged one.
        resources: in place of `servicetitan` and `warehouse`.
        loggers: in place of Dagster's own.
        **overrides: settings that win over the environment's, such as `timezone`.

    Raises:
        SettingsError: a setting is wrong or misspelt; missing credentials are no error here.
    """
    settings, catalog = load_settings(environment, **overrides), catalog or load_catalog()
    with warnings.catch_warnings():  # single-run backfills and code references, once an asset
        warnings.simplefilter("ignore", dg.BetaWarning)
        assets = build_assets(environment, settings, catalog)
        reconcile = reconcile_job(environment, settings, catalog)
    return dg.Definitions(
        assets=assets,
        jobs=[reconcile],
        schedules=[weekly_reconcile(environment, settings, reconcile)],
        resources={
            "servicetitan": ServiceTitanResource(environment=environment),
            "warehouse": WarehouseResource(environment=environment),
            **(resources or {}),
        },
        loggers=loggers,
        executor=dg.in_process_executor,
    )


@functools.cache
def _definitions(environment: EnvironmentName) -> dg.Definitions:
    return build_definitions(environment)


def __getattr__(name: str) -> dg.Definitions:
    """`production`, `integration` and `sandbox`, each built on first use."""
    if name in ENVIRONMENTS:
        return _definitions(name)  # pyright: ignore[reportArgumentType]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
