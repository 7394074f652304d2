"""Arguments, environment variables and `.env`: sources that cost nothing to read."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic_settings import BaseSettings, DotEnvSettingsSource, EnvSettingsSource

from st_pipelines.config.errors import SettingsError
from st_pipelines.config.sources.base import (
    SECRET_FIELDS,
    Reading,
    Source,
    fields_of,
    near_misses,
    plain_object,
    read_text,
)

_SERVICEPYTAN = "SERVICETITAN_"


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
        return Reading(values=values, warnings=open_to_others(self._file) if holds else ())


class ConfigFile(Source):
    """The JSON file that servicepytan's `config_file` takes, as it is."""

    def __init__(
        self, settings_cls: type[BaseSettings], prefix: str, file: Path, setting: str
    ) -> None:
        """Nothing is read yet.

        Args:
            settings_cls: whose fields to read.
            prefix: of the environment's names.
            file: the JSON file.
            setting: that names the file.
        """
        super().__init__(settings_cls, prefix, f"config file {file}")
        self._file = file
        self._setting = setting

    def read(self) -> Reading:
        """Its values.

        Names are servicepytan's in every environment, as it keeps a file for each.

        Raises:
            SettingsError: there is no such file, or it is no JSON object of plain values.
        """
        mapping = plain_object(read_text(self._file, self._setting), self.title)
        values = fields_of(mapping, self.fields, self.prefix, also=_SERVICEPYTAN)
        holds = any(values.get(name) for name in SECRET_FIELDS)
        hints = near_misses(mapping, self.fields, _SERVICEPYTAN)
        return Reading(
            values=values,
            warnings=(
                *(open_to_others(self._file) if holds else ()),
                *(f"{self.title}: {hint}" for hint in hints),
            ),
        )


class Folder(Source):
    """A file a setting, named as the setting or without its prefix, in any case."""

    silent_newline = True

    def __init__(
        self, settings_cls: type[BaseSettings], prefix: str, folder: Path, setting: str
    ) -> None:
        """Nothing is read yet.

        Args:
            settings_cls: whose fields to read.
            prefix: of the environment's names.
            folder: where the files are.
            setting: that names the folder.
        """
        super().__init__(settings_cls, prefix, f"folder {folder}")
        self._folder = folder
        self._setting = setting

    def read(self) -> Reading:
        """Its values.

        Raises:
            SettingsError: there is no such folder, or a file cannot be read.
        """
        files = self._files()
        chosen = fields_of({file.name: file for file in files}, self.fields, self.prefix)
        hints = [f"{self.title}: {h}" for h in near_misses(
            (file.name for file in files), self.fields, self.prefix)]  # fmt: skip
        if not chosen:
            hints.append(
                f"{self.title} holds no file that is named as a setting, such as "
                f"{self.prefix}CLIENT_ID or client_id"
            )
        for name in SECRET_FIELDS:
            if name in chosen:
                hints += open_to_others(chosen[name], mounted=self._is_mounted)
        values = {name: read_text(file, self._setting) for name, file in chosen.items()}
        return Reading(values=values, warnings=tuple(hints))

    @property
    def _is_mounted(self) -> bool:
        """Kubernetes and Docker lay them so; nobody else is in the container to read them."""
        return (self._folder / "..data").is_symlink() or self._folder.is_relative_to("/run/secrets")

    def _files(self) -> list[Path]:
        # Kubernetes swaps `..data` as a whole: read in one of its states, not across two.
        versions = self._folder / "..data"
        try:
            folder = versions.resolve(strict=True) if versions.is_symlink() else self._folder
            return [file for file in sorted(folder.iterdir()) if file.is_file()]
        except OSError as error:
            reason = error.strerror or type(error).__name__
        raise SettingsError(
            f"{self._setting}: {self._folder} cannot be read as a folder ({reason}): "
            "mount the secrets there, or correct or remove the setting"
        )


def open_to_others(file: Path, *, mounted: bool = False) -> tuple[str, ...]:
    """A warning if others than its owner may read or change a file that holds a secret.

    Args:
        file: links are followed.
        mounted: into a container, where reading by others is how it is laid: only changing counts.
    """
    if os.name == "nt":
        return ()
    try:
        mode = file.stat().st_mode
    except OSError:
        return ()
    forbidden = 0o022 if mounted else 0o066
    if not stat.S_IMODE(mode) & forbidden:
        return ()
    return (
        f"{file} holds a secret and is open to others (mode {stat.S_IMODE(mode):04o}): "
        f"chmod {'go-w' if mounted else '600'} {file}",
    )
