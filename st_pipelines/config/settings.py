"""The settings of one environment, gathered from their sources.

Settings of the project as a whole, such as the warehouse, are in `project`.
"""

from __future__ import annotations

import dataclasses
import difflib
import logging
from collections.abc import Collection, Iterable, Mapping
from datetime import date
from typing import Any, TypeVar

from pydantic import Field, PrivateAttr, SecretStr, ValidationError

from st_pipelines.config.environments import (
    PREFIXES,
    PROJECT_PREFIX,
    PROJECT_SETTINGS,
    EnvironmentName,
    environment_name,
    setting_name,
)
from st_pipelines.config.errors import SettingsError
from st_pipelines.config.sources.base import ExplicitSettings
from st_pipelines.config.sources.local import Variables, read_variables, warn_if_open_to_others
from st_pipelines.config.sources.places import (
    AllPlaces,
    Places,
    local_sources,
    manager_sources,
    resolve_places,
)
from st_pipelines.config.sources.resolve import Gathered, gather
from st_pipelines.config.validators import (
    Cron,
    Guid,
    Secret,
    StartDate,
    TenantId,
    Text,
    Url,
    Zone,
    format_validation_error,
)

_REQUIRED = ("client_id", "client_secret", "app_key", "tenant_id")
_FROM_MANAGERS = frozenset(
    (
        *_REQUIRED,
        "client_secret_next",
        "app_id",
        "api_environment",
        "api_url",
        "auth_url",
        "requests_per_second",
        "page_size",
        "timeout",
        "max_response_mb",
        "external_data_app_guid",
        "report_interval_seconds",
        "report_wait_seconds",
    )
)
"""Fields that only the connection needs. Dagster's definitions need the others, without network."""
_log = logging.getLogger(__name__)
_logged: set[str] = set()
_recently_built: list[tuple[tuple[Any, ...], EnvironmentSettings]] = []
_MAX_RECENTLY_BUILT = 4
_Model = TypeVar("_Model", bound=ExplicitSettings)


class EnvironmentSettings(ExplicitSettings):
    """The settings of one environment. None is required until a connection is built.

    Attributes:
        client_id, client_secret, app_key, tenant_id: the credentials that ServiceTitan issues.
        client_secret_next: used if ServiceTitan rejects `client_secret`, during a rotation.
        app_id: accepted because servicepytan's users have it; the API does not need it.
        api_environment: servicepytan's; must be this environment if it is set.
        timezone: IANA name of the company's time zone, which decides the day of a record.
        start_date: first day that has a partition; it also holds everything older.
        api_url, auth_url: another ServiceTitan-like server; https unless it is loopback.
        requests_per_second: for the tenant and app, shared by all threads of a process.
        page_size: records per page, at most the endpoint's own limit.
        timeout: seconds to wait for a response.
        max_response_mb: the largest response that is read, after decompression.
        external_data_app_guid: the application whose `externalData` the lists return.
        report_interval_seconds: between the starts of two runs of one report; each page is a run.
        report_wait_seconds: how long a report's limit, a maintenance or a run in progress is waited
            for.
        select: the tables that the environment has, see `registry.select`; None for all.
        daily_cron, intraday_cron, snapshots_cron: of the schedules, in the time zone.
        changes_minutes: between two ticks of the sensor `changes`.
        gap_days: how many days back the sensor `gaps` looks for partitions to load.
    """

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
    requests_per_second: float = Field(default=60.0, gt=0, le=1000)
    page_size: int = Field(default=5000, ge=1, le=5000)
    timeout: float = Field(default=100.0, gt=0, le=3600)
    max_response_mb: int = Field(default=256, ge=1, le=65536)
    external_data_app_guid: Guid = None
    report_interval_seconds: float = Field(default=60.0, ge=0, le=3600)
    report_wait_seconds: float = Field(default=3600.0, ge=0, le=86400)
    select: Text = None
    daily_cron: Cron = "30 0 * * *"
    intraday_cron: Cron = "0 6-21/3 * * *"
    snapshots_cron: Cron = "0 12 * * *"
    changes_minutes: float = Field(default=5.0, ge=0.5, le=1440)
    gap_days: int = Field(default=14, ge=1, le=366)

    _gathered: Gathered = PrivateAttr(default_factory=Gathered)
    _places: Places = PrivateAttr(default_factory=AllPlaces)
    _asks_managers: bool = PrivateAttr(default=False)

    @property
    def gathered(self) -> Gathered:
        """Where each value came from, and the warnings."""
        return self._gathered

    @property
    def timezone_is_default(self) -> bool:
        """Whether no source has set the time zone."""
        return "timezone" not in self._gathered.origins

    @property
    def places(self) -> Places:
        """The settings that name further sources."""
        return self._places

    @property
    def asks_managers(self) -> bool:
        """Whether a secrets manager is named that has not been asked yet."""
        return self._asks_managers

    def missing(self) -> list[str]:
        """Returns the credentials that are not set, as names of fields."""
        return [name for name in _REQUIRED if not getattr(self, name)]


def load_settings(environment: EnvironmentName, **overrides: Any) -> EnvironmentSettings:
    """Reads the settings of an environment from this machine; asks no secrets manager.

    Args:
        **overrides: values that win over all sources.

    Raises:
        SettingsError: a value is invalid, a name is misspelled, or a file cannot be read.
    """
    return build_settings(environment, read_variables(), hide_overrides(overrides))


