"""What goes wrong with settings, by whether asking again may help."""

from __future__ import annotations

from typing import ClassVar


class SettingsError(Exception):
    """A setting is missing, misspelt or wrong. The message names it and says what to do."""

    permanent: ClassVar[bool] = True


class NotConfigured(SettingsError):
    """Credentials of an environment are missing. The message names them."""


class WrongHost(SettingsError):
    """A host is the other environment's, where these credentials do not belong.

    Attributes:
        text: what is wrong.
        hint: what to do.
    """

    def __init__(self, text: str, hint: str) -> None:
        super().__init__(f"{text}. {hint}")
        self.text = text
        self.hint = hint


class SourceUnavailable(SettingsError):
    """A secrets manager cannot be reached or is overloaded, which may pass."""

    permanent = False
