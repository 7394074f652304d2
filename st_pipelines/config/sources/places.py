"""The settings that name further sources, and the sources that they name, in order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import PrivateAttr, create_model

from st_pipelines.config.paths import ENVIRONMENT_PATHS
from st_pipelines.config.sources.base import ExplicitSettings, Source
from st_pipelines.config.sources.local import (
    Arguments,
    ConfigFile,
    Folder,
    NamedVariables,
    Variables,
)
from st_pipelines.config.sources.resolve import MANAGERS, Gathered


class Places(ExplicitSettings):
    """Where the settings of one environment are, apart from the environment and `.env`.

    Attributes:
        config_file: a JSON file of servicepytan; absolute once `resolve_places` has seen it.
        secrets_dir: a folder with a file for each setting.
    """

    config_file: str | None = None
    secrets_dir: str | None = None

    _gathered: Gathered = PrivateAttr(default_factory=Gathered)

    @property
    def gathered(self) -> Gathered:
        """Where each value came from."""
        return self._gathered

    @property
    def has_managers(self) -> bool:
        """Whether a secrets manager is named."""
        return any(getattr(self, manager.named_by) for manager in MANAGERS)


# Pydantic orders fields from the last base to the first.
AllPlaces: type[Places] = create_model(  # pyright: ignore[reportAssignmentType]
    "AllPlaces",
    __base__=(*(manager.places for manager in reversed(MANAGERS)), Places),
    __doc__="The places, with the settings of every secrets manager.",
)


def resolve_places(places: Places, prefix: str, variables: Variables) -> Places:
    """Returns the places with absolute paths. Raises SettingsError for a path of no use."""
    paths = {
        field: str(variables.resolve_path(text, prefix + field.upper(), kind))
        for field, kind in ENVIRONMENT_PATHS.items()
        if (text := getattr(places, field))
    }
    return places.model_copy(update=paths)


def local_sources(
    settings_cls: type[ExplicitSettings],
    prefix: str,
    variables: Variables,
    given: Mapping[str, Any],
    places: Places | None = None,
) -> Iterator[Source]:
    """Yields the sources of this machine: arguments, environment, `.env`, config file, folder.

    Args:
        settings_cls: whose fields to read.
        prefix: of the environment's settings.
        given: values by field, which win.
        places: of `resolve_places`. None while the places themselves are read.
    """
    yield Arguments(settings_cls, prefix, given)
    yield NamedVariables(settings_cls, prefix, variables.process)
    yield NamedVariables(settings_cls, prefix, variables.dotenv, variables.dotenv_file)
    if places is None:
        return
    if places.config_file:
        setting, file = f"{prefix}CONFIG_FILE", Path(places.config_file)
        yield ConfigFile(settings_cls, prefix, file, setting)
    if places.secrets_dir:
        setting, folder = f"{prefix}SECRETS_DIR", Path(places.secrets_dir)
        yield Folder(settings_cls, prefix, folder, setting)


def manager_sources(
    settings_cls: type[ExplicitSettings], prefix: str, places: Places
) -> Iterator[Source]:
    """Yields the secrets managers that are named. Reading them needs the network.

    Raises:
        SettingsError: a manager lacks a setting, or its extra is not installed.
    """
    for manager in MANAGERS:
        if getattr(places, manager.named_by):
            yield manager.from_places(settings_cls, prefix, places)
