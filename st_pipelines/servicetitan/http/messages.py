"""The values of an HTTP exchange: request, response, and the counters of both."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import SecretStr

from st_pipelines.servicetitan.http.redact import redact_url


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
    """

    method: str
    url: str = field(repr=False)
    body: bytes | None = field(default=None, repr=False)
    form: Mapping[str, SecretStr | str] | None = field(default=None, repr=False)
    secrets: tuple[SecretStr, ...] = ()
    scope: str = ""
    tenant: str = ""
    token: SecretStr | None = None

    @property
    def redacted_url(self) -> str:
        """The URL without secrets."""
        return redact_url(self.url)


@dataclass(frozen=True, kw_only=True)
class Response:
    """A complete response.

    Attributes:
        status: HTTP status.
        headers: case-insensitive.
        body: decompressed, without a byte order mark.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


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
