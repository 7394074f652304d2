"""What is set for the project as a whole, and the tables that an environment has."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pydantic import SecretStr

from st_pipelines.catalog import registry
from st_pipelines.catalog.model import Catalog, Endpoint
from st_pipelines.catalog.registry import select
from st_pipelines.config.environments import (
    ENVIRONMENTS,
    EnvironmentName,
    environment_name,
    setting_name,
)
from st_pipelines.config.errors import SettingsError
from st_pipelines.config.settings import EnvironmentSettings, dotenv, load_settings

if TYPE_CHECKING:
    from st_pipelines.warehouse.store.base import Store


def warehouse(environment: EnvironmentName) -> Store:
    """The environment's warehouse: `ST_WAREHOUSE_DIR` (default `data`) / `<environment>.duckdb`.

    `ST_PRODUCTION_WAREHOUSE` and the like name another file. `ST_PUBLISH_SECONDS` has a read copy
    made after loads, see `warehouse.publish`.

    Raises:
        SettingsError: a value is wrong, two environments have one file, or there is no such
            environment.
    """
    from st_pipelines.warehouse.store.base import open_store

    environment_name(environment)
    values = _values()
    file = _warehouse_file(environment, values)
    for other in ENVIRONMENTS:
        if other != environment and _one_file(file, _warehouse_file(other, values)):
            raise SettingsError(
                f"{environment} and {other} have the same warehouse file {file}: give each its own"
                f" by ST_{environment.upper()}_WAREHOUSE and ST_{other.upper()}_WAREHOUSE"
            )
    return open_store(
        file, publish_seconds=_publish_seconds(_value("ST_PUBLISH_SECONDS", values=values))
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
    """What `.env` and the process environment set, in capitals; the latter wins."""
    return {name.upper(): value for name, value in {**dotenv(), **os.environ}.items()}


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
        if not endpoint.has_key and endpoint.table in patterns:
            raise SettingsError(
                f"ST_HISTORY: {endpoint.table} has no history, as nothing identifies its records"
            )
    return frozenset(endpoint.table for endpoint in chosen if endpoint.has_key)


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


def alert_webhook_url() -> SecretStr | None:
    """Returns `ST_ALERT_WEBHOOK`, the URL that receives alerts, or None if it is not set.

    Raises:
        SettingsError: it is no http or https URL.
    """
    url = _value("ST_ALERT_WEBHOOK")
    if not url:
        return None
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SettingsError("ST_ALERT_WEBHOOK is no URL: give it as https://host/path")
    return SecretStr(url)


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


def additions_file() -> Path:
    """The user's additions to the catalogue: `ST_CATALOG`, or `st_catalog.json` here."""
    return Path(_value("ST_CATALOG", "st_catalog.json"))


def load_catalog() -> Catalog:
    """Returns the packaged catalog with the user's additions.

    Raises:
        ValueError: the additions file is malformed or does not fit the catalog.
    """
    return registry.load_catalog(additions_file())
