"""The jobs: parts of an environment's assets, and the reading of whole tables."""

from collections.abc import Callable, Iterator

import dagster as dg
from pydantic import Field

from st_pipelines.catalog.model import Catalog, Endpoint
from st_pipelines.catalog.registry import select
from st_pipelines.config.settings import EnvironmentSettings
from st_pipelines.defs.assets import asset_key, job_of
from st_pipelines.defs.dagster_internals import UnresolvedAssetJobDefinition
from st_pipelines.defs.failures import as_dagster_failure
from st_pipelines.defs.metadata import report_metadata
from st_pipelines.defs.resources import ServiceTitanResource, WarehouseResource
from st_pipelines.defs.run_state import ENVIRONMENT_TAG

DAILY, INTRADAY, SNAPSHOTS, FULL_REFRESH = "daily", "intraday", "snapshots", "full_refresh"

JobKeys = dict[str, frozenset[dg.AssetKey]]
Job = dg.JobDefinition | UnresolvedAssetJobDefinition


def job_keys(environment: str, catalog: Catalog) -> JobKeys:
    """The assets of each job that materialises any, by the job's name.

    `daily` has all, for a completed day; `intraday` those with partitions, for today; `snapshots`
    those without; `full_refresh` all, for all partitions; and each API has a job of its own name.
    A job without assets is left out.
    """

    def keys(wanted: Callable[[Endpoint], bool]) -> frozenset[dg.AssetKey]:
        return frozenset(asset_key(environment, e) for e in catalog if wanted(e))

    every, by_day = keys(lambda e: True), keys(lambda e: e.partitioned)
    found: JobKeys = {
        DAILY: every,
        INTRADAY: by_day,
        SNAPSHOTS: every - by_day,
        FULL_REFRESH: every,
    }
    for name in catalog.apis:
        found[name] = keys(lambda e, api=name: e.api == api)
    return {name: chosen for name, chosen in found.items() if chosen}


_SAYS = {
    DAILY: "A completed day of everything, then what is read whole.",
    INTRADAY: "Today's partition of everything that has partitions.",
    SNAPSHOTS: "What is read whole.",
    FULL_REFRESH: "Everything, for all partitions: choose them all, it is one run.",
}


def asset_jobs(environment: str, jobs: JobKeys) -> dict[str, UnresolvedAssetJobDefinition]:
    """The jobs of `job_keys`, by name. Their runs carry the environment as a tag."""
    return {
        name: dg.define_asset_job(
            name,
            dg.AssetSelection.assets(*sorted(keys, key=str)),
            description=_SAYS.get(name, f"Everything of the API {name}."),
            tags={ENVIRONMENT_TAG: environment},
        )
        for name, keys in jobs.items()
    }


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
        from st_pipelines.sync.sync import reconcile

        endpoint = by_name[name]
        with as_dagster_failure(context.retry_number):
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
        tags={ENVIRONMENT_TAG: environment},
        description="Reads whole tables and marks as deleted what ServiceTitan no longer has.",
    )
    def whole_tables() -> None:
        tables().map(reconcile_table)

    return whole_tables
