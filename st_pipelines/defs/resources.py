"""Defines the Dagster resources: ServiceTitan's client and the warehouse of one environment.

They are thin: they resolve the configuration and open the client or the store. Both are imported
on first use, so that the definitions load without DuckDB and requests.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import dagster as dg
from pydantic import PrivateAttr

from st_pipelines.config.connection import build_connection
from st_pipelines.config.errors import SettingsError
from st_pipelines.config.project import EnvironmentConfig, resolve_environment
from st_pipelines.config.settings import EnvironmentSettings
from st_pipelines.config.sources.places import AllPlaces
from st_pipelines.defs import run_lock
from st_pipelines.warehouse.errors import WarehouseError

if TYPE_CHECKING:
    import pandas as pd

    from st_pipelines.servicetitan.http.client import Client
    from st_pipelines.warehouse.store.base import Store


Resource = TypeVar("Resource", bound="EnvironmentResource")


class EnvironmentResource(dg.ConfigurableResource):
    """A resource of one environment, whose configuration is resolved once per run.

    Dagster initializes an object of its own for each run. Elsewhere, such as in a notebook, the
    configuration is resolved once per object.
    """

    environment: str

    overrides: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    """Settings that win over all sources but fields: see `with_overrides`."""

    _config: EnvironmentConfig | None = PrivateAttr(default=None)

    @property
    def config(self) -> EnvironmentConfig:
        """The configuration of the environment. Raises SettingsError."""
        if self._config is None:
            environment: Any = self.environment
            fields = type(self).model_fields.keys() & EnvironmentSettings.model_fields.keys()
            given = {name: getattr(self, name) for name in fields}
            given = {name: value for name, value in given.items() if value is not None}
            self._config = resolve_environment(environment, **{**self.overrides, **given})
        return self._config


def with_overrides(
    resource: type[Resource], environment: str, overrides: Mapping[str, Any]
) -> type[Resource]:
    """Returns the class of a resource of one environment, with settings that win over all sources.

    They belong to the class because Dagster stores and shows the fields of a resource, and because
    it initializes a new object of the class for each run. The environment is the default of its
    field, because a run's configuration replaces all fields: it may leave it out.
    """
    namespace = {
        "__annotations__": {"environment": str},
        "environment": environment,
        "__module__": resource.__module__,
        "__doc__": resource.__doc__,
        "overrides": overrides,
    }
    return type(resource)(resource.__name__, (resource,), namespace)


class ServiceTitanResource(EnvironmentResource):
    """ServiceTitan in one environment, as one tenant.

    Fields other than `environment` win over environment variables and `.env`; by default those
    apply. Give secrets as `dagster.EnvVar`: Dagster shows a resource's configuration and stores
    that of a run, so a secret in plain text is an error. Nothing is resolved before a run uses the
    client.
    """

    client_id: str | None = None
    client_secret: str | None = None
    client_secret_next: str | None = None
    app_key: str | None = None
    tenant_id: str | None = None
    api_url: str | None = None
    auth_url: str | None = None

    _client: Client | None = PrivateAttr(default=None)

    @property
    def settings(self) -> EnvironmentSettings:
        """The environment's settings. Raises SettingsError."""
        return self.config.settings

    @property
    def client(self) -> Client:
        """The client of the run. All assets share its connections.

        Raises:
            SettingsError: a setting is missing or wrong.
        """
        from st_pipelines.servicetitan.http.client import Client

        if self._client is None:
            self._client = Client(build_connection(self.config))
        return self._client

    def get_resource_definition(self) -> Any:
        """Called by Dagster. Raises SettingsError for a secret in plain text."""
        _refuse_plain_text(self._resolved_config_dict)
        return super().get_resource_definition()

    @contextmanager
    def yield_for_execution(
        self, context: dg.InitResourceContext
    ) -> Iterator[ServiceTitanResource]:
        """Closes the client's connections when the run ends.

        Raises:
            SettingsError: the run's configuration holds a secret in plain text.
        """
        _refuse_plain_text_of_run(context.run)
        try:
            yield self
        finally:
            if self._client is not None:
                self._client.close()
                self._client = None


def _refuse_plain_text(config: Mapping[str, Any]) -> None:
    for name in (*EnvironmentSettings.secret_fields, *AllPlaces.secret_fields):
        if isinstance(config.get(name), str):
            raise SettingsError(
                f"{name} is given to ServiceTitanResource in plain text, which Dagster shows in its"
                " UI and keeps: give dagster.EnvVar, or leave it out; and exchange this secret"
            )


def _refuse_plain_text_of_run(run: dg.DagsterRun | None) -> None:
    resources: Any = (run.run_config if run else {}).get("resources") or {}
    for resource in resources.values():
        _refuse_plain_text((resource or {}).get("config") or {})


class WarehouseResource(EnvironmentResource):
    """The DuckDB warehouse of one environment.

    Attributes:
        uri: by default `ST_WAREHOUSE_DIR`/`<environment>.duckdb`.
        wait_seconds: how long a load waits for another process to release the file.
        accept_deletions: runs also load what deletes a large part of a table. Set it in the
            configuration of one run, not permanently.
    """

    uri: str | None = None
    wait_seconds: float = 120.0
    accept_deletions: bool = False

    _has_unpublished_loads: bool = PrivateAttr(default=False)

    @property
    def warehouse(self) -> Store:
        """The store that holds the tables. Raises SettingsError."""
        return self.config.open_store(self.uri, wait_seconds=self.wait_seconds)

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator[WarehouseResource]:
        """Publishes the run's last loads when it ends, even if the read copy is not due yet.

        Otherwise the last loads of a night would stay invisible until the next night.
        """
        with self._run_locked(context):
            yield self
        if self._has_unpublished_loads:
            with _log_publish_errors(context.log):
                self.warehouse.publish()

    @contextmanager
    def _run_locked(self, context: dg.InitResourceContext) -> Iterator[None]:
        """Shows that the run is alive, for executors other than ours, which hold its lock."""
        if context.run is None or context.instance is None:
            yield
            return
        with run_lock.held(context.instance, context.run.run_id, whole_run=False):
            yield

    def publish_if_due(self, log: dg.DagsterLogManager) -> None:
        """Replaces the read copy after a load, if publishing is on and the copy is old enough."""
        with _log_publish_errors(log):
            warehouse = self.warehouse
            if warehouse.publish_seconds is not None:
                self._has_unpublished_loads = True
                self._has_unpublished_loads = warehouse.publish_if_due() is None

    @property
    def history(self) -> frozenset[str]:
        """The tables that keep every version of a row. Raises SettingsError."""
        return self.config.history_tables

    def query(self, sql: str) -> pd.DataFrame:
        """Runs a query, read-only.

        Raises:
            WarehouseError: the file is missing, foreign, or held by another process.
        """
        with self.warehouse.read_only() as connection:
            return connection.execute(sql).df()


@contextmanager
def _log_publish_errors(log: dg.DagsterLogManager | None) -> Iterator[None]:
    """Logs errors of publishing: the load has succeeded even if its copy cannot be made."""
    try:
        yield
    except (WarehouseError, SettingsError, OSError) as error:
        if log is not None:
            log.warning(f"the read copy was not replaced: {error}")
