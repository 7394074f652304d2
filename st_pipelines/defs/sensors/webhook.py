"""Sends a message to where people read it. The URL is a secret and shows nowhere."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from pydantic import SecretStr

_TIMEOUT = (5, 10)


class Undelivered(Exception):
    """The receiver did not take a message. The text names its host alone."""


@dataclass(frozen=True, kw_only=True)
class Webhook:
    """Takes JSON `{"text": ...}` by POST, as Slack, Mattermost and others do.

    Attributes:
        url: http or https.
    """

    url: SecretStr

    def send(self, text: str) -> None:
        """Delivers a message.

        Args:
            text: Slack's markup; see `escaped`.

        Raises:
            Undelivered: no connection, or an answer other than 2xx.
        """
        import requests  # here, as the definitions load without it

        url = self.url.get_secret_value()
        host = urlsplit(url).hostname
        try:
            answer = requests.post(
                url, json={"text": text}, timeout=_TIMEOUT, allow_redirects=False
            )
        except requests.RequestException as error:
            kind = re.sub(r"(?<!^)(?=[A-Z])", " ", type(error).__name__).lower()
            raise Undelivered(f"{host}: {kind}") from None
        if not answer.ok or answer.is_redirect:
            raise Undelivered(f"{host} answered {answer.status_code}")


def escaped(text: str) -> str:
    """Text in which Slack sees no markup of its own."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
