"""What all tests share: no settings of the machine, no telemetry, one sandbox to read from."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import pytest

from st_pipelines.sandbox.server import Sandbox

os.environ["DAGSTER_DISABLE_TELEMETRY"] = "yes"

NOW = datetime(2026, 3, 10, 15, 30, tzinfo=timezone.utc)


@pytest.fixture(autouse=True)
def _nothing_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in os.environ:
        if name.startswith(("SERVICETITAN_", "ST_", "DAGSTER_HOME")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    """A company of 150 customers whose time stands still. Only read from it."""
    with Sandbox(customers=150, now=NOW, requests_per_second=1e9) as running:
        yield running


@pytest.fixture
def own_sandbox() -> Iterator[Sandbox]:
    """A small company of the test's own, to change as it likes."""
    with Sandbox(customers=40, now=NOW, requests_per_second=1e9) as running:
        yield running


@pytest.hookimpl(tryfirst=True)  # before xdist looks for the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The tests of a file share what it sets up; the long histories go to whoever is free."""
    for item in items:
        if item.path.stem != "test_histories":
            item.add_marker(pytest.mark.xdist_group(item.path.stem))
