"""Sends requests to ServiceTitan: signed, rate limited, and retried where that may help.

A `Client` belongs to one tenant; a `Session` of it adds who counts the requests and who may cancel
them. What the records in a response mean is the business of `reading`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Generic, TypeVar
from urllib.parse import quote, urlencode

import msgspec
import requests

from st_pipelines import json_text
from st_pipelines.servicetitan.errors.errors import RateLimited, ServiceTitanError
from st_pipelines.servicetitan.http.auth import TokenSource, token_source_for
from st_pipelines.servicetitan.http.model import Connection, Request, Response, Usage
from st_pipelines.servicetitan.http.rate_limit import (
    RateLimiter,
    ReportPacer,
    limiter_for,
    pacer_for,
)
from st_pipelines.servicetitan.http.responses import build_error, build_unexpected_response
from st_pipelines.servicetitan.http.retry import Cancellation, RetryPolicy, call_with_retries
from st_pipelines.servicetitan.http.tokens import read_token_claims
from st_pipelines.servicetitan.http.transport import Receive, Signature, new_http_session, send

# 203 is a 200 that a proxy has changed. 206 is a part, and 202, 204 and 205 have no records yet.
_STATUSES_WITH_CONTENT = (200, 201, 203)
_T = TypeVar("_T")
_U = TypeVar("_U", bound=Usage)
_U_co = TypeVar("_U_co", bound=Usage, covariant=True)


class Client:
    """Reads from one tenant. Threads can share it.

    Attributes:
        connection: hosts, credentials and tenant.
        policy: how requests are retried.
        http: the pooled connections.
        limiter: keeps the requests below ServiceTitan's limit.
        tokens: issues the access tokens.
        report_pacer: keeps the runs of each report below their limit.
        lacks_async_reports: ServiceTitan does not offer the asynchronous contract of reports here.
        report_ids: by category and report as the user names them, the ids that were looked up.
        page_limits: by table, the page size that ServiceTitan accepted after it refused a larger
            one. Which lists refuse 5,000 is only partly documented.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        policy: RetryPolicy | None = None,
        http: requests.Session | None = None,
        limiter: RateLimiter | None = None,
        tokens: TokenSource | None = None,
        report_pacer: ReportPacer | None = None,
    ) -> None:
        """Send nothing yet.

        Args:
            http: replaces the default one, e.g. for a certificate authority or proxy.
            limiter: replaces the one that this process shares for the tenant and app.
            tokens: replaces the source that this process shares for the credentials.
            report_pacer: replaces the one that this process shares for the tenant.
        """
        self.connection = connection
        self.policy = policy or RetryPolicy()
        self.http = http or new_http_session()
        self.limiter = limiter or limiter_for(
            connection.tenant_id, connection.app_key, connection.requests_per_second
        )
        self.tokens = tokens or token_source_for(connection)
        self.report_pacer = report_pacer or pacer_for(
            connection.tenant_id, connection.api_url, connection.report_interval_seconds
        )
        self.lacks_async_reports = False
        self.report_ids: dict[tuple[str, str], tuple[str, int]] = {}
        self.page_limits: dict[str, int] = {}

    @property
    def notices(self) -> tuple[str, ...]:
        """Advice about the credentials that their use has turned up, such as a rotated secret."""
        return (self.tokens.notice,) if self.tokens.notice else ()

    def server_time(self) -> datetime | None:
        """Return ServiceTitan's time in UTC, never ahead of it; None if no response has told it.

        It is known as soon as the process has a token for these credentials; `sign_in` gets one.
        """
        return self.tokens.server_clock.now()

    def clock_offset(self) -> timedelta | None:
        """Return how far this machine's clock is ahead of ServiceTitan's; negative if behind.

        To about a second. None if no response has told the time.
        """
        return self.tokens.server_clock.offset()

    def sign_in(self, usage: Usage | None = None, cancelled: Cancellation | None = None) -> None:
        """Get a token unless the process has one; then the server's time is known.

        Args:
            usage: counts the requests.
            cancelled: ends the waits between retries.

        Raises:
            ServiceTitanError: the credentials are refused, or no token was issued.
        """
        self.tokens.get_token(self.http, self.policy, usage=usage, cancelled=cancelled)

    def session(self, usage: _U, cancelled: Cancellation | None = None) -> Session[_U]:
        """Requests that are counted in `usage` and end when `cancelled` is set."""
        return Session(self, usage, cancelled)

    def close(self) -> None:
        """Close the pooled connections; a later request opens new ones."""
        self.http.close()

    def pause_after_429(self, error: ServiceTitanError, wait: float) -> None:
        """Hold back every thread, as a 429 counts against the tenant and not the request."""
        if isinstance(error, RateLimited):
            self.limiter.pause_until(self.limiter.clock() + wait)


