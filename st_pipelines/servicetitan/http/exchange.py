"""Lets another thread abort an HTTP exchange, wherever it is blocked.

A socket's timeout starts over with every byte. A body that trickles in at a byte a second would
block a load forever, and Ctrl-C would wait for pages that hang. Shutting the socket down ends both.
"""

from __future__ import annotations

import logging
import socket
import threading
from contextlib import suppress
from functools import cache
from typing import Any

import urllib3
from requests.adapters import HTTPAdapter

from st_pipelines.servicetitan.http.redact import HIDDEN, redact_url

_thread = threading.local()  # its `exchange` is the one in progress in this thread


class Exchange:
    """One request and its response, with a deadline. A context manager.

    Attributes:
        aborted: what was read is not the whole response.
        hides_path: no log may show the path of the URL.
    """

    def __init__(self, seconds: float, *, hides_path: bool = False) -> None:
        """Prepare; entering starts the clock.

        Args:
            seconds: from the request to the last byte of the body, or to the next `extend`.
        """
        self.aborted = False
        self.hides_path = hides_path
        self._seconds = seconds
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._timer = self._new_timer()

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

    def extend(self) -> None:
        """Start the clock again, because a long body makes progress."""
        self._timer.cancel()
        self._timer = self._new_timer()
        self._timer.start()

    def _new_timer(self) -> threading.Timer:
        timer = threading.Timer(self._seconds, self.abort)
        timer.daemon = True
        return timer

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
    exchange = getattr(_thread, "exchange", None)
    if exchange is not None and isinstance(record.args, tuple):
        record.args = tuple(
            _redact_part(part, exchange.hides_path) if isinstance(part, str) else part
            for part in record.args
        )
    return True


def _redact_part(part: str, hides_path: bool) -> str:
    if hides_path and part.startswith("/"):
        return f"/{HIDDEN}"
    return redact_url(part) if "?" in part else part


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
