from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from st_pipelines.catalog.model import DateFilter, Endpoint, Field, Scalar
from st_pipelines_tests.servicetitan.fake_server import ScriptedServer


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    server = ScriptedServer()
    yield server
    server.close()


@pytest.fixture
def endpoint() -> Callable[..., Endpoint]:
    """Build a windowed list sorted by id; keyword arguments change it."""

    def make(**changes: Any) -> Endpoint:
        facts: dict[str, Any] = {
            "api": "jpm",
            "name": "jobs",
            "kind": "window",
            "path": "/jpm/v2/tenant/{tenant}/jobs",
            "envelope": "page",
            "scope": "tn.jpm.jobs:r",
            "columns": (Field(name="id", type=Scalar(name="BIGINT")),),
            "date_filter": DateFilter(lower="modifiedOnOrAfter", upper="modifiedBefore"),
            "sort": "+Id",
        }
        return Endpoint(**facts | changes)

    return make
