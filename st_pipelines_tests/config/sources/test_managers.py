"""Every source of credentials: readable, missing, forbidden, unreachable, rotated in a run."""

from __future__ import annotations

import http.client
import logging
import subprocess
import sys
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import Response

from st_pipelines.catalog.registry import load_catalog
from st_pipelines.cli.doctor.local import read_secret_ages
from st_pipelines.config.connection import build_connection
from st_pipelines.config.errors import SettingsError, SourceUnavailable
from st_pipelines.config.project import resolve_environment
from st_pipelines.config.settings import complete, load_settings
from st_pipelines.config.sources.places import AllPlaces
from st_pipelines.config.sources.resolve import MANAGERS as MANAGER_CLASSES
from st_pipelines.sandbox.server import Sandbox
from st_pipelines.servicetitan.http.client import Client
from st_pipelines.servicetitan.http.retry import NO_WAIT
from st_pipelines.sync.sync import SyncContext, extract_load
from st_pipelines.warehouse.store.duckdb_file import DuckDBFile
from st_pipelines.windows import Days
from st_pipelines_tests.config.sources.conftest import STORES
from st_pipelines_tests.config.sources.managers import Aws, Azure, Mounted, SecretStore, Vault
from st_pipelines_tests.config.sources.web import VaultServer
from st_pipelines_tests.conftest import NOW

CREDENTIALS = {
    "client_id": "cid.abc",
    "client_secret": "cs1.MARKED",
    "app_key": "ak1.MARKED",
    "tenant_id": "42",
}
MANAGERS = [kind for kind in STORES if kind != "mounted"]


def credentials_of(sandbox: Sandbox, **changes: str) -> dict[str, str]:
    return {
        "client_id": sandbox.client_id,
        "client_secret": sandbox.client_secret,
        "app_key": sandbox.app_key,
        "tenant_id": sandbox.tenant_id,
        **changes,
    }


def test_credentials_are_read_with_their_source(store: SecretStore) -> None:
    store.put(CREDENTIALS)
    settings = complete("production", load_settings("production"))
    found = build_connection(resolve_environment("production"))
    assert (found.client_id, found.tenant_id) == ("cid.abc", "42")
    assert found.client_secret.get_secret_value() == "cs1.MARKED"
    assert found.app_key.get_secret_value() == "ak1.MARKED"
    for field in CREDENTIALS:
        assert settings.gathered.origins[field].startswith(store.title)
    assert not settings.gathered.warnings
    assert "MARKED" not in repr(settings) + repr(found) + repr(settings.gathered)


