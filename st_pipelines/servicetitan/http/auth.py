"""Keeps access tokens: one for all clients and threads with the same credentials.

The vendor throttles requests with new access tokens and asks clients to cache them; a token lives
900 s. Tokens are kept in memory only.

ServiceTitan allows two active client secrets per app, so that one can be rotated while loads run. A
second secret may be configured; it is tried where the first is refused. Where both are refused,
their source is read once more. The token request itself is in `tokens`.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import requests
from pydantic import SecretStr

from st_pipelines.servicetitan.errors.errors import AuthenticationFailed
from st_pipelines.servicetitan.http.model import Connection, Usage
from st_pipelines.servicetitan.http.retry import Cancellation, RetryPolicy, call_with_retries
from st_pipelines.servicetitan.http.server_clock import ServerClock
from st_pipelines.servicetitan.http.tokens import Token, request_token
from st_pipelines.servicetitan.http.transport import new_http_session

_log = logging.getLogger(__name__)

# With a refused secret every asset of a run fails; they must not all query the secrets manager.
_RELOAD_INTERVAL_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class SecretState:
    """Whether ServiceTitan accepts one client secret.

    Attributes:
        name: of the setting and its source.
        accepted: a token was issued.
        error_body: why it was refused, without secrets; empty if it was accepted.
    """

    name: str
    accepted: bool
    error_body: str = ""


class ClientSecrets:
    """The client secrets of a connection, in the order in which to try them. Not thread-safe."""

    def __init__(self, connection: Connection, clock: Callable[[], float]) -> None:
        """Start with the secrets of the connection; the clock is monotonic, in seconds."""
        self._connection = connection
        self._clock = clock
        self._reloaded_at: float | None = None
        pair = (connection.client_secret, connection.client_secret_next)
        self._first, self._next = pair
        self._order = [secret for secret in pair if secret]
        self._reloaded: list[SecretStr] = []

    @property
    def all(self) -> tuple[SecretStr, ...]:
        """Every secret that may be sent, for `redact.scrub`."""
        return (*self._order, *self._reloaded)

    def candidates(self) -> Iterator[SecretStr]:
        """Yield each secret worth trying; those that need a reload of the source come last.

        Raises:
            Exception: whatever `Connection.reload_secrets` raises.
        """
        yield from tuple(self._order)
        yield from self._reload()

    def accept(self, secret: SecretStr) -> str:
        """Send this secret from now on.

        Args:
            secret: a candidate for which a token was issued.

        Returns:
            What a person should do about it; empty if the secret is the one sent before.
        """
        if secret == self._order[0]:
            return ""
        if secret not in self._order:
            self._order = list(self._reloaded)
        self._order.remove(secret)
        self._order.insert(0, secret)
        self._reloaded_at = None
        return self._build_notice(secret)

    def describe_refusal(self) -> str:
        """Return what to add to the hint when all secrets are refused."""
        if self._next is None:
            return ""
        return f"{' and '.join(self._connection.secret_names)} are both refused. "

    def _reload(self) -> Iterator[SecretStr]:
        reload, now = self._connection.reload_secrets, self._clock()
        if reload is None:
            return
        if self._reloaded_at is not None and now < self._reloaded_at + _RELOAD_INTERVAL_SECONDS:
            return
        self._reloaded = list(reload())
        self._reloaded_at = now  # not before: while the source is unreachable, every load says so
        yield from (secret for secret in self._reloaded if secret not in self._order)

    def _build_notice(self, secret: SecretStr) -> str:
        first, following = self._connection.secret_names
        if secret == self._next:
            return (
                f"ServiceTitan refuses {first} and accepts {following}: move the value of the "
                "latter to the former, delete the old value there, and the old secret in the "
                "developer portal if it is still listed"
            )
        if secret == self._first:
            return f"ServiceTitan accepts {first} again and refuses {following}: delete the latter"
        return (
            f"ServiceTitan refuses the value that {first} had at the start and accepts its new "
            "value, which was read meanwhile: the old secret can be deleted in the developer portal"
        )


class TokenSource:
    """Holds the current token of one client id, and renews it once for all threads.

    A client secret that is refused gives way to the next, or to what its source holds by now.

    Attributes:
        notice: what a person should do about a rotated client secret; empty if nothing.
        server_clock: kept with the token, as a client that finds a token here sends no request of
            its own before it has to know the server's time.
    """

    def __init__(
        self, connection: Connection, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Start without a token; the clock is monotonic, in seconds."""
        self.notice = ""
        self.server_clock = ServerClock()
        self._connection = connection
        self._clock = clock
        self._lock = threading.Lock()
        self._token: Token | None = None
        self._secrets = ClientSecrets(connection, clock)

    def get_token(
        self,
        http: requests.Session,
        policy: RetryPolicy,
        *,
        usage: Usage | None = None,
        cancelled: Cancellation | None = None,
    ) -> Token:
        """Return the current token; fetch it if there is none or it is about to expire.

        While one thread fetches a token, the others wait for it.

        Args:
            policy: for 429, 5xx and network errors of the token endpoint.
            usage: counts the requests.
            cancelled: ends the waits between retries.

        Raises:
            AuthenticationFailed: the credentials are refused, with every client secret.
            ServiceTitanError: the token endpoint could not be used.
            Exception: whatever `Connection.reload_secrets` raises.
        """
        with self._lock:
            if self._token is None or self._clock() >= self._token.renew_at:
                self._token = None
                self._token = self._fetch(http, policy, usage or Usage(), cancelled)
            return self._token

    def invalidate(self, token: Token) -> None:
        """Drop a token that was answered with 401, unless it has been replaced already."""
        with self._lock:
            if self._token is token:
                self._token = None

    def _fetch(
        self,
        http: requests.Session,
        policy: RetryPolicy,
        usage: Usage,
        cancelled: Cancellation | None,
    ) -> Token:
        refusal: AuthenticationFailed | None = None
        for secret in self._secrets.candidates():
            secrets = (*self._connection.secrets, *self._secrets.all)
            attempt = partial(
                request_token,
                self._connection,
                secret,
                secrets,
                http,
                usage,
                self._clock,
                self.server_clock,
            )
            try:
                token = call_with_retries(policy, attempt, cancelled=cancelled)
            except AuthenticationFailed as error:
                refusal = refusal or error
                continue
            if notice := self._secrets.accept(secret):
                self.notice = notice
                _log.warning("%s", notice)
            return token
        assert refusal is not None
        refusal.hint = self._secrets.describe_refusal() + refusal.hint
        raise refusal


