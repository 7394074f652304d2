"""Asks sources in order; the first value of each setting wins. Lists the secrets managers.

To add a secrets manager, write its module with a `Manager` and its settings (`aws` is the
shortest example) and add the class to `MANAGERS`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pydantic import SecretStr

from st_pipelines.config.sources.aws import SecretsManager
from st_pipelines.config.sources.azure import KeyVault
from st_pipelines.config.sources.base import Manager, Source, clean_value
from st_pipelines.config.sources.vault import Vault

MANAGERS: tuple[type[Manager], ...] = (SecretsManager, KeyVault, Vault)
"""In the order in which they are queried, after all sources of this machine."""


@dataclass(frozen=True, kw_only=True)
class Gathered:
    """What several sources hold together.

    Attributes:
        values: by field; never shown.
        origins: by field, where its value came from, for messages.
        created: by field, when that version of the secret was created, where known.
        warnings: what the user should correct, without values.
        named_sources: titles of the sources that a setting names, in order.
    """

    values: Mapping[str, Any] = field(default_factory=dict, repr=False)
    origins: Mapping[str, str] = field(default_factory=dict)
    created: Mapping[str, datetime] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    named_sources: tuple[str, ...] = ()


def gather(sources: Iterable[Source], before: Gathered | None = None) -> Gathered:
    """Reads every source and keeps the first value of each field.

    Args:
        before: what earlier sources held; it wins over all of these.

    Raises:
        SettingsError: a source cannot be read.
    """
    before = before or Gathered()
    values, origins, created = dict(before.values), dict(before.origins), dict(before.created)
    warnings, named_sources = list(before.warnings), list(before.named_sources)
    for source in sources:
        reading = source.read()
        if source.named_by_setting:
            named_sources.append(source.title)
        warnings += reading.warnings
        for name, found in reading.values.items():
            value, removed = _clean(found, source.ignore_final_newline)
            if value in (None, "") or name in values:
                continue
            is_secret = name in source.settings_cls.secret_fields
            values[name] = SecretStr(value) if is_secret and isinstance(value, str) else value
            origins[name] = source.origin(name)
            if name in reading.created:
                created[name] = reading.created[name]
            if removed:
                setting = f"{source.prefix}{name.upper()} ({origins[name]})"
                warnings.append(f"{setting} has {removed} around its value, ignored: remove it")
    return Gathered(
        values=values,
        origins=origins,
        created=created,
        warnings=tuple(dict.fromkeys(warnings)),
        named_sources=tuple(named_sources),
    )


def _clean(value: Any, ignore_final_newline: bool) -> tuple[Any, str]:
    if isinstance(value, SecretStr):
        text, removed = clean_value(value.get_secret_value())
        return SecretStr(text) if text else None, removed
    if not isinstance(value, str):
        return value, ""
    return clean_value(value.rstrip("\r\n") if ignore_final_newline else value)
