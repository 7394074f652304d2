"""Everything that comes in from outside: environments, credentials, hosts, time zone, warehouse.

The names are those servicepytan's users already have. Production reads `SERVICETITAN_*`,
integration `SERVICETITAN_INTEGRATION_*`, the sandbox `SERVICETITAN_SANDBOX_*`; an environment
variable wins over `.env` in the working directory. Nothing here has a default environment.
"""

from __future__ import annotations

import difflib
import math
import os
from datetime import date, datetime, timezone
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, get_args
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from dotenv import dotenv_values
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from st_pipelines.catalog.model import Catalog
from st_pipelines.selection import select
from st_pipelines.servicetitan.connection import Connection
from st_pipelines.warehouse.connect import Warehouse

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


class SettingsError(Exception):
    """A setting is missing, misspelt or wrong. The message names it and says what to do."""

    permanent = True


class NotConfigured(SettingsError):
    """Credentials of an environment are missing. The message names them."""


def _stripped(value: object) -> object:
    return value.strip() if isinstance(value, str) else value


def _https_or_loopback(url: str) -> str:
    if not url:
        return url
    parts = urlsplit(url)
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("give the host alone, without user, query or fragment")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url!r} is no URL: give it as https://host")
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        raise ValueError(
            f"{url!r} is not https; http is accepted for this machine (127.0.0.1) only"
        )
    return url.rstrip("/")


def _digits(text: str | None) -> str | None:
    if text and not text.isdecimal():
        raise ValueError(f"{text!r} is no tenant id: it is a number, without quotes")
    return text


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


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
        return date.fromisoformat(value.strip())
    except ValueError:
        raise ValueError("write it as YYYY-MM-DD") from None


def _not_in_the_future(day: date) -> date:
    if day > datetime.now(timezone.utc).date():
        raise ValueError(f"{day} is in the future: give the day from which partitions shall exist")
    return day


_SECRETS = ("client_secret", "app_key")

Text = Annotated[str | None, BeforeValidator(_stripped)]
Secret = Annotated[SecretStr | None, BeforeValidator(_stripped)]
Url = Annotated[str, BeforeValidator(_stripped), AfterValidator(_https_or_loopback)]
StartDate = Annotated[date, BeforeValidator(_a_day), AfterValidator(_not_in_the_future)]


class EnvironmentSettings(BaseSettings):
    """The settings of one environment, each optional until it is needed.

    Attributes:
        client_id, client_secret, app_key, tenant_id: the credentials that ServiceTitan issues.
        app_id: kept for servicepytan's users; the API does not need it.
        timezone: IANA name of the company's time zone, by which a record belongs to a day.
        start_date: first day that has a partition; it also holds everything older.
        api_url, auth_url: another ServiceTitan-like server; https unless it is loopback.
        requests_per_second: of the tenant and app, shared by all threads of a process.
        page_size: records a page, at most the endpoint's own limit.
    """

    model_config = SettingsConfigDict(extra="ignore", env_file_encoding="utf-8")

    client_id: Text = None
    client_secret: Secret = None
    app_key: Secret = None
    app_id: Text = None
    tenant_id: Annotated[Text, AfterValidator(_digits)] = None
    timezone: Annotated[str, BeforeValidator(_stripped), AfterValidator(_known_zone)] = "UTC"
    start_date: Annotated[date, BeforeValidator(_a_day), AfterValidator(_not_in_the_future)] = date(
        2024, 1, 1
    )
    api_url: Url = ""
    auth_url: Url = ""
    requests_per_second: float = Field(default=60, gt=0, le=1000)
    page_size: int = Field(default=5000, ge=1, le=5000)
    timeout: float = Field(default=100, gt=0, le=3600)

    def missing(self) -> list[str]:
        """Names of the credentials that are not set, as fields."""
        return [name for name in _REQUIRED if not getattr(self, name)]


def env_file() -> Path:
    """The `.env` that is read: in the working directory."""
    return Path.cwd() / ".env"


def load_settings(environment: EnvironmentName, **overrides: Any) -> EnvironmentSettings:
    """The settings of an environment, from environment variables and `.env`.

    Args:
        environment: `production`, `integration` or `sandbox`.
        **overrides: values that win over both.

    Raises:
        SettingsError: a value is wrong, or a name is misspelt.
    """
    prefix = _prefix(environment)
    _refuse_misspelt(environment)
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return EnvironmentSettings(
            _env_prefix=prefix,  # pyright: ignore[reportCallIssue]
            _env_file=env_file(),  # pyright: ignore[reportCallIssue]
            **given,
        )
    except ValidationError as error:
        raise SettingsError(_explained(error, prefix)) from None


