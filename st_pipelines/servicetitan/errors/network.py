"""Why no answer came, from the exceptions that `requests` and what lies below it wrap in another.

Only kinds and numbers are looked at: their texts carry the URL with its query, or a header.
"""

from __future__ import annotations

import http.client
import re
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import requests
import urllib3

_Kinds: TypeAlias = type[BaseException] | tuple[type[BaseException], ...]
_CUT = (http.client.IncompleteRead, urllib3.exceptions.IncompleteRead)
_LATE = (requests.exceptions.Timeout, urllib3.exceptions.TimeoutError)
_CLOSED = (ConnectionError, http.client.HTTPException)
_REASONS: tuple[tuple[_Kinds, str, str], ...] = (
    (ssl.SSLCertVerificationError, "tls", "the server's certificate is not accepted"),
    # Before what may have befallen the connection to the proxy.
    (requests.exceptions.ProxyError, "proxy-refuses", "the proxy does not let the request through"),
    (urllib3.exceptions.NameResolutionError, "dns", "the host name does not resolve"),
    # Before the timeouts, of which `urllib3` makes every failed connection one.
    (ConnectionRefusedError, "refused", "the connection was refused"),
    (urllib3.exceptions.NewConnectionError, "no-connection", "no connection could be made"),
    (requests.exceptions.ConnectTimeout, "no-connection", "no connection within the timeout"),
    (_LATE, "no-answer", "no answer in time"),
    (requests.exceptions.SSLError, "tls", "the TLS connection failed"),
    (requests.exceptions.ContentDecodingError, "broken-off", "the body is not valid gzip"),
    (_CUT, "broken-off", "the body was cut short"),
    (
        requests.exceptions.ChunkedEncodingError,
        "broken-off",
        "the connection broke within the body",
    ),
    (_CLOSED, "broken-off", "the connection was closed without an answer"),
)
# X509_V_ERR_* of OpenSSL
_CERTIFICATES = {
    9: "tls-out-of-date",
    10: "tls-out-of-date",
    18: "tls-self-signed",
    19: "tls-unknown-authority",
    20: "tls-unknown-authority",
    21: "tls-unknown-authority",
    62: "tls-other-name",
    64: "tls-other-name",
}
_NO_TUNNEL = re.compile(r"Tunnel connection failed: (\d{3})")
_SOCKS = {
    "ProxyConnectionError": "proxy-unreachable",
    "SOCKS5AuthError": "proxy-credentials",
}
_NO_BUNDLE = "Could not find a suitable TLS CA certificate bundle"


@dataclass(frozen=True, kw_only=True)
class NetworkProblem:
    """Why no answer came.

    Attributes:
        code: of the trouble that it is.
        text: what happened, in our own words.
        bad_certificate: it will not become valid by asking again.
    """

    code: str
    text: str
    bad_certificate: bool = False


def find_network_problem(error: BaseException) -> NetworkProblem:
    """The reason, by the first of all wrapped exceptions that tells one."""
    causes = tuple(causes_of(error))
    code, text = "network", f"the request could not be made ({type(error).__name__})"
    if isinstance(error, ValueError) and not isinstance(error, requests.JSONDecodeError):
        code = "unusable"
    for kind, its_code, its_text in _REASONS:
        if any(isinstance(one, kind) for one in causes):
            code, text = its_code, its_text
            break
    if any(_is_about_the_bundle(one) for one in causes):
        code = "tls-bundle"
    if code == "proxy-refuses":
        code = _of_proxy(causes)
    # PySocks is an extra of `requests`, known here by the name of its module.
    for one in causes:
        if type(one).__module__ == "socks":
            code = _SOCKS.get(type(one).__name__, "proxy-refuses")
    certificates = [one for one in causes if isinstance(one, ssl.SSLCertVerificationError)]
    for certificate in certificates:
        code = _CERTIFICATES.get(certificate.verify_code, code)
    return NetworkProblem(code=code, text=text, bad_certificate=bool(certificates))


def causes_of(error: BaseException) -> Iterator[BaseException]:
    """The exception and everything that it wraps, in each of the ways that the libraries use."""
    todo: list[object] = [error]
    seen: set[int] = set()
    while todo:
        one = todo.pop()
        if not isinstance(one, BaseException) or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        todo += [one.__cause__, one.__context__, getattr(one, "reason", None), *one.args]


def _is_about_the_bundle(error: BaseException) -> bool:
    """Whether the file with authorities is missing, in `requests`' words, or holds none."""
    if isinstance(error, ssl.SSLError):
        return error.reason == "NO_CERTIFICATE_OR_CRL_FOUND"
    return isinstance(error, OSError) and str(error).startswith(_NO_BUNDLE)


def _of_proxy(causes: tuple[BaseException, ...]) -> str:
    for one in causes:
        if isinstance(one, OSError) and (status := _NO_TUNNEL.search(str(one))):
            return "proxy-credentials" if status[1] == "407" else "proxy-refuses"
    return "proxy-unreachable"
