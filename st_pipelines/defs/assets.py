"""One asset an endpoint, from the catalogue: partitioned by day, or read whole.

What loads is imported by the run that needs it: the definitions load without DuckDB and requests.
"""

import inspect
from collections.abc import Callable, Iterator
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, TypeAlias

import dagster as dg

from st_pipelines.catalog.model import Catalog, Endpoint
from st_pipelines.config.settings import EnvironmentSettings
from st_pipelines.defs.checks import check_results, check_specs
from st_pipelines.defs.failures import as_dagster_failure
from st_pipelines.defs.metadata import (
    FRESHNESS,
    definition_metadata,
    description,
    report_metadata,
)
from st_pipelines.defs.resources import ServiceTitanResource, WarehouseResource
from st_pipelines.windows import Days, utc_now

if TYPE_CHECKING:
    from st_pipelines.sync.sync import LoadReport, SyncContext

OWNERS = ["team:data"]
_Load: TypeAlias = Callable[..., dg.MaterializeResult]


def build_assets(
    environment: str,
    settings: EnvironmentSettings,
    catalog: Catalog,
    clock: Callable[[], datetime] = utc_now,
) -> list[dg.AssetsDefinition]:
    """The assets of an environment, in the catalogue's order.

    Args:
        environment: first part of every asset key: `[environment, api, endpoint]`.
        settings: for the time zone and start date of the partitions.
        catalog: the endpoints.
        clock: tells the time at which windows are closed, aware.
    """
    partitions = daily_partitions(settings)
    return [
        _daily_asset(environment, endpoint, partitions, clock)
        if endpoint.partitioned
        else _snapshot_asset(environment, endpoint, settings.timezone, clock)
        for endpoint in catalog
    ]


def asset_key(environment: str, endpoint: Endpoint) -> dg.AssetKey:
    """`[environment, api, endpoint]`: two code locations must not share keys."""
    return dg.AssetKey([environment, endpoint.api, endpoint.name])


def daily_partitions(settings: EnvironmentSettings) -> dg.DailyPartitionsDefinition:
    """From the start date to today, today included."""
    return dg.DailyPartitionsDefinition(
        start_date=settings.start_date.isoformat(), timezone=settings.timezone, end_offset=1
    )


def days_of(partitions: dg.DailyPartitionsDefinition, keys: dg.PartitionKeyRange) -> Days:
    """The days of a run. With the first partition come all older records."""
    first, last = date.fromisoformat(keys.start), date.fromisoformat(keys.end)
    return Days(
        first=first,
        last=last,
        timezone=partitions.timezone,
        open_start=first <= partitions.start.date(),
    )


def _daily_asset(
    environment: str,
    endpoint: Endpoint,
    partitions: dg.DailyPartitionsDefinition,
    clock: Callable[[], datetime],
) -> dg.AssetsDefinition:
    def load_days(
        context: dg.AssetExecutionContext,
        servicetitan: ServiceTitanResource,
        warehouse: WarehouseResource,
    ) -> dg.MaterializeResult:
        from st_pipelines.sync.sync import extract_load

        if not (context.has_partition_key or context.has_partition_key_range):
            raise dg.Failure(_NO_DAYS.format(table=endpoint.table), allow_retries=False)
        days = days_of(partitions, context.partition_key_range)
        with as_dagster_failure(context.retry_number):
            job = job_of(servicetitan, warehouse, partitions.timezone, context.run.run_id, clock)
            report = extract_load(job, endpoint, days)
        for key in context.partition_keys:
            rows = report.loaded.table_rows_by_date.get(date.fromisoformat(key), 0)
            context.add_asset_metadata({"dagster/partition_row_count": rows}, partition_key=key)
        return _result(context, report, warehouse)

    make = dg.asset(
        **_definition(environment, endpoint),
        op_tags={"dagster/priority": "1"},  # before what is read whole
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    return make(_signed(load_days))


def _snapshot_asset(
    environment: str, endpoint: Endpoint, timezone: str, clock: Callable[[], datetime]
) -> dg.AssetsDefinition:
    def load_whole(
        context: dg.AssetExecutionContext,
        servicetitan: ServiceTitanResource,
        warehouse: WarehouseResource,
    ) -> dg.MaterializeResult:
        from st_pipelines.sync.sync import extract_load

        with as_dagster_failure(context.retry_number):
            job = job_of(servicetitan, warehouse, timezone, context.run.run_id, clock)
            report = extract_load(job, endpoint, None)
        return _result(context, report, warehouse)

    make = dg.asset(**_definition(environment, endpoint))
    return make(_signed(load_whole))


_NO_DAYS = (
    "{table} is loaded by days, and this run is of none: choose a partition or a range of them, in "
    "the UI in the dialog of Materialize, on the command line by --partition or --partition-range"
)


def _signed(load: _Load) -> _Load:
    """With its signature worked out: Dagster asks for it 17 times an asset, 0.1 s in all."""
    load.__signature__ = inspect.signature(load)  # pyright: ignore[reportFunctionMemberAccess]
    return load


def _definition(environment: str, endpoint: Endpoint) -> dict[str, Any]:
    """What both kinds of asset say of themselves."""
    key = asset_key(environment, endpoint)
    return {
        "key": key,
        "group_name": endpoint.api,
        "kinds": {"servicetitan", "duckdb"},
        "owners": OWNERS,
        "description": description(endpoint),
        "metadata": definition_metadata(environment, endpoint),
        "check_specs": check_specs(endpoint, key),
        "freshness_policy": FRESHNESS,
    }


def job_of(
    servicetitan: ServiceTitanResource,
    warehouse: WarehouseResource,
    timezone: str,
    run_id: str,
    clock: Callable[[], datetime] = utc_now,
) -> "SyncContext":
    """What a run's resources make of a load. Raises SettingsError."""
    from st_pipelines.sync.sync import SyncContext

    return SyncContext(
        client=servicetitan.client,
        warehouse=warehouse.warehouse,
        timezone=timezone,
        run_id=run_id,
        history=warehouse.history,
        clock=clock,
    )


def _result(
    context: dg.AssetExecutionContext, report: "LoadReport", warehouse: WarehouseResource
) -> dg.MaterializeResult:
    warehouse.publish_if_due(context.log)
    for line in _notes(report):
        context.log.warning(line)
    return dg.MaterializeResult(
        metadata=report_metadata(report), check_results=check_results(report)
    )


def _notes(report: "LoadReport") -> Iterator[str]:
    yield from report.notices
    if (readings := report.read.readings) > 1:
        yield f"records moved while they were read: read {readings} times until complete"
    for path, count in report.drift.counts.most_common(20):
        example = report.drift.examples.get(path)
        yield f"{path} differs from the catalogue in {count} records, kept in _extra: {example}"