@dataclass(eq=False)
class Session(Generic[_U_co]):
    """Sends the requests of one task. Threads can share it.

    Attributes:
        client: whose connections, tokens and limits are used.
        usage: counts requests and bytes.
        cancelled: when set, ends waits and retries, and breaks off the request in flight.
    """

    client: Client
    usage: _U_co
    cancelled: Cancellation | None = None

    def get(self, path: str, params: Mapping[str, str] | None = None, *, scope: str = "") -> bytes:
        """Return the body of a response, which is JSON. Arguments and errors as for `fetch`."""
        return self.fetch(path, params or {}, _require_json, scope=scope)

    def fetch(
        self,
        path: str,
        params: Mapping[str, str | Sequence[str]],
        parse: Callable[[bytes], _T],
        *,
        scope: str = "",
        method: str = "GET",
        body: bytes | None = None,
    ) -> _T:
        """Send one request and parse its response; a body that does not parse is retried.

        Args:
            path: below the host, e.g. "/jpm/v2/tenant/{tenant}/jobs"; `{tenant}` is filled in.
            params: query parameters, not encoded yet: "+Id" arrives as "+Id". A list is sent as one
                parameter for each value.
            parse: raises ValueError if the body is not what was expected. Its message must not
                quote records.
            scope: the OAuth scope that the path needs, for the message of a 403.
            method: GET, or POST where ServiceTitan reads by POST. Both are retried alike.
            body: JSON.

        Raises:
            ServiceTitanError: one of its subclasses, after the retries.
            Cancelled: `cancelled` was set.
        """
        return call_with_retries(
            self.client.policy,
            lambda: self.send_once(
                path, params, partial(_parse_content, parse), scope=scope, method=method, body=body
            ),
            cancelled=self.cancelled,
            before_wait=self.client.pause_after_429,
        )

    def send_once(
        self,
        path: str,
        params: Mapping[str, str | Sequence[str]],
        parse: Callable[[Response], _T],
        *,
        scope: str = "",
        method: str = "GET",
        body: bytes | None = None,
    ) -> _T:
        """Send one request without retries, but with a new token after a 401.

        Arguments and errors as for `fetch`, but `parse` gets the response, whose status is 2xx.
        """
        request = self.build_request(path, params, scope=scope, method=method, body=body)
        return self._attempt(request, parse)

    def build_request(
        self,
        path: str,
        params: Mapping[str, str | Sequence[str]],
        *,
        scope: str = "",
        method: str = "GET",
        body: bytes | None = None,
    ) -> Request:
        """Build a request that `send_signed` takes. Arguments as for `fetch`."""
        connection = self.client.connection
        filled = path.replace("{tenant}", quote(connection.tenant_id, safe=""))
        url = f"{connection.api_url.rstrip('/')}{filled}"
        if params:
            # `quote`, not the default `quote_plus`: "+Id" has to arrive as %2BId, a space as %20.
            url = f"{url}?{urlencode(params, doseq=True, quote_via=quote)}"
        return Request(method=method, url=url, scope=scope, tenant=connection.tenant_id, body=body)

    def _attempt(self, request: Request, parse: Callable[[Response], _T]) -> _T:
        signed, response = self.send_signed(request)
        if not 200 <= response.status < 300:
            raise build_error(signed, response, claims=read_token_claims(signed.token))
        try:
            parsed = parse(response)
            # Not before: what parses comes from ServiceTitan, not from a proxy with its own clock.
            self.client.tokens.server_clock.observe(response.headers, response.received_at)
            return parsed
        except ValueError as error:
            failure = build_unexpected_response(signed, response, str(error))
        # Raised out here so that no chained exception quotes the body.
        raise failure

    def send_signed(
        self,
        request: Request,
        *,
        headers: Mapping[str, str] | None = None,
        receive: Receive | None = None,
    ) -> tuple[Request, Response]:
        """Sign and send a request within the rate limit; after a 401 once more, with a new token.

        Args:
            request: to ServiceTitan's API, and to no other host.
            headers, receive: as for `transport.send`.

        Returns:
            The request as it was sent, and the response, whatever its status.

        Raises:
            ServiceTitanError: no token was issued, or no complete response came.
            Cancelled: `cancelled` was set.
        """
        client, connection = self.client, self.client.connection
        replayed = False
        while True:
            token = client.tokens.get_token(
                client.http, client.policy, usage=self.usage, cancelled=self.cancelled
            )
            secrets = (*connection.secrets, token.value)
            signed = dataclasses.replace(request, secrets=secrets, token=token.value)
            client.limiter.acquire(self.cancelled)
            self.usage.add(requests=1)
            response = send(
                client.http,
                signed,
                auth=Signature(token.value, connection.app_key),
                timeout=connection.timeout,
                max_mb=connection.max_response_mb,
                cancelled=self.cancelled,
                headers=headers,
                receive=receive,
            )
            self.usage.add(received=len(response.body))
            if response.status != 401 or replayed:
                return signed, response
            client.tokens.invalidate(token)
            replayed = True


def _parse_content(parse: Callable[[bytes], _T], response: Response) -> _T:
    """Parse the body. Raise ValueError for a status that promises no complete body."""
    if response.status not in _STATUSES_WITH_CONTENT:
        raise ValueError("that status has no complete content")
    return parse(response.body)


def _require_json(body: bytes) -> bytes:
    """Return the body. Raise ValueError if it cannot even be split into its values."""
    try:
        msgspec.json.decode(body, type=msgspec.Raw)
    except (msgspec.DecodeError, RecursionError):
        is_array = body.lstrip().startswith(b"[")
        try:
            (json_text.split_array if is_array else json_text.split_object)(body)
        except ValueError:
            raise ValueError("the body is not JSON") from None
    return body
