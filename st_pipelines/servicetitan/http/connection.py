"""Where ServiceTitan is, and as whom it is asked. Values only; `settings` makes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

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
        client_secret_next: tried where `client_secret` is refused; ServiceTitan lets two be
            active, so that one can be exchanged for the other.
        secret_names: what their user calls the two, for messages.
        secrets_anew: asks where the secrets come from once more; called when all are refused.
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
    secrets_anew: Callable[[], tuple[SecretStr, ...]] | None = field(
        default=None, repr=False, compare=False
    )

    @property
    def token_url(self) -> str:
        """The OAuth 2 token endpoint (vendor: `/connect/token` below the auth host)."""
        return f"{self.auth_url.rstrip('/')}/connect/token"

    @property
    def secrets(self) -> tuple[SecretStr, ...]:
        """What must never be shown, for `redact.scrub`."""
        following = (self.client_secret_next,) if self.client_secret_next else ()
        return (self.client_secret, *following, self.app_key)
