"""One HTTP exchange, which another thread can break off wherever it is blocked.

A socket's timeout starts anew with every byte. A body that drips a byte a second would hold a
load for ever, and Ctrl-C would wait for pages that hang. Shutting the socket down ends both.

Nothing above this module sees an exception of `requests`, which may hold secrets.
"""

from __future__ import annotations

import codecs
import logging
import socket
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
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
from st_pipelines.servicetitan.errors.network import causes_of, find_network_problem
from st_pipelines.servicetitan.errors.problems import build_problem
from st_pipelines.servicetitan.http.cancellation import Cancellation, Cancelled
from st_pipelines.servicetitan.http.messages import Request, Response
from st_pipelines.servicetitan.http.redact import redact_url

_log = logging.getLogger(__name__)
# More than any sensible concurrency: a full pool throws connections away after each request.
POOL_SIZE = 64
_CONNECT_TIMEOUT = 10.0
_CHUNK = 1 << 20
# An answer that drips never times out by itself; so many timeouts are enough for the slowest page.
_TIMEOUTS_IN_ALL = 3
# Troubles of the settings, which asking again does not mend.
_FINAL = ("unusable", "tls-bundle")
_HEADERS = {
    "User-Agent": f"st_pipelines/{__version__}",
    "Accept": "application/json",
    "Accept-Encoding": "gzip, deflate",
}
_JSON_BODY = {"Content-Type": "application/json"}
_TOO_MUCH = (
    requests.exceptions.ReadTimeout,
    requests.exceptions.ChunkedEncodingError,
    urllib3.exceptions.ReadTimeoutError,
)

_here = threading.local()


class Unsigned(AuthBase):
    """Sends no credentials. Given explicitly, or `requests` looks for some in ~/.netrc."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Leave the request as it is."""
        return request


class Signature(Unsigned):
    """Signs a data request; an object, so that no local variable of a traceback shows a secret."""

    def __init__(self, token: SecretStr, app_key: SecretStr) -> None:
        """Keep both until the request is made.

        Args:
            token: sent as `Authorization: Bearer`.
            app_key: sent as `ST-App-Key`.
        """
        self._token = token
        self._app_key = app_key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add both headers."""
        request.headers["Authorization"] = f"Bearer {self._token.get_secret_value()}"
        request.headers["ST-App-Key"] = self._app_key.get_secret_value()
        return request


def new_http_session() -> requests.Session:
    """A session that threads can share: pooled, without cookies, with proxies from the environment.

    Returns:
        A session that repeats nothing by itself.
    """
    session = requests.Session()
    adapter = BreakableAdapter(pool_connections=4, pool_maxsize=POOL_SIZE, max_retries=0)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))
    return session


def send(
    http: requests.Session,
    request: Request,
    *,
    auth: AuthBase,
    timeout: float,
    cancelled: Cancellation | None = None,
) -> Response:
    """Make one exchange and read the whole body.

    Redirects are not followed: the app key would go along to wherever they lead.

    Args:
        http: shared by threads.
        request: method and URL.
        auth: signs the request.
        timeout: seconds without a byte; an answer that keeps dripping is broken off after three
            times as long. (The latter needs a session of `new_http_session`; others are looked at
            between two chunks only.)
        cancelled: breaks the exchange off when it is set.

    Returns:
        The response, whatever its status.

    Raises:
        Unreachable: no complete answer came.
        Cancelled: `cancelled` was set.
    """
    failure: Unreachable
    exchange = Exchange(_TIMEOUTS_IN_ALL * timeout)
    try:
        with _until(cancelled, exchange), exchange:
            return _exchange(http, request, auth, timeout, exchange)
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        late = requests.exceptions.ReadTimeout() if exchange.broken else error
        failure = _unreachable(request, late)
    if cancelled is not None and cancelled.is_set():
        raise Cancelled
    # Raised out here, or the exception above, which holds the headers, would be its __context__.
    raise failure


def _exchange(
    http: requests.Session,
    request: Request,
    auth: AuthBase,
    timeout: float,
    exchange: Exchange,
) -> Response:
    with http.request(
        request.method,
        request.url,
        headers=_HEADERS if request.body is None else _HEADERS | _JSON_BODY,
        data=request.body or _plain_form(request.form),
        auth=auth,
        timeout=(min(timeout, _CONNECT_TIMEOUT), timeout),
        allow_redirects=False,
        stream=True,
    ) as response:
        chunks = []
        for chunk in response.iter_content(_CHUNK):
            chunks.append(chunk)
            if exchange.broken:
                break
        if exchange.broken:  # without a length, the end of the connection looks like the end
            raise requests.exceptions.ReadTimeout
        body = b"".join(chunks).removeprefix(codecs.BOM_UTF8)
        _log.debug(
            "%s %s answered %d, %d bytes",
            request.method, request.shown_url, response.status_code, len(body),
        )  # fmt: skip
        return Response(status=response.status_code, headers=response.headers, body=body)


def _until(cancelled: Cancellation | None, exchange: Exchange) -> AbstractContextManager[None]:
    return nullcontext() if cancelled is None else cancelled.breaking(exchange.break_off)


def _plain_form(form: Mapping[str, SecretStr | str] | None) -> dict[str, str]:
    return {
        name: value.get_secret_value() if isinstance(value, SecretStr) else value
        for name, value in (form or {}).items()
    }


def _unreachable(request: Request, error: Exception) -> Unreachable:
    reason = find_network_problem(error)
    told = build_problem(reason.code, host=urlsplit(request.shown_url).netloc)
    failure = Unreachable(
        reason.text, method=request.method, url=request.shown_url, hint=told.advice, problem=told
    )
    failure.smaller_may_help = any(isinstance(one, _TOO_MUCH) for one in causes_of(error))
    failure.retryable = not (reason.code in _FINAL or reason.bad_certificate)
    return failure


class Exchange:
    """One request and its response, with an end at the latest. A context manager.

    Attributes:
        broken: it was broken off, so that what was read is not the whole response.
    """

    def __init__(self, seconds: float) -> None:
        """Start the clock on entering.

        Args:
            seconds: for everything from the request to the last byte of the body.
        """
        self.broken = False
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._timer = threading.Timer(seconds, self.break_off)
        self._timer.daemon = True

    def __enter__(self) -> Exchange:
        """Be the exchange of this thread."""
        _here.exchange = self
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of the socket: the pool may give it to another exchange."""
        _here.exchange = None
        self._timer.cancel()
        with self._lock:
            self._socket = None

    def watch(self, sock: socket.socket | None) -> None:
        """Take the socket over which the answer will come."""
        with self._lock:
            self._socket = sock
            broken = self.broken
        if broken:
            self.break_off()

    def break_off(self) -> None:
        """End it, from any thread: whoever reads from the socket gets no more."""
        with self._lock:
            self.broken = True
            if self._socket is not None:
                with suppress(OSError):
                    # Not the TLS socket's own method, which waits for nothing but takes its
                    # state away from the thread that is reading.
                    socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


