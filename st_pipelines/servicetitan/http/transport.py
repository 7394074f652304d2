"""Makes one HTTP exchange: no redirects, no cookies, no credentials but its own, a limited size.

Exceptions of `requests` do not leave this module, as they may hold secrets. Retries, rate limits
and tokens are the business of `client`.
"""

from __future__ import annotations

import codecs
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from http.cookiejar import DefaultCookiePolicy
from typing import TypeAlias
from urllib.parse import urlsplit

import requests
import urllib3
from pydantic import SecretStr
from requests.auth import AuthBase

from st_pipelines import __version__
from st_pipelines.servicetitan.errors.errors import (
    ResponseTooLarge,
    UnexpectedResponse,
    Unreachable,
)
from st_pipelines.servicetitan.errors.network import find_network_problem, walk_causes
from st_pipelines.servicetitan.errors.problems import build_problem
from st_pipelines.servicetitan.http.exchange import AbortableAdapter, Exchange
from st_pipelines.servicetitan.http.model import MAX_ERROR_BODY_BYTES, Request, Response
from st_pipelines.servicetitan.http.retry import Cancellation, Cancelled
from st_pipelines.servicetitan.http.server_clock import measure_elapsed

_log = logging.getLogger(__name__)
# More than any sensible concurrency: a full pool closes connections after each request.
POOL_SIZE = 64
_CONNECT_TIMEOUT_SECONDS = 10.0
_CHUNK_BYTES = 1 << 20
_STREAM_CHUNK_BYTES = 256 << 10
_PROGRESS_BYTES = 8 << 20
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
_DECODABLE = tuple(urllib3.response.HTTPResponse.CONTENT_DECODERS)
_ENCODING_NAME = re.compile(r"[a-z0-9-]{1,20}", re.ASCII)

Receive: TypeAlias = Callable[[int, Mapping[str, str], Iterator[bytes]], None]
"""Takes the status, the headers (case-insensitive) and the body of a 2xx in chunks."""


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


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> None:
        """Looks for no redirect: `requests` parses the target even if it is not to be followed."""


def new_http_session() -> requests.Session:
    """Open a session that threads can share: pooled, without cookies or retries.

    Proxies come from the environment.
    """
    http = _Session()
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
    max_mb: int = 1,
    cancelled: Cancellation | None = None,
    headers: Mapping[str, str] | None = None,
    receive: Receive | None = None,
) -> Response:
    """Make one exchange and read the body: the whole of a 2xx, the beginning of any other.

    Redirects are not followed, as the app key would travel along to wherever they lead.

    Args:
        timeout: seconds without a byte. An exchange in which bytes keep trickling in is aborted
            after three times as long; that needs a session of `new_http_session`, others are only
            checked between two chunks.
        max_mb: megabytes of the body of a 2xx, counted while it is decompressed, so that neither a
            body without an end nor one that expands a thousandfold fills the memory.
        cancelled: aborts the exchange when it is set.
        headers: replace those of the same name that every request has.
        receive: takes the body of a 2xx piece by piece, so that the response has none. It is
            called with status, headers and an iterator of chunks, which raises when the body ends
            too early. It must raise neither OSError nor ValueError: they count as lost connections.
            The exchange may last as long as the body makes progress.

    Raises:
        Unreachable: no complete response came.
        ResponseTooLarge: the body of a 2xx is larger than `max_mb`.
        UnexpectedResponse: the body has an encoding that was not asked for.
        Cancelled: `cancelled` was set.
    """
    failure: Unreachable
    exchange = Exchange(_MAX_TIMEOUTS_PER_EXCHANGE * timeout, hides_path=request.hides_path)
    try:
        watching = nullcontext() if cancelled is None else cancelled.aborting(exchange.abort)
        with (
            watching,
            exchange,
            _open(http, request, auth, timeout, headers or {}) as response,
        ):
            return _read(response, request, exchange, max_mb, receive)
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        cause = requests.exceptions.ReadTimeout() if exchange.aborted else error
        failure = _build_unreachable(request, cause)
    if cancelled is not None and cancelled.is_set():
        raise Cancelled
    # Raised out here, or the exception above, which holds the headers, would be its __context__.
    raise failure


