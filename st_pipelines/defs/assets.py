"""Builds one asset per endpoint of the catalog: partitioned by day, or without partitions.

Keys, groups and descriptions come from `translator`, checks from `checks`. The run imports what
loads records, so that the definitions load without DuckDB and requests.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator
from datetime import date
from typing import TYPE_CHECKING, Any, TypeAlias

import dagster as dg

from st_pipelines.catalog.model import Endpoint
from st_pipelines.catalog.registry import add_reports
from st_pipelines.config.settings import EnvironmentSettings
from st_pipelines.defs.checks import check_results, check_specs
from st_pipelines.defs.environment import EnvironmentDefs
from st_pipelines.defs.failures import as_dagster_failure
from st_pipelines.defs.metadata import WINDOW_END, describe_zone_change, report_metadata
from st_pipelines.defs.privacy import display_drift, make_inert
from st_pipelines.defs.resources import ServiceTitanResource, WarehouseResource
from st_pipelines.defs.warehouse_record import note_load, read_record, record_name
from st_pipelines.sync.explain import describe_clock
from st_pipelines.windows import Days

if TYPE_CHECKING:
    from st_pipelines.sync.context import LoadReport, SyncContext

RunContext: TypeAlias = dg.AssetExecutionContext | dg.OpExecutionContext

ANNOUNCEMENT = "st_pipelines_announcement"
"""Attribute of the log records that say what a load is about to cost."""

_ROOT_RUN_TAG = "dagster/root_run_id"
_NO_PARTITION = (
    "{table} is loaded by days, and this run has no partition: choose a partition or a range of"
    " them, in the UI in the dialog of Materialize, on the command line by --partition or"
    " --partition-range"
)


def build_assets(env: EnvironmentDefs) -> list[dg.AssetsDefinition]:
    """Returns the assets of an environment, in the catalog's order."""
    partitions = daily_partitions(env.settings)
    return [
        _daily_asset(env, endpoint, partitions)
        if endpoint.partitioned
        else _snapshot_asset(env, endpoint)
        for endpoint in env.catalog
    ]


def daily_partitions(settings: EnvironmentSettings) -> dg.DailyPartitionsDefinition:
    """Returns the local days from the start date to today, today included."""
    return dg.DailyPartitionsDefinition(
        start_date=settings.start_date.isoformat(), timezone=settings.timezone, end_offset=1
    )


def days_of(partitions: dg.DailyPartitionsDefinition, keys: dg.PartitionKeyRange) -> Days:
    """Returns the days of a run. The first partition includes all older records."""
    first, last = date.fromisoformat(keys.start), date.fromisoformat(keys.end)
    return Days(
        first=first,
        last=last,
        timezone=partitions.timezone,
        open_start=first <= partitions.start.date(),
    )


def sync_context(context: RunContext, env: EnvironmentDefs) -> "SyncContext":
    """Returns what a load needs, from the resources of the run. Raises SettingsError."""
    from st_pipelines.sync.context import SyncContext
    from st_pipelines.sync.open_columns import OpenColumns

    servicetitan = _servicetitan(context, env)
    record = read_record(context.instance, record_name(env.environment, env.key_prefix))
    record.refuse_tenant(servicetitan.client.connection.tenant_id)
    warehouse = warehouse_resource(context, env)
    return SyncContext(
        client=servicetitan.client,
        warehouse=warehouse.warehouse,
        timezone=env.settings.timezone,
        timezone_is_default=env.settings.timezone_is_default,
        start_date=env.settings.start_date,
        run_id=context.run.run_id,
        catalog=add_reports(warehouse.config.catalog, env.reports),
        history=warehouse.history,
        clock=env.clock,
        accept_deletions=warehouse.accept_deletions,
        max_child_requests=warehouse.config.max_child_requests,
        announce=functools.partial(context.log.info, extra={ANNOUNCEMENT: True}),
        open_columns=OpenColumns(
            file=warehouse.config.additions_file, base=warehouse.config.base_catalog
        ),
    )


def _servicetitan(context: RunContext, env: EnvironmentDefs) -> ServiceTitanResource:
    return getattr(context.resources, env.servicetitan_key)


def warehouse_resource(context: RunContext, env: EnvironmentDefs) -> WarehouseResource:
    """Returns the run's resource for the warehouse."""
    return getattr(context.resources, env.warehouse_key)


def full_previews(context: RunContext, env: EnvironmentDefs) -> bool:
    """Whether the run's events may show customers' data. Raises SettingsError."""
    return warehouse_resource(context, env).config.full_previews


