"""The vendors' libraries: imported on first use, and kept from logging secrets.

The sources that use them are `aws`, `azure` and `vault`.
"""

from __future__ import annotations

import http.client
import importlib
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from st_pipelines.config.errors import SettingsError

if TYPE_CHECKING:
    import requests

_CHATTY = ("azure", "boto3", "botocore", "hvac", "msal", "requests", "urllib3")
_lock = threading.RLock()


class Redirected(Exception):
    """A secrets manager redirected a request. The text names only the host that it leads to."""


class GatewayError(OSError):
    """A proxy or load balancer did not reach the secrets manager, or not in time."""


def new_manager_session() -> requests.Session:
    """Opens a session that sends a secret to the host it is for, and to no other.

    It follows no redirects, and adds no credentials from ~/.netrc. Proxies and certificate
    authorities come from the environment, as for all requests.
    """
    import requests  # here, as the definitions load without it

    session = requests.Session()
    session.auth = _add_nothing
    session.hooks["response"] += [_refuse_redirect, _report_gateway]
    return session


def _add_nothing(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Leaves a request as it is; without any `auth`, `requests` would look into ~/.netrc."""
    return request


def _refuse_redirect(response: requests.Response, **_: object) -> None:
    if 300 <= response.status_code < 400:
        try:
            host = urlsplit(response.headers.get("Location", "")).hostname
        except ValueError:  # such as http://[::1
            host = None
        raise Redirected(host or "an unknown host")


def _report_gateway(response: requests.Response, **_: object) -> None:
    """Raises for the statuses of a gateway that the vendors' libraries do not know."""
    if response.status_code == 408 or response.status_code > 503:
        raise GatewayError(f"status {response.status_code}")


def import_vendor(module: str, *, extra: str, setting: str) -> ModuleType:
    """Imports a module of an optional dependency.

    Args:
        extra: of this package, which installs the dependency.
        setting: that needs it, for the message.

    Raises:
        SettingsError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        missing = error.name or module
    raise SettingsError(
        f"{setting} needs the package {missing}, which is not installed: "
        f"pip install 'st_pipelines[{extra}]'"
    )


@contextmanager
def quiet() -> Iterator[None]:
    """Suppresses the libraries' debug output, in one thread at a time.

    At debug level boto3 logs whole responses, and `http.client` prints headers and bodies.
    """
    with _lock:
        levels = {logger: logger.level for logger in _find_chatty_loggers()}
        debuglevel = http.client.HTTPConnection.debuglevel
        try:
            for logger in levels:
                logger.setLevel(max(logger.getEffectiveLevel(), logging.INFO))
            http.client.HTTPConnection.debuglevel = 0
            yield
        finally:
            http.client.HTTPConnection.debuglevel = debuglevel
            for logger, level in levels.items():
                logger.setLevel(level)


def _find_chatty_loggers() -> list[logging.Logger]:
    """Returns the libraries' loggers, and their children that have a level of their own."""
    children = [
        logger
        for name, logger in list(logging.root.manager.loggerDict.items())
        if isinstance(logger, logging.Logger) and logger.level and name.split(".")[0] in _CHATTY
    ]
    return list(dict.fromkeys([*map(logging.getLogger, _CHATTY), *children]))
