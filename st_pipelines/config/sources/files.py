"""servicepytan's config file, and a folder with a file a setting (Kubernetes, Docker)."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

from pydantic_settings import BaseSettings

from st_pipelines.config.errors import SettingsError
from st_pipelines.config.sources.base import Reading, Source
from st_pipelines.config.sources.values import SECRET_FIELDS, fields_of, near_misses

_SERVICEPYTAN = "SERVICETITAN_"
_LONGEST = 65536


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
