"""Steps on this machine alone: settings, warehouse, time zone, definitions."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from urllib.parse import urlsplit

import duckdb

from st_pipelines.cli.doctor.plausibility import NAMES, doubts
from st_pipelines.cli.doctor.subject import Subject
from st_pipelines.cli.output import counted
from st_pipelines.config.environments import ENVIRONMENTS, EnvironmentName
from st_pipelines.config.errors import SettingsError
from st_pipelines.config.settings import (
    EnvironmentSettings,
    complete,
    load_settings,
    setting_and_source,
)
from st_pipelines.config.sources.base import CLIENT_SECRETS
from st_pipelines.servicetitan.http.auth import try_client_secrets
from st_pipelines.sync.explain import Finding, diagnosed, failed
from st_pipelines.warehouse.errors import WarehouseBusy
from st_pipelines.warehouse.store.base import Store
from st_pipelines.warehouse.tables.load_log import (
    read_loaded_tables,
    refuse_other_environments,
)

ROOM = 2_000_000_000
"""Bytes that should be free, besides as many as the warehouse has."""
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


def look_at_settings(subject: Subject) -> Iterator[Finding]:
    """Complete and plausible, without asking anybody."""
    connection = subject.connection
    found = [*_implausible(subject), *_of_another(subject)]
    yield from found
    _ = subject.config.history_tables, subject.config.alert_webhook_url  # raise if invalid
    if not any(finding.status == "failed" for finding in found):
        text = (
            f"complete, for tenant {connection.tenant_id} at {urlsplit(connection.api_url).netloc}"
        )
        yield Finding(step="settings", status="ok", text=text)


def look_at_secrets(subject: Subject) -> Iterator[Finding]:
    """Where they are kept, how old they are, and whether one is being exchanged."""
    completed = complete(subject.environment, subject.settings)
    ages = read_secret_ages(subject.environment, completed)
    told = [*completed.gathered.warnings, *subject.client.notices]
    told += _second_secret(subject)
    told += [age.warning for age in ages if age.warning]
    for text in told:
        yield Finding(step="secrets", status="warning", code="secrets", text=text.rstrip("."))
    if not told:
        old = ", ".join(f"{age.name} is {age.days} days old" for age in ages)
        yield Finding(step="secrets", status="ok", text=old or "nothing to mend")


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
            warning = f"{name} is {days} days old: exchange it (docs/secrets.md)"
        yield SecretAge(name=name, created=created, days=days, warning=warning)


def _second_secret(subject: Subject) -> list[str]:
    """Whether the rotation may go on; where the first is refused, the token's notice says it."""
    if subject.connection.client_secret_next is None or subject.client.notices:
        return []
    first, following = try_client_secrets(subject.connection, http=subject.session)
    if not following.accepted:
        return [
            f"ServiceTitan accepts {first.name} and refuses {following.name} "
            f"({following.error_body}): keep the first in the developer portal, and generate the "
            "second anew or remove it"
        ]
    return [
        f"ServiceTitan accepts both {first.name} and {following.name}: delete the old secret in "
        "the developer portal, then move the value of the latter to the former"
    ]


def _implausible(subject: Subject) -> Iterator[Finding]:
    connection = subject.connection
    values = {
        "client_id": connection.client_id,
        "client_secret": connection.client_secret.get_secret_value(),
        "app_key": connection.app_key.get_secret_value(),
        "tenant_id": connection.tenant_id,
    }
    for doubt in doubts(values):
        yield Finding(
            step="settings", status="failed" if doubt.sure else "warning", code=doubt.code,
            text=f"{subject.setting(doubt.field)} {doubt.text}", hint=doubt.hint,
        )  # fmt: skip


def _of_another(subject: Subject) -> Iterator[Finding]:
    """Credentials that another environment has, too."""
    for other in ENVIRONMENTS:
        if other != subject.environment and (same := _shared(subject, other)):
            yield Finding(
                step="settings", status="warning", code="same-credentials",
                text=f"{other} has the same {' and '.join(same)}",
                hint="Each environment and tenant has its own; only the app key is the same.",
            )  # fmt: skip


def _shared(subject: Subject, other: EnvironmentName) -> list[str]:
    try:
        its_own = load_settings(other)
    except SettingsError:
        return []
    ours = subject.settings
    pair = ("client_id", "client_secret")
    return [NAMES[f] for f in pair if getattr(ours, f) and getattr(ours, f) == getattr(its_own, f)]


