"""Everything that is configured for one environment, resolved once: `resolve_environment`.

A run, a tick or a command resolves its environment once and passes the value on, so `.env` is
parsed once and nothing changes in between. `connection` turns the value into a connection.
"""

from __future__ import annotations

import dataclasses
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from st_pipelines.catalog import registry
from st_pipelines.catalog.file_kinds import FileKind
from st_pipelines.catalog.model import Catalog, Endpoint
from st_pipelines.catalog.report import API as REPORTS
from st_pipelines.catalog.report import Report
from st_pipelines.config.environments import (
    ENVIRONMENTS,
    EnvironmentName,
    environment_name,
    setting_name,
)
from st_pipelines.config.errors import SettingsError
from st_pipelines.config.files import (
    FileSettings,
    available_kinds,
    read_file_settings,
    read_kinds,
    require_sources,
)
from st_pipelines.config.forecast import apply_forecast_days, read_forecast_days
from st_pipelines.config.reports_file import parse_reports, read_reports
from st_pipelines.config.settings import (
    EnvironmentSettings,
    build_settings,
    hide_overrides,
)
from st_pipelines.config.sources.local import Variables, read_variables
from st_pipelines.config.validators import is_loopback
from st_pipelines.warehouse.store.base import (
    DEFAULT_WAIT_SECONDS,
    Store,
    canonical_uri,
    is_scheme,
    open_store,
)

_ADDITIONS_FILE = "st_catalog.json"
_REPORTS_FILE = "st_reports.yaml"
_MAX_CHILD_REQUESTS = 10_000
"""Three minutes at the rate limit for each table: the first load of a child list does not hold up
the daily run, and takes several days where there are more parents."""

_ENDPOINTS_FILE = "st_endpoints.yaml"
_BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def resolve_environment(environment: EnvironmentName, **overrides: Any) -> EnvironmentConfig:
    """Reads the process environment and `.env`, once, for everything that the value has.

    Values are validated when they are first used, so an invalid one concerns only its users.

    Args:
        **overrides: settings that win over all sources, such as `timezone`.

    Raises:
        SettingsError: the environment is unknown, or `.env` cannot be read.
    """
    return EnvironmentConfig(
        environment=environment_name(environment),
        variables=read_variables(),
        overrides=hide_overrides(overrides),
    )


def load_catalog() -> Catalog:
    """Returns the catalog with the user's endpoints and additions, for what has no environment.

    It has the reports of all environments.

    Raises:
        SettingsError: `.env` or the reports file cannot be read.
        ValueError: the additions file or the endpoints file is malformed, or does not fit the
            catalog.
    """
    variables = read_variables()
    catalog = registry.load_catalog(
        variables.read_path("ST_CATALOG", _ADDITIONS_FILE),
        variables.read_path("ST_ENDPOINTS", _ENDPOINTS_FILE),
    )
    reports = read_reports(variables.read_path("ST_REPORTS", _REPORTS_FILE))
    return registry.add_reports(catalog, reports)


def without_opt_in(catalog: Catalog) -> Catalog:
    """Returns the part of a catalog that an environment has unless it selects more."""
    endpoints = {e.table: e for e in catalog if not e.opt_in}
    return Catalog(endpoints, catalog.left_out) if len(endpoints) < len(catalog) else catalog


def load_file_kinds(endpoints: Iterable[Endpoint]) -> tuple[FileKind, ...]:
    """Returns the kinds of `ST_FILES` whose source is among some endpoints.

    Raises:
        SettingsError: `.env` cannot be read, or a kind is unknown.
    """
    return available_kinds(read_kinds(read_variables().read("ST_FILES")), endpoints)


