"""Defines EnvironmentDefs, the value from which an environment's definitions are built.

It holds the settings, endpoints, asset keys and names of one environment. Assets, jobs, schedules
and sensors take it instead of long argument lists, and look up every key and name in it: none of
them assumes what a key or a name looks like.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from types import MappingProxyType
from typing import Any

import dagster as dg

from st_pipelines.catalog.file_kinds import SCHEMA, FileKind
from st_pipelines.catalog.model import Catalog, Endpoint
from st_pipelines.catalog.report import Report
from st_pipelines.config import connection
from st_pipelines.config.environments import EnvironmentName
from st_pipelines.config.project import EnvironmentConfig, resolve_environment
from st_pipelines.config.settings import EnvironmentSettings
from st_pipelines.defs.metadata import EndpointTranslatorData, ServiceTitanTranslator
from st_pipelines.defs.resources import WarehouseResource
from st_pipelines.windows import utc_now

DAILY, INTRADAY, SNAPSHOTS, FULL_REFRESH = "daily", "intraday", "snapshots", "full_refresh"
RECONCILE = "reconcile"
WEEKLY_RECONCILE = "weekly_reconcile"
CHANGES, GAPS, ALERTS = "changes", "gaps", "alerts"


def report_schedule_name(report: Report) -> str:
    """Returns the name of a report's schedule, without prefix."""
    return f"report_{report.name}"


AssetKeys = frozenset[dg.AssetKey]


