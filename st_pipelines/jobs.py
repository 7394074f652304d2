"""Jobs that are no materialisation of assets: the reading of whole tables."""

from collections.abc import Iterator

import dagster as dg
from pydantic import Field

from st_pipelines.assets.factory import asset_key, job_of
from st_pipelines.catalog.model import Catalog
from st_pipelines.extract_load import reconcile
from st_pipelines.failures import explained
from st_pipelines.metadata import report_metadata
from st_pipelines.resources import ServiceTitanResource, WarehouseResource
from st_pipelines.selection import select
from st_pipelines.settings import EnvironmentSettings


class Selection(dg.Config):
    """Which tables: `jpm.jobs`, `crm.*`. None is all."""

    select: list[str] = Field(default_factory=list)


def reconcile_job(
    environment: str, settings: EnvironmentSettings, catalog: Catalog
) -> dg.JobDefinition:
    """Reads whole tables, marks what is gone, and sees changes that moved no cursor.

    Each table is a step of its own (`reconcile_table[jpm_jobs]`), so that a failure names its
    endpoint and a re-execution repeats only that. It leaves an observation on the asset.
    """
    by_name = {endpoint.flat_name: endpoint for endpoint in catalog}

    @dg.op(out=dg.DynamicOut(str))
    def tables(config: Selection) -> Iterator[dg.DynamicOutput[str]]:
        for endpoint in select(catalog, config.select):
            if not endpoint.by_day:
                yield dg.DynamicOutput(endpoint.flat_name, mapping_key=endpoint.flat_name)

    @dg.op(out=dg.Out(dg.Nothing))
    def reconcile_table(
        context: dg.OpExecutionContext,
        name: str,
        servicetitan: ServiceTitanResource,
        warehouse: WarehouseResource,
    ) -> None:
        endpoint = by_name[name]
        with explained(context.retry_number):
            job = job_of(servicetitan, warehouse, settings.timezone, context.run.run_id)
            report = reconcile(job, endpoint)
        if report:
            context.log_event(
                dg.AssetObservation(
                    asset_key=asset_key(environment, endpoint), metadata=report_metadata(report)
                )
            )

    @dg.job(
        name="reconcile",
        description="Reads whole tables and marks as deleted what ServiceTitan no longer has.",
    )
    def whole_tables() -> None:
        tables().map(reconcile_table)

    return whole_tables
