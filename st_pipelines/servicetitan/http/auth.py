"""Access tokens: one for all clients and threads that use the same credentials.

The vendor throttles requests with new access tokens and asks to cache them; a token lives 900 s.
Tokens are kept in memory only.

ServiceTitan lets an app have two active client secrets, so that one may be rotated while loads go
on. A second may be configured, which is tried where the first is refused; and where both are, the
place that they came from is asked once more.
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
from st_pipelines.servicetitan.http.cancellation import Cancellation
from st_pipelines.servicetitan.http.connection import Connection
from st_pipelines.servicetitan.http.messages import Usage
from st_pipelines.servicetitan.http.retry import RetryPolicy, run
from st_pipelines.servicetitan.http.token_request import Token, request_token
from st_pipelines.servicetitan.http.transport import new_http_session

_log = logging.getLogger(__name__)

# Every asset of a run fails alike with a refused secret; not each shall ask the manager.
_PAUSE = 60.0


@dataclass(frozen=True, kw_only=True)
class SecretState:
    """What ServiceTitan said of one client secret.

    Attributes:
        name: of the setting and its source.
        accepted: a token was issued.
        said: why not, without secrets; empty where it was.
    """

    name: str
    accepted: bool
    said: str = ""


class ClientSecrets:
    """The client secrets of a connection in the order of trying. Not for several threads at once.

    Attributes:
        notice: what a person should do about the rotation; empty while the first is accepted.
    """

    def __init__(self, connection: Connection, clock: Callable[[], float]) -> None:
        """Begin with those of the connection.

        Args:
            connection: whose secrets.
            clock: seconds, never going back.
        """
        self.notice = ""
        self._connection = connection
        self._clock = clock
        self._asked_at: float | None = None
        pair = (connection.client_secret, connection.client_secret_next)
        self._first, self._next = pair
        self._order = [secret for secret in pair if secret]
        self._fresh: list[SecretStr] = []

    @property
    def all(self) -> tuple[SecretStr, ...]:
        """Those that were sent or will be, for `redact.scrub`."""
        return (*self._order, *self._fresh)

    def candidates(self) -> Iterator[SecretStr]:
        """Each secret that is worth trying; what comes from asking anew is asked for last.

        Raises:
            Exception: whatever `Connection.secrets_anew` raises.
        """
        yield from tuple(self._order)
        yield from self._anew()

    def accept(self, secret: SecretStr) -> bool:
        """Send this one from now on.

        Args:
            secret: a candidate for which a token was issued.

        Returns:
            Whether it is another than before, so that `notice` is new.
        """
        if secret == self._order[0]:
            return False
        if secret not in self._order:
            self._order = list(self._fresh)
        self._order.remove(secret)
        self._order.insert(0, secret)
        self._asked_at = None
        self.notice = self._advice(secret)
        return True

    def refused(self) -> str:
        """What to add to the hint when all are refused."""
        if self._next is None:
            return ""
        return f"{' and '.join(self._connection.secret_names)} are both refused. "

    def _anew(self) -> Iterator[SecretStr]:
        ask, now = self._connection.secrets_anew, self._clock()
        if ask is None or (self._asked_at is not None and now < self._asked_at + _PAUSE):
            return
        self._fresh = list(ask())
        self._asked_at = now  # only now: while its source is out of reach, each load says so
        yield from (secret for secret in self._fresh if secret not in self._order)

    def _advice(self, secret: SecretStr) -> str:
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
            f"ServiceTitan refuses the value that {first} had at the start; its new value was read "
            "and is accepted: the old secret may be deleted in the developer portal"
        )


class TokenSource:
    """Holds the current token of one client id and renews it, once for all threads.

    A client secret that is refused gives way to the next, or to what its source holds by now.
    """

    def __init__(
        self, connection: Connection, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Start without a token.

        Args:
            connection: whose credentials to use.
            clock: seconds, never going back.
        """
        self._connection = connection
        self._clock = clock
        self._lock = threading.Lock()
        self._token: Token | None = None
        self._secrets = ClientSecrets(connection, clock)

    @property
    def notice(self) -> str:
        """What a person should do about a rotated client secret; empty where nothing."""
        return self._secrets.notice

    def token(
        self,
        http: requests.Session,
        policy: RetryPolicy,
        *,
        usage: Usage | None = None,
        cancelled: Cancellation | None = None,
    ) -> Token:
        """The current token, fetched if there is none or it is about to end.

        Threads that come meanwhile wait for the one that fetches it.

        Args:
            http: sends the request.
            policy: for 429, 5xx and network errors of the token endpoint.
            usage: counts the requests.
            cancelled: ends the waits between retries.

        Returns:
            A token that is good for some time yet.

        Raises:
            AuthenticationFailed: the credentials are refused, with every client secret.
            ServiceTitanError: the token endpoint could not be used.
            Exception: whatever `Connection.secrets_anew` raises.
        """
        with self._lock:
            if self._token is None or self._clock() >= self._token.renew_at:
                self._token = None
                self._token = self._fetch(http, policy, usage or Usage(), cancelled)
            return self._token

    def invalidate(self, token: Token) -> None:
        """Forget a token that was answered with 401, unless it has been replaced already.

        Args:
            token: the one that was refused, not necessarily the current one.
        """
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
            attempt = partial(self._request, http, usage, secret)
            try:
                token = run(policy, attempt, cancelled=cancelled)
            except AuthenticationFailed as failure:
                refusal = refusal or failure
                continue
            if self._secrets.accept(secret):
                _log.warning("%s", self._secrets.notice)
            return token
        assert refusal is not None
        refusal.hint = self._secrets.refused() + refusal.hint
        raise refusal

    def _request(self, http: requests.Session, usage: Usage, secret: SecretStr) -> Token:
        secrets = (*self._connection.secrets, *self._secrets.all)
        return request_token(self._connection, secret, secrets, http, usage, self._clock)


def try_client_secrets(
    connection: Connection, *, http: requests.Session | None = None
) -> tuple[SecretState, ...]:
    """Which of the configured client secrets ServiceTitan accepts, by a token request for each.

    Args:
        connection: with one or two.
        session: for a certificate authority or proxy of one's own.

    Returns:
        Their states, the first one first.

    Raises:
        ServiceTitanError: the token endpoint could not be used.
    """
    states, used = [], http or new_http_session()
    pair = (connection.client_secret, connection.client_secret_next)
    for name, secret in zip(connection.secret_names, pair, strict=True):
        if secret is None:
            continue
        try:
            request_token(connection, secret, connection.secrets, used, Usage(), time.monotonic)
        except AuthenticationFailed as failure:
            states.append(SecretState(name=name, accepted=False, said=failure.detail))
        else:
            states.append(SecretState(name=name, accepted=True))
    return tuple(states)


def token_source_for(connection: Connection) -> TokenSource:
    """The one source that this process has for the credentials of a connection.

    Args:
        connection: two that differ only in tenant share a source: groups of companies may
            have one pair of credentials for several tenants (vendor).

    Returns:
        The same object for the same auth host, environment, client id and secrets. The secrets
        count, so that a corrected one is not answered from the failure of its predecessor.
    """
    following = connection.client_secret_next or SecretStr("")
    both = (connection.client_secret.get_secret_value(), following.get_secret_value())
    digest = hashlib.sha256("\0".join(both).encode()).digest()
    key = (connection.auth_url, connection.client_id, connection.environment, digest)
    with _sources_lock:
        return _sources.setdefault(key, TokenSource(connection))


_sources: dict[tuple[str, str, str, bytes], TokenSource] = {}
_sources_lock = threading.Lock()