@dataclass(frozen=True, kw_only=True)
class EnvironmentConfig:
    """What is configured for one environment, from variables that were read at one moment.

    Attributes:
        environment: its name.
        variables: the process environment and `.env`.
        overrides: settings that win over all sources.
        given_reports: instead of those of the reports file.
    """

    environment: EnvironmentName
    variables: Variables = field(repr=False)
    overrides: Mapping[str, Any] = field(default_factory=dict, repr=False)
    given_reports: tuple[Report, ...] | None = None

    @cached_property
    def settings(self) -> EnvironmentSettings:
        """The settings of the environment, without those of secrets managers.

        Raises:
            SettingsError: as `settings.load_settings`.
        """
        return build_settings(self.environment, self.variables, self.overrides)

    @cached_property
    def catalog(self) -> Catalog:
        """All endpoints, with the user's own, their additions and reports.

        Raises:
            SettingsError: the reports file is malformed, or a number of days is wrong.
            ValueError: the user's endpoints or additions do not fit.
        """
        catalog = registry.load_catalog(self.additions_file, self.endpoints_file)
        return registry.add_reports(apply_forecast_days(catalog, self.variables), self.reports)

    @cached_property
    def reports(self) -> tuple[Report, ...]:
        """The reports of the environment. Raises SettingsError for a malformed file."""
        if self.given_reports is not None:
            return self.given_reports
        return self._own_reports(read_reports(self.reports_file))

    def with_reports(
        self, reports: str | Path | Sequence[Mapping[str, Any]] | None
    ) -> EnvironmentConfig:
        """Returns the configuration with other reports than those of the setting ST_REPORTS.

        Args:
            reports: a file, or the entries of one; None for the setting's.

        Raises:
            SettingsError: they are malformed, or the file does not exist.
        """
        if reports is None:
            return self
        if isinstance(reports, str | Path):
            file = self.variables.resolve_path(str(reports), "reports", "file")
            if not file.exists():
                raise SettingsError(f"reports: {file} does not exist: create it, or correct this")
            found = read_reports(file)
        else:
            found = parse_reports(list(reports), "reports")
        return dataclasses.replace(self, given_reports=self._own_reports(found))

    def _own_reports(self, reports: Iterable[Report]) -> tuple[Report, ...]:
        return tuple(
            report
            for report in reports
            if not report.environments or self.environment in report.environments
        )

    @cached_property
    def reports_file(self) -> Path:
        """The user's list of reports: `ST_REPORTS`, by default `st_reports.yaml`.

        Raises:
            SettingsError: it is not a path that can be used.
        """
        return self.variables.read_path("ST_REPORTS", _REPORTS_FILE)

    @property
    def base_catalog(self) -> Catalog:
        """The packaged endpoints and the user's, without additions and reports.

        Raises:
            ValueError: the user's endpoints do not fit.
        """
        return registry.load_base_catalog(self.endpoints_file)

    @cached_property
    def endpoints_file(self) -> Path:
        """The user's own endpoints: `ST_ENDPOINTS`, by default `st_endpoints.yaml`.

        Raises:
            SettingsError: it is not a path that can be used.
        """
        return self.variables.read_path("ST_ENDPOINTS", _ENDPOINTS_FILE)

    @property
    def capacity_days_back(self) -> int:
        """Days before today that a load of the capacity reads: `ST_CAPACITY_DAYS_BACK`.

        Raises:
            SettingsError: it is not a whole number of days, or too many.
        """
        return read_forecast_days(self.variables)[0]

    @property
    def capacity_days_ahead(self) -> int:
        """Days after today that a load of the capacity reads: `ST_CAPACITY_DAYS_AHEAD`.

        Raises:
            SettingsError: it is not a whole number of days, or too many.
        """
        return read_forecast_days(self.variables)[1]

    @cached_property
    def additions_file(self) -> Path:
        """The user's additions to the catalog: `ST_CATALOG`, by default `st_catalog.json`.

        Raises:
            SettingsError: it is not a path that can be used.
        """
        return self.variables.read_path("ST_CATALOG", _ADDITIONS_FILE)

    def apply_selection(self, catalog: Catalog | None = None) -> Catalog:
        """Returns the part of a catalog that the environment has: `SERVICETITAN_SELECT`.

        It has the reports in any case: their file is their selection.

        Args:
            catalog: by default the configured one.

        Raises:
            SettingsError: the setting names a table that does not exist.
        """
        catalog, patterns = catalog or self.catalog, self.settings.select
        if not patterns:
            return without_opt_in(catalog)
        chosen = _select(setting_name(self.environment, "select"), catalog, patterns)
        chosen = list(dict.fromkeys([*chosen, *(e for e in catalog if e.api == REPORTS)]))
        return Catalog({endpoint.table: endpoint for endpoint in chosen}, catalog.left_out)

    def select_endpoints(self, patterns: Sequence[str]) -> list[Endpoint]:
        """Returns the endpoints that a command names, by default those the environment has.

        Raises:
            SettingsError: a setting is invalid.
            ValueError: a pattern matches no table.
        """
        if patterns:
            return registry.select(self.catalog, patterns)
        return list(self.apply_selection())

    @cached_property
    def history_tables(self) -> frozenset[str]:
        """The tables that keep every version of a row: `ST_HISTORY`, such as `jpm.jobs,crm.*`.

        Raises:
            SettingsError: it names a table that does not exist, or whose records have no key.
        """
        patterns = self.variables.read("ST_HISTORY")
        if not patterns:
            return frozenset()
        chosen = _select("ST_HISTORY", self.catalog, patterns)
        named = {pattern.strip() for pattern in patterns.split(",")}
        for endpoint in chosen:
            if not endpoint.has_key and endpoint.table in named:
                raise SettingsError(
                    f"ST_HISTORY: {endpoint.table} can have no history, as its records have no key"
                )
        return frozenset(endpoint.table for endpoint in chosen if endpoint.has_key)

    @cached_property
    def files(self) -> FileSettings:
        """Which files are stored, and where. Raises SettingsError if a setting of them is wrong."""
        return read_file_settings(self.variables, self._folder_of_warehouse)

    def _folder_of_warehouse(self) -> Path:
        """Returns the folder of the warehouse's file, or of the warehouses where it has none."""
        path = Path(self.warehouse_uri.removeprefix("duckdb:"))
        return path.parent if path.is_absolute() else self.warehouse_folder

    @cached_property
    def file_kinds(self) -> tuple[FileKind, ...]:
        """The kinds of files that the environment stores: `ST_FILES`.

        Raises:
            SettingsError: a kind is unknown, or its source tables are not selected.
        """
        kinds = read_kinds(self.variables.read("ST_FILES"))
        if kinds:
            setting = setting_name(self.environment, "select")
            require_sources(kinds, self.apply_selection(), setting)
        return kinds

    @property
    def shown_file_kinds(self) -> frozenset[str]:
        """The names of `file_kinds`. Raises SettingsError."""
        return frozenset(kind.name for kind in self.file_kinds)

    def available_file_kinds(self, endpoints: Iterable[Endpoint]) -> tuple[FileKind, ...]:
        """Returns the kinds of `ST_FILES` that have a source among some endpoints.

        Raises:
            SettingsError: a kind is unknown.
        """
        return available_kinds(read_kinds(self.variables.read("ST_FILES")), endpoints)

    @cached_property
    def warehouse_uri(self) -> str:
        """The warehouse: `ST_WAREHOUSE_DIR` (by default `data`) / `<environment>.duckdb`, absolute.

        `ST_PRODUCTION_WAREHOUSE` and the like name another one.

        Raises:
            SettingsError: a path cannot be used, or two environments have the same file.
        """
        uri = self._warehouse_of(self.environment)
        for other in ENVIRONMENTS:
            if other != self.environment and self._is_warehouse_of(other, uri):
                raise SettingsError(
                    f"{self.environment} and {other} have the same warehouse file: give each its "
                    f"own by ST_{self.environment.upper()}_WAREHOUSE and "
                    f"ST_{other.upper()}_WAREHOUSE"
                )
        return uri

    def _warehouse_of(self, environment: EnvironmentName) -> str:
        setting = f"ST_{environment.upper()}_WAREHOUSE"
        if given := self.variables.read(setting):
            return self._resolve_uri(given, setting)
        return str(self.warehouse_folder / f"{environment}.duckdb")

    def _is_warehouse_of(self, environment: EnvironmentName, uri: str) -> bool:
        try:
            return canonical_uri(self._warehouse_of(environment)) == canonical_uri(uri)
        except SettingsError:  # which concerns that environment alone
            return False

    def _resolve_uri(self, uri: str, setting: str) -> str:
        """Returns a DuckDB file's absolute path; the URI of another backend unchanged."""
        scheme, colon, rest = uri.partition(":")
        if colon and scheme.lower() == "duckdb":
            uri = rest
        elif colon and is_scheme(scheme) and scheme.lower() != "file":
            return uri
        return str(self.variables.resolve_path(uri, setting, "file"))

    @cached_property
    def warehouse_folder(self) -> Path:
        """The folder of warehouses that no setting names: `ST_WAREHOUSE_DIR`, absolute.

        Raises:
            SettingsError: it is not a path that can be used.
        """
        text = self.variables.read("ST_WAREHOUSE_DIR", "data").removeprefix("duckdb:")
        return self.variables.resolve_path(text, "ST_WAREHOUSE_DIR", "folder")

    @cached_property
    def dagster_home(self) -> Path | None:
        """The folder in which Dagster records runs: `DAGSTER_HOME`; None if it is not set.

        Raises:
            SettingsError: it is not a path that can be used.
        """
        if not self.variables.read("DAGSTER_HOME"):
            return None
        return self.variables.read_path("DAGSTER_HOME")

    @property
    def dagster_reads_home_alike(self) -> bool:
        """Whether Dagster takes `DAGSTER_HOME` for the same folder.

        It knows `~`, and in `.env` also `${NAME}`.
        """
        text = self.variables.read("DAGSTER_HOME")
        if self.variables.origin("DAGSTER_HOME") != "environment variable":
            text = re.sub(
                r"\$\{(\w+)\}", lambda found: self.variables.value_in_path(found[1]), text
            )
        return os.path.expanduser(text).rstrip("/") in ("", str(self.dagster_home))

    @cached_property
    def publish_seconds(self) -> float | None:
        """Least time between two read copies: `ST_PUBLISH_SECONDS`; None (empty or 0) for none.

        Raises:
            SettingsError: it is not a number of seconds.
        """
        text = self.variables.read("ST_PUBLISH_SECONDS")
        try:
            seconds = float(text or 0)
        except ValueError:
            seconds = math.nan
        if not 0 <= seconds < math.inf:
            raise SettingsError(
                f"ST_PUBLISH_SECONDS: {text!r} is not a number of seconds: give one such as 300, "
                "or 0 to publish no read copy"
            )
        return seconds or None

    @cached_property
    def max_child_requests(self) -> int:
        """Requests for one child list in one load: `ST_MAX_CHILD_REQUESTS`, by default 10,000.

        Raises:
            SettingsError: it is not a number of requests.
        """
        text = self.variables.read("ST_MAX_CHILD_REQUESTS") or str(_MAX_CHILD_REQUESTS)
        if not re.fullmatch(r"[0-9]{1,9}", text):
            raise SettingsError(
                f"ST_MAX_CHILD_REQUESTS: {text!r} is not a number of requests: give one such as "
                f"{_MAX_CHILD_REQUESTS}, or 0 to read no child lists"
            )
        return int(text)

    @cached_property
    def file_mode(self) -> int | None:
        """Permissions of the warehouse and its read copy: `ST_FILE_MODE`, such as `0640`.

        None if it is not set: new files are their owner's, and existing ones stay as they are.

        Raises:
            SettingsError: it is not a mode that lets the owner read and write.
        """
        text = self.variables.read("ST_FILE_MODE")
        if not text:
            return None
        if not re.fullmatch(r"0?6[046]{2}", text.removeprefix("0o")):
            raise SettingsError(
                f"ST_FILE_MODE: {text!r} is not the mode of a file that its owner reads and writes:"
                " give 0600, or 0640 or 0660 to share the warehouse with a group"
            )
        return int(text.removeprefix("0o"), 8)

    @property
    def shown_file_mode(self) -> str:
        """`file_mode` in octal digits; empty if it is not set. Raises SettingsError."""
        return "" if self.file_mode is None else f"{self.file_mode:04o}"

    def open_store(
        self, uri: str | None = None, *, wait_seconds: float = DEFAULT_WAIT_SECONDS
    ) -> Store:
        """Returns the environment's warehouse; nothing is opened yet.

        Args:
            uri: of another warehouse than the configured one.

        Raises:
            SettingsError: a setting of the warehouse is invalid.
            WarehouseUnusable: no backend has the URI's scheme.
        """
        configured = self.warehouse_uri
        return open_store(
            self._resolve_uri(uri, "the resource's uri") if uri else configured,
            wait_seconds=wait_seconds,
            publish_seconds=self.publish_seconds,
            file_mode=self.file_mode,
        )

    @cached_property
    def alert_webhook_url(self) -> SecretStr | None:
        """Where alerts are sent: `ST_ALERT_WEBHOOK`; None if it is not set.

        Whoever knows the address can post there, so it is a secret, and no error quotes it.

        Raises:
            SettingsError: it is not an https URL, nor an http URL of this machine.
        """
        url = SecretStr(self.variables.read("ST_ALERT_WEBHOOK"))
        if not url:
            return None
        scheme, host = _scheme_and_host(url)
        if scheme not in ("http", "https") or not host:
            raise SettingsError("ST_ALERT_WEBHOOK is not a URL: give it as https://host/path")
        if scheme == "http" and not is_loopback(host):
            raise SettingsError(
                "ST_ALERT_WEBHOOK is not https, so its address and the messages would travel"
                " readable: give it as https://host/path; http is for this machine (127.0.0.1)"
            )
        return url

    @cached_property
    def full_previews(self) -> bool:
        """Whether Dagster's events may hold what customers have written: `ST_FULL_PREVIEWS`.

        Raises:
            SettingsError: it is neither true nor false.
        """
        text = self.variables.read("ST_FULL_PREVIEWS", "false")
        if text.lower() not in _BOOLEANS:
            raise SettingsError(
                f"ST_FULL_PREVIEWS is {text!r}: give true to show customers' data in Dagster, or"
                " false to show counts, keys, numbers and times alone"
            )
        return _BOOLEANS[text.lower()]

    @cached_property
    def ui_url(self) -> str:
        """What links in messages point to: `ST_UI_URL`, by default a local `dagster dev`."""
        return self.variables.read("ST_UI_URL", "http://127.0.0.1:3000").rstrip("/")


def _scheme_and_host(url: SecretStr) -> tuple[str, str]:
    try:
        parts = urlsplit(url.get_secret_value())
        _ = parts.port  # raises if it is none
        return parts.scheme, parts.hostname or ""
    except ValueError:
        return "", ""


def _select(setting: str, catalog: Catalog, patterns: str) -> list[Endpoint]:
    try:
        return registry.select(catalog, [patterns])
    except ValueError as error:
        raise SettingsError(f"{setting}: {error}") from None
