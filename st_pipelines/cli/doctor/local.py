"""Steps that check this machine: settings, secrets, warehouse, open files, definitions.

Only `check_secrets` may use the network.
"""

from __future__ import annotations

import contextlib
import shlex
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from urllib.parse import urlsplit

import duckdb

from st_pipelines.cli.console import counted
from st_pipelines.cli.doctor.plausibility import NAMES, doubts
from st_pipelines.cli.doctor.subject import Subject
from st_pipelines.config.environments import ENVIRONMENTS, EnvironmentName
from st_pipelines.config.errors import SettingsError
from st_pipelines.config.project import EnvironmentConfig
from st_pipelines.config.settings import (
    EnvironmentSettings,
    complete,
    load_settings,
    setting_and_source,
)
from st_pipelines.config.sources.base import CLIENT_SECRETS
from st_pipelines.config.sources.local import OPEN_TO_OTHERS
from st_pipelines.servicetitan.http.auth import try_client_secrets
from st_pipelines.sync.explain import Finding, diagnose, failed
from st_pipelines.warehouse.errors import WarehouseBusy, WarehouseError
from st_pipelines.warehouse.store.base import Store
from st_pipelines.warehouse.store.location import find_exposed

MIN_FREE_BYTES = 2_000_000_000
"""Free disk space to have on top of the size of the warehouse."""
MAX_SECRET_AGE_DAYS = 90


@dataclass(frozen=True, kw_only=True)
class SecretAge:
    """The age of a client secret.

    Attributes:
        name: of the setting and its source.
        created: when this version was created, aware.
        days: whole days since then.
        warning: what to do; empty up to `MAX_SECRET_AGE_DAYS`.
    """

    name: str
    created: datetime
    days: int
    warning: str = ""


def check_settings(subject: Subject) -> Iterator[Finding]:
    """Checks that settings are complete and plausible, without the network."""
    connection = subject.connection
    findings = [*_check_plausibility(subject), *_check_other_environments(subject)]
    yield from findings
    config = subject.config
    # These raise if they are invalid.
    _ = config.history_tables, config.alert_webhook_url, config.full_previews
    _ = config.file_kinds and config.files
    if not any(finding.status == "failed" for finding in findings):
        host = urlsplit(connection.api_url).netloc
        text = f"complete, for tenant {connection.tenant_id} at {host}"
        yield Finding(step="settings", status="ok", text=text)


def check_secrets(subject: Subject) -> Iterator[Finding]:
    """Checks where secrets are kept, how old they are, and whether one is being rotated."""
    completed = complete(subject.environment, subject.settings)
    ages = read_secret_ages(subject.environment, completed)
    warnings = [w for w in completed.gathered.warnings if OPEN_TO_OTHERS not in w]
    warnings += subject.client.notices
    warnings += _check_second_secret(subject)
    warnings += [age.warning for age in ages if age.warning]
    for text in warnings:
        yield Finding(step="secrets", status="warning", code="secrets", text=text.rstrip("."))
    if not warnings:
        text = ", ".join(f"{age.name} is {age.days} days old" for age in ages)
        yield Finding(step="secrets", status="ok", text=text or "nothing to fix")


def read_secret_ages(
    environment: EnvironmentName, settings: EnvironmentSettings, *, now: datetime | None = None
) -> tuple[SecretAge, ...]:
    """Returns the age of each client secret whose manager records it.

    Args:
        settings: from `settings.complete`, so that the managers were read.
        now: aware; the real time if None.
    """
    return tuple(_secret_ages(environment, settings, now or datetime.now(timezone.utc)))


def _secret_ages(
    environment: EnvironmentName, settings: EnvironmentSettings, now: datetime
) -> Iterator[SecretAge]:
    for field in CLIENT_SECRETS:  # the app key is not rotated
        created = settings.gathered.created.get(field)
        if created is None:
            continue
        name = setting_and_source(environment, settings, field)
        days = (now - created).days
        warning = ""
        if days > MAX_SECRET_AGE_DAYS:
            warning = f"{name} is {days} days old: rotate it (docs/secrets.md)"
        yield SecretAge(name=name, created=created, days=days, warning=warning)


def _check_second_secret(subject: Subject) -> list[str]:
    """Tries both secrets of a rotation. If the first is refused, the client's notice says so."""
    if subject.connection.client_secret_next is None or subject.client.notices:
        return []
    first, second = try_client_secrets(subject.connection, http=subject.session)
    if not second.accepted:
        return [
            f"ServiceTitan accepts {first.name} but refuses {second.name} ({second.error_body}): "
            "keep the first secret in the developer portal, and replace or remove the second"
        ]
    return [
        f"ServiceTitan accepts both {first.name} and {second.name}: delete the old secret in "
        "the developer portal, then move the value of the latter to the former"
    ]


def _check_plausibility(subject: Subject) -> Iterator[Finding]:
    connection = subject.connection
    values = {
        "client_id": connection.client_id,
        "client_secret": connection.client_secret.get_secret_value(),
        "app_key": connection.app_key.get_secret_value(),
        "tenant_id": connection.tenant_id,
    }
    for doubt in doubts(values):
        yield Finding(
            step="settings",
            status="failed" if doubt.sure else "warning",
            code=doubt.code,
            text=f"{subject.setting(doubt.field)} {doubt.text}",
            hint=doubt.hint,
        )


