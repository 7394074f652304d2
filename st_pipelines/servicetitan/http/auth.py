"""Access tokens: one for all clients and threads that use the same credentials.

The vendor throttles requests with new access tokens and asks to cache them; a token lives 900 s.
Tokens are kept in memory only.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec
import requests
from pydantic import SecretStr

from st_pipelines.servicetitan.errors.errors import AuthenticationFailed, ServiceTitanError
from st_pipelines.servicetitan.http import responses as answers
from st_pipelines.servicetitan.http.cancellation import Cancellation
from st_pipelines.servicetitan.http.client_secrets import ClientSecrets, SecretState
from st_pipelines.servicetitan.http.connection import Connection
from st_pipelines.servicetitan.http.diagnosis import token_trouble
from st_pipelines.servicetitan.http.messages import Request, Response, Usage
from st_pipelines.servicetitan.http.retry import RetryPolicy, run
from st_pipelines.servicetitan.http.transport import Unsigned, new_session, send

_log = logging.getLogger(__name__)

# Renewed so long before the end: requests that are under way must still arrive with it.
_MARGIN = 60.0
_MARGIN_SHARE = 0.1
# What the vendor documents, for an answer that does not say.
_LIFETIME = 900.0


@dataclass(frozen=True, kw_only=True)
class Token:
    """An access token.

    Attributes:
        value: sent as the bearer.
        renew_at: on the source's clock; from then on another is fetched.
        lifetime: seconds for which it was issued.
    """

    value: SecretStr
    renew_at: float
    lifetime: float = _LIFETIME


class _TokenAnswer(msgspec.Struct):
    access_token: str
    expires_in: Any = None


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
        session: requests.Session,
        policy: RetryPolicy,
        *,
        usage: Usage | None = None,
        cancelled: Cancellation | None = None,
    ) -> Token:
        """The current token, fetched if there is none or it is about to end.

        Threads that come meanwhile wait for the one that fetches it.

        Args:
            session: sends the request.
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
                self._token = self._fetch(session, policy, usage or Usage(), cancelled)
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
        session: requests.Session,
        policy: RetryPolicy,
        usage: Usage,
        cancelled: Cancellation | None,
    ) -> Token:
        refusal: AuthenticationFailed | None = None
        for secret in self._secrets.candidates():
            attempt = partial(self._request, session, usage, secret)
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

    def _request(self, session: requests.Session, usage: Usage, secret: SecretStr) -> Token:
        secrets = (*self._connection.secrets, *self._secrets.all)
        return _request(self._connection, secret, secrets, session, usage, self._clock)


def try_client_secrets(
    connection: Connection, *, session: requests.Session | None = None
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
    states, used = [], session or new_session()
    pair = (connection.client_secret, connection.client_secret_next)
    for name, secret in zip(connection.secret_names, pair, strict=True):
        if secret is None:
            continue
        try:
            _request(connection, secret, connection.secrets, used, Usage(), time.monotonic)
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


def _request(
    connection: Connection,
    secret: SecretStr,
    secrets: tuple[SecretStr, ...],
    session: requests.Session,
    usage: Usage,
    clock: Callable[[], float],
) -> Token:
    asked = Request(method="POST", url=connection.token_url, secrets=secrets)
    asked_at = clock()
    usage.add(token_requests=1)
    answer = send(
        session,
        asked,
        auth=Unsigned(),
        timeout=connection.timeout,
        form={
            "grant_type": "client_credentials",
            "client_id": connection.client_id,
            "client_secret": secret,
        },
    )
    if answer.status in (400, 401, 403):
        raise _refused(connection, asked, answer)
    if failure := answers.failure_of(asked, answer, connection):
        raise failure
    return _read_token(asked, answer, asked_at)


def _read_token(asked: Request, answer: Response, asked_at: float) -> Token:
    failure: ServiceTitanError
    try:
        parsed = msgspec.json.decode(answer.body, type=_TokenAnswer)
        lifetime = _seconds(parsed.expires_in)
        margin = min(_MARGIN, lifetime * _MARGIN_SHARE)
        return Token(
            value=SecretStr(parsed.access_token),
            renew_at=asked_at + lifetime - margin,
            lifetime=lifetime,
        )
    except ValueError:
        failure = answers.unexpected(asked, answer, "no access_token came")
    raise failure


def _refused(connection: Connection, asked: Request, answer: Response) -> AuthenticationFailed:
    what = answers.read_error_body(asked, answer)
    return AuthenticationFailed(
        f"no token, answered {answer.status}: {what.text}",
        method=asked.method,
        url=asked.shown_url,
        status=answer.status,
        trace_id=what.trace_id,
        detail=what.text,
        problem=token_trouble(connection, answer.status, what.text),
    )


def _seconds(expires_in: Any) -> float:
    """The lifetime as served; the documented one where it cannot be read."""
    try:
        return _LIFETIME if isinstance(expires_in, bool) else float(expires_in)
    except (TypeError, ValueError):
        return _LIFETIME
