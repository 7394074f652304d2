"""Sandboxes and servers in whose setup exactly one thing is wrong."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from st_pipelines.sandbox.server import Sandbox
from st_pipelines_tests.conftest import NOW
from st_pipelines_tests.servicetitan.fake_server import APP_KEY, CLIENT_SECRET, ScriptedServer

Portal = Callable[..., Sandbox]


@pytest.fixture(autouse=True)
def _no_proxy_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.lower().endswith("_proxy") or name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def flawless() -> Iterator[Sandbox]:
    with Sandbox(customers=20, now=NOW, requests_per_second=1e9) as running:
        yield running


@pytest.fixture
def portal(flawless: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Portal]:
    """Starts a sandbox with defects, or uses the one without; the settings point to it."""
    with ExitStack() as running:

        def start(*defects: str, prefix: str = "SERVICETITAN_") -> Sandbox:
            sandbox = flawless
            if defects:
                own = Sandbox(customers=20, now=NOW, requests_per_second=1e9, defects=defects)
                sandbox = running.enter_context(own)
            for name, value in sandbox.environment(prefix).items():
                monkeypatch.setenv(name, value)
            return sandbox

        yield start


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedServer]:
    """A scripted server whose tokens are opaque. The settings point to it."""
    server = ScriptedServer()
    values = {
        "API_URL": server.url,
        "AUTH_URL": server.url,
        "CLIENT_ID": server.client_id,
        "CLIENT_SECRET": CLIENT_SECRET.replace(" ", ""),
        "APP_KEY": APP_KEY,
        "TENANT_ID": "4711",
        "TIMEZONE": "America/Denver",
    }
    for name, value in values.items():
        monkeypatch.setenv(f"SERVICETITAN_{name}", value)
    yield server
    server.close()
