"""Sources asked in order: for each setting the first that has a value wins."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pydantic import SecretStr

from st_pipelines.config.sources.base import SECRET_FIELDS, Source, cleaned


@dataclass(frozen=True, kw_only=True)
class Gathered:
    """What several sources say together.

    Attributes:
        values: by field; never shown.
        origins: by field, where its value came from, for a person.
        created: by field, when that version of the secret was made, where it is known.
        warnings: what a person should mend, without values.
        asked: titles of the sources, in order.
    """

    values: Mapping[str, Any] = field(default_factory=dict, repr=False)
    origins: Mapping[str, str] = field(default_factory=dict)
    created: Mapping[str, datetime] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    asked: tuple[str, ...] = ()


def gather(sources: Iterable[Source], onto: Gathered | None = None) -> Gathered:
    """Asks each source.

    Args:
        sources: the first wins.
        onto: what earlier sources said, which wins over all of these.

    Raises:
        SettingsError: a source cannot be read.
    """
    before = onto or Gathered()
    values, origins, created = dict(before.values), dict(before.origins), dict(before.created)
    warnings, asked = list(before.warnings), list(before.asked)
    for source in sources:
        reading = source.read()
        asked.append(source.title)
        warnings += reading.warnings
        for name, found in reading.values.items():
            value, taken_off = _clean(found, source.silent_newline)
            if value in (None, "") or name in values:
                continue
            values[name], origins[name] = sealed(name, value), source.origin(name)
            if name in reading.created:
                created[name] = reading.created[name]
            if taken_off:
                setting = f"{source.prefix}{name.upper()} ({origins[name]})"
                warnings.append(_mended(setting, taken_off))
    return Gathered(
        values=values,
        origins=origins,
        created=created,
        warnings=tuple(dict.fromkeys(warnings)),
        asked=tuple(asked),
    )


def sealed(name: str, value: Any) -> Any:
    """The value of a field; a secret's as one that no repr shows."""
    return SecretStr(value) if name in SECRET_FIELDS and isinstance(value, str) else value


def _mended(setting: str, taken_off: str) -> str:
    return f"{setting} has {taken_off} around its value, which is taken off: correct it there"


def _clean(value: Any, silent_newline: bool) -> tuple[Any, str]:
    if isinstance(value, SecretStr):
        text, taken_off = cleaned(value.get_secret_value())
        return SecretStr(text) if text else None, taken_off
    if not isinstance(value, str):
        return value, ""
    return cleaned(value.rstrip("\r\n") if silent_newline else value)
