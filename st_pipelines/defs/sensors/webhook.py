"""Posts messages to the webhook of `alerts`, whose address is a secret from the path on.

`requests` and `urllib3` would log the address at debug level, follow redirects with the message,
and send what `.netrc` holds for the host; none of that happens here.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from pydantic import SecretStr

_TIMEOUT_SECONDS = (5, 10)  # to connect, and until the headers of the response
_LOGGERS = ("urllib3.connectionpool", "urllib3.connection", "urllib3.poolmanager")
_thread = threading.local()  # its `is_sending` drops what urllib3 logs meanwhile


class Undelivered(Exception):
    """The receiver did not accept a message. The text names only its host."""


@dataclass(frozen=True, kw_only=True)
class Webhook:
    """Accepts JSON `{"text": ...}` by POST, as Slack, Mattermost and others do.

    Attributes:
        url: https, or http on this machine; with or without user and password.
    """

    url: SecretStr

    def send(self, text: str) -> None:
        """Delivers a message. The body of the response is not read.

        Args:
            text: in Slack's markup; see `escape_markup`.

        Raises:
            Undelivered: no connection, or a status other than 2xx.
        """
        host = urlsplit(self.url.get_secret_value()).hostname
        status, problem = self._post(text)
        # Raised out here, or an exception that holds the URL would be its __context__.
        if problem:
            raise Undelivered(f"{host}: {problem}")
        if not 200 <= status < 300:
            raise Undelivered(f"{host} answered {status}")

    def _post(self, text: str) -> tuple[int, str]:
        """Returns the status, or 0 and the kind of the error."""
        import requests  # here, as the definitions load without it
        from requests.auth import HTTPBasicAuth
        from requests.utils import get_auth_from_url

        from st_pipelines.servicetitan.http.transport import Unsigned, new_http_session

        url = self.url.get_secret_value()
        user, password = get_auth_from_url(url)
        try:
            with (
                _without_log(),
                new_http_session() as http,
                closing(
                    http.post(
                        url,
                        json={"text": text},
                        auth=HTTPBasicAuth(user, password) if user else Unsigned(),
                        timeout=_TIMEOUT_SECONDS,
                        allow_redirects=False,
                        stream=True,
                    )
                ) as response,
            ):
                return response.status_code, ""
        except (requests.RequestException, OSError, ValueError) as error:
            return 0, re.sub(r"(?<!^)(?=[A-Z])", " ", type(error).__name__).lower()


def escape_markup(text: str) -> str:
    """Returns text in which Slack sees no markup."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


@contextmanager
def _without_log() -> Iterator[None]:
    """Drops what urllib3 logs in this thread; the filters are installed once."""
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_is_not_sending)  # adds the same one only once
    _thread.is_sending = True
    try:
        yield
    finally:
        _thread.is_sending = False


def _is_not_sending(_: logging.LogRecord) -> bool:
    return not getattr(_thread, "is_sending", False)
