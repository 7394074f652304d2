"""Remembers in Dagster's instance which warehouse the green partitions refer to, and how far.

Dagster's partitions stay green when the warehouse is deleted, restored from a backup, or when a
setting points to another one. The instance therefore keeps, for each environment, its tenant, and
for each table the identity of the warehouse and the number of the last load (`_st.warehouse` and
`_st.loads` have the same). A run writes them after its load; runs, sensors, `load` and `check`
compare them with the warehouse.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import TYPE_CHECKING, TypeVar

import dagster as dg
import msgspec

from st_pipelines.config.connection import build_connection
from st_pipelines.config.errors import SettingsError
from st_pipelines.defs.dagster_internals import read_cursor_values, write_cursor_values
from st_pipelines.defs.environment import EnvironmentDefs
from st_pipelines.sync.explain import diagnose, shorten_list
from st_pipelines.warehouse.errors import WarehouseBusy, WarehouseError

if TYPE_CHECKING:
    from st_pipelines.catalog.model import Endpoint
    from st_pipelines.config.project import EnvironmentConfig
    from st_pipelines.sync.completeness import WarehouseState
    from st_pipelines.sync.context import LoadReport
    from st_pipelines.warehouse.store.base import Store

_Struct = TypeVar("_Struct", bound=msgspec.Struct)

WAIT_SECONDS = 5.0
"""For loads that hold the warehouse. Dagster ends a tick after 60 seconds."""


class EnvironmentRecord(msgspec.Struct, frozen=True):
    """The settings that the recorded loads had."""

    tenant_id: str
    timezone: str
    start_date: date


class TableRecord(msgspec.Struct, frozen=True):
    """The last load of a table that was recorded.

    Attributes:
        identity: of its warehouse.
        sequence: its number in `_st.loads`.
        lost: the warehouse lacked earlier days after it.
    """

    identity: str
    sequence: int
    lost: bool = False


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The warehouse beside what the instance remembers of it.

    Attributes:
        state: what the warehouse holds.
        stale: the tables whose last recorded load it lacks.
        difference: that in a sentence, with what to do; empty if nothing differs.
    """

    state: WarehouseState
    stale: list[str]
    difference: str


@dataclass(frozen=True, kw_only=True)
class Record:
    """What the instance remembers of an environment.

    Attributes:
        name: the beginning of its keys.
        environment: None before the first load.
        tables: by table, of those that were asked for and loaded.
    """

    name: str
    environment: EnvironmentRecord | None = None
    tables: Mapping[str, TableRecord] = field(default_factory=dict)

    def refuse_tenant(self, tenant_id: str) -> None:
        """Checks that the recorded loads are of this tenant. Raises SettingsError."""
        if self.environment:
            refuse_other_tenants([self.environment.tenant_id], tenant_id)

    def compare(self, state: WarehouseState, warehouse: str) -> Comparison:
        """Compares what was recorded with what the warehouse holds.

        Args:
            state: of the warehouse.
            warehouse: its name.
        """
        identity = state.identity.identity if state.identity else ""
        stale = sorted(
            table
            for table, record in self.tables.items()
            if record.identity != identity or record.sequence > state.sequences.get(table, 0)
        )
        difference = self._describe(stale, state, warehouse) if stale else ""
        return Comparison(state=state, stale=stale, difference=difference)

    def _describe(self, stale: list[str], state: WarehouseState, warehouse: str) -> str:
        count = f"{len(stale)} table{'s' if len(stale) > 1 else ''} ({shorten_list(stale, 3)})"
        if state.identity is None:
            what = "is missing or empty, but Dagster has loads of"
        elif {self.tables[table].identity for table in stale} != {state.identity.identity}:
            what = "is not the one that Dagster recorded for"
        else:
            what = "was restored from a backup: it lacks the last loads of"
        return (
            f"the warehouse {warehouse} {what} {count}. If a setting names the wrong file, correct"
            " it (ST_WAREHOUSE_DIR); otherwise gaps, or st-pipelines load, loads what is missing"
        )


def refuse_other_tenants(recorded: Iterable[str], tenant_id: str) -> None:
    """Checks that an instance has loads of one tenant alone, as its asset keys name none.

    Args:
        recorded: the tenants of its loads.
        tenant_id: of the settings.

    Raises:
        SettingsError: it has loads of another tenant.
    """
    if others := set(recorded) - {tenant_id}:
        raise SettingsError(
            f"DAGSTER_HOME has loads of tenant {min(others)}, but the settings say tenant"
            f" {tenant_id}: correct TENANT_ID, or give each tenant its own DAGSTER_HOME"
            " (docs/setup.md, several tenants)"
        )


def record_name(environment: str, key_prefix: Iterable[str] = ()) -> str:
    """Returns the beginning of the keys of an environment, which has keys of its own per prefix."""
    return "/".join(("st_pipelines", "warehouse", *key_prefix, environment))


