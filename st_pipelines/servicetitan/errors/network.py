"""Finds out why no response came, from the exceptions that `requests` and its libraries nest.

Only their types and numbers are used, as their texts carry the URL with its query, or a header.
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

_Types: TypeAlias = type[BaseException] | tuple[type[BaseException], ...]
_CUT = (http.client.IncompleteRead, urllib3.exceptions.IncompleteRead)
_TIMED_OUT = (requests.exceptions.Timeout, urllib3.exceptions.TimeoutError)
_CLOSED = (ConnectionError, http.client.HTTPException)
_UNDECODABLE = (requests.exceptions.ContentDecodingError, urllib3.exceptions.DecodeError)
_CHUNKED = requests.exceptions.ChunkedEncodingError
# Exception types, problem code, text; the first match counts.
_RULES: tuple[tuple[_Types, str, str], ...] = (
    (ssl.SSLCertVerificationError, "tls", "the server's certificate is not accepted"),
    # Before the rules for connections, as the one to the proxy may have failed.
    (requests.exceptions.ProxyError, "proxy-refuses", "the proxy does not let the request through"),
    (urllib3.exceptions.NameResolutionError, "dns", "the host name does not resolve"),
    # Before the timeouts, as `urllib3` turns every failed connection into one.
    (ConnectionRefusedError, "refused", "the connection was refused"),
    (urllib3.exceptions.NewConnectionError, "no-connection", "no connection could be made"),
    (requests.exceptions.ConnectTimeout, "no-connection", "no connection within the timeout"),
    (_TIMED_OUT, "no-answer", "no answer in time"),
    (requests.exceptions.SSLError, "tls", "the TLS connection failed"),
    (_UNDECODABLE, "undecodable", "the body is not compressed as its Content-Encoding says"),
    (_CUT, "broken-off", "the body was cut short"),
    (_CHUNKED, "broken-off", "the connection broke within the body"),
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
_TUNNEL_FAILED = re.compile(r"Tunnel connection failed: (\d{3})")
_SOCKS = {
    "ProxyConnectionError": "proxy-unreachable",
    "SOCKS5AuthError": "proxy-credentials",
}
_BUNDLE_MISSING = "Could not find a suitable TLS CA certificate bundle"


@dataclass(frozen=True, kw_only=True)
class NetworkProblem:
    """Why no response came.

    Attributes:
        code: of the problem in `problems`.
        text: what happened, in our own words.
        bad_certificate: a retry will not make it valid.
    """

    code: str
    text: str
    bad_certificate: bool = False


def find_network_problem(error: BaseException) -> NetworkProblem:
    """Find the problem behind an exception, by the nested exceptions that identify it."""
    causes = tuple(walk_causes(error))
    code, text = "network", f"the request could not be made ({type(error).__name__})"
    if isinstance(error, ValueError) and not isinstance(error, requests.JSONDecodeError):
        code = "unusable"
    for types, its_code, its_text in _RULES:
        if any(isinstance(cause, types) for cause in causes):
            code, text = its_code, its_text
            break
    if any(_concerns_ca_bundle(cause) for cause in causes):
        code = "tls-bundle"
    if code == "proxy-refuses":
        code = _choose_proxy_code(causes)
    # PySocks is an optional extra of `requests`, so its exceptions are matched by module name.
    for cause in causes:
        if type(cause).__module__ == "socks":
            code = _SOCKS.get(type(cause).__name__, "proxy-refuses")
    certificates = [cause for cause in causes if isinstance(cause, ssl.SSLCertVerificationError)]
    for certificate in certificates:
        code = _CERTIFICATES.get(certificate.verify_code, code)
    return NetworkProblem(code=code, text=text, bad_certificate=bool(certificates))


def walk_causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the exception and all that it nests, in each of the ways that the libraries use."""
    pending: list[object] = [error]
    seen: set[int] = set()
    while pending:
        cause = pending.pop()
        if not isinstance(cause, BaseException) or id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        pending += [cause.__cause__, cause.__context__, getattr(cause, "reason", None), *cause.args]


def _concerns_ca_bundle(error: BaseException) -> bool:
    """Whether the file of certificate authorities is missing (by `requests`' words) or empty."""
    if isinstance(error, ssl.SSLError):
        return error.reason == "NO_CERTIFICATE_OR_CRL_FOUND"
    return isinstance(error, OSError) and str(error).startswith(_BUNDLE_MISSING)


def _choose_proxy_code(causes: tuple[BaseException, ...]) -> str:
    for cause in causes:
        if isinstance(cause, OSError) and (status := _TUNNEL_FAILED.search(str(cause))):
            return "proxy-credentials" if status[1] == "407" else "proxy-refuses"
    return "proxy-unreachable"
