"""Keeps web pages in a browser on this machine away from the sandbox.

Any page can send requests to 127.0.0.1, and a host name of its own can point there too ("DNS
rebinding"). Browsers reveal this: `Host` or `Origin` names the page's host, or `Sec-Fetch-Site`
says that it is another site. Programs given the sandbox's URL send this machine's name in `Host`,
and neither of the others.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from st_pipelines.sandbox.responses import build_json_response

HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})
"""The names of this machine, at which the sandbox listens."""


class LocalOnly:
    """An ASGI middleware that refuses, with 403, what a web page of another origin has sent."""

    def __init__(self, application: ASGIApp) -> None:
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a refused request, and pass all others on."""
        reason = find_refusal(Headers(scope=scope)) if scope["type"] == "http" else ""
        if scope["type"] == "websocket":  # the sandbox has none, and a page may open one anywhere
            return
        if reason:
            body = {"error": f"the sandbox serves programs on this machine only: {reason}"}
            await build_json_response(body, 403)(scope, receive, send)
            return
        await self._application(scope, receive, send)


def find_refusal(headers: Headers) -> str:
    """Return why a request is refused; an empty text if it is not."""
    hosts, origins = headers.getlist("host"), headers.getlist("origin")
    if len(hosts) != 1 or _read_host(f"//{hosts[0]}") not in HOSTS:
        return "Host is not a name of this machine"
    if any(origin.lower() != f"http://{hosts[0]}".lower() for origin in origins):
        return "Origin is another one"
    if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        return "a page of another site has sent the request"
    return ""


def _read_host(url: str) -> str:
    try:
        parts = urlsplit(url)
        return "" if parts.username is not None or parts.path else (parts.hostname or "")
    except ValueError:
        return ""