def read_record(instance: dg.DagsterInstance, name: str, tables: Iterable[str] = ()) -> Record:
    """Reads what the instance remembers.

    Args:
        name: of `record_name`.
        tables: the tables to include.
    """
    key_by_table = {table: f"{name}/{table}" for table in tables}
    values = read_cursor_values(instance, [name, *key_by_table.values()])
    return Record(
        name=name,
        environment=_decode(values.get(name), EnvironmentRecord),
        tables={
            table: record
            for table, key in key_by_table.items()
            if (record := _decode(values.get(key), TableRecord))
        },
    )


def note_load(
    instance: dg.DagsterInstance,
    env: EnvironmentDefs,
    report: LoadReport,
    *,
    store: Store,
    tenant_id: str,
) -> LoadReport:
    """Records a load; returns its report with the days that the warehouse has lost.

    The warehouse is read only if it differs from what was recorded, or if it lacked days before.
    If it cannot be read, the next load looks again.

    Args:
        store: what was loaded into.
        tenant_id: whose load it was.
    """
    table, loaded = report.endpoint.table, report.loaded
    name = record_name(env.environment, env.key_prefix)
    record = read_record(instance, name, [table])
    lost: tuple[date, ...] | None = ()
    if report.endpoint.partitioned and not _is_expected(report, record.tables.get(table)):
        lost = _find_lost_days(instance, env, report.endpoint, store, tenant_id)
    settings = env.settings
    now = EnvironmentRecord(
        tenant_id=tenant_id, timezone=settings.timezone, start_date=settings.start_date
    )
    values = {
        f"{name}/{table}": _encode(
            TableRecord(identity=loaded.identity, sequence=loaded.number, lost=lost != ())
        )
    }
    if record.environment != now:
        values[name] = _encode(now)
    write_cursor_values(instance, values)
    return dataclasses.replace(report, lost_days=lost or ())


def _is_expected(report: LoadReport, before: TableRecord | None) -> bool:
    """Whether the load follows the recorded one in the same warehouse, which lacked nothing."""
    if before is None or before.lost or before.identity != report.loaded.identity:
        return False
    return report.loaded.first_number > before.sequence


def compare_warehouse(
    instance: dg.DagsterInstance,
    config: EnvironmentConfig,
    store: Store,
    *,
    name: str,
    endpoints: Iterable[Endpoint],
    tenant_id: str,
    now: datetime,
) -> Comparison:
    """Compares the warehouse with the record of some tables.

    Args:
        name: of `record_name`.
        tenant_id: whose loads count.
        now: aware.

    Raises:
        SettingsError: the record is of another tenant.
        WarehouseError: it cannot be read.
    """
    from st_pipelines.sync.completeness import read_warehouse_state

    endpoints = list(endpoints)
    record = read_record(instance, name, [endpoint.table for endpoint in endpoints])
    record.refuse_tenant(tenant_id)
    state = read_warehouse_state(
        store, endpoints, environment=config.environment, tenant_id=tenant_id, now=now
    )
    return record.compare(state, store.name)


def compare_in_tick(
    instance: dg.DagsterInstance, env: EnvironmentDefs, now: datetime
) -> Comparison | None:
    """Compares the warehouse of an environment for a sensor; None while loads hold it.

    Raises:
        dagster.Failure: it cannot be read, or the record is of another tenant.
    """
    try:
        with env.open_warehouse_resource() as resource:
            config = resource.config
            return compare_warehouse(
                instance,
                config,
                config.open_store(resource.uri, wait_seconds=WAIT_SECONDS),
                name=record_name(env.environment, env.key_prefix),
                endpoints=env.catalog,
                tenant_id=config.settings.tenant_id or build_connection(config).tenant_id,
                now=now,
            )
    except WarehouseBusy:
        return None
    except (SettingsError, WarehouseError) as error:
        raise dg.Failure(diagnose(error).line, allow_retries=False) from None


def _find_lost_days(
    instance: dg.DagsterInstance,
    env: EnvironmentDefs,
    endpoint: Endpoint,
    store: Store,
    tenant_id: str,
) -> tuple[date, ...] | None:
    """Returns the days that Dagster shows as loaded and the warehouse does not cover.

    None if the warehouse cannot be read now.
    """
    from st_pipelines.sync.completeness import read_warehouse_state, settled_days

    now = env.clock()
    days = settled_days(env.settings, now)
    if days is None:
        return ()
    loaded = instance.get_materialized_partitions(env.asset_keys[endpoint.table])
    if not loaded:
        return ()  # as with the first load of a table: there is nothing to lose
    owner = {"environment": env.environment, "tenant_id": tenant_id}
    try:
        state = read_warehouse_state(store, [endpoint], **owner, now=now)
    except WarehouseError:
        return None
    missing = state.find_missing_days(endpoint, days)
    return tuple(day for day in missing if day.isoformat() in loaded)


def _encode(value: EnvironmentRecord | TableRecord) -> str:
    return msgspec.json.encode(value).decode()


def _decode(text: str | None, type_: type[_Struct]) -> _Struct | None:
    try:
        return msgspec.json.decode(text, type=type_) if text else None
    except msgspec.DecodeError:  # of another version
        return None
