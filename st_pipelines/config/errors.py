"""Exceptions for configuration problems. Every message names the setting and says what to do."""

from __future__ import annotations

from typing import ClassVar


class SettingsError(Exception):
    """A setting is missing, misspelled or invalid.

    Attributes:
        permanent: whether the same attempt fails again until somebody changes something.
    """

    permanent: ClassVar[bool] = True

    def with_context(self, context: str) -> SettingsError:
        """Returns an error of the same class whose text begins with the context."""
        return type(self)(f"{context}; {self}")


class NotConfigured(SettingsError):
    """Credentials of an environment are missing. The message names all of them."""


class WrongHost(SettingsError):
    """A URL setting points to the host of another environment.

    Attributes:
        text: the problem.
        hint: what to do about it.
    """

    def __init__(self, text: str, hint: str) -> None:
        super().__init__(f"{text}. {hint}")
        self.text = text
        self.hint = hint

    def with_context(self, context: str) -> WrongHost:
        """Returns an error with the same hint whose text begins with the context."""
        return WrongHost(f"{context}; {self.text}", self.hint)


class SourceUnavailable(SettingsError):
    """A secrets manager is unreachable or overloaded. Retrying later may help."""

    permanent = False
