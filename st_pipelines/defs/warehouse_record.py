"""Reads what the warehouse holds, for the sensors, which trust no green partition without it."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from st_pipelines.config.connection import build_connection
from st_pipelines.defs.environment import EnvironmentDefs

if TYPE_CHECKING:
    from st_pipelines.sync.completeness import WarehouseState

WAIT_SECONDS = 10.0
"""For loads that hold the warehouse. Dagster ends a tick after 60 seconds."""


def read_state_of_warehouse(env: EnvironmentDefs, now: datetime) -> WarehouseState:
    """Returns what the warehouse holds of the environment's tables.

    Args:
        now: aware.

    Raises:
        SettingsError, WarehouseError: it cannot be read.
    """
    from st_pipelines.sync.completeness import read_warehouse_state

    with env.open_warehouse_resource() as resource:
        config = resource.config
        return read_warehouse_state(
            config.open_store(resource.uri, wait_seconds=WAIT_SECONDS),
            env.partitioned,
            environment=env.environment,
            tenant_id=config.settings.tenant_id or build_connection(config).tenant_id,
            now=now,
        )
