"""HashiCorp Vault: one secret of a KV version 2 engine, whose keys are the settings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr

from st_pipelines.config.errors import SettingsError, SourceUnavailable
from st_pipelines.config.sources.base import (
    ExplicitSettings,
    Manager,
    Reading,
    find_near_misses,
    pick_fields,
    read_text,
)
from st_pipelines.config.sources.vendor import (
    GatewayError,
    Redirected,
    import_vendor,
    new_manager_session,
    quiet,
)
from st_pipelines.config.validators import OptionalUrl

_TIMEOUT_SECONDS = 10
_MOUNT, _APPROLE_MOUNT, _KUBERNETES_MOUNT = "secret", "approle", "kubernetes"
_SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount/token"


class VaultPlaces(BaseModel):
    """Which secret to read, and how to log in.

    Attributes:
        vault_url: of the server.
        vault_path: of the secret in its KV version 2 engine.
        vault_mount: of that engine.
        vault_namespace: of Vault Enterprise.
        vault_token: logs in with a token; by default `VAULT_TOKEN` or `~/.vault-token`.
        vault_role_id, vault_secret_id, vault_approle_mount: log in by AppRole.
        vault_kubernetes_role, vault_kubernetes_mount, vault_kubernetes_token_file: log in as the
            pod's service account.
    """

    vault_url: OptionalUrl = None
    vault_path: str | None = None
    vault_mount: str | None = None
    vault_namespace: str | None = None
    vault_token: SecretStr | None = None
    vault_role_id: str | None = None
    vault_secret_id: SecretStr | None = None
    vault_approle_mount: str | None = None
    vault_kubernetes_role: str | None = None
    vault_kubernetes_mount: str | None = None
    vault_kubernetes_token_file: str | None = None


class Vault(Manager):
    """The secret that `..._VAULT_URL` and `..._VAULT_PATH` name, read by hvac."""

    places = VaultPlaces
    named_by = "vault_url"

    def __init__(
        self, settings_cls: type[ExplicitSettings], prefix: str, places: VaultPlaces
    ) -> None:
        mount = places.vault_mount or _MOUNT
        title = f"Vault {places.vault_url} {mount}/{places.vault_path}"
        super().__init__(settings_cls, prefix, title)
        self._places = places
        self._mount = mount
        if not places.vault_path:
            raise SettingsError(
                f"{prefix}VAULT_URL is set: set {prefix}VAULT_PATH too, the path of the secret in "
                f"the engine '{mount}'"
            )
        setting = f"{prefix}VAULT_URL"
        self._hvac = import_vendor("hvac", extra="vault", setting=setting)
        self._errors = import_vendor("hvac.exceptions", extra="vault", setting=setting)

    def read(self) -> Reading:
        """Logs in and reads the latest version of the secret.

        Raises:
            SettingsError: the secret cannot be read.
            SourceUnavailable: Vault is unreachable, sealed or overloaded.
        """
        data, metadata = self._find_values(self._read_secret())
        texts = {name: str(value) for name, value in data.items() if value is not None}
        values = pick_fields(texts, self.fields, self.prefix)
        created = _parse_time(metadata.get("created_time"))
        hints = find_near_misses(texts, self.fields, self.prefix)
        return Reading(
            values=values,
            created={name: created for name in values if created},
            warnings=tuple(f"{self.title}: {hint}" for hint in hints),
        )

    def _find_values(self, response: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Returns the values and the metadata of a secret. Raises SettingsError for all else."""
        version = response.get("data") if isinstance(response, dict) else None
        data = version.get("data", "") if isinstance(version, dict) else ""
        if data is not None and not isinstance(data, dict):
            raise self._no_secret()
        metadata = version.get("metadata") if isinstance(version, dict) else None
        return data or {}, metadata if isinstance(metadata, dict) else {}

    def _no_secret(self) -> SettingsError:
        return SettingsError(
            f"{self.title}: the response is something other than a secret of a KV version 2 "
            f"engine: check {self.prefix}VAULT_URL and {self.prefix}VAULT_MOUNT; a proxy or a "
            "sign-in page may be answering in Vault's place"
        )

    def _read_secret(self) -> Any:
        errors, logged_in, problem = self._errors, False, SettingsError("")
        try:
            with quiet(), self._session() as client:
                self._log_in(client)
                logged_in = True
                return client.secrets.kv.v2.read_secret_version(
                    path=self._places.vault_path,
                    mount_point=self._mount,
                    raise_on_deleted_version=True,
                )
        except (
            errors.VaultDown,
            errors.VaultNotInitialized,
            errors.BadGateway,
            errors.InternalServerError,
            errors.RateLimitExceeded,
        ) as error:
            problem = SourceUnavailable(
                f"{self.title} is unavailable ({type(error).__name__}): check whether it is sealed"
            )
        except errors.VaultError as error:
            problem = self._explain_secret(error) if logged_in else self._explain_login(error)
        except Redirected as error:
            problem = SettingsError(
                f"{self.title} redirects to {error}, which is not followed, as the token would go "
                f"there too: set {self.prefix}VAULT_URL to the address that answers itself (the "
                "active node of a cluster, or its load balancer)"
            )
        except GatewayError as error:
            problem = SourceUnavailable(f"{self.title} is unavailable ({error}): try again later")
        except OSError as error:  # the base class of everything that requests raises
            problem = SourceUnavailable(
                f"{self.title} is unreachable ({type(error).__name__}): check the URL, network, "
                "proxy and VAULT_CACERT"
            )
        except (ValueError, RecursionError, TypeError, KeyError):  # of hvac, for no JSON of Vault's
            problem = self._no_secret()
        # Raised outside of `except`: hvac's exceptions hold requests with tokens.
        raise problem

    @contextmanager
    def _session(self) -> Iterator[Any]:
        places = self._places
        logs_in = bool(places.vault_role_id or places.vault_kubernetes_role)
        client = self._hvac.Client(
            url=places.vault_url,
            token="" if logs_in else _reveal(places.vault_token),
            namespace=places.vault_namespace,
            timeout=_TIMEOUT_SECONDS,
            session=new_manager_session(),
            allow_redirects=False,
        )
        with closing(client.adapter):
            yield client

    def _log_in(self, client: Any) -> None:
        places = self._places
        if places.vault_role_id:
            client.auth.approle.login(
                places.vault_role_id,
                _reveal(places.vault_secret_id),
                mount_point=places.vault_approle_mount or _APPROLE_MOUNT,
            )
        elif places.vault_kubernetes_role:
            client.auth.kubernetes.login(
                places.vault_kubernetes_role,
                self._read_service_account(),
                mount_point=places.vault_kubernetes_mount or _KUBERNETES_MOUNT,
            )
        elif not client.token:
            raise SettingsError(
                f"{self.title}: no login is configured: set {self.prefix}VAULT_TOKEN, or "
                f"{self.prefix}VAULT_ROLE_ID and _VAULT_SECRET_ID, or "
                f"{self.prefix}VAULT_KUBERNETES_ROLE"
            )

    def _read_service_account(self) -> str:
        file = Path(self._places.vault_kubernetes_token_file or _SERVICE_ACCOUNT)
        return read_text(file, f"{self.prefix}VAULT_KUBERNETES_TOKEN_FILE").strip()

    def _explain_login(self, error: Exception) -> SettingsError:
        return SettingsError(
            f"{self.title}: Vault rejects the login ({type(error).__name__}): check role, secret "
            "id or service account, and where that login is mounted"
        )

    def _explain_secret(self, error: Exception) -> SettingsError:
        if isinstance(error, self._errors.InvalidPath):
            return SettingsError(
                f"{self.title}: the secret does not exist, or its latest version is deleted: check "
                f"{self.prefix}VAULT_PATH and {self.prefix}VAULT_MOUNT (a KV version 2 engine)"
            )
        if isinstance(error, self._errors.Forbidden | self._errors.Unauthorized):
            path = f"{self._mount}/data/{self._places.vault_path}"
            return SettingsError(
                f"{self.title}: access is denied ({type(error).__name__}): the token is invalid or "
                f"expired, or its policy lacks 'read' on {path}"
            )
        return SettingsError(f"{self.title} cannot be read ({type(error).__name__})")


def _reveal(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret else None


def _parse_time(text: object) -> datetime | None:
    """Parses Vault's times, whose nanoseconds and Z Python 3.10 does not accept."""
    try:
        return datetime.fromisoformat(f"{str(text)[:19]}+00:00")
    except ValueError:
        return None
