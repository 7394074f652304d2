"""The interface of a settings source, and what sources share: names, values, files.

The sources themselves are in `local` and in one module for each secrets manager.
"""

from __future__ import annotations

import difflib
import json
import re
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar, get_args

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from st_pipelines.config.errors import SettingsError

CLIENT_SECRETS = ("client_secret", "client_secret_next")
CREDENTIAL = re.compile(r"\b(?:cs|ak)\d+\.[^\s'\"]*")
"""A ServiceTitan secret, to recognize one that was pasted into another setting."""
SERVICEPYTAN_PREFIX = "SERVICETITAN_"

_QUOTES = "\"'"
_INVISIBLE = "\ufeff\u200b\u2060"  # `str.strip` keeps byte order marks and zero-width spaces
_MAX_FILE_BYTES = 65536


class ExplicitSettings(BaseSettings):
    """Settings built from their arguments alone: `resolve.gather` has asked the sources before.

    Attributes:
        secret_fields: names of the fields that hold a secret, in order.
    """

    model_config = SettingsConfigDict(extra="ignore", frozen=True, validate_default=False)

    secret_fields: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Finds the secrets by their type, once for each class."""
        super().__pydantic_init_subclass__(**kwargs)
        cls.secret_fields = tuple(
            name
            for name, field in cls.model_fields.items()
            if SecretStr in get_args(field.annotation)
        )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Keeps pydantic-settings from reading sources of its own."""
        return (init_settings,)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What one source holds.

    Attributes:
        values: by field, as found; never shown.
        created: by field, when that version of the secret was created, aware, where known.
        warnings: what the user should correct, without values.
    """

    values: Mapping[str, Any] = field(default_factory=dict, repr=False)
    created: Mapping[str, datetime] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


class Source(PydanticBaseSettingsSource):
    """Reads the fields of a settings class from one source.

    Attributes:
        prefix: of the names of the environment's settings, such as `SERVICETITAN_`.
        title: the source in messages; contains no secret.
        ignore_final_newline: whether values may end with a line break without a warning.
        named_by_setting: whether a setting names the source; otherwise everybody has it.
    """

    ignore_final_newline = False
    named_by_setting = True
    settings_cls: type[ExplicitSettings]

    def __init__(self, settings_cls: type[ExplicitSettings], prefix: str, title: str) -> None:
        """Reads nothing yet."""
        super().__init__(settings_cls)
        self.prefix = prefix
        self.title = title

    @abstractmethod
    def read(self) -> Reading:
        """Reads everything the source holds. Raises SettingsError."""

    def origin(self, name: str) -> str:
        """Returns where the value of a field came from, for messages."""
        return self.title

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the fields to look for."""
        return tuple(self.settings_cls.model_fields)

    def __call__(self) -> dict[str, Any]:
        """Implements pydantic-settings' interface."""
        return dict(self.read().values)

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Implements pydantic-settings' interface."""
        return self.read().values.get(field_name), field_name, False


class Manager(Source):
    """A secrets manager, which is queried over the network and only when a connection is needed.

    Attributes:
        places: the settings that say where the manager is and how to log in.
        named_by: the one of them that selects the manager.
    """

    places: ClassVar[type[BaseModel]]
    named_by: ClassVar[str]

    @classmethod
    def from_places(cls, settings_cls: type[ExplicitSettings], prefix: str, places: Any) -> Manager:
        """Imports the vendor's library; asks nobody yet.

        Args:
            places: an instance of the class's `places`, which its constructor takes.

        Raises:
            SettingsError: the library is not installed, or a setting is missing.
        """
        return cls(settings_cls, prefix, places)


def clean_value(text: str) -> tuple[str, str]:
    """Removes white space and quotes around a pasted value.

    Returns:
        The value, and a description of what was removed; empty if nothing was.
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
    removed = [name for name, was in (("white space", spaces), ("quotes", quotes)) if was]
    return bare, " and ".join(removed)


def pick_fields(
    mapping: Mapping[str, Any], fields: Iterable[str], prefix: str, *, other_prefix: str = ""
) -> dict[str, Any]:
    """Returns the values of the fields that a mapping has, by field.

    Names in the mapping may have the environment's prefix (`SERVICETITAN_CLIENT_ID`) or none
    (`client_id`), any case, and `-` or `.` for `_`.

    Args:
        prefix: the environment's; names with another environment's prefix are ignored.
        other_prefix: also accepted, for files that use one prefix in every environment.
    """
    by_name = {_as_variable(name): value for name, value in mapping.items()}
    found: dict[str, Any] = {}
    for wanted in fields:
        for name in (prefix + wanted, wanted, other_prefix + wanted):
            if _as_variable(name) in by_name:
                found[wanted] = by_name[_as_variable(name)]
                break
    return found


def find_near_misses(names: Iterable[str], fields: Iterable[str], prefix: str) -> list[str]:
    """Returns a hint for each name that is not a setting but looks like a misspelled one."""
    known = {(prefix + field).upper() for field in fields}
    hints = []
    for name in names:
        full = _as_variable(name)
        full = full if full.startswith(SERVICEPYTAN_PREFIX) else prefix + full
        if full not in known:
            near = difflib.get_close_matches(full, known, n=1, cutoff=0.85)
            hints += [f"{name} is not a setting: did you mean {near[0]}?"] if near else []
    return hints


def _as_variable(name: str) -> str:
    return name.upper().replace("-", "_").replace(".", "_")


def read_text(file: Path, setting: str) -> str:
    """Returns the text of a file of at most 64 KiB in UTF-8.

    Args:
        setting: that names the file, for the message.

    Raises:
        SettingsError: the file cannot be read.
    """
    try:
        with file.open("rb") as opened:
            content = opened.read(_MAX_FILE_BYTES + 1)
        if len(content) <= _MAX_FILE_BYTES:
            return content.decode("utf-8-sig")
        reason = "larger than 64 KiB"
    except OSError as error:
        reason = error.strerror or type(error).__name__
    except UnicodeDecodeError:
        reason = "not UTF-8 text"
    raise SettingsError(
        f"{setting}: {file} cannot be read ({reason}): correct the path, the file or its mode"
    )


def parse_flat_object(text: str, title: str) -> dict[str, Any]:
    """Returns the strings and numbers of a JSON object as text; skips all other values.

    Args:
        title: the source, for the message.

    Raises:
        SettingsError: the text is not a JSON object. The message quotes nothing of it.
    """
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        parsed = None
    if not isinstance(parsed, dict):
        raise SettingsError(
            f'{title} is not a JSON object: write it as {{"SERVICETITAN_CLIENT_ID": "...", ...}}'
        )
    return {
        name: str(value)
        for name, value in parsed.items()
        if isinstance(value, str | int | float) and not isinstance(value, bool)
    }
