"""One HTTP exchange. Nothing above it sees an exception of `requests`, which may hold secrets."""

from __future__ import annotations

import codecs
import logging
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from http.cookiejar import DefaultCookiePolicy
from urllib.parse import urlsplit

import requests
import urllib3
from pydantic import SecretStr
from requests.auth import AuthBase

from st_pipelines import __version__
from st_pipelines.servicetitan.errors.errors import Unreachable
from st_pipelines.servicetitan.errors.network import causes_of, find_network_problem
from st_pipelines.servicetitan.errors.problems import build_problem
from st_pipelines.servicetitan.http.cancellation import Cancellation, Cancelled
from st_pipelines.servicetitan.http.exchange import BreakableAdapter, Exchange
from st_pipelines.servicetitan.http.messages import Request, Response

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
_TOO_MUCH = (
    requests.exceptions.ReadTimeout,
    requests.exceptions.ChunkedEncodingError,
    urllib3.exceptions.ReadTimeoutError,
)


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


def new_session() -> requests.Session:
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
    session: requests.Session,
    asked: Request,
    *,
    auth: AuthBase,
    timeout: float,
    form: Mapping[str, SecretStr | str] | None = None,
    cancelled: Cancellation | None = None,
) -> Response:
    """Make one exchange and read the whole body.

    Redirects are not followed: the app key would go along to wherever they lead.

    Args:
        session: shared by threads.
        asked: method and URL.
        auth: signs the request.
        timeout: seconds without a byte; an answer that keeps dripping is broken off after three
            times as long. (The latter needs a session of `new_session`; others are looked at
            between two chunks only.)
        form: sent form-encoded.
        cancelled: breaks the exchange off when it is set.

    Returns:
        The answer, whatever its status.

    Raises:
        Unreachable: no complete answer came.
        Cancelled: `cancelled` was set.
    """
    failure: Unreachable
    exchange = Exchange(_TIMEOUTS_IN_ALL * timeout)
    try:
        with _until(cancelled, exchange), exchange:
            return _exchange(session, asked, auth, timeout, form, exchange)
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        late = requests.exceptions.ReadTimeout() if exchange.broken else error
        failure = _unreachable(asked, late)
    if cancelled is not None and cancelled.is_set():
        raise Cancelled
    # Raised out here, or the exception above, which holds the headers, would be its __context__.
    raise failure


def _exchange(
    session: requests.Session,
    asked: Request,
    auth: AuthBase,
    timeout: float,
    form: Mapping[str, SecretStr | str] | None,
    exchange: Exchange,
) -> Response:
    with session.request(
        asked.method,
        asked.url,
        headers=_HEADERS,
        data=form and {name: _plain(value) for name, value in form.items()},
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
            asked.method, asked.shown_url, response.status_code, len(body),
        )  # fmt: skip
        return Response(status=response.status_code, headers=response.headers, body=body)


def _until(cancelled: Cancellation | None, exchange: Exchange) -> AbstractContextManager[None]:
    return nullcontext() if cancelled is None else cancelled.breaking(exchange.break_off)


def _plain(value: SecretStr | str) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else value


def _unreachable(asked: Request, error: Exception) -> Unreachable:
    reason = find_network_problem(error)
    told = build_problem(reason.code, host=urlsplit(asked.shown_url).netloc)
    failure = Unreachable(
        reason.text, method=asked.method, url=asked.shown_url, hint=told.advice, problem=told
    )
    failure.smaller_may_help = any(isinstance(one, _TOO_MUCH) for one in causes_of(error))
    failure.retryable = not (reason.code in _FINAL or reason.bad_certificate)
    return failure