def look_at_warehouse(subject: Subject, room: int = ROOM) -> Iterator[Finding]:
    """Can be written, nobody holds it, and there is room on the disk."""
    warehouse = subject.config.open_store(wait_seconds=0)
    warehouse.check()
    size = warehouse.size_bytes
    state = "does not exist yet, a load makes it"
    if warehouse.exists:
        state = f"{size / 1e9:,.1f} GB, can be written"
        if (busy := _busy(warehouse)) is not None:
            yield busy
            return
    free = shutil.disk_usage(warehouse.scratch_folder).free
    if free < size + room:
        yield Finding(
            step="warehouse", status="warning", code="disk-space",
            text=f"{warehouse.name}: {free / 1e9:,.1f} GB are free on its disk",
            hint="A load needs room for what it stages, a read copy as much as the warehouse has: "
            "make room, or set ST_WAREHOUSE_DIR to another disk.",
        )  # fmt: skip
    else:
        text = f"{warehouse.name}: {state}; {free / 1e9:,.0f} GB are free"
        yield Finding(step="warehouse", status="ok", text=text)


def look_at_history(subject: Subject) -> Iterator[Finding]:
    """Whether the tables were loaded from their beginning, or hold a few days only."""
    warehouse = subject.config.open_store(wait_seconds=0)
    wanted = [e.table for e in subject.endpoints if e.partitioned and not e.by_day]
    command = f"st-pipelines load --environment {subject.environment}"
    loaded: dict[str, bool] = {}
    if warehouse.exists:
        try:
            with warehouse.read_only() as connection:
                refuse_other_environments(connection, subject.environment, schema="_st")
                loaded = read_loaded_tables(connection, subject.connection.tenant_id)
        except WarehouseBusy:
            yield Finding(step="history", status="ok", text="not looked at, as a load is on")
            return
    missing = [table for table in wanted if not loaded.get(table)]
    if not missing:
        text = f"{counted(len(wanted), 'table')} loaded from the beginning"
        yield Finding(step="history", status="ok", text=text)
    elif not loaded:
        text = f"nothing is loaded yet: {command}"
        yield Finding(step="history", status="ok", text=text)
    else:
        named = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        yield Finding(
            step="history", status="warning", code="history",
            text=f"{len(missing)} of {counted(len(wanted), 'table')} not loaded from the beginning "
            f"({named})",
            hint=f"They hold the days that were loaded, joins come back short: {command}.",
        )  # fmt: skip


def _busy(warehouse: Store) -> Finding | None:
    """Who holds the file. A load of ours is no trouble: others queue behind it."""
    try:
        with duckdb.connect() as own, warehouse.attach(own, "st-pipelines check"):
            return None
    except WarehouseBusy as error:
        if not error.queued:
            return failed("warehouse", error)
        told = diagnosed(error)
        return Finding(step="warehouse", status="warning", code="warehouse-in-use", text=told.text)


def look_at_time_zone(subject: Subject) -> Iterator[Finding]:
    """Set on purpose: it decides to which day a record belongs."""
    zone = subject.settings.timezone
    if zone == "UTC":
        yield Finding(
            step="time zone", status="warning", code="time-zone",
            text=f"{subject.setting('timezone')} is not set or is UTC, so that days begin at "
            "midnight in Greenwich",
            hint="Set your company's, such as America/New_York, before the first load: it decides "
            "to which day a record belongs.",
        )  # fmt: skip
    else:
        yield Finding(step="time zone", status="ok", text=zone)


def load_definitions(subject: Subject) -> Iterator[Finding]:
    """Dagster takes the definitions, as `dagster dev` will."""
    from st_pipelines.definitions import build_definitions

    try:
        definitions = build_definitions(subject.environment)
        assets = definitions.resolve_asset_graph().get_all_asset_keys()
    except Exception as error:  # whatever it is, it would stop `dagster dev`
        told = diagnosed(error)
        yield Finding(
            step="definitions", status="failed", code="definitions",
            text=f"Dagster cannot load them: {told.text}", hint=told.hint,
        )  # fmt: skip
        return
    text = f"Dagster loads {len(assets)} assets: {subject.environment} is ready for dagster dev"
    yield Finding(step="definitions", status="ok", text=text)
