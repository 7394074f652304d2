"""A shared sandbox for tests that only read, and a small one for each test that changes records."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone

import pytest

from st_pipelines.sandbox.server import Sandbox
from st_pipelines_tests.sandbox.client import Client

NOW = datetime(2026, 3, 10, 15, 30, tzinfo=timezone.utc)
NO_LIMIT = 1e9


@pytest.fixture(scope="session")
def shared() -> Iterator[Client]:
    with Sandbox(customers=200, now=NOW, requests_per_second=NO_LIMIT) as sandbox:
        yield Client(sandbox)


@pytest.fixture
def client() -> Iterator[Client]:
    with Sandbox(customers=60, now=NOW, requests_per_second=NO_LIMIT) as sandbox:
        yield Client(sandbox)
