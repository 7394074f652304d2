"""What `st-pipelines check` tells of the settings: values, where they come from, their age."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from st_pipelines.config.environments import EnvironmentName, hosts
from st_pipelines.config.errors import SettingsError
from st_pipelines.config.settings import (
    EnvironmentSettings,
    complete,
    load_settings,
    setting_and_source,
)
from st_pipelines.config.sources.places import Places
from st_pipelines.config.sources.values import CLIENT_SECRETS

OLD = 90
"""Days after which a client secret should be exchanged."""
_DERIVED = ("api_url", "auth_url")


@dataclass(frozen=True, kw_only=True)
class ShownSetting:
    """One setting, as it may be shown.

    Attributes:
        name: such as `SERVICETITAN_CLIENT_ID`.
        value: masked where it is a secret; empty where it is not set.
        source: such as "environment variable", ".env", "default"; "not set"
            where it has neither value nor default.
    """

    name: str
    value: str
    source: str


@dataclass(frozen=True, kw_only=True)
class Shown:
    """The settings of one environment.

    Attributes:
        settings: each of them, in the order of their declaration; of those that name a further
            place, such as `SERVICETITAN_VAULT_URL`, the ones that are set.
        warnings: what should be mended, without values.
        problem: why a secrets manager could not be asked; the settings are then without it.
    """

    settings: tuple[ShownSetting, ...]
    warnings: tuple[str, ...] = ()
    problem: str = ""


@dataclass(frozen=True, kw_only=True)
class SecretAge:
    """How old a secret is, where its manager knows.

    Attributes:
        name: of the setting and its source.
        created: when this version was made, aware.
        days: whole days since.
        warning: what to do; empty up to 90 days.
    """

    name: str
    created: datetime
    days: int
    warning: str = ""


def shown(environment: EnvironmentName, *, ask_managers: bool = True, **overrides: Any) -> Shown:
    """The settings with the source of each; secrets are masked.

    Args:
        environment: whose.
        ask_managers: also ask the secrets managers that are named, by network.
        **overrides: as for `load_settings`.

    Raises:
        SettingsError: what is on this machine is wrong. What a manager says is in `problem`.
    """
    found, problem = load_settings(environment, **overrides), ""
    if ask_managers:
        try:
            found = complete(environment, found)
        except SettingsError as error:
            problem = str(error)
    named = [name for name in Places.model_fields if name in found.places.gathered.origins]
    rows = (
        *(_row(environment, found, name) for name in EnvironmentSettings.model_fields),
        *(_row(environment, found.places, name) for name in named),
    )
    return Shown(settings=rows, warnings=found.gathered.warnings, problem=problem)


def secret_ages(
    environment: EnvironmentName, found: EnvironmentSettings, *, now: datetime | None = None
) -> tuple[SecretAge, ...]:
    """The age of each secret whose manager knows it.

    Args:
        environment: whose.
        found: of `settings.complete`, so that the managers were asked.
        now: aware; the real time if None.
    """
    return tuple(_ages(environment, found, now or datetime.now(timezone.utc)))


def _ages(
    environment: EnvironmentName, found: EnvironmentSettings, now: datetime
) -> Iterator[SecretAge]:
    for field in CLIENT_SECRETS:  # the app key is not exchanged
        created = found.gathered.created.get(field)
        if created is None:
            continue
        name = setting_and_source(environment, found, field)
        days = (now - created).days
        old = f"{name} is {days} days old: exchange it (docs/secrets.md)" if days > OLD else ""
        yield SecretAge(name=name, created=created, days=days, warning=old)


def _row(
    environment: EnvironmentName, found: EnvironmentSettings | Places, field: str
) -> ShownSetting:
    name = setting_and_source(environment, EnvironmentSettings(), field)
    value = getattr(found, field) or _default(environment, field)
    source = found.gathered.origins.get(field, "default" if value else "not set")
    return ShownSetting(name=name, value="" if value is None else str(value), source=source)


def _default(environment: EnvironmentName, field: str) -> str | None:
    if field not in _DERIVED:
        return None
    api_url, auth_url = hosts(environment)
    return api_url if field == "api_url" else auth_url