def hide_overrides(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the overrides that are not None, with their secrets wrapped."""
    secrets = (*EnvironmentSettings.secret_fields, *AllPlaces.secret_fields)
    given = {name: value for name, value in overrides.items() if value is not None}
    return {
        name: SecretStr(value) if name in secrets and isinstance(value, str) else value
        for name, value in given.items()
    }


def build_settings(
    environment: EnvironmentName, variables: Variables, overrides: Mapping[str, Any]
) -> EnvironmentSettings:
    """Returns the settings of an environment from variables that were read before.

    They depend on nothing but the arguments and the mode of `.env`, so the same settings are
    returned while those are unchanged; unless further files are named, which may change.

    Args:
        overrides: of `hide_overrides`.

    Raises:
        SettingsError: as `load_settings`.
    """
    inputs = (environment, overrides, *_read_inputs(variables))
    for former_inputs, settings in _recently_built:
        if former_inputs == inputs:
            return settings
    settings = _build_settings(PREFIXES[environment_name(environment)], variables, overrides)
    if not (settings.places.config_file or settings.places.secrets_dir):
        _recently_built.append((inputs, settings))
        del _recently_built[:-_MAX_RECENTLY_BUILT]
    return settings


def _read_inputs(variables: Variables) -> tuple[Any, ...]:
    """Returns what settings depend on in the variables; values are hidden, as any may be secret."""
    prefixes = (PROJECT_PREFIX, *PREFIXES.values())
    named: list[dict[str, Any]] = [
        {
            name: value and SecretStr(value)
            for name, value in source.items()
            if name.upper().startswith(prefixes)
        }
        for source in (variables.process, variables.dotenv)
    ]
    return *named, variables.dotenv_file, warn_if_open_to_others(variables.dotenv_file)


def _build_settings(
    prefix: str, variables: Variables, overrides: Mapping[str, Any]
) -> EnvironmentSettings:
    _refuse_misspelled(prefix, variables)
    gathered = gather(local_sources(AllPlaces, prefix, variables, overrides))
    places = resolve_places(_build(AllPlaces, prefix, gathered), prefix, variables)
    places._gathered = gathered
    sources = local_sources(EnvironmentSettings, prefix, variables, overrides, places)
    gathered = gather(sources, Gathered(warnings=gathered.warnings))
    settings = _build(EnvironmentSettings, prefix, gathered)
    settings._gathered, settings._places = gathered, places
    settings._asks_managers = places.has_managers
    return settings


def complete(environment: EnvironmentName, settings: EnvironmentSettings) -> EnvironmentSettings:
    """Returns the settings with what the secrets managers hold. Asks them, if any is named.

    Raises:
        SettingsError: a manager refuses or lacks the secret.
        SourceUnavailable: a manager is unreachable.
    """
    if not settings.asks_managers:
        return settings
    prefix, before = PREFIXES[environment], settings.gathered
    after = gather(manager_sources(EnvironmentSettings, prefix, settings.places), before)
    unused = after.values.keys() - before.values.keys() - _FROM_MANAGERS
    warnings = (
        f"{prefix}{name.upper()} ({after.origins[name]}) is not used: Dagster's definitions "
        "need it without network, so set it in the environment or in .env"
        for name in sorted(unused)
    )
    gathered = dataclasses.replace(
        after,
        values={name: value for name, value in after.values.items() if name not in unused},
        origins={name: origin for name, origin in after.origins.items() if name not in unused},
        warnings=(*after.warnings, *warnings),
    )
    completed = _build(EnvironmentSettings, prefix, gathered)
    completed._gathered, completed._places = gathered, settings.places
    return completed


def setting_and_source(
    environment: EnvironmentName, settings: EnvironmentSettings, field: str
) -> str:
    """Returns the name of a setting and where its value came from, for messages."""
    origin = settings.gathered.origins.get(field)
    name = setting_name(environment, field)
    return f"{name} ({origin})" if origin else name


def _build(model: type[_Model], prefix: str, gathered: Gathered) -> _Model:
    """Validates gathered values and logs their warnings. Raises SettingsError."""
    _log_once(gathered.warnings)
    try:
        return model(**gathered.values)
    except ValidationError as error:
        text = format_validation_error(error, model.secret_fields, prefix, gathered.origins)
        raise SettingsError(text) from None


def _log_once(warnings: Iterable[str]) -> None:
    """Logs each warning once per process, as settings are read for every run and command."""
    for warning in warnings:
        if warning not in _logged:
            _logged.add(warning)
            _log.warning("%s", warning)


def _refuse_misspelled(prefix: str, variables: Variables) -> None:
    """Refuses names that are not settings, which would otherwise have no effect in silence.

    In the process environment only near misses are refused, as other programs may use the prefix.
    """
    others = tuple(other for other in PREFIXES.values() if len(other) > len(prefix))
    fields = (*EnvironmentSettings.model_fields, *AllPlaces.model_fields)
    known = {prefix + name.upper() for name in fields}
    for name in {**variables.dotenv, **variables.process}:
        upper = name.upper()
        if upper.startswith(PROJECT_PREFIX):
            _refuse_unknown(name, PROJECT_SETTINGS, variables.dotenv)
        elif upper.startswith(prefix) and not upper.startswith(others):
            _refuse_unknown(name, known, variables.dotenv)


def _refuse_unknown(name: str, known: Collection[str], dotenv: Collection[str]) -> None:
    if name.upper() in known:
        return
    near = difflib.get_close_matches(name.upper(), known, n=1, cutoff=0.85)
    if near or name in dotenv:
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(known))}"
        raise SettingsError(f"unknown setting {name}: {hint}")
