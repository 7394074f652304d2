"""Describes each endpoint as a Dagster asset: key, group, kinds, owners, description, metadata.

A host project overrides `ServiceTitanTranslator.get_asset_spec` to fit the assets into its own
catalog. How an asset loads, its partitions and its checks are not translated.
"""

from __future__ import annotations

from dataclasses import dataclass

import dagster as dg

from st_pipelines.catalog.model import Endpoint
from st_pipelines.defs.metadata import FRESHNESS, definition_metadata, description

OWNERS = ("team:data",)


@dataclass(frozen=True, kw_only=True)
class EndpointTranslatorData:
    """What a translator describes: one endpoint in one environment.

    Attributes:
        key_prefix: components that the host puts in front of every asset key.
    """

    environment: str
    endpoint: Endpoint
    key_prefix: tuple[str, ...] = ()


class ServiceTitanTranslator:
    """Turns an endpoint into an asset spec. Override `get_asset_spec` to change what it says.

    ```python
    class Translator(ServiceTitanTranslator):
        def get_asset_spec(self, data):
            spec = super().get_asset_spec(data)
            return spec.replace_attributes(owners=["team:finance"])
    ```

    Jobs, schedules, sensors and checks use the keys of these specs, so a changed key is honored
    everywhere.
    """

    def get_asset_spec(self, data: EndpointTranslatorData) -> dg.AssetSpec:
        """Returns the spec of an endpoint's asset, without partitions, which are not translated."""
        endpoint = data.endpoint
        return dg.AssetSpec(
            asset_key(data.environment, endpoint, data.key_prefix),
            group_name=endpoint.api,
            kinds={"servicetitan", "duckdb"},
            owners=OWNERS,
            description=description(endpoint),
            metadata=definition_metadata(data.environment, endpoint),
            freshness_policy=FRESHNESS,
        )


def asset_key(environment: str, endpoint: Endpoint, prefix: tuple[str, ...] = ()) -> dg.AssetKey:
    """Returns `[*prefix, environment, api, endpoint]`: environments must not share keys."""
    return dg.AssetKey([*prefix, environment, endpoint.api, endpoint.name])
