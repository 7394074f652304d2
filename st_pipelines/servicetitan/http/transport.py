"""Makes one HTTP exchange, which another thread can abort wherever it is blocked.

A socket's timeout starts over with every byte. A body that trickles in at a byte a second would
block a load forever, and Ctrl-C would wait for pages that hang. Shutting the socket down ends both.

Exceptions of `requests` do not leave this module, as they may hold secrets. Retries, rate limits
and tokens are the business of `client`.
"""

from __future__ import annotations

import codecs
import logging
import socket
import threading
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import cache
from http.cookiejar import DefaultCookiePolicy
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from pydantic import SecretStr
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase

from st_pipelines import __version__
from st_pipelines.servicetitan.errors.errors import Unreachable
from st_pipelines.servicetitan.errors.network import find_network_problem, walk_causes
from st_pipelines.servicetitan.errors.problems import build_problem
from st_pipelines.servicetitan.http.model import Request, Response
from st_pipelines.servicetitan.http.redact import redact_url
from st_pipelines.servicetitan.http.retry import Cancellation, Cancelled
from st_pipelines.servicetitan.http.server_clock import measure_elapsed

_log = logging.getLogger(__name__)
# More than any sensible concurrency: a full pool closes connections after each request.
POOL_SIZE = 64
_CONNECT_TIMEOUT_SECONDS = 10.0
_CHUNK_BYTES = 1 << 20
# The whole exchange may take this many read timeouts; that is enough for the slowest page.
_MAX_TIMEOUTS_PER_EXCHANGE = 3
# Problems of the settings, which a retry does not solve.
_PERMANENT = ("unusable", "tls-bundle")
_HEADERS = {
    "User-Agent": f"st_pipelines/{__version__}",
    "Accept": "application/json",
    "Accept-Encoding": "gzip, deflate",
}
_JSON_BODY = {"Content-Type": "application/json"}
# The server took too long or broke off, so a smaller page may succeed.
_OVERLOADED = (
    requests.exceptions.ReadTimeout,
    requests.exceptions.ChunkedEncodingError,
    urllib3.exceptions.ReadTimeoutError,
)
_thread = threading.local()  # its `exchange` is the one in progress in this thread


class Unsigned(AuthBase):
    """Sends no credentials. Passed explicitly, as `requests` would look for some in ~/.netrc."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Leave the request unchanged."""
        return request


