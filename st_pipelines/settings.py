"""Everything that comes in from outside: environments, credentials, hosts, time zone, warehouse.

The names are those servicepytan's users already have. Production reads `SERVICETITAN_*`,
integration `SERVICETITAN_INTEGRATION_*`, the sandbox `SERVICETITAN_SANDBOX_*`. Of the sources the
first wins: arguments, environment variables, `.env` in the working directory, servicepytan's config
file, a folder of files, AWS Secrets Manager, Azure Key Vault, HashiCorp Vault. The managers are
asked when a connection is needed, not before. Nothing here has a default environment.
"""

from __future__ import annotations

import dataclasses
import difflib
import logging
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, get_args
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from dotenv import dotenv_values
from pydantic import AfterValidator, BeforeValidator, Field, PrivateAttr, SecretStr, ValidationError
from pydantic_settings import SettingsConfigDict

from st_pipelines.catalog.model import Catalog, Endpoint
from st_pipelines.selection import select
from st_pipelines.servicetitan.connection import Connection
from st_pipelines.sources.errors import NotConfigured, SettingsError, WrongHost
from st_pipelines.sources.gathering import Gathered, gather, sealed
from st_pipelines.sources.places import Places, managers, near_sources, place_sources
from st_pipelines.sources.source import Handed
from st_pipelines.sources.urls import https_or_loopback
from st_pipelines.sources.values import SECRET_FIELDS
from st_pipelines.warehouse.connect import Warehouse
from st_pipelines.webhook import Webhook

EnvironmentName: TypeAlias = Literal["production", "integration", "sandbox"]
ENVIRONMENTS: tuple[EnvironmentName, ...] = get_args(EnvironmentName)

_PREFIXES: dict[EnvironmentName, str] = {
    "production": "SERVICETITAN_",
    "integration": "SERVICETITAN_INTEGRATION_",
    "sandbox": "SERVICETITAN_SANDBOX_",
}
_HOSTS: dict[EnvironmentName, tuple[str, str]] = {
    "production": ("https://api.servicetitan.io", "https://auth.servicetitan.io"),
    "integration": (
        "https://api-integration.servicetitan.io",
        "https://auth-integration.servicetitan.io",
    ),
    "sandbox": ("", ""),
}
_REQUIRED = ("client_id", "client_secret", "app_key", "tenant_id")


_log = logging.getLogger(__name__)
_told: set[str] = set()


def _digits(text: str | None) -> str | None:
    if text and not text.isdecimal():
        raise ValueError(f"{text!r} is no tenant id: it is a number, without quotes")
    return text


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError(
            f"{name!r} is no IANA time zone: give one such as America/New_York"
        ) from None
    return name


def _a_day(value: Any) -> Any:
    """A date as it is written in `.env`; other values as they are."""
    if not isinstance(value, str):
        return value
    try:
        return date.fromisoformat(value)
    except ValueError:
        raise ValueError("write it as YYYY-MM-DD") from None


def _not_in_the_future(day: date) -> date:
    if day > datetime.now(timezone.utc).date():
        raise ValueError(f"{day} is in the future: give the day from which partitions shall exist")
    return day


def _a_cron(text: str) -> str:
    # Seconds, which commands that know no schedule need not pay.
    from dagster._utils.schedules import is_valid_cron_string

    if not is_valid_cron_string(text):
        raise ValueError("write it as five fields: minute, hour, day, month, weekday")
    return text


# What only the connection needs; the rest makes Dagster's definitions, which load without network.
_FROM_MANAGERS = frozenset((*_REQUIRED, "client_secret_next", "app_id", "api_environment",
    "api_url", "auth_url", "requests_per_second", "page_size", "timeout"))  # fmt: skip
# What a credential of ServiceTitan looks like, should it stand in another setting's place.
_CREDENTIAL = re.compile(r"\b(?:cs|ak)\d\.")

# What is gathered was cleaned of white space and quotes already.
Text = str | None
Secret = SecretStr | None
Url = Annotated[str, AfterValidator(https_or_loopback)]
Cron = Annotated[str, AfterValidator(_a_cron)]
StartDate = Annotated[date, BeforeValidator(_a_day), AfterValidator(_not_in_the_future)]


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
    tenant_id: Annotated[Text, AfterValidator(_digits)] = None
    timezone: Annotated[str, AfterValidator(_known_zone)] = "UTC"
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


