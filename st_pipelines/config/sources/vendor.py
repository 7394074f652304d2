"""The vendors' libraries: imported when they are needed, and quiet while they handle secrets."""

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


def vendor(module: str, *, extra: str, setting: str) -> ModuleType:
    """A module of an optional dependency.

    Args:
        module: its name.
        extra: of this package, which installs it.
        setting: that asks for it.

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
    """Holds back what the libraries would write of a secret at debug level.

    boto3 logs whole answers, and `http.client` prints headers and bodies. One thread at a time.
    """
    with _lock:
        levels = {logger: logger.level for logger in _chatty_loggers()}
        printing = http.client.HTTPConnection.debuglevel
        try:
            for logger in levels:
                logger.setLevel(max(logger.getEffectiveLevel(), logging.INFO))
            http.client.HTTPConnection.debuglevel = 0
            yield
        finally:
            http.client.HTTPConnection.debuglevel = printing
            for logger, level in levels.items():
                logger.setLevel(level)


def _chatty_loggers() -> list[logging.Logger]:
    """Those of the libraries, with every child that has a level of its own."""
    children = [
        logger
        for name, logger in list(logging.root.manager.loggerDict.items())
        if isinstance(logger, logging.Logger) and logger.level and name.split(".")[0] in _CHATTY
    ]
    return list(dict.fromkeys([*map(logging.getLogger, _CHATTY), *children]))
