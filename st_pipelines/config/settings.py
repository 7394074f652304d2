"""The settings of one environment, gathered from their sources."""

from __future__ import annotations

import dataclasses
import difflib
import logging
import os
from collections.abc import Collection, Iterable, Mapping
from datetime import date
from pathlib import Path
from typing import Any

from dotenv import dotenv_values
from pydantic import Field, PrivateAttr, ValidationError
from pydantic_settings import SettingsConfigDict

from st_pipelines.config.environments import (
    PREFIXES,
    PROJECT_PREFIX,
    PROJECT_SETTINGS,
    EnvironmentName,
    prefix_of,
    setting_name,
)
from st_pipelines.config.errors import SettingsError
from st_pipelines.config.sources.base import Handed
from st_pipelines.config.sources.places import Places, managers, near_sources, place_sources
from st_pipelines.config.sources.resolve import Gathered, gather, sealed
from st_pipelines.config.validators import (
    Cron,
    Secret,
    StartDate,
    TenantId,
    Text,
    Url,
    Zone,
    format_validation_error,
)

_REQUIRED = ("client_id", "client_secret", "app_key", "tenant_id")
# What only the connection needs; the rest makes Dagster's definitions, which load without network.
_FROM_MANAGERS = frozenset((*_REQUIRED, "client_secret_next", "app_id", "api_environment",
    "api_url", "auth_url", "requests_per_second", "page_size", "timeout"))  # fmt: skip
_log = logging.getLogger(__name__)
_told: set[str] = set()


class EnvironmentSettings(Handed):
    """The settings of one environment, each optional until it is needed.

    Attributes:
        client_id, client_secret, app_key, tenant_id: the credentials that ServiceTitan issues.
        client_secret_next: tried where ServiceTitan refuses `client_secret`, for a rotation.
        app_id: kept for servicepytan's users; the API does not need it.
        api_environment: servicepytan's; must be this environment where it is given.
        timezone: IANA name of the company's time zone, by which a record belongs to a day.
        start_date: first day that has a partition; it also holds everything older.
        api_url, auth_url: another ServiceTitan-like server; https unless it is loopback.
        requests_per_second: of the tenant and app, shared by all threads of a process.
        page_size: records a page, at most the endpoint's own limit.
        select: the tables that the environment has, see `selection.select`; None is all.
        daily_cron, intraday_cron, snapshots_cron: of the schedules, in the time zone.
        changes_minutes: between two looks of the sensor `changes`.
        gap_days: days back that the sensor `gaps` looks for partitions to load.
    """

    model_config = SettingsConfigDict(extra="ignore", env_file_encoding="utf-8")

    client_id: Text = None
    client_secret: Secret = None
    client_secret_next: Secret = None
    app_key: Secret = None
    app_id: Text = None
    api_environment: Text = None
    tenant_id: TenantId = None
    timezone: Zone = "UTC"
    start_date: StartDate = date(2024, 1, 1)
    api_url: Url = ""
    auth_url: Url = ""
    requests_per_second: float = Field(default=60, gt=0, le=1000)
    page_size: int = Field(default=5000, ge=1, le=5000)
    timeout: float = Field(default=100, gt=0, le=3600)
    select: Text = None
    daily_cron: Cron = "30 0 * * *"
    intraday_cron: Cron = "0 6-21/3 * * *"
    snapshots_cron: Cron = "0 12 * * *"
    changes_minutes: float = Field(default=5, ge=0.5, le=1440)
    gap_days: int = Field(default=14, ge=1, le=366)

    _gathered: Gathered = PrivateAttr(default_factory=Gathered)
    _places: Places = PrivateAttr(default_factory=Places)
    _given: Mapping[str, Any] = PrivateAttr(default_factory=dict)
    _complete: bool = PrivateAttr(default=False)

    @property
    def gathered(self) -> Gathered:
        """Where each value came from, and the warnings."""
        return self._gathered

    @property
    def places(self) -> Places:
        """Where else settings are looked for."""
        return self._places

    @property
    def asks_managers(self) -> bool:
        """Whether a secrets manager is named that has not been asked yet."""
        return self._places.has_managers and not self._complete

    def missing(self) -> list[str]:
        """Names of the credentials that are not set, as fields."""
        return [name for name in _REQUIRED if not getattr(self, name)]


def env_file() -> Path:
    """The `.env` that is read: in the working directory."""
    return Path.cwd() / ".env"


def dotenv() -> dict[str, str | None]:
    """What `.env` says.

    Raises:
        SettingsError: it is no text in UTF-8.
    """
    file = env_file()
    try:
        return dotenv_values(file)
    except UnicodeDecodeError:
        pass
    raise SettingsError(
        f"{file} is no UTF-8 text: save it in this encoding (in PowerShell: Set-Content -Encoding "
        "utf8, where '>' writes UTF-16)"
    )


