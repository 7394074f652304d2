"""The settings that name where further settings are. They come from near at hand themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, PrivateAttr, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from st_pipelines.config.sources.base import Handed, Source
from st_pipelines.config.sources.local import Arguments, ConfigFile, DotEnv, Folder, Variables
from st_pipelines.config.sources.resolve import Gathered
from st_pipelines.config.validators import https_or_loopback


def _url(value: str | None) -> str | None:
    return https_or_loopback(value) if value else None


Text = str | None
Secret = SecretStr | None
Url = Annotated[str | None, AfterValidator(_url)]


class Places(Handed):
    """Where the settings of one environment are besides the environment and `.env`.

    Attributes:
        config_file: a JSON file of servicepytan.
        secrets_dir: a folder with a file a setting.
        aws_secret_id: name or ARN of a secret in AWS Secrets Manager.
        aws_region, aws_profile: as AWS calls them; else what boto3 finds.
        azure_key_vault: URL of an Azure Key Vault.
        vault_url: of a HashiCorp Vault.
        vault_path: of the secret in its KV v2 engine.
        vault_mount: of that engine.
        vault_namespace: of Vault Enterprise.
        vault_token: logs in with a token; else `VAULT_TOKEN` and `~/.vault-token`.
        vault_role_id, vault_secret_id, vault_approle_mount: log in by AppRole.
        vault_kubernetes_role, vault_kubernetes_mount, vault_kubernetes_token_file: log in as the
            pod's service account.
    """

    model_config = SettingsConfigDict(extra="ignore", env_file_encoding="utf-8")

    config_file: Text = None
    secrets_dir: Text = None
    aws_secret_id: Text = None
    aws_region: Text = None
    aws_profile: Text = None
    azure_key_vault: Url = None
    vault_url: Url = None
    vault_path: Text = None
    vault_mount: Text = None
    vault_namespace: Text = None
    vault_token: Secret = None
    vault_role_id: Text = None
    vault_secret_id: Secret = None
    vault_approle_mount: Text = None
    vault_kubernetes_role: Text = None
    vault_kubernetes_mount: Text = None
    vault_kubernetes_token_file: Text = None

    _gathered: Gathered = PrivateAttr(default_factory=Gathered)

    @property
    def gathered(self) -> Gathered:
        """Where each value came from."""
        return self._gathered

    @property
    def has_managers(self) -> bool:
        """Whether a secrets manager is named."""
        return bool(self.aws_secret_id or self.azure_key_vault or self.vault_url)


def place_sources(prefix: str, *, env_file: Path, given: Mapping[str, Any]) -> Iterator[Source]:
    """Where the names of places are looked for, in order: arguments, environment, `.env`.

    Args:
        prefix: of the environment's names.
        env_file: the `.env`.
        given: by field; they win.
    """
    yield Arguments(Places, prefix, given)
    yield Variables(Places, prefix)
    yield DotEnv(Places, prefix, env_file)


def near_sources(
    settings_cls: type[BaseSettings],
    prefix: str,
    *,
    env_file: Path,
    places: Places,
    given: Mapping[str, Any],
) -> Iterator[Source]:
    """What is on this machine, in order: arguments, environment, `.env`, config file, folder.

    Args:
        settings_cls: whose fields to read.
        prefix: of the environment's names.
        env_file: the `.env`.
        places: names the file and the folder.
        given: by field; they win.
    """
    yield Arguments(settings_cls, prefix, given)
    yield Variables(settings_cls, prefix)
    yield DotEnv(settings_cls, prefix, env_file)
    if places.config_file:
        setting, file = f"{prefix}CONFIG_FILE", Path(places.config_file).expanduser()
        yield ConfigFile(settings_cls, prefix, file, setting)
    if places.secrets_dir:
        setting, folder = f"{prefix}SECRETS_DIR", Path(places.secrets_dir).expanduser()
        yield Folder(settings_cls, prefix, folder, setting)


def managers(settings_cls: type[BaseSettings], prefix: str, places: Places) -> Iterator[Source]:
    """The secrets managers that are named, in order: AWS, Azure, Vault. They are asked by network.

    Args:
        settings_cls: whose fields to read.
        prefix: of the environment's names.
        places: names them.

    Raises:
        SettingsError: one is named by halves, or its extra is not installed.
    """
    if places.aws_secret_id:
        from st_pipelines.config.sources.aws import SecretsManager

        yield SecretsManager(settings_cls, prefix, places)
    if places.azure_key_vault:
        from st_pipelines.config.sources.azure import KeyVault

        yield KeyVault(settings_cls, prefix, places)
    if places.vault_url:
        from st_pipelines.config.sources.vault import Vault

        yield Vault(settings_cls, prefix, places)
