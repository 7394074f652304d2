"""What `import st_pipelines` offers, and what it costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import st_pipelines

NAMES = [
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


def test_the_public_api_is_exactly_this_list() -> None:
    assert st_pipelines.__all__ == NAMES
    assert set(NAMES) <= set(dir(st_pipelines))
    for name in NAMES:
        value = getattr(st_pipelines, name)
        assert getattr(value, "__name__", name) == name
    with pytest.raises(AttributeError, match="has no attribute 'load'"):
        _ = st_pipelines.load


def test_the_import_loads_no_dependency() -> None:
    code = (
        "import sys; import st_pipelines; assert st_pipelines.__version__;"
        "print(*({'dagster', 'duckdb', 'requests', 'pandas', 'pydantic'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
