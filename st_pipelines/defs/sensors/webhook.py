"""Posts a message to the webhook of the sensor `alerts`. The URL is a secret and shows nowhere."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from pydantic import SecretStr

_TIMEOUT_SECONDS = (5, 10)
"""To connect, and between bytes of the response."""


class Undelivered(Exception):
    """The receiver did not accept a message. The text names only its host."""


@dataclass(frozen=True, kw_only=True)
class Webhook:
    """Accepts JSON `{"text": ...}` by POST, as Slack, Mattermost and others do.

    Attributes:
        url: http or https.
    """

    url: SecretStr

    def send(self, text: str) -> None:
        """Delivers a message.

        Args:
            text: in Slack's markup; see `escape_markup`.

        Raises:
            Undelivered: no connection, or a status other than 2xx.
        """
        import requests  # here, as the definitions load without it

        url = self.url.get_secret_value()
        host = urlsplit(url).hostname
        try:
            response = requests.post(
                url, json={"text": text}, timeout=_TIMEOUT_SECONDS, allow_redirects=False
            )
        except requests.RequestException as error:
            kind = re.sub(r"(?<!^)(?=[A-Z])", " ", type(error).__name__).lower()
            raise Undelivered(f"{host}: {kind}") from None
        if not response.ok or response.is_redirect:
            raise Undelivered(f"{host} answered {response.status_code}")


def escape_markup(text: str) -> str:
    """Returns text in which Slack sees no markup."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