def test_the_vendors_debug_output_shows_no_secret(
    store: SecretStore,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At debug level boto3 logs whole responses, and `http.client` prints tokens and forms."""
    store.put(CREDENTIALS)
    capfd.readouterr()
    caplog.clear()
    monkeypatch.setattr(http.client.HTTPConnection, "debuglevel", 1)
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, logger="botocore.parsers")
    build_connection(resolve_environment("production"))
    assert "MARKED" not in caplog.text + "".join(capfd.readouterr())
    assert http.client.HTTPConnection.debuglevel == 1
    assert logging.getLogger("botocore.parsers").level == logging.DEBUG


@pytest.mark.parametrize("login", ["token", "kubernetes"])
def test_vault_accepts_a_token_and_a_service_account(
    login: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with closing(Vault(tmp_path, login)) as vault:
        vault.put(CREDENTIALS)
        for name, value in vault.environment().items():
            monkeypatch.setenv(name, value)
        assert build_connection(resolve_environment("production")).client_id == "cid.abc"
        vault.server.token = vault.server.service_account = "another"
        with pytest.raises(SettingsError) as caught:
            build_connection(resolve_environment("production"))
    expected = {"token": vault.forbidden, "kubernetes": "Vault rejects the login (InvalidRequest)"}
    assert expected[login] in str(caught.value)
    assert "MARKED" not in str(caught.value)


def test_a_vault_without_path_or_login_names_the_missing_setting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SERVICETITAN_VAULT_URL", "http://127.0.0.1:1")
    with pytest.raises(SettingsError, match="set SERVICETITAN_VAULT_PATH too"):
        build_connection(resolve_environment("production"))
    monkeypatch.setenv("SERVICETITAN_VAULT_PATH", "servicetitan")
    with pytest.raises(SettingsError, match="no login is configured: set SERVICETITAN_VAULT_TOKEN"):
        build_connection(resolve_environment("production"))


def test_a_machine_without_an_azure_identity_gets_a_hint(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with closing(Azure(tmp_path)) as azure:
        azure.put(CREDENTIALS)
        for name, value in azure.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("IDENTITY_HEADER", "another")
        with pytest.raises(SettingsError, match="cannot log in to Azure: give it") as caught:
            build_connection(resolve_environment("production"))
    assert caught.value.permanent
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("without", "expected"),
    [
        ("SERVICETITAN_AWS_REGION", "no region is known: set SERVICETITAN_AWS_REGION"),
        ("AWS_ACCESS_KEY_ID", "no AWS credentials were found: give this machine a role"),
        ("AWS_SECRET_ACCESS_KEY", "the AWS credentials are incomplete"),
    ],
)
def test_a_missing_aws_setting_is_named(
    without: str, expected: str, moto: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in Aws(moto).environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv(without)
    with pytest.raises(SettingsError, match=expected) as caught:
        build_connection(resolve_environment("production"))
    assert caught.value.permanent


@pytest.mark.parametrize("kind", ["vault", "azure"])
def test_a_sealed_or_overloaded_manager_is_a_temporary_failure(
    kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with closing(Vault(tmp_path, "token") if kind == "vault" else Azure(tmp_path)) as manager:
        manager.server.status = 503 if kind == "vault" else 501  # azure-core does not retry it
        for name, value in manager.environment().items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SourceUnavailable, match="is unavailable") as caught:
            build_connection(resolve_environment("production"))
    assert not caught.value.permanent


@pytest.mark.parametrize(
    ("setting", "module", "extra"),
    [
        ("AWS_SECRET_ID", "boto3", "aws"),
        ("AZURE_KEY_VAULT", "azure.identity", "azure"),
        ("VAULT_URL", "hvac", "vault"),
    ],
)
def test_an_extra_that_is_not_installed_is_named(
    setting: str, module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"SERVICETITAN_{setting}", "https://127.0.0.1:1")
    monkeypatch.setenv("SERVICETITAN_VAULT_PATH", "x")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SettingsError) as caught:
        build_connection(resolve_environment("production"))
    assert str(caught.value) == (
        f"SERVICETITAN_{setting} needs the package {module}, which is not installed: "
        f"pip install 'st_pipelines[{extra}]'"
    )


def test_an_aws_secret_that_is_not_an_object_is_not_quoted(
    moto: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    aws = Aws(moto)
    for name, value in aws.environment().items():
        monkeypatch.setenv(name, value)
    aws.put_text("cs1.MARKED")
    with pytest.raises(SettingsError, match=r"is not a JSON object: write it as") as caught:
        build_connection(resolve_environment("production"))
    assert "MARKED" not in str(caught.value)


def test_a_missing_secret_is_named(store: SecretStore) -> None:
    with pytest.raises(SettingsError) as caught:
        build_connection(resolve_environment("production"))
    assert store.absent in str(caught.value)
    assert store.title in str(caught.value)
    assert caught.value.permanent
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_an_incomplete_secret_is_reported_with_what_is_missing(store: SecretStore) -> None:
    store.put({"client_id": "cid.abc", "tenant_id": "42", "client_secret": "cs1.MARKED"})
    with pytest.raises(SettingsError) as caught:
        build_connection(resolve_environment("production"))
    assert str(caught.value) == (
        "production is not configured: set SERVICETITAN_APP_KEY in the environment or in .env, "
        f"or in {store.title}"
    )


def test_a_missing_permission_is_named(store: SecretStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put(CREDENTIALS)
    for name, value in store.deny_access().items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        build_connection(resolve_environment("production"))
    assert store.forbidden in str(caught.value)
    assert caught.value.permanent
    assert caught.value.__context__ is None


def test_an_unreachable_source_is_named(
    store: SecretStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in store.unreachable_environment().items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        build_connection(resolve_environment("production"))
    assert store.unreachable in str(caught.value)
    # Waiting does not bring a folder back. A manager may recover, so Dagster retries the step.
    assert caught.value.permanent is isinstance(store, Mounted)
    assert isinstance(caught.value, SourceUnavailable) is not isinstance(store, Mounted)


def test_a_secret_can_be_rotated_during_a_run(
    store: SecretStore, own_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SERVICETITAN_API_URL", own_sandbox.url)
    monkeypatch.setenv("SERVICETITAN_AUTH_URL", own_sandbox.url)
    monkeypatch.setenv("SERVICETITAN_PAGE_SIZE", "20")
    store.put(credentials_of(own_sandbox))
    new, seen = "cs2.the-new-secret", []

    def exchanged(request: Request) -> Response | None:
        if request.url.path.endswith("/jobs"):
            seen.append(request.url.path)
            if len(seen) == 2:
                own_sandbox.rotate(new)
                store.put(credentials_of(own_sandbox, client_secret=new))
                return Response(status_code=401)
        return None

    own_sandbox.interceptors.append(exchanged)
    client = Client(build_connection(resolve_environment("production")), policy=NO_WAIT)
    warehouse = DuckDBFile(uri=str(tmp_path / "w.duckdb"))
    job = SyncContext(
        client=client, warehouse=warehouse, timezone="UTC", run_id="r", clock=lambda: NOW
    )
    days = Days(first=NOW.date(), last=NOW.date(), timezone="UTC", open_start=True)
    before = extract_load(job, load_catalog()["jpm.job_types"], days)
    assert before.notices == ()
    report = extract_load(job, load_catalog()["jpm.jobs"], days)
    assert report.loaded.rows_read == len(own_sandbox.world.records("jpm.jobs")) > 20
    (notice,) = report.notices
    assert notice.startswith("ServiceTitan refuses the value that SERVICETITAN_CLIENT_SECRET (")
    assert store.title in notice
    assert new not in notice


@pytest.mark.parametrize("store", MANAGERS, indirect=True)
def test_a_manager_reports_the_age_of_a_secret(store: SecretStore) -> None:
    store.put(CREDENTIALS)
    settings = complete("production", load_settings("production"))
    (young,) = read_secret_ages("production", settings)
    assert (young.days, young.warning) == (0, "")
    later = datetime.now(timezone.utc) + timedelta(days=91)
    (old,) = read_secret_ages("production", settings, now=later)
    assert old.warning == f"{old.name} is 91 days old: rotate it (docs/secrets.md)"
    assert store.title in old.name


@pytest.mark.parametrize("store", MANAGERS, indirect=True)
def test_no_manager_is_asked_before_a_connection_is_needed(
    store: SecretStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in store.unreachable_environment().items():
        monkeypatch.setenv(name, value)
    settings = load_settings("production", timezone="America/Chicago")
    assert settings.timezone == "America/Chicago"
    assert settings.asks_managers


def test_loading_the_definitions_imports_no_manager(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVICETITAN_AWS_SECRET_ID", "x")
    monkeypatch.setenv("SERVICETITAN_AZURE_KEY_VAULT", "https://x.vault.azure.net")
    monkeypatch.setenv("SERVICETITAN_VAULT_URL", "https://127.0.0.1:1")
    code = (
        "import sys; from st_pipelines.config.settings import load_settings;"
        "load_settings('production');"
        "print([m for m in ('boto3', 'azure.identity', 'hvac') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_each_manager_brings_its_own_settings() -> None:
    """A further manager is one module and one entry of `MANAGERS`."""
    own = [name for manager in MANAGER_CLASSES for name in manager.places.model_fields]
    assert list(AllPlaces.model_fields) == ["config_file", "secrets_dir", *own]
    assert AllPlaces.secret_fields == ("vault_token", "vault_secret_id")
    for manager in MANAGER_CLASSES:
        assert AllPlaces(**{manager.named_by: "https://x"}).has_managers


@pytest.mark.parametrize("login", ["token", "approle", "kubernetes"])
def test_vault_s_secrets_follow_no_redirect(
    login: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A standby node, or a proxy, redirected, and the token went along to the other host."""
    other = VaultServer()
    with closing(other), closing(Vault(tmp_path, login)) as vault:
        for name, value in vault.environment().items():
            monkeypatch.setenv(name, value)
        vault.server.redirects_to = other.url.replace("127.0.0.1", "localhost")
        with pytest.raises(SettingsError, match=r"redirects to localhost.*VAULT_URL") as caught:
            complete("production", load_settings("production"))
        assert len(vault.server.requests) == 1
        assert other.requests == []
        assert "MARKED" not in str(caught.value)


@pytest.mark.parametrize(
    "body",
    [
        b"<html>Sign in, MARKED</html>",
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"data":null}',
        b'{"data":{"data":["MARKED"],"metadata":{}}}',
        b'{"data":{"data":"MARKED","metadata":{}}}',
        b"[" * 100_000,
    ],
)
def test_a_response_that_is_no_secret_of_vault_is_reported_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    """A sign-in page, or another engine at the same path."""
    with closing(Vault(tmp_path, "token")) as vault:
        vault.put(CREDENTIALS)
        for name, value in vault.environment().items():
            monkeypatch.setenv(name, value)
        vault.server.raw = body
        with pytest.raises(SettingsError, match="other than a secret of a KV version 2") as caught:
            complete("production", load_settings("production"))
        assert "MARKED" not in str(caught.value)


