"""An exchange that another thread can break off, wherever it is blocked.

A socket's timeout starts anew with every byte. A body that drips a byte a second would hold a
load for ever, and Ctrl-C would wait for pages that hang. Shutting the socket down ends both.
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

from st_pipelines.servicetitan.http.redact import redact_url

_here = threading.local()


class Exchange:
    """One request and its answer, with an end at the latest. A context manager.

    Attributes:
        broken: it was broken off, so that what was read is not the whole answer.
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
    """Shows its socket to the exchange of this thread, before waiting for the answer.

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