class _Watched:
    """Shows its socket to the exchange of this thread, before waiting for the response.

    Attributes:
        debuglevel: what `http.client` prints at any other holds the headers and the form.
    """

    sock: Any
    debuglevel = 0

    def getresponse(self, *args: Any, **more: Any) -> Any:
        exchange = getattr(_here, "exchange", None)
        if exchange is not None:
            exchange.watch(self.sock)
        return super().getresponse(*args, **more)  # pyright: ignore[reportAttributeAccessIssue]


def _redacted(record: logging.LogRecord) -> bool:
    """Has `urllib3` log our URLs as we would."""
    if getattr(_here, "exchange", None) is not None and isinstance(record.args, tuple):
        record.args = tuple(
            redact_url(part) if isinstance(part, str) and "?" in part else part
            for part in record.args
        )
    return True


logging.getLogger("urllib3.connectionpool").addFilter(_redacted)


class BreakableAdapter(HTTPAdapter):
    """Makes connections whose exchanges can be broken off, also through a proxy."""

    def init_poolmanager(self, *args: Any, **more: Any) -> None:
        """As `requests` does, with connections of our own."""
        super().init_poolmanager(*args, **more)
        _watch(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **more: Any) -> Any:
        """As `requests` does, with connections of our own."""
        manager = super().proxy_manager_for(proxy, **more)
        _watch(manager)
        return manager


def _watch(manager: urllib3.PoolManager) -> None:
    """Has its pools make connections that show their sockets; SOCKS has pools of its own."""
    pools = manager.pool_classes_by_scheme
    manager.pool_classes_by_scheme = {name: _watched(pool) for name, pool in pools.items()}


@cache
def _watched(pool: type) -> type:
    if issubclass(pool.ConnectionCls, _Watched):  # of a manager that was kept
        return pool
    connection = type("WatchedConnection", (_Watched, pool.ConnectionCls), {})
    return type("WatchedPool", (pool,), {"ConnectionCls": connection})
