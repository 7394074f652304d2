"""Environment, `.env`, config file and mounted folder: precedence, cleaning, warnings."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from st_pipelines.cli.doctor.report import read_settings
from st_pipelines.config import settings as settings_module
from st_pipelines.config.connection import build_connection, require_complete
from st_pipelines.config.errors import SettingsError
from st_pipelines.config.project import resolve_environment
from st_pipelines.config.settings import load_settings
from st_pipelines_tests.config.sources.managers import Vault

COMPLETE = {
    "CLIENT_ID": "cid.abc",
    "CLIENT_SECRET": "cs1.MARKED",
    "APP_KEY": "ak1.MARKED",
    "TENANT_ID": "42",
}


@pytest.fixture(autouse=True)
def _nothing_logged_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings_module, "_logged", set())


def config_file(folder: Path, mode: int = 0o600, **changes: object) -> Path:
    """Writes a file such as servicepytan's users have."""
    values = {f"SERVICETITAN_{name}": value for name, value in {**COMPLETE, **changes}.items()}
    file = folder / "servicepytan.json"
    file.write_text(json.dumps(values))
    file.chmod(mode)
    return file


def dotenv(folder: Path, text: str, mode: int = 0o600) -> None:
    (folder / ".env").write_text(text)
    (folder / ".env").chmod(mode)


