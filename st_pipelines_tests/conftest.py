"""Fixtures that many tests share, and how the suite runs.

Tests see no setting of this machine. The slowest files start first, the tests of a file stay on one
worker, and a suite that leaves files in the checkout fails.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path

import dagster as dg
import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from st_pipelines.sandbox.server import Sandbox
from st_pipelines.servicetitan.http import auth
from st_pipelines.servicetitan.http.client import Client
from st_pipelines.servicetitan.http.retry import NO_WAIT
from st_pipelines_tests.checkout import (
    pytest_sessionfinish,
    pytest_sessionstart,
    pytest_terminal_summary,
)
from st_pipelines_tests.daemon import TABLES, Daemon, at, one_event_log

os.environ["DAGSTER_DISABLE_TELEMETRY"] = "yes"

__all__ = ["pytest_sessionfinish", "pytest_sessionstart", "pytest_terminal_summary"]
NOW = datetime(2026, 3, 10, 15, 30, tzinfo=timezone.utc)


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hides environment variables and `.env` from every test."""
    for name in os.environ:
        if name.startswith(("SERVICETITAN_", "ST_", "DAGSTER_HOME")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def _no_tokens_of_other_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Empties the process's token cache: a sandbox on a reused port has the same credentials."""
    monkeypatch.setattr(auth, "_sources", {})


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    """A company of 150 customers whose clock stands still. Shared: only read from it."""
    with Sandbox(customers=150, now=NOW, requests_per_second=1e9) as running:
        yield running


@pytest.fixture
def own_sandbox() -> Iterator[Sandbox]:
    """A small company that the test may change."""
    with Sandbox(customers=40, now=NOW, requests_per_second=1e9) as running:
        yield running


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    """A small production environment on Thursday, March 5, 2026, at 9:00 in New York."""
    monkeypatch.setattr(
        "st_pipelines.servicetitan.http.client.Client", functools.partial(Client, policy=NO_WAIT)
    )
    monkeypatch.setattr("st_pipelines.defs.sensors.changes._RETRY_POLICY", NO_WAIT)
    monkeypatch.setattr("st_pipelines.defs.failures.FIRST_DELAY", 0)
    with (
        Sandbox(customers=8, history_days=20, now=at(5, 9), requests_per_second=1e9) as sandbox,
        dg.DagsterInstance.local_temp(str(tmp_path), overrides=one_event_log(tmp_path)) as instance,
    ):
        for name, value in sandbox.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("SERVICETITAN_TIMEZONE", "America/New_York")
        monkeypatch.setenv("SERVICETITAN_START_DATE", "2026-03-02")
        monkeypatch.setenv("SERVICETITAN_SELECT", ",".join(TABLES))
        monkeypatch.setenv("SERVICETITAN_INTRADAY_CRON", "0 15 * * *")
        with closing(Daemon(instance, sandbox)) as daemon:
            yield daemon


SLOWEST = (
    "cli/test_demo.py",
    "judges/test_requests.py",
    "defs/test_dagster_dev.py",
    "sync/test_sync.py",
    "defs/test_keeping_fresh.py",
    "sync/test_histories.py",
    "defs/test_assets.py",
    "sync/test_crashes.py",
    "warehouse/test_adopt.py",
    "sync/test_faults.py",
    "defs/test_alerts.py",
)
"""Files that start first, so that no worker waits for another at the end."""
TESTS = Path(__file__).parent


class FilesTogether(LoadScopeScheduling):
    """Keeps the tests of a file on one worker, because they share what it sets up.

    The histories share nothing, and spread over all workers.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::")[0]
        return nodeid if file.endswith("sync/test_histories.py") else file


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Moves the slowest files to the front."""
    order = {TESTS / file: index for index, file in enumerate(SLOWEST)}
    items.sort(key=lambda item: order.get(item.path, len(order)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores, because some tests mostly wait for other processes."""
    return (os.cpu_count() or 1) + 1


@pytest.hookimpl(optionalhook=True)  # absent with `-p no:xdist`
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> FilesTogether:
    """Replaces `--dist loadgroup`, which groups nothing under pytest 9.2."""
    return FilesTogether(config, log)