@pytest.mark.parametrize("metadata", [b"null", b"{}", b'{"created_time":5}', b"[]"])
def test_a_secret_of_vault_counts_without_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, metadata: bytes
) -> None:
    with closing(Vault(tmp_path, "token")) as vault:
        vault.put(CREDENTIALS)
        for name, value in vault.environment().items():
            monkeypatch.setenv(name, value)
        vault.server.raw = b'{"data":{"data":{"client_id":"cid.x"},"metadata":' + metadata + b"}}"
        assert complete("production", load_settings("production")).client_id == "cid.x"


def test_a_redirect_of_vault_to_no_valid_address_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(Vault(tmp_path, "token")) as vault:
        for name, value in vault.environment().items():
            monkeypatch.setenv(name, value)
        vault.server.redirects_to = "http://[::1"
        with pytest.raises(SettingsError, match="redirects to an unknown host"):
            complete("production", load_settings("production"))


@pytest.mark.parametrize("status", [408, 504, 520])
def test_a_gateway_that_does_not_reach_vault_is_a_failure_that_may_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    with closing(Vault(tmp_path, "token")) as vault:
        for name, value in vault.environment().items():
            monkeypatch.setenv(name, value)
        vault.server.status = status
        with pytest.raises(SourceUnavailable, match=str(status)):
            complete("production", load_settings("production"))


