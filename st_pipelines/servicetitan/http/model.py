"""Defines the values of the package: connection, request, response, and what a reading cost.

It must not import `requests`: Dagster's definitions load these values.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from pydantic import SecretStr

from st_pipelines.servicetitan.http.redact import HIDDEN, redact_url
from st_pipelines.servicetitan.http.server_clock import measure_elapsed

MAX_ERROR_BODY_BYTES = 16 << 10
"""Of an error body no more is read or searched: whoever answers decides how long it is."""


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
        max_response_mb: megabytes of a body after decompression; a larger one is not read to its
            end.
        external_data_app_guid: the application whose `externalData` the lists return; None
            leaves that field empty (vendor).
        report_interval_seconds: between the starts of two runs of one report; each page is a run.
        report_wait_seconds: how long a report's limit, a maintenance or a run in progress is waited
            for.
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
    max_response_mb: int = 256
    external_data_app_guid: str | None = None
    report_interval_seconds: float = 60
    report_wait_seconds: float = 3600
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


@dataclass(frozen=True, kw_only=True)
class Request:
    """A request, with the secrets that must not be shown of it.

    Attributes:
        method: HTTP method.
        url: with its query.
        body: JSON, for what ServiceTitan reads by POST.
        form: sent form-encoded; only token requests have one.
        secrets: everything that a response might echo.
        scope: the OAuth scope that the request needs, where known.
        tenant: id of the tenant whose data is requested.
        token: signs the request; its claims may explain a refusal.
        hides_path: the path, too, may name a customer or sign the request: show only the host.
    """

    method: str
    url: str = field(repr=False)
    body: bytes | None = field(default=None, repr=False)
    form: Mapping[str, SecretStr | str] | None = field(default=None, repr=False)
    secrets: tuple[SecretStr, ...] = ()
    scope: str = ""
    tenant: str = ""
    token: SecretStr | None = None
    hides_path: bool = False

    @property
    def redacted_url(self) -> str:
        """The URL without secrets."""
        if self.hides_path:
            parts = urlsplit(self.url)
            return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/{HIDDEN}"
        return redact_url(self.url)


@dataclass(frozen=True, kw_only=True)
class Response:
    """A complete response.

    Attributes:
        status: HTTP status.
        headers: case-insensitive.
        body: decompressed, without a byte order mark.
        received_at: when the headers arrived, on the clock `server_clock.measure_elapsed`.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    received_at: float = field(default_factory=measure_elapsed, repr=False, compare=False)


@dataclass(kw_only=True)
class Usage:
    """Counts what was sent and received. Threads can share it.

    Attributes:
        requests: data requests sent, retries included.
        bytes: size of the bodies received, after decompression.
        token_requests: requests to the token endpoint, retries included.
    """

    requests: int = 0
    bytes: int = 0
    token_requests: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def add(self, *, requests: int = 0, received: int = 0, token_requests: int = 0) -> None:
        """Add to the counters; `received` counts bytes."""
        with self._lock:
            self.requests += requests
            self.bytes += received
            self.token_requests += token_requests

    def add_usage(self, other: Usage) -> None:
        """Add another's counters."""
        self.add(requests=other.requests, received=other.bytes, token_requests=other.token_requests)


@dataclass(kw_only=True)
class ReadStats(Usage):
    """A `Usage` with the course of one reading; only the reading thread writes the rest.

    Attributes:
        readings: how many times the records were read from the start.
        records: records in the pages of the last reading, duplicates included.
        total: the last `totalCount` that ServiceTitan served, or None.
        page_size: rows per page at the end; 0 for an endpoint without pages.
        continue_from: the last continuation token of an export feed. Store it; do not log it.
    """

    readings: int = 0
    records: int = 0
    total: int | None = None
    page_size: int = 0
    continue_from: str | None = field(default=None, repr=False)

    def __add__(self, later: ReadStats) -> ReadStats:
        """Return the stats of two reads as one; `total` only if both have one."""
        totals = (self.total, later.total)
        return ReadStats(
            requests=self.requests + later.requests,
            bytes=self.bytes + later.bytes,
            token_requests=self.token_requests + later.token_requests,
            readings=max(self.readings, later.readings),
            records=self.records + later.records,
            total=None if None in totals else sum(total for total in totals if total is not None),
            page_size=later.page_size,
            continue_from=later.continue_from,
        )


@dataclass(frozen=True, kw_only=True)
class TokenClaims:
    """The readable part of a token.

    Attributes:
        tenants: ids of the tenants it is valid for; empty where unknown.
        scopes: what it allows, such as `tn.jpm.jobs:r`; None where unknown.
        lifetime: in seconds; None where unknown.
    """

    tenants: frozenset[str]
    scopes: frozenset[str] | None
    lifetime: int | None = None