def _open(
    http: requests.Session,
    request: Request,
    auth: AuthBase,
    timeout: float,
    headers: Mapping[str, str],
) -> requests.Response:
    own = _HEADERS if request.body is None else _HEADERS | _JSON_BODY
    return http.request(
        request.method,
        request.url,
        headers={**own, **headers},
        data=_reveal_form(request.form) if request.form else request.body,
        auth=auth,
        timeout=(min(timeout, _CONNECT_TIMEOUT_SECONDS), timeout),
        allow_redirects=False,
        stream=True,
    )


def _read(
    response: requests.Response,
    request: Request,
    exchange: Exchange,
    max_mb: int,
    receive: Receive | None,
) -> Response:
    received_at = measure_elapsed()
    is_success = 200 <= response.status_code < 300
    if receive is not None and is_success:
        _require_known_encoding(request, response)
        receive(response.status_code, response.headers, _iterate_body(response, exchange))
        body = b""
    else:
        limit = max_mb << 20 if is_success else MAX_ERROR_BODY_BYTES
        body = _read_body(response, limit, exchange)
        if len(body) > limit and is_success:
            raise _build_too_large(request, response.status_code, max_mb)
        _require_known_encoding(request, response)
        body = body[:limit].removeprefix(codecs.BOM_UTF8)
    if _log.isEnabledFor(logging.DEBUG):  # redacting a URL is not free
        shown = (request.method, request.redacted_url, response.status_code, len(body))
        _log.debug("%s %s answered %d, %d bytes", *shown)
    return Response(
        status=response.status_code,
        headers=response.headers,
        body=body,
        received_at=received_at,
    )


def _iterate_body(response: requests.Response, exchange: Exchange) -> Iterator[bytes]:
    """Yield a body of any length; its deadline moves on with every `_PROGRESS_BYTES`."""
    since_extended = 0
    for chunk in response.iter_content(_STREAM_CHUNK_BYTES):
        if exchange.aborted:
            break
        yield chunk
        since_extended += len(chunk)
        if since_extended >= _PROGRESS_BYTES:
            exchange.extend()
            since_extended = 0
    if exchange.aborted:  # without a length, a closed connection looks like the end
        raise requests.exceptions.ReadTimeout


def _read_body(response: requests.Response, limit: int, exchange: Exchange) -> bytes:
    """Read a body up to its end, or until more than `limit` bytes have come."""
    chunks, received = [], 0
    for chunk in response.iter_content(min(_CHUNK_BYTES, limit + 1)):
        chunks.append(chunk)
        received += len(chunk)
        if exchange.aborted or received > limit:
            break
    if exchange.aborted:  # without a length, a closed connection looks like the end
        raise requests.exceptions.ReadTimeout
    return b"".join(chunks)


def _build_too_large(request: Request, status: int, max_mb: int) -> ResponseTooLarge:
    return ResponseTooLarge(
        f"answered {status} with more than {max_mb} MB",
        method=request.method,
        url=request.redacted_url,
        status=status,
        problem=build_problem("response-too-large", limit=str(max_mb)),
    )


def _require_known_encoding(request: Request, response: requests.Response) -> None:
    """Refuse a body that `urllib3` has left encoded, such as br, which was not asked for.

    Raises:
        UnexpectedResponse: its Content-Encoding is none that this process can decode.
    """
    names = [
        name.strip().lower() for name in response.headers.get("Content-Encoding", "").split(",")
    ]
    unknown = [name for name in names if name not in ("", "identity", *_DECODABLE)]
    if not unknown or not response.ok:
        return
    name = f"'{unknown[0]}'" if _ENCODING_NAME.fullmatch(unknown[0]) else "with an odd name"
    raise UnexpectedResponse(
        f"answered {response.status_code} with the Content-Encoding {name}, although only gzip and "
        "deflate were asked for",
        method=request.method,
        url=request.redacted_url,
        status=response.status_code,
        problem=build_problem("undecodable", host=urlsplit(request.redacted_url).netloc),
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
