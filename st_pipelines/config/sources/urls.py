"""Which URLs may be given: https, or this machine."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit


def https_or_loopback(url: str) -> str:
    """The URL without a trailing slash, or "".

    Raises:
        ValueError: it is no https URL, nor one of this machine, or it carries more than a host.
    """
    if not url:
        return url
    parts = urlsplit(url)
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("give the host alone, without user, query or fragment")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url!r} is no URL: give it as https://host")
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        raise ValueError(
            f"{url!r} is not https; http is accepted for this machine (127.0.0.1) only"
        )
    return url.rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
