"""Reports what a check found and the settings it used, for people and as JSON."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from st_pipelines.cli.console import counted
from st_pipelines.config.environments import HOSTS, EnvironmentName
from st_pipelines.config.errors import SettingsError
from st_pipelines.config.project import EnvironmentConfig, resolve_environment
from st_pipelines.config.settings import (
    EnvironmentSettings,
    complete,
    load_settings,
    setting_and_source,
)
from st_pipelines.config.sources.places import Places
from st_pipelines.sync.explain import Finding, Status
from st_pipelines.warehouse.errors import WarehouseError
from st_pipelines.warehouse.store.scratch import staging_root

_SIGNS: dict[Status, str] = {"ok": "✅", "warning": "⚠ ", "failed": "❌", "skipped": "➖"}
_PLAIN_SIGNS: dict[Status, str] = {
    "ok": "[ok]",
    "warning": "[warning]",
    "failed": "[failed]",
    "skipped": "[skipped]",
}
_DERIVED = ("api_url", "auth_url")
_FIELDS = {
    "ST_CATALOG": "additions_file",
    "ST_ENDPOINTS": "endpoints_file",
    "ST_CAPACITY_DAYS_BACK": "capacity_days_back",
    "ST_CAPACITY_DAYS_AHEAD": "capacity_days_ahead",
    "ST_HISTORY": "history_tables",
    "ST_FILE_MODE": "shown_file_mode",
    "ST_MAX_CHILD_REQUESTS": "max_child_requests",
    "ST_FILES": "shown_file_kinds",
    "ST_FILES_URL": "files.url",
    "ST_FILES_PER_RUN": "files.per_run",
    "ST_FILES_CONCURRENCY": "files.concurrency",
    "ST_FILES_MAX_MB": "files.max_mb",
    "ST_PUBLISH_SECONDS": "publish_seconds",
    "ST_REPORTS": "reports_file",
    "ST_FULL_PREVIEWS": "full_previews",
    "ST_ALERT_WEBHOOK": "alert_webhook_url",
    "ST_UI_URL": "ui_url",
}
"""Settings of the project, and the properties of `EnvironmentConfig` that read them."""


@dataclass(frozen=True, kw_only=True)
class ReportedSetting:
    """One setting, safe to print.

    Attributes:
        name: such as `SERVICETITAN_CLIENT_ID`.
        value: masked if it is a secret; empty if it is not set.
        source: such as "environment variable", ".env" or "default"; "not set" if it has neither
            a value nor a default.
    """

    name: str
    value: str
    source: str


@dataclass(frozen=True, kw_only=True)
class SettingsReport:
    """The settings of one environment.

    Attributes:
        settings: first the environment's; those that name a further source, such as
            `SERVICETITAN_VAULT_URL`, only if they are set. Then the project's.
        warnings: what to correct, without values.
        problem: why a secrets manager could not be read; its settings are then missing.
    """

    settings: tuple[ReportedSetting, ...]
    warnings: tuple[str, ...] = ()
    problem: str = ""


def read_settings(
    environment: EnvironmentName, *, ask_managers: bool = True, **overrides: Any
) -> SettingsReport:
    """Reads the settings with the source of each; secrets are masked.

    Args:
        ask_managers: also read the configured secrets managers, over the network.
        **overrides: as for `load_settings`.

    Raises:
        SettingsError: a setting on this machine is wrong. What a manager says is in `problem`.
    """
    settings, problem = load_settings(environment, **overrides), ""
    if ask_managers:
        try:
            settings = complete(environment, settings)
        except SettingsError as error:
            problem = str(error)
    origins = settings.places.gathered.origins
    rows = (
        *(_report(environment, settings, name) for name in EnvironmentSettings.model_fields),
        *(
            _report(environment, settings.places, name)
            for name in type(settings.places).model_fields
            if name in origins
        ),
        *report_project(resolve_environment(environment)),
    )
    return SettingsReport(settings=rows, warnings=settings.gathered.warnings, problem=problem)


def report_project(config: EnvironmentConfig) -> Iterator[ReportedSetting]:
    """Yields the project's settings and the places that follow from them, paths in full."""
    name = f"ST_{config.environment.upper()}_WAREHOUSE"
    values: dict[str, Callable[[], Any]] = {
        "DAGSTER_HOME": lambda: config.dagster_home,
        "ST_WAREHOUSE_DIR": lambda: config.warehouse_folder,
        name: lambda: config.warehouse_uri,
        **{
            setting: lambda field=field: attrgetter(field)(config)
            for setting, field in _FIELDS.items()
        },
    }
    for setting, read in values.items():
        value, origin = _show(read), config.variables.origin(setting)
        source = "not set" if origin == "default" and not value else origin
        yield ReportedSetting(name=setting, value=value, source=source)
    file = config.variables.dotenv_file
    derived: dict[str, Callable[[], Any]] = {
        ".env": lambda: file if file.exists() else f"{file} (does not exist)",
        "read copy": lambda: config.open_store().read_location,
        "staging folder": lambda: staging_root(config.open_store().scratch_folder),
    }
    for what, read in derived.items():
        source = "the working directory" if what == ".env" else "beside the warehouse"
        yield ReportedSetting(name=what, value=_show(read), source=source)