def _check_other_environments(subject: Subject) -> Iterator[Finding]:
    """Finds credentials that another environment has too."""
    for other in ENVIRONMENTS:
        if other != subject.environment and (same := _shared_credentials(subject, other)):
            yield Finding(
                step="settings",
                status="warning",
                code="same-credentials",
                text=f"{other} has the same {' and '.join(same)}",
                hint="Each environment and tenant has its own; only the app key is the same.",
            )


def _shared_credentials(subject: Subject, other: EnvironmentName) -> list[str]:
    try:
        other_settings = load_settings(other)
    except SettingsError:
        return []
    return [
        NAMES[field]
        for field in ("client_id", "client_secret")
        if (value := getattr(subject.settings, field)) and value == getattr(other_settings, field)
    ]


def check_warehouse(subject: Subject, min_free_bytes: int = MIN_FREE_BYTES) -> Iterator[Finding]:
    """Checks that the warehouse is writable, that nobody holds it, and that the disk has space."""
    warehouse = subject.config.open_store(wait_seconds=0)
    warehouse.check()
    size = warehouse.size_bytes
    state = "does not exist yet, the first load creates it"
    if warehouse.exists:
        state = f"{_describe_size(size)}, writable"
        if (busy := _find_holder(warehouse)) is not None:
            yield busy
            return
    free = shutil.disk_usage(warehouse.scratch_folder).free
    if free < size + min_free_bytes:
        yield Finding(
            step="warehouse",
            status="warning",
            code="disk-space",
            text=f"{warehouse.name}: {free / 1e9:,.1f} GB are free on its disk",
            hint="A load needs space for staged records, and a read copy as much as the warehouse: "
            "free some space, or set ST_WAREHOUSE_DIR to a folder on another disk.",
        )
    else:
        text = f"{warehouse.name}: {state}; {free / 1e9:,.0f} GB are free"
        yield Finding(step="warehouse", status="ok", text=text)


def _describe_size(size: int) -> str:
    """Returns bytes with a unit in which they are at least 1: `12.3 kB`, `4.5 GB`."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if size >= factor:
            return f"{size / factor:,.1f} {unit}"
    return f"{size / 1e3:,.1f} kB"


def _find_holder(warehouse: Store) -> Finding | None:
    """Finds who holds the file. A load only warrants a warning, because others queue behind it."""
    try:
        with duckdb.connect() as own, warehouse.attach(own, "st-pipelines check"):
            return None
    except WarehouseBusy as error:
        if not error.queued:
            return failed("warehouse", error)
        text = diagnose(error).text
        return Finding(step="warehouse", status="warning", code="warehouse-in-use", text=text)


def check_files(subject: Subject) -> Iterator[Finding]:
    """Checks that customers' data and secrets on this machine are their owner's alone.

    What a setting keeps from being found is left to the step that reports the setting.
    """
    findings: list[Finding] = []
    for find in (_find_secrets, _find_warehouse_files, _find_home):
        with contextlib.suppress(SettingsError, WarehouseError):
            findings += find(subject.config)
    yield from findings
    if not findings:
        yield Finding(step="files", status="ok", text="nobody else can open them")


def _find_secrets(config: EnvironmentConfig) -> Iterator[Finding]:
    for warning in config.settings.gathered.warnings:
        if OPEN_TO_OTHERS in warning:
            yield _open_to_others(warning)


def _find_warehouse_files(config: EnvironmentConfig) -> Iterator[Finding]:
    for path, mode in config.open_store().exposed_files():
        yield _open_to_others(_describe(path, mode))


def _find_home(config: EnvironmentConfig) -> Iterator[Finding]:
    """Finds what is wrong with the folder that holds Dagster's events and our locks."""
    home = config.dagster_home
    if home is None:
        return
    for path, mode in find_exposed({home: 0o700}):
        yield _open_to_others(f"DAGSTER_HOME: {_describe(path, mode)}")
    if not config.dagster_reads_home_alike:
        yield Finding(
            step="files",
            status="warning",
            code="dagster-home",
            text=f"DAGSTER_HOME means {home}, but dagster dev does not understand its spelling",
            hint=f"Write it as {home}.",
        )


def _open_to_others(text: str) -> Finding:
    return Finding(step="files", status="warning", code="files-open", text=text)


def _describe(path: Path, mode: int) -> str:
    given = stat.S_IMODE(path.stat().st_mode)
    return f"{path} is open to others (mode {given:04o}): chmod {mode:03o} {shlex.quote(str(path))}"


def check_definitions(subject: Subject) -> Iterator[Finding]:
    """Loads the definitions as `dagster dev` will."""
    from st_pipelines.definitions import build_definitions

    try:
        definitions = build_definitions(subject.environment)
        assets = definitions.resolve_asset_graph().get_all_asset_keys()
    except Exception as error:  # any error would stop `dagster dev`
        diagnosis = diagnose(error)
        yield Finding(
            step="definitions",
            status="failed",
            code="definitions",
            text=f"Dagster cannot load them: {diagnosis.text}",
            hint=diagnosis.hint,
        )
        return
    text, selected = f"Dagster loads {counted(len(assets), 'asset')}", len(subject.endpoints)
    if selected < len(subject.config.apply_selection()):
        text += f"; this check is about {selected} of them"
    yield Finding(step="definitions", status="ok", text=text)
