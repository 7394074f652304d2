"""Downloads one file to this machine: streamed, resumed after a cut, through redirects.

ServiceTitan's documents say of these operations that they serve the file or answer 302, and of one
that the 302 leads to a temporary address. Only a 302 is followed, only to https, and no credential
leaves ServiceTitan's API host: the address itself is the permission there. Whether servers honor
`Range` is unknown. One that does not sends the file from its beginning again.

No message holds more of a redirect's address than its host, as the rest may name a customer's file.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import IO, Any
from urllib.parse import SplitResult, urljoin, urlsplit

from st_pipelines.servicetitan.errors.errors import (
    ResponseTooLarge,
    ServiceTitanError,
    ServiceUnavailable,
    UnexpectedResponse,
)
from st_pipelines.servicetitan.http.client import Session
from st_pipelines.servicetitan.http.diagnosis import WEB_PAGE
from st_pipelines.servicetitan.http.model import Request, Response, Usage
from st_pipelines.servicetitan.http.responses import build_error, read_error_body
from st_pipelines.servicetitan.http.retry import call_with_retries, parse_retry_after
from st_pipelines.servicetitan.http.tokens import read_token_claims
from st_pipelines.servicetitan.http.transport import Unsigned, send

MAX_REDIRECTS = 5
_MISSING = (404, 410)
_WITHOUT_CONTENT = (204, 205)
_WITH_CONTENT = (200, 203, 206)
_PARTIAL = 206
_TRANSIENT = (408, 425, 429)
_DEFAULT_PORTS = {"https": 443, "http": 80}
_HEADERS = {"Accept": "*/*", "Accept-Encoding": "identity"}
_MEDIA_TYPE = re.compile(
    r"\s{0,9}([a-z0-9][\w.+-]{0,63}/[a-z0-9][\w.+-]{0,63})\s{0,9}(?:[;,]|$)", re.ASCII
)
# With the length of the file: without it, nothing tells whether a part reaches the file's end.
_PART = re.compile(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18})", re.ASCII | re.IGNORECASE)


class CannotWrite(Exception):
    """This machine did not take the bytes. `__cause__` is the OSError."""


class FileNotServed(Exception):
    """ServiceTitan has no such file: it answered 404 or 410."""


@dataclass
class Target:
    """A local file that a body is written to, in one piece or several.

    Attributes:
        path: created with access for its owner alone.
        max_bytes: a larger file is refused.
        accepts: whether such a file may have a media type; it gets `media_type`.
        received: bytes written so far.
        media_type: as served, in small letters and without parameters; "" if it is none.
    """

    path: Path
    max_bytes: int
    accepts: Callable[[str], bool] = lambda media_type: True
    received: int = 0
    media_type: str = ""
    _version: str = ""
    _size: int | None = None
    _digest: Any = field(default_factory=hashlib.sha256, repr=False)

    @property
    def sha256(self) -> str:
        """The digest of what was received, in hexadecimal."""
        return self._digest.hexdigest()

    def request_headers(self) -> dict[str, str]:
        """Return the headers of a request for the file, or for the part of it that is missing."""
        if not (self.received and self._version):
            return _HEADERS
        return {**_HEADERS, "Range": f"bytes={self.received}-", "If-Range": self._version}

    def receive(self, status: int, headers: Mapping[str, str], chunks: Iterator[bytes]) -> None:
        """Write a body, as a `transport.Receive`.

        Raises:
            CannotWrite: the disk is full, for example.
            ResponseTooLarge: the file is larger than `max_bytes`.
            UnexpectedResponse: it is not such a file, or not the part that was requested.
        """
        if status not in _WITH_CONTENT:
            return
        self._begin(status, headers)
        with self._open() as file:
            for chunk in chunks:
                if self.received + len(chunk) > self.max_bytes:
                    raise self._build_too_large()
                self._write(file, chunk)
        self._check_end()

    def _begin(self, status: int, headers: Mapping[str, str]) -> None:
        """Check the headers, and start over unless they announce the part that was requested."""
        self.media_type = read_media_type(headers)
        if not self.accepts(self.media_type):
            raise UnexpectedResponse(f"answered {status} with {self.media_type} instead of a file")
        if status == _PARTIAL:
            part = _PART.match(headers.get("Content-Range", "").strip())
            if part is None or int(part[1]) != self.received:
                self._reset()
                raise UnexpectedResponse("answered 206 with another part than the requested one")
            self._size = int(part[2])
        else:
            self._reset()
        declared = headers.get("Content-Length", "").strip()
        if declared.isdecimal() and self.received + int(declared) > self.max_bytes:
            raise self._build_too_large()
        self._version = _read_version(headers)

    def _check_end(self) -> None:
        """Check that a part has reached the end of the file, which servers need not send at once.

        What was received stays, so that the next attempt requests the rest.
        """
        if self._size is None or self.received == self._size:
            return
        if self.received > self._size:
            self._reset()
        raise UnexpectedResponse("answered 206 with a part that does not end where the file does")

    def _reset(self) -> None:
        self.received, self._version, self._digest = 0, "", hashlib.sha256()
        self._size = None

    def _open(self) -> IO[bytes]:
        flags = os.O_WRONLY | os.O_CREAT | (os.O_APPEND if self.received else os.O_TRUNC)
        try:
            return os.fdopen(os.open(self.path, flags, 0o600), "wb", buffering=0)
        except OSError as error:
            raise CannotWrite from error

    def _write(self, file: IO[bytes], chunk: bytes) -> None:
        try:
            rest = memoryview(chunk)
            while rest:
                rest = rest[file.write(rest) :]
        except OSError as error:
            raise CannotWrite from error
        self._digest.update(chunk)
        self.received += len(chunk)

    def _build_too_large(self) -> ResponseTooLarge:
        return ResponseTooLarge(
            f"serves a file of more than {self.max_bytes:,} bytes",
            hint="Raise ST_FILES_MAX_MB to store it.",
        )


def read_media_type(headers: Mapping[str, str]) -> str:
    """Return the media type of a response in small letters, without parameters; "" for none."""
    found = _MEDIA_TYPE.match(headers.get("Content-Type", "").lower())
    return found[1] if found else ""


def download(
    session: Session[Usage], path: str, params: Mapping[str, str], target: Target, *, scope: str
) -> None:
    """Download one file. A cut body is continued where the server allows that.

    Args:
        path, params, scope: as for `Session.fetch`.
        target: where to. An empty file has received nothing.

    Raises:
        FileNotServed: there is no such file.
        CannotWrite: this machine does not take it.
        ServiceTitanError: one of its subclasses, after the retries.
        Cancelled: the session is cancelled.
    """
    request = session.build_request(path, params, scope=scope)
    call_with_retries(
        session.client.policy,
        partial(_attempt, session, request, target),
        cancelled=session.cancelled,
        before_wait=session.client.pause_after_429,
    )


def _attempt(session: Session[Usage], request: Request, target: Target) -> None:
    try:
        _exchange(session, request, target)
    except ServiceTitanError as error:
        if not error.url:
            error.method, error.url = request.method, request.redacted_url
        raise


def _exchange(session: Session[Usage], request: Request, target: Target) -> None:
    signed, response = session.send_signed(
        request, headers=target.request_headers(), receive=target.receive
    )
    sent, redirects = signed, 0
    while response.status == 302:
        if redirects == MAX_REDIRECTS:
            raise UnexpectedResponse(f"redirected more than {MAX_REDIRECTS} times")
        redirects += 1
        sent, response = _follow(session, sent, response, target)
    session.usage.add(received=target.received)
    if response.status in _WITH_CONTENT:
        return
    if response.status in _WITHOUT_CONTENT:
        target.receive(200, {}, iter(()))
    elif response.status in _MISSING and not _is_from_gateway(sent, response):
        raise FileNotServed
    elif sent.token is None:
        raise _build_storage_error(sent, response)
    elif 200 <= response.status < 300:
        raise UnexpectedResponse(f"answered {response.status}, which does not send a file")
    else:
        raise build_error(sent, response, claims=read_token_claims(sent.token))


def _follow(
    session: Session[Usage], sent: Request, response: Response, target: Target
) -> tuple[Request, Response]:
    """Follow a redirect: signed on ServiceTitan's own host, without any credentials elsewhere."""
    connection = session.client.connection
    url, parts = _resolve(sent.url, response.headers.get("Location", ""))
    own = urlsplit(connection.api_url)
    if parts.scheme != "https" and (own.scheme, parts.scheme) != ("http", "http"):
        raise UnexpectedResponse("redirected to an address that is not https")
    following = Request(
        method="GET", url=url, secrets=sent.secrets, tenant=sent.tenant, hides_path=True
    )
    headers, receive = target.request_headers(), target.receive
    if sent.token is not None and _origin(parts) == _origin(own):
        return session.send_signed(following, headers=headers, receive=receive)
    session.usage.add(requests=1)
    return following, send(
        session.client.http,
        following,
        auth=Unsigned(),
        timeout=connection.timeout,
        cancelled=session.cancelled,
        headers=headers,
        receive=receive,
    )