def load_settings(environment: EnvironmentName, **overrides: Any) -> EnvironmentSettings:
    """The settings of an environment from what is on this machine; no manager is asked.

    Args:
        environment: `production`, `integration` or `sandbox`.
        **overrides: values that win over all sources.

    Raises:
        SettingsError: a value is wrong, a name is misspelt, or a file cannot be read.
    """
    prefix = prefix_of(environment)
    _refuse_misspelt(environment)
    given = {name: sealed(name, value) for name, value in overrides.items() if value is not None}
    places = _places(prefix, {n: v for n, v in given.items() if n in Places.model_fields})
    near = near_sources(
        EnvironmentSettings,
        prefix,
        env_file=env_file(),
        places=places,
        given={n: v for n, v in given.items() if n in EnvironmentSettings.model_fields},
    )
    settings = _made(prefix, gather(near, Gathered(warnings=places.gathered.warnings)))
    settings._places, settings._given = places, given
    return settings


def complete(environment: EnvironmentName, settings: EnvironmentSettings) -> EnvironmentSettings:
    """The settings with what the secrets managers hold, where such are named. Asks them.

    Args:
        environment: whose settings they are.
        settings: of `load_settings`.

    Raises:
        SettingsError: a manager refuses, or does not have it; says which and what to do.
        SourceUnavailable: one cannot be reached.
    """
    if not settings.asks_managers:
        return settings
    prefix, before = prefix_of(environment), settings.gathered
    after = gather(managers(EnvironmentSettings, prefix, settings._places), before)
    unused = after.values.keys() - before.values.keys() - _FROM_MANAGERS
    made = _made(
        prefix,
        dataclasses.replace(
            after,
            values={name: value for name, value in after.values.items() if name not in unused},
            origins={name: where for name, where in after.origins.items() if name not in unused},
            warnings=(*after.warnings, *(_unused(prefix, name, after) for name in sorted(unused))),
        ),
    )
    made._given, made._places, made._complete = settings._given, settings._places, True
    return made


def setting_and_source(
    environment: EnvironmentName, settings: EnvironmentSettings, field: str
) -> str:
    """A setting as a person knows it: its name and where its value came from."""
    origin = settings.gathered.origins.get(field)
    name = setting_name(environment, field)
    return f"{name} ({origin})" if origin else name


def _unused(prefix: str, name: str, gathered: Gathered) -> str:
    return (
        f"{prefix}{name.upper()} ({gathered.origins[name]}) is not used: Dagster's definitions "
        "need it without network, so set it in the environment or in .env"
    )


def _places(prefix: str, given: Mapping[str, Any]) -> Places:
    gathered = gather(place_sources(prefix, env_file=env_file(), given=given))
    try:
        places = Places(**gathered.values)
    except ValidationError as error:
        raise SettingsError(format_validation_error(error, prefix, gathered.origins)) from None
    places._gathered = gathered
    return places


def _made(prefix: str, gathered: Gathered) -> EnvironmentSettings:
    """The settings that were gathered, checked. Raises SettingsError."""
    _tell(gathered.warnings)
    try:
        settings = EnvironmentSettings(**gathered.values)
    except ValidationError as error:
        raise SettingsError(format_validation_error(error, prefix, gathered.origins)) from None
    settings._gathered = gathered
    return settings


def _tell(warnings: Iterable[str]) -> None:
    """Logs each warning once a process: settings are read for every run and command."""
    for warning in warnings:
        if warning not in _told:
            _told.add(warning)
            _log.warning("%s", warning)


def _refuse_misspelt(environment: EnvironmentName) -> None:
    """A name that no setting has is refused: a misspelt one would be missed in silence.

    In the process environment only near misses are, as other programs may use the prefix.
    """
    prefix = prefix_of(environment)
    others = tuple(p for p in PREFIXES.values() if len(p) > len(prefix))
    fields = (*EnvironmentSettings.model_fields, *Places.model_fields)
    known = {prefix + name.upper() for name in fields}
    in_file = dotenv()
    for name in {**in_file, **os.environ}:
        upper = name.upper()
        if upper.startswith(PROJECT_PREFIX):
            _refuse_if_unknown(name, PROJECT_SETTINGS, in_file)
        elif upper.startswith(prefix) and not upper.startswith(others):
            _refuse_if_unknown(name, known, in_file)


def _refuse_if_unknown(name: str, known: Collection[str], in_file: Collection[str]) -> None:
    if name.upper() in known:
        return
    near = difflib.get_close_matches(name.upper(), known, n=1, cutoff=0.85)
    if near or name in in_file:
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(known))}"
        raise SettingsError(f"unknown setting {name}: {hint}")