def try_client_secrets(
    connection: Connection, *, http: requests.Session | None = None
) -> tuple[SecretState, ...]:
    """Find out which of the configured client secrets ServiceTitan accepts, by requesting tokens.

    Returns:
        One state for each configured secret, the first one first.

    Raises:
        ServiceTitanError: the token endpoint could not be used.
    """
    states, http = [], http or new_http_session()
    pair = (connection.client_secret, connection.client_secret_next)
    for name, secret in zip(connection.secret_names, pair, strict=True):
        if secret is None:
            continue
        try:
            request_token(connection, secret, connection.secrets, http, Usage(), time.monotonic)
        except AuthenticationFailed as error:
            states.append(SecretState(name=name, accepted=False, error_body=error.detail))
        else:
            states.append(SecretState(name=name, accepted=True))
    return tuple(states)


def token_source_for(connection: Connection) -> TokenSource:
    """Return the source that this process shares for the credentials of a connection.

    Connections that differ only in tenant share a source: groups of companies may have one pair of
    credentials for several tenants (vendor). The key includes the secrets, so that a corrected
    secret does not meet the failure of its predecessor.
    """
    following = connection.client_secret_next or SecretStr("")
    both = (connection.client_secret.get_secret_value(), following.get_secret_value())
    digest = hashlib.sha256("\0".join(both).encode()).digest()
    key = (connection.auth_url, connection.client_id, connection.environment, digest)
    with _sources_lock:
        if key not in _sources:
            _sources[key] = TokenSource(connection)
        return _sources[key]


_sources: dict[tuple[str, str, str, bytes], TokenSource] = {}
_sources_lock = threading.Lock()
