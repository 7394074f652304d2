"""Where ServiceTitan is, and as whom it is asked. Values only; `settings` makes them."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import SecretStr


@dataclass(frozen=True, kw_only=True)
class Connection:
    """One tenant of one environment, with the credentials that belong to exactly that pair.

    A client id and its secret are issued for each app, tenant and environment; the app key is
    the same in every environment. The secrets are `SecretStr`, so that no repr shows them.

    Attributes:
        environment: "production", "integration" or "sandbox".
        api_url: e.g. "https://api.servicetitan.io", without a trailing slash.
        auth_url: e.g. "https://auth.servicetitan.io", without a trailing slash.
        client_id: the app's id for this tenant.
        client_secret: the secret that goes with `client_id`.
        app_key: sent as `ST-App-Key` with every data request.
        tenant_id: ServiceTitan's number of the tenant, as text.
        requests_per_second: at most so many data requests; the vendor allows 60 an app and
            tenant (developer FAQ), which other programs under the same app share.
        page_size: rows asked for in a page; the vendor's maximum is 5,000.
        timeout: seconds without an answer; the vendor's own server timeout is 100.
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

    @property
    def token_url(self) -> str:
        """The OAuth 2 token endpoint (vendor: `/connect/token` below the auth host)."""
        return f"{self.auth_url.rstrip('/')}/connect/token"

    @property
    def secrets(self) -> tuple[SecretStr, ...]:
        """What must never be shown, for `redact.scrub`."""
        return (self.client_secret, self.app_key)