def test_each_source_wins_over_the_next(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """All have a client id; removing the winner each time leaves the next."""
    vault = Vault(tmp_path, "token")
    vault.put({name.lower(): value for name, value in COMPLETE.items()} | {"client_id": "vault"})
    folder = tmp_path / "mounted"
    folder.mkdir()
    (folder / "client_id").write_text("folder\n")
    monkeypatch.setenv("SERVICETITAN_CLIENT_ID", "variable")
    file = config_file(tmp_path, CLIENT_ID="config")
    for name, value in {
        **vault.environment(),
        "SERVICETITAN_CONFIG_FILE": str(file),
        "SERVICETITAN_SECRETS_DIR": str(folder),
    }.items():
        monkeypatch.setenv(name, value)
    dotenv(tmp_path, "SERVICETITAN_CLIENT_ID=dotenv\n")

    def winner(**given: str) -> tuple[str, str]:
        found = settings_module.complete("production", load_settings("production", **given))
        return str(found.client_id), found.gathered.origins["client_id"]

    assert winner(client_id="given") == ("given", "an argument")
    assert winner() == ("variable", "environment variable")
    monkeypatch.delenv("SERVICETITAN_CLIENT_ID")
    assert winner() == ("dotenv", ".env")
    dotenv(tmp_path, "")
    assert winner() == ("config", f"config file {file}")
    monkeypatch.delenv("SERVICETITAN_CONFIG_FILE")
    assert winner() == ("folder", f"folder {folder}")
    monkeypatch.delenv("SERVICETITAN_SECRETS_DIR")
    assert winner() == ("vault", vault.title)
    vault.close()


def test_an_empty_line_in_dotenv_hides_no_other_source(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """People whose secrets are elsewhere copy `.env.example` with its empty credentials."""
    dotenv(tmp_path, "SERVICETITAN_CLIENT_ID=\nSERVICETITAN_START_DATE=\n")
    monkeypatch.setenv("SERVICETITAN_CONFIG_FILE", str(config_file(tmp_path)))
    assert build_connection(resolve_environment("production")).client_id == "cid.abc"


def test_servicepytans_config_file_is_read_unchanged(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = config_file(
        tmp_path, TENANT_ID=42, TIMEZONE="America/Chicago", APP_ID="1", API_ENVIRONMENT="production"
    )
    monkeypatch.setenv("SERVICETITAN_CONFIG_FILE", str(file))
    config = resolve_environment("production")
    found, settings = build_connection(config), config.settings
    assert (found.tenant_id, settings.timezone) == ("42", "America/Chicago")
    assert found.client_secret.get_secret_value() == "cs1.MARKED"


def test_a_config_file_of_the_other_environment_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = config_file(tmp_path, API_ENVIRONMENT="integration")
    monkeypatch.setenv("SERVICETITAN_CONFIG_FILE", str(file))
    with pytest.raises(SettingsError) as caught:
        build_connection(resolve_environment("production"))
    assert str(caught.value) == (
        f"SERVICETITAN_API_ENVIRONMENT (config file {file}) is 'integration': these credentials "
        "are not production's; give each environment its own, see .env.example"
    )
    monkeypatch.setenv("SERVICETITAN_INTEGRATION_CONFIG_FILE", str(file))
    assert build_connection(resolve_environment("integration")).client_id == "cid.abc"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "SERVICETITAN_CONFIG_FILE: {file} cannot be read (No such file or directory)"),
        (b"{MARKED", "config file {file} is not a JSON object"),
        (b'["MARKED"]', "config file {file} is not a JSON object"),
        (b"\xff\xfe\x00M", "{file} cannot be read (not UTF-8 text)"),
        (b" " * 70000, "{file} cannot be read (larger than 64 KiB)"),
    ],
)
def test_an_unreadable_config_file_is_named_but_not_quoted(
    content: bytes | None, expected: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "config.json"
    if content is not None:
        file.write_bytes(content)
    monkeypatch.setenv("SERVICETITAN_CONFIG_FILE", str(file))
    with pytest.raises(SettingsError) as caught:
        load_settings("production")
    assert expected.format(file=file) in str(caught.value)
    assert "MARKED" not in str(caught.value)


def test_a_misspelled_name_in_a_file_causes_a_hint(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = config_file(tmp_path, TIMEZON="UTC", COLOUR="red")
    monkeypatch.setenv("SERVICETITAN_CONFIG_FILE", str(file))
    assert load_settings("production").gathered.warnings == (
        f"config file {file}: SERVICETITAN_TIMEZON is not a setting: did you mean "
        "SERVICETITAN_TIMEZONE?",
    )


def test_the_folder_of_one_environment_is_not_read_for_another(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Docker mounts all secrets into one folder; production's must not go to integration."""
    for name, value in COMPLETE.items():
        (tmp_path / f"SERVICETITAN_{name}").write_text(value)
    monkeypatch.setenv("SERVICETITAN_SECRETS_DIR", str(tmp_path))
    monkeypatch.setenv("SERVICETITAN_INTEGRATION_SECRETS_DIR", str(tmp_path))
    assert load_settings("production").client_id == "cid.abc"
    found = load_settings("integration")
    assert found.missing() == ["client_id", "client_secret", "app_key", "tenant_id"]
    assert "holds no file that is named as a setting" in found.gathered.warnings[0]


@pytest.mark.parametrize(
    ("written", "removed"),
    [
        (" cs1.MARKED\n", "white space"),
        ('"cs1.MARKED"', "quotes"),
        ("' cs1.MARKED '", "white space and quotes"),
        ("\ufeffcs1.MARKED\u200b", "white space"),
    ],
)
def test_white_space_and_quotes_around_a_value_are_removed_with_a_warning(
    written: str, removed: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, value in COMPLETE.items():
        monkeypatch.setenv(f"SERVICETITAN_{name}", value)
    monkeypatch.setenv("SERVICETITAN_CLIENT_SECRET", written)
    with caplog.at_level(logging.WARNING):
        settings = load_settings("production")
        load_settings("production")
    found = build_connection(resolve_environment("production"))
    assert found.client_secret.get_secret_value() == "cs1.MARKED"
    warning = (
        "SERVICETITAN_CLIENT_SECRET (environment variable) has "
        f"{removed} around its value, ignored: remove it"
    )
    assert settings.gathered.warnings == (warning,)
    assert caplog.messages == [warning]  # once a process
    assert "MARKED" not in caplog.text


def test_a_final_line_break_in_a_mounted_file_is_ignored(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "client_id").write_text("cid.abc\n")
    monkeypatch.setenv("SERVICETITAN_SECRETS_DIR", str(tmp_path))
    settings = load_settings("production")
    assert (settings.client_id, settings.gathered.warnings) == ("cid.abc", ())


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o602])
def test_a_file_with_secrets_that_others_can_read_causes_a_warning(
    mode: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    dotenv(tmp_path, "SERVICETITAN_CLIENT_SECRET=cs1.MARKED\n", mode)
    file = config_file(tmp_path, mode)
    mounted = tmp_path / "folder"
    mounted.mkdir()
    (mounted / "app_key").write_text("ak1.MARKED")
    (mounted / "app_key").chmod(mode)
    monkeypatch.setenv("SERVICETITAN_CONFIG_FILE", str(file))
    monkeypatch.setenv("SERVICETITAN_SECRETS_DIR", str(mounted))
    assert load_settings("production").gathered.warnings == tuple(
        f"{path} holds a secret and is open to others (mode {mode:04o}): chmod 600 {path}"
        for path in (tmp_path / ".env", file, mounted / "app_key")
    )


def test_a_dotenv_without_secrets_may_be_open_to_others(tmp_path: Path) -> None:
    dotenv(tmp_path, "SERVICETITAN_TIMEZONE=UTC\nSERVICETITAN_CLIENT_SECRET=\n", 0o644)
    assert load_settings("production").gathered.warnings == ()


def test_a_kubernetes_mount_causes_a_warning_only_if_others_can_write_to_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    version = tmp_path / "..2026"
    version.mkdir()
    (tmp_path / "..data").symlink_to("..2026")
    (version / "client_secret").write_text("cs1.MARKED")
    (tmp_path / "client_secret").symlink_to("..data/client_secret")
    monkeypatch.setenv("SERVICETITAN_SECRETS_DIR", str(tmp_path))
    (version / "client_secret").chmod(0o644)
    assert load_settings("production").gathered.warnings == ()
    (version / "client_secret").chmod(0o666)
    (warning,) = load_settings("production").gathered.warnings
    assert warning.endswith(f"(mode 0666): chmod go-w {version / 'client_secret'}")


def test_a_credential_in_the_wrong_setting_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TENANT_ID", "TIMEZONE", "PAGE_SIZE", "VAULT_URL"):
        monkeypatch.setenv(f"SERVICETITAN_{name}", "cs1.MARKED")
        with pytest.raises(SettingsError, match=f"SERVICETITAN_{name}") as caught:
            load_settings("production")
        assert "MARKED" not in str(caught.value)
        monkeypatch.delenv(f"SERVICETITAN_{name}")


def test_a_time_zone_in_a_secrets_manager_is_ignored_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    vault = Vault(tmp_path, "token")
    vault.put({name.lower(): v for name, v in COMPLETE.items()} | {"timezone": "America/Chicago"})
    for name, value in vault.environment().items():
        monkeypatch.setenv(name, value)
    settings = settings_module.complete("production", load_settings("production"))
    vault.close()
    assert settings.timezone == "UTC"
    assert "timezone" not in settings.gathered.origins
    assert settings.gathered.warnings == (
        f"SERVICETITAN_TIMEZONE ({vault.title}) is not used: Dagster's definitions need it without "
        "network, so set it in the environment or in .env",
    )


def test_a_schedule_trusts_a_manager_that_was_not_asked_yet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SERVICETITAN_AWS_SECRET_ID", "x")
    require_complete(resolve_environment("production"))
    with pytest.raises(SettingsError, match="integration is not configured"):
        require_complete(resolve_environment("integration"))


def test_every_setting_is_shown_with_its_source_and_no_secret(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    dotenv(tmp_path, "SERVICETITAN_TENANT_ID=42\n")
    monkeypatch.setenv("SERVICETITAN_CONFIG_FILE", str(config_file(tmp_path)))
    monkeypatch.setenv("SERVICETITAN_CLIENT_SECRET_NEXT", "cs2.MARKED")
    monkeypatch.setenv("SERVICETITAN_VAULT_TOKEN", "'hvs.MARKED'")
    report = read_settings("production", timezone="America/Chicago")
    rows = {row.name: (row.value, row.source) for row in report.settings}
    file = f"config file {tmp_path / 'servicepytan.json'}"
    assert rows["SERVICETITAN_CLIENT_ID"] == ("cid.abc", file)
    assert rows["SERVICETITAN_CLIENT_SECRET"] == ("**********", file)
    assert rows["SERVICETITAN_CLIENT_SECRET_NEXT"] == (
        "**********",
        "environment variable",
    )
    assert rows["SERVICETITAN_TENANT_ID"] == ("42", ".env")
    assert rows["SERVICETITAN_TIMEZONE"] == ("America/Chicago", "an argument")
    assert rows["SERVICETITAN_PAGE_SIZE"] == ("5000", "default")
    assert rows["SERVICETITAN_API_URL"] == ("https://api.servicetitan.io", "default")
    assert rows["SERVICETITAN_APP_ID"] == ("", "not set")
    assert rows["SERVICETITAN_CONFIG_FILE"] == (
        str(tmp_path / "servicepytan.json"),
        "environment variable",
    )
    assert rows["SERVICETITAN_VAULT_TOKEN"][0] == "**********"
    assert "SERVICETITAN_VAULT_URL" not in rows
    (warning,) = report.warnings
    assert warning.startswith("SERVICETITAN_VAULT_TOKEN (environment variable)")
    assert "MARKED" not in repr(report)


def test_the_other_settings_are_shown_if_a_manager_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SERVICETITAN_CLIENT_ID", "cid.abc")
    monkeypatch.setenv("SERVICETITAN_VAULT_URL", "http://127.0.0.1:1")
    report = read_settings("production")
    assert "set SERVICETITAN_VAULT_PATH too" in report.problem
    assert report.settings[0].value == "cid.abc"
    assert read_settings("production", ask_managers=False).problem == ""