def _resolve(base: str, location: str) -> tuple[str, SplitResult]:
    """Return the address of a redirect without its fragment. Raise UnexpectedResponse for none."""
    try:
        parts = urlsplit(urljoin(base, location.strip()))._replace(fragment="")
        _ = parts.port  # raises if it is none
    except ValueError:
        parts = SplitResult("", "", "", "", "")
    if not location.strip() or parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
        raise UnexpectedResponse("redirected without an address")
    if parts.username is not None or parts.password is not None:
        raise UnexpectedResponse("redirected to an address with a user name")
    return parts.geturl(), parts


def _origin(parts: SplitResult) -> tuple[str, str | None, int | None]:
    return parts.scheme, parts.hostname, parts.port or _DEFAULT_PORTS.get(parts.scheme)


def _is_from_gateway(sent: Request, response: Response) -> bool:
    """Whether a 404 is about the path, and not about the file.

    ServiceTitan's gateway answers `statusCode` and `message` for an operation that it does not
    have, and a proxy an HTML page. The storage host of a redirect answers for the file.
    """
    if sent.token is None:
        return False
    if read_error_body(sent, response).searched.startswith(WEB_PAGE):
        return True
    try:
        body = json.loads(response.body)
    except (ValueError, RecursionError):
        return False
    return isinstance(body, dict) and "statusCode" in body


def _build_storage_error(sent: Request, response: Response) -> ServiceTitanError:
    """Build the error of a host that ServiceTitan redirected to.

    Its 403 says that the temporary address has expired, and nothing about our permissions: the next
    attempt gets a new address.
    """
    status = response.status
    kind = ServiceUnavailable if status >= 500 or status in _TRANSIENT else UnexpectedResponse
    return kind(
        f"answered {status}, after ServiceTitan had redirected there",
        method=sent.method,
        url=sent.redacted_url,
        status=status,
        retry_after=parse_retry_after(response.headers, "", datetime.now(timezone.utc)),
    )


def _read_version(headers: Mapping[str, str]) -> str:
    """Return what identifies this version of the file for `If-Range`; "" if a part is no use.

    An encoded body is none: its parts do not add up to the file. A weak ETag does not promise equal
    bytes.
    """
    if headers.get("Content-Encoding", "").strip().lower() not in ("", "identity"):
        return ""
    tag = headers.get("ETag", "").strip()
    return tag if tag.startswith('"') else headers.get("Last-Modified", "").strip()
