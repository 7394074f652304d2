"""Turns errors into messages, the same in `st-pipelines check` and in failed runs.

`servicetitan.http.diagnosis` decides what a ServiceTitan error means, and
`servicetitan.errors.problems` has the title and advice for it. This module puts them into one line,
and words settings, file and warehouse errors.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal, TypeAlias

from st_pipelines.config.errors import NotConfigured, SettingsError, WrongHost
from st_pipelines.config.sources.base import CREDENTIAL
from st_pipelines.servicetitan.errors.errors import ServiceTitanError
from st_pipelines.servicetitan.http.redact import HIDDEN

MAX_CLOCK_OFFSET = timedelta(minutes=5)
"""A clock that differs more from ServiceTitan's is reported wherever it is used."""

Status: TypeAlias = Literal["ok", "warning", "failed", "skipped"]
_INIT_HINT = "Where there is no .env yet, st-pipelines init asks for them and writes it."
_WORDS = re.compile(r"(?<=[a-z])(?=[A-Z])")
# Access is refused whatever is requested: without the query, check and runs say the same.
_INDEPENDENT_OF_QUERY = (
    "app-key-refused",
    "app-not-connected",
    "app-unknown",
    "blocked",
    "not-found",
    "other-tenant",
    "redirected",
    "scope-doubtful",
    "scope-missing",
    "scope-unknown",
    "token-refused",
    "unusable",
)
# Codes outlive class names: scripts and alert rules match on them.
_CODES = {"UnexpectedResponse": "unexpected-answer"}


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """An error in words for a person.

    Attributes:
        code: identifies the problem, such as `scope-missing`; docs/setup.md lists them.
        text: what is wrong and how it showed, without a period at the end.
        hint: what to do, in sentences; may be empty.
    """

    code: str
    text: str
    hint: str = ""

    @property
    def line(self) -> str:
        """Text and hint."""
        return f"{self.text}. {self.hint}" if self.hint else self.text


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of the check.

    Attributes:
        step: which step found it.
        status: `failed` makes the check fail; a `skipped` one depends on what failed.
        text: what was found, without a period at the end.
        hint: what to do, in sentences; empty where there is nothing to do.
        code: identifies the problem for programs; empty if there is none.
        items: everything that the text sums up, such as scopes.
    """

    step: str
    status: Status
    text: str
    hint: str = ""
    code: str = ""
    items: tuple[str, ...] = field(default=())


def diagnose(error: Exception) -> Diagnosis:
    """Puts one of our errors, or an OSError, into words, without anything secret."""
    if isinstance(error, ServiceTitanError):
        return _diagnose_servicetitan(error)
    if isinstance(error, NotConfigured):
        return Diagnosis(code="not-configured", text=str(error), hint=_INIT_HINT)
    if isinstance(error, WrongHost):
        return Diagnosis(code="other-host", text=error.text, hint=error.hint)
    if isinstance(error, SettingsError):
        return _without_secrets("settings", str(error))
    if isinstance(error, OSError) and error.strerror:
        where = f" ({error.filename})" if error.filename else ""
        return _without_secrets("file", f"{error.strerror}{where}")
    return _without_secrets(_code_of(error), str(error))


def failed(step: str, error: Exception) -> Finding:
    """The finding of a step that an error ended."""
    found = diagnose(error)
    return Finding(step=step, status="failed", code=found.code, text=found.text, hint=found.hint)


def _diagnose_servicetitan(error: ServiceTitanError) -> Diagnosis:
    if error.problem is None:
        where = f"{error.method} {error.url}: " if error.url else ""
        return Diagnosis(
            code=_code_of(error),
            text=f"{where}{_strip_period(str(error.args[0]))}",
            hint=error.hint,
        )
    response = f" answered {error.status}" if error.status else ""
    response += f": {_strip_period(error.detail)}" if error.detail else ""
    trace = f", traceId {error.trace_id}" if error.trace_id else ""
    url = error.url
    if error.problem.code in _INDEPENDENT_OF_QUERY:
        url = url.partition("?")[0]
    where = f" ({error.method} {url}{response}{trace})" if url else ""
    return Diagnosis(
        code=error.problem.code, text=f"{error.problem.title}{where}", hint=error.problem.advice
    )


def _without_secrets(code: str, text: str) -> Diagnosis:
    return Diagnosis(code=code, text=_strip_period(CREDENTIAL.sub(HIDDEN, text)))


def _strip_period(text: str) -> str:
    return text.rstrip(". \n")


def _code_of(error: Exception) -> str:
    name = type(error).__name__
    return _CODES.get(name) or _WORDS.sub("-", name).lower()


def shorten_list(parts: Sequence[str], most: int = 5) -> str:
    """Returns the first parts, joined by commas, and whether there are more."""
    return ", ".join(parts[:most]) + (", ..." if len(parts) > most else "")


def describe_clock(offset: timedelta | None) -> str:
    """Says that this machine's clock is wrong, and what to do; empty if it is not known to be.

    Args:
        offset: how far it is ahead of ServiceTitan's, negative if behind.
    """
    if offset is None or abs(offset) <= MAX_CLOCK_OFFSET:
        return ""
    side = "ahead of" if offset > timedelta(0) else "behind"
    return (
        f"this machine's clock is {abs(offset).total_seconds() / 60:,.0f} min {side} "
        "ServiceTitan's: synchronize it with NTP"
    )
