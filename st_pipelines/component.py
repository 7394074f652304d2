"""Offers the assets of an environment as a component of anybody's `dg` project.

```yaml
# defs/servicetitan/defs.yaml
type: st_pipelines.ServiceTitanComponent
attributes:
  environment: production
  select: [crm, jpm.jobs]
  key_prefix: [servicetitan]
```

The attributes are the environment, its selection, the prefixes and `translation`;
`definitions.build_definitions` does the work.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import dagster as dg
from dagster.components.utils.translation import TranslationFn, TranslationFnResolver
from pydantic import Field

from st_pipelines.definitions import build_definitions
from st_pipelines.defs.metadata import EndpointTranslatorData, ServiceTitanTranslator


class ServiceTitanScaffolder(dg.Scaffolder):
    """Writes the `defs.yaml` of `dg scaffold defs st_pipelines.ServiceTitanComponent NAME`."""

    def scaffold(self, request: dg.ScaffoldRequest) -> None:
        """Writes the attributes that a project has to decide on first."""
        dg.scaffold_component(
            request, {"environment": "production", "key_prefix": ["servicetitan"]}
        )


@dg.scaffold_with(ServiceTitanScaffolder)
class ServiceTitanComponent(dg.Component, dg.Model, dg.Resolvable):
    """ServiceTitan's collections as tables in DuckDB: assets, checks, jobs, schedules, sensors.

    Credentials and all other settings come from environment variables or `.env`. To change what
    the assets say, give `translation`, or subclass and override `get_asset_spec`; both may change
    keys. (`post_processing` may not: jobs and sensors would still use the former keys.)
    """

    environment: Annotated[
        Literal["production", "integration", "sandbox"],
        Field(description="The ServiceTitan environment whose settings and credentials are used."),
    ]
    select: Annotated[
        list[str] | None,
        Field(
            description="Tables (`jpm.jobs`), patterns (`crm.*`) or APIs (`crm`) to load. By"
            " default the setting SERVICETITAN_SELECT, or everything."
        ),
    ] = None
    key_prefix: Annotated[
        list[str] | None,
        Field(description="Components in front of every asset key [environment, api, endpoint]."),
    ] = None
    reports: Annotated[
        str | list[dict[str, Any]] | None,
        Field(
            description="Reports to load: a file like `st_reports.yaml`, or its entries. By default"
            " the file of the setting ST_REPORTS."
        ),
    ] = None
    resource_prefix: Annotated[
        str,
        Field(description="In front of the resource keys `servicetitan` and `warehouse`."),
    ] = ""
    job_prefix: Annotated[
        str,
        Field(description="In front of the names of jobs, schedules and sensors."),
    ] = ""
    translation: Annotated[
        TranslationFn[EndpointTranslatorData] | None,
        TranslationFnResolver[EndpointTranslatorData](
            lambda data: {"endpoint": data.endpoint, "environment": data.environment}
        ),
        Field(
            description="Asset attributes that replace the defaults. Templates can use `spec`,"
            " `endpoint` (as `endpoint.api` and `endpoint.name`) and `environment`."
        ),
    ] = None

    def get_asset_spec(self, data: EndpointTranslatorData) -> dg.AssetSpec:
        """Returns the spec of an endpoint's asset. Subclasses may override it."""
        spec = ServiceTitanTranslator().get_asset_spec(data)
        return self.translation(spec, data) if self.translation else spec

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Returns the environment's definitions. Raises SettingsError for a wrong setting."""
        return build_definitions(
            self.environment,
            select=self.select,
            key_prefix=self.key_prefix,
            reports=self.reports,
            resource_prefix=self.resource_prefix,
            job_prefix=self.job_prefix,
            translator=_ComponentTranslator(self),
        )


class _ComponentTranslator(ServiceTitanTranslator):
    """Asks the component, which a host may have subclassed."""

    def __init__(self, component: ServiceTitanComponent) -> None:
        self._component = component

    def get_asset_spec(self, data: EndpointTranslatorData) -> dg.AssetSpec:
        return self._component.get_asset_spec(data)
