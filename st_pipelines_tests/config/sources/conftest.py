from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from moto.server import ThreadedMotoServer

from st_pipelines_tests.config.sources.managers import Aws, Azure, Mounted, SecretStore, Vault


@pytest.fixture(autouse=True)
def _without_this_machines_cloud_login(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in os.environ:
        if name.startswith(("AWS_", "AZURE_", "VAULT_", "IDENTITY_", "REQUESTS_CA")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    """The URL of one simulated AWS for all tests."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


STORES = ("aws", "azure", "vault-approle", "mounted")


@pytest.fixture(params=STORES)
def store(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[SecretStore]:
    """Each store in turn, named in the environment."""
    kind: str = request.param
    made: SecretStore
    if kind == "aws":
        made = Aws(request.getfixturevalue("moto"))
    else:
        makers: dict[str, Callable[[], SecretStore]] = {
            "azure": lambda: Azure(tmp_path),
            "mounted": lambda: Mounted(tmp_path),
        }
        login = kind.removeprefix("vault-")
        made = makers.get(kind, lambda: Vault(tmp_path, login))()
    for name, value in made.environment().items():
        monkeypatch.setenv(name, value)
    yield made
    made.close()