@dataclass(frozen=True)
class Signature(Unsigned):
    """Signs a data request; an object, so that no local variable of a traceback shows a secret.

    Attributes:
        token: for `Authorization: Bearer`.
        app_key: for `ST-App-Key`.
    """

    token: SecretStr
    app_key: SecretStr

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add both headers."""
        request.headers["Authorization"] = f"Bearer {self.token.get_secret_value()}"
        request.headers["ST-App-Key"] = self.app_key.get_secret_value()
        return request


def new_http_session() -> requests.Session:
    """Open a session that threads can share: pooled, without cookies or retries.

    Proxies come from the environment.
    """
    http = requests.Session()
    adapter = AbortableAdapter(pool_connections=4, pool_maxsize=POOL_SIZE, max_retries=0)
    http.mount("https://", adapter)
    http.mount("http://", adapter)
    http.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))
    return http


def send(
    http: requests.Session,
    request: Request,
    *,
    auth: AuthBase,
    timeout: float,
    cancelled: Cancellation | None = None,
) -> Response:
    """Make one exchange and read the whole body, whatever the status.

    Redirects are not followed, as the app key would travel along to wherever they lead.

    Args:
        timeout: seconds without a byte. An exchange in which bytes keep trickling in is aborted
            after three times as long; that needs a session of `new_http_session`, others are only
            checked between two chunks.
        cancelled: aborts the exchange when it is set.

    Raises:
        Unreachable: no complete response came.
        Cancelled: `cancelled` was set.
    """
    failure: Unreachable
    exchange = Exchange(_MAX_TIMEOUTS_PER_EXCHANGE * timeout)
    try:
        watching = nullcontext() if cancelled is None else cancelled.aborting(exchange.abort)
        with watching, exchange:
            return _exchange(http, request, auth, timeout, exchange)
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        cause = requests.exceptions.ReadTimeout() if exchange.aborted else error
        failure = _build_unreachable(request, cause)
    if cancelled is not None and cancelled.is_set():
        raise Cancelled
    # Raised out here, or the exception above, which holds the headers, would be its __context__.
    raise failure


def _exchange(
    http: requests.Session, request: Request, auth: AuthBase, timeout: float, exchange: Exchange
) -> Response:
    with http.request(
        request.method,
        request.url,
        headers=_HEADERS if request.body is None else _HEADERS | _JSON_BODY,
        data=_reveal_form(request.form) if request.form else request.body,
        auth=auth,
        timeout=(min(timeout, _CONNECT_TIMEOUT_SECONDS), timeout),
        allow_redirects=False,
        stream=True,
    ) as response:
        received_at = measure_elapsed()
        chunks = []
        for chunk in response.iter_content(_CHUNK_BYTES):
            chunks.append(chunk)
            if exchange.aborted:
                break
        if exchange.aborted:  # without a length, a closed connection looks like the end
            raise requests.exceptions.ReadTimeout
        body = b"".join(chunks).removeprefix(codecs.BOM_UTF8)
        if _log.isEnabledFor(logging.DEBUG):  # redacting a URL is not free
            shown = (request.method, request.redacted_url, response.status_code, len(body))
            _log.debug("%s %s answered %d, %d bytes", *shown)
        return Response(
            status=response.status_code,
            headers=response.headers,
            body=body,
            received_at=received_at,
        )


def _reveal_form(form: Mapping[str, SecretStr | str]) -> dict[str, str]:
    return {
        name: value.get_secret_value() if isinstance(value, SecretStr) else value
        for name, value in form.items()
    }


def _build_unreachable(request: Request, error: Exception) -> Unreachable:
    found = find_network_problem(error)
    problem = build_problem(found.code, host=urlsplit(request.redacted_url).netloc)
    failure = Unreachable(
        found.text,
        method=request.method,
        url=request.redacted_url,
        hint=problem.advice,
        problem=problem,
    )
    failure.smaller_may_help = any(isinstance(cause, _OVERLOADED) for cause in walk_causes(error))
    failure.retryable = not (found.code in _PERMANENT or found.bad_certificate)
    return failure


class Exchange:
    """One request and its response, with a deadline. A context manager.

    Attributes:
        aborted: what was read is not the whole response.
    """

    def __init__(self, seconds: float) -> None:
        """Prepare; entering starts the clock.

        Args:
            seconds: from the request to the last byte of the body.
        """
        self.aborted = False
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._timer = threading.Timer(seconds, self.abort)
        self._timer.daemon = True

    def __enter__(self) -> Exchange:
        """Become the exchange of this thread."""
        _thread.exchange = self
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of the socket, as the pool may give it to another exchange."""
        _thread.exchange = None
        self._timer.cancel()
        with self._lock:
            self._socket = None

    def watch(self, sock: socket.socket | None) -> None:
        """Take the socket over which the response will come."""
        with self._lock:
            self._socket = sock
            aborted = self.aborted
        if aborted:
            self.abort()

    def abort(self) -> None:
        """End the exchange, from any thread: whoever reads from the socket gets no more."""
        with self._lock:
            self.aborted = True
            if self._socket is not None:
                with suppress(OSError):
                    # Not the TLS socket's own method: that waits for nothing either, but takes
                    # the TLS state away from the thread that is reading.
                    socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


class _WatchedConnection:
    """Shows its socket to the exchange of this thread before it waits for the response.

    Attributes:
        debuglevel: at any other level `http.client` prints the headers and the form.
    """

    sock: Any
    debuglevel = 0

    def getresponse(self, *args: Any, **more: Any) -> Any:
        exchange = getattr(_thread, "exchange", None)
        if exchange is not None:
            exchange.watch(self.sock)
        return super().getresponse(*args, **more)  # pyright: ignore[reportAttributeAccessIssue]


def _redact_record(record: logging.LogRecord) -> bool:
    """Redact our URLs in the log of `urllib3`; a logging filter that keeps every record."""
    if getattr(_thread, "exchange", None) is not None and isinstance(record.args, tuple):
        record.args = tuple(
            redact_url(part) if isinstance(part, str) and "?" in part else part
            for part in record.args
        )
    return True


logging.getLogger("urllib3.connectionpool").addFilter(_redact_record)


class AbortableAdapter(HTTPAdapter):
    """Makes connections whose exchanges can be aborted, also through a proxy."""

    def init_poolmanager(self, *args: Any, **more: Any) -> None:
        """Set up pools as `requests` does, with watched connections."""
        super().init_poolmanager(*args, **more)
        _watch_pools(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **more: Any) -> Any:
        """Set up proxy pools as `requests` does, with watched connections."""
        manager = super().proxy_manager_for(proxy, **more)
        _watch_pools(manager)
        return manager


def _watch_pools(manager: urllib3.PoolManager) -> None:
    """Make a manager's pools create watched connections; SOCKS has pool classes of its own."""
    pools = manager.pool_classes_by_scheme
    manager.pool_classes_by_scheme = {name: _watched_pool(pool) for name, pool in pools.items()}


@cache
def _watched_pool(pool: type) -> type:
    if issubclass(pool.ConnectionCls, _WatchedConnection):  # the manager was cached
        return pool
    connection = type("WatchedConnection", (_WatchedConnection, pool.ConnectionCls), {})
    return type("WatchedPool", (pool,), {"ConnectionCls": connection})
