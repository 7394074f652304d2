"""Asks ServiceTitan: signed, within the limit, repeated where that may help."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar
from urllib.parse import quote, urlencode

import msgspec
import requests

from st_pipelines import json_text as surrogates
from st_pipelines.servicetitan.errors.errors import RateLimited, ServiceTitanError
from st_pipelines.servicetitan.http import responses as answers
from st_pipelines.servicetitan.http.auth import Token, TokenSource, token_source_for
from st_pipelines.servicetitan.http.cancellation import Cancellation
from st_pipelines.servicetitan.http.connection import Connection
from st_pipelines.servicetitan.http.messages import Request, Response, Usage
from st_pipelines.servicetitan.http.rate_limit import RateLimiter, limiter_for
from st_pipelines.servicetitan.http.retry import RetryPolicy, run
from st_pipelines.servicetitan.http.transport import Signature, new_session, send

_T = TypeVar("_T")


class Client:
    """Reads from one tenant. Threads can share it.

    Attributes:
        connection: where and as whom.
        page_limits: by path, the page sizes that ServiceTitan turned out to accept where it
            refused a larger one; which lists refuse 5,000 is documented only in part.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        policy: RetryPolicy | None = None,
        session: requests.Session | None = None,
        limiter: RateLimiter | None = None,
        tokens: TokenSource | None = None,
    ) -> None:
        """Prepare; nothing is sent yet.

        Args:
            connection: where and as whom.
            policy: how often and how patiently to repeat.
            session: for a certificate authority or proxy of one's own.
            limiter: instead of the one that this process has for the tenant and app.
            tokens: instead of the source that this process has for the credentials.
        """
        self.connection = connection
        self.page_limits: dict[str, int] = {}
        self._policy = policy or RetryPolicy()
        self._session = session or new_session()
        self._limiter = limiter or limiter_for(
            connection.tenant_id, connection.app_key, connection.requests_per_second
        )
        self._tokens = tokens or token_source_for(connection)

    @property
    def notices(self) -> tuple[str, ...]:
        """What a person should do about the credentials, found out while they were used."""
        return (self._tokens.notice,) if self._tokens.notice else ()

    def close(self) -> None:
        """Close the pooled connections; a later request opens new ones."""
        self._session.close()

    def get(
        self,
        path: str,
        params: Mapping[str, str] | None = None,
        *,
        scope: str = "",
        usage: Usage | None = None,
    ) -> bytes:
        """The body of one answer.

        Args:
            path: below the host, e.g. "/jpm/v2/tenant/{tenant}/jobs"; `{tenant}` is filled in.
            params: query parameters, not encoded yet: "+Id" arrives as "+Id".
            scope: the OAuth scope that the path needs, for the message of a 403.
            usage: counts requests and bytes.

        Returns:
            JSON, decompressed.

        Raises:
            ServiceTitanError: one of its subclasses, after the retries that may help.
        """
        return self.fetch(path, params or {}, _require_json, scope=scope, usage=usage)

    def fetch(
        self,
        path: str,
        params: Mapping[str, str],
        parse: Callable[[bytes], _T],
        *,
        scope: str = "",
        usage: Usage | None = None,
        cancelled: Cancellation | None = None,
    ) -> _T:
        """One answer, parsed; a body that does not parse is asked for again.

        Args:
            path: as for `get`.
            params: as for `get`.
            parse: turns the body into a value; raises ValueError with words of its own (which
                must not quote records) if the body is not what was expected.
            scope: the OAuth scope that the path needs, for the message of a 403.
            usage: counts requests and bytes.
            cancelled: ends waits and retries.

        Returns:
            What `parse` returns.

        Raises:
            ServiceTitanError: one of its subclasses, after the retries that may help.
            Cancelled: `cancelled` was set.
        """
        url = self._url(path, params)
        counted = usage or Usage()
        return run(
            self._policy,
            lambda: self._attempt(url, parse, scope, counted, cancelled),
            cancelled=cancelled,
            before_wait=self._pause_everyone,
        )

    def _attempt(
        self,
        url: str,
        parse: Callable[[bytes], _T],
        scope: str,
        usage: Usage,
        cancelled: Cancellation | None,
    ) -> _T:
        asked, answer = self._signed(url, scope, usage, cancelled)
        if failure := answers.failure_of(asked, answer):
            raise failure
        try:
            return parse(answer.body)
        except ValueError as problem:
            failure = answers.unexpected(asked, answer, str(problem))
        # Raised out here so that no chained exception quotes the body.
        raise failure

    def _signed(
        self, url: str, scope: str, usage: Usage, cancelled: Cancellation | None
    ) -> tuple[Request, Response]:
        """One exchange; a 401 renews the token and is replayed, once."""
        token = self._token(usage, cancelled)
        asked, answer = self._exchange(url, scope, token, usage, cancelled)
        if answer.status == 401:
            self._tokens.invalidate(token)
            token = self._token(usage, cancelled)
            asked, answer = self._exchange(url, scope, token, usage, cancelled)
        return asked, answer

    def _exchange(
        self,
        url: str,
        scope: str,
        token: Token,
        usage: Usage,
        cancelled: Cancellation | None,
    ) -> tuple[Request, Response]:
        secrets = (*self.connection.secrets, token.value)
        asked = Request(
            method="GET",
            url=url,
            secrets=secrets,
            scope=scope,
            tenant=self.connection.tenant_id,
            token=token.value,
        )
        self._limiter.acquire(cancelled)
        usage.add(requests=1)
        answer = send(
            self._session,
            asked,
            auth=Signature(token.value, self.connection.app_key),
            timeout=self.connection.timeout,
            cancelled=cancelled,
        )
        usage.add(received=len(answer.body))
        return asked, answer

    def _token(self, usage: Usage, cancelled: Cancellation | None) -> Token:
        return self._tokens.token(self._session, self._policy, usage=usage, cancelled=cancelled)

    def _pause_everyone(self, error: ServiceTitanError, wait: float) -> None:
        # A 429 counts against the tenant, whichever thread happened to get it.
        if isinstance(error, RateLimited):
            self._limiter.pause_until(self._limiter.clock() + wait)

    def _url(self, path: str, params: Mapping[str, str]) -> str:
        filled = path.replace("{tenant}", quote(self.connection.tenant_id, safe=""))
        url = f"{self.connection.api_url.rstrip('/')}{filled}"
        # `quote`, not the default `quote_plus`: "+Id" has to arrive as %2BId, a space as %20.
        return f"{url}?{urlencode(params, quote_via=quote)}" if params else url


def _require_json(body: bytes) -> bytes:
    try:
        msgspec.json.decode(surrogates.replace_lone_surrogates(body), type=msgspec.Raw)
    except msgspec.DecodeError:
        raise ValueError("the body is not JSON") from None
    return body
