"""A place where settings may be, as pydantic-settings sees it, with a name that a person knows."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource


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