def load_settings(environment: EnvironmentName, **overrides: Any) -> EnvironmentSettings:
    """The settings of an environment from what is on this machine; no manager is asked.

    Args:
        environment: `production`, `integration` or `sandbox`.
        **overrides: values that win over all sources.

    Raises:
        SettingsError: a value is wrong, a name is misspelt, or a file cannot be read.
    """
    prefix = _prefix(environment)
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
    prefix, before = _prefix(environment), settings.gathered
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


def connection(environment: EnvironmentName, settings: EnvironmentSettings) -> Connection:
    """What the client needs, complete; asks the secrets managers that are named.

    Raises:
        SettingsError: a credential is missing (it names all that are), a host is the other
            environment's, or a manager refuses.
    """
    settings = complete(environment, settings)
    require_complete(environment, settings)
    assert settings.client_id is not None
    assert settings.client_secret is not None
    assert settings.app_key is not None
    assert settings.tenant_id is not None
    api_url, auth_url = _HOSTS[environment]
    return Connection(
        environment=environment,
        api_url=settings.api_url or api_url,
        auth_url=settings.auth_url or auth_url,
        client_id=settings.client_id,
        client_secret=settings.client_secret,
        client_secret_next=settings.client_secret_next,
        secret_names=(
            setting_and_source(environment, settings, "client_secret"),
            setting_and_source(environment, settings, "client_secret_next"),
        ),
        secrets_anew=_asking_again(environment, settings._given),
        app_key=settings.app_key,
        tenant_id=settings.tenant_id,
        requests_per_second=settings.requests_per_second,
        page_size=settings.page_size,
        timeout=settings.timeout,
    )


def hosts(environment: EnvironmentName) -> tuple[str, str]:
    """ServiceTitan's own API and auth URLs; empty for the sandbox."""
    return _HOSTS[environment_name(environment)]


def require_complete(environment: EnvironmentName, settings: EnvironmentSettings) -> None:
    """Asks nobody: what a manager may hold that has not been asked yet counts as there.

    Raises:
        SettingsError: a credential is missing (it names all that are), or a host or the
            credentials are the other environment's.
    """
    _refuse_other_hosts(environment, settings)
    urls = zip(("api_url", "auth_url"), _HOSTS[environment], strict=True)
    fields = [*settings.missing(), *(f for f, url in urls if not (getattr(settings, f) or url))]
    if fields and not settings.asks_managers:
        missing = [setting_name(environment, field) for field in fields]
        others = settings.gathered.asked[3:]  # after arguments, environment and .env
        also = f", or in {' or '.join(others)}" if others else ""
        raise NotConfigured(
            f"{environment} is not configured: set {', '.join(missing)} "
            f"in the environment or in {env_file().name}{also}"
        )
    named = (settings.api_environment or environment).lower()
    if named != environment:
        raise SettingsError(
            f"{setting_and_source(environment, settings, 'api_environment')} is {named!r}: these "
            f"credentials are not {environment}'s; give each environment its own, see .env.example"
        )


def why_incomplete(environment: EnvironmentName) -> str:
    """Why an environment cannot be asked, as far as this machine tells; empty where it can."""
    try:
        require_complete(environment, load_settings(environment))
    except SettingsError as error:
        return str(error)
    return ""


def setting_and_source(
    environment: EnvironmentName, settings: EnvironmentSettings, field: str
) -> str:
    """A setting as a person knows it: its name and where its value came from."""
    origin = settings.gathered.origins.get(field)
    name = setting_name(environment, field)
    return f"{name} ({origin})" if origin else name


def _asking_again(
    environment: EnvironmentName, given: Mapping[str, Any]
) -> Callable[[], tuple[SecretStr, ...]]:
    """Reads the sources anew, for a secret that was rotated since."""

    def ask() -> tuple[SecretStr, ...]:
        problem: SettingsError
        try:
            again = complete(environment, load_settings(environment, **given))
        except SettingsError as error:
            problem = type(error)(f"ServiceTitan refuses the client secret that was read; {error}")
        else:
            return tuple(s for s in (again.client_secret, again.client_secret_next) if s)
        raise problem

    return ask


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
        raise SettingsError(_explained(error, prefix, gathered.origins)) from None
    places._gathered = gathered
    return places


