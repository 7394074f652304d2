"""Building the connection of an environment, its error messages, and reloading its secrets."""

from __future__ import annotations

from pathlib import Path

import pytest

from st_pipelines.config import connection as connection_module
from st_pipelines.config.connection import build_connection, require_complete
from st_pipelines.config.errors import (
    NotConfigured,
    SettingsError,
    SourceUnavailable,
    WrongHost,
)
from st_pipelines.config.project import resolve_environment
from st_pipelines.config.settings import EnvironmentSettings
from st_pipelines.config.sources.local import Folder
from st_pipelines.config.sources.resolve import gather


@pytest.mark.parametrize(
    "error",
    [
        SettingsError("a value is invalid"),
        NotConfigured("credentials are missing"),
        SourceUnavailable("the vault is sealed"),
        WrongHost("SERVICETITAN_API_URL is the host of integration", "Remove it."),
    ],
)
def test_a_failed_reload_of_secrets_raises_the_error_of_the_source(
    error: SettingsError, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CLIENT_ID", "CLIENT_SECRET", "APP_KEY", "TENANT_ID"):
        monkeypatch.setenv(f"SERVICETITAN_{name}", "1")
    reload_secrets = build_connection(resolve_environment("production")).reload_secrets
    assert reload_secrets is not None

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(connection_module, "complete", fail)
    with pytest.raises(type(error)) as caught:
        reload_secrets()
    assert str(caught.value) == f"ServiceTitan rejects the configured client secret; {error}"
    assert getattr(caught.value, "hint", None) == getattr(error, "hint", None)


def test_missing_credentials_name_the_sources_that_settings_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = resolve_environment("production")
    with pytest.raises(NotConfigured, match=r"in the environment or in \.env$"):
        require_complete(config)
    monkeypatch.setenv("SERVICETITAN_SECRETS_DIR", str(tmp_path))
    folder = Folder(EnvironmentSettings, "SERVICETITAN_", tmp_path, "SERVICETITAN_SECRETS_DIR")
    assert gather([folder]).named_sources == (f"folder {tmp_path}",)
    with pytest.raises(NotConfigured, match=rf"in \.env, or in folder {tmp_path}$"):
        require_complete(resolve_environment("production"))