@dataclass(frozen=True, kw_only=True)
class EnvironmentDefs:
    """One environment as Dagster defines it.

    Attributes:
        overrides: settings that win over all sources, secrets among them as SecretStr.
        catalog: the endpoints that the environment loads.
        file_kinds: the kinds of files that it stores.
        key_prefix: components in front of every asset key.
        resource_prefix: in front of the resource keys `servicetitan` and `warehouse`.
        job_prefix: in front of the names of jobs, schedules, sensors and their ops.
        warehouse: the resource that runs use; None for the one of the settings.
        clock: returns the current time, timezone-aware.
    """

    environment: EnvironmentName
    settings: EnvironmentSettings
    overrides: Mapping[str, Any] = field(default_factory=dict, repr=False)
    catalog: Catalog
    translator: ServiceTitanTranslator = field(default_factory=ServiceTitanTranslator)
    key_prefix: tuple[str, ...] = ()
    resource_prefix: str = ""
    job_prefix: str = ""
    warehouse: WarehouseResource | None = None
    clock: Callable[[], datetime] = utc_now
    file_kinds: tuple[FileKind, ...] = ()

    def resolve_config(self) -> EnvironmentConfig:
        """Reads the configuration again, as every tick does. Raises SettingsError."""
        return resolve_environment(self.environment, **self.overrides)

    def open_warehouse_resource(self) -> AbstractContextManager[WarehouseResource]:
        """Yields the resource of the warehouse as a run gets it, for sensors."""
        warehouse = self.warehouse or WarehouseResource(environment=self.environment)
        return warehouse.process_config_and_initialize_cm()

    def why_incomplete(self) -> str:
        """Returns why no connection can be built now; or an empty text."""
        return connection.why_incomplete(self.environment, **self.overrides)

    @property
    def automated(self) -> bool:
        """Whether schedules and sensors run without being turned on: in production alone."""
        return self.environment == "production"

    @property
    def schedule_status(self) -> dg.DefaultScheduleStatus:
        """The status of a schedule that nobody has turned on or off."""
        status = dg.DefaultScheduleStatus
        return status.RUNNING if self.automated else status.STOPPED

    @property
    def sensor_status(self) -> dg.DefaultSensorStatus:
        """The status of a sensor that nobody has turned on or off."""
        return dg.DefaultSensorStatus.RUNNING if self.automated else dg.DefaultSensorStatus.STOPPED

    @property
    def instigator_names(self) -> frozenset[str]:
        """The names of the schedules and sensors, whether they exist or not."""
        schedules = [DAILY, INTRADAY, SNAPSHOTS, WEEKLY_RECONCILE]
        schedules += [report_schedule_name(report) for report in self.reports]
        return frozenset(self.name(name) for name in (*schedules, CHANGES, GAPS, ALERTS))

    @cached_property
    def servicetitan_key(self) -> str:
        """The resource key of the ServiceTitanResource."""
        return f"{self.resource_prefix}servicetitan"

    @cached_property
    def warehouse_key(self) -> str:
        """The resource key of the WarehouseResource."""
        return f"{self.resource_prefix}warehouse"

    def name(self, name: str) -> str:
        """Returns the name under which Dagster knows a job, schedule, sensor or op."""
        return f"{self.job_prefix}{name}"

    @cached_property
    def specs(self) -> Mapping[str, dg.AssetSpec]:
        """The translated asset specs, by table, in the catalog's order."""
        return MappingProxyType({endpoint.table: self._spec(endpoint) for endpoint in self.catalog})

    @cached_property
    def asset_keys(self) -> Mapping[str, dg.AssetKey]:
        """The asset keys, by table."""
        return MappingProxyType({table: spec.key for table, spec in self.specs.items()})

    @cached_property
    def tables(self) -> Mapping[dg.AssetKey, str]:
        """The tables, by asset key."""
        return MappingProxyType({key: table for table, key in self.asset_keys.items()})

    @cached_property
    def file_keys(self) -> Mapping[str, dg.AssetKey]:
        """The asset keys of the kinds of files, by name."""
        parts = (*self.key_prefix, self.environment, SCHEMA)
        return MappingProxyType(
            {kind.name: dg.AssetKey([*parts, kind.name]) for kind in self.file_kinds}
        )

    @cached_property
    def loaded_tables(self) -> Mapping[dg.AssetKey, str]:
        """The tables of all assets by asset key, those of stored files included."""
        files = {self.file_keys[kind.name]: kind.table for kind in self.file_kinds}
        return MappingProxyType({**self.tables, **files})

    @cached_property
    def partitioned(self) -> tuple[Endpoint, ...]:
        """The endpoints whose assets have daily partitions, without reports."""
        return tuple(e for e in self.catalog if e.partitioned and not e.report)

    @cached_property
    def reports(self) -> tuple[Report, ...]:
        """The reports, which have schedules of their own: a day takes a minute or more."""
        return tuple(endpoint.report for endpoint in self.catalog if endpoint.report)

    @cached_property
    def job_keys(self) -> Mapping[str, AssetKeys]:
        """The assets of each job that materializes any, by the job's name without prefix.

        `daily` has all, for a completed day; `intraday` those with partitions, for today;
        `snapshots` those without; `full_refresh` all, for all partitions; and each API has a job of
        its own name. Reports are in the job `reports` alone. `files` has the kinds of files, which
        `daily` and `snapshots` have too. A job without assets is left out.
        """
        by_day = frozenset(self.asset_keys[endpoint.table] for endpoint in self.partitioned)
        files = frozenset(self.file_keys.values())
        every = frozenset(self.asset_keys[e.table] for e in self.catalog if not e.report) | files
        jobs = {DAILY: every, INTRADAY: by_day, SNAPSHOTS: every - by_day, FULL_REFRESH: every}
        jobs[SCHEMA] = files
        for api in self.catalog.apis:
            jobs[api] = frozenset(self.asset_keys[e.table] for e in self.catalog if e.api == api)
        return MappingProxyType({name: keys for name, keys in jobs.items() if keys})

    @cached_property
    def keys_by_job_name(self) -> Mapping[str, AssetKeys]:
        """The same, by the name that Dagster's runs carry."""
        return MappingProxyType({self.name(job): keys for job, keys in self.job_keys.items()})

    def _spec(self, endpoint: Endpoint) -> dg.AssetSpec:
        data = EndpointTranslatorData(
            environment=self.environment, endpoint=endpoint, key_prefix=self.key_prefix
        )
        spec = self.translator.get_asset_spec(data)
        if spec.partitions_def is not None:
            raise dg.DagsterInvalidDefinitionError(
                f"the translator gives {endpoint.table} a partitions_def: leave it out, as the"
                " settings start_date and timezone decide on the partitions"
            )
        return spec
