"""Azure Key Vault: a secret a setting, named `SERVICETITAN-CLIENT-SECRET` and so on."""

from __future__ import annotations

from typing import Any

from pydantic_settings import BaseSettings

from st_pipelines.config.errors import SettingsError, SourceUnavailable
from st_pipelines.config.sources.base import Reading, Source
from st_pipelines.config.sources.places import Places
from st_pipelines.config.sources.vendor import quiet, vendor

# Each costs a request, so only what a connection needs.
_FIELDS = ("client_id", "client_secret", "client_secret_next", "app_key", "tenant_id")
_SECONDS = 10
_ATTEMPTS = 2


class KeyVault(Source):
    """The vault that `..._AZURE_KEY_VAULT` names, with azure-identity's default credential."""

    def __init__(self, settings_cls: type[BaseSettings], prefix: str, places: Places) -> None:
        """Nothing is asked yet.

        Raises:
            SettingsError: the libraries are not installed.
        """
        super().__init__(settings_cls, prefix, f"Azure Key Vault {places.azure_key_vault}")
        self._url = places.azure_key_vault
        setting = f"{prefix}AZURE_KEY_VAULT"
        self._errors = vendor("azure.core.exceptions", extra="azure", setting=setting)
        self._identity = vendor("azure.identity", extra="azure", setting=setting)
        self._secrets = vendor("azure.keyvault.secrets", extra="azure", setting=setting)

    def origin(self, name: str) -> str:
        """Vault and secret."""
        return f"{self.title} {self._name(name)}"

    def read(self) -> Reading:
        """Asks for each secret; one that does not exist is a setting that is not set.

        Raises:
            SettingsError: one may not be read; says what to do.
            SourceUnavailable: the vault cannot be reached, or is overloaded.
        """
        values, created = {}, {}
        with quiet(), self._identity.DefaultAzureCredential() as credential:
            client = self._secrets.SecretClient(
                vault_url=self._url,
                credential=credential,
                retry_total=_ATTEMPTS,
                connection_timeout=_SECONDS,
                read_timeout=_SECONDS,
                retry_connect=0,
            )
            with client:
                for field in _FIELDS:
                    secret = self._ask(client, field)
                    if secret is not None:
                        values[field] = secret.value
                        if secret.properties.created_on:
                            created[field] = secret.properties.created_on
        return Reading(values=values, created=created)

    def _name(self, field: str) -> str:
        return f"{self.prefix}{field}".upper().replace("_", "-")

    def _ask(self, client: Any, field: str) -> Any:
        errors, name, problem = self._errors, self._name(field), SettingsError("")
        try:
            return client.get_secret(name)
        except errors.ResourceNotFoundError:
            return None
        except errors.ClientAuthenticationError:
            problem = SettingsError(
                f"{self.title}: this machine could not log in to Azure: give it a managed identity,"
                " or set AZURE_CLIENT_ID, AZURE_TENANT_ID and AZURE_CLIENT_SECRET, or run az login"
            )
        except errors.HttpResponseError as error:
            problem = self._refused(name, error.status_code)
        except errors.AzureError as error:
            problem = SourceUnavailable(
                f"{self.title} cannot be reached ({type(error).__name__}): check the URL, network "
                "and proxy"
            )
        except ValueError:
            # The vault's challenge names another domain than the URL, or the URL is not https.
            problem = SettingsError(
                f"{self.title} is not the URL of a vault: give it as https://NAME.vault.azure.net"
            )
        # Raised out here: the library's exception holds the request with its token.
        raise problem

    def _refused(self, name: str, status: int | None) -> SettingsError:
        if status == 403:
            return SettingsError(
                f"{self.title}: {name} may not be read: give this identity the role 'Key Vault "
                "Secrets User', look at the vault's firewall, and enable the secret if it is "
                "disabled (403)"
            )
        if status is None or status in (408, 429) or status >= 500:
            return SourceUnavailable(f"{self.title} does not answer now ({status}): try later")
        return SettingsError(f"{self.title} refuses to hand out {name} ({status})")
