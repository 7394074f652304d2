"""A place where settings may be, as pydantic-settings sees it, with a name that a person knows."""

from __future__ import annotations

import difflib
import json
import re
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from st_pipelines.config.errors import SettingsError

CLIENT_SECRETS = ("client_secret", "client_secret_next")
SECRET_FIELDS = (*CLIENT_SECRETS, "app_key", "vault_token", "vault_secret_id")
# What a credential of ServiceTitan looks like, should it stand in another setting's place.
CREDENTIAL = re.compile(r"\b(?:cs|ak)\d+\.[^\s'\"]*")
_SERVICEPYTAN = "SERVICETITAN_"
_QUOTES = "\"'"
# `str.strip` leaves the byte order mark and the zero-width space in place.
_INVISIBLE = "\ufeff\u200b\u2060"
_LONGEST = 65536


class Handed(BaseSettings):
    """Settings that take what they are handed: `gather` asks the sources, and notes who said it."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Asks nobody."""
        return (init_settings,)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What one source says.

    Attributes:
        values: by field, as found; never shown.
        created: by field, when the version of the secret was made, aware, where it is known.
        warnings: what a person should mend; they hold no value.
    """

    values: Mapping[str, Any] = field(default_factory=dict, repr=False)
    created: Mapping[str, datetime] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


class Source(PydanticBaseSettingsSource):
    """Reads the fields of a settings class from one place.

    Attributes:
        title: what a person calls the place; holds no secret.
        silent_newline: a value may end with a line break without that being worth a word.
    """

    silent_newline = False

    def __init__(self, settings_cls: type[BaseSettings], prefix: str, title: str) -> None:
        """Nothing is read yet.

        Args:
            settings_cls: whose fields to read.
            prefix: of the environment's names.
            title: see the class.
        """
        super().__init__(settings_cls)
        self.prefix = prefix
        self.title = title

    @abstractmethod
    def read(self) -> Reading:
        """All that the place says. Raises SettingsError."""

    def origin(self, name: str) -> str:
        """Where the value of a field came from, for a person."""
        return self.title

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the fields that are looked for."""
        return tuple(self.settings_cls.model_fields)

    def __call__(self) -> dict[str, Any]:
        """As pydantic-settings asks."""
        return dict(self.read().values)

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """As pydantic-settings asks."""
        return self.read().values.get(field_name), field_name, False


def cleaned(text: str) -> tuple[str, str]:
    """The value without white space and quotes around it.

    Args:
        text: as it was found.

    Returns:
        The value, and what was taken off in words; the latter is empty where nothing was.
    """
    spaces = quotes = False
    while True:
        bare = text.strip().strip(_INVISIBLE).strip()
        spaces = spaces or bare != text
        if len(bare) < 2 or bare[0] != bare[-1] or bare[0] not in _QUOTES:
            break
        quotes, text = True, bare[1:-1]
        if not text:
            bare = text
            break
    names = [name for name, was in (("white space", spaces), ("quotes", quotes)) if was]
    return bare, " and ".join(names)


def fields_of(
    mapping: Mapping[str, Any], fields: Iterable[str], prefix: str, *, also: str = ""
) -> dict[str, Any]:
    """What a mapping says of the fields, by field.

    Args:
        mapping: names as in the environment (`SERVICETITAN_CLIENT_ID`), or without the prefix
            (`client_id`); in any case, with `-` or `_`.
        fields: names of the fields.
        prefix: of the environment, such as `SERVICETITAN_INTEGRATION_`. Names with the prefix of
            another environment are not taken.
        also: a further prefix, for files that hold one environment under another's names.
    """
    by_name = {_as_variable(name): value for name, value in mapping.items()}
    found: dict[str, Any] = {}
    for wanted in fields:
        for name in (prefix + wanted, wanted, also + wanted):
            if _as_variable(name) in by_name:
                found[wanted] = by_name[_as_variable(name)]
                break
    return found


def near_misses(names: Iterable[str], fields: Iterable[str], prefix: str) -> list[str]:
    """Names that are no setting but look like a misspelt one, as hints."""
    known = {(prefix + field).upper() for field in fields}
    hints = []
    for name in names:
        full = _as_variable(name)
        full = full if full.startswith(_SERVICEPYTAN) else prefix + full
        if full not in known:
            near = difflib.get_close_matches(full, known, n=1, cutoff=0.85)
            hints += [f"{name} is no setting: did you mean {near[0]}?"] if near else []
    return hints


def _as_variable(name: str) -> str:
    return name.upper().replace("-", "_").replace(".", "_")


def read_text(file: Path, setting: str) -> str:
    """The text of a file.

    Args:
        file: of at most 64 KiB, UTF-8.
        setting: that led to it.

    Raises:
        SettingsError: it cannot be read.
    """
    try:
        with file.open("rb") as opened:
            content = opened.read(_LONGEST + 1)
        if len(content) <= _LONGEST:
            return content.decode("utf-8-sig")
        reason = "larger than 64 KiB"
    except OSError as error:
        reason = error.strerror or type(error).__name__
    except UnicodeDecodeError:
        reason = "not UTF-8 text"
    raise SettingsError(
        f"{setting}: {file} cannot be read ({reason}): correct the path, the file or its mode"
    )


def plain_object(text: str, title: str) -> dict[str, Any]:
    """The names and texts of a JSON object; empty and null values are left out.

    Args:
        text: JSON.
        title: of what holds it, for the message.

    Raises:
        SettingsError: it is no JSON object; the message quotes nothing of it.
    """
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        parsed = None
    if not isinstance(parsed, dict):
        raise SettingsError(
            f'{title} is no JSON object: write it as {{"SERVICETITAN_CLIENT_ID": "...", ...}}'
        )
    return {
        name: str(value)
        for name, value in parsed.items()
        if isinstance(value, str | int | float) and not isinstance(value, bool)
    }