def _daily_asset(
    env: EnvironmentDefs, endpoint: Endpoint, partitions: dg.DailyPartitionsDefinition
) -> dg.AssetsDefinition:
    def load_days(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        from st_pipelines.sync.sync import extract_load

        if not (context.has_partition_key or context.has_partition_key_range):
            raise dg.Failure(_NO_PARTITION.format(table=endpoint.table), allow_retries=False)
        days = days_of(partitions, context.partition_key_range)
        with as_dagster_failure(context.retry_number) as errors:
            errors.full_previews = full_previews(context, env)
            sync = sync_context(context, env)
            if endpoint.report:
                sync = dataclasses.replace(sync, resumed_runs=_earlier_tries(context))
            report = extract_load(sync, endpoint, days)
            for key in context.partition_keys:
                if date.fromisoformat(key) in report.days_left_out:
                    continue
                rows = report.loaded.table_rows_by_date.get(date.fromisoformat(key), 0)
                context.add_asset_metadata({"dagster/partition_row_count": rows}, partition_key=key)
            return _result(context, env, report, last_partition=context.partition_keys[-1])

    decorate = dg.asset(
        **_asset_arguments(env, endpoint),
        op_tags={"dagster/priority": "1"},  # before the snapshots
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    return decorate(_with_signature(load_days))


def _earlier_tries(context: dg.AssetExecutionContext) -> frozenset[str]:
    """Returns the runs whose step this one repeats: itself, or those it is a re-execution of."""
    run = context.run
    tries = {run.run_id} if context.retry_number else set()
    if root := run.root_run_id or run.tags.get(_ROOT_RUN_TAG):
        again = dg.RunsFilter(tags={_ROOT_RUN_TAG: root})
        tries |= {root, *(other.run_id for other in context.instance.get_runs(again))}
    return frozenset(tries)


def _snapshot_asset(env: EnvironmentDefs, endpoint: Endpoint) -> dg.AssetsDefinition:
    """Returns an asset without partitions: a snapshot, or a child list."""

    def load_snapshot(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        from st_pipelines.sync.sync import extract_load

        with as_dagster_failure(context.retry_number) as errors:
            errors.full_previews = full_previews(context, env)
            report = extract_load(sync_context(context, env), endpoint, None)
            return _result(context, env, report)

    decorate = dg.asset(
        **_asset_arguments(env, endpoint),
        op_tags={"dagster/priority": "-1"} if endpoint.parent else None,  # after the snapshots
    )
    return decorate(_with_signature(load_snapshot))


def _asset_arguments(env: EnvironmentDefs, endpoint: Endpoint) -> dict[str, Any]:
    """Returns what both kinds of asset pass to `dg.asset`.

    The resources are named by key, because a host may give them other keys than the parameter
    names `servicetitan` and `warehouse`.
    """
    spec = env.specs[endpoint.table]
    return {
        "key": spec.key,
        "deps": [*spec.deps, *_find_parent(env, endpoint)],
        "description": spec.description,
        "metadata": spec.metadata,
        "group_name": spec.group_name,
        "code_version": spec.code_version,
        "owners": spec.owners,
        "tags": spec.tags,  # the kinds are among them
        "automation_condition": spec.automation_condition,
        "freshness_policy": spec.freshness_policy,
        "check_specs": check_specs(endpoint, spec.key),
        "required_resource_keys": {env.servicetitan_key, env.warehouse_key},
    }


def _find_parent(env: EnvironmentDefs, endpoint: Endpoint) -> list[dg.AssetDep]:
    """Returns the dependency of a child list on the asset of its parents, if there is one.

    A child list needs all parents, of whichever day. It has no partitions itself, as a load reads
    whatever is due.
    """
    key = env.asset_keys.get(endpoint.parent.table) if endpoint.parent else None
    return [] if key is None else [dg.AssetDep(key)]


def _with_signature(
    load: Callable[..., dg.MaterializeResult],
) -> Callable[..., dg.MaterializeResult]:
    """Computes the signature once: Dagster asks for it 17 times per asset, 0.1 s in all."""
    load.__signature__ = inspect.signature(load)  # pyright: ignore[reportFunctionMemberAccess]
    return load


def _result(
    context: dg.AssetExecutionContext,
    env: EnvironmentDefs,
    report: "LoadReport",
    *,
    last_partition: str | None = None,
) -> dg.MaterializeResult:
    """Ends a load: publishes, records and describes it.

    Args:
        last_partition: of the run. Only its event describes the whole load, as Dagster stores an
            event for each partition, which would repeat everything for each day.
    """
    warehouse_resource(context, env).publish_if_due(context.log)
    full = full_previews(context, env)
    report = note_load(
        context.instance,
        env,
        report,
        store=warehouse_resource(context, env).warehouse,
        tenant_id=_servicetitan(context, env).client.connection.tenant_id,
    )
    for line in _warnings(report, full_previews=full):
        context.log.warning(line)
    metadata = report_metadata(report, full_previews=full)
    if last_partition:
        context.add_asset_metadata(metadata, partition_key=last_partition)
        metadata = {WINDOW_END: metadata[WINDOW_END]} if WINDOW_END in metadata else {}
    return dg.MaterializeResult(
        metadata=metadata,
        check_results=check_results(report, full_previews=full),
    )


def _warnings(report: "LoadReport", *, full_previews: bool = False) -> Iterator[str]:
    yield from map(make_inert, report.notices)
    if wrong_clock := describe_clock(report.clock_offset):
        yield wrong_clock
    if change := report.loaded.zone_change:
        yield describe_zone_change(change)
    if report.parents and (remaining := report.parents.remaining):
        yield f"{remaining:,} parents are left for the next load (ST_MAX_CHILD_REQUESTS)"
    if (readings := report.read.readings) > 1:
        yield f"records moved while they were read: read {readings} times until complete"
    yield from map(make_inert, report.column_changes)
    drift = display_drift(report.drift, full=full_previews)
    for path, count in drift.counts.most_common(20):
        example = drift.examples.get(path)
        yield f"{path} differs from the catalog in {count} records, kept in _extra: {example}"
