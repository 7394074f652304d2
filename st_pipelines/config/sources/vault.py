"""HashiCorp Vault: one secret of a KV v2 engine, whose keys are the settings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from pydantic_settings import BaseSettings

from st_pipelines.config.errors import SettingsError, SourceUnavailable
from st_pipelines.config.sources.base import Reading, Source, fields_of, near_misses, read_text
from st_pipelines.config.sources.places import Places
from st_pipelines.config.sources.vendor import quiet, vendor

_SECONDS = 10
_MOUNT, _APPROLE, _KUBERNETES = "secret", "approle", "kubernetes"
_SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount/token"


class Vault(Source):
    """The secret that `..._VAULT_URL` and `..._VAULT_PATH` name, by hvac."""

    def __init__(self, settings_cls: type[BaseSettings], prefix: str, places: Places) -> None:
        """Nothing is asked yet.

        Raises:
            SettingsError: the path is missing, or hvac is not installed.
        """
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
        self._hvac = vendor("hvac", extra="vault", setting=f"{prefix}VAULT_URL")
        self._errors = vendor("hvac.exceptions", extra="vault", setting=f"{prefix}VAULT_URL")

    def read(self) -> Reading:
        """Logs in and asks for the secret's latest version.

        Raises:
            SettingsError: it cannot be read; says what to do.
            SourceUnavailable: Vault cannot be reached, is sealed or overloaded.
        """
        answer = self._ask()
        data, metadata = answer["data"]["data"] or {}, answer["data"]["metadata"]
        texts = {name: str(value) for name, value in data.items() if value is not None}
        values = fields_of(texts, self.fields, self.prefix)
        created = _moment(metadata.get("created_time"))
        hints = near_misses(texts, self.fields, self.prefix)
        return Reading(
            values=values,
            created={name: created for name in values if created},
            warnings=tuple(f"{self.title}: {hint}" for hint in hints),
        )

    def _ask(self) -> dict[str, Any]:
        errors, doing, problem = self._errors, "the login", SettingsError("")
        try:
            with quiet(), self._session() as client:
                self._log_in(client)
                doing = "the secret"
                return client.secrets.kv.v2.read_secret_version(
                    path=self._places.vault_path,
                    mount_point=self._mount,
                    raise_on_deleted_version=True,
                )
        except (errors.VaultDown, errors.VaultNotInitialized, errors.BadGateway,
                errors.InternalServerError, errors.RateLimitExceeded) as error:  # fmt: skip
            problem = SourceUnavailable(
                f"{self.title} does not answer now ({type(error).__name__}): is it sealed?"
            )
        except errors.VaultError as error:
            problem = self._refused(doing, error)
        except OSError as error:  # among them all that `requests` raises
            problem = SourceUnavailable(
                f"{self.title} cannot be reached ({type(error).__name__}): check the URL, network, "
                "proxy and VAULT_CACERT"
            )
        # Raised out here: the library's exceptions hold requests with tokens.
        raise problem

    @contextmanager
    def _session(self) -> Iterator[Any]:
        places = self._places
        by_login = bool(places.vault_role_id or places.vault_kubernetes_role)
        client = self._hvac.Client(
            url=places.vault_url,
            token="" if by_login else _plain(places.vault_token),
            namespace=places.vault_namespace,
            timeout=_SECONDS,
        )
        with closing(client.adapter):
            yield client

    def _log_in(self, client: Any) -> None:
        places = self._places
        if places.vault_role_id:
            client.auth.approle.login(
                places.vault_role_id,
                _plain(places.vault_secret_id),
                mount_point=places.vault_approle_mount or _APPROLE,
            )
        elif places.vault_kubernetes_role:
            client.auth.kubernetes.login(
                places.vault_kubernetes_role,
                self._service_account(),
                mount_point=places.vault_kubernetes_mount or _KUBERNETES,
            )
        elif not client.token:
            raise SettingsError(
                f"{self.title}: no login is named: set {self.prefix}VAULT_TOKEN, or "
                f"{self.prefix}VAULT_ROLE_ID and _VAULT_SECRET_ID, or "
                f"{self.prefix}VAULT_KUBERNETES_ROLE"
            )

    def _service_account(self) -> str:
        file = Path(self._places.vault_kubernetes_token_file or _SERVICE_ACCOUNT)
        return read_text(file, f"{self.prefix}VAULT_KUBERNETES_TOKEN_FILE").strip()

    def _refused(self, doing: str, error: Exception) -> SettingsError:
        kind = type(error).__name__
        if doing == "the login":
            return SettingsError(
                f"{self.title}: Vault refuses the login ({kind}): check role, secret id or "
                "service account, and where that login is mounted"
            )
        if isinstance(error, self._errors.InvalidPath):
            return SettingsError(
                f"{self.title}: there is no such secret, or its latest version is deleted: check "
                f"{self.prefix}VAULT_PATH and {self.prefix}VAULT_MOUNT (a KV version 2 engine)"
            )
        if isinstance(error, self._errors.Forbidden | self._errors.Unauthorized):
            path = f"{self._mount}/data/{self._places.vault_path}"
            return SettingsError(
                f"{self.title} may not be read ({kind}): the token is invalid or expired, or its "
                f"policy lacks 'read' on {path}"
            )
        return SettingsError(f"{self.title} cannot be read ({kind})")


def _plain(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret else None


def _moment(text: object) -> datetime | None:
    """Vault's times have nanoseconds and a Z, which Python 3.10 does not read."""
    try:
        return datetime.fromisoformat(f"{str(text)[:19]}+00:00")
    except ValueError:
        return None