def _show(read: Callable[[], Any]) -> str:
    """Returns a value for people; why there is none, if its setting is wrong."""
    try:
        value = read()
    except (SettingsError, WarehouseError, ValueError) as error:
        return f"(invalid: {error})"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, frozenset):
        return ", ".join(sorted(value))
    return "" if value is None else str(value)


def _report(
    environment: EnvironmentName, settings: EnvironmentSettings | Places, field: str
) -> ReportedSetting:
    name = setting_and_source(environment, EnvironmentSettings(), field)
    value = getattr(settings, field) or _default(environment, field)
    source = settings.gathered.origins.get(field, "default" if value else "not set")
    return ReportedSetting(name=name, value="" if value is None else str(value), source=source)


def _default(environment: EnvironmentName, field: str) -> str | None:
    if field not in _DERIVED:
        return None
    api_url, auth_url = HOSTS[environment]
    return api_url if field == "api_url" else auth_url


def setting_lines(report: SettingsReport) -> Iterator[str]:
    """Yields a line per setting: its name, its value, masked if it is a secret, and its source."""
    for setting in report.settings:
        if not setting.value and setting.source in ("default", "not set"):
            yield f"{setting.name} is not set"
        else:
            yield f"{setting.name} = {setting.value} ({setting.source})"


def as_line(finding: Finding) -> str:
    """Sign, step, what was found, and what to do."""
    hint = f". {finding.hint}" if finding.hint else ""
    text = finding.text.removeprefix(f"{finding.step} ")
    return f"{sign_of(finding.status)} {finding.step}: {text}{hint}"


def sign_of(status: Status) -> str:
    """A sign that the console's encoding has; Windows' cp1252 and ASCII have no emoji."""
    try:
        _SIGNS[status].encode(getattr(sys.stdout, "encoding", None) or "ascii")
    except UnicodeEncodeError:
        return _PLAIN_SIGNS[status]
    return _SIGNS[status]


def as_json(
    environment: str, findings: Sequence[Finding], settings: SettingsReport | None = None
) -> str:
    """An object with the environment, whether the check passed, the findings and the settings."""
    content: dict[str, object] = {
        "environment": environment,
        "well": passed(findings),
        "findings": [dataclasses.asdict(finding) for finding in findings],
    }
    if settings:
        content["settings"] = [dataclasses.asdict(setting) for setting in settings.settings]
    return json.dumps(content, indent=1, ensure_ascii=False)


def passed(findings: Sequence[Finding]) -> bool:
    """Whether no step failed or was skipped."""
    return not any(finding.status in ("failed", "skipped") for finding in findings)


def summary(environment: str, findings: Sequence[Finding]) -> str:
    """The last line of the check."""
    failures = sum(finding.status == "failed" for finding in findings)
    if failures:
        return f"{environment}: {failures} to fix; docs/setup.md explains each"
    if not passed(findings):
        return f"{environment}: not all steps could run"
    warnings = sum(finding.status == "warning" for finding in findings)
    suffix = f", with {counted(warnings, 'warning')}" if warnings else ""
    return f"{environment}: all is well{suffix}"
