"""Arguments, environment variables and `.env`: sources that cost nothing to read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic_settings import BaseSettings, DotEnvSettingsSource, EnvSettingsSource

from st_pipelines.config.sources import files
from st_pipelines.config.sources.base import Reading, Source
from st_pipelines.config.sources.values import SECRET_FIELDS


class Arguments(Source):
    """What the caller gives: in code, or a Dagster resource from its configuration."""

    def __init__(
        self, settings_cls: type[BaseSettings], prefix: str, given: Mapping[str, Any]
    ) -> None:
        """Keep them.

        Args:
            settings_cls: whose fields to read.
            prefix: of the environment's names.
            given: by field.
        """
        super().__init__(settings_cls, prefix, "an argument")
        self._given = given

    def read(self) -> Reading:
        """As they were given."""
        return Reading(values=self._given)


class Variables(Source):
    """The process environment."""

    def __init__(self, settings_cls: type[BaseSettings], prefix: str) -> None:
        """Nothing is read yet."""
        super().__init__(settings_cls, prefix, "the environment")
        self._inner = EnvSettingsSource(settings_cls, env_prefix=prefix)

    def read(self) -> Reading:
        """As pydantic-settings finds them."""
        return Reading(values=self._inner())

    def origin(self, name: str) -> str:
        """The variable."""
        return "environment variable"


class DotEnv(Source):
    """`.env` in the working directory."""

    def __init__(self, settings_cls: type[BaseSettings], prefix: str, file: Path) -> None:
        """Nothing is read yet."""
        super().__init__(settings_cls, prefix, file.name)
        self._file = file
        self._inner = DotEnvSettingsSource(
            settings_cls, env_file=file, env_file_encoding="utf-8", env_prefix=prefix
        )

    def read(self) -> Reading:
        """As pydantic-settings finds them."""
        found = self._inner()
        values = {name: found[name] for name in self.fields if name in found}
        holds = any(values.get(name) for name in SECRET_FIELDS)
        return Reading(values=values, warnings=files.open_to_others(self._file) if holds else ())
