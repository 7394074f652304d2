"""Holds hosts, credentials and tenant. Values only, which `config.connection` builds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from pydantic import SecretStr


@dataclass(frozen=True, kw_only=True)
class Connection:
    """One tenant in one environment, with the credentials issued for exactly that pair.

    A client id and its secret are issued for each app, tenant and environment; the app key is
    the same in every environment. The secrets are `SecretStr`, so that no repr shows them.

    Attributes:
        environment: "production", "integration" or "sandbox".
        api_url: e.g. "https://api.servicetitan.io", without a trailing slash.
        auth_url: e.g. "https://auth.servicetitan.io", without a trailing slash.
        client_id: the app's id for this tenant.
        client_secret: the secret that goes with `client_id`.
        app_key: sent as `ST-App-Key` with every data request.
        tenant_id: ServiceTitan's tenant number, as text.
        requests_per_second: limit of data requests; the vendor allows 60 for each app and tenant
            (developer FAQ), which other programs with the same app share.
        page_size: rows per page; the vendor's maximum is 5,000.
        timeout: seconds without a byte; the vendor's own server timeout is 100.
        client_secret_next: tried when `client_secret` is refused; ServiceTitan allows two active
            secrets, so that one can be rotated.
        secret_names: what the user calls the two secrets, for messages.
        reload_secrets: reads the secrets from their source again; called when all are refused.
    """

    environment: str
    api_url: str
    auth_url: str
    client_id: str
    client_secret: SecretStr
    app_key: SecretStr
    tenant_id: str
    requests_per_second: float = 60
    page_size: int = 5000
    timeout: float = 100
    client_secret_next: SecretStr | None = None
    secret_names: tuple[str, str] = ("the client secret", "the next client secret")
    reload_secrets: Callable[[], tuple[SecretStr, ...]] | None = field(
        default=None, repr=False, compare=False
    )

    @property
    def token_url(self) -> str:
        """The OAuth 2 token endpoint (vendor: `/connect/token` below the auth host)."""
        return f"{self.auth_url.rstrip('/')}/connect/token"

    @property
    def secrets(self) -> tuple[SecretStr, ...]:
        """Every secret of the connection, for `redact.scrub`."""
        following = (self.client_secret_next,) if self.client_secret_next else ()
        return (self.client_secret, *following, self.app_key)