def _made(prefix: str, gathered: Gathered) -> EnvironmentSettings:
    """The settings that were gathered, checked. Raises SettingsError."""
    _tell(gathered.warnings)
    try:
        settings = EnvironmentSettings(**gathered.values)
    except ValidationError as error:
        raise SettingsError(_explained(error, prefix, gathered.origins)) from None
    settings._gathered = gathered
    return settings


def _tell(warnings: Iterable[str]) -> None:
    """Logs each warning once a process: settings are read for every run and command."""
    for warning in warnings:
        if warning not in _told:
            _told.add(warning)
            _log.warning("%s", warning)


def _refuse_other_hosts(environment: EnvironmentName, settings: EnvironmentSettings) -> None:
    """The credentials of one environment must not be sent to the other's host."""
    for other in ENVIRONMENTS:
        if other == environment:
            continue
        for name in ("api_url", "auth_url"):
            host = urlsplit(getattr(settings, name)).hostname
            if host and host in {urlsplit(url).hostname for url in hosts(other)}:
                raise WrongHost(
                    f"{setting_name(environment, name)} is the host of {other}",
                    f"Remove it: {environment} has its own, which needs no setting.",
                )


def warehouse(environment: EnvironmentName) -> Warehouse:
    """The environment's warehouse: `ST_WAREHOUSE_DIR` (default `data`) / `<environment>.duckdb`.

    `ST_PRODUCTION_WAREHOUSE` and the like name another file. `ST_PUBLISH_SECONDS` has a read copy
    made after loads, see `warehouse.publish`.

    Raises:
        SettingsError: a value is wrong, two environments have one file, or there is no such
            environment.
    """
    _prefix(environment)
    values = _values()
    file = _warehouse_file(environment, values)
    for other in ENVIRONMENTS:
        if other != environment and _one_file(file, _warehouse_file(other, values)):
            raise SettingsError(
                f"{environment} and {other} have the same warehouse file {file}: give each its own"
                f" by ST_{environment.upper()}_WAREHOUSE and ST_{other.upper()}_WAREHOUSE"
            )
    return Warehouse(
        uri=file, publish_seconds=_publish_seconds(_value("ST_PUBLISH_SECONDS", values=values))
    )


def _warehouse_file(environment: EnvironmentName, values: Mapping[str, str | None]) -> str:
    folder = Path(_value("ST_WAREHOUSE_DIR", "data", values))
    named = _value(f"ST_{environment.upper()}_WAREHOUSE", values=values)
    return named or str(folder / f"{environment}.duckdb")


def _one_file(file: str, other: str) -> bool:
    return os.path.realpath(file) == os.path.realpath(other)


def _publish_seconds(text: str) -> float | None:
    """Seconds between two read copies; None, which is none at all, where it is empty or 0."""
    try:
        seconds = float(text or 0)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise SettingsError(
            f"ST_PUBLISH_SECONDS: {text!r} is no number of seconds: give one such as 300, or 0 to "
            "publish no read copy"
        )
    return seconds or None


def _values() -> dict[str, str | None]:
    """What `.env` and the process environment set; the latter wins."""
    return {**dotenv_values(env_file()), **os.environ}


def _value(name: str, default: str = "", values: Mapping[str, str | None] | None = None) -> str:
    """A setting of no environment; an empty one is not set."""
    return ((_values() if values is None else values).get(name) or default).strip()


def history(catalog: Catalog) -> frozenset[str]:
    """The tables of which every version is kept: `ST_HISTORY`, such as `jpm.jobs,crm.*`.

    Raises:
        SettingsError: it names a table that does not exist, or one whose records have no key.
    """
    patterns = _value("ST_HISTORY")
    if not patterns:
        return frozenset()
    chosen = _select("ST_HISTORY", catalog, patterns)
    for endpoint in chosen:
        if not endpoint.key and endpoint.table in patterns:
            raise SettingsError(
                f"ST_HISTORY: {endpoint.table} has no history, as nothing identifies its records"
            )
    return frozenset(endpoint.table for endpoint in chosen if endpoint.key)


