"""Builds the jobs: one per group of assets, and `reconcile`, which reads whole tables.

All of them run their steps in one process, because only one process at a time can write to DuckDB.
Which assets a job has is decided in `environment`, when it runs in `schedules`.
"""

from collections.abc import Iterable, Iterator

import dagster as dg
from pydantic import Field

from st_pipelines.catalog.file_kinds import SCHEMA
from st_pipelines.catalog.registry import select
from st_pipelines.defs.assets import full_previews, sync_context
from st_pipelines.defs.checks import check_results, refused_deletions
from st_pipelines.defs.dagster_internals import UnresolvedAssetJobDefinition
from st_pipelines.defs.environment import (
    DAILY,
    FULL_REFRESH,
    INTRADAY,
    RECONCILE,
    SNAPSHOTS,
    EnvironmentDefs,
)
from st_pipelines.defs.failures import as_dagster_failure
from st_pipelines.defs.metadata import report_metadata
from st_pipelines.defs.run_lock import in_process_executor
from st_pipelines.defs.run_state import ENVIRONMENT_TAG
from st_pipelines.sync.strategies import strategy_for
from st_pipelines.warehouse.errors import TooManyDeletions

Job = dg.JobDefinition | UnresolvedAssetJobDefinition

_DESCRIPTIONS = {
    DAILY: "A completed day of every partitioned asset, then the snapshots.",
    INTRADAY: "Today's partition of every partitioned asset.",
    SNAPSHOTS: "Every asset without partitions.",
    SCHEMA: "Every kind of files.",
    FULL_REFRESH: "Everything, for all partitions: select them all, it is one run.",
}


def build_asset_jobs(env: EnvironmentDefs) -> dict[str, UnresolvedAssetJobDefinition]:
    """Returns the jobs that materialize assets, by their name without prefix."""
    return {
        name: dg.define_asset_job(
            env.name(name),
            dg.AssetSelection.assets(*sorted(keys, key=str)),
            description=_DESCRIPTIONS.get(name, f"Every asset of the API {name}."),
            tags={ENVIRONMENT_TAG: env.environment},
            executor_def=in_process_executor,
        )
        for name, keys in env.job_keys.items()
    }


class Selection(dg.Config):
    """Run configuration: which tables (`jpm.jobs`, `crm.*`) to reconcile; all if empty."""

    select: list[str] = Field(default_factory=list)


def build_reconcile_job(env: EnvironmentDefs) -> dg.JobDefinition:
    """Returns the job that reads whole tables and marks rows that ServiceTitan no longer has.

    It also finds changes that did not move the cursor. Each table is a step of its own
    (`reconcile_table[jpm_jobs]`), so that a failure names its endpoint and a re-execution repeats
    only that step. The step leaves an observation on the asset, and evaluates its checks.
    """
    by_name = {endpoint.flat_name: endpoint for endpoint in env.catalog}

    @dg.op(name=env.name("tables"), out=dg.DynamicOut(str))
    def tables(config: Selection) -> Iterator[dg.DynamicOutput[str]]:
        for endpoint in select(env.catalog, config.select):
            if strategy_for(endpoint).can_reconcile:
                yield dg.DynamicOutput(endpoint.flat_name, mapping_key=endpoint.flat_name)

    @dg.op(
        name=env.name("reconcile_table"),
        out=dg.Out(dg.Nothing),
        required_resource_keys={env.servicetitan_key, env.warehouse_key},
    )
    def reconcile_table(context: dg.OpExecutionContext, name: str) -> None:
        from st_pipelines.sync.sync import reconcile

        endpoint = by_name[name]
        key = env.asset_keys[endpoint.table]
        with as_dagster_failure(context.retry_number) as errors:
            errors.full_previews = full_previews(context, env)
            try:
                report = reconcile(sync_context(context, env), endpoint)
            except TooManyDeletions as error:
                _log_checks(context, key, [refused_deletions(error)])
                raise
            if report:
                full = errors.full_previews
                facts = report_metadata(report, full_previews=full)
                context.log_event(dg.AssetObservation(asset_key=key, metadata=facts))
                results = check_results(report, full_previews=full, reconciled=True)
                _log_checks(context, key, results)

    @dg.job(
        name=env.name(RECONCILE),
        tags={ENVIRONMENT_TAG: env.environment},
        description="Reads whole tables and marks as deleted what ServiceTitan no longer has.",
        executor_def=in_process_executor,
    )
    def reconcile_tables() -> None:
        tables().map(reconcile_table)

    return reconcile_tables


def _log_checks(
    context: dg.OpExecutionContext, key: dg.AssetKey, results: Iterable[dg.AssetCheckResult]
) -> None:
    """Logs check results in a step that materializes no asset."""
    for result in results:
        evaluation = dg.AssetCheckEvaluation(
            asset_key=key,
            check_name=result.check_name or "",
            passed=result.passed,
            metadata=result.metadata,
            severity=result.severity,
            description=result.description,
        )
        # Dagster accepts this event, although the annotation does not list it.
        context.log_event(evaluation)  # pyright: ignore[reportArgumentType]
