"""Steps that compare what is loaded with the settings and with what Dagster has recorded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date, datetime, timedelta, timezone

from st_pipelines.catalog.model import Endpoint
from st_pipelines.cli.console import counted
from st_pipelines.cli.doctor.subject import SKEW_ERROR, Subject
from st_pipelines.config.errors import SettingsError
from st_pipelines.config.settings import EnvironmentSettings
from st_pipelines.sync.completeness import WarehouseState, read_warehouse_state, settled_days
from st_pipelines.sync.explain import MAX_CLOCK_OFFSET, Finding, shorten_list
from st_pipelines.warehouse.errors import WarehouseBusy, WarehouseError
from st_pipelines.warehouse.tables.identity import refuse_timezone
from st_pipelines.warehouse.tables.load_log import read_future_loads
from st_pipelines.windows import describe_days


def check_history(subject: Subject) -> Iterator[Finding]:
    """Checks that the tables hold every day from the start date to yesterday, and all before.

    Also that the warehouse is the one that Dagster's green partitions refer to.
    """
    now = _now(subject)
    try:
        state = _read_state(subject, now)
        recorded = [*_check_recorded_loads(subject, state), *_check_future_loads(subject)]
    except WarehouseBusy:
        yield Finding(step="history", status="ok", text="not checked, because a load is running")
        return
    yield from recorded
    yield from _check_selection(subject, state)
    tables = [e for e in subject.endpoints if e.partitioned and not e.report]
    missing = _find_missing_days(subject.settings, state, tables, now)
    command = f"st-pipelines load --environment {subject.environment}"
    if not missing:
        text = f"{counted(len(tables), 'table')} loaded from the beginning"
        yield Finding(step="history", status="ok", text=text)
    elif not state.loaded:
        text = f"nothing is loaded yet: {command}"
        yield Finding(step="history", status="ok", text=text)
    else:
        named = shorten_list([f"{table}: {describe_days(d)}" for table, d in missing.items()])
        yield Finding(
            step="history",
            status="warning",
            code="history",
            text=f"days are missing in {len(missing)} of {counted(len(tables), 'table')} ({named})",
            hint=f"Joins return too few rows: run {command}.",
            items=tuple(missing),
        )


def _check_selection(subject: Subject, state: WarehouseState) -> Iterator[Finding]:
    """Names tables that the warehouse keeps and that nothing loads any more, and a moved start."""
    selected = subject.config.apply_selection().endpoints
    if dropped := sorted(state.loaded.keys() - selected.keys()):
        named = shorten_list(dropped)
        yield Finding(
            step="history",
            status="warning",
            code="not-selected",
            text=f"{counted(len(dropped), 'table')} in the warehouse no longer refreshed ({named})",
            hint=f"{subject.setting('select')} or the catalog leaves them out: select them again, "
            "or drop the tables.",
            items=tuple(dropped),
        )
    earlier = state.identity.former_start_dates if state.identity else ()
    if earlier and min(earlier) < subject.settings.start_date:
        text = f"the start date was {min(earlier)}: rows of the days since stay in the tables"
        yield Finding(step="history", status="ok", text=text)


def _find_missing_days(
    settings: EnvironmentSettings,
    state: WarehouseState,
    endpoints: Iterable[Endpoint],
    now: datetime,
) -> dict[str, list[date]]:
    """Returns by table the days up to yesterday that the warehouse lacks."""
    days = settled_days(settings, now)
    if days is None:
        return {}
    missing = {endpoint.table: state.find_missing_days(endpoint, days) for endpoint in endpoints}
    return {table: days for table, days in missing.items() if days}


def check_time_zone(subject: Subject) -> Iterator[Finding]:
    """Checks that the time zone was set, because it decides which day a record belongs to.

    Raises:
        TimeZoneRefused: loads would be refused.
    """
    zone, settings = subject.settings.timezone, subject.settings
    try:
        stored = _read_state(subject, _now(subject)).identity
    except (SettingsError, WarehouseError):
        stored = None  # other steps say why; a load that is running has checked the zone
    refuse_timezone(stored, subject.environment, zone, is_default=settings.timezone_is_default)
    if stored and stored.timezone != zone:
        text = f"{zone}; the next load moves all rows from their days in {stored.timezone}"
        yield Finding(step="time zone", status="ok", text=text)
        return
    if zone == "UTC":
        yield Finding(
            step="time zone",
            status="warning",
            code="time-zone",
            text=f"{subject.setting('timezone')} is not set or is UTC, so days begin at midnight "
            "UTC",
            hint="Set your company's time zone, such as America/New_York, before the first load: "
            "it decides which day a record belongs to.",
        )
    else:
        yield Finding(step="time zone", status="ok", text=zone)


def _check_recorded_loads(subject: Subject, state: WarehouseState) -> Iterator[Finding]:
    """Compares the warehouse with the loads that Dagster has recorded, if there is a DAGSTER_HOME.

    Raises:
        SettingsError: Dagster has recorded loads of another tenant.
    """
    import dagster as dg

    from st_pipelines.defs.warehouse_record import read_record, record_name

    home = subject.config.dagster_home
    if home is None or not home.is_dir():
        return  # `load` says how to set it
    tables = [endpoint.table for endpoint in subject.endpoints]
    with dg.DagsterInstance.from_config(str(home)) as instance:
        record = read_record(instance, record_name(subject.environment), tables)
    record.refuse_tenant(subject.connection.tenant_id)
    compared = record.compare(state, subject.config.open_store().name)
    if compared.difference:
        yield Finding(
            step="history",
            status="failed",
            code="other-warehouse",
            text=compared.difference,
            items=tuple(compared.stale),
        )


def _check_future_loads(subject: Subject) -> Iterator[Finding]:
    """Names tables with loads from the future by ServiceTitan's clock, if that is known."""
    theirs = datetime.now(timezone.utc) + (subject.skew or timedelta())
    store = subject.config.open_store(wait_seconds=0)
    if not store.exists:
        return
    with store.read_only() as connection:
        future = read_future_loads(
            connection,
            environment=subject.environment,
            tenant_id=subject.connection.tenant_id,
            now=theirs + MAX_CLOCK_OFFSET,
        )
    forecasts = {e.table for e in subject.config.catalog if e.forecast}
    future = {table: latest for table, latest in future.items() if table not in forecasts}
    if future:
        examples = [
            f"{table}: {latest.astimezone(timezone.utc):%Y-%m-%d %H:%M} UTC"
            for table, latest in future.items()
        ]
        yield Finding(
            step="history",
            status="warning",
            code="future-loads",
            text=f"loads from the future in {counted(len(future), 'table')} "
            f"({shorten_list(examples)})",
            hint="The clock of the machine that loaded them was ahead: synchronize it with NTP. "
            "They count for no day until then, so load the days named as missing again.",
            items=tuple(future),
        )


def _now(subject: Subject) -> datetime:
    """Returns the time, never later than ServiceTitan's clock may show."""
    now = datetime.now(timezone.utc)
    # Without the half second, a load of a moment ago could seem to be from the future.
    return min(now, now + (subject.skew or timedelta()) + SKEW_ERROR)


def _read_state(subject: Subject, now: datetime) -> WarehouseState:
    return read_warehouse_state(
        subject.config.open_store(wait_seconds=0),
        subject.endpoints,
        environment=subject.environment,
        tenant_id=subject.connection.tenant_id,
        now=now,
    )