def selected(
    environment: EnvironmentName, settings: EnvironmentSettings, catalog: Catalog
) -> Catalog:
    """The part of the catalogue that an environment has: `SERVICETITAN_SELECT`.

    Raises:
        SettingsError: it names a table that does not exist.
    """
    if not settings.select:
        return catalog
    chosen = _select(setting_name(environment, "select"), catalog, settings.select)
    return Catalog({endpoint.table: endpoint for endpoint in chosen}, catalog.left_out)


def _select(setting: str, catalog: Catalog, patterns: str) -> list[Endpoint]:
    try:
        return select(catalog, [patterns])
    except ValueError as error:
        raise SettingsError(f"{setting}: {error}") from None


def webhook() -> Webhook | None:
    """Where failures are told: `ST_ALERT_WEBHOOK`. None where it is not set.

    Raises:
        SettingsError: it is no http or https URL.
    """
    url = _value("ST_ALERT_WEBHOOK")
    if not url:
        return None
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SettingsError("ST_ALERT_WEBHOOK is no URL: give it as https://host/path")
    return Webhook(url=SecretStr(url))


def ui_url() -> str:
    """Where messages link to: `ST_UI_URL`, by default `dagster dev` on this machine."""
    return _value("ST_UI_URL", "http://127.0.0.1:3000").rstrip("/")


def chosen(
    environment: EnvironmentName, catalog: Catalog, patterns: Sequence[str]
) -> list[Endpoint]:
    """The endpoints that a command is about: those it names, or those the environment has.

    Raises:
        SettingsError: a setting is wrong.
        ValueError: a pattern matches no table.
    """
    if patterns:
        return select(catalog, patterns)
    return list(selected(environment, load_settings(environment), catalog))


def environment_name(text: str) -> EnvironmentName:
    """The environment of that name. Raises SettingsError."""
    if text not in _PREFIXES:
        raise SettingsError(f"unknown environment {text!r}: name one of {', '.join(ENVIRONMENTS)}")
    return text  # pyright: ignore[reportReturnType]


def additions_file() -> Path:
    """The user's additions to the catalogue: `ST_CATALOG`, or `st_catalog.json` here."""
    return Path(_value("ST_CATALOG", "st_catalog.json"))


def setting_name(environment: EnvironmentName, field: str) -> str:
    """The name under which a field is set, such as `SERVICETITAN_CLIENT_ID`."""
    return _prefix(environment) + field.upper()


def _prefix(environment: EnvironmentName) -> str:
    return _PREFIXES[environment_name(environment)]


def _refuse_misspelt(environment: EnvironmentName) -> None:
    """A name that no setting has is refused: a misspelt one would be missed in silence.

    In the process environment only near misses are, as other programs may use the prefix.
    """
    prefix = _PREFIXES[environment]
    others = tuple(p for p in _PREFIXES.values() if len(p) > len(prefix))
    fields = (*EnvironmentSettings.model_fields, *Places.model_fields)
    known = {prefix + name.upper() for name in fields}
    in_file = dotenv_values(env_file())
    for name in {**in_file, **os.environ}:
        upper = name.upper()
        if not upper.startswith(prefix) or upper in known or upper.startswith(others):
            continue
        near = difflib.get_close_matches(upper, known, n=1, cutoff=0.85)
        if near or name in in_file:
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(known))}"
            raise SettingsError(f"unknown setting {name}: {hint}")


def _explained(error: ValidationError, prefix: str, origins: Mapping[str, str]) -> str:
    """One line a wrong value; the value of a secret is never repeated."""
    lines = []
    for item in error.errors(include_url=False):
        field = str(item["loc"][0]).upper().removeprefix(prefix)
        given = str(item["input"])
        secret = field.lower() in SECRET_FIELDS or "@" in given or _CREDENTIAL.search(given)
        value = "" if secret else f" is {item['input']!r}"
        message = item["msg"].removeprefix("Value error, ")
        if secret:
            message = message.replace(repr(given), "the value")
        origin = origins.get(field.lower(), "")
        # The two that everybody has; the name alone leads there.
        far = origin and not origin.startswith(("environment variable", ".env", "an argument"))
        lines.append(f"{prefix}{field}{f' ({origin})' if far else ''}{value}: {message}")
    return "; ".join(lines)