def connection(environment: EnvironmentName, settings: EnvironmentSettings) -> Connection:
    """What the client needs, complete.

    Raises:
        SettingsError: a credential is missing; names all that are.
    """
    missing = [_prefix(environment) + name.upper() for name in settings.missing()]
    api_url, auth_url = _HOSTS[environment]
    for name, default in (("api_url", api_url), ("auth_url", auth_url)):
        if not (getattr(settings, name) or default):
            missing.append(_prefix(environment) + name.upper())
    if missing:
        raise NotConfigured(
            f"{environment} is not configured: set {', '.join(missing)} "
            f"in the environment or in {env_file().name}"
        )
    assert settings.client_id is not None
    assert settings.client_secret is not None
    assert settings.app_key is not None
    assert settings.tenant_id is not None
    return Connection(
        environment=environment,
        api_url=settings.api_url or api_url,
        auth_url=settings.auth_url or auth_url,
        client_id=settings.client_id,
        client_secret=settings.client_secret,
        app_key=settings.app_key,
        tenant_id=settings.tenant_id,
        requests_per_second=settings.requests_per_second,
        page_size=settings.page_size,
        timeout=settings.timeout,
    )


def warehouse(environment: EnvironmentName) -> Warehouse:
    """The environment's warehouse: `ST_WAREHOUSE_DIR` (default `data`) / `<environment>.duckdb`.

    The sandbox's may be named by `ST_SANDBOX_WAREHOUSE`, as `st-pipelines demo` does.
    `ST_PUBLISH_SECONDS` has a read copy made after loads, see `warehouse.publish`.

    Raises:
        SettingsError: a value is wrong, or there is no such environment.
    """
    _prefix(environment)
    values = _values()
    folder = Path(str(values.get("ST_WAREHOUSE_DIR") or "data").strip())
    file = str(folder / f"{environment}.duckdb")
    if environment == "sandbox" and values.get("ST_SANDBOX_WAREHOUSE"):
        file = str(values["ST_SANDBOX_WAREHOUSE"])
    return Warehouse(uri=file, publish_seconds=_publish_seconds(values.get("ST_PUBLISH_SECONDS")))


def _publish_seconds(text: str | None) -> float | None:
    """Seconds between two read copies; None, which is none at all, where it is empty or 0."""
    try:
        seconds = float((text or "0").strip() or 0)
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


def history(catalog: Catalog) -> frozenset[str]:
    """The tables of which every version is kept: `ST_HISTORY`, such as `jpm.jobs,crm.*`.

    Raises:
        SettingsError: it names a table that does not exist, or one whose records have no key.
    """
    values = _values()
    patterns = str(values.get("ST_HISTORY") or "").strip()
    if not patterns:
        return frozenset()
    try:
        chosen = select(catalog, [patterns])
    except ValueError as error:
        raise SettingsError(f"ST_HISTORY: {error}") from None
    for endpoint in chosen:
        if not endpoint.key and endpoint.table in patterns:
            raise SettingsError(
                f"ST_HISTORY: {endpoint.table} has no history, as nothing identifies its records"
            )
    return frozenset(endpoint.table for endpoint in chosen if endpoint.key)


def environment_name(text: str) -> EnvironmentName:
    """The environment of that name. Raises SettingsError."""
    if text not in _PREFIXES:
        raise SettingsError(f"unknown environment {text!r}: name one of {', '.join(ENVIRONMENTS)}")
    return text  # pyright: ignore[reportReturnType]


def additions_file() -> Path:
    """The user's additions to the catalogue: `ST_CATALOG`, or `st_catalog.json` here."""
    values = _values()
    return Path(str(values.get("ST_CATALOG") or "st_catalog.json").strip())


def hosts(environment: EnvironmentName) -> tuple[str, str]:
    """API and auth URL of an environment where the settings name no others; "" for none."""
    return _HOSTS[environment]


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
    known = {prefix + name.upper() for name in EnvironmentSettings.model_fields}
    in_file = dotenv_values(env_file())
    for name in {**in_file, **os.environ}:
        upper = name.upper()
        if not upper.startswith(prefix) or upper in known or upper.startswith(others):
            continue
        near = difflib.get_close_matches(upper, known, n=1, cutoff=0.85)
        if near or name in in_file:
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(known))}"
            raise SettingsError(f"unknown setting {name}: {hint}")


def _explained(error: ValidationError, prefix: str) -> str:
    """One line a wrong value; the value of a secret is never repeated."""
    lines = []
    for item in error.errors(include_url=False):
        field = str(item["loc"][0]).upper().removeprefix(prefix)
        secret = field.lower() in _SECRETS or "@" in str(item["input"])
        value = "" if secret else f" is {item['input']!r}"
        lines.append(f"{prefix}{field}{value}: {item['msg'].removeprefix('Value error, ')}")
    return "; ".join(lines)
