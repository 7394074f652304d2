"""What all tests share: no settings of the machine, no telemetry, one sandbox to read from."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import dagster as dg
import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from st_pipelines.sandbox.server import Sandbox
from st_pipelines.servicetitan.http.client import Client
from st_pipelines.servicetitan.http.retry import NO_WAIT
from st_pipelines_tests.daemon import TABLES, Daemon, at, one_event_log

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


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    """A small production whose clock stands on Thursday, 5 March 2026, 9:00 in New York."""
    monkeypatch.setattr(
        "st_pipelines.servicetitan.http.client.Client", functools.partial(Client, policy=NO_WAIT)
    )
    monkeypatch.setattr("st_pipelines.defs.sensors.probing._retry_policy", lambda: NO_WAIT)
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
        yield Daemon(instance, sandbox)


_LONGEST = (
    "test_demo", "test_dagster_dev", "test_sync", "test_keeping_fresh", "test_histories",
    "test_assets", "test_crashes", "test_adopt", "test_faults", "test_alerts",
)  # fmt: skip


class FilesTogether(LoadScopeScheduling):
    """The tests of a file share what it sets up; the long histories go to whoever is free."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::")[0]
        return nodeid if Path(file).stem == "test_histories" else file


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first, so that no core waits for another in the end."""
    order = {stem: place for place, stem in enumerate(_LONGEST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores, as some tests mostly wait for other processes."""
    return (os.cpu_count() or 1) + 1


@pytest.hookimpl(optionalhook=True)  # `-p no:xdist`
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> FilesTogether:
    """In place of `--dist loadgroup`, which groups nothing under pytest 9.2."""
    return FilesTogether(config, log)
