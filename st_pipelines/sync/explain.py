"""What is found, in one line: the same from an error here and in a run that fails in Dagster."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from st_pipelines.config.errors import NotConfigured, SettingsError, WrongHost
from st_pipelines.config.sources.base import CREDENTIAL
from st_pipelines.servicetitan.errors.errors import ServiceTitanError
from st_pipelines.servicetitan.http.redact import HIDDEN

Status: TypeAlias = Literal["ok", "warning", "failed", "skipped"]
_ASKED = "Where there is no .env yet, st-pipelines init asks for them and writes it."
_WORDS = re.compile(r"(?<=[a-z])(?=[A-Z])")
# Codes outlive class names: scripts and alert rules match on them.
_CODES = {"UnexpectedResponse": "unexpected-answer"}


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What an error says to a person.

    Attributes:
        code: which of the known troubles, such as `scope-missing`; docs/setup.md lists them.
        text: what is wrong and how it showed, without a full stop.
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
        text: what is so, without a full stop.
        hint: what to do, in sentences; empty where nothing is to be done.
        code: names a trouble for programs; empty for what is well.
        items: all of what the text sums up, such as scopes.
    """

    step: str
    status: Status
    text: str
    hint: str = ""
    code: str = ""
    items: tuple[str, ...] = field(default=())


def diagnosed(error: Exception) -> Diagnosis:
    """An error in words for a person.

    Args:
        error: of ours, or an OSError.

    Returns:
        Its diagnosis, without anything that looks like a secret.
    """
    if isinstance(error, ServiceTitanError):
        return _of_servicetitan(error)
    if isinstance(error, NotConfigured):
        return Diagnosis(code="not-configured", text=str(error), hint=_ASKED)
    if isinstance(error, WrongHost):
        return Diagnosis(code="other-host", text=error.text, hint=error.hint)
    if isinstance(error, SettingsError):
        return _plain("settings", str(error))
    if isinstance(error, OSError) and error.strerror:
        where = f" ({error.filename})" if error.filename else ""
        return _plain("file", f"{error.strerror}{where}")
    return _plain(_code_of(error), str(error))


def failed(step: str, error: Exception) -> Finding:
    """The finding that an error is."""
    told = diagnosed(error)
    return Finding(step=step, status="failed", code=told.code, text=told.text, hint=told.hint)


def _of_servicetitan(error: ServiceTitanError) -> Diagnosis:
    if error.problem is None:
        where = f"{error.method} {error.url}: " if error.url else ""
        return Diagnosis(
            code=_code_of(error), text=f"{where}{_end(str(error.args[0]))}", hint=error.hint
        )
    said = f" answered {error.status}" if error.status else ""
    said += f": {_end(error.detail)}" if error.detail else ""
    trace = f", traceId {error.trace_id}" if error.trace_id else ""
    url = error.url.partition("?")[0]
    where = f" ({error.method} {url}{said}{trace})" if url else ""
    return Diagnosis(
        code=error.problem.code, text=f"{error.problem.title}{where}", hint=error.problem.advice
    )


def _plain(code: str, text: str) -> Diagnosis:
    return Diagnosis(code=code, text=_end(CREDENTIAL.sub(HIDDEN, text)))


def _end(text: str) -> str:
    return text.rstrip(". \n")


def _code_of(error: Exception) -> str:
    name = type(error).__name__
    return _CODES.get(name) or _WORDS.sub("-", name).lower()
