"""A small ServiceTitan on 127.0.0.1 whose records can be moved between any two requests."""

from __future__ import annotations

import gzip
import itertools
import json
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

from pydantic import SecretStr

from st_pipelines.servicetitan.http.client import Client, Session
from st_pipelines.servicetitan.http.model import Connection, ReadStats
from st_pipelines.servicetitan.http.rate_limit import RateLimiter
from st_pipelines.servicetitan.http.retry import NO_WAIT, Cancellation, RetryPolicy
from st_pipelines_tests.deadlines import DEADLINE

_numbers = itertools.count(1)
CLIENT_SECRET = "cs2.secret/of+the tests"
APP_KEY = "ak1.key-of-the-tests"


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A request that came in."""

    path: str
    query: dict[str, str]
    headers: dict[str, str] = field(repr=False)
    raw_query: str = ""
    method: str = "GET"
    body: bytes = b""

    @property
    def page(self) -> int:
        return int(self.query.get("page", 1))

    @property
    def page_size(self) -> int:
        return int(self.query.get("pageSize", 0))


@dataclass(frozen=True, kw_only=True)
class Canned:
    """A response served instead of records."""

    status: int = 200
    body: bytes | str | dict | list = b""
    headers: dict[str, str] = field(default_factory=dict)
    fault: str = ""  # "reset", "hang", "truncated", "hanging body", "drip", "endless"

    @property
    def content(self) -> bytes:
        if isinstance(self.body, bytes):
            return self.body
        return (self.body if isinstance(self.body, str) else json.dumps(self.body)).encode()


class ScriptedServer:
    """Serves `records` in the API's envelopes, or the responses that a test sets up.

    `before_page` is called with the number of the data request (1, 2, ...) before it is answered:
    this is where tests move records. Requests are answered one at a time.
    """

    def __init__(self) -> None:
        # Ports are reused and tokens outlive a server, so each server needs its own client id.
        self.client_id = f"cid.tests-{next(_numbers)}"
        self.records: list[dict[str, Any]] = []
        self.before_page: Callable[[int, Seen], None] = lambda number, seen: None
        self.rule: Callable[[Seen], Canned | None] = lambda seen: None
        self.canned: deque[Canned] = deque()
        self.canned_tokens: deque[Canned] = deque()
        self.seen: list[Seen] = []
        self.forms: list[dict[str, str]] = []
        self.lifetime: Any = 900
        self.date: datetime | str | None = None  # of the `Date` header; None is the real time
        self.tokens: list[str] = []
        self.revoked: set[str] = set()
        self.cap = 5000
        self.totals = True
        self.zip = False
        self.honors_page = True
        self.envelope = "page"
        self.empty_pages: set[int] = set()
        self.released = threading.Event()
        self.lock = threading.RLock()
        handler = type("Handler", (_Handler,), {"owner": self})
        self._http = _Server(("127.0.0.1", 0), handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.released.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def connection(self, **changes: Any) -> Connection:
        facts: dict[str, Any] = {
            "environment": "sandbox",
            "api_url": self.url,
            "auth_url": self.url,
            "client_id": self.client_id,
            "client_secret": SecretStr(CLIENT_SECRET),
            "app_key": SecretStr(APP_KEY),
            "tenant_id": "4711",
            "requests_per_second": 100_000,
            "timeout": 5,
        }
        return Connection(**facts | changes)

    def client(
        self, *, policy: RetryPolicy = NO_WAIT, limiter: RateLimiter | None = None, **changes: Any
    ) -> Client:
        limiter = limiter or RateLimiter(100_000)
        return Client(self.connection(**changes), policy=policy, limiter=limiter)

    def session(
        self, usage: ReadStats | None = None, cancelled: Cancellation | None = None, **changes: Any
    ) -> Session[ReadStats]:
        return self.client(**changes).session(usage or ReadStats(), cancelled)

    def fill(self, count: int) -> None:
        self.records = [{"id": number, "name": f"n{number}"} for number in range(1, count + 1)]

    def remove(self, *ids: int) -> None:
        self.records = [record for record in self.records if record["id"] not in ids]

    def token(self, form: dict[str, str]) -> Canned:
        self.forms.append(form)
        if self.canned_tokens:
            return self.canned_tokens.popleft()
        token = f"opaque-token-{len(self.tokens)}-of-the-tests"
        self.tokens.append(token)
        return Canned(body={"access_token": token, "expires_in": self.lifetime})

    def answer(self, seen: Seen) -> Canned:
        self.seen.append(seen)
        if self.canned:
            return self.canned.popleft()
        if canned := self.rule(seen):
            return canned
        token = seen.headers.get("authorization", "").removeprefix("Bearer ")
        if token not in self.tokens or token in self.revoked:
            return Canned(status=401)
        self.before_page(len(self.seen), seen)
        return Canned(body=self.page(seen))

    def page(self, seen: Seen) -> dict[str, Any] | list[Any]:
        rising = seen.query.get("sort") == "+Id"
        records = self.records if rising else list(reversed(self.records))
        if self.envelope == "array" and not seen.page_size:
            return records
        size = min(seen.page_size or 50, self.cap)
        number = seen.page if self.honors_page else 1
        begin = (number - 1) * size
        data = [] if number in self.empty_pages else records[begin : begin + size]
        if self.envelope == "array":
            return data
        if self.envelope == "data":
            return {"data": data}
        has_total = self.totals and seen.query.get("includeTotal") == "true"
        return {
            "page": number,
            "pageSize": size,
            "hasMore": begin + size < len(records) or not self.honors_page,
            "totalCount": len(records) if has_total else None,
            "data": data,
        }


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stay silent: in many tests the client is meant to hang up."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True
    owner: ScriptedServer

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def date_time_string(self, timestamp: float | None = None) -> str:
        date = self.owner.date
        if isinstance(date, datetime):
            return format_datetime(date, usegmt=True)
        return date or super().date_time_string(timestamp)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if not self.path.startswith("/connect/token"):
            self.respond(body)
            return
        with self.owner.lock:
            canned = self.owner.token(dict(parse_qsl(body.decode(), keep_blank_values=True)))
        self.serve(canned)

    def do_DELETE(self) -> None:
        self.respond(b"")

    def do_GET(self) -> None:
        self.respond(b"")

    def respond(self, body: bytes) -> None:
        parts = urlsplit(self.path)
        seen = Seen(
            path=parts.path,
            query={name: values[-1] for name, values in parse_qs(parts.query).items()},
            headers={name.lower(): value for name, value in self.headers.items()},
            raw_query=parts.query,
            method=self.command,
            body=body,
        )
        with self.owner.lock:
            canned = self.owner.answer(seen)
        self.serve(canned)

    def serve(self, canned: Canned) -> None:
        self.close_connection = bool(canned.fault)
        if canned.fault == "reset":
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            return
        if canned.fault == "hang":
            self.owner.released.wait(DEADLINE)
            return
        content = canned.content
        self.send_response(canned.status)
        if self.owner.zip:
            content = gzip.compress(content)
            self.send_header("Content-Encoding", "gzip")
        missing = 7 if canned.fault in ("truncated", "hanging body") else 0
        if canned.fault != "endless":
            self.send_header("Content-Length", str(len(content) + missing))
        for name, value in canned.headers.items():
            self.send_header(name, value)
        self.end_headers()
        if canned.fault == "drip":
            self.drip(content)
            return
        if canned.fault == "endless":
            with suppress(OSError):
                while not self.owner.released.is_set():
                    self.wfile.write(content + b" " * 65_536)
            return
        self.wfile.write(content)
        self.wfile.flush()
        if canned.fault == "hanging body":
            self.owner.released.wait(DEADLINE)

    def drip(self, content: bytes) -> None:
        for number in range(len(content)):
            self.wfile.write(content[number : number + 1])
            try:
                self.wfile.flush()
            except OSError:
                return
            self.owner.released.wait(0.02)
