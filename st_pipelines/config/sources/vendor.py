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

from st_pipelines.config.errors import SettingsError

_CHATTY = ("azure", "boto3", "botocore", "hvac", "msal", "requests", "urllib3")
_lock = threading.RLock()


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