def test_a_netrc_file_adds_nothing_to_vault_s_requests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login someone password MARKED\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with closing(Vault(tmp_path, "token")) as vault:
        vault.put(CREDENTIALS)
        for name, value in vault.environment().items():
            monkeypatch.setenv(name, value)
        complete("production", load_settings("production"))
        sent = [headers for _, headers, _ in vault.server.requests]
        assert sent
        assert [headers for headers in sent if "authorization" in headers] == []


@pytest.mark.parametrize("paths", ["/secrets/", "/identity"])
def test_azure_s_requests_follow_no_redirect(
    paths: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(Azure(tmp_path)) as azure:
        for name, value in azure.environment().items():
            monkeypatch.setenv(name, value)
        # To the same server, as the SDK sends a token to https only.
        azure.server.redirects_to = f"{azure.server.url}/elsewhere"
        azure.server.redirected_paths = paths
        with pytest.raises(SettingsError):
            complete("production", load_settings("production"))
        seen = [path for path, _, _ in azure.server.requests]
        assert [path for path in seen if path.startswith(paths)]
        assert [path for path in seen if path.startswith("/elsewhere")] == []


def test_aws_s_requests_follow_no_redirect(moto: str, monkeypatch: pytest.MonkeyPatch) -> None:
    other, first = VaultServer(), VaultServer()
    with closing(other), closing(first), closing(Aws(moto)) as aws:
        for name, value in (aws.environment() | {"AWS_ENDPOINT_URL": first.url}).items():
            monkeypatch.setenv(name, value)
        first.redirects_to = other.url
        with pytest.raises(SettingsError):
            complete("production", load_settings("production"))
        assert first.requests
        assert other.requests == []
