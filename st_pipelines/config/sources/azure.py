"""Azure Key Vault: one secret for each setting, named such as `SERVICETITAN-CLIENT-SECRET`."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from st_pipelines.config.errors import SettingsError, SourceUnavailable
from st_pipelines.config.sources.base import ExplicitSettings, Manager, Reading
from st_pipelines.config.sources.vendor import import_vendor, quiet
from st_pipelines.config.validators import OptionalUrl

# Each field costs a request, so these are only what a connection needs.
_FIELDS = ("client_id", "client_secret", "client_secret_next", "app_key", "tenant_id")
_TIMEOUT_SECONDS = 10
_MAX_RETRIES = 2


class AzurePlaces(BaseModel):
    """Which vault to read.

    Attributes:
        azure_key_vault: URL of the Key Vault.
    """

    azure_key_vault: OptionalUrl = None


class KeyVault(Manager):
    """The vault `..._AZURE_KEY_VAULT`, read with azure-identity's default credential."""

    places = AzurePlaces
    named_by = "azure_key_vault"

    def __init__(
        self, settings_cls: type[ExplicitSettings], prefix: str, places: AzurePlaces
    ) -> None:
        super().__init__(settings_cls, prefix, f"Azure Key Vault {places.azure_key_vault}")
        self._url = places.azure_key_vault
        setting = f"{prefix}AZURE_KEY_VAULT"
        self._errors = import_vendor("azure.core.exceptions", extra="azure", setting=setting)
        self._identity = import_vendor("azure.identity", extra="azure", setting=setting)
        self._secrets = import_vendor("azure.keyvault.secrets", extra="azure", setting=setting)

    def origin(self, name: str) -> str:
        """Returns the vault and the name of the secret."""
        return f"{self.title} {self._secret_name(name)}"

    def read(self) -> Reading:
        """Reads each secret; one that does not exist is a setting that is not set.

        Raises:
            SettingsError: a secret cannot be read.
            SourceUnavailable: the vault is unreachable or overloaded.
        """
        values, created = {}, {}
        with quiet(), self._identity.DefaultAzureCredential() as credential:
            client = self._secrets.SecretClient(
                vault_url=self._url,
                credential=credential,
                retry_total=_MAX_RETRIES,
                connection_timeout=_TIMEOUT_SECONDS,
                read_timeout=_TIMEOUT_SECONDS,
                retry_connect=0,
                permit_redirects=False,
            )
            with client:
                for field in _FIELDS:
                    secret = self._get_secret(client, field)
                    if secret is not None:
                        values[field] = secret.value
                        if secret.properties.created_on:
                            created[field] = secret.properties.created_on
        return Reading(values=values, created=created)

    def _secret_name(self, field: str) -> str:
        return f"{self.prefix}{field}".upper().replace("_", "-")

    def _get_secret(self, client: Any, field: str) -> Any:
        errors, name, problem = self._errors, self._secret_name(field), SettingsError("")
        try:
            return client.get_secret(name)
        except errors.ResourceNotFoundError:
            return None
        except errors.ClientAuthenticationError:
            problem = SettingsError(
                f"{self.title}: this machine cannot log in to Azure: give it a managed identity,"
                " or set AZURE_CLIENT_ID, AZURE_TENANT_ID and AZURE_CLIENT_SECRET, or run az login"
            )
        except errors.HttpResponseError as error:
            problem = self._explain_status(name, error.status_code)
        except errors.AzureError as error:
            problem = SourceUnavailable(
                f"{self.title} is unreachable ({type(error).__name__}): check the URL, network "
                "and proxy"
            )
        except ValueError:
            # The vault's challenge names another domain than the URL, or the URL is not https.
            problem = SettingsError(
                f"{self.title} is not the URL of a vault: give it as https://NAME.vault.azure.net"
            )
        # Raised outside of `except`: Azure's exception holds the request with its token.
        raise problem

    def _explain_status(self, name: str, status: int | None) -> SettingsError:
        if status == 403:
            return SettingsError(
                f"{self.title}: access to {name} is denied: give this identity the role 'Key Vault "
                "Secrets User', check the vault's firewall, and enable the secret if it is "
                "disabled (403)"
            )
        if status is None or status in (408, 429) or status >= 500:
            return SourceUnavailable(f"{self.title} is unavailable ({status}): try again later")
        return SettingsError(f"{self.title} refuses the request for {name} ({status})")
