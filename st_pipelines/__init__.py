"""ServiceTitan's data in DuckDB, loaded by Dagster. The names below are the public API.

Everything else may change without notice. Each name is imported when it is first used, so that
`import st_pipelines` loads neither Dagster nor DuckDB.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from st_pipelines.catalog.model import Endpoint
    from st_pipelines.component import ServiceTitanComponent
    from st_pipelines.config.errors import SettingsError
    from st_pipelines.config.project import load_catalog
    from st_pipelines.definitions import build_definitions
    from st_pipelines.defs.metadata import EndpointTranslatorData, ServiceTitanTranslator
    from st_pipelines.defs.resources import ServiceTitanResource, WarehouseResource
    from st_pipelines.sandbox.server import Sandbox
    from st_pipelines.servicetitan.errors.errors import ServiceTitanError
    from st_pipelines.sync.context import LoadReport
    from st_pipelines.sync.session import Session, connect
    from st_pipelines.warehouse.errors import WarehouseError

__all__ = [
    "Endpoint",
    "EndpointTranslatorData",
    "LoadReport",
    "Sandbox",
    "ServiceTitanComponent",
    "ServiceTitanError",
    "ServiceTitanResource",
    "ServiceTitanTranslator",
    "Session",
    "SettingsError",
    "WarehouseError",
    "WarehouseResource",
    "__version__",
    "build_definitions",
    "connect",
    "load_catalog",
]

_MODULES = {
    "Endpoint": "catalog.model",
    "EndpointTranslatorData": "defs.metadata",
    "LoadReport": "sync.context",
    "Sandbox": "sandbox.server",
    "ServiceTitanComponent": "component",
    "ServiceTitanError": "servicetitan.errors.errors",
    "ServiceTitanResource": "defs.resources",
    "ServiceTitanTranslator": "defs.metadata",
    "Session": "sync.session",
    "SettingsError": "config.errors",
    "WarehouseError": "warehouse.errors",
    "WarehouseResource": "defs.resources",
    "build_definitions": "definitions",
    "connect": "sync.session",
    "load_catalog": "config.project",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
